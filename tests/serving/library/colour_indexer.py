"""`python -m tests.serving.library.colour_indexer PARENT_PID name=value ...`: indexes with the
colour model, slowly, and ends with its parent."""

import sys
import time
from pathlib import Path

import torch

from reelseek.configs.composition import compose
from reelseek.configs.schema import IndexConfig
from reelseek.indexing import IndexSettings, update_index
from reelseek.indexing.sources.collection import read_source
from reelseek.serving.library.child import end_with
from reelseek.vision import DualEncoder, FrameEncoder, FrameSettings, ModelSpec, Preprocessing
from tests.conftest import ColourClip, InProcessPool, tokenize_colours
from tests.indexing.conftest import SAMPLER

_BATCH_SECONDS = 0.3


class SlowEncoder(FrameEncoder):
    def _encode_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(_BATCH_SECONDS)
        return super()._encode_batch(pixels)


def main(parent: int, arguments: list[str]) -> None:
    end_with(parent)
    config = compose(IndexConfig, arguments)
    preprocessing = Preprocessing(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    fingerprint = "c0105" * 6 + "00"
    model = DualEncoder(
        ModelSpec("colours", scripts=("Latin",)),
        ColourClip().eval(),
        tokenize_colours,
        8,
        3,
        preprocessing,
        fingerprint,
    )
    settings = IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5, "min_frames": 1, "max_frames": 100_000},
        segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 2.0},
    )
    update_index(
        folder=Path(config.index.folder),
        sources=[read_source(name) for name in config.videos],
        settings=settings,
        encoder=SlowEncoder(model, device="cpu", precision="fp32"),
        pool=InProcessPool(FrameSettings(SAMPLER, preprocessing)),
        keep_edited=config.keep_edits,
        progress=config.progress.value,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
