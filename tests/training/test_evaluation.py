import pytest

from reelseek.configs.composition import compose
from reelseek.configs.train_schema import TrainConfig
from reelseek.indexing import VideoItem
from reelseek.ranking.metrics import retrieval_metrics
from reelseek.training.evaluation import MAX_BANK, Evaluator, sample_bank
from reelseek.training.lists import CaptionedList
from tests.conftest import COLOURS


@pytest.fixture
def evaluator(colour_model, tmp_path):
    arguments = [
        *("eval_only=true", "data.val=[val.jsonl]", f"data.cache={tmp_path / 'cache'}"),
        *("sampling.num_frames=4", "decoding.workers=1", "precision=fp32", "device=cpu"),
    ]
    return Evaluator(compose(TrainConfig, arguments), colour_model)


def captioned(write_video, captions_by_colour):
    """A video of each colour, with these captions."""
    return [
        VideoItem(name, write_video(f"{name}.mp4", [COLOURS[name]] * 4), {"captions": captions})
        for name, captions in captions_by_colour.items()
    ]


def metrics_of(evaluator, videos):
    similarity = evaluator.embed_texts(videos.captions) @ videos.embeddings.T
    return retrieval_metrics(similarity.numpy(), videos.caption_video)


def test_metrics_worked_out_by_hand(write_video, evaluator):
    items = captioned(
        write_video,
        {"red": ["red", "a red wall"], "green": ["green", "red"], "blue": ["blue and blue"]},
    )
    videos = evaluator.embed_videos(CaptionedList(items, []))
    assert videos.captions == ["red", "a red wall", "green", "red", "blue and blue"]
    assert videos.caption_video.tolist() == [0, 0, 1, 1, 2]
    assert videos.embeddings.argmax(dim=1).tolist() == [0, 1, 2]
    assert videos.failed == []
    # To the model, "red" of the green video is nearest to the red one, and then to the green one
    # (whose red is 30 of a length of 204) rather than to the blue one (30 of 224): rank 2. The
    # other four captions find theirs first; and each video finds one of its own first but the
    # red one, to which the green one's "red" is as near as its own: rank 2, by the tie.
    assert metrics_of(evaluator, videos) == {
        "t2v": {"R@1": 80.0, "R@5": 100.0, "R@10": 100.0, "MdR": 1.0, "MnR": 1.2},
        "v2t": {"R@1": 66.67, "R@5": 100.0, "R@10": 100.0, "MdR": 1.0, "MnR": 1.33},
        "num_queries": 5,
        "num_gallery": 3,
    }


def test_broken_video_is_named_and_its_captions_are_left_out(write_video, evaluator, tmp_path):
    red, blue = captioned(write_video, {"red": ["red"], "blue": ["blue"]})
    broken = VideoItem("green", tmp_path / "green.mp4", {"captions": ["green", "green"]})
    videos = evaluator.embed_videos(CaptionedList([red, broken, blue], []))
    assert videos.failed == [(str(tmp_path / "green.mp4"), "no such file or directory")]
    assert videos.captions == ["red", "blue"]
    assert videos.caption_video.tolist() == [0, 1]
    assert metrics_of(evaluator, videos)["t2v"]["R@1"] == 100.0


def test_nothing_but_broken_videos_is_an_error(evaluator, tmp_path):
    items = [VideoItem(name, tmp_path / name, {"captions": ["red"]}) for name in ("a", "b")]
    with pytest.raises(ValueError, match=r"none of 2 videos can be decoded; .*no such file"):
        evaluator.embed_videos(CaptionedList(items, []))


def test_a_small_bank_is_whole():
    captions = [f"film {number}" for number in range(MAX_BANK)]
    assert sorted(sample_bank(captions)) == sorted(captions)


def test_a_large_bank_is_a_sample_that_depends_on_no_order_and_no_seed():
    captions = [f"film {number}" for number in range(5 * MAX_BANK)]
    sample = sample_bank(captions)
    assert len(set(sample)) == MAX_BANK
    assert sample_bank(captions[::-1]) == sample
    # From all of the list: a fifth of each half, to within five deviations.
    first_half = sum(int(caption.split()[1]) < len(captions) // 2 for caption in sample)
    assert abs(first_half - MAX_BANK / 2) < 5 * (MAX_BANK / 4) ** 0.5


def test_a_sample_stays_where_captions_are_added():
    captions = [f"film {number}" for number in range(3 * MAX_BANK)]
    before, after = (set(sample_bank(some)) for some in (captions[: 2 * MAX_BANK], captions))
    assert after & set(captions[: 2 * MAX_BANK]) <= before
