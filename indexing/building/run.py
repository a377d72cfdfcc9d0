"""One run of the indexer: what differs between a collection and an index -> the index brought up to
date, and the outcome of each video."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from reelseek.indexing.building.contents import Contents
from reelseek.indexing.building.interim import InterimPublisher
from reelseek.indexing.building.outcomes import Outcomes
from reelseek.indexing.building.segmenting import (
    UNKNOWN_CONTENT,
    VideoTag,
    measure_spread,
    needs_spread,
    segment_video,
    spread_sample,
)
from reelseek.indexing.pipeline import EncodedVideo, Encoder, encode_videos, finished_video
from reelseek.indexing.progress import VideoProgress
from reelseek.indexing.remote.collection import RemoteVideos
from reelseek.indexing.remote.fetching import Fetcher
from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.shards.opening import AnyWriter
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.sources.diff import Diff
from reelseek.indexing.sources.mounts import SilentMounts
from reelseek.indexing.sources.roots import Collection
from reelseek.indexing.store.dates import with_known_date
from reelseek.indexing.store.unfinished import UnfinishedVideo
from reelseek.indexing.store.videos import NewVideo, VideoRecord
from reelseek.text.urls import is_url
from reelseek.vision import DecodePool, FileContent


class Copies(Protocol):
    """The copies of remote videos that are decoded, on this machine or on others."""

    def release(self, item: VideoItem) -> None: ...

    def close(self) -> None: ...


class Run:
    """One run, with the outcome of each video so far."""

    def __init__(
        self,
        writer: AnyWriter,
        *,
        encoder: Encoder,
        pool: DecodePool,
        retry_failed: bool,
        stop: StopRequest,
        interim: InterimPublisher,
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._pool = pool
        self._stop = stop
        self._interim = interim
        self._retry_failed = retry_failed
        self._settings = writer.manifest.settings
        self.records = {record.root_and_key: record for record in writer.catalogue.scan()}
        self._outcomes = Outcomes()
        self.summary, self.report = self._outcomes.summary, self._outcomes.report
        self._waiting: list[EncodedVideo[VideoTag]] = []  # for the spread to be measured
        self._removed: dict[tuple[str, str], VideoRecord] = {}
        self._absent: dict[tuple[str, str], VideoRecord] = {}
        self._mounts = SilentMounts()
        self._contents: Contents
        self._sizes_bytes: dict[tuple[str, str], int] = {}
        self._fetcher: Copies | None = None

    def apply(
        self,
        collection: Collection,
        diff: Diff,
        progress: VideoProgress,
        *,
        remote: RemoteVideos | None = None,
    ) -> None:
        """Makes the changes; an interrupt keeps what is done and leaves the rest to the next."""
        self._removed = {record.root_and_key: record for record in collection.removed}
        self._absent = {record.root_and_key: record for record in collection.absent}
        self._contents = Contents(
            self._writer,
            self.records,
            removed=[self.records[name] for name in (*self._absent, *self._removed)],
            retry_failed=self._retry_failed,
            stop=self._stop,
        )
        self._note_undecoded(collection, diff)
        self._sizes_bytes = diff.sizes_bytes
        self.summary.settling = diff.num_settling
        try:
            self._examine_all(diff.examine, progress)
            if remote is not None:
                self._apply_remote(remote, progress)
        except KeyboardInterrupt:
            self.summary.stopped = True
        self.summary.stopped |= bool(self._stop)
        self._writer.save()
        if not self.summary.stopped and self._removed:
            self._writer.delete_videos(self._removed.values())
            for record in self._removed.values():
                self._outcomes.add(_item_of(record), "deleted", record, outcome="")

    def _apply_remote(self, remote: RemoteVideos, progress: VideoProgress) -> None:
        """Works on remote videos while they are listed; what is gone is known at the end."""
        if remote.has_sources:
            with closing(self._open_fetcher(remote)) as self._fetcher:
                for diff in remote.diffs(self.records):
                    self._note_undecoded(Collection(), diff)
                    self._sizes_bytes = diff.sizes_bytes
                    progress.grow(len(diff.examine), sum(diff.sizes_bytes.values()))
                    self._examine_all(diff.examine, progress)
                    if self._stop:
                        return
        removed, away = remote.gone(self.records.values())
        self._removed.update((record.root_and_key, record) for record in removed)
        self._note_undecoded(Collection(away=away), Diff())

    def _open_fetcher(self, remote: RemoteVideos) -> Copies:
        return remote.fetcher()

    def _note_undecoded(self, collection: Collection, diff: Diff) -> None:
        """Keeps unchanged videos, and reports those that cannot be looked at."""
        note = self._outcomes.add
        for item, record in diff.unchanged:
            self._keep(VideoTag(item, record.signature), record)
        for item, reason in diff.missing:
            known = self.records.get(item.root_and_key)
            note(item, "missing", known, outcome="missing", reason=reason)
        for record, reason in collection.away:
            note(_item_of(record), "missing", record, outcome="missing", reason=reason)
        for item, reason in diff.unusable:
            note(item, "failed", reason=reason)
        for folder, reason in collection.unreadable.items():
            item = VideoItem(folder.as_posix(), folder)
            note(item, "failed", reason=f"the folder cannot be read ({reason})")

    def _examine_all(self, items: Sequence[VideoItem], progress: VideoProgress) -> None:
        while items and not self._stop:
            # The spread comes from the first videos, which are the same in every run.
            first, rest = spread_sample(items) if self._lacks_spread else (items, [])
            items = self._examine(first, progress) + list(rest)

    def _examine(self, items: Sequence[VideoItem], progress: VideoProgress) -> list[VideoItem]:
        """Encodes what must be encoded; returns the videos to examine again."""
        again: list[VideoItem] = []
        encoded = encode_videos(
            self._to_be_read(items) if self._fetcher is None else self._fetched(items),
            encoder=self._encoder,
            pool=self._pool,
            admit=self._contents.admit if self._fetcher is None else self._admit_fetched,
        )
        try:
            for video in encoded:
                again += self._settle_known(progress)
                self._take(video)
                self._count(progress, video.tag.item, was_encoded=True)
                self._publish_if_due()
        finally:
            encoded.close()
        again += self._settle_known(progress)
        self._add_waiting()
        self._writer.save()
        return again + self._contents.end_round()

    def _to_be_read(self, items: Sequence[VideoItem]) -> Iterator[tuple[VideoTag, Path]]:
        for item in items:
            if self._stop:
                return
            tag = VideoTag(item)
            if self._mounts.is_given_up(item.path):
                self._contents.settle(tag, "not read: other files beside it did not answer")
            else:
                yield tag, item.path

    def _fetched(self, items: Sequence[VideoItem]) -> Iterator[tuple[VideoTag, Path] | None]:
        """Yields remote videos as they arrive; None where none has."""
        assert isinstance(self._fetcher, Fetcher)
        for fetched in self._fetcher.fetch(items):
            if self._stop:
                return
            if fetched is None:
                yield None
            elif fetched.problem:
                self._contents.settle(VideoTag(fetched.item), fetched.problem)
            else:
                yield VideoTag(fetched.item), fetched.item.path

    def _admit_fetched(self, tag: VideoTag, content: FileContent) -> UnfinishedVideo | None:
        """As `Contents.admit`, under the signature of the object instead of its copy's."""
        assert self._fetcher is not None and tag.item.remote is not None
        kept = self._contents.admit(
            tag, replace(content, modified_ns=tag.item.remote.modified_ns())
        )
        if kept is None:
            self._fetcher.release(tag.item)
        return kept

    def _count(self, progress: VideoProgress, item: VideoItem, *, was_encoded: bool) -> None:
        """Counts a video that outlives this process."""
        progress.count(
            item.key,
            failed=self.summary.failed,
            size_bytes=self._sizes_bytes.get(item.root_and_key, 0),
            was_encoded=was_encoded,
        )

    def _publish_if_due(self) -> None:
        """Makes what is done searchable, once it is known how to cut scenes."""
        if self._interim.is_due and not self._stop and not self._waiting:
            self._interim.publish()

    def _settle_known(self, progress: VideoProgress) -> list[VideoItem]:
        """Stores videos without decoding them; returns those whose duplicate has been replaced in
        the meantime."""
        again = []
        for tag, record in self._contents.settled():
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
                self._outcomes.add(tag.item, "moved", record)
            elif self._writer.catalogue.videos([record.id]):
                self._copy(tag, record)
            else:
                self._contents.discard(record)
                again.append(tag.item)
                continue
            self._count(progress, tag.item, was_encoded=False)
        return again

    def _was_moved(self, record: VideoRecord) -> bool:
        """Whether a video has left its place, so that the same content elsewhere is that video."""
        return record.root_and_key in self._removed or record.root_and_key in self._absent

    def _keep(self, tag: VideoTag, record: VideoRecord) -> None:
        """Keeps a video of unchanged content, and brings its metadata up to date."""
        current = (tag.item.address, tag.signature, _metadata(tag.item, record))
        if current != (record.path, record.signature, record.metadata):
            self._update(tag, record)
        self._outcomes.add(tag.item, _action(record, "unchanged"), record)

    def _update(self, tag: VideoTag, record: VideoRecord) -> None:
        self._writer.catalogue.update(
            record,
            root=tag.item.root,
            key=tag.item.key,
            path=tag.item.address,
            signature=tag.signature,
            metadata=_metadata(tag.item, record),
        )

    def _copy(self, tag: VideoTag, record: VideoRecord) -> None:
        """Stores a second video with the content of another; they share their embeddings."""
        names = ("reason", "decoder", "num_frames", "duration_seconds", "spans", "frame_times")
        same = {name: getattr(record, name) for name in names}
        metadata = with_known_date(tag.item.metadata, record.metadata)
        video = tag.new_video(record.outcome, metadata=metadata, **same)
        self._writer.add_duplicate(video, record)
        self._outcomes.add(tag.item, _action(record, "indexed"), record)

    def _take_kept(self, tag: VideoTag, kept: UnfinishedVideo) -> None:
        """Takes a video whose last frame was encoded by a run that could not add it."""
        assert kept.finished is not None
        tag.was_kept = True
        encoded = torch.from_numpy(kept.embeddings)
        self._take(
            finished_video(
                tag, kept.finished, encoded, times_seconds=kept.times_seconds, rows=kept.rows
            )
        )

    def _take(self, encoded: EncodedVideo[VideoTag]) -> None:
        """Adds an encoded video, or lets it wait until the spread can be measured; waiting videos
        are kept among the unfinished."""
        if self._fetcher is not None:
            self._fetcher.release(encoded.tag.item)
        self._mounts.note(encoded.tag.item.path, is_silent=encoded.is_silent)
        if encoded.tag.signature == UNKNOWN_CONTENT:
            self._add_unread(encoded.tag, encoded.reason)
        elif encoded.outcome == "failed" or not self._lacks_spread:
            self._add(encoded)
        else:
            self._waiting.append(encoded)
            self._writer.save_if_due()

    @property
    def _lacks_spread(self) -> bool:
        return needs_spread(self._settings) and not self._writer.manifest.frame_spread

    def _add_waiting(self) -> None:
        """Measures the spread, if need be, and adds the videos that wait for it."""
        if self._lacks_spread and (spread := measure_spread(self._waiting)):
            self._writer.set_frame_spread(spread)
        for encoded in self._waiting:
            self._add(encoded)
        self._waiting = []

    def _add(self, encoded: EncodedVideo[VideoTag]) -> None:
        tag = encoded.tag
        if encoded.outcome == "failed":
            self._add_failed(tag, encoded.reason)
            return
        video, rows = segment_video(
            encoded,
            self._settings,
            spread=self._writer.manifest.frame_spread,
            pool=self._encoder.pool,
        )
        self._store(tag, video, rows, action="unchanged" if tag.was_kept else "indexed")

    def _store(self, tag: VideoTag, video: NewVideo, rows: np.ndarray, *, action: str) -> None:
        """Adds a video to the index, and reports it."""
        self._writer.add(video, rows)
        self._outcomes.add(tag.item, action, video)

    def _add_unread(self, tag: VideoTag, reason: str) -> None:
        """Reports a video whose file could not be read; what was indexed of it stays."""
        known = self.records.get(tag.item.root_and_key)
        if known is not None and known.location is not None:
            self._outcomes.add(tag.item, "failed", reason=f"{reason}; what was indexed is kept")
        else:
            self._add_failed(tag, reason)

    def _add_failed(self, tag: VideoTag, reason: str) -> None:
        video = tag.new_video("failed", reason=reason)
        no_rows = np.empty((0, self._encoder.embedding_dim), np.float32)
        self._store(tag, video, no_rows, action="failed")


def _action(record: VideoRecord, action: str) -> str:
    return "failed" if record.outcome == "failed" else action


def _item_of(record: VideoRecord) -> VideoItem:
    remote = RemoteObject(record.path) if is_url(record.path) else None
    return VideoItem(
        record.key, Path(record.path), record.metadata, root=record.root, remote=remote
    )


def _metadata(item: VideoItem, record: VideoRecord) -> dict:
    """Returns the metadata that a list gives a video of this content, else its present ones."""
    if not item.is_described:
        return record.metadata
    return with_known_date(item.metadata, record.metadata)
