"""Embeddings of a query's tokens and of a video's frames -> a score by their best matches.

One embedding of a sentence and one of a video summarise both. Here each token is matched with the
frame that shows it best, and each frame with the token that names it best.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelseek.indexing.store.atomic import write_atomically

MAX_FRAMES = 12  # of a video that are looked at, as in the paper
_WEIGHTS_NAME = "interaction.safetensors"
_CONFIG_NAME = "interaction.json"


def match_tokens(
    token_embeddings: np.ndarray,
    frame_embeddings: np.ndarray,
    *,
    token_weights: np.ndarray | None = None,
    frame_weights: np.ndarray | None = None,
) -> float:
    """Weighted token-wise interaction (Wang et al. 2022, "Disentangled Representation Learning for
    Text-Video Retrieval", the part on WTI):

        (sum_l w_l max_t <token_l, frame_t> + sum_t v_t max_l <token_l, frame_t>) / 2

    Args:
        token_embeddings: `(L, D)`, L2-normalised.
        frame_embeddings: `(T, D)`, L2-normalised.
        token_weights: `(L,)`, at least 0, w; brought to a sum of 1. Default: equal.
        frame_weights: `(T,)`, likewise v.

    Raises:
        ValueError: shapes that do not fit, nothing on a side, weights below 0 or all 0.
    """
    frames = np.asarray(frame_embeddings)
    scores = match_tokens_in_videos(
        token_embeddings,
        frames,
        counts=[len(frames)],
        token_weights=token_weights,
        frame_weights=frame_weights,
    )
    return float(scores[0])


def match_tokens_in_videos(
    token_embeddings: np.ndarray,
    frame_embeddings: np.ndarray,
    *,
    counts: Sequence[int] | np.ndarray,
    token_weights: np.ndarray | None = None,
    frame_weights: np.ndarray | None = None,
) -> np.ndarray:
    """`match_tokens` of one query with many videos, whose frames follow each other.

    Args:
        token_embeddings: `(L, D)`, L2-normalised.
        frame_embeddings: `(T, D)`, of all videos.
        counts: `(N,)`, frames of each video, at least 1, T in all.
        token_weights: `(L,)`, at least 0; default: equal.
        frame_weights: `(T,)`, at least 0, those of a video relative to each other; default: equal.

    Returns:
        `(N,)` float32.

    Raises:
        ValueError: as `match_tokens`; counts below 1 or that do not add up to T.
    """
    tokens, frames = np.asarray(token_embeddings), np.asarray(frame_embeddings)
    counts = np.asarray(counts, dtype=np.int64)
    _check_shapes(tokens, frames, counts)
    starts = np.cumsum(counts) - counts
    by_token = _fractions("token_weights", token_weights, np.array([len(tokens)]))
    by_frame = _fractions("frame_weights", frame_weights, counts)
    similarity = _products(frames, tokens.T, counts)  # (T, L)
    of_tokens = (np.maximum.reduceat(similarity, starts, axis=0) * by_token).sum(axis=1)  # (N,)
    of_frames = np.add.reduceat(by_frame * similarity.max(axis=1), starts)
    return ((of_tokens + of_frames) / 2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TokenMatchingHead:
    """A network for the weights of tokens or frames: the softmax of `score @ tanh(hidden @ x +
    bias)` over a sentence or a video.

    Attributes:
        hidden: `(H, D)`; bias: `(H,)`; score: `(H,)`, all float32.
    """

    hidden: np.ndarray
    bias: np.ndarray
    score: np.ndarray

    def weights(self, embeddings: np.ndarray, *, counts: np.ndarray | None = None) -> np.ndarray:
        """`(n, D)` -> `(n,)`, at least 0, with a sum of 1 in each run of `counts` rows (default:
        in all)."""
        counts = np.array([len(embeddings)]) if counts is None else np.asarray(counts)
        hidden = np.tanh(_products(embeddings, self.hidden.T, counts) + self.bias)
        logits = np.einsum("nh,h->n", hidden, self.score)
        starts = np.cumsum(counts) - counts
        powers = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), counts))
        return powers / np.repeat(np.add.reduceat(powers, starts), counts)


@dataclass(frozen=True, eq=False)
class TokenMatchingWeights:
    """The weights that `ranking.token_matching.training` learns.

    Attributes:
        token: weighs tokens.
        frame: weighs frames.
        fingerprint: of the model whose embeddings it was trained on; empty if unknown.
    """

    token: TokenMatchingHead
    frame: TokenMatchingHead
    fingerprint: str = ""

    def scores(
        self,
        token_embeddings: np.ndarray,
        frame_embeddings: np.ndarray,
        *,
        counts: Sequence[int] | np.ndarray,
    ) -> np.ndarray:
        """`match_tokens_in_videos` with the learned weights, `(N,)`."""
        counts = np.asarray(counts, dtype=np.int64)
        _check_shapes(np.asarray(token_embeddings), np.asarray(frame_embeddings), counts)
        return match_tokens_in_videos(
            token_embeddings,
            frame_embeddings,
            counts=counts,
            token_weights=self.token.weights(token_embeddings),
            frame_weights=self.frame.weights(frame_embeddings, counts=counts),
        )

    def save(self, folder: Path) -> None:
        """Writes `interaction.safetensors` and `interaction.json` into a folder, made if missing.

        The description, with the weights' checksum, comes last.
        """
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{side}.{name}": np.ascontiguousarray(getattr(head, name), dtype=np.float32)
            for side, head in (("token", self.token), ("frame", self.frame))
            for name in ("hidden", "bias", "score")
        }
        content = save(tensors)
        write_atomically(folder / _WEIGHTS_NAME, content)
        config = {
            "embedding_dim": self.token.hidden.shape[1],
            "fingerprint": self.fingerprint,
            "crc32": zlib.crc32(content),
        }
        write_atomically(folder / _CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path, *, fingerprint: str = "") -> "TokenMatchingWeights":
        """Reads what `save` wrote.

        Args:
            fingerprint: of the model that is searched with; empty not to compare.

        Raises:
            ValueError: missing, damaged, or trained on another model's embeddings.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            config = json.loads((folder / _CONFIG_NAME).read_text(encoding="utf-8"))
            content = (folder / _WEIGHTS_NAME).read_bytes()
            if config["crc32"] != zlib.crc32(content):
                raise ValueError("the checksum of its weights is wrong")
            tensors = load(content)
            of_model, dim = str(config["fingerprint"]), config["embedding_dim"]
            token, frame = _head(tensors, "token", dim), _head(tensors, "frame", dim)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise ValueError(
                f"token_matching={folder}: holds no token matching weights that can be read "
                f"({_reason(error)}); train them again"
            ) from error
        if fingerprint and of_model and fingerprint != of_model:
            raise ValueError(
                f"token_matching={folder}: its weights were trained on another model's embeddings "
                f"(fingerprint {of_model[:8]}, not {fingerprint[:8]}); train them again with this "
                "model"
            )
        return cls(token, frame, of_model)


def _head(tensors: dict[str, np.ndarray], side: str, dim: int) -> TokenMatchingHead:
    hidden, bias, score = (tensors[f"{side}.{name}"] for name in ("hidden", "bias", "score"))
    if hidden.shape != (len(bias), dim) or bias.shape != score.shape or bias.ndim != 1:
        raise ValueError(f"its {side} weights do not fit each other")
    if not all(np.isfinite(tensor).all() for tensor in (hidden, bias, score)):
        raise ValueError(f"its {side} weights are not finite")
    return TokenMatchingHead(hidden, bias, score)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def _products(rows: np.ndarray, matrix: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """`rows @ matrix`, of each run of `counts` rows alone: BLAS rounds a row by the number of rows
    beside it, and a video must score the same in whatever index it is."""
    ends = np.cumsum(counts)
    runs = zip((ends - counts).tolist(), ends.tolist(), strict=True)
    return np.concatenate([rows[first:last] @ matrix for first, last in runs])


def _check_shapes(tokens: np.ndarray, frames: np.ndarray, counts: np.ndarray) -> None:
    if tokens.ndim != 2 or frames.ndim != 2 or tokens.shape[1] != frames.shape[1]:
        raise ValueError(
            f"token_embeddings is {tokens.shape} and frame_embeddings {frames.shape}: must be "
            "(L, D) and (T, D), of one model"
        )
    if not len(tokens) or not len(frames):
        raise ValueError("token_embeddings or frame_embeddings is empty: there is nothing to match")
    if counts.ndim != 1 or counts.min() < 1 or counts.sum() != len(frames):
        raise ValueError(
            f"counts must be at least 1 each and add up to {len(frames)}, the number of frames; "
            f"they add up to {counts.sum()}"
        )


def _fractions(name: str, weights: np.ndarray | None, counts: np.ndarray) -> np.ndarray:
    """Returns the weights scaled to a sum of 1 in each run of `counts` entries."""
    total = int(counts.sum())
    if weights is None:
        return np.repeat(1.0 / counts, counts)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (total,):
        raise ValueError(f"{name} is {weights.shape}: must be ({total},), one for each embedding")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"{name} holds values below 0 or not finite: must be at least 0")
    sums = np.add.reduceat(weights, np.cumsum(counts) - counts)
    if not (sums > 0).all():
        raise ValueError(f"{name} are all 0: at least one must count")
    return weights / np.repeat(sums, counts)
