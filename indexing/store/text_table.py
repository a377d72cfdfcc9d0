"""The catalogue's table of timed texts: what was read or heard in each video."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reelseek.indexing.store.database import Database, marks
from reelseek.indexing.store.texts import (
    TEXTS_COLUMNS,
    TimedText,
    VideoTexts,
    from_row,
    in_order,
    to_row,
)

_ROW = ", ".join(TEXTS_COLUMNS)


class TextTable(Database):
    """The part of the catalogue that holds texts. Its table `videos` is in the same file."""

    def texts(self, ids: Sequence[int]) -> dict[int, list[TimedText]]:
        """Returns the texts of these videos, by id and in order of time; videos without any are
        left out.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        found: dict[int, list[TimedText]] = {}
        for entry in self.text_entries(ids):
            if entry.texts:
                found.setdefault(entry.video_id, []).extend(entry.texts)
        return {video_id: in_order(texts) for video_id, texts in found.items()}

    def text_entries(self, ids: Sequence[int]) -> Iterator[VideoTexts]:
        """Yields the texts as they are stored: an entry for each video and each source that was
        looked at."""
        if not self._has_texts():
            return
        sql = f"SELECT {_ROW} FROM texts WHERE video_id IN ({{marks}}) ORDER BY video_id, source"
        for row in self._query_in(sql, [int(number) for number in ids]):
            try:
                yield from_row(row)
            except ValueError as error:
                raise ValueError(self._damaged(error)) from error

    def text_checksums(self) -> dict[int, list[int]]:
        """Returns the checksums of each video's entries, in the order of their sources."""
        checksums: dict[int, list[int]] = {}
        if self._has_texts():
            sql = "SELECT video_id, checksum FROM texts ORDER BY video_id, source"
            for video_id, checksum in self._stream(sql):
                checksums.setdefault(video_id, []).append(checksum)
        return checksums

    def without_texts(self, source: str) -> list[int]:
        """Returns the ids of the searchable videos that have no entry of this source, ascending."""
        rows = self._query("SELECT id FROM videos WHERE part NOT NULL ORDER BY id")
        looked_at = set()
        if self._has_texts():
            looked_at = set(self._query("SELECT video_id FROM texts WHERE source = ?", (source,)))
        return [row[0] for row in rows if row not in looked_at]

    def store_texts(
        self, video_id: int, source: str, texts: Sequence[TimedText], *, engine: str
    ) -> None:
        """Stores the texts of a video in place of earlier ones of this source.

        Args:
            source: `ocr` or `speech`, as of each text.
            texts: in any order; none where nothing was found.
            engine: the program that read or heard them, with its model.

        Raises:
            ValueError: a text is of another source.
        """
        self.add_texts([VideoTexts(video_id, source, engine, tuple(texts))])

    def add_texts(self, entries: Iterable[VideoTexts]) -> None:
        """Stores entries in one transaction; skips those of videos that have been deleted."""
        with self._transaction():
            self._connection.executemany(
                f"INSERT OR REPLACE INTO texts ({_ROW}) SELECT {marks(len(TEXTS_COLUMNS))} "
                "WHERE ? IN (SELECT id FROM videos)",
                ((*to_row(entry), entry.video_id) for entry in entries),
            )
            self._count_change()

    def copy_texts(self, source: str) -> int:
        """Copies the texts of this source to videos of the same content that have none; returns
        the number of these videos."""
        rows = self._query(
            "SELECT twin.id, min(had.id) FROM videos AS twin "
            "JOIN videos AS had USING (content_sha256) "
            "JOIN texts ON texts.video_id = had.id AND texts.source = ? "
            "WHERE twin.part NOT NULL AND had.part NOT NULL "
            "AND twin.id NOT IN (SELECT video_id FROM texts WHERE source = ?) GROUP BY twin.id",
            (source, source),
        )
        entries = self.text_entries([had for _, had in rows])
        known = {entry.video_id: entry for entry in entries if entry.source == source}
        copies = [replace(known[had], video_id=video_id) for video_id, had in rows]
        if copies:
            self.add_texts(copies)
        return len(copies)

    def text_engines(self, source: str) -> dict[int, str]:
        """Returns what read or heard the texts of this source, by the ids of their videos."""
        if not self._has_texts():
            return {}
        return dict(self._query("SELECT video_id, engine FROM texts WHERE source = ?", (source,)))

    def delete_texts(self, video_id: int, source: str) -> None:
        """Deletes a video's texts of one source, which then has yet to be read or heard."""
        with self._transaction():
            self._connection.execute(
                "DELETE FROM texts WHERE video_id = ? AND source = ?", (video_id, source)
            )
            self._count_change()

    def text_problems(self) -> list[str]:
        """Returns a line for each video and source whose texts are damaged."""
        return [f"{key}: its {source} texts are damaged" for _, key, source in self._bad_texts()]

    def drop_damaged_texts(self) -> list[str]:
        """Deletes texts whose checksum is wrong, and those of videos that are gone; returns the
        keys of the videos to enrich again."""
        bad = self._bad_texts()
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM texts WHERE rowid = ?", [(rowid,) for rowid, _, _ in bad]
            )
            self._connection.execute(
                "DELETE FROM texts WHERE video_id NOT IN (SELECT id FROM videos)"
            )
            if bad:
                self._count_change()
        return sorted({key for _, key, _ in bad})

    def _has_texts(self) -> bool:
        """Whether the table exists: older versions make none, and a reader cannot."""
        return bool(self._query("SELECT 1 FROM sqlite_schema WHERE name = 'texts'"))

    def _bad_texts(self) -> list[tuple[int, str, str]]:
        """Returns rowid, key and source of the entries that are not what was written."""
        if not self._has_texts():
            return []
        bad = []
        key_of = "SELECT key FROM videos WHERE id = video_id"
        sql = f"SELECT rowid, ({key_of}), {_ROW} FROM texts ORDER BY video_id, source"
        for rowid, key, *row in self._stream(sql):
            try:
                from_row(tuple(row))
            except ValueError:
                bad.append((rowid, str(key or f"video {row[0]}"), str(row[1])))
        return bad

    def _count_change(self, next_part: int | None = None) -> None:
        self._connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision'")
        if next_part is not None:
            self._connection.execute(
                "UPDATE counters SET value = ? WHERE name = 'next_part'", (next_part,)
            )
