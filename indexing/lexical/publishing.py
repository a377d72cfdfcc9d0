"""Catalogue -> the lexical index of a generation, see `indexing.lexical.index`.

A new index links to the files of the one before and adds the changes, found by the checksums in its
table. tantivy works in a folder outside of the index: a published index is complete, and no file of
it ever changes.
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.files import (
    TABLE_DTYPE,
    TABLE_NAME,
    check_files,
    level_files,
    linked,
    read_table,
)
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.store.atomic import sync_new_folder
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.manifest import LEVELS, LexicalInfo
from reelseek.indexing.vectors.shard import file_checksum

if TYPE_CHECKING:
    from tantivy import Document, Index

logger = logging.getLogger(__name__)

_FOLDERS = "lexical-[0-9]*"
_HEAP_BYTES = 64 << 20  # of tantivy's writer for a new index; more memory gives fewer segments
_SMALL_HEAP_BYTES = 16 << 20  # and for a change; tantivy's minimum
_DELETED_FRACTION = 0.3  # of all documents; beyond it all are made anew
_NEW_FRACTION = 0.5  # of all videos; beyond it all are made anew
_AT_ONCE = 500  # videos whose entries are in memory


def is_current(folder: Path, info: LexicalInfo | None) -> bool:
    """Whether the lexical index needs no change while the catalogue is the same."""
    if not documents.is_installed():
        return True
    return info is not None and _opened(folder, info) is not None


def publish_words(
    folder: Path, catalogue: Catalogue, before: LexicalInfo | None, *, generation: int
) -> LexicalInfo | None:
    """Makes the lexical index of a generation, or keeps the one before if nothing changed.

    Returns:
        None where tantivy is not installed.
    """
    if not documents.is_installed():
        _warn_without_tantivy(catalogue)
        return None
    table = text_table(catalogue)
    opened = None if before is None else _opened(folder, before)
    held = np.empty(0, TABLE_DTYPE)
    if opened is not None:
        held = read_table(folder / opened.name)
        if np.array_equal(held, table):
            return opened
    new, removed = _diff(held, table)
    if opened is None or len(new) > _NEW_FRACTION * len(table):
        opened, new, removed = None, table["video"], removed[:0]
    made = _Making(folder, catalogue, table, generation=generation)
    if opened is not None and made.deleted_fraction(opened, removed) > _DELETED_FRACTION:
        opened, new, removed = None, table["video"], removed[:0]
    return made.made(opened, new, removed)


def clean(folder: Path, info: LexicalInfo | None) -> None:
    """Deletes the lexical indexes of other generations and of killed runs."""
    for path in folder.glob(_FOLDERS):
        if info is None or path.name != info.name:
            _delete(path)


def text_table(catalogue: Catalogue) -> np.ndarray:
    """Returns rows of `TABLE_DTYPE`: for each searchable video, a checksum of the inputs to its
    documents.

    Raises:
        ValueError: the catalogue is damaged.
    """
    timed = catalogue.text_checksums()
    pairs = (
        (video_id, zlib.crc32(repr((key, metadata, timed.get(video_id))).encode()))
        for video_id, key, metadata in catalogue.text_inputs()
    )
    return np.fromiter(pairs, TABLE_DTYPE)


def document_counts(catalogue: Catalogue) -> dict[str, int]:
    """Returns the number of documents of each level that the catalogue has."""
    ids = catalogue.searchable_ids()
    timed = (texts for some in _few(ids) for texts in catalogue.texts(some.tolist()).values())
    return {"video": len(ids), "moment": sum(map(len, timed))}


class _Making:
    """Makes one lexical index.

    Args:
        folder: of the whole index.
        table: of the videos that it will hold.
    """

    def __init__(
        self, folder: Path, catalogue: Catalogue, table: np.ndarray, *, generation: int
    ) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._table = table
        self._name = f"lexical-{generation:08d}"
        self._written = [TABLE_NAME]  # files that are not links

    def deleted_fraction(self, before: LexicalInfo, removed: np.ndarray) -> float:
        """Returns the fraction of all documents that would only take up space."""
        deleted, count = len(removed), 1
        for level in LEVELS:
            meta = json.loads((self._folder / before.name / f"{level}.meta.json").read_bytes())
            for segment in meta["segments"]:
                count += segment["max_doc"]
                deleted += (segment["deletes"] or {}).get("num_deleted_docs", 0)
        return deleted / count

    def made(self, before: LexicalInfo | None, new: np.ndarray, removed: np.ndarray) -> LexicalInfo:
        """Makes the index.

        Args:
            before: its files are reused; None to start from nothing.
            new: ids of the videos to add documents of.
            removed: ids of the videos to delete documents of first.
        """
        target = self._folder / self._name
        _delete(target)  # of a killed run
        target.mkdir()
        try:
            counts = {
                level: self._make_level(level, target, before, new, removed) for level in LEVELS
            }
            np.save(target / TABLE_NAME, self._table, allow_pickle=False)
            sync_new_folder(target, self._written)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return LexicalInfo(
            self._name,
            {path.name: file_checksum(path) for path in sorted(target.iterdir())},
            counts,
            documents.analysis(),
        )

    def _make_level(
        self,
        level: str,
        target: Path,
        before: LexicalInfo | None,
        new: np.ndarray,
        removed: np.ndarray,
    ) -> int:
        """Makes one of the two indexes; returns the number of its documents."""
        import tantivy

        source = target if before is None else self._folder / before.name
        files = {} if before is None else level_files(before, level)
        with linked(source, files) as scratch:
            index = (
                tantivy.Index.open(str(scratch))
                if files
                else tantivy.Index(documents.schema(level), path=str(scratch))
            )
            self._change(index, level, new, removed, is_new=before is None)
            for path in scratch.iterdir():
                if path.name.startswith("."):  # locks, and a list of files
                    continue
                name = f"{level}.{path.name}"
                if not path.is_symlink() or not _linked(source / name, target / name):
                    shutil.copyfile(path, target / name)
                    self._written.append(name)
            index.reload()
            return index.searcher().num_docs

    def _change(
        self, index: "Index", level: str, new: np.ndarray, removed: np.ndarray, *, is_new: bool
    ) -> None:
        from tantivy import Query

        # Deleting by a term that is a number does nothing in tantivy 0.27.
        deletions = [
            Query.term_set_query(index.schema, "video", some.tolist()) for some in _few(removed)
        ]
        searcher = index.searcher()
        added = self._documents(level, new)
        first = next(added, None)
        if first is None and not any(searcher.search(each, 1).hits for each in deletions):
            return  # without a commit, which is slow
        writer = index.writer(_HEAP_BYTES if is_new else _SMALL_HEAP_BYTES, num_threads=1)
        for each in deletions:
            writer.delete_documents_by_query(each)
        for document in [] if first is None else chain([first], added):
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()  # and so this writer ends

    def _documents(self, level: str, video_ids: np.ndarray) -> Iterator["Document"]:
        for some in _few(video_ids):
            ids = some.tolist()
            if level == "video":
                for _, record in sorted(self._catalogue.videos(ids).items()):
                    yield documents.video_document(record)
            else:
                found = self._catalogue.texts(ids)
                for video_id, record in sorted(self._catalogue.videos(list(found)).items()):
                    yield from (documents.timed_document(record, each) for each in found[video_id])


def _few(values: np.ndarray) -> Iterator[np.ndarray]:
    return (values[first : first + _AT_ONCE] for first in range(0, len(values), _AT_ONCE))


def _diff(held: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of videos whose documents are missing, and of those whose documents are
    wrong."""
    both, in_held, in_table = np.intersect1d(
        held["video"], table["video"], assume_unique=True, return_indices=True
    )
    same = both[held["checksum"][in_held] == table["checksum"][in_table]]
    return np.setdiff1d(table["video"], same), np.setdiff1d(held["video"], same)


def _opened(folder: Path, info: LexicalInfo) -> LexicalInfo | None:
    """Returns None where it is damaged, or made with another analysis."""
    if info.analysis != documents.analysis():
        return None
    try:
        check_files(folder, info)
        LexicalIndex(folder, info)
    except (OSError, ValueError):
        return None
    return info


def _warn_without_tantivy(catalogue: Catalogue) -> None:
    said = (documents.texts_of(record) for record in catalogue.scan())
    has_texts = any(texts[name] for texts in said for name in texts if name != "name")
    if has_texts or document_counts(catalogue)["moment"]:
        logger.warning(
            "titles, captions, tags and timed texts are not searched by their words: pip install "
            "'reelseek[lexical]'"
        )


def _linked(source: Path, target: Path) -> bool:
    """Links to a file; returns False where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _delete(path: Path) -> None:
    """Deletes a file, a folder or a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
