"""`python -m indexing.verify index=DIR`: reads all of an index and lists its problems."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.schema import ModelConfig, VerifyConfig, sampling_from_dict
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.files import check_files, read_table
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.lexical.publishing import document_counts, text_table
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME, file_problems
from reelseek.indexing.shards.clusters import open_clusters
from reelseek.indexing.shards.opening import IndexEmbeddings, open_catalogue
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace, shard_of
from reelseek.indexing.sources.diff import file_signature
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LEVELS, SHARDS_NAME, IndexSettings, Manifest
from reelseek.indexing.store.videos import VideoRecord, by_part
from reelseek.indexing.vectors.builder import level_tables
from reelseek.indexing.vectors.shard import Shard

USAGE = """usage: python -m indexing.verify index=DIR [sample=3]

Reads every byte of an index: checksums, counts, ids, and whether its parts agree; then decodes and
encodes a few videos again and compares. A line for each problem; the last line on stdout is a JSON
object. Exit code 0 if nothing is wrong, else 1."""

_MIN_COSINE = 0.95  # of an embedding and the same one in another precision, 8 bits among them


def find_problems(folder: Path) -> Iterator[str]:
    """Yields the problems of an index's files, a line each."""
    try:
        manifest = Manifest.read(folder)
    except ValueError as error:
        yield str(error)
        return
    if manifest.sharding is None:
        yield from _index_problems(folder, manifest)
        return
    shards = manifest.shard_manifests(folder)
    yield from _cluster_problems(folder, manifest)
    for position, (shard, own) in enumerate(shards.items()):
        place = ShardPlace(manifest.sharding.id, position, len(shards))
        by_hash = manifest.sharding.placement == "hash"
        place_problems = _place_problems(shard, place, by_hash=by_hash)
        for problem in chain(_index_problems(shard, own), place_problems):
            yield f"{SHARDS_NAME}/{shard.name}: {problem}"


def _index_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Checks an ordinary index, or a shard as the manifest of all names it."""
    try:
        catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
    except ValueError as error:
        yield str(error)
        return
    with closing(catalogue):
        yield from _catalogue_problems(folder, manifest, catalogue)


def _cluster_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Checks clusters, and that no video is in two of the shards that they place videos in."""
    try:
        if open_clusters(folder, manifest) is None:
            return
        with closing(open_catalogue(folder)) as catalogue:
            counts = Counter(record.public_id for record in catalogue.scan())
    except ValueError as error:
        yield str(error)
        return
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield f"{name}: is in {counts[name]} shards"


def _place_problems(folder: Path, place: ShardPlace, *, by_hash: bool) -> Iterator[str]:
    """Checks that a shard is the one that belongs there, with its own manifest and videos."""
    try:
        Manifest.read(folder)
        with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
            if catalogue.index_metadata(SHARD_METADATA) != str(place):
                yield f"is not shard {place.position} of this index"
            names = catalogue.public_ids().values()
            strays = by_hash * sum(
                shard_of(name, place.num_shards) != place.position for name in names
            )
    except ValueError as error:
        yield str(error)
        return
    if strays:
        yield f"{strays} of its videos belong in other shards"


def _catalogue_problems(folder: Path, manifest: Manifest, catalogue: Catalogue) -> Iterator[str]:
    """Checks the catalogue, and all else against it."""
    yield from catalogue.integrity_problems()
    try:
        records = list(catalogue.scan())
        yield from _counter_problems(catalogue, manifest, records)
        is_published = catalogue.counter("revision") == manifest.revision
        text_problems = catalogue.text_problems()
        yield from text_problems
    except ValueError as error:
        yield str(error)
        return
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=manifest.settings.embedding_dim)
    for record, count in damaged_embeddings(records, parts):
        yield f"{record.key}: {count} of its {record.num_rows} embeddings are damaged"
    problems = list(file_problems(folder, manifest))
    yield from problems
    if is_published and not problems:
        yield from _shard_problems(folder, manifest, records)
    comparable = is_published and not text_problems
    yield from _lexical_problems(folder, manifest, catalogue if comparable else None)


def _counter_problems(
    catalogue: Catalogue, manifest: Manifest, records: list[VideoRecord]
) -> Iterator[str]:
    """Yields counters that are too low, and settings that differ from the manifest's."""
    last_part = max((record.location[0] for record in records if record.location), default=0)
    if catalogue.counter("revision") < manifest.revision:
        yield f"{CATALOGUE_NAME}: its count of changes is behind what is published"
    if catalogue.counter("next_part") <= last_part:
        yield f"{CATALOGUE_NAME}: its count of parts is behind part {last_part}"
    stored = catalogue.index_metadata("settings")
    if stored and IndexSettings.from_values(json.loads(stored)) != manifest.settings:
        yield f"{CATALOGUE_NAME}: its copy of the settings differs from the manifest's"


def damaged_embeddings(
    records: Iterable[VideoRecord], parts: EmbeddingParts
) -> Iterator[tuple[VideoRecord, int]]:
    """Yields the videos that have damaged or missing embeddings, with their number."""
    for part, users in by_part(records).items():
        firsts = [first for _, first in users]
        ends = [first + record.num_rows for record, first in users]
        damaged = parts.damaged_rows(part, max(ends))
        counts = np.searchsorted(damaged, ends) - np.searchsorted(damaged, firsts)
        for (record, _), count in zip(users, counts.tolist(), strict=True):
            if count:
                yield record, count


def _shard_problems(folder: Path, manifest: Manifest, records: list[VideoRecord]) -> Iterator[str]:
    """Compares the shards with the catalogue."""
    tables = level_tables(records)
    for name in LEVELS:
        level = manifest.levels.get(name)
        if level is None:
            continue
        searched = []
        for info in (level.main, level.delta):
            if info is not None:
                table = Shard(folder, info, embedding_dim=manifest.settings.embedding_dim).table
                searched.append(table[table["part"] >= 0])
        rows = np.concatenate(searched) if searched else tables[name][:0]
        if len(rows) != len(tables[name]):
            yield f"{name}: {len(rows)} are searched, and the catalogue has {len(tables[name])}"
        elif (rows != tables[name]).any():
            yield f"{name}: {int((rows != tables[name]).sum())} entries differ from the catalogue's"


def _lexical_problems(
    folder: Path, manifest: Manifest, catalogue: Catalogue | None
) -> Iterator[str]:
    """Checks the lexical index, and compares it with the catalogue if one is given."""
    info = manifest.lexical
    if info is None:
        return
    try:
        table = read_table(check_files(folder, info))
        if documents.is_installed() and info.analysis == documents.analysis():
            LexicalIndex(folder, info)
        if catalogue is None:
            return
        differ = np.setxor1d(table, text_table(catalogue))["video"]
        counts = document_counts(catalogue)
    except FileNotFoundError as error:
        yield f"{error.filename} is missing"
    except ValueError as error:
        yield str(error)
    else:
        if len(differ):
            yield f"{info.name}: the words of {len(np.unique(differ))} videos are not theirs"
        if counts != info.num_documents:
            yield f"{info.name}: has {info.num_documents} documents, and the catalogue {counts}"


def reencoding_problems(folder: Path, *, sample: int, device: str) -> tuple[list[str], int]:
    """Decodes and encodes a few videos again; returns problems, and the number of compared videos.

    Skips videos whose files are gone or have changed.
    """
    from reelseek.indexing.pipeline import encode_videos
    from reelseek.vision import FrameEncoder, load_model, start_decode_server

    manifest = Manifest.read(folder)
    settings = manifest.settings
    with closing(open_catalogue(folder)) as catalogue:
        records = [record for record in catalogue.scan() if record.outcome == "ok"]
    order = np.random.default_rng().permutation(len(records)).tolist()
    chosen: list[VideoRecord] = []
    for position in order:
        path = Path(records[position].path)
        if len(chosen) == sample:
            break
        if path.is_file() and file_signature(path).content_sha256 == (
            records[position].signature.content_sha256
        ):
            chosen.append(records[position])
    if not chosen:
        return [], 0
    start_decode_server()
    model = load_model(
        ModelConfig(**settings.model).spec(), known_names=command_line.preset_names("model")
    )
    if model.fingerprint != settings.fingerprint:
        return [f"model={settings.model.get('name')} is no longer what the index was built with"], 0
    embeddings = IndexEmbeddings(folder, manifest)
    encoder = FrameEncoder(model, device=device)
    decoding = command_line.load_decoding_config()
    frames = sampling_from_dict(settings.sampling).frame_settings(model.preprocessing)
    problems = []
    with decoding.pool(frames) as pool:
        items = [(record, Path(record.path)) for record in chosen]
        for video in encode_videos(items, encoder=encoder, pool=pool):
            record = video.tag
            assert record.location is not None
            part, row = record.location
            stored = embeddings.of(record).read_run(part, row, 1)[0]
            again = encoder.pool(video.embeddings).numpy() if len(video.embeddings) else stored * 0
            if float(stored @ again) < _MIN_COSINE:
                problems.append(
                    f"{record.key}: encoded again it has cosine {float(stored @ again):.3f} with "
                    "what is stored"
                )
    return problems, len(chosen)


def main(config: VerifyConfig) -> None:
    folder = Path(config.index)
    if not folder.is_dir():
        raise ValueError(f"index={folder}: no such folder")
    if not ((folder / CATALOGUE_NAME).exists() or (folder / SHARDS_NAME).is_dir()):
        Manifest.read(folder)  # raises if this is no index at all, rather than a damaged one
    problems = []
    for problem in find_problems(folder):
        print(command_line.printable(problem))
        problems.append(problem)
    compared = 0
    if config.sample and not problems:
        problems, compared = reencoding_problems(folder, sample=config.sample, device=config.device)
        for problem in problems:
            print(command_line.printable(problem))
    command_line.print_json({"problems": len(problems), "encoded_again": compared})
    if problems:
        print(f"run reelseek repair --index {folder}", file=sys.stderr)
        sys.exit(1)
