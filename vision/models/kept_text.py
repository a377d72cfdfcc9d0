"""Opens a text tower that an earlier run has compiled, without PyTorch and without the weights.

Importing PyTorch takes seconds, reading and hashing the weights of `mini` half of one; a search by
words from the command line needs neither. What is known of a model is written down beside the
converted towers, by the model's fingerprint, and holds as long as the files of its folder have the
sizes and times that they had: as git knows files again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.vision.cores import num_cores
from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.names import MINI_FOLDERS
from reelseek.vision.models.openvino_models import (
    compile_model,
    folder_of,
    import_openvino,
    openvino_core,
)
from reelseek.vision.models.openvino_text_tower import OpenVinoTextTower
from reelseek.vision.models.sentence_tokenizer import SentenceTokenizer

if TYPE_CHECKING:
    from reelseek.vision.models.dual_encoder import DualEncoder
    from reelseek.vision.models.spec import ModelSpec

logger = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True)
class FolderStamp:
    """By which the content of a model's folder is known again.

    Attributes:
        folder: Its absolute path.
        files: Size in bytes and time of change in nanoseconds, by name.
    """

    folder: str
    files: dict[str, list[int]]

    @classmethod
    def of(cls, folder: Path) -> FolderStamp:
        """Looks at a folder.

        Raises:
            OSError: It cannot be read.
        """
        with os.scandir(folder) as entries:
            stats = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        files = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in sorted(stats.items())}
        return cls(str(folder.absolute()), files)


@dataclass(frozen=True)
class KeptText:
    """A model of which only the compiled text tower is open.

    Attributes:
        fingerprint: Of the model.
        embedding_dim: D.
        context_length: Maximum tokens of a sentence.
        scripts: That its text tower was trained on; empty if unknown.
        tokenizer: Of the model.
        tower: Its text tower.
        load: Loads the whole model.
    """

    fingerprint: str
    embedding_dim: int
    context_length: int
    scripts: tuple[str, ...]
    tokenizer: SentenceTokenizer
    tower: OpenVinoTextTower
    load: Callable[[], DualEncoder]


def stamp_model(spec: ModelSpec) -> FolderStamp | None:
    """Looks at the folder of a model, before that is read; None if it has none.

    Raises:
        ValueError: As of `vision.models.mini.mini_folder`, which may have to make it.
    """
    if spec.name in MINI_FOLDERS:
        from reelseek.vision.models.mini import mini_folder

        mini_folder(spec.name)
    try:
        return FolderStamp.of(model_folder(spec))
    except OSError:
        return None


def keep_text(model: DualEncoder, tower: OpenVinoTextTower, source: FolderStamp | None) -> None:
    """Writes down what `open_kept_text` needs, if the tower is kept and is that of a sentence
    encoder. A cache that cannot be written is passed over.

    Args:
        source: The model's folder as it was before it was read; None if it has none.
    """
    from reelseek.vision.models.sentence_tower import SentenceTower
    from reelseek.vision.models.traceable_text import traceable_text_tower

    if source is None or model.spec.pretrained is not None or tower.key is None:
        return
    is_sentence_encoder = isinstance(traceable_text_tower(model.clip), SentenceTower)
    if not is_sentence_encoder or "tokenizer.json" not in source.files:
        return
    record = {
        "format": _FORMAT,
        "source": asdict(source),
        "tower": {"key": tower.key, "precision": tower.precision, "padding": tower.padding},
        "embedding_dim": model.embedding_dim,
        "context_length": model.context_length,
        "scripts": list(model.spec.scripts),
    }
    path = _record_path(model.fingerprint)
    if _read(path) == record:
        return
    making = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        making.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        making.replace(path)
    except OSError as error:
        logger.info("%s: cannot be written (%s)", path, error)
        making.unlink(missing_ok=True)


def open_kept_text(
    spec: ModelSpec, *, fingerprint: str, load: Callable[[], DualEncoder]
) -> KeptText | None:
    """Opens the text tower of a model; None where it was not kept, or the model has changed since.

    Args:
        fingerprint: Of the model that is expected.
        load: Loads the whole model.
    """
    record, folder = _read(_record_path(fingerprint)), model_folder(spec)
    try:
        if record["format"] != _FORMAT or record["source"] != asdict(FolderStamp.of(folder)):
            return None
        context_length, scripts = int(record["context_length"]), record["scripts"]
        return KeptText(
            fingerprint=fingerprint,
            embedding_dim=int(record["embedding_dim"]),
            context_length=context_length,
            scripts=spec.scripts or tuple(scripts),
            tokenizer=SentenceTokenizer(
                folder / "tokenizer.json",
                context_length=context_length,
                padding=record["tower"]["padding"],
            ),
            tower=_open_tower(**record["tower"]),
            load=load,
        )
    # Whatever is wrong with it, the whole model is loaded, and says what is wrong with that.
    except (ImportError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        logger.info("the text tower of model=%s is not kept (%r)", spec.name, error)
        return None


def _open_tower(*, key: str, precision: str, padding: int) -> OpenVinoTextTower:
    openvino = import_openvino()
    compiled = compile_model(
        openvino_core().read_model(folder_of(openvino, key) / "tower.xml"),
        precision=precision,
        num_threads=_num_threads(),
    )
    return OpenVinoTextTower(compiled, padding=padding, length=None, precision=precision)


def has_no_gpu() -> bool:
    """Whether PyTorch cannot have a GPU here, as far as can be told without it."""
    if sys.platform == "darwin":
        return True  # `choose_device` knows CUDA alone
    devices = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, Windows's for Linux
    return sys.platform == "linux" and not any(map(os.path.exists, devices))


def model_folder(spec: ModelSpec) -> Path:
    """Returns the folder of a model that has one, made already or not."""
    if spec.name in MINI_FOLDERS:
        return default_cache_folder() / MINI_FOLDERS[spec.name]
    return Path(spec.name)


def _record_path(fingerprint: str) -> Path:
    return default_cache_folder() / "openvino" / f"{fingerprint}.json"


def _read(path: Path) -> Any:
    """Returns a record; an empty one where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _num_threads() -> int:
    """Returns how many threads PyTorch computes with, or would."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else num_cores()
