"""MSR-VTT: its JSON of captions and the CSV lists of its splits -> captions by video id.

The official JSON holds 10,000 videos with 20 sentences each (Xu et al., MSR-VTT: A Large Video
Description Dataset for Bridging Video and Language, CVPR 2016). The retrieval splits are lists of
ids: `MSRVTT_train.9k.csv` and `MSRVTT_train.7k.csv`, and the 1k-A test `MSRVTT_JSFUSION_test.csv`,
which carries one sentence a video (Yu et al., A Joint Sequence Fusion Model for Video Question
Answering and Retrieval, ECCV 2018).
"""

import csv
import io
from pathlib import Path

from reelseek.indexing.sources.captions import CaptionReader
from reelseek.training.datasets._files import field, read_text


def is_msrvtt(value: object) -> bool:
    """Whether a JSON value is the official file: `{"info", "videos", "sentences"}`."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("videos"), list)
        and isinstance(value.get("sentences"), list)
    )


def read_list(path: Path) -> tuple[list[str], dict[str, list[str]] | None]:
    """Reads a CSV list.

    Returns:
        The video ids, and the captions by id where the list has a column `sentence`.

    Raises:
        ValueError: it has no column `video_id`, or a row is malformed (its line is named).
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
    captions: dict[str, list[str]] = {}
    captions_of = CaptionReader(path)
    try:
        columns = list(reader.fieldnames or [])
        if "video_id" not in columns:
            raise ValueError(f"{path}: needs a column `video_id`, has {columns}")
        for row in reader:
            location = f"line {reader.line_num}"
            where = f"{path}, {location}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: must have {len(columns)} fields, as the first line has")
            sentences = captions.setdefault(field(row, "video_id", where).strip(), [])
            if "sentence" in columns:
                sentences += captions_of.read([row["sentence"]], f"{location}, `sentence`")
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.reader.line_num}: is not CSV ({error})") from error
    captions_of.report()
    return list(captions), captions if "sentence" in columns else None


def read_captions(path: Path, value: dict) -> dict[str, list[str]]:
    """Returns every sentence of the official JSON by video id, in the order of the file.

    Args:
        path: the file, for messages.
        value: its JSON.

    Raises:
        ValueError: a sentence is of no video (its number is named).
    """
    captions: dict[str, list[str]] = {}
    reader = CaptionReader(path)
    for number, entry in enumerate(value["sentences"], start=1):
        location = f"sentence {number}"
        sentences = captions.setdefault(field(entry, "video_id", f"{path}, {location}"), [])
        sentences += reader.read([entry.get("caption")], f"{location}, `caption`")
    reader.report()
    return captions


def split_ids(path: Path, value: dict, split: str | None) -> list[str]:
    """Returns the video ids of one split of the official JSON.

    Args:
        path: the file, for messages.
        value: its JSON.
        split: `train`, `validate` or `test`; None for a file that holds one split only.

    Raises:
        ValueError: the split is not there, none is named though there are several, or a video is
            malformed (its number is named).
    """
    by_split: dict[str, list[str]] = {}
    for number, entry in enumerate(value["videos"], start=1):
        where = f"{path}, video {number}"
        ids = by_split.setdefault(field(entry, "split", where), [])
        ids.append(field(entry, "video_id", where))
    choices = ", ".join(f"{path}:{name}" for name in by_split)
    if split is None and len(by_split) > 1:
        raise ValueError(f"{path}: holds {len(by_split)} splits; name one: {choices}")
    if split is not None and split not in by_split:
        raise ValueError(f"{path}:{split}: has no such split; there are {choices or 'none'}")
    ids = [video_id for name in by_split if split in (None, name) for video_id in by_split[name]]
    return list(dict.fromkeys(ids))
