"""The names in the videos' metadata, which a filter may use as fields."""

import itertools
import re
import sqlite3

MAX_METADATA_FIELDS = 1_000
MAX_METADATA_DEPTH = 3  # names, as in `camera.lens.model`

FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # in a filter

# NaN, which Python's json writes, is not JSON to SQLite: such a video counts as without metadata.
METADATA_SQL = "CASE WHEN json_valid(videos.metadata) THEN videos.metadata ELSE '{}' END"


def metadata_fields(connection: sqlite3.Connection) -> set[str]:
    """Returns the names in the videos' metadata, nested ones with dots, cut off at
    `MAX_METADATA_FIELDS`.

    Leaves out names that hold a dot or a double quote, since no filter can name them.
    """
    tables = f"videos JOIN json_each({METADATA_SQL}) AS level0"
    for i in range(1, MAX_METADATA_DEPTH):
        inner = f"CASE level{i - 1}.type WHEN 'object' THEN level{i - 1}.value ELSE '{{}}' END"
        tables += f" LEFT JOIN json_each({inner}) AS level{i}"
    keys = (f"CAST(level{i}.key AS BLOB)" for i in range(MAX_METADATA_DEPTH))  # may be no UTF-8
    found: set[str] = set()
    for row in connection.execute(f"SELECT DISTINCT {', '.join(keys)} FROM {tables}"):
        parts = [key.decode(errors="surrogateescape") for key in row if key is not None]
        sayable = itertools.takewhile(is_sayable, parts)
        found.update(itertools.accumulate(sayable, "{}.{}".format))
        if len(found) >= MAX_METADATA_FIELDS:
            break
    return found


def is_sayable(name: str) -> bool:
    """Whether a filter can name a field like this."""
    # SQLite's JSON paths have no escape for a double quote before version 3.46.
    return bool(name) and not any(c in name for c in '."') and not FORBIDDEN.search(name)
