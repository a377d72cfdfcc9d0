"""Sources of videos and an index -> the index holding these videos, and what it held before.

Only what is new or changed is decoded. What is done is kept, so that a stopped run, however it was
stopped, goes on where it was.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from reelseek.indexing.enrich.subtitles import update_subtitles
from reelseek.indexing.pipeline import EncodedVideo, encode_videos, finished_video
from reelseek.indexing.progress import progress_bar
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import Source, VideoItem
from reelseek.indexing.sources.diff import Diff, compute_diff
from reelseek.indexing.sources.mounts import SilentMounts
from reelseek.indexing.sources.roots import Collection, collect
from reelseek.indexing.store.catalogue import FileSignature, NewVideo, VideoRecord
from reelseek.indexing.store.dates import with_capture_date, with_known_date
from reelseek.indexing.store.manifest import FaissOptions, IndexSettings
from reelseek.indexing.store.report import Report, ReportLine
from reelseek.indexing.store.unfinished import UnfinishedVideo
from reelseek.indexing.writer import IndexWriter
from reelseek.vision import (
    DEFAULT_SPREAD,
    DecodePool,
    FileContent,
    FrameEncoder,
    cut_scenes,
    frame_spread,
    frames_in_span,
    scene_spans,
    segment_spans,
)

# Videos whose frames tell how far apart those of different videos lie; fewer than the least do not.
_VIDEOS_FOR_SPREAD = 32
_MIN_VIDEOS_FOR_SPREAD = 8

_MOUNTS = "mounts"  # the catalogue's fact: at which folders other file systems were seen


@dataclass
class IndexSummary:
    """What a run did, in videos.

    Attributes:
        indexed: embedded and stored now, because they are new or their content has changed.
        unchanged: already there, with the same content.
        moved: already there under another path, and now known by the new one.
        failed: could not be decoded, now or when last tried.
        deleted: removed from the index: gone from a folder that was given, or pruned.
        missing: away, on a drive or a list that is; what the index held of them is kept.
        partial: of those in the index, the ones that decode only in part.
        searchable: what a search can find after this run.
        seconds: the run took.
        stopped: whether it was interrupted before all was done.
    """

    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    failed: int = 0
    deleted: int = 0
    missing: int = 0
    partial: int = 0
    searchable: int = 0
    seconds: float = 0.0
    stopped: bool = False


def update_index(
    folder: Path,
    sources: Sequence[Source],
    *,
    settings: IndexSettings,
    encoder: FrameEncoder,
    pool: DecodePool,
    faiss_options: FaissOptions | None = None,
    prune: bool = False,
    retry_failed: bool = False,
    check_content: bool = False,
    timeout_seconds: float = 120.0,
    show_progress: bool = True,
    stop: StopRequest | None = None,
    sentences: Callable[[], np.ndarray] | None = None,
) -> IndexSummary:
    """Brings an index up to date with folders and lists of videos; makes it where there is none.

    Videos of other folders and lists stay as they are.

    Args:
        folder: of the index.
        sources: the folders, files and lists, see `indexing.sources.collection.read_source`.
        settings: what the index is, or is to be, built with.
        encoder: of the model that `settings` names.
        pool: decodes, with the sampling that `settings` names.
        faiss_options: what the FAISS indexes are to be like; default: as they are.
        prune: delete from the index whatever the sources do not list.
        retry_failed: try videos again that failed before.
        check_content: read files whose size and time are unchanged too.
        timeout_seconds: after which a file of which not even the size is to be had is given up.
        show_progress: draw a bar on stderr.
        stop: when set, the videos in hand are finished, and the rest is left to the next run.
        sentences: gives `(n, D)` embeddings of everyday sentences, to be kept with a new index.

    Raises:
        ValueError: the folder cannot hold an index, another process is writing it, or none of the
            sources is there or known to the index.
        IndexMismatchError: the index was built with other settings.
    """
    started = time.monotonic()
    with IndexWriter(folder, settings) as writer:
        collection = _collect(writer, sources, prune=prune, timeout_seconds=timeout_seconds)
        run = _Run(
            writer,
            encoder=encoder,
            pool=pool,
            retry_failed=retry_failed,
            stop=StopRequest() if stop is None else stop,
        )
        diff = compute_diff(
            collection.items,
            run.records,
            check_content=check_content,
            retry_failed=retry_failed,
            timeout_seconds=timeout_seconds,
        )
        run.apply(collection, diff, show_progress=show_progress)
        chosen = {item.root_and_key for item in collection.items}
        update_subtitles(writer.catalogue, chosen, timeout_seconds=timeout_seconds)
        manifest = writer.publish(faiss_options, sentences=sentences)
        run.report.write(folder, collection.items, writer.catalogue.public_ids())
    run.summary.searchable = manifest.num_videos
    run.summary.seconds = round(time.monotonic() - started, 2)
    run.report.warn_of_missing()
    return run.summary


def _collect(
    writer: IndexWriter, sources: Sequence[Source], *, prune: bool, timeout_seconds: float
) -> Collection:
    """Brings the sources and the index together; roots that were moved are noted at once."""
    mounts = set(json.loads(writer.catalogue.index_metadata(_MOUNTS) or "[]"))
    records = list(writer.catalogue.scan())
    collection = collect(
        sources, records, mounts=mounts, prune=prune, timeout_seconds=timeout_seconds
    )
    for root, path in collection.moved_roots.items():
        writer.catalogue.move_root(root, path)
    if not collection.mounts <= mounts:
        writer.catalogue.set_index_metadata(_MOUNTS, json.dumps(sorted(mounts | collection.mounts)))
    return collection


_UNKNOWN_CONTENT = FileSignature(-1, -1, "")


@dataclass
class _Tag:
    """What travels with a video through the pipeline.

    Attributes:
        signature: known when its file has been read.
        was_kept: its last frame was encoded by an earlier run.
    """

    item: VideoItem
    signature: FileSignature = _UNKNOWN_CONTENT
    was_kept: bool = False


class _Run:
    """One run: what has become of each video so far."""

    def __init__(
        self,
        writer: IndexWriter,
        *,
        encoder: FrameEncoder,
        pool: DecodePool,
        retry_failed: bool,
        stop: StopRequest,
    ) -> None:
        self._writer = writer
        self.records = {record.root_and_key: record for record in writer.catalogue.scan()}
        self.summary = IndexSummary()
        self.report = Report()
        self._waiting: list[EncodedVideo[_Tag]] = []
        self._segments = writer.manifest.settings.segments
        self._cuts_scenes = self._segments["kind"] == "scenes"
        self._encoder = encoder
        self._pool = pool
        self._stop = stop
        self._retry_failed = retry_failed
        self._by_content = {
            record.signature.content_sha256: record
            for record in self.records.values()
            if record.location is not None
        }
        self._removed: dict[tuple[str, str], VideoRecord] = {}
        self._absent: dict[tuple[str, str], VideoRecord] = {}
        self._mounts = SilentMounts()
        # From the decoding thread to this one: videos whose content turned out to be known, in the
        # index or among the frames that are kept; or why a file was not read.
        self._known: deque[tuple[_Tag, VideoRecord | UnfinishedVideo | str]] = deque()
        self._in_hand: set[str] = set()  # contents of which one video is being encoded
        self._copies: dict[str, list[VideoItem]] = {}  # of these, by content: they wait for it
        self._encoded: dict[str, VideoRecord] = {}  # contents that this run has encoded

    def apply(self, collection: Collection, diff: Diff, *, show_progress: bool) -> None:
        """Makes the changes; an interrupt keeps what is done and leaves the rest to the next."""
        self._removed = {record.root_and_key: record for record in collection.removed}
        self._absent = {record.root_and_key: record for record in collection.absent}
        for record in (*collection.absent, *collection.removed):  # rather moved than copied
            if record.location is not None:
                self._by_content[record.signature.content_sha256] = self.records[
                    record.root_and_key
                ]
        for item, record in diff.unchanged:
            self._keep(_Tag(item, record.signature), record)
        for item, reason in diff.missing:
            self._note(
                item, "missing", "missing", self.records.get(item.root_and_key), reason=reason
            )
        for record, reason in collection.away:
            self._note(_item_of(record), "missing", "missing", record, reason=reason)
        for item, reason in diff.unusable:
            self._note(item, "failed", "failed", reason=reason)
        for folder, reason in collection.unreadable.items():
            item = VideoItem(folder.as_posix(), folder)
            self._note(item, "failed", "failed", reason=f"the folder cannot be read ({reason})")
        progress = progress_bar(
            total=len(diff.examine),
            desc="indexing",
            disable=not (show_progress and diff.examine),
        )
        try:
            with progress:
                examine = diff.examine
                while examine and not self._stop:
                    examine = self._examine(examine, progress)
        except KeyboardInterrupt:
            self.summary.stopped = True
        self.summary.stopped |= bool(self._stop)
        self._writer.save()
        if not self.summary.stopped and self._removed:
            self._writer.delete_videos(self._removed.values())
            for record in self._removed.values():
                self._note(_item_of(record), "deleted", "", record)

    def _examine(self, items: Sequence[VideoItem], progress: tqdm) -> list[VideoItem]:
        """Encodes what must be encoded; returns what must be looked at once more."""
        again: list[VideoItem] = []
        self._in_hand.clear()
        encoded = encode_videos(
            self._to_be_read(items),
            encoder=self._encoder,
            pool=self._pool,
            admit=self._admit,
        )
        try:
            for video in encoded:
                again += self._settle_known(progress)
                self._take(video)
                self._count(progress)
        finally:
            encoded.close()
        again += self._settle_known(progress)
        self._add_waiting()
        self._writer.save()
        return again + self._copies_of_encoded()

    def _to_be_read(self, items: Sequence[VideoItem]) -> Iterator[tuple[_Tag, Path]]:
        for item in items:
            if self._stop:
                return
            if self._mounts.is_given_up(item.path):
                self._known.append((_Tag(item), "not read: other files beside it did not answer"))
            else:
                yield _Tag(item), item.path

    def _admit(self, tag: _Tag, content: FileContent) -> UnfinishedVideo | None:
        """Passes on a video whose content the index does not hold, and that is not being encoded
        under another name."""
        tag.signature = FileSignature(content.size_bytes, content.modified_ns, content.sha256)
        known = self._encoded.get(content.sha256) or self._known_content(tag)
        if known is not None:
            self._known.append((tag, known))
        elif content.sha256 in self._in_hand:
            self._copies.setdefault(content.sha256, []).append(tag.item)
        elif not self._stop:
            self._in_hand.add(content.sha256)
            kept = self._writer.unfinished.open(tag.signature)
            if kept.finished is None:
                return kept
            self._known.append((tag, kept))
        return None

    def _known_content(self, tag: _Tag) -> VideoRecord | None:
        known = self.records.get(tag.item.root_and_key)
        if known is None or known.signature.content_sha256 != tag.signature.content_sha256:
            known = self._by_content.get(tag.signature.content_sha256)
        is_retried = known is not None and known.outcome == "failed" and self._retry_failed
        return None if is_retried else known

    def _copies_of_encoded(self) -> list[VideoItem]:
        """What waited for a video of the same content, which is saved now."""
        if not self._copies:
            return []
        for record in self._writer.catalogue.scan():
            if record.signature.content_sha256 in self._copies:
                self._encoded[record.signature.content_sha256] = record
        copies = [item for items in self._copies.values() for item in items]
        self._copies = {}
        return copies

    def _count(self, progress: tqdm) -> None:
        """Counts a video that is kept, whatever becomes of this process."""
        progress.set_postfix(failed=self.summary.failed, refresh=False)
        progress.update()

    def _settle_known(self, progress: tqdm) -> list[VideoItem]:
        """Stores videos whose content is known, without decoding; returns those whose twin has
        been replaced in the meantime."""
        again = []
        while self._known:
            tag, record = self._known.popleft()
            if isinstance(record, UnfinishedVideo):
                self._take_kept(tag, record)
            elif isinstance(record, str):
                self._add_unread(tag, record)
            elif record.root_and_key == tag.item.root_and_key:
                self._keep(tag, record)
            elif self._was_moved(record) and tag.item.root_and_key not in self.records:
                self._removed.pop(record.root_and_key, None)
                self._absent.pop(record.root_and_key, None)
                self._update(tag, record)
                self._note(tag.item, "moved", record.outcome, record)
            elif self._writer.catalogue.videos([record.id]):
                self._copy(tag, record)
            else:
                del self._by_content[record.signature.content_sha256]
                again.append(tag.item)
                continue
            self._count(progress)
        return again

    def _was_moved(self, record: VideoRecord) -> bool:
        """Whether a video is not where it was, so that the same content elsewhere is it."""
        return record.root_and_key in self._removed or record.root_and_key in self._absent

    def _keep(self, tag: _Tag, record: VideoRecord) -> None:
        """Keeps a video whose content is what it was, and brings its metadata up to date."""
        current = (str(tag.item.path), tag.signature, _metadata(tag.item, record))
        if current != (record.path, record.signature, record.metadata):
            self._update(tag, record)
        action = "failed" if record.outcome == "failed" else "unchanged"
        self._note(tag.item, action, record.outcome, record)

    def _update(self, tag: _Tag, record: VideoRecord) -> None:
        self._writer.update(
            record,
            root=tag.item.root,
            key=tag.item.key,
            path=str(tag.item.path),
            signature=tag.signature,
            metadata=_metadata(tag.item, record),
        )

    def _copy(self, tag: _Tag, record: VideoRecord) -> None:
        """Stores a second video with the content of another: they share their embeddings."""
        video = NewVideo(
            root=tag.item.root,
            key=tag.item.key,
            path=str(tag.item.path),
            signature=tag.signature,
            outcome=record.outcome,
            reason=record.reason,
            decoder=record.decoder,
            num_frames=record.num_frames,
            duration_seconds=record.duration_seconds,
            metadata=with_known_date(tag.item.metadata, record.metadata),
            spans=record.spans,
            frame_times=record.frame_times,
        )
        self._writer.add_duplicate(video, record)
        action = "failed" if record.outcome == "failed" else "indexed"
        self._note(tag.item, action, record.outcome, record)

    def _take_kept(self, tag: _Tag, kept: UnfinishedVideo) -> None:
        """Takes a video whose last frame was encoded by a run that could not add it."""
        assert kept.finished is not None
        tag.was_kept = True
        encoded = torch.from_numpy(kept.embeddings)
        self._take(
            finished_video(
                tag, kept.finished, encoded, times_seconds=kept.times_seconds, rows=kept.rows
            )
        )

    def _take(self, encoded: EncodedVideo[_Tag]) -> None:
        """Takes an encoded video; where scenes are to be cut, the first few wait for each other,
        since what is a scene depends on how far apart frames of different videos lie. Those that
        wait are kept among the unfinished."""
        self._mounts.note(encoded.tag.item.path, is_silent=encoded.is_silent)
        if encoded.tag.signature == _UNKNOWN_CONTENT:
            self._add_unread(encoded.tag, encoded.reason)
            return
        has_spread = bool(self._writer.manifest.frame_spread) or not self._cuts_scenes
        if has_spread or encoded.outcome == "failed":
            self._add(encoded)
            return
        self._waiting.append(encoded)
        if len(self._waiting) >= _VIDEOS_FOR_SPREAD:
            self._add_waiting()
        else:
            self._writer.save_if_due()

    def _add_unread(self, tag: _Tag, reason: str) -> None:
        """Takes a video whose file could not be read: what was known of it stays."""
        known = self.records.get(tag.item.root_and_key)
        if known is not None and known.location is not None:
            self._note(tag.item, "failed", "failed", reason=f"{reason}; what was indexed is kept")
            return
        self._add_failed(tag, reason)

    def _add_failed(self, tag: _Tag, reason: str) -> None:
        video = NewVideo(
            root=tag.item.root,
            key=tag.item.key,
            path=str(tag.item.path),
            signature=tag.signature,
            outcome="failed",
            reason=reason,
            metadata=tag.item.metadata,
        )
        self._writer.add(video, np.empty((0, self._encoder.embedding_dim), np.float32))
        self._note(tag.item, "failed", "failed", video)

    def _add_waiting(self) -> None:
        """Adds the videos that wait, after measuring the spread of their frames if need be."""
        if self._cuts_scenes and not self._writer.manifest.frame_spread:
            frames = [v.embeddings[len(v.embeddings) // 2] for v in self._waiting]
            if len(frames) >= _MIN_VIDEOS_FOR_SPREAD:
                self._writer.set_frame_spread(frame_spread(torch.stack(frames).numpy()))
        for encoded in self._waiting:
            self._add(encoded)
        self._waiting = []

    def _add(self, encoded: EncodedVideo[_Tag]) -> None:
        """Pools an encoded video's frames, and adds it to the index."""
        tag = encoded.tag
        if encoded.outcome == "failed":
            self._add_failed(tag, encoded.reason)
            return
        spans = self._spans(encoded)
        video = NewVideo(
            root=tag.item.root,
            key=tag.item.key,
            path=str(tag.item.path),
            signature=tag.signature,
            outcome=encoded.outcome,
            reason=encoded.reason,
            decoder=encoded.decoder,
            num_frames=len(encoded.embeddings),
            duration_seconds=encoded.duration_seconds,
            metadata=with_capture_date(tag.item.metadata, encoded.captured),
            spans=spans,
            frame_times=encoded.times_seconds,
        )
        pooled = [self._encoder.pool(encoded.embeddings)]
        for start, end in spans:
            inside = frames_in_span(encoded.times_seconds, start, end)
            pooled.append(self._encoder.pool(encoded.embeddings[inside]))
        self._writer.add(video, torch.cat([torch.stack(pooled), encoded.embeddings]).numpy())
        self._note(tag.item, "unchanged" if tag.was_kept else "indexed", encoded.outcome, video)

    def _spans(self, encoded: EncodedVideo[_Tag]) -> np.ndarray:
        """The segments: shots, where they are sampled, scenes or windows; as far as the video
        decodes."""
        if encoded.shot_spans is not None:
            return encoded.shot_spans
        times = encoded.times_seconds
        end = float(times[-1]) if encoded.outcome == "partial" else encoded.duration_seconds
        if self._cuts_scenes:
            spread = self._writer.manifest.frame_spread or DEFAULT_SPREAD
            firsts = cut_scenes(encoded.embeddings.numpy(), spread=spread)
            return scene_spans(firsts, times, duration_seconds=end)
        return segment_spans(
            end,
            segment_seconds=self._segments["seconds"],
            overlap_seconds=self._segments["overlap_seconds"],
        )

    def _note(
        self,
        item: VideoItem,
        action: str,
        outcome: str,
        video: VideoRecord | NewVideo | None = None,
        *,
        reason: str = "",
    ) -> None:
        """Counts a video and writes its line of the report."""
        setattr(self.summary, action, getattr(self.summary, action) + 1)
        self.summary.partial += outcome == "partial"
        self.report.add(
            item.root_and_key,
            ReportLine(
                key=item.key,
                id="" if video is None else video.public_id,
                video=str(item.path),
                action=action,
                outcome=outcome,
                reason=reason or ("" if video is None else video.reason),
                decoder="" if video is None else video.decoder,
                num_frames=0 if video is None else video.num_frames,
                duration_seconds=0.0 if video is None else video.duration_seconds,
            ),
        )


def _item_of(record: VideoRecord) -> VideoItem:
    return VideoItem(record.key, Path(record.path), record.metadata, root=record.root)


def _metadata(item: VideoItem, record: VideoRecord) -> dict:
    """What a list says of a video of this content, if one does; else what is known of it."""
    if not item.is_described:
        return record.metadata
    return with_known_date(item.metadata, record.metadata)
