"""The catalogue's tables of what people decided about single videos through the service: videos to
leave out, and metadata that prevail over those of a list."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reelseek.indexing.store.database import Database
from reelseek.text import strict_json

EXCLUDED_COLUMNS = ("root", "key", "path")
EDITS_COLUMNS = ("public_id", "changes")
EDIT_TABLES = """
CREATE TABLE IF NOT EXISTS excluded (
    root TEXT NOT NULL,
    key TEXT NOT NULL,
    path TEXT NOT NULL,  -- finds the video where all videos of its root are gone
    PRIMARY KEY (root, key)
);
CREATE TABLE IF NOT EXISTS edits (
    public_id TEXT PRIMARY KEY,
    changes TEXT NOT NULL  -- JSON: new values of metadata, null for those to remove
);
"""


class Excluded(NamedTuple):
    """A deleted video that runs of the service leave out."""

    root: str
    key: str
    path: str


class EditTables(Database):
    """The part of the catalogue that holds edits."""

    def excluded(self) -> list[Excluded]:
        """Returns the videos to leave out."""
        if not self._query("SELECT 1 FROM sqlite_schema WHERE name = 'excluded'"):
            return []  # of an older version, and only read
        return [Excluded(*row) for row in self._query("SELECT root, key, path FROM excluded")]

    def include(self, videos: Iterable[Excluded]) -> None:
        """Leaves these videos out no longer."""
        rows = [(video.root, video.key) for video in videos]
        with self._transaction():
            self._connection.executemany("DELETE FROM excluded WHERE root = ? AND key = ?", rows)

    def edits(self) -> dict[str, dict[str, Any]]:
        """Returns the changes of metadata by public id, see `changed_metadata`."""
        rows = self._query("SELECT public_id, changes FROM edits")
        return {public_id: strict_json.loads(changes) for public_id, changes in rows}

    def drop_edits(self, public_ids: Iterable[str]) -> None:
        """Deletes the changes of these videos' metadata; the metadata stay as they are."""
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM edits WHERE public_id = ?", [(name,) for name in public_ids]
            )

    def add_edits(self, excluded: Iterable[Excluded], edits: Mapping[str, dict[str, Any]]) -> None:
        """Stores what another catalogue holds, with changes of metadata by public id."""
        with self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO excluded VALUES (?, ?, ?)", excluded
            )
            for public_id, changes in edits.items():
                self._add_edit(public_id, changes)

    def _add_edit(self, public_id: str, changes: dict[str, Any]) -> None:
        """Adds changes to earlier ones, in the caller's transaction."""
        known = self._connection.execute(
            "SELECT changes FROM edits WHERE public_id = ?", (public_id,)
        ).fetchone()
        merged = (strict_json.loads(known[0]) if known else {}) | changes
        self._connection.execute(
            "INSERT OR REPLACE INTO edits VALUES (?, ?)", (public_id, strict_json.dumps(merged))
        )


def changed_metadata(metadata: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns metadata with new values; removes those that are None (RFC 7386, one level deep)."""
    return {name: value for name, value in (metadata | changes).items() if value is not None}
