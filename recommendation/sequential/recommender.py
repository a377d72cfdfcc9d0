"""The sequential model and item transitions, blended: `method=sequential`."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from reelseek.configs.composition import default_values
from reelseek.configs.sequential_schema import (
    SequentialConfig,
    SequentialLoopConfig,
    SequentialNetworkConfig,
)
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.item_transitions import ItemTransitions
from reelseek.recommendation.recommender import FitSettings, Progress
from reelseek.recommendation.sequential.blend import blend, choose_weight
from reelseek.recommendation.sequential.content import embed_titles, load_text_tower
from reelseek.recommendation.sequential.fitting import hold_out_last, train_network
from reelseek.recommendation.sequential.model import SequentialModel
from reelseek.training.processes import Processes

__all__ = ["SequentialRecommender"]

logger = logging.getLogger(__name__)


class SequentialRecommender:
    """Scores items by transformers, and by what came soon after the history's items as much as
    that helped to find the last items of users who were held out.

    Args:
        settings: the seed, titles and progress. The number of epochs is that of the configuration:
            a bound by the clock would make figures differ from run to run.
        network, loop, ensemble, text_model: see `SequentialConfig`; default: those of its YAML.

    Attributes:
        model: the transformers, once fitted.
        transitions_weight: how much item transitions count.
    """

    def __init__(
        self,
        settings: FitSettings,
        *,
        network: SequentialNetworkConfig | None = None,
        loop: SequentialLoopConfig | None = None,
        ensemble: int | None = None,
        text_model: str | None = None,
    ) -> None:
        values: dict[str, Any] = default_values(SequentialConfig)
        self._settings = settings
        self._network = network or SequentialNetworkConfig(**values["network"])
        self._loop = loop or SequentialLoopConfig(**values["loop"])
        self._ensemble = ensemble or values["ensemble"]
        self._text_model = text_model or values["text_model"]
        self.model: SequentialModel | None = None
        self.transitions_weight = 0.0
        self._transitions = ItemTransitions(settings)
        self._vectors = np.zeros((0, 0), np.float32)
        self._item_counts = np.zeros(0, np.int64)

    def fit(self, training: Sequences) -> None:
        from reelseek.vision import choose_device

        if not training.is_ordered:
            raise ValueError("sequential learns from sequences; for pairs choose another method")
        held_out = hold_out_last(training, self._loop.validation_users, seed=self._settings.seed)
        content, fingerprint = self._content(training)
        networks = []
        for number in range(self._ensemble):
            trained = train_network(
                held_out.learned,
                network=self._network,
                loop=self._loop,
                seed=self._settings.seed * self._ensemble + number,
                processes=Processes(0, 1, choose_device("auto")),
                content=content,
                progress=self._part(number),
            )
            assert trained is not None, "nothing stops it"
            networks.append(trained)
        self.model = SequentialModel(
            networks, self._network.num_heads, training.items.ids(), fingerprint
        )
        self._vectors = self.model.item_vectors()
        self._item_counts = training.item_counts
        if len(held_out.targets):
            self._transitions.fit(held_out.learned)
            self.transitions_weight = self._choose_weight(held_out.histories, held_out.targets)
        self._transitions.fit(training)

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        assert self.model is not None, "fit comes first"
        return blend(self._logits(histories), self._transitions.scores(histories), self.transitions_weight)

    def _logits(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """`(B, N)`. Without a history, items are ordered by popularity; items of which nothing is
        known, neither history nor content, come last."""
        assert self.model is not None
        logits = self.model.history_vectors(histories) @ self._vectors.T
        is_empty = np.array([len(history) == 0 for history in histories], bool)
        logits[is_empty] = np.log1p(self._item_counts)
        is_unknown = ~self._vectors.any(axis=1)
        if is_unknown.any():
            logits[:, is_unknown] = logits.min(axis=1, keepdims=True) - 1
        return np.asarray(logits, np.float32)

    def _choose_weight(self, histories: list[np.ndarray], targets: np.ndarray) -> float:
        weight, gains = choose_weight(
            self._logits(histories),
            self._transitions.scores(histories),
            histories=histories,
            targets=targets,
        )
        logger.info("item transitions count %s: %s", weight, gains)
        return weight

    def _content(self, training: Sequences) -> tuple[np.ndarray | None, str]:
        """Returns the content of the items and the fingerprint of what made it."""
        titles = self._settings.titles
        if titles is None or not any(title.strip() for title in titles):
            return None, ""
        embed, fingerprint = load_text_tower(self._text_model)
        return embed_titles(titles, embed, progress=self._settings.progress), fingerprint

    def _part(self, number: int) -> Progress:
        """Returns the progress of one network of several."""

        def show(fraction: float, text: str) -> None:
            of = f"network {number + 1} of {self._ensemble}, "
            self._settings.progress(
                (number + fraction) / self._ensemble, f"{of if self._ensemble > 1 else ''}{text}"
            )

        return show
