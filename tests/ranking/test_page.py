import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from reelseek.ranking import SearchHit, SearchResults
from reelseek.ranking.page import hits_html, write_page
from reelseek.text.terminal import clock
from tests.conftest import COLOURS

RED, GREEN, BLUE = COLOURS.values()


def hit_of(path, **changes):
    values = {
        "rank": 1,
        "id": "abc",
        "video": str(path),
        "score": 0.5,
        "start_seconds": 1.0,
        "end_seconds": 2.0,
        "best_seconds": 1.5,
        "duration_seconds": 3.0,
        "key": path.name,
    }
    return SearchHit(**(values | changes))


def test_picture_shows_the_moment_found(write_video, tmp_path):
    video = write_video("film.mp4", [RED] * 10 + [GREEN] * 10 + [BLUE] * 10)
    write_page(tmp_path / "page.html", [("green", [hit_of(video)])])
    html = (tmp_path / "page.html").read_text("utf-8")
    (encoded,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    np.testing.assert_allclose(np.asarray(image).mean(axis=(0, 1)), GREEN, atol=8)
    assert f"{video.as_uri()}#t=1.00,2.00" in html
    assert "left: 33.33%; width: 33.33%" in html


def test_names_titles_captions_and_queries_are_escaped(write_video, tmp_path):
    hostile = "<script>alert(1)</script>"
    video = write_video("a<b>'&.mp4", [RED] * 3)
    hit = hit_of(video, metadata={"title": hostile, "captions": [f'"{hostile}']})
    write_page(tmp_path / "page.html", [(hostile, [hit])])
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 4  # page title, heading, name, caption
    assert "a<b>" not in html


def test_page_fetches_nothing(write_video, tmp_path):
    video = write_video("a.mp4", [RED] * 3)
    write_page(tmp_path / "page.html", [("red", [hit_of(video)])])
    html = (tmp_path / "page.html").read_text("utf-8")
    assert not re.findall(r"https?://|<link|<script|@import|url\(", html)
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', html))


def test_video_that_is_gone_has_a_word_instead_of_a_picture(tmp_path):
    write_page(tmp_path / "page.html", [("red", [hit_of(tmp_path / "gone.mp4")])])
    assert "cannot be read any more" in (tmp_path / "page.html").read_text("utf-8")


def test_no_hits_are_said(tmp_path):
    why = "no video before 1990 (from <before 1990>)"
    write_page(tmp_path / "page.html", [("red", []), ("b", SearchResults(why_empty=why))])
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "nothing matches" in html
    assert "no video before 1990 (from &lt;before 1990&gt;)" in html


def test_number_of_a_card_is_the_probability_of_a_match(write_video, tmp_path):
    video = write_video("a\u202eb\x1b.mp4", [RED] * 3)
    write_page(tmp_path / "page.html", [("red", [hit_of(video, score=0.0321, confidence=0.874)])])
    html = (tmp_path / "page.html").read_text("utf-8")
    assert '<em title="probability of a match">87 %</em>' in html
    assert "0.032" not in html and "cosine" not in html
    assert "\u202e" not in html and "\x1b" not in html
    write_page(tmp_path / "page.html", [("red", [hit_of(video)])])
    assert "<em" not in (tmp_path / "page.html").read_text("utf-8")


def test_notebook_has_pictures_of_the_first_few_and_escapes_the_rest(write_video, tmp_path):
    video = write_video("a.mp4", [RED] * 3)
    hits = [hit_of(video, rank=i, metadata={"title": "<b>"}) for i in range(1, 31)]
    html = hits_html(SearchResults(hits))
    assert html.count("<img ") == 24 and "and 6 more" in html
    assert "<b></" not in html and "&lt;b&gt;" in html


def test_page_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"page=.*none.*cannot be written"):
        write_page(tmp_path / "none" / "page.html", [("red", [])])


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "1:00:00")]
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown
