"""The types of the configuration; the values are in the YAML files beside this module.

Each option has a line with its meaning and unit, and its range; `--help` prints both, and `Options`
enforces the range. `__post_init__` holds the rules that several options share.
"""

import os
from dataclasses import asdict, dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from reelseek.configs.feed_schema import RecommendConfig
from reelseek.configs.learning_schema import PersonalConfig
from reelseek.configs.options import OneOf, Options, Range, option, path_option, require
from reelseek.text.urls import REDIS_SCHEMES, is_url, scheme_of

if TYPE_CHECKING:
    from reelseek.vision import (
        DecodePool,
        FrameSettings,
        ModelSpec,
        Preprocessing,
        Sampler,
        WorkerLimits,
    )


class _Device:
    """Names of processors; whether one is available here, PyTorch says."""

    def __contains__(self, device: Any) -> bool:
        kind, _, number = device.partition(":")
        known = kind in ("auto", "cpu", "cuda", "mps", "xpu")
        return known and (number.isdecimal() or device == kind)

    def __str__(self) -> str:
        return "auto, cpu, cuda or cuda:N"


class _ShardsAsked:
    """How many shards a search asks."""

    def __contains__(self, shards: Any) -> bool:
        return shards in ("auto", "all") or (
            shards.isascii() and shards.isdecimal() and 1 <= int(shards) <= 9999
        )

    def __str__(self) -> str:
        return "auto, all or a number from 1 on"


DEVICE = _Device()
PRECISION = OneOf(("auto", "int8", "bf16", "fp32"))
_NICENESS = Range(0, 19)
_GRAY_LEVELS = Range(0, 255)
_NUM_SHARDS = Range(1, 9999)
_SHARDS_ASKED = _ShardsAsked()
_SHARDS_ASKED_HELP = (
    "of an index placed by cluster, that are asked for what looks like the query: auto for as many "
    "as were measured to hold it, all, or a number"
)


class Decoder(Enum):
    decord = "decord"
    pyav = "pyav"


class Level(Enum):
    video = "video"
    moment = "moment"


@dataclass
class ModelConfig(Options, section="model"):
    name: str = path_option("mini, an open_clip architecture, hf-hub:OWNER/NAME, or a folder")
    pretrained: str | None = path_option("open_clip's tag of the weights, or a file of them", None)
    scripts: list[str] = option(
        "Unicode scripts the text tower was trained on, such as [Latin]; [] if unknown", default=[]
    )

    def spec(self) -> "ModelSpec":
        from reelseek.vision import ModelSpec

        return ModelSpec(self.name, pretrained=self.pretrained, scripts=tuple(self.scripts))


@dataclass
class SamplingConfig(Options, section="sampling"):
    """Chooses the frames of a video; each subclass is a way to sample.

    Attributes:
        sampler_name: the class of `vision` that takes the subclass's own options.
    """

    sampler_name = ""

    kind: str = ""
    dedup_threshold: float = option(
        "encode no frame that differs from the last by less than this in each cell of a 16 x 16 "
        "grid, in levels of 255; 0 encodes all",
        _GRAY_LEVELS,
        default=0.0,
    )

    def sampler(self) -> "Sampler":
        from reelseek import vision

        values = asdict(self)
        del values["kind"], values["dedup_threshold"]
        return getattr(vision, self.sampler_name)(**values)

    def frame_settings(self, preprocessing: "Preprocessing") -> "FrameSettings":
        """Returns what decoding makes of each video for a model with this preprocessing."""
        from reelseek.vision import FrameSettings

        return FrameSettings(self.sampler(), preprocessing, dedup_threshold=self.dedup_threshold)


@dataclass
class UniformSampling(SamplingConfig):
    sampler_name = "UniformSampler"

    kind: str = "uniform"
    num_frames: int = option("frames a video, at the middles of equal parts", Range(1))


@dataclass
class IntervalSampling(SamplingConfig):
    sampler_name = "IntervalSampler"

    kind: str = "interval"
    every_seconds: float = option("seconds from one frame to the next", Range(above=0))
    min_frames: int = option("frames a short video has at least", Range(1))
    max_frames: int = option("frames a long video has at most, and at least min_frames")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"at least sampling.min_frames ({self.min_frames})"
        require(self.max_frames >= self.min_frames, "sampling.max_frames", self.max_frames, allowed)


@dataclass
class KeyFrameSampling(SamplingConfig):
    sampler_name = "KeyFrameSampler"

    kind: str = "keyframes"
    max_frames: int = option("frames a long video has at most", Range(1))


@dataclass
class ShotSampling(SamplingConfig):
    sampler_name = "ShotSampler"

    kind: str = "shots"
    frames_per_shot: int = option("frames of each shot, at the middles of equal parts", Range(1))
    min_seconds: float = option("length of the shortest shot", Range(0))
    max_seconds: float = option("length at which a long shot is divided; more than min_seconds")
    max_frames: int = option("frames a long video has at most", Range(1))

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"more than sampling.min_seconds ({self.min_seconds})"
        require(
            self.max_seconds > self.min_seconds, "sampling.max_seconds", self.max_seconds, allowed
        )


SAMPLING_KINDS = {node.kind: node for node in SamplingConfig.__subclasses__()}


def sampling_from_dict(values: dict) -> SamplingConfig:
    """The sampling that `asdict` wrote, as an index's manifest keeps it."""
    return SAMPLING_KINDS[values["kind"]](**values)


@dataclass
class DecodingConfig(Options, section="decoding"):
    """How videos are decoded; what comes of it does not depend on this."""

    decoder: Decoder = option("to be tried first; the other one stands by")
    workers: int = option("processes that decode; 0 for one a core", Range(0))
    timeout_seconds: float = option(
        "without a frame, after which a worker is killed", Range(above=0)
    )
    memory_gb: float = option("a worker that grows beyond it is killed", Range(1, below=inf))
    max_videos_per_worker: int = option("videos after which a worker is replaced", Range(1))

    def pool(self, settings: "FrameSettings") -> "DecodePool":
        """Returns workers that decode videos to these frames."""
        from reelseek.vision import DecodePool

        return DecodePool(
            settings,
            num_workers=self.workers,
            decoders=self.decoders(),
            limits=self.limits(),
        )

    def decoders(self) -> tuple[str, ...]:
        """Returns the decoders in the order to try them."""
        from reelseek.vision import DECODERS

        return tuple(sorted(DECODERS, key=lambda name: name != self.decoder.value))

    def limits(self) -> "WorkerLimits":
        """Returns the limits of each process that decodes."""
        from reelseek.vision import WorkerLimits

        return WorkerLimits(
            timeout_seconds=self.timeout_seconds,
            memory_bytes=int(self.memory_gb * (1 << 30)),
            max_videos_per_worker=self.max_videos_per_worker,
        )


@dataclass
class RemoteConfig(Options, section="remote"):
    """How videos at URLs are fetched."""

    disk_gb: float = option(
        "GiB of fetched videos that lie on disk at once, in the index's folder, or on each node of "
        "a cluster",
        Range(above=0),
    )
    parallel: int = option("objects that are read at the same time", Range(1, 256))
    attempts: int = option("requests for an object at most, before it has failed", Range(1))
    timeout_seconds: float = option(
        "without an answer or a byte, after which a request is tried again", Range(above=0)
    )


class Progress(Enum):
    bar = "bar"
    json = "json"


class Engine(Enum):
    local = "local"
    ray = "ray"


class Placement(Enum):
    hash = "hash"
    cluster = "cluster"


class SegmentKind(str, Enum):
    scenes = "scenes"
    windows = "windows"


@dataclass
class SegmentsConfig(Options, section="segments"):
    kind: SegmentKind = option("cut where the content changes, or windows of equal length")
    seconds: float = option("length of windows", Range(above=0))
    overlap_seconds: float = option("how much neighbours share; from 0 to less than seconds")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"at least 0 and less than segments.seconds ({self.seconds})"
        require(
            0 <= self.overlap_seconds < self.seconds,
            "segments.overlap_seconds",
            self.overlap_seconds,
            allowed,
        )


@dataclass
class IndexFolderConfig(Options, section="index"):
    """`index=DIR` is `index.folder=DIR`; what is not given stays as the index was built."""

    folder: str = path_option("the folder of the index, made if missing; index=DIR for short")
    kind: str = option("of its FAISS indexes: auto, flat, or what FAISS's index_factory takes")
    recall: float = option("share of the true ten nearest that a search should find", Range(0.5, 1))
    memory_mb: float = option(
        "MiB that FAISS may take for all segments; 0 for no limit", Range(0, below=inf)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.kind.strip()), "index.kind", repr(self.kind), "a name")


@dataclass
class RayConfig(Options, section="ray"):
    """Where `engine=ray` finds the cluster."""

    address: str | None = option(
        "of the cluster, or auto for the one that this machine belongs to; default: one of this "
        "machine alone, which ends with the run",
        default=None,
    )
    frames_mb: float = option(
        "MiB of decoded frames that each core may have under way", Range(1, below=inf)
    )
    fetch_folder: str | None = path_option(
        "of each node, for copies of videos at URLs; default: one in its temporary folder",
        default=None,
    )


@dataclass
class IndexConfig(Options, command="index"):
    videos: list[str] = path_option(
        "a folder, a file, a glob, a .txt of paths, a .jsonl with captions, a URL, or [A,B] of "
        "these",
        takes_urls=True,
    )
    index: IndexFolderConfig = option("the index", stands_for="folder")
    model: ModelConfig | None = option(
        "preset, open_clip name or folder; default: the index's", default=None, group="model"
    )
    sampling: SamplingConfig = option("which frames are looked at", group="sampling")
    decoding: DecodingConfig = option("how they are decoded")
    segments: SegmentsConfig = option("the stretches that a moment is made of")
    remote: RemoteConfig = option("how videos at URLs are fetched")
    shards: int | None = option(
        "of a new index, each an index of its own in DIR/shards; default: the index's, or 1",
        _NUM_SHARDS,
        default=None,
    )
    engine: Engine = option("what works: this process, or a cluster; ray needs shards")
    ray: RayConfig = option("the cluster of engine=ray")
    images: bool = option("index the photos of folders too, each as a video of one frame")
    prune: bool = option("delete from the index whatever `videos` does not list")
    retry_failed: bool = option("try again what failed before, though the file is the same")
    check_content: bool = option("compare contents even where size and time are the same")
    keep_edits: bool = option(
        "leave out videos that were deleted through the service, and keep metadata that were "
        "changed there, whatever `videos` says"
    )
    settle_seconds: float = option(
        "leave a file to the next run that was written to this recently", Range(0)
    )
    publish_every_seconds: float = option(
        "make what is done searchable this often at most during a run; 0 for only at its end",
        Range(0),
    )
    progress: Progress = option("on stderr: a bar for people, or JSON lines for programs")
    niceness: int = option("how far to step back for other processes, such as searches", _NICENESS)
    device: str = option("where the model runs", DEVICE)
    precision: str = option("of the model's numbers", PRECISION)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.videos), "videos", self.videos, "a path or [PATH,PATH]")
        if self.precision == "int8" and self.device not in ("auto", "cpu"):
            raise ValueError(f"precision=int8 needs device=cpu, not device={self.device}")
        if self.precision == "int8" and self.engine is Engine.ray:
            raise ValueError(
                "precision=int8: engine=ray encodes all frames alike, and int8 is checked on the "
                "first ones; use auto, bf16 or fp32"
            )


@dataclass
class StatusConfig(Options, command="status"):
    index: str = path_option("the folder of the index")
    json: bool = option("print JSON instead of lines")


@dataclass
class VerifyConfig(Options, command="verify"):
    index: str = path_option("the folder of the index")
    sample: int = option("videos to decode and encode again, to compare; 0 for none", Range(0))
    device: str = option("where the model runs", DEVICE)


@dataclass
class RepairConfig(Options, command="repair"):
    index: str = path_option("the folder of the index")
    upgrade: bool = option("only rewrite an index of an older version in this version's format")


@dataclass
class DeleteConfig(Options, command="delete"):
    index: str = path_option("the folder of the index")
    keys: list[str] = option("of the videos to delete: KEY or [KEY,KEY]", default=[])
    where: str | None = option("delete the videos like this, such as \"tag = 'old'\"", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.keys) == (self.where is not None):
            raise ValueError("give either keys or where, to say which videos to delete")


@dataclass
class MergeConfig(Options, command="merge"):
    sources: list[str] = path_option("folders of the indexes to bring together: [DIR,DIR]", [])
    index: str = path_option("the folder of the index they are added to, made if missing")
    prefix: bool = option("put the name of a source's folder before its keys")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.sources), "sources", self.sources, "a list of folders")


@dataclass
class ShardConfig(Options, command="shard"):
    index: str = path_option("the folder of the index")
    shards: int = option("to divide it into; 1 joins them in an ordinary index", _NUM_SHARDS)
    placement: Placement | None = option(
        "of videos in shards: by a hash of their ids, or like beside like, in clusters learned of "
        "what the index holds; default: the index's, or hash",
        default=None,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shards == 1 and self.placement is not None:
            raise ValueError(
                f"placement={self.placement.value}: one shard holds all videos; leave placement out"
            )


@dataclass
class EnrichConfig(Options, command="enrich"):
    index: str = path_option("the folder of the index")
    ocr: bool = option("read what is written in the videos")
    ocr_every_seconds: float = option("a longer segment is read more than once", Range(above=0))
    ocr_confidence: float = option(
        "lines of which the reader is less sure are left out", Range(0, 1)
    )
    ocr_pixels: int = option("longer side of a picture that is read, at most", Range(32))
    ocr_similar: float = option(
        "read no frame that differs from the last by less than this in each cell of a 16 x 16 "
        "grid, in levels of 255; 0 reads all",
        _GRAY_LEVELS,
    )
    speech: bool = option("write down what is said in the videos")
    speech_model: str = path_option(
        "a Whisper model: a folder in CTranslate2's format, or a hub's name"
    )
    speech_language: str | None = option(
        "such as en; default: detected in each video", default=None
    )
    decoding: DecodingConfig = option("how videos are decoded")
    niceness: int = option("how far to step back for other processes, such as searches", _NICENESS)
    device: str = option("where the speech model runs", OneOf(("auto", "cpu", "cuda")))

    def __post_init__(self) -> None:
        if not (self.ocr or self.speech):
            raise ValueError("nothing to do: give ocr=true, speech=true or both")
        super().__post_init__()


@dataclass
class ExportConfig(Options, command="export"):
    index: str = path_option("the folder of the index")
    output: str = path_option("the folder for videos.parquet and segments.parquet, made if missing")
    frames: bool = option("also frames.parquet: a row for each frame that was looked at")


@dataclass
class PublishConfig(Options, command="publish"):
    index: str = path_option("the folder of the index")
    to: str = path_option("where to publish it, such as s3://BUCKET/NAME", takes_urls=True)
    prune: bool = option("delete afterwards what only earlier publications use")
    attempts: int = option("requests for an object at most, before it has failed", Range(1))
    timeout_seconds: float = option(
        "without an answer, after which a request is tried again", Range(above=0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_url(self.to), "to", self.to, "a URL such as s3://BUCKET/NAME")


@dataclass
class RankerConfig(Options, command="ranker"):
    judgements: str = path_option("a .jsonl of judgements or clicks, see docs/relevance.md")
    index: str = path_option("the folder of the index that they are about")
    output: str = path_option("the folder for the ranker, made if missing")
    test_fraction: float = option("of the queries, not trained on but measured", Range(0, below=1))
    seed: int = option("of what is drawn at random")
    device: str = option("where the model runs", DEVICE)


@dataclass
class TokenMatchingConfig(Options, command="token_matching"):
    index: str = path_option("the folder of an index of captioned videos")
    output: str = path_option("the folder for the weights, made if missing")
    test_fraction: float = option("of the videos, not trained on but measured", Range(0, 0.5))
    epochs: int = option("passes over the captions", Range(1))
    seed: int = option("of what is drawn at random")
    device: str = option("where the model runs", DEVICE)


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
class SearchConfig(Options, command="search"):
    index: str = path_option(
        "the folder of the index, or the URL where one is published", takes_urls=True
    )
    query: str | None = option("what the video should show, in words", default=None, is_words=True)
    image: str | None = path_option("an image to search by, instead of words or beside them", None)
    video: str | None = path_option("a video to search by, instead of words or beside them", None)
    k: int = option("hits to return", Range(1))
    level: Level = option("find whole videos, or the seconds in them")
    where: str | None = option(
        "only in videos like this, such as \"duration < 60 and tag = 'cat'\"", default=None
    )
    min_confidence: float = option("leave out hits less probable to match than this", Range(0, 1))
    sources: list[str] = option(
        "what to search; [] for both", OneOf(("visual", "lexical")), default=[]
    )
    shards: str = option(_SHARDS_ASKED_HELP, _SHARDS_ASKED, default="auto")
    ranker: str | None = path_option("folder of a ranker that reelseek rank trained", None)
    token_matching: str | None = path_option(
        "folder that python -m ranking.token_matching trained", None
    )
    analyze: bool = option("find filters, negations, events and misspellings in the query")
    explain: bool = option("say what the query is taken to mean, and what put each hit there")
    log_queries: bool = option("keep the queries' embeddings, to measure and tune the index with")
    index_cache: str | None = path_option(
        "folder for published indexes; default: in the user's cache folder", None
    )
    index_cache_gb: float = option("GiB that published indexes may take there", Range(above=0))
    json: bool = option("print a JSON list of hits instead of a table; the same as format=json")
    format: Format | None = option(
        "how hits are written: html is a page with pictures, otio and edl are editors' timelines",
        default=None,
    )
    output: str | None = path_option("file to write the hits to; default, and -: stdout", None)
    page: str | None = path_option("also write the hits as a web page to this file", None)
    model: ModelConfig | None = option(
        "only to insist on a model; default: the index's", default=None, group="model"
    )
    device: str = option("where the model runs", DEVICE)

    def __post_init__(self) -> None:
        for source in self.sources:
            if source in _RENAMED_SOURCES:
                raise ValueError(f"sources={source}: is now called {_RENAMED_SOURCES[source]}")
        super().__post_init__()
        if self.json and self.format not in (None, Format.json):
            raise ValueError(f"format={self.format.name}: is not json, and json=true is given too")
        given = [name for name in ("query", "image", "video") if getattr(self, name) is not None]
        if not given or given == ["image", "video"] or len(given) == 3:
            got = " and ".join(given) or "nothing"
            raise ValueError(
                f"got {got} to search by: give query, image or video, or query and one of these"
            )


@dataclass
class ClipConfig(Options, command="clip"):
    output: str = path_option("the video file to write, such as clip.mp4")
    query: str | None = option("what the moment should show, in words", default=None, is_words=True)
    index: str | None = path_option("the folder of the index that a query searches", None)
    rank: int = option("which hit of the query", Range(1))
    where: str | None = option("only hits in videos like this", default=None)
    video: str | None = path_option("cut this file, instead of a hit", None)
    start: float | None = option(
        "second at which the clip begins; with video", Range(0, below=inf), default=None
    )
    end: float | None = option(
        "second at which it ends; with video", Range(0, below=inf), default=None
    )
    tolerance_seconds: float = option(
        "copy without encoding again where a key frame lies at most this far before the start",
        Range(0, below=inf),
    )
    device: str = option("where the model runs", DEVICE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.query is None) == (self.video is None):
            raise ValueError("give either a query, or video with start and end")
        if self.video is None:
            if self.start is not None or self.end is not None:
                raise ValueError("start and end belong to video; a query's hit has its own")
            require(bool(self.index), "index", self.index, "the folder of an index")
            return
        if self.start is None or self.end is None:
            raise ValueError(f"video={self.video}: give start and end too, in seconds")
        require(self.start < self.end, "end", self.end, f"more than start ({self.start})")


@dataclass
class ServeRayConfig(Options, section="ray"):
    """The replicas of a service with `engine=ray`."""

    address: str | None = option(
        "of the cluster, or auto for the one that this machine belongs to; default: one of this "
        "machine alone, which ends with the service",
        default=None,
    )
    replicas: int = option("of each shard, at least; on different nodes where there are", Range(1))
    max_replicas: int = option("of each shard, as searches come; from ray.replicas on", Range(1))
    shards_per_replica: int = option("shards that a replica reads together", Range(1))
    routers: int = option("replicas that encode and score, at least", Range(1))
    max_routers: int = option("the same, as searches come; from ray.routers on", Range(1))
    threads: int = option("searches that a replica runs at once", Range(1))
    cores_per_replica: float = option("that each replica reserves; 0 for none", Range(0))
    deadline_ms: float = option(
        "that a search waits for a shard, before it is answered without", Range(1)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("replicas", "routers"):
            least, most = getattr(self, name), getattr(self, f"max_{name}")
            require(most >= least, f"ray.max_{name}", most, f"at least ray.{name} ({least})")


@dataclass
class ServeConfig(Options, command="serve"):
    """`reelseek serve`: searches an index over HTTP."""

    videos: list[str] = path_option(
        "folders, globs or lists of videos to index, watch and search; or an index's folder", []
    )
    index: str | None = path_option(
        "the folder of the index, or the URL where one is published; default: for videos, one "
        "among the user's data",
        None,
        takes_urls=True,
    )
    index_cache: str | None = path_option(
        "folder for published indexes; default: in the user's cache folder", None
    )
    index_cache_gb: float = option("GiB that published indexes may take there", Range(above=0))
    engine: Engine = option("what searches: this machine, or a cluster (docs/cluster.md)")
    ray: ServeRayConfig = option("the cluster of engine=ray")
    recommend: RecommendConfig = option("related videos and the feed (docs/feed.md)")
    personal: PersonalConfig = option("the order of hits for a user (docs/learning.md)")
    roots: list[str] = path_option(
        "folders below which videos may be added over HTTP; default: those of `videos`", []
    )
    rescan_minutes: float = option(
        "how often folders are looked through for changes that nothing told of", Range(above=0)
    )
    index_options: list[str] = option(
        "options of the runs that index `videos`, such as [images=true,sampling=shots]",
        default=[],
    )
    host: str = option("address to listen on; beyond this machine a token is needed")
    port: int = option("0 chooses a free one", Range(0, 65535))
    workers: int = option("processes that answer; 0 chooses by the processor", Range(0))
    shards: str = option(_SHARDS_ASKED_HELP, _SHARDS_ASKED, default="auto")
    threads: int = option("searches that a worker runs at once", Range(1))
    max_waiting: int = option("searches that may wait in a worker; others get a 503", Range(0))
    max_wait_seconds: float = option("a search that would wait longer gets a 503", Range(above=0))
    drain_seconds: float = option("given to requests in hand when the service stops", Range(0))
    cache_mb: float = option("MiB of answers and embeddings that a worker keeps", Range(0))
    cache: str | None = path_option(
        "folder for thumbnails and clips; default: in the user's cache folder", None
    )
    media_cache_gb: float = option(
        "GiB of thumbnails and clips that are kept; the least recently used go first", Range(0)
    )
    events: str | None = path_option(
        "folder, or redis:// server, in which to keep what users do (docs/events.md); default: "
        "nothing is kept",
        None,
        takes_urls=REDIS_SCHEMES,
    )
    learn: bool = option(
        "learn from the events while they come, in a process beside the workers; needs `events`"
    )
    completion: str | None = path_option(
        "folder of what `python -m recommendation.completion` built; default: completion in events",
        None,
    )
    events_days: float = option("days after which events are deleted", Range(above=0))
    events_gb: float = option("GiB of events to keep; the oldest go first", Range(0.01))
    model: ModelConfig | None = option(
        "only to insist on a model; default: the index's", default=None, group="model"
    )
    device: str = option("where the model runs", DEVICE)
    token: str | None = option(
        "to read, and to write if write_token is not given; default: $REELSEEK_TOKEN", default=None
    )
    write_token: str | None = option(
        "to read and write; default: $REELSEEK_WRITE_TOKEN", default=None
    )
    allowed_hosts: list[str] = option(
        "names that requests may give this service beyond loopback, such as video.example.org or "
        ".example.org; default: its addresses and the machine's name",
        default=[],
    )
    trusted_proxies: list[str] = option(
        "addresses and networks of proxies that tell the client's address", default=[]
    )
    requests_per_second: float = option(
        "that a client may send to a worker; 0 for no limit; none for this machine", Range(0)
    )
    max_connections: int = option(
        "of a worker; one more closes the one that has waited longest for its client", Range(16)
    )
    max_connections_per_client: int = option(
        "of an address to a worker; no limit for this machine and trusted_proxies", Range(1)
    )
    upload_image_mb: float = option("MiB that an uploaded image may have", Range(above=0))
    upload_video_mb: float = option("MiB that an uploaded video may have", Range(above=0))
    upload_megapixels: float = option("that an uploaded image may have", Range(above=0))
    upload_seconds: float = option("to decode an uploaded file in", Range(above=0))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.token = self.token or os.environ.get("REELSEEK_TOKEN") or None
        self.write_token = self.write_token or os.environ.get("REELSEEK_WRITE_TOKEN") or None
        if self.learn and self.events is None:
            raise ValueError("learn=true: needs events=DIR, the log that is learned from")
        if self.learn and scheme_of(str(self.events)) in REDIS_SCHEMES:
            raise ValueError(
                "learn=true: the events are in a Redis server; run one learner for all servers: "
                "reelseek learn --events URL --output DIR --publish URL"
            )


def check_device(device: str) -> None:
    """Raises a ValueError for a name that no processor has."""
    require(device in DEVICE, "device", device, str(DEVICE))
