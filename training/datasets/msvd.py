"""MSVD: its captions, as a pickle or as the original text file -> captions by video id.

Chen and Dolan, Collecting Highly Parallel Data for Paraphrase Evaluation, ACL 2011. An id is a
YouTube id, the first and the last second: `-4wsuPCjDBc_5_15`. The splits `train_list.txt`,
`val_list.txt` and `test_list.txt` have 1,200, 100 and 670 of them.
"""

import pickle
import re
from pathlib import Path
from typing import NoReturn

from reelseek.indexing.sources.captions import CaptionReader
from reelseek.training.datasets._files import iter_lines

_VIDEO_ID = re.compile(r".+_\d+_\d+")


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists and strings; refuses a pickle that names anything else."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'[:60]!r}, and could run code")

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an object outside of itself")


def read_pickle(path: Path) -> dict[str, list[str]]:
    """Reads `raw-captions.pkl`: a dictionary of id to lists of words, one list a caption.

    Nothing in the file can be run: it may hold strings, lists and dictionaries only.

    Raises:
        ValueError: it is not such a pickle, or an entry is malformed (its id is named).
    """
    try:
        with path.open("rb") as file:
            value = _PlainUnpickler(file, encoding="utf-8").load()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"{path}: is not a pickle of plain captions ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must hold a dictionary of captions, is {value!r:.60}")
    captions = {}
    reader = CaptionReader(path)
    for number, (video_id, sentences) in enumerate(value.items(), start=1):
        if not isinstance(video_id, str) or not isinstance(sentences, list):
            raise ValueError(f"{path}, entry {number}: must be a video id with a list of captions")
        captions[video_id] = reader.read([_joined(words) for words in sentences], repr(video_id))
    reader.report()
    return captions


def read_descriptions(path: Path) -> dict[str, list[str]]:
    """Reads `AllVideoDescriptions.txt`: `id description` a line, after lines that begin with `#`.

    Raises:
        ValueError: a line does not begin with a video id (its number is named).
    """
    captions: dict[str, list[str]] = {}
    reader = CaptionReader(path)
    for where, line in iter_lines(path):
        if line.startswith("#"):
            continue
        video_id, *sentence = line.split(maxsplit=1)
        if not _VIDEO_ID.fullmatch(video_id):
            raise ValueError(
                f"{where}: must begin with an id such as -4wsuPCjDBc_5_15, is {line[:60]!r}"
            )
        location = where.removeprefix(f"{path}, ")
        captions.setdefault(video_id, []).extend(reader.read(sentence, location))
    reader.report()
    return captions


def _joined(words: object) -> object:
    """Returns a caption of its words; other values stay as they are, for the reader to refuse."""
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return " ".join(words)
    return words
