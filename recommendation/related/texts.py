"""What is said about videos -> how alike that is: the cosine of TF-IDF vectors.

A word counts `(1 + log(count)) * log(1 + N / (1 + videos that have it))`, and those of titles and
tags more than those of captions (Salton and Buckley 1988, "Term-weighting approaches in automatic
text retrieval", section 3).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["TextVectors", "words_of"]

_FIELDS = {"title": 2, "tags": 3, "captions": 1}  # how often a word of each counts
_MAX_WORDS = 200  # of a video, the first
# A word of more videos than this share tells little, and makes finding slow.
_MAX_SHARE, _MIN_COMMON = 0.1, 3
_MAX_LOOKED_UP = 30  # words of a video, the rarest


def words_of(metadata: dict[str, Any]) -> list[str]:
    """The words of a video's title, tags and captions, casefolded, each as often as it counts."""
    from reelseek.text.segmentation import words  # whose patterns take a moment to compile

    found: list[str] = []
    for name, times in _FIELDS.items():
        value = metadata.get(name)
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        for text in texts:
            if isinstance(text, str):
                found += [word.casefold() for word in words(text[:2000])] * times
    return found[: _MAX_WORDS * max(_FIELDS.values())]


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Sparse rows of N videos, of length 1 or 0, and the same by word.

    Attributes:
        offsets, words, weights: the words of video i are `words[offsets[i]:offsets[i + 1]]`, the
            rarest first.
        word_offsets, videos, video_weights: the videos of each word.
    """

    offsets: np.ndarray
    words: np.ndarray
    weights: np.ndarray
    word_offsets: np.ndarray
    videos: np.ndarray
    video_weights: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> "TextVectors":
        """Args: texts: the words of each video."""
        number_by_word: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[int] = []
        for row, words in enumerate(texts):
            for word, count in Counter(words).items():
                rows.append(row)
                columns.append(number_by_word.setdefault(word, len(number_by_word)))
                counts.append(count)
        return _vectors(
            np.array(rows, np.int64),
            np.array(columns, np.int64),
            np.array(counts, np.float64),
            shape=(len(texts), len(number_by_word)),
        )

    @property
    def num_videos(self) -> int:
        return len(self.offsets) - 1

    def has_words(self, row: int) -> bool:
        """Whether anything is said of a video that tells it from most others."""
        return bool(self.offsets[row + 1] > self.offsets[row])

    def nearest(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the k other videos whose words are most like those of one, and the cosines."""
        found = np.zeros(self.num_videos, np.float32)
        some = slice(
            self.offsets[row], min(self.offsets[row + 1], self.offsets[row] + _MAX_LOOKED_UP)
        )
        for word, weight in zip(self.words[some], self.weights[some], strict=True):
            inside = slice(self.word_offsets[word], self.word_offsets[word + 1])
            found[self.videos[inside]] += weight * self.video_weights[inside]
        found[row] = 0
        return _best(found, k)

    def cosines(self, row: int, others: np.ndarray) -> np.ndarray:
        """Returns how like the words of some videos are to those of one."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        weight_of = np.zeros(len(self.word_offsets) - 1, np.float32)
        weight_of[self.words[own]] = self.weights[own]
        starts, counts = self.offsets[others], self.offsets[others + 1] - self.offsets[others]
        ends = np.cumsum(counts)
        # The places of all words of the others, one video after the other.
        places = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
        products = weight_of[self.words[places]] * self.weights[places]
        video = np.repeat(np.arange(len(others)), counts)
        return np.bincount(video, products, minlength=len(others))


def _vectors(
    rows: np.ndarray, columns: np.ndarray, counts: np.ndarray, *, shape: tuple[int, int]
) -> TextVectors:
    num_videos, num_words = shape
    num_having = np.bincount(columns, minlength=num_words)
    is_telling = num_having <= max(_MIN_COMMON, _MAX_SHARE * num_videos)
    kept = is_telling[columns]
    rows, columns, counts = rows[kept], columns[kept], counts[kept]
    idf = np.log1p(num_videos / (1 + num_having))
    weights = (1 + np.log(counts)) * idf[columns]
    lengths = np.sqrt(np.bincount(rows, weights**2, minlength=num_videos))
    weights = (weights / np.maximum(lengths[rows], 1e-12)).astype(np.float32)
    by_video = np.lexsort((num_having[columns], rows))
    by_word = np.argsort(columns, kind="stable")
    return TextVectors(
        _offsets(rows, num_videos),
        columns[by_video].astype(np.int32),
        weights[by_video],
        _offsets(columns, num_words),
        rows[by_word].astype(np.int32),
        weights[by_word],
    )


def _offsets(numbers: np.ndarray, num: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(numbers, minlength=num))]).astype(np.int64)


def _best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best above 0, the best first."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k:
        found = found[np.argpartition(-scores[found], k)[:k]]
    found = found[np.lexsort((found, -scores[found]))]
    return found, scores[found]
