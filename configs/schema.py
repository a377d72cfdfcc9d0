"""The types of the configuration; the values are in the YAML files beside this module.

Each field has a line with its meaning, unit and range, which `--help` prints. What a field may not
be is checked in `__post_init__`, which runs in `OmegaConf.to_object`.
"""

from dataclasses import asdict, dataclass, field
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

if TYPE_CHECKING:
    from reelseek.vision import DecodePool, FrameSettings, ModelSpec, Preprocessing, Sampler


def option(
    text: str, default: Any = MISSING, *, is_path: bool = False, is_words: bool = False
) -> Any:
    """A field with its line of help; without a default, the YAML gives the value.

    Args:
        is_path: whether it is a path or a list of paths, in which `~` and `$HOME` are expanded.
        is_words: whether `null` is a word like any other, on the command line.
    """
    metadata = {"help": text, "is_path": is_path, "is_words": is_words}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def path_option(text: str, default: Any = MISSING) -> Any:
    """The same for a path or a list of paths."""
    return option(text, default, is_path=True)


DEVICES = "auto, cpu, cuda or cuda:N"


class Decoder(Enum):
    decord = "decord"
    pyav = "pyav"


class Level(Enum):
    video = "video"
    moment = "moment"


@dataclass
class ModelConfig:
    name: str = path_option("mini, an open_clip architecture, hf-hub:OWNER/NAME, or a folder")
    pretrained: str | None = path_option("open_clip's tag of the weights, or a file of them", None)
    scripts: list[str] = option(
        "Unicode scripts the text tower was trained on, such as [Latin]; [] if unknown", []
    )

    def spec(self) -> "ModelSpec":
        from reelseek.vision import ModelSpec

        return ModelSpec(self.name, pretrained=self.pretrained, scripts=tuple(self.scripts))


@dataclass
class SamplingConfig:
    """What every way of sampling has."""

    kind: str = ""
    dedup_threshold: float = option(
        "encode no frame that differs from the last by less than this in each cell of a 16 x 16 "
        "grid, in levels of 255; 0 encodes all",
        0.0,
    )

    def __post_init__(self) -> None:
        require(
            0 <= self.dedup_threshold <= 255,
            "sampling.dedup_threshold",
            self.dedup_threshold,
            "0 to 255",
        )

    def sampler(self) -> "Sampler":
        raise NotImplementedError


@dataclass
class UniformSampling(SamplingConfig):
    kind: str = "uniform"
    num_frames: int = option("frames a video, at the middles of equal parts; at least 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_frames >= 1, "sampling.num_frames", self.num_frames, "at least 1")

    def sampler(self) -> "Sampler":
        from reelseek.vision import UniformSampler

        return UniformSampler(self.num_frames)


@dataclass
class IntervalSampling(SamplingConfig):
    kind: str = "interval"
    every_seconds: float = option("seconds from one frame to the next; more than 0")
    min_frames: int = option("frames a short video has at least; at least 1")
    max_frames: int = option("frames a long video has at most; at least min_frames")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every_seconds > 0, "sampling.every_seconds", self.every_seconds, "more than 0")
        require(self.min_frames >= 1, "sampling.min_frames", self.min_frames, "at least 1")
        require(
            self.max_frames >= self.min_frames,
            "sampling.max_frames",
            self.max_frames,
            f"at least sampling.min_frames ({self.min_frames})",
        )

    def sampler(self) -> "Sampler":
        from reelseek.vision import IntervalSampler

        return IntervalSampler(
            every_seconds=self.every_seconds,
            min_frames=self.min_frames,
            max_frames=self.max_frames,
        )


@dataclass
class KeyFrameSampling(SamplingConfig):
    kind: str = "keyframes"
    max_frames: int = option("frames a long video has at most; at least 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_frames >= 1, "sampling.max_frames", self.max_frames, "at least 1")

    def sampler(self) -> "Sampler":
        from reelseek.vision import KeyFrameSampler

        return KeyFrameSampler(self.max_frames)


@dataclass
class ShotSampling(SamplingConfig):
    kind: str = "shots"
    frames_per_shot: int = option("frames of each shot, at the middles of equal parts; at least 1")
    min_seconds: float = option("length of the shortest shot; 0 or more")
    max_seconds: float = option("length at which a long shot is divided; more than min_seconds")
    max_frames: int = option("frames a long video has at most; at least 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.frames_per_shot >= 1,
            "sampling.frames_per_shot",
            self.frames_per_shot,
            "at least 1",
        )
        require(self.min_seconds >= 0, "sampling.min_seconds", self.min_seconds, "0 or more")
        require(
            self.max_seconds > self.min_seconds,
            "sampling.max_seconds",
            self.max_seconds,
            f"more than sampling.min_seconds ({self.min_seconds})",
        )
        require(self.max_frames >= 1, "sampling.max_frames", self.max_frames, "at least 1")

    def sampler(self) -> "Sampler":
        from reelseek.vision import ShotSampler

        return ShotSampler(
            frames_per_shot=self.frames_per_shot,
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            max_frames=self.max_frames,
        )


SAMPLING_KINDS = {
    "uniform": UniformSampling,
    "interval": IntervalSampling,
    "keyframes": KeyFrameSampling,
    "shots": ShotSampling,
}


def sampling_from_dict(values: dict) -> SamplingConfig:
    """The sampling that `asdict` wrote, as an index's manifest keeps it."""
    return SAMPLING_KINDS[values["kind"]](**values)


@dataclass
class DecodingConfig:
    """How videos are decoded; what comes of it does not depend on this."""

    decoder: Decoder = option("decord or pyav, to be tried first; the other one stands by")
    workers: int = option("processes that decode; 0 for one a core")
    timeout_seconds: float = option("without a frame, after which a worker is killed; more than 0")
    memory_gb: float = option("a worker that grows beyond it is killed; at least 1")
    max_videos_per_worker: int = option("videos after which a worker is replaced; at least 1")

    def __post_init__(self) -> None:
        require(self.workers >= 0, "decoding.workers", self.workers, "0 or more")
        require(
            self.timeout_seconds > 0,
            "decoding.timeout_seconds",
            self.timeout_seconds,
            "more than 0",
        )
        require(
            1 <= self.memory_gb < inf,
            "decoding.memory_gb",
            self.memory_gb,
            "at least 1, finite",
        )
        require(
            self.max_videos_per_worker >= 1,
            "decoding.max_videos_per_worker",
            self.max_videos_per_worker,
            "at least 1",
        )

    def pool(self, sampling: SamplingConfig, preprocessing: "Preprocessing") -> "DecodePool":
        from reelseek.vision import FrameSettings

        return self.pool_of(
            FrameSettings(
                sampling.sampler(), preprocessing, dedup_threshold=sampling.dedup_threshold
            )
        )

    def pool_of(self, settings: "FrameSettings") -> "DecodePool":
        from reelseek.vision import DECODERS, DecodePool, WorkerLimits

        return DecodePool(
            settings,
            num_workers=self.workers,
            decoders=sorted(DECODERS, key=lambda name: name != self.decoder.value),
            limits=WorkerLimits(
                timeout_seconds=self.timeout_seconds,
                memory_bytes=int(self.memory_gb * (1 << 30)),
                max_videos_per_worker=self.max_videos_per_worker,
            ),
        )


class SegmentKind(str, Enum):
    scenes = "scenes"
    windows = "windows"


@dataclass
class SegmentsConfig:
    kind: SegmentKind = option("scenes: cut where the content changes; windows: of equal length")
    seconds: float = option("length of windows; more than 0")
    overlap_seconds: float = option("how much neighbours share; from 0 to less than seconds")

    def __post_init__(self) -> None:
        require(self.seconds > 0, "segments.seconds", self.seconds, "more than 0")
        require(
            0 <= self.overlap_seconds < self.seconds,
            "segments.overlap_seconds",
            self.overlap_seconds,
            f"at least 0 and less than segments.seconds ({self.seconds})",
        )


@dataclass
class IndexFolderConfig:
    """`index=DIR` is `index.folder=DIR`; what is not given stays as the index was built."""

    folder: str = path_option("the folder of the index, made if missing; index=DIR for short")
    kind: str = option("of its FAISS indexes: auto, flat, or what FAISS's index_factory takes")
    recall: float = option("share of the true ten nearest that a search should find; 0.5 to 1")
    memory_mb: float = option("MiB that FAISS may take for all segments; 0 for no limit")

    def __post_init__(self) -> None:
        require(bool(self.kind.strip()), "index.kind", repr(self.kind), "a name")
        require(0.5 <= self.recall <= 1, "index.recall", self.recall, "0.5 to 1")
        require(0 <= self.memory_mb < inf, "index.memory_mb", self.memory_mb, "0 or more, finite")


@dataclass
class IndexConfig:
    videos: list[str] = path_option(
        "a folder, a file, a glob, a .txt of paths, a .jsonl with captions, or [A,B] of these"
    )
    index: IndexFolderConfig = option("the index")
    model: ModelConfig | None = option(
        "preset, open_clip name or folder; default: the index's", None
    )
    sampling: Any = option("which frames are looked at: interval, uniform, keyframes or shots")
    decoding: DecodingConfig = option("how they are decoded")
    segments: SegmentsConfig = option("the stretches that a moment is made of")
    images: bool = option("index the photos of folders too, each as a video of one frame")
    prune: bool = option("delete from the index whatever `videos` does not list")
    retry_failed: bool = option("try again what failed before, though the file is the same")
    check_content: bool = option("compare contents even where size and time are the same")
    niceness: int = option("0 to 19, how far to step back for other processes, such as searches")
    device: str = option("auto, cpu, cuda, cuda:N")
    precision: str = option("auto, fp32, bf16")

    def __post_init__(self) -> None:
        require(bool(self.videos), "videos", self.videos, "a path or [PATH,PATH]")
        require(0 <= self.niceness <= 19, "niceness", self.niceness, "0 to 19")
        check_device(self.device)
        precisions = ("auto", "fp32", "bf16")
        require(self.precision in precisions, "precision", self.precision, "auto, fp32 or bf16")


@dataclass
class StatusConfig:
    index: str = path_option("the folder of the index")
    json: bool = option("print JSON instead of lines")


@dataclass
class VerifyConfig:
    index: str = path_option("the folder of the index")
    sample: int = option("videos to decode and encode again, to compare; 0 for none")
    device: str = option("auto, cpu, cuda, cuda:N")

    def __post_init__(self) -> None:
        require(self.sample >= 0, "sample", self.sample, "0 or more")
        check_device(self.device)


@dataclass
class RepairConfig:
    index: str = path_option("the folder of the index")


@dataclass
class DeleteConfig:
    index: str = path_option("the folder of the index")
    keys: list[str] = option("of the videos to delete: KEY or [KEY,KEY]", [])
    where: str | None = option("delete the videos like this, such as \"tag = 'old'\"", None)

    def __post_init__(self) -> None:
        if bool(self.keys) == (self.where is not None):
            raise ValueError("give either keys or where, to say which videos to delete")


@dataclass
class MergeConfig:
    sources: list[str] = path_option("folders of the indexes to bring together: [DIR,DIR]", [])
    index: str = path_option("the folder of the index they are added to, made if missing")
    prefix: bool = option("put the name of a source's folder before its keys")

    def __post_init__(self) -> None:
        require(bool(self.sources), "sources", self.sources, "a list of folders")


@dataclass
class EnrichConfig:
    index: str = path_option("the folder of the index")
    ocr: bool = option("read what is written in the videos")
    ocr_every_seconds: float = option("a longer segment is read more than once; more than 0")
    ocr_confidence: float = option("lines of which the reader is less sure are left out; 0 to 1")
    ocr_pixels: int = option("longer side of a picture that is read, at most; at least 32")
    ocr_similar: float = option(
        "read no frame that differs from the last by less than this in each cell of a 16 x 16 "
        "grid, in levels of 255; 0 reads all"
    )
    speech: bool = option("write down what is said in the videos")
    speech_model: str = path_option(
        "a Whisper model: a folder in CTranslate2's format, or a hub's name"
    )
    speech_language: str | None = option("such as en; default: detected in each video", None)
    decoding: DecodingConfig = option("how videos are decoded")
    niceness: int = option("0 to 19, how far to step back for other processes, such as searches")
    device: str = option("auto, cpu, cuda; of the speech model")

    def __post_init__(self) -> None:
        if not (self.ocr or self.speech):
            raise ValueError("nothing to do: give ocr=true, speech=true or both")
        require(self.ocr_every_seconds > 0, "ocr_every_seconds", self.ocr_every_seconds, "above 0")
        require(0 <= self.ocr_confidence <= 1, "ocr_confidence", self.ocr_confidence, "0 to 1")
        require(self.ocr_pixels >= 32, "ocr_pixels", self.ocr_pixels, "at least 32")
        require(0 <= self.ocr_similar <= 255, "ocr_similar", self.ocr_similar, "0 to 255")
        require(0 <= self.niceness <= 19, "niceness", self.niceness, "0 to 19")
        devices = ("auto", "cpu", "cuda")
        require(self.device in devices, "device", self.device, "one of auto, cpu, cuda")


@dataclass
class ExportConfig:
    index: str = path_option("the folder of the index")
    output: str = path_option("the folder for videos.parquet and segments.parquet, made if missing")
    frames: bool = option("also frames.parquet: a row for each frame that was looked at")


@dataclass
class RankerConfig:
    judgements: str = path_option("a .jsonl of judgements or clicks, see docs/relevance.md")
    index: str = path_option("the folder of the index that they are about")
    output: str = path_option("the folder for the ranker, made if missing")
    test_fraction: float = option("of the queries, not trained on but measured; 0 to less than 1")
    seed: int = option("of what is drawn at random")
    device: str = option("auto, cpu, cuda, cuda:N")

    def __post_init__(self) -> None:
        require(
            0 <= self.test_fraction < 1, "test_fraction", self.test_fraction, "0 to less than 1"
        )
        check_device(self.device)


@dataclass
class TokenMatchingConfig:
    index: str = path_option("the folder of an index of captioned videos")
    output: str = path_option("the folder for the weights, made if missing")
    test_fraction: float = option("of the videos, not trained on but measured; 0 to 0.5")
    epochs: int = option("passes over the captions; at least 1")
    seed: int = option("of what is drawn at random")
    device: str = option("auto, cpu, cuda, cuda:N")

    def __post_init__(self) -> None:
        require(0 <= self.test_fraction <= 0.5, "test_fraction", self.test_fraction, "0 to 0.5")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check_device(self.device)


class Format(Enum):
    table = "table"
    json = "json"
    csv = "csv"
    html = "html"
    otio = "otio"
    edl = "edl"
    srt = "srt"


# What 0.1 called them.
_RENAMED_SOURCES = {"picture": "visual", "words": "lexical"}


@dataclass
class SearchConfig:
    index: str = path_option("the folder of the index")
    query: str | None = option("what the video should show, in words", None, is_words=True)
    image: str | None = path_option("an image to search by, instead of words or beside them", None)
    video: str | None = path_option("a video to search by, instead of words or beside them", None)
    k: int = option("hits to return; at least 1")
    level: Level = option("video: whole videos; moment: the seconds in them")
    where: str | None = option(
        "only in videos like this, such as \"duration < 60 and tag = 'cat'\"", None
    )
    min_confidence: float = option("leave out hits less probable to match than this; 0 to 1")
    sources: list[str] = option("what to search: visual, lexical; [] for both", [])
    ranker: str | None = path_option("folder of a ranker that python -m ranking trained", None)
    token_matching: str | None = path_option(
        "folder that python -m ranking.train_token_matching trained", None
    )
    analyze: bool = option("find filters, negations, events and misspellings in the query")
    explain: bool = option("say what the query is taken to mean, and what put each hit there")
    log_queries: bool = option("keep the queries' embeddings, to measure and tune the index with")
    json: bool = option("print a JSON list of hits instead of a table; the same as format=json")
    format: Format | None = option(
        "table, json, csv, html (a page with pictures), otio and edl (timelines for editors), srt",
        None,
    )
    output: str | None = path_option("file to write the hits to; default, and -: stdout", None)
    page: str | None = path_option("also write the hits as a web page to this file", None)
    model: ModelConfig | None = option("only to insist on a model; default: the index's", None)
    device: str = option("auto, cpu, cuda, cuda:N")

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", self.k, "at least 1")
        require(0 <= self.min_confidence <= 1, "min_confidence", self.min_confidence, "0 to 1")
        for source in self.sources:
            if source in _RENAMED_SOURCES:
                raise ValueError(f"sources={source}: is now called {_RENAMED_SOURCES[source]}")
            require(source in ("visual", "lexical"), "sources", source, "one of visual, lexical")
        check_device(self.device)
        if self.json and self.format not in (None, Format.json):
            raise ValueError(f"format={self.format.name}: is not json, and json=true is given too")
        given = [name for name in ("query", "image", "video") if getattr(self, name) is not None]
        if not given or given == ["image", "video"] or len(given) == 3:
            got = " and ".join(given) or "nothing"
            raise ValueError(
                f"got {got} to search by: give query, image or video, or query and one of these"
            )


@dataclass
class ClipConfig:
    output: str = path_option("the video file to write, such as clip.mp4")
    query: str | None = option("what the moment should show, in words", None, is_words=True)
    index: str | None = path_option("the folder of the index that a query searches", None)
    rank: int = option("which hit of the query; at least 1", 1)
    where: str | None = option("only hits in videos like this", None)
    video: str | None = path_option("cut this file, instead of a hit", None)
    start: float | None = option("second at which the clip begins; with video", None)
    end: float | None = option("second at which it ends; with video", None)
    tolerance_seconds: float = option(
        "copy without encoding again where a key frame lies at most this far before the start; "
        "0 or more",
        0.1,
    )
    device: str = option("auto, cpu, cuda, cuda:N; of the model", "auto")

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank", self.rank, "at least 1")
        require(
            0 <= self.tolerance_seconds < inf,
            "tolerance_seconds",
            self.tolerance_seconds,
            "0 or more",
        )
        check_device(self.device)
        if (self.query is None) == (self.video is None):
            raise ValueError("give either a query, or video with start and end")
        if self.video is None:
            if self.start is not None or self.end is not None:
                raise ValueError("start and end belong to video; a query's hit has its own")
            require(bool(self.index), "index", self.index, "the folder of an index")
            return
        if self.start is None or self.end is None:
            raise ValueError(f"video={self.video}: give start and end too, in seconds")
        require(0 <= self.start < inf, "start", self.start, "0 or more")
        require(self.start < self.end < inf, "end", self.end, f"more than start ({self.start})")


def check_device(device: str) -> None:
    """Refuses what is no device anywhere; whether it is to be had here, PyTorch says."""
    kind, _, number = device.partition(":")
    known = kind in ("auto", "cpu", "cuda", "mps", "xpu")
    require(known and (number.isdecimal() or device == kind), "device", device, DEVICES)


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name}={value}: must be {allowed}")


def as_plain(config: object) -> dict:
    """A dataclass as plain dictionaries, for JSON."""
    return asdict(config)  # type: ignore[call-overload]
