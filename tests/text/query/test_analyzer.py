import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from reelseek.indexing.filters import parse_filter
from reelseek.text import AnalyzedQuery, QueryAnalyzer, Vocabulary
from reelseek.text.normalization import normalized
from reelseek.text.query import spelling
from tests.text.query_table import NOW

ROOT = Path(__file__).resolve().parents[2]


def test_example_of_the_documentation(analyzer):
    meaning = analyzer.analyze("cats under 30 seconds from last week -people")
    assert meaning.text == "cats"
    assert meaning.where == "duration < 30 and date >= 2026-11-16"
    assert meaning.excluded == ("people",)
    assert [one.source for one in meaning.constraints] == ["under 30 seconds", "from last week"]


def test_explanation_names_every_part(analyzer):
    shown = str(
        analyzer.analyze('a girafe eats, then "it" runs, under 1 minute, without people #cat')
    )
    for line in (
        'text       a giraffe eats, then "it" runs',
        "language   en",
        "without    people",
        "in order   1. a giraffe eats",
        '           2. "it" runs',
        "filter     duration < 60",
        "corrected  girafe -> giraffe",
    ):
        assert line in shown, shown


@pytest.mark.parametrize(
    "query",
    [
        "a  dog \t runs",  # its blanks too
        "\uff24\uff2f\uff27 on a beach",
        " a dog \u2014 close up ",
        "caf\u0065\u0301 \u201cMoon\u201d",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 at the beach",
        "\u0e19\u0e49\u0e33\u0e15\u0e01",
    ],
)
def test_query_with_nothing_to_lift_stays_character_for_character(analyzer, query):
    assert analyzer.analyze(query).text == query


def test_invisible_characters_do_not_reach_the_model(analyzer):
    meaning = analyzer.analyze("a \u202edog\u202c on\x00 the\u00ad beach\U000e0041")
    assert meaning.text == "a dog on the beach"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('"without people" poster', '"without people" poster'),
        ('"under 30 seconds" song', '"under 30 seconds" song'),
        ("“tagged cat”", "“tagged cat”"),
        ("「人のいない」という歌", "「人のいない」という歌"),
    ],
)
def test_quoted_words_are_meant_as_they_stand(analyzer, query, text):
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.where, meaning.excluded) == (text, None, ())


def test_negation_alone_leaves_the_query_as_it_is_and_says_so(analyzer):
    meaning = analyzer.analyze("-people")
    assert (meaning.text, meaning.excluded) == ("-people", ())
    assert "nothing to look for" in meaning.skipped[0]


def test_filters_alone_leave_no_text(analyzer):
    meaning = analyzer.analyze("under 30 seconds, -people")
    assert (meaning.text, meaning.excluded) == ("", ("people",))
    assert meaning.where == "duration < 30"


def test_clock_is_injected():
    analyzer = QueryAnalyzer(now=lambda: datetime(2024, 3, 1), entities=False)
    assert analyzer.analyze("dogs from yesterday").where == "date = 2024-02-29"


@pytest.mark.parametrize(
    "now", [datetime(2024, 2, 29), datetime(2026, 1, 1), datetime(2026, 12, 31), datetime(1, 1, 1)]
)
@pytest.mark.parametrize(
    "words",
    [
        "yesterday", "last week", "this month", "last month", "last year", "2 months ago",
        "in the last 3 days", "in the past 2 years", "in february", "on monday", "9999 years ago",
        "on 31 february 2024", "in the last 999999 weeks", "999999 days ago", "in december 9999",
    ],
)  # fmt: skip
def test_dates_are_valid_at_the_borders_of_months_and_years(now, words):
    where = QueryAnalyzer(now=lambda: now, entities=False).analyze(f"dogs {words}").where
    assert where is None or parse_filter(where)


def test_spelling_can_be_overridden(build_analyzer):
    query = "a girafe eating"
    assert build_analyzer(spelling=False, entities=False).analyze(query).text == query
    assert build_analyzer(entities=False).analyze('a "girafe" eating').text == 'a "girafe" eating'


def test_tag_is_one_of_the_catalogue_in_its_own_writing():
    analyzer = QueryAnalyzer(vocabulary=Vocabulary.of([], tags=["Road Trip"]), entities=False)
    assert analyzer.analyze("car #road_trip").where == "tag = 'Road Trip'"
    assert analyzer.analyze("car #Road").where == "tag = 'Road'"


def test_value_with_a_quote_is_read_by_a_filter(analyzer):
    meaning = analyzer.analyze('cows tag:"farmer\'s market"')
    assert meaning.where == "tag = 'farmer''s market'"
    assert parse_filter(meaning.where).root.values == ("farmer's market",)


def test_positions_of_names_are_those_in_the_text(build_analyzer):
    meaning = build_analyzer(entities=False).analyze(
        "wihtout fog, under 10 seconds, the golden gate bridge and 경복궁에서 rexo"
    )
    assert [one.kind for one in meaning.entities] == ["place", "place", "animal"]
    for entity in meaning.entities:
        assert meaning.text[entity.start : entity.end] == entity.text


HOSTILE = {
    "100 kB of words": "a dog runs " * 9_000,
    "100 kB of one letter": "a" * 100_000,
    "100 kB of blanks": " " * 100_000,
    "10,000 minus signs": "-" * 10_000,
    "minus signs that fit": "-" * 1_999,
    "minus signs and blanks": "- " * 999,
    "negated letters": "-a " * 600,
    "control characters": "".join(map(chr, range(32))) * 50 + "cat",
    "only control characters": "\x00\x01\x02" * 500,
    "mixed directions": "\u202eabc\u202d\u05d0\u05d1 \u2066\u0627\u0644 cat " * 60,
    "stacked marks": "a" + "\u0301\u0323" * 900,
    "100 kB of stacked marks": "a" + "\u0301\u0323" * 25_000,
    "surrogates": "\ud800\udfff cat" * 100,
    "emoji only": "\U0001f408\U0001f415" * 50,
    "an open quote": '"' * 1_999,
    "hashes": "#" * 1_999,
    "numbers": "1 " * 999,
    "digits": "1" * 1_999,
    "units": "1s" * 999,
    "amounts and words": "1 min and " * 199,
    "years": "2024-" * 399,
    "clock": "1:" * 999,
    "without": "without " * 249,
    "then": ", then" * 333,
    "before": "he jumps before " * 124,
    "han": "没有" * 999,
    "kana": "のいない" * 499,
    "hangul": "없는 " * 666,
    "thai": "ไม่มี" * 399,
    "vietnamese": "không có " * 222,
    "commas": "," * 1_999,
    "letters and apostrophes": "a'" * 999,
    "expanding ligatures": "\ufdfa" * 1_900,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_query_is_answered_or_refused_in_a_tenth_of_a_second(analyzer, name):
    if name in ("han", "kana", "hangul", "vietnamese"):
        analyzer.analyze(HOSTILE[name][:10])  # loading a dictionary is not what is timed, nor
    # is, as the processor's time is taken, what else the machine does.
    times = []
    for _ in range(3):
        started = time.process_time()
        try:
            assert isinstance(analyzer.analyze(HOSTILE[name]), AnalyzedQuery)
        except ValueError as error:
            assert "query" in str(error)
        times.append(time.process_time() - started)
    assert min(times) < 0.1, times


def test_after_warming_up_no_query_loads_anything():
    program = """
import sys
from tests.text.query_table import TABLE
from reelseek.text.query.analyzer import QueryAnalyzer
analyzer = QueryAnalyzer()
analyzer.warm_up()
loaded = set(sys.modules)
for query in ["\u03b3\u03ac\u03c4\u03b1", "hte recieve", *(case.query for case in TABLE)]:
    analyzer.analyze(query)
print(sorted(set(sys.modules) - loaded))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("query", ["", " \n", "\u202e\u202c", "\x00"])
def test_empty_query_is_refused(analyzer, query):
    with pytest.raises(ValueError, match="query is empty"):
        analyzer.analyze(query)


def test_long_query_is_refused_with_its_length(analyzer):
    with pytest.raises(ValueError, match=r"2,001 characters, and at most 2,000"):
        analyzer.analyze("a" * 2_001)
    assert analyzer.analyze("a" * 2_000).text == "a" * 2_000


def test_emoji_are_words(analyzer):
    meaning = analyzer.analyze("\U0001f408\U0001f415")
    assert (meaning.language, meaning.words) == ("und", ("\U0001f408", "\U0001f415"))


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("\u201cfrisbee\u201d \u2018dog\u2019s\u2019", "\"frisbee\" 'dog's'"),
        ("1\u20132 \u2014 3\u22124", "1-2 - 3-4"),
        ("\uff11\uff10\u3000\u79d2\uff0c\uff03cat", "10 \u79d2,#cat"),
        ("a\u00a0b\u200bc\nd", "a b c d"),
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e33"),  # Thai: NFKC alone takes it apart
        ("e\u0301", "\u00e9"),
    ],
)
def test_normalized(raw, plain):
    assert normalized(raw) == plain
    assert normalized(plain) == plain


@pytest.mark.parametrize(
    ("query", "text", "where"),
    [
        ("perros negros de ayer en la playa", "perros negros en la playa", "date = 2026-11-24"),
        ("fiesta grande el 3 de marzo de 2024", "fiesta grande el", "date = 2024-03-03"),
        ("los perros corren por la playa", "los perros corren por la playa", None),
    ],
)
def test_dates_of_other_languages_are_dateparsers(query, text, where):
    pytest.importorskip("dateparser")
    analyzer = QueryAnalyzer(languages=("es",), now=lambda: NOW, entities=False, spelling=False)
    meaning = analyzer.analyze(query)
    assert (meaning.text, meaning.where) == (text, where)


def test_languages_in_use_are_the_only_ones():
    analyzer = QueryAnalyzer(languages=("en", "es", "de"), now=lambda: NOW, entities=False)
    assert analyzer.analyze("un perro corre por la playa con su dueño").language == "es"
    assert analyzer.analyze("ein kleiner Hund läuft schnell über die Straße").language == "de"
    with pytest.raises(ValueError, match="languages is empty"):
        QueryAnalyzer(languages=())


def test_after_warming_up_no_dictionary_is_made(monkeypatch):
    pytest.importorskip("symspellpy")
    analyzer = QueryAnalyzer(vocabulary=Vocabulary.of(["zorblat"]), entities=False)
    analyzer.warm_up()
    monkeypatch.setattr(spelling, "_dictionary_of", None)
    assert analyzer.analyze("a dog runs fastt").corrections[0].corrected == "fast"
    assert analyzer.analyze("a zorblta").corrections[0].corrected == "zorblat"


def test_dictionaries_of_the_analyzer_before_are_loaded_too(monkeypatch):
    pytest.importorskip("symspellpy")
    before, after = (
        QueryAnalyzer(vocabulary=Vocabulary.of([word]), entities=False) for word in ("a", "zorblat")
    )
    before.analyze("a dog runs fastt")
    after.load_dictionaries_of(before)
    monkeypatch.setattr(spelling, "_dictionary_of", None)
    assert after.analyze("a zorblta").corrections[0].corrected == "zorblat"
