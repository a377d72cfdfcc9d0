"""`manifest.json`: the one small file that describes an index.

A reader of an index opens it first; a writer replaces it last, atomically, so that it always names
complete files.
"""

import json
import re
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from reelseek.indexing.store.atomic import write_atomically
from reelseek.indexing.vectors.shard import ShardInfo
from reelseek.text import strict_json
from reelseek.vision.models.names import current_name

FORMAT_VERSION = 5
_SHARDED_FORMAT = 6  # of a sharded index; its shards have the other
_READS = (4, 5, _SHARDED_FORMAT)
# Names of format 4 -> names of format 5.
_RENAMED_LEVEL = {"dead": "deleted", "dead_checksum": "deleted_checksum"}
_RENAMED_SAMPLING = {"skip_similar": "dedup_threshold", "frames_a_shot": "frames_per_shot"}
_FILE_NAME = "manifest.json"
LEVELS = ("video", "moment")  # whole videos, or their segments
SHARDS_NAME = "shards"  # the folder of a sharded index's shards
PLACEMENTS = ("hash", "cluster")  # how a video's shard is chosen, see `indexing.shards.placement`


class IndexMismatchError(ValueError):
    """An index does not fit the model, the sampling or the format in use."""


@dataclass(frozen=True)
class IndexSettings:
    """Settings that stay for the life of an index, so that old and new embeddings compare.

    Attributes:
        model: the fields of the `ModelSpec`.
        fingerprint: of the model's weights, preprocessing and tokenizer.
        embedding_dim: D.
        sampling: the sampling's kind and numbers.
        segments: their `kind`, and the windows' `seconds` and `overlap_seconds`.
    """

    model: dict
    fingerprint: str
    embedding_dim: int
    sampling: dict
    segments: dict

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_values(cls, values: dict) -> "IndexSettings":
        """Reads the values of `to_json`, in this format or the one before.

        An index of the first `mini` is one of `mini_fast`, as that model is named now.
        """
        name = current_name(values["model"].get("name"), fingerprint=values["fingerprint"])
        return cls(
            **values
            | {
                "model": values["model"] | ({"name": name} if name else {}),
                "sampling": _renamed(values["sampling"], _RENAMED_SAMPLING),
            }
        )


@dataclass(frozen=True)
class FaissOptions:
    """Options of the FAISS indexes; may change at any time, without decoding.

    Attributes:
        kind: `auto`, `flat`, or a description for FAISS's `index_factory`.
        recall: the fraction of the true ten nearest that a search should find.
        memory_bytes: limit of FAISS's memory for segments; 0 for none.
    """

    kind: str = "auto"
    recall: float = 0.95
    memory_bytes: int = 0


@dataclass(frozen=True)
class LevelInfo:
    """The FAISS indexes of a level; see `indexing.vectors.shard`.

    Attributes:
        main: None while the index is new.
        delta: exact, of the videos added after the main shard was made.
        deleted: name of the file that marks deleted positions of the main shard, or empty.
        deleted_checksum: CRC-32 of that file.
    """

    main: ShardInfo | None = None
    delta: ShardInfo | None = None
    deleted: str = ""
    deleted_checksum: int = 0

    def files(self, folder: Path) -> set[Path]:
        """All that this level consists of."""
        shards = [shard for shard in (self.main, self.delta) if shard is not None]
        paths = {path for shard in shards for path in shard.files(folder)}
        return paths | ({folder / self.deleted} if self.deleted else set())


@dataclass(frozen=True)
class LexicalInfo:
    """A lexical index; see `indexing.lexical.index`.

    Attributes:
        name: of its folder.
        files: CRC-32 of each file in it.
        num_documents: of each level.
        analysis: the version of the text analysis, see `lexical.documents.analysis`.

    Raises:
        ValueError: no lexical index has these values.
    """

    name: str
    files: dict[str, int] = field(default_factory=dict)
    num_documents: dict[str, int] = field(default_factory=dict)
    analysis: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"lexical-\d{1,18}", self.name, re.ASCII):
            raise ValueError(f"{self.name!r} is not the name of a lexical index")
        for counts in (self.files, self.num_documents):
            if not all(type(count) is int for count in counts.values()):
                raise ValueError(f"{self.name}: {counts} are no numbers")
        if set(self.num_documents) != set(LEVELS):
            raise ValueError(f"{self.name}: counts {self.num_documents}")


@dataclass(frozen=True)
class QuantiserInfo:
    """A trained FAISS index without vectors, which shards fill with their own.

    Attributes:
        name: of its file.
        kind: of the FAISS index, for `index_factory`.
        trained_on: vectors that all shards had then.
        checksum: CRC-32 of the file.
    """

    name: str
    kind: str
    trained_on: int
    checksum: int


@dataclass(frozen=True)
class ClusterInfo:
    """The clusters by which videos are placed; see `indexing.shards.clusters`.

    Attributes:
        name: of their file.
        num_asked: shards that a query asks.
        recall: measured with so many: the fraction of a query's ten nearest segments that lie in
            them, by type of query.
        checksum: CRC-32 of the file.

    Raises:
        ValueError: no clusters have these values.
    """

    name: str
    num_asked: int
    recall: dict[str, float]
    checksum: int

    def __post_init__(self) -> None:
        if type(self.num_asked) is not int or self.num_asked < 1:
            raise ValueError(f"{self.num_asked!r} is not a number of shards")
        _require_plain(self.name)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ClusterInfo":
        """The reverse of `to_json`.

        Raises:
            ValueError: no clusters have these values.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"{text[:40]!r} names no clusters") from error


@dataclass(frozen=True)
class Sharding:
    """The shards of an index, each an ordinary index in a folder of `shards/`.

    Attributes:
        id: of this division. Each shard's catalogue has it too, so that the folder of another index
            is noticed.
        shards: the manifest of each shard, by the name of its folder. Readers open these
            generations, whatever the shards have published since.
        placement: how a video's shard is chosen.
        quantisers: shared by the shards, by level; none where all shards are searched exactly.
        clusters: of the placement `cluster`; None for `hash`.

    Raises:
        ValueError: no sharding has these values.
    """

    id: str
    shards: dict[str, "Manifest"]
    placement: str = "hash"
    quantisers: dict[str, QuantiserInfo] = field(default_factory=dict)
    clusters: ClusterInfo | None = None

    def __post_init__(self) -> None:
        if not self.shards or self.placement not in PLACEMENTS:
            raise ValueError(f"{len(self.shards)} shards, placed by {self.placement}")
        if (self.placement == "cluster") != (self.clusters is not None):
            raise ValueError(f"placed by {self.placement}, with clusters {self.clusters}")
        if not all(re.fullmatch(r"\d{4,9}", name, re.ASCII) for name in self.shards):
            raise ValueError(f"{list(self.shards)} are not the names of shards")


@dataclass(frozen=True)
class Manifest:
    """One published generation of an index.

    Attributes:
        generation: 0 before anything was published, then counting up; part of file names.
        revision: the catalogue's count of changes when it was published.
        num_videos: searchable videos.
        num_segments: searchable segments.
        frame_spread: how far apart frames of different videos lie (`vision.frame_spread`); 0
            until it has been measured.
        faiss: options of the FAISS indexes.
        levels: `video` and `moment`.
        recall: of the moments' FAISS indexes, measured when this was published: the fraction of the
            true ten nearest found, by type of query (`stored`, `logged`); empty where exact.
        rebuild: why the next writer should rebuild the main shards; empty where all is well.
        lexical: the lexical index; None without one.
        sharding: the shards of a sharded index, of which the counts above are the sums, and which
            have the levels and the lexical indexes; None for an ordinary index.
    """

    settings: IndexSettings
    generation: int = 0
    revision: int = 0
    num_videos: int = 0
    num_segments: int = 0
    frame_spread: float = 0.0
    faiss: FaissOptions = FaissOptions()
    levels: dict[str, LevelInfo] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    rebuild: str = ""
    lexical: LexicalInfo | None = None
    sharding: Sharding | None = None

    def write(self, folder: Path) -> None:
        values = strict_json.finite({"format": FORMAT_VERSION} | asdict(self))
        if self.sharding is None:
            del values["sharding"]
        else:
            values["format"] = _SHARDED_FORMAT
            for shard in values["sharding"]["shards"].values():
                del shard["settings"], shard["sharding"]  # as of the whole; none
        values["checksum"] = _checksum(values)
        write_atomically(folder / _FILE_NAME, (json.dumps(values, indent=2) + "\n").encode())

    def shard_manifests(self, folder: Path) -> dict[Path, "Manifest"]:
        """Returns the manifests of the shards by folder; of an ordinary index, its own."""
        if self.sharding is None:
            return {folder: self}
        return {folder / SHARDS_NAME / name: own for name, own in self.sharding.shards.items()}

    @staticmethod
    def path(folder: Path) -> Path:
        return folder / _FILE_NAME

    @staticmethod
    def exists(folder: Path) -> bool:
        return (folder / _FILE_NAME).is_file()

    @staticmethod
    def is_unfinished(path: Path) -> bool:
        """Whether a killed run left this file when it was about to publish."""
        return path.name.startswith(f"{_FILE_NAME}.") and path.suffix == ".tmp"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads the manifest of an index, of this format or the one before.

        Raises:
            ValueError: the folder is missing or is not an index, or the manifest is damaged.
            IndexMismatchError: the index was written by another version of the format.
        """
        if not folder.is_dir():
            found = "is a file, not an index" if folder.exists() else "no such folder"
            raise ValueError(f"index={folder}: {found}; make one with reelseek index")
        if not cls.exists(folder):
            raise ValueError(
                f"index={folder}: is not an index (it has no {_FILE_NAME}); make one with "
                "reelseek index"
            )
        try:
            values = json.loads((folder / _FILE_NAME).read_bytes())
            found = values["format"]
            checksum = values.pop("checksum", None)  # the first formats had none
            if (found in _READS or checksum) and checksum != _checksum(values):
                raise ValueError("its checksum is another")
            if found in _READS:  # other formats may have other fields
                if (found == _SHARDED_FORMAT) != ("sharding" in values):
                    raise ValueError("shards are of another format")
                return cls._from_json(values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"index={folder}: {_FILE_NAME} is damaged ({type(error).__name__}); run "
                f"reelseek repair --index {folder}"
            ) from error
        raise IndexMismatchError(
            f"index={folder}: has format {found}, this version of reelseek reads "
            f"{FORMAT_VERSION}; index again into a new folder"
        )

    @classmethod
    def _from_json(cls, values: dict) -> "Manifest":
        del values["format"]
        if "sharding" in values:
            values["sharding"] = _sharding(values["sharding"], values["settings"])
        values["settings"] = IndexSettings.from_values(values["settings"])
        values["faiss"] = FaissOptions(**values["faiss"])
        for name, level in values["levels"].items():
            level = _renamed(level, _RENAMED_LEVEL)
            for shard in ("main", "delta"):
                if level[shard] is not None:
                    level[shard] = ShardInfo(**level[shard])
                    _require_plain(level[shard].name)
                    _require_plain(level[shard].table)
            _require_plain(level["deleted"])
            values["levels"][name] = LevelInfo(**level)
        if values.get("lexical") is not None:  # older versions wrote none
            values["lexical"] = LexicalInfo(**values["lexical"])
            for file in (values["lexical"].name, *values["lexical"].files):
                _require_plain(file)
        return cls(**values)


def _sharding(values: dict, settings: dict) -> Sharding:
    shared = {"format": FORMAT_VERSION, "settings": settings}
    shards = {
        name: Manifest._from_json(shared | values["shards"][name])
        for name in sorted(values["shards"], key=int)
    }
    quantisers = {level: QuantiserInfo(**own) for level, own in values["quantisers"].items()}
    for quantiser in quantisers.values():
        _require_plain(quantiser.name)
    clusters = None
    if values.get("clusters") is not None:  # older versions wrote none
        clusters = ClusterInfo(**values["clusters"])
    return Sharding(values["id"], shards, values["placement"], quantisers, clusters)


def _renamed(values: dict, names: dict[str, str]) -> dict:
    return {names.get(name, name): value for name, value in values.items()}


def _require_plain(name: str) -> None:
    """Refuses a name that leads out of the index's folder."""
    if Path(name).name != name or name == ".." or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file")


def _checksum(values: dict) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def check_settings(requested: IndexSettings, has: IndexSettings, folder: Path) -> None:
    """Refuses to mix embeddings that do not compare.

    Raises:
        IndexMismatchError: names the first difference.
    """
    if requested.fingerprint != has.fingerprint:
        raise IndexMismatchError(
            f"index={folder}: was built with model={_name(has)} (fingerprint "
            f"{has.fingerprint[:8]}), not model={_name(requested)} ({requested.fingerprint[:8]}); "
            "use that model, or index into another folder"
        )
    check_layout(has, folder, sampling=requested.sampling, segments=requested.segments)


def check_layout(has: IndexSettings, folder: Path, **requested: dict) -> None:
    """Refuses another `sampling` or other `segments` than the index was built with.

    Raises:
        IndexMismatchError: names the first difference.
    """
    for part, values in requested.items():
        if values != getattr(has, part):
            raise IndexMismatchError(
                f"index={folder}: was built with {part} {getattr(has, part)}, not {values}; leave "
                f"{part} out, or index into another folder"
            )


def _name(settings: IndexSettings) -> str:
    return str(settings.model.get("name"))
