from pathlib import Path

import numpy as np
import torch

from reelseek.indexing.building.segmenting import (
    NUM_VIDEOS_FOR_SPREAD,
    VideoTag,
    measure_spread,
    segment_video,
    spread_sample,
)
from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.manifest import IndexSettings
from reelseek.indexing.store.videos import FileSignature

D = 4
SIGNATURE = FileSignature(1, 2, "content")


def settings(**segments):
    return IndexSettings({"name": "given"}, "f", D, sampling={}, segments=segments)


def encoded(embeddings, *, outcome="ok", duration_seconds=None, **values):
    """A video with a frame a second."""
    item = VideoItem("a.mp4", Path("/videos/a.mp4"), {"title": "A"}, root="root")
    embeddings = torch.tensor(np.array(embeddings), dtype=torch.float32)
    duration_seconds = float(len(embeddings)) if duration_seconds is None else duration_seconds
    times = np.arange(len(embeddings), dtype=np.float64)
    return EncodedVideo(
        VideoTag(item, SIGNATURE), embeddings, times, duration_seconds, outcome, "", **values
    )


def mean(frames):
    return torch.nn.functional.normalize(frames.mean(dim=0), dim=0)


TWO_SCENES = [[1, 0, 0, 0]] * 4 + [[0, 1, 0, 0]] * 4


def test_scenes_are_cut_where_frames_differ():
    video, rows = segment_video(encoded(TWO_SCENES), settings(kind="scenes"), spread=1.0, pool=mean)
    assert video.spans.tolist() == [[0.0, 3.5], [3.5, 8.0]]
    assert (video.key, video.root, video.path) == ("a.mp4", "root", "/videos/a.mp4")
    assert (video.signature, video.metadata, video.num_frames) == (SIGNATURE, {"title": "A"}, 8)
    assert len(rows) == video.num_rows == 1 + 2 + 8
    np.testing.assert_allclose(rows[0], [0.5**0.5, 0.5**0.5, 0, 0], rtol=1e-6)
    assert rows[1:3].tolist() == [TWO_SCENES[0], TWO_SCENES[-1]]
    assert rows[3:].tolist() == TWO_SCENES


def test_windows_and_shots_do_not_look_at_frames():
    windows = settings(kind="windows", seconds=4.0, overlap_seconds=2.0)
    video, _ = segment_video(encoded(TWO_SCENES), windows, spread=0.0, pool=mean)
    assert video.spans.tolist() == [[0.0, 4.0], [2.0, 6.0], [4.0, 8.0]]
    shots = np.array([[0.0, 3.0], [3.0, 8.0]])
    video, _ = segment_video(encoded(TWO_SCENES, shot_spans=shots), windows, spread=0.0, pool=mean)
    assert video.spans.tolist() == shots.tolist()


def test_broken_video_ends_with_its_last_frame():
    windows = settings(kind="windows", seconds=10.0, overlap_seconds=0.0)
    video, _ = segment_video(
        encoded(TWO_SCENES, outcome="partial", duration_seconds=60.0),
        windows,
        spread=0.0,
        pool=mean,
    )
    assert video.spans.tolist() == [[0.0, 7.0]]


def test_spread_needs_several_videos_and_no_order():
    rng = np.random.default_rng(0)
    videos = [encoded([row / np.linalg.norm(row)]) for row in rng.normal(size=(8, D))]
    for number, video in enumerate(videos):
        video.tag.signature = FileSignature(1, 2, f"content {number}")
    assert measure_spread(videos[:7]) is None
    orders = [rng.permutation(8) for _ in range(20)]
    assert {measure_spread([videos[i] for i in order]) for order in orders} == {
        measure_spread(videos)
    }
    assert measure_spread(videos) > 0


def test_sample_for_the_spread_is_the_same_whatever_is_listed_first_and_wherever_it_lies():
    items = [VideoItem(f"{n}.mp4", Path(f"/videos/{n}.mp4"), root="root") for n in range(60)]
    moved = [VideoItem(item.key, Path("/elsewhere"), root="other") for item in items]
    chosen, rest = spread_sample(items)
    assert len(chosen) == NUM_VIDEOS_FOR_SPREAD
    assert sorted([*chosen, *rest], key=items.index) == items
    for others in (items[::-1], moved):
        assert {item.key for item in spread_sample(others)[0]} == {item.key for item in chosen}
    assert spread_sample(chosen) == (chosen, [])
