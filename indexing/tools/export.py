"""`python -m indexing.export index=DIR output=DIR`: an index as Parquet, for other programs."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.schema import ExportConfig
from reelseek.indexing.shards.opening import IndexEmbeddings, open_catalogue
from reelseek.indexing.store.atomic import check_can_write_folder, publish_file
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.text import strict_json

USAGE = """usage: python -m indexing.export index=DIR output=DIR [frames=true]

Writes videos.parquet, segments.parquet and, if asked to, frames.parquet, each row with its float16
embedding; and texts.parquet, what was read or heard; needs pyarrow (pip install
'reelseek[parquet]'). The last line on stdout is a JSON object."""

_ROWS = 16_384  # of a row group, about


def export_index(folder: Path, output: Path, *, frames: bool = False) -> dict[str, int]:
    """Writes the searchable videos of an index; returns the number of rows of each file.

    Raises:
        ValueError: the folder is not an index, or is damaged; pyarrow is missing.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ValueError("export needs pyarrow: pip install 'reelseek[parquet]'") from error
    manifest = Manifest.read(folder)
    dim = manifest.settings.embedding_dim
    check_can_write_folder("output", output)
    embeddings = IndexEmbeddings(folder, manifest)
    vector = pa.list_(pa.float16(), dim)
    video_columns = {
        **{"video_id": pa.int64(), "id": pa.string(), "key": pa.string(), "path": pa.string()},
        **{"outcome": pa.string(), "duration_seconds": pa.float64(), "metadata": pa.string()},
    }
    span_columns = {
        **{"video_id": pa.int64(), "start_seconds": pa.float64(), "end_seconds": pa.float64()},
    }
    tables: dict[str, tuple[dict, Any]] = {
        "videos": (video_columns, _video_rows),
        "segments": (span_columns, _segment_rows),
    }
    if frames:
        tables["frames"] = ({"video_id": pa.int64(), "seconds": pa.float64()}, _frame_rows)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output={output}: cannot be made ({error.strerror})") from error
    counts = {}
    for name, (columns, rows_of) in tables.items():
        schema = pa.schema([*columns.items(), ("embedding", vector)])
        with (
            closing(open_catalogue(folder)) as catalogue,
            closing(catalogue.scan()) as scan,
        ):
            records = (record for record in scan if record.location is not None)
            batches = _batches(
                (rows_of(record, embeddings.of(record)) for record in records), schema
            )
            counts[name] = _write(output / f"{name}.parquet", batches, schema)
    counts["texts"] = _write_texts(folder, output / "texts.parquet")
    return counts


def _write_texts(folder: Path, path: Path) -> int:
    import pyarrow as pa

    schema = pa.schema(
        {
            **{"video_id": pa.int64(), "source": pa.string(), "engine": pa.string()},
            **{"start_seconds": pa.float64(), "end_seconds": pa.float64(), "text": pa.string()},
        }
    )
    with closing(open_catalogue(folder)) as catalogue:
        entries = catalogue.text_entries(catalogue.searchable_ids().tolist())
        rows = (
            {"video_id": entry.video_id, "engine": entry.engine, **asdict(text)}
            for entry in entries
            for text in entry.texts
        )
        groups = iter(lambda: list(islice(rows, _ROWS)), [])
        batches = (pa.RecordBatch.from_pylist(group, schema) for group in groups)
        return _write(path, batches, schema)


def _video_rows(record: VideoRecord, parts: EmbeddingParts) -> tuple[list[list], np.ndarray]:
    assert record.location is not None
    part, row = record.location
    columns: list[list] = [
        *([record.id], [record.public_id], [record.key], [record.path], [record.outcome]),
        *([record.duration_seconds], [strict_json.dumps(record.metadata, sort_keys=True)]),
    ]
    return columns, parts.read_run(part, row, 1)


def _segment_rows(record: VideoRecord, parts: EmbeddingParts) -> tuple[list[list], np.ndarray]:
    assert record.location is not None
    part, row = record.location
    count = len(record.spans)
    columns = [[record.id] * count, record.spans[:, 0].tolist(), record.spans[:, 1].tolist()]
    return columns, parts.read_run(part, row + 1, count)


def _frame_rows(record: VideoRecord, parts: EmbeddingParts) -> tuple[list[list], np.ndarray]:
    assert record.location is not None
    part, row = record.location
    count = len(record.frame_times)
    columns = [[record.id] * count, record.frame_times.tolist()]
    return columns, parts.read_run(part, row + 1 + len(record.spans), count)


def _batches(rows: Iterator[tuple[list[list], np.ndarray]], schema: Any) -> Iterator[Any]:
    """Yields Arrow batches of about `_ROWS` rows."""
    columns: list[list] = [[] for _ in schema.names[:-1]]
    vectors: list[np.ndarray] = []
    for some, embeddings in rows:
        for column, values in zip(columns, some, strict=True):
            column += values
        vectors.append(embeddings)
        if len(columns[0]) >= _ROWS:
            yield _batch(columns, vectors, schema)
            columns, vectors = [[] for _ in columns], []
    if columns[0]:
        yield _batch(columns, vectors, schema)


def _batch(columns: list[list], vectors: list[np.ndarray], schema: Any) -> Any:
    import pyarrow as pa

    flat = pa.array(np.concatenate(vectors).astype(np.float16).reshape(-1))
    vector_type = schema.types[-1]
    arrays = [
        pa.array(values, kind) for values, kind in zip(columns, schema.types[:-1], strict=True)
    ]
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, vector_type.list_size))
    return pa.record_batch(arrays, schema=schema)


def _write(path: Path, batches: Iterator[Any], schema: Any) -> int:
    import pyarrow.parquet as pq

    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                count += batch.num_rows

    publish_file(path, write)
    return count


def main(config: ExportConfig) -> None:
    counts = export_index(Path(config.index), Path(config.output), frames=config.frames)
    command_line.print_json(counts)
