"""DiDeMo: the descriptions of a video's moments -> one paragraph by video name.

Hendricks et al., Localizing Moments in Video with Natural Language, ICCV 2017: `train_data.json`,
`val_data.json` and `test_data.json`, each a list of described moments, several a video. Retrieval
takes a video by its paragraph: all its descriptions, joined (Luo et al., CLIP4Clip,
https://arxiv.org/abs/2104.08860, section 4.1, and its `dataloader_didemo_retrieval.py`).
"""

from pathlib import Path

from reelseek.indexing.sources.captions import CaptionReader
from reelseek.training.datasets._files import field


def is_didemo(value: object) -> bool:
    """Whether a JSON value is a list of described moments: `[{"video", "description", ...}]`."""
    return isinstance(value, list) and (
        not value or (isinstance(value[0], dict) and {"video", "description"} <= value[0].keys())
    )


def read_paragraphs(path: Path, value: list) -> dict[str, list[str]]:
    """One caption a video: its descriptions in the order of the file, with a blank between.

    The order is CLIP4Clip's. It is neither that of the ids nor that of the moments.

    Args:
        path: the file, for messages.
        value: what it holds.

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
    return {
        video: [" ".join(sentences)] if sentences else []
        for video, sentences in descriptions.items()
    }
