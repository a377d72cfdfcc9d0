"""`reelseek search`, also `python search.py index=DIR query="..."`: prints the best matches."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reelseek.configs.schema import Format, SearchConfig
from reelseek.ranking.hits import Copy, SearchHit, SearchResults
from reelseek.ranking.searcher import Searcher
from reelseek.text import strict_json
from reelseek.text.terminal import clock, printable

USAGE = """usage: python search.py index=DIR query="..." [k=10] [level=video|moment] [json=true]
       [where="..."] [min_confidence=0.5] [explain=true] [page=FILE.html] [name=value ...]
       [format=table|json|csv|html|otio|edl|srt] [output=FILE]

Searches an index by words (query=), by an image (image=FILE), by a video (video=FILE), or by words
and one of these."""


def main(config: SearchConfig) -> None:
    _check_before_loading(config)
    parts: list = [Path(path) for path in (config.image, config.video) if path is not None]
    if config.query is not None:
        parts.insert(0, config.query)

    searcher = Searcher._open(
        config.index,
        config.model,
        index_cache=config.index_cache,
        index_cache_gb=config.index_cache_gb,
        device=config.device,
        log_queries=config.log_queries,
        ranker=config.ranker,
        token_matching=config.token_matching,
        entities=config.explain,
        where=config.where,
        shards=config.shards,
    )

    from reelseek.vision import VideoDecodeError

    try:
        if config.explain:
            _explain_query(searcher, config)
        hits = searcher.search(
            parts[0] if len(parts) == 1 else parts,
            k=config.k,
            level=config.level.value,
            where=config.where,
            min_confidence=config.min_confidence,
            sources=config.sources or None,
            analyze=config.analyze,
        )
    except VideoDecodeError as error:
        raise ValueError(f"{parts[-1]}: {error}") from error
    finally:
        searcher.close()
    if config.page is not None:
        from reelseek.ranking.page import write_page

        write_page(Path(config.page), [(" and ".join(map(str, parts)), hits)])
        print(f"page written to {printable(config.page)}", file=sys.stderr)
    shown = _format(config)
    if shown is not Format.table or hits:
        _write(_as_text(hits, shown, config, name=" and ".join(map(str, parts))), config.output)
    if not hits:  # beside what only the format may stand in
        print(printable(hits.why_empty), file=sys.stdout if _is_table(config) else sys.stderr)


def _format(config: SearchConfig) -> Format:
    return config.format or (Format.json if config.json else Format.table)


def _is_table(config: SearchConfig) -> bool:
    """Whether what is printed is for people."""
    return _format(config) is Format.table and config.output in (None, "-")


def _as_text(hits: SearchResults, shown: Format, config: SearchConfig, *, name: str) -> str:
    """The hits as the text of a file.

    Args:
        name: of the page or the timeline: the query.
    """
    from reelseek.ranking import formats

    if shown is Format.json:
        return strict_json.dumps([asdict(hit) for hit in hits]) + "\n"
    if shown is Format.csv:
        return formats.to_csv(hits)
    if shown is Format.srt:
        return formats.to_srt(hits)
    if shown is Format.html:
        from reelseek.ranking.page import page_html

        return page_html([(name, hits)])
    if shown is Format.table:
        return table(hits, explained=config.explain) + "\n"
    rate = formats.timecode_rate(_frame_rate(hits))
    write = formats.to_otio if shown is Format.otio else formats.to_edl
    return write(hits, name=name, rate=rate)


def _frame_rate(hits: Sequence[SearchHit]) -> float:
    """Frames a second of the first hit's video."""
    from reelseek.ranking.formats import DEFAULT_RATE
    from reelseek.vision import VideoDecodeError
    from reelseek.vision.decoding.container import open_container

    for hit in hits:
        try:
            container, stream = open_container(Path(hit.video))
        except VideoDecodeError:  # gone since, or a photo
            continue
        with container:
            return float(stream.average_rate or DEFAULT_RATE)
    return DEFAULT_RATE


def _write(text: str, output: str | None) -> None:
    """Prints a text, or writes it to a file, whole or not at all."""
    if output in (None, "-"):
        sys.stdout.write(text)
        return
    from reelseek.indexing.store.atomic import write_atomically

    assert output is not None
    write_atomically(Path(output), text.encode("utf-8", "replace"))
    print(f"hits written to {printable(output)}", file=sys.stderr)


def _check_before_loading(config: SearchConfig) -> None:
    """Says at once what no index and no model are needed to find wrong.

    Raises:
        ValueError: an empty query, an image or video that cannot be read, or a page that cannot be
            written.
    """
    from reelseek.indexing.store.atomic import check_can_write_file

    if config.query is not None and not config.query.strip():
        raise ValueError("query is empty: say in a few words what the video should show")
    for option, name in (("image", config.image), ("video", config.video)):
        if name is None:
            continue
        path = Path(name)
        if not path.is_file():  # nor a pipe, which would never end
            found = "is not a file" if path.exists() else "no such file"
            raise ValueError(f"{option}={name}: {found}; name an image or a video")
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{option}={name}: cannot be read ({error.strerror})") from error
    if config.page is not None:
        check_can_write_file("page", Path(config.page))
    if config.output not in (None, "-"):
        check_can_write_file("output", Path(str(config.output)))
    if config.format is not None:
        from reelseek.ranking.formats import check_format

        check_format(config.format.name)


def _explain_query(searcher: Searcher, config: SearchConfig) -> None:
    """Says on stderr, where it is in no one's way, what a sentence is taken to mean."""
    if config.query is not None and config.analyze:
        print(searcher.analyze(config.query), file=sys.stderr)
    if searcher.skipped:
        print(f"{'skipped':<10} {printable(searcher.skipped)}", file=sys.stderr)


def table(hits: Sequence[SearchHit], *, explained: bool = False) -> str:
    """The hits as lines of text: rank, probability of a match, time, what found it, file; and, if
    explained, the score that they are ordered by and what put them there."""
    from reelseek.ranking.evidence import explain, found_by

    lines = [f"{'#':>3}  {'match':>5}  {'time':<15}  {'found by':<15}  video"]
    for hit in hits:
        span = f"{clock(hit.start_seconds)}-{clock(hit.end_seconds)}"
        found = found_by(hit.evidence)
        lines.append(
            f"{hit.rank:>3}  {hit.match:>5}  {span:<15}  {found:<15}  {printable(hit.key)}"
        )
        if hit.also_as:
            lines.append(f"{'':>5}also as {printable(_names(hit.also_as))}")
        if explained:
            lines.append(f"{'':>5}score {hit.score:.3f}: {printable(explain(hit.evidence))}")
    return "\n".join(lines)


def _names(copies: Sequence[Copy]) -> str:
    """The first few copies' paths, and how many more there are."""
    shown = ", ".join(copy.video for copy in copies[:3])
    return shown if len(copies) <= 3 else f"{shown} and {len(copies) - 3} more"
