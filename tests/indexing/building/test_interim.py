"""Publishing while a run goes on."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from reelseek.indexing import IndexReader, StopRequest
from reelseek.indexing.building.interim import InterimPublisher
from reelseek.indexing.building.segmenting import NUM_VIDEOS_FOR_SPREAD
from tests.conftest import COLOURS
from tests.indexing.conftest import QUERIES, encode_video_by_video
from tests.indexing.searching import search

NUM_FILMS = NUM_VIDEOS_FOR_SPREAD + 4


def test_publishing_takes_at_most_a_tenth_of_the_time():
    seconds, cost, total = [0.0], [0.0], 0.0

    def publish():
        nonlocal total
        cost[0] += 1.0  # ever more, as an index grows
        total += cost[0]
        seconds[0] += cost[0]

    publisher = InterimPublisher(publish, every_seconds=10, clock=lambda: seconds[0])
    while seconds[0] < 20_000:
        seconds[0] += 0.5
        if publisher.is_due:
            publisher.publish()
    assert 0.05 < total / seconds[0] < 0.1


def test_nothing_is_due_unless_asked_for():
    assert not InterimPublisher(lambda: None, every_seconds=0, clock=lambda: 1e9).is_due


@pytest.fixture
def films(write_video, tmp_path):
    folder, colours = tmp_path / "films", list(COLOURS.values())
    for i in range(NUM_FILMS):
        write_video(f"{i:02d}.mp4", [colours[i % 3]] * (5 + i), folder=folder)
    return folder


@pytest.mark.parametrize("kind", ["windows", "scenes"])
def test_reader_that_is_open_sees_what_is_done(colour_index, films, monkeypatch, kind):
    colour_index.settings.segments["kind"] = kind
    monkeypatch.setattr("reelseek.indexing.building.interim._COST_FACTOR", 0.0)
    encode_video_by_video(monkeypatch)
    seen = []

    def look(_):
        try:
            reader = readers[0] if readers else IndexReader(colour_index.folder)
        except ValueError:  # nothing is published yet
            return
        readers[:] = [reader]
        seen.append(len(search(reader, QUERIES["red"], k=100)))

    readers = []
    with ThreadPoolExecutor(1) as executor:  # beside the indexer, as another process would
        colour_index.encoder.before_encoding = lambda pixels: executor.submit(look, pixels).result()
        colour_index.update(films, publish_every_seconds=1e-9)
        executor.submit(look, None).result()
    assert seen == sorted(seen)
    assert 1 <= seen[0] < NUM_FILMS
    assert len(set(seen)) > 2
    assert seen[-1] == NUM_FILMS
    readers[0].close()


def test_content_that_moves_meanwhile_keeps_its_embeddings(colour_index, films, monkeypatch):
    """A run knows where embeddings lie; publishing in its middle must not move them."""
    for path in sorted(films.iterdir())[12:]:
        path.unlink()
    colour_index.update(films)
    for path in sorted(films.iterdir())[:8]:  # most of the part is deleted: worth compacting
        path.unlink()
    (films / "copy.mp4").write_bytes((films / "10.mp4").read_bytes())
    monkeypatch.setattr("reelseek.indexing.writer._SMALL_PARTS", 0)
    new = films / "new.mp4"
    new.write_bytes((films / "11.mp4").read_bytes() + b"\0\0\0\x08free")
    colour_index.update(films, publish_every_seconds=1e-9)
    expected = ["08.mp4", "09.mp4", "10.mp4", "11.mp4", "copy.mp4", "new.mp4"]
    reader = IndexReader(colour_index.folder)
    assert reader.manifest.num_videos == len(expected)
    colours = dict(zip(expected, ("blue", "red", "green", "blue", "green", "blue"), strict=True))
    for colour, query in QUERIES.items():
        hits = {hit.key: hit.score for hit in search(reader, query, k=100)}
        for key in hits:
            assert (hits[key] > 0.8) == (colours[key] == colour)
    reader.close()


def test_stopped_run_goes_on_after_publishing(colour_index, films):
    stop = StopRequest()
    num_encoded = 0

    def stop_in_the_middle(_):
        nonlocal num_encoded
        num_encoded += 1
        if num_encoded == 6:
            stop.signal_number = 15

    colour_index.encoder.before_encoding = stop_in_the_middle
    first = colour_index.update(films, publish_every_seconds=1e-9, stop=stop)
    second = colour_index.update(films, publish_every_seconds=1e-9)
    assert first.stopped or first.indexed == NUM_FILMS
    assert second.searchable == NUM_FILMS
    assert first.indexed + second.indexed == NUM_FILMS
