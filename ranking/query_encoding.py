"""A part of a query (a sentence, an image, a video) -> its embedding; several -> one embedding."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from reelseek.ranking.composition import compose
from reelseek.ranking.query_parts import EncodedPart

if TYPE_CHECKING:
    from PIL import Image

    from reelseek.text import CompiledTextEncoder, TextEncoder
    from reelseek.text.token_encoding import TokenEncoder
    from reelseek.vision import DualEncoder, FrameEncoder, FrameSettings
    from reelseek.vision.models.kept_text import KeptText

_QUERY_FRAMES = 12  # of a video that is searched by


class Encoder(Protocol):
    """What a `Searcher` encodes queries with: `QueryEncoder`, or one that asks another process.

    Threads call it at the same time.
    """

    @property
    def fingerprint(self) -> str:
        """Of the model, which must be the one that the index was built with."""
        ...

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """`(n, D)` float32, L2-normalised; n may be 0."""
        ...

    def tokens(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """`(L, D)` float32 each, L2-normalised; called only where tokens are matched."""
        ...

    def encode(self, part: EncodedPart) -> np.ndarray:
        """`(D,)` float32, L2-normalised.

        Raises:
            ValueError: an empty sentence, or a part that this encoder does not take.
            vision.VideoDecodeError: an image or a video cannot be read.
        """
        ...


def compose_parts(
    embeddings: Sequence[np.ndarray],
    weights: Sequence[float],
    *,
    spreads: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """`(D,)` float32, L2-normalised, of several parts.

    Args:
        embeddings: `(D,)` each.
        spreads: of the scores of several parts, `(n, D)` -> `(n,)`, see
            `ranking.composition.compose`.

    Raises:
        ValueError: no part at all, or parts that cancel out.
    """
    if not embeddings:
        raise ValueError("query is empty: give at least one sentence, image or video")
    stacked = np.stack(embeddings)
    return compose(stacked, np.array(weights), spreads=spreads(stacked))


class QueryEncoder:
    """Both towers of a model.

    Args:
        model: the index's; or its text tower alone, and the rest is loaded when it is first used.
        device: `auto`, `cpu`, `cuda`, ...
    """

    def __init__(self, model: "DualEncoder | KeptText", *, device: str = "auto") -> None:
        self._device_name = device
        self._frame_encoder: FrameEncoder | None = None  # made at the first image or video query
        self._token_encoder: TokenEncoder | None = None  # made when first asked for
        self._making = threading.RLock()  # of these two, and of the whole model
        self.fingerprint, self.embedding_dim = model.fingerprint, model.embedding_dim
        self._given = model
        self._text_encoder = _text_encoder(model, device)

    @property
    def _model(self) -> "DualEncoder":
        from reelseek.vision.models.kept_text import KeptText

        with self._making:
            if isinstance(self._given, KeptText):
                self._given = self._given.load()
            return self._given

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        """`(n, D)` float32, L2-normalised; n may be 0."""
        if not sentences:
            return np.empty((0, self.embedding_dim), np.float32)
        return np.asarray(self._text_encoder.encode(sentences))

    def tokens(self, sentences: Sequence[str]) -> list[np.ndarray]:
        """`(L, D)` float32 each, L2-normalised: an embedding for each token.

        Raises:
            ValueError: the model's text tower is of a kind whose tokens are not known.
        """
        from reelseek.text import Tokenizer
        from reelseek.text.token_encoding import TokenEncoder
        from reelseek.vision import choose_device

        with self._making:
            if self._token_encoder is None:
                model = self._model
                self._token_encoder = TokenEncoder(
                    model.clip,
                    Tokenizer(model.tokenize, context_length=model.context_length),
                    device=choose_device(self._device_name),
                )
        return [each.numpy() for each in self._token_encoder.encode_tokens(sentences)]

    def encode(self, part: EncodedPart) -> np.ndarray:
        """`(D,)` float32, L2-normalised.

        Raises:
            ValueError: an empty sentence.
            vision.VideoDecodeError: an image or a video cannot be read.
        """
        if isinstance(part, str):
            return np.asarray(self._text_encoder.encode_query(part))
        return self._image(part)

    @property
    def frame_settings(self) -> "FrameSettings":
        """What is decoded of an image or a video that is searched by."""
        from reelseek.vision import FrameSettings, UniformSampler

        return FrameSettings(UniformSampler(_QUERY_FRAMES), self._model.preprocessing)

    def encode_frames(self, pixels: np.ndarray) -> np.ndarray:
        """`(T, 3, H, W)` uint8, decoded by `frame_settings`, to `(D,)` float32, L2-normalised."""
        import torch

        from reelseek.vision import FrameEncoder

        with self._making:
            if self._frame_encoder is None:
                self._frame_encoder = FrameEncoder(
                    self._model, device=self._device_name, precision="fp32"
                )
        encoder = self._frame_encoder
        return encoder.pool(encoder.encode(torch.from_numpy(pixels))).numpy()

    def _image(self, query: "Path | Image.Image") -> np.ndarray:
        import torch

        from reelseek.vision import iter_frames

        if isinstance(query, Path):
            settings = self.frame_settings
            pixels = torch.cat([frames.pixels for frames in iter_frames(query, settings)])
        else:
            image = torch.from_numpy(np.array(query.convert("RGB"))).permute(2, 0, 1)
            pixels = self._model.preprocessing.resize(image[None])
        return self.encode_frames(pixels.numpy())


def _text_encoder(
    model: "DualEncoder | KeptText", device: str
) -> "TextEncoder | CompiledTextEncoder":
    """Returns what encodes sentences: on a CPU, the compiled text tower where there can be one."""
    from reelseek.text import CompiledTextEncoder, Tokenizer
    from reelseek.vision.models.kept_text import KeptText

    if isinstance(model, KeptText):
        tokenizer = Tokenizer(model.tokenizer.array, context_length=model.context_length)
        return CompiledTextEncoder(model.tower, tokenizer, scripts=model.scripts)

    from reelseek.text import TextEncoder
    from reelseek.vision import choose_device
    from reelseek.vision.models.kept_text import keep_text
    from reelseek.vision.models.openvino_text import compile_text_tower

    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    chosen, scripts = choose_device(device), model.spec.scripts
    if chosen.type == "cpu" and (tower := compile_text_tower(model)) is not None:
        keep_text(model, tower, getattr(model.clip, "source", None))
        return CompiledTextEncoder(tower, tokenizer, scripts=scripts)
    return TextEncoder(model.clip, tokenizer, scripts=scripts, device=chosen)
