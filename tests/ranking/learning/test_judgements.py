import json

import pytest

from reelseek.ranking import Judgement, read_judgements
from reelseek.ranking.learning.judgements import click_relevance

GOOD = {"query": "a dog", "video": "a.mp4", "relevance": 3}


def write(tmp_path, *lines):
    path = tmp_path / "judged.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


def test_lines_are_judgements_in_their_order(tmp_path):
    path = write(
        tmp_path,
        GOOD,
        "",
        {"query": "猫", "video": "b.mp4", "relevance": 0},
        {"query": "a dog", "video": "b.mp4", "clicks": 30, "impressions": 40},
        "   ",
    )
    assert read_judgements(path) == [
        Judgement("a dog", "a.mp4", 3),
        Judgement("猫", "b.mp4", 0),
        Judgement("a dog", "b.mp4", 3),
    ]


def test_last_line_may_end_and_lines_may_end_as_on_windows(tmp_path):
    path = tmp_path / "judged.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\r\n")
    assert read_judgements(path) == [Judgement("a dog", "a.mp4", 3)]


# Lower bounds of the 95 % score interval, worked out apart: 1 of 1 is 0.207, 5 of 10 is 0.237,
# 30 of 40 is 0.598, 95 of 100 is 0.888.
@pytest.mark.parametrize(
    ("clicks", "impressions", "relevance"),
    [(0, 0, 0), (0, 1000, 0), (1, 1, 1), (5, 10, 1), (30, 40, 3), (95, 100, 4), (10**6, 10**6, 4)],
)
def test_clicks_become_a_grade(clicks, impressions, relevance):
    assert click_relevance(clicks, impressions) == relevance


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "is a list: must be an object"),
        ("\udcff", "it is no JSON"),
        ({**GOOD, "relevance": 5}, "relevance=5: must be 0 to 4"),
        ({**GOOD, "relevance": -1}, "relevance=-1: must be 0 to 4"),
        ({**GOOD, "relevance": 2.5}, "relevance=2.5: must be a whole number"),
        ({**GOOD, "relevance": True}, "relevance=True: must be a whole number"),
        ({**GOOD, "query": " "}, "query=' ': must be a text that is not empty"),
        ({"query": "a", "relevance": 1}, "video=None: must be a text"),
        ({"query": "a", "video": "b"}, "lacks relevance, or clicks and impressions"),
        ({**GOOD, "clicks": 1, "impressions": 2}, "has relevance and clicks"),
        ({"query": "a", "video": "b", "clicks": 3, "impressions": 2}, "clicks=3: must be 0 to"),
        ({**GOOD, "rel": 1}, "has an unknown field 'rel'"),
        ({**GOOD, "start_seconds": 1, "end_seconds": 2}, "a ranker orders whole videos"),
        ({**GOOD, "end_seconds": None}, "has end_seconds, and a ranker orders whole videos"),
        (GOOD, "judges the same as line 1: keep one of them"),
    ],
)
def test_line_that_is_no_judgement_is_named(tmp_path, line, message):
    path = tmp_path / "judged.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(f"{json.dumps(GOOD)}\n\n{text}\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=r"judged\.jsonl, line 3: ") as caught:
        read_judgements(path)
    if line != "\udcff":
        assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "judged.jsonl"
    path.write_bytes(b'{"query": "\xff", "video": "a", "relevance": 1}')
    with pytest.raises(ValueError, match="line 1: it is not UTF-8"):
        read_judgements(path)


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_file_without_judgements_is_refused_with_an_example(tmp_path, content):
    path = tmp_path / "judged.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r'holds no judgement; each line is like {"query"'):
        read_judgements(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jsonl: cannot be read"):
        read_judgements(tmp_path / "none.jsonl")
