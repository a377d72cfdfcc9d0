"""An index of coloured videos, and a watch on what is decoded and encoded for it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import reelseek.indexing.pipeline
import reelseek.vision.decoding.frames
from reelseek.indexing import IndexReader, IndexSettings, IndexSummary, update_index
from reelseek.indexing.sources.collection import read_source
from reelseek.ranking.hits import SearchHit
from reelseek.vision import (
    DualEncoder,
    FrameEncoder,
    Frames,
    FrameSettings,
    IntervalSampler,
    Sampler,
)
from tests.conftest import COLOURS, InProcessPool
from tests.indexing.searching import search

SAMPLER = IntervalSampler(every_seconds=0.5, min_frames=1)

# What a query such as "green" is to the colour model.
QUERIES = dict(zip(COLOURS, np.eye(3, dtype=np.float32), strict=True))


class WatchedEncoder(FrameEncoder):
    """Calls `before_encoding` with the frames of each batch, in the thread that submits it."""

    before_encoding: Callable[[torch.Tensor], None] = staticmethod(lambda pixels: None)

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        self.before_encoding(pixels)
        return super().submit(pixels)


def encode_video_by_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """A video's last frames are sent to the encoder, and waited for, before the next one's."""
    add = reelseek.indexing.pipeline._Packer.add

    def add_alone(packer, video, item):
        add(packer, video, item)
        if video.end is not None:
            packer.flush()
            packer.wait()

    monkeypatch.setattr(reelseek.indexing.pipeline._Packer, "add", add_alone)


@dataclass
class ColourIndex:
    """An index of the colour model.

    Attributes:
        iter_frames: what decodes; another one for tests that change what is decoded.
        decoded: names of the files that the latest run decoded, in order.
    """

    folder: Path
    settings: IndexSettings
    encoder: WatchedEncoder
    iter_frames: Callable[..., Iterator[Frames]] = reelseek.vision.decoding.frames.iter_frames
    decoded: list[str] = field(default_factory=list)

    def pool(self, sampler: Sampler = SAMPLER) -> InProcessPool:
        """Decodes in this process, and notes what."""

        def watched(path: Path, settings: FrameSettings, **options: object) -> Iterator[Frames]:
            self.decoded.append(Path(path).name)
            return self.iter_frames(path, settings, **options)

        settings = FrameSettings(sampler, self.encoder.preprocessing)
        return InProcessPool(settings, iter_frames=watched)

    def update(self, *videos: Path | str, images: bool = False, **options) -> IndexSummary:
        """Runs the indexer; `options` are those of `update_index`."""
        self.decoded.clear()
        sources = [read_source(str(each), images=images) for each in videos]
        options = {
            "settings": self.settings,
            "encoder": self.encoder,
            "pool": self.pool(),
        } | options
        return update_index(self.folder, sources, show_progress=False, **options)

    def report(self) -> dict[str, dict]:
        """The lines of the report by key."""
        lines = (self.folder / "report.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        by_key = {record["key"]: record for record in records}
        assert len(by_key) == len(records), "a video is reported twice"
        return by_key

    def search(self, colour: str, *, k: int = 100, level: str = "video") -> list[SearchHit]:
        reader = IndexReader(self.folder)
        try:
            return search(reader, QUERIES[colour], k=k, level=level)
        finally:
            reader.close()

    def keys(self) -> list[str]:
        """Of all that a search finds, sorted."""
        return sorted(hit.key for hit in self.search("red"))


@pytest.fixture
def colour_settings(colour_model: DualEncoder) -> IndexSettings:
    return IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=colour_model.fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5, "min_frames": 1, "max_frames": 100_000},
        segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 2.0},
    )


@pytest.fixture
def colour_index(
    tmp_path: Path, colour_model: DualEncoder, colour_settings: IndexSettings
) -> ColourIndex:
    encoder = WatchedEncoder(colour_model, device="cpu", precision="fp32")
    return ColourIndex(tmp_path / "index", colour_settings, encoder)
