import json
import logging
import shutil

import numpy as np
import pytest
import torch

import reelseek.training.row_store
import reelseek.vision.decoding.frames
from reelseek.indexing import VideoItem
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.frame_cache import FrameCache, PixelEncoder
from reelseek.training.towers import split_image_tower
from reelseek.vision import FrameEncoder, FrameSettings, UniformSampler, VideoDecodeError
from tests.conftest import COLOURS, InProcessPool
from tests.training import tiny_run

RED, GREEN, BLUE = COLOURS.values()
PREPROCESSING = tiny_run.make_model().preprocessing
DESCRIPTION = {"sampling": {"num_frames": 3}}


class CountingPool(InProcessPool):
    """Knows what it has decoded; the machine fails at video `fails_at`, from 0."""

    def __init__(self, *, num_frames=3, fails_at=None):
        super().__init__(
            FrameSettings(UniformSampler(num_frames), PREPROCESSING), iter_frames=self.watch
        )
        self.fails_at = fails_at
        self.decoded = []

    def watch(self, path, settings, **options):
        if len(self.decoded) == self.fails_at:
            raise MemoryError("as if the process was killed here")
        self.decoded.append(path.name)
        return reelseek.vision.decoding.frames.iter_frames(path, settings, **options)


@pytest.fixture
def items(write_video):
    """Videos of one, two and four frames of which three are looked at."""
    return [
        item(write_video("red.mp4", [RED])),
        item(write_video("green.mp4", [GREEN, BLUE])),
        item(write_video("blue.mp4", [BLUE, RED, GREEN, RED])),
    ]


def item(path, key=None):
    return VideoItem(key or path.name, path)


@pytest.fixture
def fill(tmp_path):
    """Fills a cache that is opened anew each time; returns the cache, what `fill` gives, and what
    was decoded."""

    def fill_it(items, *, description=DESCRIPTION, pool=None, encoder=None, stop=None):
        cache = FrameCache(tmp_path / "cache", description)
        pool = pool or CountingPool()
        contents = cache.fill(
            items,
            encoder=encoder or PixelEncoder(PREPROCESSING),
            pool=pool,
            stop=StopRequest() if stop is None else stop,
            show_progress=False,
        )
        return cache, contents, pool.decoded

    return fill_it


def decoded_pixels(path, *, num_frames=3):
    """The oracle: what comes of a video without a cache."""
    settings = FrameSettings(UniformSampler(num_frames), PREPROCESSING)
    parts = list(reelseek.vision.decoding.frames.iter_frames(path, settings, decoders=("pyav",)))
    pixels = torch.cat([part.pixels for part in parts])
    return pixels[torch.from_numpy(np.concatenate([part.rows for part in parts]))].numpy()


def keys(items):
    return {item.key for item in items}


def test_pixels_are_those_that_come_of_the_video(fill, items):
    cache, contents, _ = fill(items)
    assert contents.failed == []
    videos = cache.videos(contents.contents)
    assert videos.keys() == keys(items)
    for own in items:
        frames = videos[own.key].frames
        assert (videos[own.key].key, frames.dtype) == (own.key, np.uint8)
        assert np.array_equal(frames, decoded_pixels(own.path))
    assert len({len(video.frames) for video in videos.values()}) > 1


def test_features_are_those_of_the_trunk(fill, items):
    model = tiny_run.make_model()
    trunk, _ = split_image_tower(model.clip)
    encoder = FrameEncoder(model, device="cpu", precision="fp32", trunk=trunk)
    cache, contents, _ = fill(items, encoder=encoder)
    videos = cache.videos(contents.contents)
    for own in items:
        frames = videos[own.key].frames
        with torch.inference_mode():
            pixels = torch.from_numpy(decoded_pixels(own.path))
            expected = trunk(model.preprocessing.normalize(pixels)).numpy()
        assert frames.dtype == np.float16
        assert frames.shape == (len(pixels), tiny_run.WIDTH)
        np.testing.assert_allclose(frames.astype(np.float32), expected, rtol=2e-3, atol=2e-4)


def test_features_beyond_float16_are_the_nearest_that_it_holds(fill, items):
    class Loud(PixelEncoder):
        def submit(self, pixels):
            future = super().submit(pixels)
            future = type(future)()
            future.set_result(torch.tensor([[1e9, -1e9, 1.0]]).repeat(len(pixels), 1))
            return future

    cache, contents, _ = fill(items, encoder=Loud(PREPROCESSING))
    for video in cache.videos(contents.contents).values():
        assert np.array_equal(video.frames[0], np.float16([65504, -65504, 1]))


def test_frames_are_memory_mapped(fill, items):
    cache, contents, _ = fill(items)
    for video in cache.videos(contents.contents).values():
        assert isinstance(video.frames, np.memmap)
        assert not video.frames.flags.writeable


def test_second_fill_decodes_nothing(fill, items):
    _, first, decoded = fill(items)
    assert sorted(decoded) == sorted(keys(items))
    cache, second, decoded = fill(items)
    assert decoded == []
    assert second == first
    assert cache.videos(second.contents).keys() == keys(items)


def test_content_under_another_name_is_decoded_once(fill, items, tmp_path):
    copies = [
        item(shutil.copy(own.path, tmp_path / f"copy-{own.key}"))
        for own in items  # within one collection
    ]
    cache, contents, decoded = fill([*items, *copies])
    assert len(decoded) == len(items)
    videos = cache.videos(contents.contents)
    for own, copy in zip(items, copies, strict=True):
        assert np.array_equal(videos[own.key].frames, videos[copy.key].frames)
    moved = item(items[0].path.rename(tmp_path / "moved.mp4"))
    assert fill([moved])[2] == []  # and from one run to the next


def test_new_videos_alone_are_decoded(fill, items):
    fill(items[:1])
    cache, contents, decoded = fill(items)
    assert sorted(decoded) == sorted(keys(items[1:]))
    assert np.array_equal(
        cache.videos(contents.contents)["red.mp4"].frames, decoded_pixels(items[0].path)
    )


@pytest.mark.parametrize(
    "description", [{"sampling": {"num_frames": 2}}, DESCRIPTION | {"trunk": "ab"}], ids=str
)
def test_frames_that_are_made_in_another_way_are_kept_apart(fill, items, description):
    first, _, _ = fill(items)
    other, contents, decoded = fill(items, description=description, pool=CountingPool(num_frames=2))
    assert other.folder != first.folder
    assert sorted(decoded) == sorted(keys(items))
    for own in items:
        expected = decoded_pixels(own.path, num_frames=2)
        assert np.array_equal(other.videos(contents.contents)[own.key].frames, expected)
    assert fill(items)[2] == []
    assert json.loads((other.folder / "videos.jsonl").read_text().split("\n")[0]) == {
        "description": description
    }


def test_order_within_a_description_means_nothing(tmp_path):
    one, other = FrameCache(tmp_path, {"a": 1, "b": 2}), FrameCache(tmp_path, {"b": 2, "a": 1})
    assert one.folder == other.folder


def test_changed_video_is_decoded_anew(fill, items, write_video):
    _, before, _ = fill(items)
    changed = item(write_video("red.mp4", [BLUE, GREEN]))
    cache, contents, decoded = fill([changed, *items[1:]])
    assert decoded == ["red.mp4"]
    assert contents.contents["red.mp4"] != before.contents["red.mp4"]
    frames = cache.videos(contents.contents)["red.mp4"].frames
    assert np.array_equal(frames, decoded_pixels(changed.path))


@pytest.mark.parametrize("num_done", [1, 2])
def test_what_was_saved_before_a_crash_is_kept(fill, items, monkeypatch, num_done):
    monkeypatch.setattr(
        reelseek.training.row_store, "_PART_BYTES", 0
    )  # each video is saved at once
    with pytest.raises(MemoryError, match="killed here"):
        fill(items, pool=CountingPool(fails_at=num_done))
    cache, contents, decoded = fill(items)
    assert 0 < len(decoded) <= len(items) - num_done + 1  # at most one was in hand
    videos = cache.videos(contents.contents)
    for own in items:
        assert np.array_equal(videos[own.key].frames, decoded_pixels(own.path))


def test_part_that_the_list_does_not_name_is_made_anew(fill, items, monkeypatch):
    fill(items[:1])

    def die(path, content):
        raise MemoryError("as if the process was killed here")

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(reelseek.training.row_store, "write_atomically", die)
        fill(items)
    cache = FrameCache(fill(items[:1])[0].folder.parent, DESCRIPTION)
    assert len(list(cache.folder.glob("part-*.npy"))) == 2
    cache, contents, decoded = fill(items)
    assert sorted(decoded) == sorted(keys(items[1:]))
    videos = cache.videos(contents.contents)
    for own in items:
        assert np.array_equal(videos[own.key].frames, decoded_pixels(own.path))
    assert len(list(cache.folder.glob("part-*.npy"))) == 2


def test_stop_keeps_what_is_in_hand(fill, items):
    stop = StopRequest()

    class StoppingPool(CountingPool):
        def watch(self, path, settings, **options):
            stop.signal_number = 15
            return super().watch(path, settings, **options)

    _, contents, decoded = fill(items, pool=StoppingPool(), stop=stop)
    assert 1 <= len(decoded) < len(items)
    assert sorted(contents.contents) == sorted(decoded)
    assert {reason for _, reason in contents.failed} == {"not decoded"}
    assert sorted(fill(items)[2]) == sorted(keys(items) - set(decoded))


def test_failed_videos_are_named_with_their_reasons(fill, items, tmp_path, caplog):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video" * 50)
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    bad = [item(broken), item(tmp_path / "none.mp4"), item(folder)]
    with caplog.at_level(logging.WARNING):
        cache, contents, _ = fill([bad[0], items[0], *bad[1:]])
    assert contents.contents.keys() == {"red.mp4"}
    reasons = dict(contents.failed)
    assert reasons.keys() == {str(own.path) for own in bad}
    assert reasons[str(tmp_path / "none.mp4")] == "no such file or directory"
    assert reasons[str(folder)] == "is a directory"
    assert reasons[str(broken)] not in ("", "not decoded")
    assert f"{broken}: failed: {reasons[str(broken)]}" in caplog.text
    assert cache.videos(contents.contents).keys() == {"red.mp4"}


def test_failed_video_is_tried_again(fill, items):
    class Failing(CountingPool):
        def watch(self, path, settings, **options):
            raise VideoDecodeError("a bad day")

    assert fill(items, pool=Failing())[1].failed == [(str(own.path), "a bad day") for own in items]
    assert fill(items)[1].failed == []


def test_partial_video_is_kept_with_a_warning(fill, items, caplog):
    class Partial(CountingPool):
        def watch(self, path, settings, **options):
            frames = next(
                iter(reelseek.vision.decoding.frames.iter_frames(path, settings, **options))
            )
            yield reelseek.vision.decoding.frames.Frames(
                frames.pixels, frames.times_seconds, frames.rows
            )
            raise VideoDecodeError("the rest is lost")

    cache, contents, _ = fill(items, pool=Partial())
    assert contents.failed == []
    assert "the rest is lost" in caplog.text
    assert cache.videos(contents.contents).keys() == keys(items)


def test_cache_that_cannot_be_written_is_one_line(items, tmp_path):
    (tmp_path / "file").touch()
    cache = FrameCache(tmp_path / "file", DESCRIPTION)
    with pytest.raises(ValueError, match=r"cannot be written.*data\.cache=DIR") as caught:
        cache.fill(
            items, encoder=PixelEncoder(PREPROCESSING), pool=CountingPool(), stop=StopRequest()
        )
    assert str(tmp_path / "file") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        "text",
        "empty",
    ],
)
def test_damaged_part_is_named_with_the_remedy(fill, items, damage):
    cache, contents, _ = fill(items)
    (part,) = cache.folder.glob("part-*.npy")
    part.unlink() if damage == "missing" else part.write_bytes(b"text" * (damage == "text"))
    with pytest.raises(ValueError, match=f"{part.name} is missing or damaged: delete") as caught:
        fill(items)[0].videos(contents.contents)
    assert "\n" not in str(caught.value)


def test_part_that_was_cut_is_named_with_the_remedy(fill, items):
    cache, contents, _ = fill(items)
    (part,) = cache.folder.glob("part-*.npy")
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is missing or damaged: delete"):
        fill(items)[0].videos(contents.contents)


@pytest.mark.parametrize("line", ['["cut', "[]", '{"a": 1}', '["a", 0]'])
def test_damaged_list_is_named_with_the_remedy(fill, items, line):
    cache, contents, _ = fill(items)
    with (cache.folder / "videos.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=f"{cache.folder}.* damaged: delete"):
        fill(items)[0].videos(contents.contents)


def test_part_that_holds_less_than_the_list_says_is_named(fill, items):
    cache, contents, _ = fill(items)
    (part,) = cache.folder.glob("part-*.npy")
    np.save(part, np.load(part)[:1])
    with pytest.raises(ValueError, match="damaged: delete"):
        fill(items)[0].videos(contents.contents)


def test_video_that_the_list_does_not_name_is_one_line(fill, items):
    cache, _, _ = fill(items)
    with pytest.raises(ValueError, match=f"{cache.folder} is damaged: delete the folder"):
        cache.videos({"other.mp4": "00"})


def test_times_are_kept_with_the_frames(fill, items):
    cache, contents, _ = fill(items)
    for own in items:
        video = cache.videos(contents.contents)[own.key]
        settings = FrameSettings(UniformSampler(3), PREPROCESSING)
        parts = list(
            reelseek.vision.decoding.frames.iter_frames(own.path, settings, decoders=("pyav",))
        )
        times = np.concatenate([part.times_seconds for part in parts])
        rows = np.concatenate([part.rows for part in parts])
        assert video.times_seconds.tolist() == times[rows].tolist()
        assert video.duration_seconds == pytest.approx(len(set(times)) / 8, abs=0.5)


def test_frames_without_times_are_made_again_where_times_are_needed(tmp_path, items):
    cache = FrameCache(tmp_path / "cache", DESCRIPTION)
    options = {"encoder": PixelEncoder(PREPROCESSING), "stop": StopRequest()}
    contents = cache.fill(items, pool=CountingPool(), show_progress=False, **options)
    path = cache.folder / "videos.jsonl"
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    older = [first, *(line[:4] for line in lines)]  # as they were written before times were kept
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    cache = FrameCache(tmp_path / "cache", DESCRIPTION)
    for with_times, expected in ((False, set()), (True, keys(items)), (True, set())):
        pool = CountingPool()
        assert cache.fill(items, pool=pool, with_times=with_times, **options) == contents
        assert set(pool.decoded) == expected
    for video in cache.videos(contents.contents).values():
        assert len(video.times_seconds) == len(video.frames)
