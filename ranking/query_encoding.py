"""A query of any kind (words, an image, a video, several of these) -> its embedding."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from reelseek.ranking.composition import compose

if TYPE_CHECKING:
    from PIL import Image

    from reelseek.text.token_encoding import TokenEncoder
    from reelseek.vision import DualEncoder, FrameEncoder

_QUERY_FRAMES = 12  # of a video that is searched by

# A sentence, the path of an image or a video, or a Pillow image.
Part: TypeAlias = Union[str, Path, "Image.Image"]
# Or several, all of which the answer should be like; with weights, or below 0, unlike.
Query: TypeAlias = Part | Sequence[Part] | Mapping[Part, float]
Spreads: TypeAlias = Callable[[np.ndarray], np.ndarray]


class QueryEncoder:
    """Both towers of a model.

    Args:
        model: the index's.
        device: `auto`, `cpu`, `cuda`, ...
    """

    def __init__(self, model: "DualEncoder", *, device: str = "auto") -> None:
        from reelseek.text import TextEncoder, Tokenizer
        from reelseek.vision import choose_device

        self._model = model
        self._device = choose_device(device)
        self._frame_encoder: FrameEncoder | None = None  # made at the first image or video query
        self._token_encoder: TokenEncoder | None = None  # made when first asked for
        self._making = threading.Lock()  # of these two
        self._tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
        self._text_encoder = TextEncoder(
            model.clip,
            self._tokenizer,
            scripts=model.spec.scripts,
            device=self._device,
        )

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """`(n, D)` float32, L2-normalised; n may be 0."""
        if not sentences:
            return np.empty((0, self._model.embedding_dim), np.float32)
        return self._text_encoder.encode(sentences).numpy()

    def tokens(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """`(L, D)` float32 each, L2-normalised: an embedding for each token.

        Raises:
            ValueError: the model's text tower is of a kind whose tokens are not known.
        """
        from reelseek.text.token_encoding import TokenEncoder

        with self._making:
            if self._token_encoder is None:
                self._token_encoder = TokenEncoder(
                    self._model.clip, self._tokenizer, device=self._device
                )
        return [each.numpy() for each in self._token_encoder.encode_tokens(sentences)]

    def encode(self, query: Query, *, spreads: Spreads | None = None) -> np.ndarray:
        """`(D,)` float32, L2-normalised.

        Args:
            spreads: of the scores of several parts, `(n, D)` -> `(n,)`, see
                `ranking.composition.compose`.

        Raises:
            ValueError: an empty sentence, no part at all, or parts that cancel out.
            vision.VideoDecodeError: an image or a video cannot be read.
        """
        if isinstance(query, str):
            return self._text_encoder.encode_query(query).numpy()
        if isinstance(query, Mapping):
            parts, weights = list(query), list(query.values())
        elif isinstance(query, Sequence):
            parts, weights = list(query), [1.0] * len(query)
        else:
            return self._image(query)
        if not parts:
            raise ValueError("query is empty: give at least one sentence, image or video")
        embeddings = [self.encode(part) for part in parts]
        stacked = np.stack(embeddings)
        return compose(
            stacked, np.array(weights), spreads=None if spreads is None else spreads(stacked)
        )

    def _image(self, query: "Path | Image.Image") -> np.ndarray:
        import torch

        from reelseek.vision import FrameEncoder, FrameSettings, UniformSampler, iter_frames

        with self._making:
            if self._frame_encoder is None:
                self._frame_encoder = FrameEncoder(
                    self._model, device=str(self._device), precision="fp32"
                )
        encoder = self._frame_encoder
        if isinstance(query, Path):
            settings = FrameSettings(UniformSampler(_QUERY_FRAMES), encoder.preprocessing)
            pixels = torch.cat([frames.pixels for frames in iter_frames(query, settings)])
        else:
            image = torch.from_numpy(np.array(query.convert("RGB"))).permute(2, 0, 1)
            pixels = encoder.preprocessing.resize(image[None])
        return encoder.pool(encoder.encode(pixels)).numpy()
