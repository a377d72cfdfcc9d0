import json
import math

import numpy as np
import pytest

from reelseek.configs.composition import compose
from reelseek.configs.learning_schema import LearnConfig
from reelseek.recommendation import learn
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.impressions import NO_ID
from reelseek.recommendation.learning.store import ModelReader
from reelseek.recommendation.personal.facts import FactsBook, IndexVideos, facts_of_metadata
from tests.recommendation.logs import event, ids_in_order, index_of_axes

CATS = VideoFacts("Ann", "cats", 63_200.0, 19_700.5)


def test_facts_of_metadata():
    metadata = {"uploader": "Ann", "tags": [" Cats", "Dogs"], "title": "At home"}
    found = facts_of_metadata(metadata, duration_seconds=63.2, date="2023-12-09T12:00:00Z")
    assert found == CATS
    nothing = facts_of_metadata({}, duration_seconds=0, date="")
    assert (nothing.author, nothing.tag) == (NO_ID, "")
    assert math.isnan(nothing.duration_ms)
    assert math.isnan(nothing.upload_day)


def test_facts_are_those_of_the_first_time(tmp_path):
    known = {"a": CATS}
    book = FactsBook(tmp_path / "facts", known.get)
    book.position = lambda: 7
    assert book.facts_of("a") == CATS
    known["a"] = VideoFacts("Bob", "dogs")
    assert book.facts_of("a") == CATS
    book.sync()
    book.close()
    assert FactsBook(tmp_path / "facts", known.get)._known == {"a": (7, CATS)}


def test_facts_count_from_the_position_at_which_they_were_found(tmp_path):
    known: dict[str, VideoFacts] = {}
    book = FactsBook(tmp_path / "facts", known.get)
    seen = {}
    for position in range(1, 10):
        if position == 5:  # the video gets into the index
            known["a"] = CATS
        book.position = lambda position=position: position
        seen[position] = book.facts_of("a")
    assert [each == CATS for each in seen.values()] == [False] * 4 + [True] * 5
    book.sync()
    again = FactsBook(tmp_path / "facts", known.get)  # learns the log again
    for position, facts in seen.items():
        again.position = lambda position=position: position
        assert again.facts_of("a") == facts


@pytest.mark.parametrize("damage", [b'{"video": "b", "posi', b"\xff\xfe\n", b"[]\n"])
def test_a_line_that_was_cut_off_is_dropped(tmp_path, damage):
    path = tmp_path / "facts"
    book = FactsBook(path, {"a": CATS}.get)
    book.facts_of("a")
    book.sync()
    book.close()
    whole = path.read_bytes()
    path.write_bytes(whole + damage)
    book = FactsBook(path, {"c": VideoFacts("Cid", "", math.nan, math.nan)}.get)
    assert len(book) == 1
    assert path.read_bytes() == whole
    book.facts_of("c")
    book.sync()
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["video"] for line in lines] == ["a", "c"]
    assert lines[1]["duration_ms"] is None
    assert len(FactsBook(path, {}.get)) == 2


def test_what_is_learned_again_finds_what_it_found_then(tmp_path):
    """A learner goes back to the state at event 40: it may not know what was found since."""
    there: dict[str, VideoFacts] = {}
    book = FactsBook(tmp_path / "facts", there.get)
    position = 50
    book.position = lambda: position
    there["a"] = CATS
    assert book.facts_of("a") == CATS
    there["b"] = CATS
    position, book.is_repeated = 41, lambda: True
    assert book.facts_of("a") == book.facts_of("b") == UNKNOWN_VIDEO
    position = 50
    assert book.facts_of("a") == CATS
    position, book.is_repeated = 51, lambda: False
    assert book.facts_of("b") == CATS
    position = 50
    assert book.facts_of("b") == UNKNOWN_VIDEO
    book.close()


def test_an_index_that_comes_later(tmp_path):
    now = [0.0]
    videos = IndexVideos(tmp_path / "index", clock=lambda: now[0])
    assert videos("a") is None
    reader = index_of_axes(tmp_path / "index", [0, 1], author=["Ann", ""], tags=[["Cats"], []])
    first, second = ids_in_order(reader, 2)
    reader.close()
    assert videos(first) is None  # the index is looked for once a second
    now[0] = 6.0
    assert videos(first).author == "Ann"
    assert videos(first).tag == "cats"
    assert videos(second).author == NO_ID
    assert videos("a") is None
    videos.close()


def test_the_learner_knows_videos_by_the_facts_of_the_index(tmp_path, capsys):
    reader = index_of_axes(tmp_path / "index", [0, 1], author=["Ann", "Bob"])
    ids = ids_in_order(reader, 2)
    reader.close()
    now = iter(np.arange(1e9, 2e9, 20.0))
    log = EventLog(tmp_path / "events", clock=lambda: float(next(now)))
    for number in range(20):
        fields = {"at": 2e9, "request_id": str(number)}
        log.append([event("impression", "u", ids[number % 2], **fields)])
        log.append([event("click", "u", ids[0], **fields)] if number % 2 == 0 else [])
    log.close()
    learn.main(
        compose(
            LearnConfig,
            [
                f"events={tmp_path / 'events'}",
                f"index={tmp_path / 'index'}",
                *("follow=false", "wait_seconds=30"),
            ],
        )
    )
    folder = tmp_path / "events" / "learned"
    model, stored = ModelReader(folder).open()
    authors = {key[2] for key in model.table.keys_of(range(model.table.num_used)) if key[0] == 17}
    assert authors == {"Ann", "Bob"}
    assert stored.position == json.loads((folder / "status.json").read_bytes())["position"]
    assert UNKNOWN_VIDEO.author == NO_ID
    assert len((folder / "facts.jsonl").read_bytes().splitlines()) == 2
