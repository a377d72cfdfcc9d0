"""Videos -> their speech as texts, with seconds.

The audio track comes in stretches, so that an hour-long video needs little memory; a stretch is cut
where it is quietest, to split no word.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from reelseek.indexing.enrich.extractor import ReadVideo
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.store.videos import VideoRecord
from reelseek.vision import VideoDecodeError
from reelseek.vision.decoding.sound import SAMPLE_RATE, Sound, iter_sound

_STRETCH_SECONDS = 300.0  # that are transcribed at once, about
_SEARCH_SECONDS = 30.0  # before a stretch's end, in which it is cut
_QUIET_SECONDS = 0.2
_MIN_SECONDS = 0.2  # between two gaps; in less, nothing is said
_GAP_SECONDS = 0.01  # between two pieces that belong together: less than this
_PAUSE_SECONDS = 1.0  # that ends a phrase
_PHRASE_SECONDS = 10.0  # that a phrase lasts at most
_SENTENCE_ENDS = tuple(".?!\u3002\uff1f\uff01\u0964\u061f")
_REMEDY = "pip install 'reelseek[speech]'"


class Phrase(NamedTuple):
    """A phrase, with its seconds from the first sample."""

    start_seconds: float
    end_seconds: float
    text: str


class Recogniser(Protocol):
    """Transcribes speech.

    Attributes:
        engine: its name, version and model.
    """

    engine: str

    def phrases(self, samples: np.ndarray) -> Iterable[Phrase]:
        """Transcribes `(N,)` float32 in [-1, 1], 16,000 samples a second."""
        ...


class Whisper:
    """faster-whisper; skips silence, and detects the language unless it is given.

    Args:
        model: a folder with a Whisper model in CTranslate2's format, or the name of one on the
            hub, which is fetched on first use.
        language: such as `en`; None to detect it.
        device: auto, cpu, cuda.
        num_threads: on a CPU; 0 for one a core.

    Raises:
        ValueError: it is not installed, or there is no such model, or the hub is out of reach.
    """

    def __init__(
        self,
        model: str,
        *,
        language: str | None = None,
        device: str = "auto",
        num_threads: int = 0,
    ) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ValueError(f"hearing needs faster-whisper: {_REMEDY}") from error
        folder = Path(model)
        if folder.is_dir() and not (folder / "model.bin").is_file():
            raise ValueError(
                f"speech_model={model}: the folder holds no model.bin, so it is not a Whisper "
                "model in CTranslate2's format"
            )
        try:
            self._model = WhisperModel(
                model, device=device, compute_type="auto", cpu_threads=num_threads
            )
        except Exception as error:  # the hub, CTranslate2 and the tokenizer each have their own
            raise ValueError(_why_unavailable(model, error)) from error
        if language is not None and language not in self._model.supported_languages:
            raise ValueError(
                f"speech_language={language}: the model knows "
                f"{', '.join(self._model.supported_languages)}"
            )
        self._language = language
        name = folder.resolve().name if folder.is_dir() else model
        self.engine = f"faster-whisper {metadata.version('faster-whisper')} ({name})"

    def phrases(self, samples: np.ndarray) -> Iterator[Phrase]:
        segments, _ = self._model.transcribe(
            samples,
            language=self._language,
            vad_filter=True,
            # A segment may span skipped silence, and so begin far too early.
            word_timestamps=True,
            # Else an error is repeated again and again.
            condition_on_previous_text=False,
        )
        for segment in segments:
            words = [Phrase(word.start, word.end, word.word) for word in segment.words or ()]
            yield from join_words(words)


def join_words(words: Sequence[Phrase]) -> Iterator[Phrase]:
    """Joins words, with their blanks, into phrases: up to a pause, the end of a sentence, or the
    longest duration."""
    phrase: list[Phrase] = []
    for word in words:
        pauses = phrase and word.start_seconds - phrase[-1].end_seconds > _PAUSE_SECONDS
        is_long = phrase and word.end_seconds - phrase[0].start_seconds > _PHRASE_SECONDS
        if pauses or is_long or (phrase and phrase[-1].text.endswith(_SENTENCE_ENDS)):
            yield _joined(phrase)
            phrase = []
        phrase.append(word)
    if phrase:
        yield _joined(phrase)


def _joined(words: Sequence[Phrase]) -> Phrase:
    text = "".join(word.text for word in words)
    return Phrase(words[0].start_seconds, words[-1].end_seconds, text)


def _why_unavailable(model: str, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if Path(model).exists():
        return f"speech_model={model}: cannot be loaded ({reason or type(error).__name__})"
    if isinstance(error, ValueError) and "nvalid model size" in reason:
        return f"speech_model={model}: no such folder, and no model of the hub; {reason}"
    return (
        f"speech_model={model} cannot be fetched: the model hub is out of reach or lacks it; "
        "connect to the network for the first use, or set speech_model=FOLDER, a local folder with "
        "a Whisper model in CTranslate2's format"
    )


class SpeechReader:
    """Transcribes the speech in videos.

    Args:
        recogniser: of stretches of sound.
        sounds: decodes a file's audio track; replaced in tests.
        timeout_seconds: gives up decoding after so long without a sound.
        is_stopped: whether to stop, between stretches; the next run starts the video again.
    """

    source = "speech"

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        sounds: Callable[..., Iterator[Sound]] = iter_sound,
        timeout_seconds: float = 120.0,
        is_stopped: Callable[[], object] = lambda: False,
    ) -> None:
        self.engine = recogniser.engine
        self._recogniser = recogniser
        self._sounds = sounds
        self._timeout_seconds = timeout_seconds
        self._is_stopped = is_stopped

    def read(self, records: Iterable[VideoRecord]) -> Iterator[ReadVideo]:
        for record in records:
            try:
                texts: list[TimedText] = []
                sounds = self._sounds(Path(record.path), timeout_seconds=self._timeout_seconds)
                for stretch in stretches(sounds):
                    if self._is_stopped():
                        return
                    if stretch.end_seconds - stretch.start_seconds >= _MIN_SECONDS:
                        texts += self._hear(stretch)
            except VideoDecodeError as error:
                yield ReadVideo(record, None, str(error))
            else:
                yield ReadVideo(record, texts)

    def _hear(self, sound: Sound) -> Iterator[TimedText]:
        for phrase in self._recogniser.phrases(sound.samples):
            text = " ".join(phrase.text.split())
            start = sound.start_seconds + max(0.0, float(phrase.start_seconds))
            end = min(sound.start_seconds + float(phrase.end_seconds), sound.end_seconds)
            if any(map(str.isalnum, text)):
                yield TimedText("speech", min(start, end), end, text)


def stretches(
    sounds: Iterable[Sound],
    *,
    stretch_seconds: float = _STRETCH_SECONDS,
    search_seconds: float = _SEARCH_SECONDS,
) -> Iterator[Sound]:
    """Joins consecutive pieces of sound, and cuts long ones.

    Args:
        stretch_seconds: of the longest stretch, up to the length of a piece more.
        search_seconds: before its end, searched for the quietest moment.
    """
    waiting: Sound | None = None
    for sound in sounds:
        if waiting is not None and abs(sound.start_seconds - waiting.end_seconds) < _GAP_SECONDS:
            samples = np.concatenate([waiting.samples, sound.samples])
            waiting = Sound(samples, waiting.start_seconds)
        else:
            if waiting is not None:
                yield waiting
            waiting = sound
        while len(waiting.samples) > stretch_seconds * SAMPLE_RATE:
            longest = round(stretch_seconds * SAMPLE_RATE)
            first = longest - round(search_seconds * SAMPLE_RATE)
            cut = first + quietest(waiting.samples[first:longest])
            yield Sound(waiting.samples[:cut], waiting.start_seconds)
            waiting = Sound(waiting.samples[cut:], waiting.start_seconds + cut / SAMPLE_RATE)
    if waiting is not None:
        yield waiting


def quietest(samples: np.ndarray) -> int:
    """Returns the middle of the quietest fifth of a second in `(N,)`, N at least that long; the
    last of several."""
    width = round(_QUIET_SECONDS * SAMPLE_RATE)
    sums = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    loudness = sums[width:] - sums[:-width]
    return len(loudness) - 1 - int(np.argmin(loudness[::-1])) + width // 2
