import io
import json
import os
import tarfile

import pytest

from reelseek.training.datasets import read_captioned
from reelseek.training.shards.names import expand_ranges
from tests.training.datasets.published import captions_by_key


def write_shard(path, files, *, links=()):
    """A tar of `(name, content)` and of `(name, type, target)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, kind, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        for name, content in files:
            entry = tarfile.TarInfo(name)
            content = content if isinstance(content, bytes) else content.encode()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def sample(name, caption="a cat"):
    return [(f"{name}.mp4", f"video {name}"), (f"{name}.txt", caption)]


@pytest.fixture
def read(tmp_path):
    return lambda data: read_captioned(str(data), cache_folder=tmp_path / "cache")


def cached(tmp_path):
    return sorted(path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


def test_samples_are_grouped_by_name_up_to_the_first_dot(tmp_path, read):
    path = write_shard(
        tmp_path / "shards" / "000.tar",
        [
            ("./0001.mp4", b"first"),
            ("./0001.txt", "\ufeffa cat \r\n\r\n a  dog\n"),
            ("v1.2/0002.json", json.dumps({"caption": "a bird", "duration": 3})),
            ("v1.2/0002.avi.MOV", b"second"),
            ("0003.webm", b"third"),
            ("0003.json", json.dumps({"captions": ["a fish", "a cat"]})),
            ("0003.txt", "a cat"),
            ("0004.mkv", b"fourth"),
            ("0004.JSON", json.dumps({"caption": "", "text": "a horse"})),
            ("0005.mp4", b"without a caption"),
            ("0006.txt", "without a video"),
            ("0007.json", "{}"),
            ("0001.jpg", b"another kind"),
        ],
    )
    items = read(path)
    assert captions_by_key(items) == {
        "000/0001.mp4": ["a cat", "a dog"],
        "000/v1.2/0002.avi.MOV": ["a bird"],
        "000/0003.webm": ["a fish", "a cat"],
        "000/0004.mkv": ["a horse"],
    }
    assert [item.path.read_bytes() for item in items] == [b"first", b"second", b"third", b"fourth"]
    assert [item.path.suffix for item in items] == [".mp4", ".mov", ".webm", ".mkv"]
    assert all(item.path.parent == tmp_path / "cache" for item in items)


def test_incomplete_samples_are_counted(tmp_path, read, caplog):
    files = [*sample("a"), ("b.mp4", b"b"), ("c.txt", "c")]
    assert len(read(write_shard(tmp_path / "0.tar", files))) == 1
    assert "0.tar: 2 samples lack a video or a caption" in caplog.text


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ("s/00.tar", ["00/a.mp4"]),
        ("s/{00..01}.tar", ["00/a.mp4", "01/a.mp4"]),
        ("s/{01..00}.tar", ["01/a.mp4", "00/a.mp4"]),
        ("s/*.tar", ["00/a.mp4", "01/a.mp4", "x/a.mp4"]),
        ("s/0?.tar", ["00/a.mp4", "01/a.mp4"]),
        ("s", ["00/a.mp4", "01/a.mp4", "x/a.mp4"]),
        ("{s,t}/00.tar", None),
        ("?/00.tar", ["s/00/a.mp4", "t/00/a.mp4"]),
        ("s/{00..02}.tar", None),
        ("s/y*.tar", None),
        ("s/gone.tar", None),
    ],
)
def test_shards_are_named_by_file_range_glob_or_folder(tmp_path, read, data, keys):
    for name in ("s/00.tar", "s/01.tar", "s/x.tar", "t/00.tar"):
        write_shard(tmp_path / name, sample("a"))
    (tmp_path / "s" / "notes.txt").touch()
    if keys is None:
        with pytest.raises(ValueError, match=r"\.tar: no such shard"):
            read(tmp_path / data)
    else:
        assert [item.key for item in read(tmp_path / data)] == keys


def test_ranges_expand_as_in_bash():
    assert expand_ranges("a.tar") == ["a.tar"]
    assert expand_ranges("{8..10}") == ["8", "9", "10"]
    assert expand_ranges("{08..10}") == ["08", "09", "10"]
    assert expand_ranges("{0..2}") == ["0", "1", "2"]
    assert expand_ranges("{1..003}") == ["001", "002", "003"]
    assert expand_ranges("{0..1}-{a,b}/{2..1}") == [
        f"{i}-{{a,b}}/{j}" for i in (0, 1) for j in (2, 1)
    ]
    with pytest.raises(ValueError, match="names more than 1000000 shards"):
        expand_ranges("{0..999999999999999999}.tar")


def test_second_run_does_not_unpack_again(tmp_path, read):
    path = write_shard(tmp_path / "0.tar", sample("a") + sample("b"))
    first = read(path)
    before = {path: path.stat().st_mtime_ns for path in cached(tmp_path)}
    assert read(path) == first
    assert {path: path.stat().st_mtime_ns for path in cached(tmp_path)} == before
    assert set(before) == {item.path for item in first}


def test_shard_that_changed_is_unpacked_anew(tmp_path, read):
    middle = b"x" * 200_000  # beyond what is looked at of a video
    shard = tmp_path / "0.tar"
    write_shard(shard, [("a.mp4", middle + b"1" + middle), ("a.txt", "a cat")])
    os.utime(shard, ns=(0, 0))
    (first,) = read(shard)
    write_shard(shard, [("a.mp4", middle + b"2" + middle), ("a.txt", "a cat")])
    (second,) = read(shard)
    assert second.path.read_bytes() == middle + b"2" + middle
    assert first.path.read_bytes() == middle + b"1" + middle


def test_same_names_in_two_shards_are_two_videos(tmp_path, read):
    write_shard(tmp_path / "s" / "0.tar", [("a.mp4", b"one"), ("a.txt", "1")])
    write_shard(tmp_path / "s" / "1.tar", [("a.mp4", b"two"), ("a.txt", "2")])
    for shard in (tmp_path / "s").iterdir():
        os.utime(shard, ns=(0, 0))
    items = read(tmp_path / "s")
    assert [item.path.read_bytes() for item in items] == [b"one", b"two"]
    assert captions_by_key(items) == {"0/a.mp4": ["1"], "1/a.mp4": ["2"]}


def test_what_a_killed_run_left_is_replaced(tmp_path, read):
    path = write_shard(tmp_path / "0.tar", sample("a"))
    (item,) = read(path)
    item.path.write_bytes(b"hal")  # what a power loss may leave of a file
    leftover = item.path.with_name(f"{item.path.name}.12345.tmp")
    leftover.write_bytes(b"half")
    assert read(path) == [item]
    assert item.path.read_bytes() == b"video a"
    assert cached(tmp_path) == [item.path]


def test_failure_while_unpacking_leaves_nothing(tmp_path, read, monkeypatch):
    path = write_shard(tmp_path / "0.tar", sample("a"))

    def full(source, file, length):
        file.write(source.read(3))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfileobj", full)
        with pytest.raises(ValueError, match=r"0\.tar: cannot be unpacked to .*No space left"):
            read(path)
    assert cached(tmp_path) == []
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    "name", ["../a.mp4", "x/../../a.mp4", "/tmp/a.mp4", "..\\a.mp4", "/../a.mp4", "x/../a.mp4"]
)
def test_name_that_leads_out_of_the_shard_is_passed_over(tmp_path, read, caplog, name):
    text = name.removesuffix("mp4") + "txt"
    path = write_shard(tmp_path / "s" / "0.tar", [(name, b"bad"), (text, "bad"), *sample("b")])
    before = set(tmp_path.rglob("*"))
    assert captions_by_key(read(path)) == {"0/b.mp4": ["a cat"]}
    assert "2 entries are links, devices or named outside" in caplog.text
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "cache"}
    assert {file.parent for file in new} == {tmp_path / "cache"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_passed_over(tmp_path, read, kind):
    (tmp_path / "secret").write_text("secret")
    links = [(f"a.{suffix}", kind, str(tmp_path / "secret")) for suffix in ("mp4", "txt", "json")]
    path = write_shard(tmp_path / "0.tar", sample("b"), links=links)
    assert captions_by_key(read(path)) == {"0/b.mp4": ["a cat"]}
    assert [path.read_bytes() for path in cached(tmp_path)] == [b"video b"]


def test_folder_that_is_a_link_does_not_lead_out(tmp_path, read):
    (tmp_path / "outside").mkdir()
    links = [("dir", tarfile.SYMTYPE, str(tmp_path / "outside"))]
    path = write_shard(tmp_path / "0.tar", sample("dir/a"), links=links)
    assert [item.key for item in read(path)] == ["0/dir/a.mp4"]
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (("a.json", "{"), r"0\.tar, 'a\.json': is not JSON"),
        (("a.json", "[1]"), r"'a\.json': must be an object"),
        (("a.txt", b"caf\xe9"), r"'a\.txt': is not UTF-8 text \(byte 3\)"),
        (("a.json", b'"\xe9"'), r"'a\.json': is not UTF-8 text \(byte 1\)"),
        (("a.webm", b"second"), r"'a\.webm': is a second video beside 'a\.mp4'"),
    ],
)
def test_malformed_sample_is_named(tmp_path, read, file, reason):
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"a"), file])
    with pytest.raises(ValueError, match=reason):
        read(path)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"caption": ["a cat", 1]}, "'a.json', `caption`, caption 2 is 1, not text"),
        ({"text": ["a cat", " "]}, "'a.json', `text`, caption 2 is blank"),
    ],
)
def test_caption_that_cannot_be_used_is_named_and_left_out(tmp_path, read, caplog, value, fault):
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"a"), ("a.json", json.dumps(value))])
    assert captions_by_key(read(path)) == {"0/a.mp4": ["a cat"]}
    assert f"0.tar: 1 caption is left out: {fault}" in caplog.text


def test_caption_of_absurd_size_is_refused(tmp_path, read, monkeypatch):
    monkeypatch.setattr("reelseek.training.datasets.webdataset.MAX_CAPTION_BYTES", 4)
    with pytest.raises(ValueError, match=r"'a\.txt': has 5 bytes, too many"):
        read(write_shard(tmp_path / "0.tar", sample("a")))


@pytest.mark.parametrize("num_bytes", [0, 1, 511, 512, 513, 1024, 1300, 1536, 2048, 2500])
def test_shard_that_is_cut_off_says_so(tmp_path, read, num_bytes):
    path = tmp_path / "0.tar"
    write_shard(path, [*sample("a"), ("b.mp4", b"x" * 700)])
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"0\.tar: is not a whole, uncompressed tar"):
        read(path)


def test_header_damaged_midway_is_not_taken_for_the_end(tmp_path, read):
    path = tmp_path / "0.tar"
    write_shard(path, sample("a") + sample("b"))
    content = bytearray(path.read_bytes())
    content[4 * 512 + 150] ^= 255  # within the checksum of the third header
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cut off or damaged at byte 2048"):
        read(path)


def test_compressed_shard_says_so(tmp_path, read):
    with tarfile.open(tmp_path / "0.tar", "w:gz"):
        pass
    with pytest.raises(ValueError, match="is not a whole, uncompressed tar"):
        read(tmp_path / "0.tar")


def test_shards_without_a_captioned_video_say_so(tmp_path, read):
    with pytest.raises(ValueError, match="holds no video with a caption"):
        read(write_shard(tmp_path / "0.tar", [("a.mp4", b"a")]))


@pytest.mark.parametrize("option", ["videos", "captions"])
def test_shards_bring_their_videos_and_captions_themselves(tmp_path, option):
    path = write_shard(tmp_path / "0.tar", sample("a"))
    with pytest.raises(ValueError, match=rf"leave out data\.{option}=X"):
        read_captioned(path, **{option: "X"})


def test_cache_folder_that_cannot_be_made_says_so(tmp_path):
    path = write_shard(tmp_path / "0.tar", sample("a"))
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"0\.tar: cannot be unpacked to .*file/cache"):
        read_captioned(path, cache_folder=tmp_path / "file" / "cache")
