"""A catalogue of format 3 -> one of this format, in which each video has a root and a public id.

Ids, and with them all that is derived from the catalogue, stay as they are.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from indexing.catalogue import Catalogue, FileStamp, VideoRecord, replace_catalogue
from indexing.identity import make_root_id
from indexing.timed_texts import TEXTS_COLUMNS
from text import strict_json

_OLD_COLUMNS = (
    *("key", "path", "size_bytes", "modified_ns", "content_sha256", "outcome", "reason"),
    *("decoder", "num_frames", "duration_seconds", "metadata", "spans", "frame_times"),
    *("part", "row"),
)


def split_path(key: str, path: str) -> tuple[str, str]:
    """The root's id and the key of a video, of what older formats called it: there a key might
    lead out of the folder of its list, or be a whole path."""
    if not path.endswith(f"/{key}"):
        key = Path(path).name
    return make_root_id(path.removesuffix(f"/{key}") or "/"), key


def is_old(path: Path) -> bool:
    """Whether a catalogue lacks what this module adds.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    with closing(sqlite3.connect(path)) as old:
        columns = {row[1] for row in old.execute("PRAGMA table_info(videos)")}
    return "public_id" not in columns


def upgrade_catalogue(path: Path) -> None:
    """Replaces a catalogue of format 3; until that is done, it stays as it is.

    Raises:
        ValueError: an entry is damaged.
        sqlite3.DatabaseError: the file is damaged.
    """
    temporary = path.with_name(f"{path.name}.upgraded")
    for stale in path.parent.glob(f"{temporary.name}*"):
        stale.unlink()
    with (
        closing(sqlite3.connect(path)) as old,
        closing(Catalogue(temporary)) as made,
    ):
        made.restore(_records(old))
        sequence = old.execute("SELECT seq FROM sqlite_sequence WHERE name = 'videos'").fetchall()
        facts = old.execute("SELECT name, value FROM facts").fetchall()
        counters = dict(old.execute("SELECT name, value FROM counters"))
        names = ", ".join(TEXTS_COLUMNS)
        marks = ", ".join("?" * len(TEXTS_COLUMNS))
        texts = old.execute(f"SELECT {names} FROM texts") if _has_texts(old) else iter(())
        with made.connection as connection:
            connection.executemany(f"INSERT INTO texts ({names}) VALUES ({marks})", texts)
            connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
            for (last_id,) in sequence:
                connection.execute("DELETE FROM sqlite_sequence WHERE name = 'videos'")
                connection.execute("INSERT INTO sqlite_sequence VALUES ('videos', ?)", (last_id,))
        made.raise_counters(**counters)
        made.checkpoint()
    replace_catalogue(path, temporary)


def _has_texts(old: sqlite3.Connection) -> bool:
    return bool(old.execute("SELECT 1 FROM sqlite_schema WHERE name = 'texts'").fetchall())


def _records(old: sqlite3.Connection) -> Iterator[VideoRecord]:
    names = ", ".join(_OLD_COLUMNS)
    places: set[tuple[str, str]] = set()
    for row in old.execute(f"SELECT id, {names}, checksum FROM videos ORDER BY id"):
        if _checksum(row[:-1]) != row[-1]:
            raise ValueError(f"the entry of video {row[0]} is damaged")
        values = dict(zip(_OLD_COLUMNS, row[1:-1], strict=True))
        root, key = split_path(values["key"], values["path"])
        if (root, key) in places:  # one file by two keys
            root, key = "", values["key"]
        places.add((root, key))
        stamp = (values[name] for name in ("size_bytes", "modified_ns", "content_sha256"))
        yield VideoRecord(
            key=key,
            root=root,
            path=values["path"],
            stamp=FileStamp(*stamp),
            outcome=values["outcome"],
            reason=values["reason"],
            decoder=values["decoder"],
            num_frames=values["num_frames"],
            duration_seconds=values["duration_seconds"],
            metadata=strict_json.loads(values["metadata"]),
            spans=np.frombuffer(values["spans"], "<f8").reshape(-1, 2),
            frame_times=np.frombuffer(values["frame_times"], "<f8"),
            id=row[0],
            location=None if values["part"] is None else (values["part"], values["row"]),
        )


def _checksum(values: tuple) -> int:
    """As format 3 had it."""
    pieces: list[bytes] = []
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        pieces += (b"|%d|" % len(data), data)
    return zlib.crc32(b"".join(pieces))
