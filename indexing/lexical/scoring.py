"""BM25 of a text, from its counts and the statistics of a collection.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, section 3.2,
with the inverse document frequency of equation 3.1 plus 1 under the logarithm, so that it stays
above 0 for words that most texts have.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_K1, _B = 1.2, 0.75


@dataclass(frozen=True)
class TermStatistics:
    """What the texts of a collection have, of the stems of a query.

    Attributes:
        num_texts: texts in all.
        length: stems of all texts together.
        frequencies: how many texts have each stem.
    """

    num_texts: int
    length: int
    frequencies: Mapping[str, int]

    @classmethod
    def merge(cls, shards: Iterable["TermStatistics"]) -> "TermStatistics":
        """Adds up the statistics of shards."""
        shards = list(shards)
        stems = {stem for shard in shards for stem in shard.frequencies}
        return cls(
            sum(shard.num_texts for shard in shards),
            sum(shard.length for shard in shards),
            {stem: sum(shard.frequencies.get(stem, 0) for shard in shards) for stem in stems},
        )

    @staticmethod
    def merge_levels(
        shards: Iterable[Mapping[str, "TermStatistics"]],
    ) -> dict[str, "TermStatistics"]:
        """Adds up, by level, the statistics of the shards that have any."""
        by_level: dict[str, list[TermStatistics]] = {}
        for shard in shards:
            for level, terms in shard.items():
                by_level.setdefault(level, []).append(terms)
        return {level: TermStatistics.merge(terms) for level, terms in by_level.items()}

    @property
    def mean_length(self) -> float:
        return self.length / self.num_texts if self.num_texts else 0.0

    def rarity(self, stem: str) -> float:
        """The inverse document frequency of a stem."""
        return inverse_document_frequency(self.frequencies.get(stem, 0), self.num_texts)


def inverse_document_frequency(frequency: int, num_texts: int) -> float:
    """Returns the weight of a word that `frequency` of `num_texts` texts have, above 0.

    A frequency may count texts that were deleted since, and so be greater than their number.
    """
    frequency = min(frequency, num_texts)
    return math.log(1 + (num_texts - frequency + 0.5) / (frequency + 0.5))


class Bm25:
    """Scores texts for one query.

    Args:
        stems: of the query, each once.
        terms: statistics of the collection.
    """

    def __init__(self, stems: Iterable[str], terms: TermStatistics) -> None:
        self._rarities = [(stem, terms.rarity(stem)) for stem in stems]
        self._mean_length = terms.mean_length

    def score(self, counts: Mapping[str, int], length: int) -> float:
        """The score of a text.

        Args:
            counts: how often the text has each stem.
            length: its stems in all.
        """
        norm = _K1 * (1 - _B + _B * length / self._mean_length) if self._mean_length else _K1
        score = 0.0
        for stem, rarity in self._rarities:
            if count := counts.get(stem, 0):
                score += rarity * count * (_K1 + 1) / (count + norm)
        return score
