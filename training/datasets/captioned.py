"""The value of `data.train=` or `data.val=`, in any known format -> captioned videos."""

import re
from collections.abc import Iterable
from pathlib import Path

from reelseek.indexing import VideoItem, collect_videos
from reelseek.indexing.sources.captions import unique
from reelseek.training.datasets import msrvtt, msvd, paragraphs, webdataset
from reelseek.training.datasets._files import iter_lines, read_json
from reelseek.training.datasets._video_folder import VideoFolder
from reelseek.training.shards.names import is_shards

FORMATS = """a .jsonl with `video` and `captions` a line; MSR-VTT's .csv lists or \
MSRVTT_data.json:SPLIT; a .txt list of video ids, as MSVD's; DiDeMo's *_data.json; ActivityNet \
Captions' .json; WebDataset's .tar shards (a file, a folder, a glob or {000..003})"""

_WITH_SPLIT = re.compile(r"(.+\.json):(\w+)", re.DOTALL | re.IGNORECASE)

_Captions = dict[str, list[str]]


def read_captioned(
    data: str,
    *,
    videos: str | None = None,
    captions: str | None = None,
    cache_folder: Path | None = None,
) -> list[VideoItem]:
    """Reads captioned videos from files as they are published.

    ==================================  ========  ===========================================
    `data`                              `videos`  `captions`
    ==================================  ========  ===========================================
    any `X.jsonl`                       no        no
    MSR-VTT `MSRVTT_train.9k.csv`       needed    needed: `MSRVTT_data.json`
    MSR-VTT `MSRVTT_JSFUSION_test.csv`  needed    not used: the list has its own sentences
    MSR-VTT `MSRVTT_data.json:train`    needed    not used
    MSVD `train_list.txt`               needed    needed: `raw-captions.pkl` or
                                                  `AllVideoDescriptions.txt`
    DiDeMo `test_data.json`             needed    no
    DiDeMo `test_list.txt`              needed    needed: `test_data.json`
    ActivityNet Captions `val_1.json`   needed    no
    WebDataset `X/{000..003}.tar`       no        no
    ==================================  ========  ===========================================

    Any list of ids, .csv or .txt, goes with any file of captions. After the official JSON of
    MSR-VTT comes a split, `train`, `validate` or `test`, unless the file holds one only.

    Args:
        data: the list, the file of captions or the shards.
        videos: the folder that the videos lie in, at any depth, under any suffix.
        captions: the captions of a list of ids.
        cache_folder: where videos are unpacked from shards; None for the user's cache folder.

    Returns:
        The videos in the order of the file, each with the `captions` that it has. The key is the
        path relative to `videos`, or the shard's name and the name in it. A listed video that has
        no file is returned too, with the path where it is expected.

    Raises:
        ValueError: a file is missing, malformed (file and line or entry are named) or of an
            unknown format, or an option is missing or too many.
    """
    if not data:
        raise ValueError(f"data is empty: name {FORMATS}")
    try:
        if is_shards(data):
            _refuse(data, videos=videos, captions=captions)
            return webdataset.read_shards(data, cache_folder=cache_folder)
        path, split = Path(data), None
        if not path.is_file() and (match := _WITH_SPLIT.fullmatch(data)):
            path, split = Path(match[1]), match[2]
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        if path.suffix.lower() == ".jsonl":
            _refuse(data, videos=videos, captions=captions)
            return collect_videos(data)
        ids, by_video = _read_list_or_captions(path, split, captions)
        if videos is None:
            raise ValueError(f"{path}: names videos without their folder: add data.videos=DIR")
        folder = VideoFolder(Path(videos))
    except OSError as error:
        raise ValueError(f"{data}: cannot be read ({error.strerror})") from error
    return _items(ids, by_video, where=str(path), folder=folder)


def _read_list_or_captions(
    path: Path, split: str | None, captions: str | None
) -> tuple[Iterable[str], _Captions]:
    """Returns the listed ids, and the captions of at least those."""
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix == ".csv":
        ids, own_captions = msrvtt.read_list(path)
        return ids, _captions_of_list(path, captions) if own_captions is None else own_captions
    if suffix == ".txt":
        ids = list(dict.fromkeys(line for _, line in iter_lines(path)))
        return ids, _captions_of_list(path, captions)
    if suffix != ".json":
        raise ValueError(f"{path}: is in no known format; known are {FORMATS}")
    value = read_json(path)
    by_video = _captions_of_json(path, value)
    if msrvtt.is_msrvtt(value):
        assert isinstance(value, dict)
        return msrvtt.split_ids(path, value, split), by_video
    if split is not None:
        raise ValueError(f"{path}:{split}: only MSR-VTT's JSON has splits: leave out :{split}")
    _refuse(str(path), captions=captions)
    return by_video, by_video


def _captions_of_list(path: Path, captions: str | None) -> _Captions:
    if captions is None:
        raise ValueError(
            f"{path}: lists videos without their captions: add data.captions=FILE, such as "
            "MSRVTT_data.json, raw-captions.pkl or AllVideoDescriptions.txt"
        )
    file = Path(captions)
    if not file.is_file():
        raise ValueError(f"data.captions={captions}: no such file")
    if file.suffix.lower() in (".pkl", ".pickle"):
        return msvd.read_pickle(file)
    if file.suffix.lower() == ".txt":
        return msvd.read_descriptions(file)
    if file.suffix.lower() == ".json":
        return _captions_of_json(file, read_json(file))
    raise ValueError(f"data.captions={captions}: must be a .json, .pkl or .txt of captions")


def _captions_of_json(path: Path, value: object) -> _Captions:
    if isinstance(value, dict) and msrvtt.is_msrvtt(value):
        return msrvtt.read_captions(path, value)
    if isinstance(value, list) and paragraphs.is_didemo(value):
        return paragraphs.read_didemo(path, value)
    if isinstance(value, dict) and paragraphs.is_activitynet(value):
        return paragraphs.read_activitynet(path, value)
    raise ValueError(f"{path}: is JSON of no known format; known are {FORMATS}")


def _items(
    ids: Iterable[str], by_video: _Captions, *, where: str, folder: VideoFolder
) -> list[VideoItem]:
    items = [
        folder.item(video_id, unique(by_video.get(video_id, [])), where=where) for video_id in ids
    ]
    if not items:
        raise ValueError(f"{where}: holds no video")
    return items


def _refuse(data: str, **options: str | None) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{data}: brings its {name} itself: leave out data.{name}={value}")
