import numpy as np
import pytest

from reelseek.indexing.store.journal import Journal
from reelseek.indexing.store.videos import FileSignature, NewVideo

D = 3


def video(key, num_segments=2, **options):
    spans = np.arange(2.0 * num_segments).reshape(-1, 2)
    signature = FileSignature(size_bytes=10, modified_ns=20, content_sha256="ab")
    return NewVideo(
        key=key, path=f"/v/{key}", signature=signature, outcome="ok", spans=spans, **options
    )


def rows(num, seed=0):
    return np.random.default_rng(seed).standard_normal((num, D)).astype(np.float16)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "unsaved.journal"


def journal(path):
    return Journal(path, embedding_dim=D)


def assert_same(read, written):
    assert len(read) == len(written)
    for (got, got_rows), (video, video_rows) in zip(read, written, strict=True):
        np.testing.assert_array_equal(got_rows, video_rows)
        np.testing.assert_array_equal(got.spans, video.spans)
        for name in ("key", "path", "signature", "outcome", "reason", "decoder", "metadata"):
            assert getattr(got, name) == getattr(video, name)


def write(path, records):
    own = journal(path)
    for record in records:
        own.append(*record, part=7)
    own.close()


RECORDS = [
    (video("a", metadata={"title": "Über \u732b", "tags": [1, None]}), rows(3)),
    (video("b", num_segments=0, reason="cut off", decoder="pyav"), rows(1, seed=1)),
    (NewVideo("c", "/v/c", FileSignature(1, 2, ""), outcome="failed", reason="0 bytes"), rows(0)),
]


def test_reads_what_was_written(path):
    write(path, RECORDS)
    assert_same(journal(path).read(part=7), RECORDS)


def test_goes_on_after_what_another_process_has_written(path):
    write(path, RECORDS[:1])
    write(path, RECORDS[1:])
    assert_same(journal(path).read(part=7), RECORDS)


def test_nothing_was_written(path):
    assert journal(path).read(part=7) == []


def test_every_cut_keeps_the_records_before_it(path):
    ends = [0]
    for record in RECORDS:
        write(path, [record])
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends) - 1
        assert_same(journal(path).read(part=7), RECORDS[:complete])


def test_a_damaged_record_ends_the_reading(path):
    write(path, RECORDS[:1])
    first = path.stat().st_size
    write(path, RECORDS[1:])
    content = bytearray(path.read_bytes())
    content[first + 20] ^= 1
    path.write_bytes(content)
    assert_same(journal(path).read(part=7), RECORDS[:1])


def test_cleared_is_empty_and_can_be_written_again(path):
    own = journal(path)
    own.append(*RECORDS[0], part=7)
    own.clear()
    assert not path.exists()
    own.append(*RECORDS[1], part=7)
    own.close()
    assert_same(journal(path).read(part=7), RECORDS[1:2])


def test_records_that_are_saved_already_are_left_out(path):
    own = journal(path)
    own.append(*RECORDS[0], part=6)
    own.append(*RECORDS[1], part=7)
    own.close()
    assert_same(journal(path).read(part=7), RECORDS[1:2])
    assert journal(path).read(part=8) == []
