import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.ranking.prefix_index import folded
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.completer import Completer, Source, alphabet_of
from reelseek.recommendation.completion.phrases import Phrases, build_phrases
from reelseek.recommendation.completion.tokens import words
from reelseek.recommendation.completion.word_counts import count_words, worded
from reelseek.recommendation.completion.word_model import WordModel

ASKED = {
    "a dog on the beach": 9, "a dog catches a frisbee": 7, "cat on the sofa": 5,
    "cat on the roof": 4, "谍战电视剧战争": 3, "谍战电影": 2, "красная площадь": 2,
    "badword dog": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def completer() -> Completer:
    texts = sorted(ASKED)
    scores = np.array([ASKED[text] for text in texts], float)
    phrases = Phrases(*build_phrases(texts, scores, num_users=np.array([5, 6, 7, 8, 9, 9, 9, 9])))
    model = WordModel(count_words(worded((words(q), float(n)) for q, n in ASKED.items())))
    return Completer(
        phrases, model, block_list=BlockList(["badword"]), alphabet=alphabet_of(texts), min_users=5
    )


def texts_of(completer, prefix, source=None, k=10, **options):
    found = completer.complete(prefix, k, **options)
    return [each.text for each in found if source in (None, each.source)]


def test_past_queries_come_first(completer):
    assert texts_of(completer, "A Dog ")[:2] == ["a dog on the beach", "a dog catches a frisbee"]
    assert texts_of(completer, "谍战电")[:2] == ["谍战电视剧战争", "谍战电影"]
    assert texts_of(completer, "красная ПЛОЩ", Source.past) == ["красная площадь"]
    assert completer.best("cat", 1) == ["cat on the sofa"]


def test_word_by_word_where_the_whole_was_never_asked(completer):
    found = texts_of(completer, "my own dog on the be", Source.words)
    assert found[0] == "my own dog on the beach"
    assert "our dog catches" in texts_of(completer, "our dog ", Source.words)
    assert "大谍战电视剧" in texts_of(completer, "大谍战电视", Source.words)


def test_a_slip(completer):
    assert texts_of(completer, "caat on th", Source.slip)[0] == "cat on the sofa"
    assert texts_of(completer, "cat on th", Source.slip) == []


def test_what_is_blocked_is_nowhere(completer):
    for prefix in ("b", "badw", "bad", "my badwor", "badword "):
        assert not any("badword" in text for text in texts_of(completer, prefix))


def test_deleted_users_may_have_been_any(completer):
    # By the alphabet: a dog catches (5 users), a dog on (6), badword (7), cat on the roof (8).
    assert texts_of(completer, "a dog", Source.past, num_deleted=1) == ["a dog on the beach"]
    assert texts_of(completer, "cat", Source.past, num_deleted=4) == ["cat on the sofa"]
    assert texts_of(completer, "cat", num_deleted=1_000) == [] or not texts_of(
        completer, "cat", Source.past, num_deleted=1_000
    )


@settings(max_examples=150)
@given(st.text(max_size=30), st.integers(0, 40))
def test_any_prefix_has_an_answer(completer, prefix, k):
    found = completer.complete(prefix, k)
    assert len(found) <= k
    form = folded(prefix)
    for each in found:
        assert folded(each.text) == each.text.rstrip() != ""
        if each.source is not Source.slip:
            assert each.text.startswith(form)
            assert len(each.text) > len(form)
    assert len({each.text for each in found}) == len(found)


@pytest.mark.parametrize(
    "prefix",
    [
        "x" * 10_000, "\u0301" * 10_000, "\ud800" * 200, "\x00" * 200, "谍" * 10_000, "a " * 5_000,
        "🐈" * 3_000, "a" + "\u0300" * 199, "ﷺ" * 200, "(" * 200, "a b c d e f g h " * 12,
        "a" * 200, "قطة" * 60,
    ],
)  # fmt: skip
def test_odd_prefixes_are_answered_at_once(completer, prefix):
    completer.complete(prefix, 10)  # segmenters load when first needed
    started = time.process_time()
    completer.complete(prefix, 10)
    assert time.process_time() - started < 0.1  # ten times what is promised; see the benchmark


def test_words_alone_and_no_words():
    empty = Phrases(*build_phrases([], np.empty(0), num_users=np.empty(0, int)))
    assert Completer(empty).complete("a", 5) == []
    assert Completer(empty).current_word([], "a", 5) == []
    assert Completer(empty).complete("", 5) == Completer(empty).complete("  ", 5) == []
