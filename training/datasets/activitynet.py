"""ActivityNet Captions: the sentences of a video's events -> one paragraph by video id.

Krishna et al., Dense-Captioning Events in Videos, ICCV 2017: `train.json`, `val_1.json` and
`val_2.json`, `{"v_<YouTube id>": {"duration", "timestamps", "sentences"}}`. Retrieval takes a
video by its paragraph (Zhang et al., Cross-Modal and Hierarchical Modeling of Video and Text,
ECCV 2018) and `val_1` as its test (Luo et al., CLIP4Clip, https://arxiv.org/abs/2104.08860,
section 4.1, and its `dataloader_activitynet_retrieval.py`).
"""

from pathlib import Path

from reelseek.indexing.sources.captions import CaptionReader


def is_activitynet(value: object) -> bool:
    """Whether a JSON value is an object of videos with `sentences`."""
    first = next(iter(value.values()), None) if isinstance(value, dict) else None
    return isinstance(first, dict) and "sentences" in first


def read_paragraphs(path: Path, value: dict) -> dict[str, list[str]]:
    """One caption a video: its sentences in the order of the file, with a blank between.

    Args:
        path: the file, for messages.
        value: what it holds.

    Raises:
        ValueError: a video is malformed (its id is named).
    """
    captions = {}
    reader = CaptionReader(path)
    for video_id, entry in value.items():
        location = f"video {video_id!r}"
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, {location}: must be an object with `sentences`")
        sentences = reader.read(entry.get("sentences"), f"{location}, `sentences`")
        captions[video_id] = [" ".join(sentences)] if sentences else []
    reader.report()
    return captions
