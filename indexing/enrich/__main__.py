"""`python -m indexing.enrich index=DIR ocr=true speech=true`: reads and hears indexed videos.

Stores the texts of each video at once, so that a stopped run, however it was stopped, goes on where
it was.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from reelseek.configs import command_line
from reelseek.configs.schema import EnrichConfig
from reelseek.indexing.enrich.extractor import ReadVideo, TextReader, why_not_the_same
from reelseek.indexing.progress import progress_bar
from reelseek.indexing.shards.opening import AnyWriter, open_writer
from reelseek.indexing.shutdown import StopRequest, stop_on_signals
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.indexing.writer import check_can_be_written

if TYPE_CHECKING:
    from reelseek.vision import DecodePool

logger = logging.getLogger(__name__)

USAGE = """usage: python -m indexing.enrich index=DIR [ocr=true] [speech=true] [speech_model=DIR]

Finds what is written (ocr, needs rapidocr: pip install 'reelseek[ocr]') and what is said (speech,
needs faster-whisper: pip install 'reelseek[speech]') in the videos of an index, and keeps it with
its seconds. Only what has not been looked at yet is. The last line on stdout is a JSON object.
Exit code 0 unless all have failed."""


@dataclass
class EnrichSummary:
    """The counts of a run, in videos.

    Attributes:
        ocr: read now, or known from a duplicate, with or without texts.
        speech: heard now, likewise.
        failed: could not be read or could not be heard; counts twice for both.
        seconds: the run took.
        stopped: whether it was interrupted before all was done.
    """

    ocr: int = 0
    speech: int = 0
    failed: int = 0
    seconds: float = 0.0
    stopped: bool = False


def enrich_index(
    folder: Path,
    readers: Sequence[TextReader],
    *,
    show_progress: bool = True,
    stop: StopRequest | None = None,
) -> EnrichSummary:
    """Stores the texts of the videos that have none of the readers' sources, and publishes.

    Args:
        folder: of the index.
        readers: each reads the videos without texts of its source.
        show_progress: draw a bar on stderr.
        stop: when set, finish the videos in hand and leave the rest to the next run.

    Raises:
        ValueError: the folder is not an index, or another process is writing it.
    """
    started = time.monotonic()
    stop = StopRequest() if stop is None else stop
    summary = EnrichSummary()
    with open_writer(folder) as writer:
        try:
            for reader in readers:
                if not stop:
                    _Run(writer, reader, summary, stop).apply(show_progress)
        except KeyboardInterrupt:
            summary.stopped = True
        summary.stopped |= bool(stop)
        writer.publish()
    summary.seconds = round(time.monotonic() - started, 2)
    return summary


class _Run:
    """The part of a run for one source."""

    def __init__(
        self, writer: AnyWriter, reader: TextReader, summary: EnrichSummary, stop: StopRequest
    ) -> None:
        self._catalogue = writer.catalogue
        self._reader = reader
        self._summary = summary
        self._stop = stop

    def apply(self, show_progress: bool) -> None:
        self._count(self._catalogue.copy_texts(self._reader.source))
        records = self._one_of_each_content()
        progress = progress_bar(
            total=len(records),
            desc=self._reader.source,
            disable=not (show_progress and records),
        )
        try:
            with progress:
                for video in self._reader.read(self._same_as_indexed(records, progress)):
                    self._settle(video, progress)
        finally:
            self._count(self._catalogue.copy_texts(self._reader.source))

    def _one_of_each_content(self) -> list[VideoRecord]:
        """Returns the videos to read; of duplicates, one whose file exists."""
        pending = self._catalogue.videos(self._catalogue.without_texts(self._reader.source))
        chosen: dict[str, VideoRecord] = {}
        for record in pending.values():
            before = chosen.get(record.signature.content_sha256)
            if before is None or not Path(before.path).is_file():
                chosen[record.signature.content_sha256] = record
        return list(chosen.values())

    def _same_as_indexed(
        self, records: Sequence[VideoRecord], progress: "tqdm"
    ) -> Iterator[VideoRecord]:
        for record in records:
            if self._stop:
                return
            if reason := why_not_the_same(record):
                self._settle(ReadVideo(record, None, reason), progress)
            else:
                yield record

    def _settle(self, video: ReadVideo, progress: "tqdm") -> None:
        source = self._reader.source
        if video.texts is None:
            self._summary.failed += 1
            with tqdm.external_write_mode(file=sys.stderr):
                logger.warning("%s: %s failed: %s", video.record.key, source, video.reason)
        else:
            self._catalogue.store_texts(
                video.record.id, source, video.texts, engine=self._reader.engine
            )
            self._count(1)
        progress.set_postfix(failed=self._summary.failed, refresh=False)
        progress.update()

    def _count(self, num_videos: int) -> None:
        source = self._reader.source
        setattr(self._summary, source, getattr(self._summary, source) + num_videos)


def _check_readers(config: EnrichConfig) -> None:
    """Names missing packages and models before anything is loaded."""
    if config.ocr and not find_spec("rapidocr"):
        raise ValueError("ocr=true needs rapidocr and onnxruntime: pip install 'reelseek[ocr]'")
    if config.speech and not find_spec("faster_whisper"):
        raise ValueError("speech=true needs faster-whisper: pip install 'reelseek[speech]'")
    model = Path(config.speech_model)
    is_path = model.is_absolute() or config.speech_model.startswith((".", "~"))
    if config.speech and is_path and not model.is_dir():
        raise ValueError(
            f"speech_model={model}: no such folder; name a folder with a Whisper model in "
            "CTranslate2's format, or a model on the hub"
        )


def _readers(config: EnrichConfig, pool: "DecodePool", stop: StopRequest) -> list[TextReader]:
    from reelseek.indexing.enrich.ocr import OcrReader, RapidOcr
    from reelseek.indexing.enrich.speech import SpeechReader, Whisper

    readers: list[TextReader] = []
    if config.ocr:
        readers.append(
            OcrReader(
                RapidOcr(),
                pool,
                every_seconds=config.ocr_every_seconds,
                min_confidence=config.ocr_confidence,
            )
        )
    if config.speech:
        readers.append(
            SpeechReader(
                Whisper(config.speech_model, language=config.speech_language, device=config.device),
                timeout_seconds=config.decoding.timeout_seconds,
                is_stopped=lambda: bool(stop),
            )
        )
    return readers


def main(config: EnrichConfig) -> None:
    os.nice(config.niceness)  # first of all: threads and processes take it over when they start

    folder = Path(config.index)
    Manifest.read(folder)
    check_can_be_written(folder)
    _check_readers(config)

    from reelseek.vision import FrameSettings, MomentSampler, UncroppedFrame, start_decode_server

    start_decode_server()  # loads its libraries while the models load here
    frame = UncroppedFrame(config.ocr_pixels)
    pool = config.decoding.pool(
        FrameSettings(MomentSampler((0.0,)), frame, dedup_threshold=config.ocr_similar)
    )
    with pool, stop_on_signals() as stop:
        summary = enrich_index(folder, _readers(config, pool, stop), stop=stop)
    command_line.print_json(asdict(summary))
    if summary.stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + (stop.signal_number or signal.SIGINT))
    if summary.failed and not summary.ocr + summary.speech:
        sys.exit(1)


if __name__ == "__main__":
    command_line.run(main, EnrichConfig, usage=USAGE)
