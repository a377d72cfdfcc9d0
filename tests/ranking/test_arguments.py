import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelseek.ranking.arguments import check_search, hint_at_paths

DEFAULTS = {
    **{"k": 10, "level": "video", "where": None, "min_confidence": 0.0},
    **{"sources": None, "analyze": True},
}


def check(query="red", **given):
    check_search(query, **{**DEFAULTS, **given})


@pytest.mark.parametrize(
    ("query", "given", "message"),
    [
        (7, {}, "query must be a sentence .* not int"),
        (None, {}, "not NoneType"),
        (b"red", {}, "not bytes"),
        (np.zeros((2, 2, 3)), {}, "not ndarray"),
        (["red", 7], {}, "not int"),
        ({"red": "1"}, {}, "weight of a query's part must be a number, not str"),
        ("red", {"k": "5"}, "k must be a whole number, not str"),
        ("red", {"k": 5.0}, "k must be a whole number, not float"),
        ("red", {"k": True}, "k must be a whole number, not bool"),
        ("red", {"level": None}, "level must be one of video, moment, not NoneType"),
        ("red", {"where": 60}, "where must be a filter .* not int"),
        ("red", {"min_confidence": "0.5"}, "min_confidence must be a number .* not str"),
        ("red", {"sources": "visual"}, "sources must be a list of visual, lexical, not str"),
        ("red", {"analyze": "no"}, "analyze must be True or False, not str"),
    ],
)
def test_wrong_type_says_what_is_taken(query, given, message):
    with pytest.raises(TypeError, match=message):
        check(query, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 0}, "k=0: must be at least 1"),
        ({"level": "shot"}, "level=shot: must be one of video, moment"),
        ({"min_confidence": float("nan")}, "min_confidence=nan: must be 0 to 1"),
        ({"min_confidence": -0.1}, "min_confidence=-0.1: must be 0 to 1"),
        ({"sources": ["pictures"]}, "sources=pictures: must be one or more of visual, lexical"),
        ({"sources": []}, "sources=: must be one or more of visual, lexical"),
        ({"where": "duration <"}, "where=duration <: expected a value"),
    ],
)
def test_wrong_value_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        check(**given)


def test_what_is_taken_passes(caplog):
    image = Image.new("RGB", (2, 2))
    for query in (
        "red",
        Path("a.jpg"),
        image,
        ["red", image],
        ("a", Path("b")),
        {"red": 1, Path("a.jpg"): -0.5},
    ):
        check(query, k=np.int64(3), min_confidence=np.float32(0.5), sources=("lexical",))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("photo.jpg", "Path('photo.jpg'), or image=photo.jpg"),
        ("clips/A.MP4", "Path('clips/A.MP4'), or video=clips/A.MP4"),
        (["red", "photo.png"], "image=photo.png"),
        ("a photo of holiday.jpg", None),
        ("is it a .jpg", None),
        ("version 2.0", None),
    ],
)
def test_path_given_as_words_gets_a_hint(caplog, query, hint):
    with caplog.at_level(logging.WARNING):
        hint_at_paths(query)
    assert (hint in caplog.text) if hint else not caplog.text


def test_file_with_blanks_in_its_name_gets_a_hint_where_it_is_there(caplog, tmp_path):
    hint_at_paths(str(tmp_path / "a b.jpg"))
    assert not caplog.text
    (tmp_path / "a b.jpg").touch()
    hint_at_paths(str(tmp_path / "a b.jpg"))
    assert "is taken as words" in caplog.text
