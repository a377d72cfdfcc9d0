"""Captions of a video's moments -> one paragraph by video id: DiDeMo and ActivityNet Captions.

Retrieval takes a video by its paragraph: all its sentences, joined (Zhang et al., Cross-Modal and
Hierarchical Modeling of Video and Text, ECCV 2018; Luo et al., CLIP4Clip,
https://arxiv.org/abs/2104.08860, section 4.1, and its `dataloader_didemo_retrieval.py` and
`dataloader_activitynet_retrieval.py`).

DiDeMo (Hendricks et al., Localizing Moments in Video with Natural Language, ICCV 2017) publishes
`train_data.json`, `val_data.json` and `test_data.json`, each a list of described moments, several a
video. ActivityNet Captions (Krishna et al., Dense-Captioning Events in Videos, ICCV 2017) publishes
`train.json`, `val_1.json` (the test of retrieval) and `val_2.json`, `{"v_<YouTube id>":
{"duration", "timestamps", "sentences"}}`.
"""

from pathlib import Path

from reelseek.indexing.sources.captions import CaptionReader
from reelseek.training.datasets._files import field


def is_didemo(value: object) -> bool:
    """Whether a JSON value is a list of described moments: `[{"video", "description", ...}]`."""
    return isinstance(value, list) and (
        not value or (isinstance(value[0], dict) and {"video", "description"} <= value[0].keys())
    )


def is_activitynet(value: object) -> bool:
    """Whether a JSON value is an object of videos with `sentences`."""
    first = next(iter(value.values()), None) if isinstance(value, dict) else None
    return isinstance(first, dict) and "sentences" in first


def read_didemo(path: Path, value: list) -> dict[str, list[str]]:
    """Returns one caption a video: its descriptions in the order of the file, with a blank between.

    The order is CLIP4Clip's. It is neither that of the ids nor that of the moments.

    Args:
        path: the file, for messages.
        value: its JSON.

    Raises:
        ValueError: an entry is malformed (its number is named).
    """
    descriptions: dict[str, list[str]] = {}
    reader = CaptionReader(path)
    for number, entry in enumerate(value, start=1):
        location = f"entry {number}"
        sentences = descriptions.setdefault(field(entry, "video", f"{path}, {location}"), [])
        sentences += reader.read([entry.get("description")], f"{location}, `description`")
    reader.report()
    return _paragraphs(descriptions)


def read_activitynet(path: Path, value: dict) -> dict[str, list[str]]:
    """Returns one caption a video: its sentences in the order of the file, with a blank between.

    Args:
        path: the file, for messages.
        value: its JSON.

    Raises:
        ValueError: a video is malformed (its id is named).
    """
    sentences = {}
    reader = CaptionReader(path)
    for video_id, entry in value.items():
        location = f"video {video_id!r}"
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, {location}: must be an object with `sentences`")
        sentences[video_id] = reader.read(entry.get("sentences"), f"{location}, `sentences`")
    reader.report()
    return _paragraphs(sentences)


def _paragraphs(sentences: dict[str, list[str]]) -> dict[str, list[str]]:
    return {video_id: [" ".join(own)] if own else [] for video_id, own in sentences.items()}
