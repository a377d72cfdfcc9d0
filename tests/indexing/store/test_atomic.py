import errno

import faiss
import numpy as np
import pytest

from reelseek.indexing.store.atomic import publish_file, write_atomically
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.journal import Journal
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.indexing.vectors.shard import write_index


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_has_the_new_content_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_write_that_breaks_off_leaves_the_old_content_and_no_temporary_file(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def write(temporary):
        temporary.write_bytes(b"half of the ne")
        raise error

    with pytest.raises(error):
        publish_file(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_path_is_untouched_while_the_new_content_is_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    seen = []

    def write(temporary):
        temporary.write_bytes(b"new")
        seen.append(path.read_bytes())

    publish_file(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


@pytest.fixture
def small_files():
    """Files of at most 10,000 bytes, as on a disk that is nearly full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_with_numpy(path):
    EmbeddingParts(path, embedding_dim=100).append(np.zeros((500, 100), np.float32), part=1)


def write_with_faiss(path):
    index = faiss.IndexFlatIP(100)
    index.add(np.zeros((500, 100), np.float32))
    write_index(path, index)


def write_journal(path):
    journal = Journal(path, embedding_dim=100)
    video = NewVideo("a.mp4", "/a.mp4", FileSignature(1, 1, ""), "failed", reason="x" * 20_000)
    try:
        for _ in range(3):  # the first may be written in part
            journal.append(video, np.zeros((0, 100), np.float32), part=1)
    finally:
        journal.close()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomically(path, bytes(50_000)),
        write_with_numpy,
        write_with_faiss,
        write_journal,
    ],
    ids=["bytes", "numpy", "faiss", "journal"],
)
def test_disk_that_takes_no_more_names_the_path(tmp_path, small_files, write):
    with pytest.raises(OSError) as caught:
        write(tmp_path / "file")
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value.filename).startswith(str(tmp_path / "file"))
    assert ".tmp" not in caught.value.filename
    assert not list(tmp_path.rglob("*.tmp"))
