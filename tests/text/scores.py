"""Expected and actual analyses -> precision and recall of each part."""

from collections.abc import Sequence
from dataclasses import dataclass

from reelseek.text.query.analyzer import AnalyzedQuery
from tests.text.query_table import Expected


@dataclass
class Score:
    """Counts of what was found, of what was to be found, and of both."""

    right: int = 0
    found: int = 0
    expected: int = 0

    def add(self, found: Sequence[object], expected: Sequence[object]) -> None:
        self.right += len(set(found) & set(expected))
        self.found += len(set(found))
        self.expected += len(set(expected))

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.expected if self.expected else 1.0


def scores_of(pairs: Sequence[tuple[Expected, AnalyzedQuery]]) -> dict[str, Score]:
    scores = {
        name: Score() for name in ("filters", "negations", "events", "corrections", "entities")
    }
    for expected, actual in pairs:
        scores["filters"].add([one.where for one in actual.constraints], [*expected.constraints])
        scores["negations"].add(actual.excluded, expected.excluded)
        scores["events"].add(
            [actual.steps][: len(actual.steps)], [expected.steps][: len(expected.steps)]
        )
        corrections = [(one.original, one.corrected) for one in actual.corrections]
        scores["corrections"].add(corrections, expected.corrections)
        scores["entities"].add([(one.text, one.kind) for one in actual.entities], expected.entities)
    return scores


def table_of(scores: dict[str, Score]) -> str:
    lines = [
        f"{'part':<12} {'precision':>9} {'recall':>7} {'right':>6} {'found':>6} {'expected':>9}"
    ]
    for name, s in scores.items():
        lines.append(
            f"{name:<12} {s.precision:9.3f} {s.recall:7.3f} {s.right:6} {s.found:6} {s.expected:9}"
        )
    return "\n".join(lines)
