"""`reelseek clip`: writes the seconds of a hit, or of a file, as a video file of their own."""

from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import ClipConfig
from reelseek.indexing.store.atomic import check_can_write_file, publish_file
from reelseek.text.urls import is_url

# What FFmpeg calls the containers that a clip may be written in.
_CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}


def main(config: ClipConfig) -> None:
    output = Path(config.output)
    if output.suffix.lower() not in _CONTAINERS:
        allowed = ", ".join(_CONTAINERS)
        raise ValueError(f"output={output}: must end in one of {allowed}")
    check_can_write_file("output", output)
    video, start, end = _span(config)

    from reelseek.vision import VideoDecodeError
    from reelseek.vision.clips import Clip, ClipForm, write_clip

    written: list[Clip] = []

    def write(temporary: Path) -> None:
        written.append(
            write_clip(
                video,
                temporary,
                start_seconds=start,
                end_seconds=end,
                tolerance_seconds=config.tolerance_seconds,
                form=ClipForm(_CONTAINERS[output.suffix.lower()]),
            )
        )

    try:
        publish_file(output, write)
    except VideoDecodeError as error:
        raise ValueError(f"video={video}: {error}") from error
    (clip,) = written
    command_line.print_json(
        {
            "output": str(output),
            "video": str(video),
            "start_seconds": clip.start_seconds,
            "end_seconds": clip.end_seconds,
            "copied": clip.is_copied,
        }
    )


def _span(config: ClipConfig) -> tuple[Path, float, float]:
    """The file, and the seconds of it, that are to be written.

    Raises:
        ValueError: the query has fewer hits than `rank`.
    """
    if config.video is not None:
        assert config.start is not None and config.end is not None
        return Path(config.video), config.start, config.end
    assert config.query is not None and config.index is not None

    from reelseek.ranking.searcher import Searcher

    with Searcher.open(config.index, device=config.device) as searcher:
        hits = searcher.search(config.query, k=config.rank, level="moment", where=config.where)
    if len(hits) < config.rank:
        found = f"only {len(hits)} moments match" if hits else hits.why_empty
        raise ValueError(f"query={config.query}: rank={config.rank}: {found}")
    hit = hits[config.rank - 1]
    if is_url(hit.video):
        raise ValueError(f"query={config.query}: {hit.video} is a URL; only local videos are cut")
    return Path(hit.video), hit.start_seconds, hit.end_seconds
