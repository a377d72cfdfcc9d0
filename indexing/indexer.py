"""Sources of videos and an index -> the index holding these videos, and what it held before.

Decodes only what is new or changed. Keeps what is done, so that a stopped run, however it was
stopped, goes on where it was.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from reelseek.indexing.building.edits import drop_edits, keep_edits
from reelseek.indexing.building.interim import InterimPublisher
from reelseek.indexing.building.outcomes import IndexSummary
from reelseek.indexing.building.run import Run
from reelseek.indexing.enrich.subtitles import update_subtitles
from reelseek.indexing.pipeline import Encoder
from reelseek.indexing.progress import JsonProgress, VideoProgress
from reelseek.indexing.remote.collection import RemoteVideos
from reelseek.indexing.remote.fetching import RemoteOptions
from reelseek.indexing.remote.sources import RemoteSource, split_remote
from reelseek.indexing.shards.opening import AnyWriter, open_writer
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import Source
from reelseek.indexing.sources.diff import Diff, compute_diff
from reelseek.indexing.sources.roots import Collection, collect
from reelseek.indexing.store.manifest import FaissOptions, IndexSettings
from reelseek.text.urls import is_url
from reelseek.vision import DecodePool

_FETCHED = "fetched"  # the folder of remote videos that are being decoded
_MOUNTS = "mounts"  # in the catalogue's metadata: folders at which file systems were mounted


def update_index(
    folder: Path,
    sources: Sequence[Source],
    *,
    settings: IndexSettings,
    encoder: Encoder,
    pool: DecodePool,
    num_shards: int | None = None,
    faiss_options: FaissOptions | None = None,
    prune: bool = False,
    retry_failed: bool = False,
    check_content: bool = False,
    keep_edited: bool = False,
    settle_seconds: float = 0.0,
    timeout_seconds: float = 120.0,
    publish_every_seconds: float = 0.0,
    show_progress: bool = True,
    progress: str = "bar",
    stop: StopRequest | None = None,
    sentences: Callable[[], np.ndarray] | None = None,
    remote_sources: Sequence[RemoteSource] = (),
    remote_options: RemoteOptions | None = None,
    make_run: Callable[..., Run] = Run,
) -> IndexSummary:
    """Brings an index up to date with folders and lists of videos; makes it if missing.

    Videos of other folders and lists stay as they are.

    Args:
        folder: of the index.
        sources: the folders, files and lists, see `indexing.sources.collection.read_source`.
        settings: of the index; those of an existing index must be the same.
        encoder: of the model that `settings` names.
        pool: decodes, with the sampling that `settings` names.
        num_shards: of a new index, default 1; an existing one must have as many.
        faiss_options: of the FAISS indexes; default: as they are.
        prune: delete from the index all videos that the sources do not list.
        retry_failed: try videos again that failed before.
        check_content: read files whose size and time are unchanged too.
        keep_edited: leave out videos that were deleted through the service, and keep metadata that
            were changed there; else the sources prevail, and these edits are forgotten.
        settle_seconds: leave files to the next run that were written to this recently.
        timeout_seconds: give up a file whose file system has not answered for so long.
        publish_every_seconds: make what is done searchable this often at most during the run; 0 for
            only at its end.
        show_progress: show it on stderr,
        progress: as a `bar` or as lines of `json`, see `indexing.progress`.
        stop: when set, finish the videos in hand and leave the rest to the next run.
        sentences: returns `(n, D)` embeddings of everyday sentences, which a new index keeps.
        remote_sources: URLs, see `indexing.remote.sources.read_remote_source`.
        remote_options: how remote videos are fetched.
        make_run: called with the arguments of `Run`; another class encodes elsewhere.

    Raises:
        ValueError: the folder cannot hold an index, another process is writing it, it has another
            number of shards, or none of the sources is there or known to the index.
        IndexMismatchError: the index was built with other settings.
    """
    started = time.monotonic()
    sources, listed = split_remote(sources)
    with open_writer(folder, settings, num_shards=num_shards) as writer:
        collection = _collect(writer, sources, prune=prune, timeout_seconds=timeout_seconds)
        edit = keep_edits if keep_edited else drop_edits
        has_edits = bool(writer.catalogue.excluded() or writer.catalogue.edits())
        edit(writer.catalogue, collection)
        run = make_run(
            writer,
            encoder=encoder,
            pool=pool,
            retry_failed=retry_failed,
            stop=StopRequest() if stop is None else stop,
            interim=InterimPublisher(
                # The run remembers where embeddings lie, which compacting would change.
                lambda: writer.publish(
                    faiss_options, compact=False, train=False, sentences=sentences
                ),
                every_seconds=publish_every_seconds,
            ),
        )
        diff = compute_diff(
            collection.items,
            run.records,
            check_content=check_content,
            retry_failed=retry_failed,
            settle_seconds=settle_seconds,
            timeout_seconds=timeout_seconds,
        )
        remote = RemoteVideos(
            [*remote_sources, *listed],
            remote_options,
            folder=folder / _FETCHED,
            edit=partial(edit, writer.catalogue) if has_edits else None,
            check_content=check_content,
            retry_failed=retry_failed,
            prune=prune,
        )
        shown = progress if show_progress else ""
        with _progress(diff, shown, may_grow=remote.has_sources) as counted:
            run.apply(collection, diff, counted, remote=remote)
        chosen = {item.root_and_key for item in collection.items}
        update_subtitles(writer.catalogue, chosen, timeout_seconds=timeout_seconds)
        manifest = writer.publish(faiss_options, sentences=sentences)
        order = [item.root_and_key for item in collection.items]
        run.report.write(folder, order, writer.catalogue.public_ids())
    run.summary.searchable = manifest.num_videos
    run.summary.seconds = round(time.monotonic() - started, 2)
    run.report.warn_of_missing()
    return run.summary


def _progress(diff: Diff, kind: str, *, may_grow: bool) -> VideoProgress:
    if kind == "json":
        return JsonProgress(len(diff.examine), total_bytes=sum(diff.sizes_bytes.values()))
    return VideoProgress(len(diff.examine), show=kind == "bar", may_grow=may_grow)


def _collect(
    writer: AnyWriter, sources: Sequence[Source], *, prune: bool, timeout_seconds: float
) -> Collection:
    """Compares the sources with the index, and stores the new paths of roots that were moved."""
    mounts = set(json.loads(writer.catalogue.index_metadata(_MOUNTS) or "[]"))
    records = [record for record in writer.catalogue.scan() if not is_url(record.path)]
    collection = collect(
        sources, records, mounts=mounts, prune=prune, timeout_seconds=timeout_seconds
    )
    for root, path in collection.moved_roots.items():
        writer.catalogue.move_root(root, path)
    if not collection.mounts <= mounts:
        writer.catalogue.set_index_metadata(_MOUNTS, json.dumps(sorted(mounts | collection.mounts)))
    return collection
