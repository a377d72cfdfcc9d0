from pathlib import Path

import numpy as np
import pytest
import torch

from reelseek.indexing.building.segmenting import VideoTag, measure_spread, segment_video
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


def test_spread_needs_several_videos():
    rng = np.random.default_rng(0)
    videos = [encoded([row / np.linalg.norm(row)]) for row in rng.normal(size=(8, D))]
    assert measure_spread(videos[:7]) is None
    assert measure_spread(videos) == pytest.approx(measure_spread(videos[::-1]))
    assert measure_spread(videos) > 0
