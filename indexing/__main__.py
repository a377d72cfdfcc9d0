"""`python -m indexing videos=PATH index=DIR`: makes an index, or brings it up to date."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.configs import command_line
from reelseek.configs.schema import (
    Engine,
    IndexConfig,
    ModelConfig,
    Progress,
    sampling_from_dict,
)

if TYPE_CHECKING:
    from reelseek.indexing.building.outcomes import IndexSummary
    from reelseek.indexing.building.run import Run
    from reelseek.indexing.cluster.engine import Cluster
    from reelseek.indexing.pipeline import Encoder
    from reelseek.indexing.remote.fetching import RemoteOptions
    from reelseek.indexing.remote.sources import RemoteSource
    from reelseek.indexing.sources.collection import Source
    from reelseek.indexing.store.manifest import FaissOptions, Manifest
    from reelseek.vision import DualEncoder

USAGE = """usage: python -m indexing videos=PATH index=DIR [model=NAME] [shards=N] [name=value ...]

Makes a searchable index of videos, or brings it up to date: only what is new or changed is
decoded. The last line on stdout is a JSON object; the outcome of each video is in
DIR/report.jsonl. Exit code 0 if anything is searchable."""

_LISTED_FAILURES = 10

# The fields of `FaissOptions`, and the options that give them.
_FAISS_OPTIONS = {
    "kind": "index.kind",
    "recall": "index.recall",
    "memory_bytes": "index.memory_mb",
}


def main(config: IndexConfig) -> None:
    os.nice(config.niceness)  # first of all: threads and processes take it over when they start

    from reelseek.indexing.shards.opening import check_num_shards
    from reelseek.indexing.store.atomic import write_atomically
    from reelseek.indexing.store.manifest import Manifest
    from reelseek.indexing.vectors.tuning import check_factory
    from reelseek.indexing.writer import check_can_be_written
    from reelseek.text.urls import public_url
    from reelseek.vision import check_model_name

    folder = Path(config.index.folder)
    check_can_be_written(folder)
    if config.model is not None:
        check_model_name(config.model.name, known_names=command_line.preset_names("model"))
    sources, remote_sources = _checked_sources(config, folder)
    is_new = not Manifest.exists(folder)
    faiss_options = _faiss_options(config)
    if not is_new:
        manifest = Manifest.read(folder)
        check_num_shards(manifest, folder, config.shards)
        faiss_options = _keep_settings(config, manifest, faiss_options)
    check_factory(faiss_options.kind)
    if config.engine is Engine.ray:
        from reelseek.indexing.cluster.connection import check_address, check_cluster_can_write

        check_cluster_can_write(folder, config.shards)
        check_address(config.ray.address)

    summary, signal_number = _update(
        config, sources, faiss_options, remote_sources=remote_sources, is_new=is_new
    )
    for remote in remote_sources:
        if line := str(remote.passed_over):
            print(f"passed over: {remote.name}: {line}", file=sys.stderr)
    config.videos = list(map(public_url, config.videos))  # a query may be a signature
    write_atomically(folder / "config.yaml", command_line.to_yaml(config).encode())
    command_line.print_json(asdict(summary))
    if summary.failed:
        _say_failures(folder, num_failed=summary.failed)
    if summary.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + (signal_number or signal.SIGINT))
    if not summary.searchable:
        print("error: none of the videos can be searched", file=sys.stderr)
        sys.exit(1)


def _checked_sources(
    config: IndexConfig, folder: Path
) -> "tuple[list[Source], list[RemoteSource]]":
    """Lists the videos and says what of them is passed over.

    Raises:
        ValueError: nothing of what `videos` names exists, nor is known to the index.
    """
    from reelseek.indexing.remote.sources import read_remote_sources, split_remote
    from reelseek.indexing.sources.collection import passed_over
    from reelseek.text.urls import is_url

    paths = [name for name in config.videos if not is_url(name)]
    urls = [name for name in config.videos if is_url(name)]
    sources, remote_sources = split_remote(_read_sources(config, paths))
    remote_sources += read_remote_sources(urls, _remote_options(config), images=config.images)
    all_sources: list[Source | RemoteSource] = [*sources, *remote_sources]
    if all(source.problem for source in all_sources):
        _refuse_unknown(folder, sources, remote_sources)
    for source in all_sources:
        if source.problem:
            line = f"passed over: videos={source.name}: {source.problem}"
            print(command_line.printable(line), file=sys.stderr)
    if line := str(passed_over(sources)):
        print(f"passed over: {line}", file=sys.stderr)
    return sources, remote_sources


def _remote_options(config: IndexConfig) -> "RemoteOptions":
    from reelseek.indexing.remote.fetching import RemoteOptions

    return RemoteOptions(
        disk_bytes=int(config.remote.disk_gb * 2**30),
        parallel=config.remote.parallel,
        attempts=config.remote.attempts,
        timeout_seconds=config.remote.timeout_seconds,
    )


def _faiss_options(config: IndexConfig) -> "FaissOptions":
    from reelseek.indexing.store.manifest import FaissOptions

    return FaissOptions(
        kind=config.index.kind,
        recall=config.index.recall,
        memory_bytes=int(config.index.memory_mb * 2**20),
    )


def _keep_settings(
    config: IndexConfig, manifest: "Manifest", faiss_options: "FaissOptions"
) -> "FaissOptions":
    """Takes the settings that the command line does not give from the index.

    Raises:
        IndexMismatchError: it gives others for what may not change.
    """
    from reelseek.indexing.store.manifest import check_layout

    has = manifest.settings
    if "model" not in config.given:
        config.model = ModelConfig(**has.model)
    if "sampling" not in config.given:
        config.sampling = sampling_from_dict(has.sampling)
    if "segments" not in config.given:
        config.segments = type(config.segments)(**has.segments)
    sampling, segments = asdict(config.sampling), asdict(config.segments)
    check_layout(has, Path(config.index.folder), sampling=sampling, segments=segments)
    changed = {
        name: getattr(faiss_options, name)
        for name, given_as in _FAISS_OPTIONS.items()
        if given_as in config.given
    }
    return replace(manifest.faiss, **changed)


def _update(
    config: IndexConfig,
    sources: "list[Source]",
    faiss_options: "FaissOptions",
    *,
    remote_sources: "list[RemoteSource]",
    is_new: bool,
) -> "tuple[IndexSummary, int | None]":
    """Loads the model and brings the index up to date; returns the signal that stopped it, too."""
    from reelseek.indexing.building.sentences import everyday_embeddings
    from reelseek.indexing.indexer import update_index
    from reelseek.indexing.shutdown import stop_on_signals
    from reelseek.indexing.store.manifest import IndexSettings
    from reelseek.vision import choose_device, load_model, start_decode_server
    from reelseek.vision.models.kept_text import keep_text, stamp_model
    from reelseek.vision.models.openvino_text import compile_text_tower

    if config.engine is Engine.local:
        start_decode_server()  # loads its libraries while the model loads here
    model_config = config.model or command_line.load_model_config("mini")
    source = stamp_model(model_config.spec())
    model = load_model(model_config.spec(), known_names=command_line.preset_names("model"))
    if is_new and config.model is None and config.progress is Progress.bar:
        _advise_model(config)
    device = choose_device(config.device)
    if is_new and device.type == "cpu" and (tower := compile_text_tower(model)) is not None:
        keep_text(model, tower, source)  # for the first search
    settings = IndexSettings(
        model=asdict(model_config),
        fingerprint=model.fingerprint,
        embedding_dim=model.embedding_dim,
        sampling=asdict(config.sampling),
        segments=asdict(config.segments),
    )
    with (
        _engine(config, model) as (encoder, make_run),
        config.decoding.pool(config.sampling.frame_settings(model.preprocessing)) as pool,
        stop_on_signals() as stop,  # after Ray, which has a way of its own with signals
    ):
        summary = update_index(
            Path(config.index.folder),
            sources,
            settings=settings,
            encoder=encoder,
            pool=pool,
            num_shards=config.shards,
            faiss_options=faiss_options,
            prune=config.prune,
            retry_failed=config.retry_failed,
            check_content=config.check_content,
            keep_edited=config.keep_edits,
            settle_seconds=config.settle_seconds,
            publish_every_seconds=config.publish_every_seconds,
            progress=config.progress.value,
            timeout_seconds=config.decoding.timeout_seconds,
            stop=stop,
            sentences=lambda: everyday_embeddings(model, device),
            make_run=make_run,
            remote_sources=remote_sources,
            remote_options=_remote_options(config),
        )
    return summary, stop.signal_number


@contextmanager
def _engine(
    config: IndexConfig, model: "DualEncoder"
) -> "Iterator[tuple[Encoder, Callable[..., Run]]]":
    """Yields what encodes, and what makes a run of it: here, or on a cluster."""
    from reelseek.indexing.building.run import Run
    from reelseek.vision import FrameEncoder

    if config.engine is Engine.ray:
        with _cluster(config, model) as cluster:
            from reelseek.indexing.cluster.run import ClusterRun

            yield cluster.encoder, partial(ClusterRun, cluster=cluster)
        return
    yield (
        FrameEncoder(
            model, device=config.device, precision=config.precision, compiled=True, padded=True
        ),
        Run,
    )


@contextmanager
def _cluster(config: IndexConfig, model: "DualEncoder") -> "Iterator[Cluster]":
    """Connects to the cluster of `engine=ray`, and starts the encoders of its nodes."""
    from reelseek.indexing.cluster.connection import connect
    from reelseek.indexing.cluster.engine import kept_precision, load_encoder, start_cluster
    from reelseek.indexing.cluster.writing import wait_for_shards

    folder = Path(config.index.folder)
    wait_for_shards(folder)  # of a run that was killed
    if config.precision == "auto":
        config.precision = kept_precision(folder)
    frames_bytes = int(config.ray.frames_mb * 2**20)
    known_names = command_line.preset_names("model")
    make_encoder = partial(
        load_encoder, spec=model.spec, device=config.device, known_names=known_names
    )
    with connect(config.ray.address, frames_bytes=frames_bytes):
        cluster = start_cluster(
            model,
            make_encoder,
            config.sampling.frame_settings(model.preprocessing),
            precision=config.precision,
            decoders=config.decoding.decoders(),
            limits=config.decoding.limits(),
            frames_bytes=frames_bytes,
            fetch_folder=None if config.ray.fetch_folder is None else Path(config.ray.fetch_folder),
        )
        print(f"all nodes encode in {cluster.way}", file=sys.stderr)
        yield cluster


def _advise_model(config: IndexConfig) -> None:
    """Says once to a user of the built-in model which other one answers better."""
    from reelseek.indexing.model_advice import first_advice
    from reelseek.vision import choose_device, default_cache_folder

    has_gpu = choose_device(config.device).type == "cuda"
    if advice := first_advice(default_cache_folder(), has_gpu=has_gpu):
        print(advice, file=sys.stderr)


def _read_sources(config: IndexConfig, paths: list[str]) -> "list[Source]":
    """Lists each path of `videos`, also on a network drive that is away."""
    from reelseek.indexing.sources.collection import Source, read_source
    from reelseek.indexing.sources.killable import map_killably

    read = partial(read_source, images=config.images)
    sources = []
    for name, answer in zip(
        paths,
        map_killably(read, paths, timeout_seconds=config.decoding.timeout_seconds),
        strict=True,
    ):
        if isinstance(answer, TimeoutError):
            path, problem = Path(os.path.abspath(name)), str(answer.strerror)
            answer = Source(name, path, problem=problem, scope=path, is_silent=True)
        elif isinstance(answer, Exception):
            raise answer
        sources.append(answer)
    return sources


def _say_failures(folder: Path, *, num_failed: int) -> None:
    """Lists the first videos that failed, with reasons, and names the report."""
    from reelseek.indexing.store.report import failures

    listed = failures(folder, max_num=_LISTED_FAILURES)
    for line in listed:
        print(command_line.printable(f"failed: {line.key}: {line.reason}"), file=sys.stderr)
    report = command_line.printable(str(folder / "report.jsonl"))
    print(f"{num_failed} failed: see {report}", file=sys.stderr)


def _refuse_unknown(
    folder: Path, sources: "list[Source]", remote_sources: "list[RemoteSource]"
) -> None:
    """Raises if no source is there or known to the index."""
    from reelseek.indexing.shards.opening import open_catalogue
    from reelseek.indexing.sources.roots import collect
    from reelseek.indexing.store.manifest import Manifest
    from reelseek.text.urls import is_url

    records = []
    if Manifest.exists(folder):
        with closing(open_catalogue(folder)) as catalogue:
            records = list(catalogue.scan())
    if any(source.covers(record.path) for source in remote_sources for record in records):
        return
    if not sources:
        raise ValueError(f"videos={remote_sources[0].name}: {remote_sources[0].problem}")
    collect(sources, [record for record in records if not is_url(record.path)])


if __name__ == "__main__":
    command_line.run(main, IndexConfig, usage=USAGE)
