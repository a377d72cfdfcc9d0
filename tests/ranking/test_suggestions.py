import random
from datetime import datetime

import pytest

from reelseek.indexing import IndexReader
from reelseek.ranking.operators import DATE, LENGTH, ORDER, WITHOUT, operators
from reelseek.ranking.prefix_index import PrefixIndex, folded, word_starts
from reelseek.ranking.suggestions import MAX_LETTERS, Suggester
from reelseek.text.query.analyzer import QueryAnalyzer
from tests.indexing.small_index import make_index, shows_metadata

NOW = datetime(2026, 11, 27, 12)


@pytest.fixture(scope="module")
def analyzer():
    return QueryAnalyzer(now=lambda: NOW, spelling=False, entities=False)


@pytest.fixture
def suggester():
    return Suggester(
        titles={
            "A dog catches a frisbee": 1,
            "Dogs at the sea": 2,
            "海滩上的猫": 1,
            "Été à Nice": 1,
        },
        tags={"beach": 12, "bear": 3, "new york": 2, "2024": 1, 'a "b"': 1, "du-lich": 1},
        names={"Anna Lee": ("author", 3), "Beatrice": ("person", 1)},
        years=[2024],
        queries={"dog on a beach": 5, "a dog and a cat": 9},
    )


def texts(suggestions, kind=None):
    return [each.text for each in suggestions if kind in (None, each.kind)]


def test_any_word_of_a_title_may_begin_like_that(suggester):
    assert "A dog catches a frisbee" in texts(suggester.suggest("fris"), "title")
    assert "A dog catches a frisbee" in texts(suggester.suggest("DOG CAT"), "title")
    assert texts(suggester.suggest("dog catches a frisbeee"), "title") == []
    assert texts(suggester.suggest("ogs"), "title") == []
    # A blank ends the word.
    assert texts(suggester.suggest("dog "), "title") == ["A dog catches a frisbee"]


@pytest.mark.parametrize("typed", ["猫", "上的", "海滩"])
def test_scripts_without_blanks(suggester, typed):
    assert texts(suggester.suggest(typed), "title") == ["海滩上的猫"]


def test_case_and_form_of_letters_do_not_matter(suggester):
    assert texts(suggester.suggest("éTÉ"), "title") == ["Été à Nice"]
    assert texts(suggester.suggest("e\u0301te\u0301"), "title") == ["Été à Nice"]


def test_past_queries_come_by_how_often_they_were_asked(suggester):
    assert texts(suggester.suggest("dog"), "query") == ["dog on a beach", "a dog and a cat"]
    assert texts(suggester.suggest("a"), "query") == ["a dog and a cat", "dog on a beach"]
    other = suggester.with_queries({"dog in snow": 1})
    assert texts(other.suggest("dog"), "query") == ["dog in snow"]
    assert texts(suggester.suggest("dog"), "query") == ["dog on a beach", "a dog and a cat"]


def test_last_words_are_completed_and_the_rest_of_the_box_stays(suggester):
    assert "Cats on the tag:beach" in texts(suggester.suggest("Cats on the bea"), "tag")
    assert "film by Anna Lee" in texts(suggester.suggest("film by anna l"), "entity")
    assert 'film tag:"new york"' in texts(suggester.suggest("film new y"), "tag")
    (beach,) = [each for each in suggester.suggest("bea") if "beach" in each.text.split(":")[-1:]]
    assert beach.detail == "12 videos"


def test_signs_are_followed_by_tags(suggester):
    assert texts(suggester.suggest("cat #be")) == ["cat #beach", "cat #bear"]
    assert texts(suggester.suggest("cat -tag:bear")) == []  # nothing to add
    assert texts(suggester.suggest('tag:"new')) == ['tag:"new york"']
    assert texts(suggester.suggest("#"))[:2] == ["#beach", "#bear"]
    assert texts(suggester.suggest("tag:20")) == ['tag:"2024"']


def test_tags_that_are_suggested_mean_these_tags(suggester, analyzer):
    for tag in ("beach", "new york", "2024", "du-lich"):
        (text,) = texts(suggester.suggest(f"#{tag[:3]}"))[:1]
        if tag == "bear":
            continue
        meaning = analyzer.analyze(f"a cat {text}")
        assert [(one.field, one.value) for one in meaning.constraints] == [("tag", tag)]
    assert 'a "b"' not in "".join(texts(suggester.suggest("#a")))


@pytest.mark.parametrize("operator", operators([2024]), ids=lambda each: each.phrase)
def test_operators_are_understood(analyzer, operator):
    sentence = {"length": "{} cat", "date": "cat {}"}.get(operator.detail, "cat {}people run")
    meaning = analyzer.analyze(sentence.format(operator.phrase))
    if operator.detail in (DATE, LENGTH):
        fields = {one.field for one in meaning.constraints}
        assert fields == {"duration" if operator.detail == LENGTH else "date"}
    elif operator.detail == WITHOUT:
        assert meaning.excluded
    else:
        assert operator.detail == ORDER and len(meaning.steps) == 2


def test_operators_are_suggested_where_their_words_begin(suggester):
    assert texts(suggester.suggest("cats last w"), "operator")[0] == "cats last week"
    assert suggester.suggest("last wee")[0].text == "last week"
    assert "cats before 2024" in texts(suggester.suggest("cats befo"), "operator")
    assert "海滩 昨天" in texts(suggester.suggest("海滩 昨"), "operator")
    assert texts(suggester.suggest('a "red car'), "operator") == ['a "red car"']
    assert texts(suggester.suggest("w"), "operator") == []  # every word begins like some operator


@pytest.mark.parametrize("typed", ["", " ", "\x00", "x" * (MAX_LETTERS + 1), "!?", '"'])
def test_nothing_typed_or_too_much_suggests_hardly_anything(suggester, typed):
    assert texts(suggester.suggest(typed)) in ([], ['""'])


def test_suggestions_are_distinct_and_at_most_k(suggester):
    for typed in ("a", "b", "d", "be", "do", "dog on a beach"):
        for k in (1, 3, 20):
            found = texts(suggester.suggest(typed, k))
            assert len(found) <= k and len(set(map(folded, found))) == len(found)
            assert folded(typed) not in map(folded, found)


def test_index_of_prefixes_finds_what_a_full_search_finds():
    random_ = random.Random(0)
    letters = "abÄé猫の กá한"
    counts = {
        "".join(random_.choices(letters, k=random_.randint(1, 60))): random_.randint(1, 5)
        for _ in range(300)
    }
    index = PrefixIndex(counts)
    forms = {text: folded(text) for text in counts}
    starts = {text: word_starts(form)[:24] for text, form in forms.items()}
    typed = [
        folded(form[i : i + n]) for form in list(forms.values())[:60] for i, n in ((0, 3), (2, 40))
    ]
    for prefix in filter(None, typed):
        expected = {
            text
            for text, form in forms.items()
            if any(form.startswith(prefix, start) for start in starts[text])
        }
        assert set(index.best(prefix, 1000)) == expected
        some = index.best(prefix, 2)
        at_start = [
            text for text in expected if forms[text].startswith(prefix) and starts[text][:1] == [0]
        ]
        if at_start and len(prefix.encode()) <= 32:
            assert counts[some[0]] == max(counts[text] for text in at_start)


def test_index_of_nothing_finds_nothing():
    assert PrefixIndex({}).best("a", 3) == []
    empty = Suggester(titles={}, tags={}, names={})
    assert texts(empty.suggest("tod")) == ["today"]


def test_everything_comes_from_the_searchable_videos_of_an_index(tmp_path):
    make_index(
        tmp_path,
        [
            shows_metadata("a/first_film.mp4", {"tags": ["sea", "sea"], "author": "Ann Öst"}),
            shows_metadata("b.mp4", {"title": "Second film", "tags": ["sea"], "year": 3}),
            shows_metadata(
                "c.mp4",
                {"camera": {"lens": {"model": "Zeiss"}}, "date": "2019-05-01", "captions": ["x y"]},
            ),
        ],
    )
    reader = IndexReader(tmp_path)
    suggester = Suggester.of(reader)
    assert texts(suggester.suggest("first"), "title") == ["first_film"]
    assert texts(suggester.suggest("seco"), "title") == ["Second film"]
    (sea,) = suggester.suggest("#s")
    assert (sea.text, sea.detail) == ("#sea", "2 videos")
    ann, zeiss = (suggester.suggest(typed)[0] for typed in ("an", "zei"))
    assert (ann.text, ann.kind, ann.detail) == ("Ann Öst", "entity", "author")
    assert (zeiss.text, zeiss.detail) == ("Zeiss", "camera.lens.model")
    assert "before 2019" in texts(suggester.suggest("before"))
    assert texts(suggester.suggest("x y")) == []
    reader.close()
