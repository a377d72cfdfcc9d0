"""`python -m indexing.verify index=DIR`: reads all of an index and says what is wrong with it."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from reelseek.configs import command_line
from reelseek.configs.schema import ModelConfig, VerifyConfig, sampling_from_dict
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.files import check_files, read_table
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.lexical.publishing import document_counts, text_table
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.sources.diff import file_signature
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LEVELS, IndexSettings, Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.indexing.vectors.builder import level_tables
from reelseek.indexing.vectors.shard import Shard, file_checksum

USAGE = """usage: python -m indexing.verify index=DIR [sample=3]

Reads every byte of an index: checksums, counts, ids, and whether its parts agree; then decodes and
encodes a few videos again and compares. A line for each problem; the last line on stdout is a JSON
object. Exit code 0 if nothing is wrong, else 1."""

_MIN_COSINE = 0.99  # of an embedding with itself, made again in another precision


def find_problems(folder: Path) -> Iterator[str]:
    """What is wrong with the files of an index, a line each."""
    try:
        manifest = Manifest.read(folder)
    except ValueError as error:
        yield str(error)
        return
    try:
        catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
    except ValueError as error:
        yield str(error)
        return
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=manifest.settings.embedding_dim)
    try:
        yield from catalogue.integrity_problems()
        try:
            records = list(catalogue.scan())
            yield from _counter_problems(catalogue, manifest, records)
            unpublished = catalogue.counter("revision") - manifest.revision
            text_problems = catalogue.text_problems()
            yield from text_problems
        except ValueError as error:
            yield str(error)
            return
        yield from _embedding_problems(records, parts)
        if not unpublished:
            yield from _shard_problems(folder, manifest, records)
        else:
            yield from _file_problems(folder, manifest)
        comparable = not unpublished and not text_problems
        yield from _lexical_problems(folder, manifest, catalogue if comparable else None)
    finally:
        catalogue.close()


def _counter_problems(
    catalogue: Catalogue, manifest: Manifest, records: list[VideoRecord]
) -> Iterator[str]:
    """Numbers that would be given a second time, and settings that the manifest does not have."""
    last_part = max((record.location[0] for record in records if record.location), default=0)
    if catalogue.counter("revision") < manifest.revision:
        yield f"{CATALOGUE_NAME}: its count of changes is behind what is published"
    if catalogue.counter("next_part") <= last_part:
        yield f"{CATALOGUE_NAME}: its count of parts is behind part {last_part}"
    stored = catalogue.index_metadata("settings")
    if stored and IndexSettings.from_values(json.loads(stored)) != manifest.settings:
        yield f"{CATALOGUE_NAME}: its copy of the settings differs from the manifest's"


def _embedding_problems(records: list[VideoRecord], parts: EmbeddingParts) -> Iterator[str]:
    """Rows that have suffered, and entries that name rows that there are not."""
    by_part: dict[int, list[VideoRecord]] = {}
    for record in records:
        if record.location is not None:
            by_part.setdefault(record.location[0], []).append(record)
    for part, users in sorted(by_part.items()):
        for record, count in damaged_embeddings(part, users, parts):
            yield f"{record.key}: {count} of its {record.num_rows} embeddings are damaged"


def damaged_embeddings(
    part: int, users: Sequence[VideoRecord], parts: EmbeddingParts
) -> list[tuple[VideoRecord, int]]:
    """The videos of a part that have damaged embeddings, and how many each."""
    firsts = [record.location[1] for record in users if record.location is not None]
    ends = [first + record.num_rows for first, record in zip(firsts, users, strict=True)]
    damaged = parts.damaged_rows(part, max(ends))
    counts = np.searchsorted(damaged, ends) - np.searchsorted(damaged, firsts)
    pairs = zip(users, counts.tolist(), strict=True)
    return [(record, count) for record, count in pairs if count]


def _file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    for level in manifest.levels.values():
        for info in (level.main, level.delta):
            if info is None:
                continue
            try:
                Shard(folder, info, embedding_dim=manifest.settings.embedding_dim)
            except FileNotFoundError as error:
                yield f"{error.filename} is missing"
            except ValueError as error:
                yield str(error)
        if level.deleted:
            try:
                if file_checksum(folder / level.deleted) != level.deleted_checksum:
                    yield f"{folder / level.deleted} is damaged"
            except FileNotFoundError:
                yield f"{folder / level.deleted} is missing"
            except ValueError as error:
                yield str(error)


def _shard_problems(folder: Path, manifest: Manifest, records: list[VideoRecord]) -> Iterator[str]:
    """Whether what is searched is what the catalogue holds."""
    problems = list(_file_problems(folder, manifest))
    yield from problems
    if problems:
        return
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
    """Whether the words are what was written, and those of the catalogue where one is given."""
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
    """Decodes and encodes a few videos again; returns problems, and how many were compared.

    Videos whose files are gone or have changed are passed over.
    """
    from reelseek.indexing.pipeline import encode_videos
    from reelseek.vision import FrameEncoder, load_model, start_decode_server

    settings = Manifest.read(folder).settings
    catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
    records = [record for record in catalogue.scan() if record.outcome == "ok"]
    catalogue.close()
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
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=settings.embedding_dim)
    encoder = FrameEncoder(model, device=device)
    decoding = command_line.load_decoding_config()
    problems = []
    with decoding.pool(sampling_from_dict(settings.sampling), model.preprocessing) as pool:
        items = [(record, Path(record.path)) for record in chosen]
        for video in encode_videos(items, encoder=encoder, pool=pool):
            record = video.tag
            assert record.location is not None
            part, row = record.location
            stored = parts.read_run(part, row, 1)[0]
            again = encoder.pool(video.embeddings).numpy() if len(video.embeddings) else stored * 0
            if float(stored @ again) < _MIN_COSINE:
                problems.append(
                    f"{record.key}: encoded again it has cosine {float(stored @ again):.3f} with "
                    "what is stored"
                )
    return problems, len(chosen)


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, VerifyConfig)
    folder = Path(config.index)
    if not folder.is_dir():
        raise ValueError(f"index={folder}: no such folder")
    if not (folder / CATALOGUE_NAME).exists():
        Manifest.read(folder)  # says it where this is no index at all, rather than a damaged one
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
        print(f"run python -m indexing.repair index={folder}", file=sys.stderr)
        sys.exit(1)
