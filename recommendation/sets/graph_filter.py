"""Recommends from sets: propagation of links and a low-pass filter, weighed by held-out pairs."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.recommendation.baselines.history_matrix import history_matrix
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import FitSettings
from reelseek.recommendation.sets.link_propagation import Exponents, LinkPropagation
from reelseek.recommendation.sets.low_pass import LowPass
from reelseek.recommendation.sets.validation import Validation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["FilterSettings", "GraphFilter"]

logger = logging.getLogger(__name__)

# What is tried, each in turn while it gets better; from the defaults of `Exponents`.
_GRID = {
    "chosen": (0.0, 0.15, 0.3, 0.5, 0.65),
    "others": (0.3, 0.5, 0.7, 1.0, 1.3),
    "target": (-0.35, -0.2, 0.0, 0.2, 0.3, 0.4, 0.5),
}
_ITEM_EXPONENTS = (0.4, 0.5)
_NUM_FACTORS = (128, 256, 400, 640, 1000)
_TARGET_SHIFTS = (-0.2, 0.0, 0.2)
_WEIGHTS = (0.25, 0.5, 1.0)
_MAX_NUMBERS = 100_000_000  # in the vectors of a filter, 400 MB; catalogues of 10^6 get fewer
_MAX_USERS = 4000  # of the validation; more would take longer and choose the same
_NUM_BEST = 20  # scores of a user that are brought to the same height
_MIN_RELATIVE = 1e-3


@dataclass(frozen=True)
class FilterSettings:
    """What is chosen by held-out pairs; the defaults serve where there are none.

    Attributes:
        exponents: of the propagation of links; that of other users serves the filter too.
        weight: of the low-pass filter, where the propagation counts 1; 0 leaves it out.
        num_factors, item_exponent, target_exponent: of the low-pass filter.
    """

    exponents: Exponents = field(default_factory=Exponents)
    weight: float = 0.5
    num_factors: int = 256
    item_exponent: float = 0.5
    target_exponent: float = -0.5


class GraphFilter:
    """The sum of `LinkPropagation` and `LowPass`, as in GF-CF (Shen et al., CIKM 2021, section
    4.3, equation 11), with the degrees' exponents of LinkProp (Fu et al., WSDM 2022). Both parts of
    a user's scores are first divided by the mean of the user's best ones. Nothing is trained by
    gradient; a user is answered by the history alone."""

    def __init__(
        self, settings: FitSettings, filter_settings: FilterSettings | None = None
    ) -> None:
        self._settings = settings
        self.filter_settings = FilterSettings() if filter_settings is None else filter_settings
        self._num_items = 0
        self._links: LinkPropagation | None = None
        self._low_pass: LowPass | None = None

    def tune(self, training: Sequences, validation: Sequences) -> None:
        """Chooses exponents, then the filter, each by the mean of R@20 and NDCG@20 of the pairs
        that were held out."""
        asked = Validation(training, validation, max_users=_MAX_USERS, seed=self._settings.seed)
        if not asked.num_users:
            logger.warning("no user has pairs to learn from and pairs to choose by: not tuned")
            return
        chosen = training.matrix()
        links = self._tune_exponents(chosen, asked)
        self._tune_filter(chosen, asked, links=links)

    def chosen_settings(self) -> dict[str, Any]:
        return asdict(self.filter_settings)

    def fit(self, training: Sequences) -> None:
        chosen = training.matrix()
        self._num_items = training.num_items
        self._links = LinkPropagation(chosen, self.filter_settings.exponents)
        has_filter = self.filter_settings.weight > 0
        self._low_pass = self._make_low_pass(chosen, self.filter_settings) if has_filter else None
        self._settings.progress(1.0, "filters made")

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        assert self._links is not None, "fit comes first"
        known = history_matrix(histories, self._num_items)
        found = self._links.scores(known)
        if self._low_pass is None:
            return found
        return _brought_level(found, known) + self.filter_settings.weight * _brought_level(
            _filtered(self._low_pass, known, self.filter_settings), known
        )

    def _tune_exponents(self, chosen: "csr_matrix", asked: Validation) -> LinkPropagation:
        """Changes one exponent at a time until none makes it better."""
        links = LinkPropagation(chosen, self.filter_settings.exponents)
        best, exponents = asked.quality(links.scores), self.filter_settings.exponents
        tried = {exponents: best}
        has_changed, num_tried = True, 0
        while has_changed:
            has_changed = False
            for name, values in _GRID.items():
                for value in values:
                    other = replace(exponents, **{name: value})
                    if other in tried:
                        continue
                    candidate = links.with_exponents(other)
                    tried[other] = asked.quality(candidate.scores)
                    num_tried += 1
                    # The descent ends after two or three rounds of all values.
                    self._settings.progress(
                        min(0.6, num_tried / 60), f"exponents tried, best {best:.4f}"
                    )
                    if tried[other] > best:
                        best, exponents, links, has_changed = tried[other], other, candidate, True
        self.filter_settings = replace(self.filter_settings, exponents=exponents)
        return links

    def _tune_filter(
        self, chosen: "csr_matrix", asked: Validation, *, links: LinkPropagation
    ) -> None:
        """Tries the filter in all ways, also left out."""
        num_factors = [k for k in _NUM_FACTORS if k * chosen.shape[1] <= _MAX_NUMBERS]
        if not num_factors:
            self.filter_settings = replace(self.filter_settings, weight=0.0)
            return
        tried = [replace(self.filter_settings, weight=0.0)]
        qualities = [asked.quality(links.scores)]
        for number, item_exponent in enumerate(_ITEM_EXPONENTS, start=1):
            candidates = [
                replace(
                    self.filter_settings,
                    weight=weight,
                    num_factors=k,
                    item_exponent=item_exponent,
                    target_exponent=shift - item_exponent,
                )
                for k in num_factors
                for shift in _TARGET_SHIFTS
                for weight in _WEIGHTS
            ]
            largest = replace(candidates[0], num_factors=max(num_factors))
            low_pass = self._make_low_pass(chosen, largest)
            found = asked.qualities(partial(_sums, candidates, links, low_pass), len(candidates))
            tried += candidates
            qualities += found.tolist()
            self._settings.progress(
                0.6 + 0.4 * number / len(_ITEM_EXPONENTS),
                f"low-pass filters tried, best {max(qualities):.4f}",
            )
        self.filter_settings = tried[int(np.argmax(qualities))]

    def _make_low_pass(self, chosen: "csr_matrix", settings: FilterSettings) -> LowPass:
        return LowPass(
            chosen,
            num_factors=settings.num_factors,
            others=settings.exponents.others,
            item_exponent=settings.item_exponent,
            seed=self._settings.seed,
        )


def _sums(
    candidates: Sequence[FilterSettings],
    links: LinkPropagation,
    low_pass: LowPass,
    known: "csr_matrix",
) -> Iterator[np.ndarray]:
    """The scores by each candidate, of which neighbors share the filtered part."""
    linked = _brought_level(links.scores(known), known)
    filtered_by: tuple[int, float] | None = None
    filtered = linked
    for each in candidates:
        if filtered_by != (each.num_factors, each.target_exponent):
            filtered_by = (each.num_factors, each.target_exponent)
            filtered = _brought_level(_filtered(low_pass, known, each), known)
        yield linked + each.weight * filtered


def _filtered(low_pass: LowPass, known: "csr_matrix", settings: FilterSettings) -> np.ndarray:
    return low_pass.scores(
        known, num_factors=settings.num_factors, target_exponent=settings.target_exponent
    )


def _brought_level(scores: np.ndarray, known: "csr_matrix") -> np.ndarray:
    """Divides each row by the mean of its best scores of items that are not known.

    Where those are nothing beside the scores of known items, such as the rounding errors of a
    filter that lets all pass, the row is divided by its largest score instead.
    """
    unseen = scores.copy()
    unseen[known.nonzero()] = -np.inf
    num = min(_NUM_BEST, scores.shape[1])
    best = np.partition(unseen, -num, axis=1)[:, -num:]
    means = np.where(np.isfinite(best), best, 0).mean(axis=1, keepdims=True)
    largest = np.abs(scores).max(axis=1, keepdims=True)
    scale = np.where(means > _MIN_RELATIVE * largest, means, largest)
    return scores / np.where(scale > 0, scale, 1).astype(np.float32)
