"""The sequential model and item transitions, blended: `method=sequential`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.item_transitions import ItemTransitions
from reelseek.recommendation.recommender import FitSettings
from reelseek.recommendation.sequential.blend import blend
from reelseek.recommendation.sequential.model import SequentialModel, catalogue_fingerprint
from reelseek.recommendation.sequential.scorer import SequentialScorer

__all__ = ["SequentialRecommender"]


class SequentialRecommender:
    """Scores items by transformers, and by what came soon after the history's items as much as
    that helped to find the last items of users who were held out.

    Args:
        settings: the seed, titles and progress. The number of epochs is that of the configuration:
            a bound by the clock would make figures differ from run to run.
        options: in place of the configuration's values: `network`, `loop`, `ensemble`.
    """

    def __init__(self, settings: FitSettings, **options: Any) -> None:
        self._settings, self._options = settings, options
        self._scorer: SequentialScorer | None = None
        self._transitions = ItemTransitions(settings)

    @property
    def model(self) -> SequentialModel:
        """The transformers, once fitted to sequences that teach them something."""
        assert self._scorer is not None, "fit comes first"
        return self._scorer.model

    def fit(self, training: Sequences) -> None:
        """Trains; where no sequence has two items, item transitions and popularity are all there
        is to learn."""
        if training.lengths.max(initial=0) < 2:
            self._transitions.fit(training)
            return
        from reelseek.configs.composition import default_values
        from reelseek.configs.sequential_schema import SequentialConfig
        from reelseek.recommendation.sequential.content import titles_content
        from reelseek.recommendation.sequential.run import default_settings, train_model
        from reelseek.training.processes import Processes
        from reelseek.vision import choose_device

        model = train_model(
            training,
            default_settings(self._settings.seed, **self._options),
            read_content=titles_content(
                self._settings.titles, default_values(SequentialConfig)["text_model"]
            ),
            processes=Processes(0, 1, choose_device("auto")),
            progress=self._settings.progress,
        )
        assert model is not None, "nothing stops it"
        self._take(model, training)

    @classmethod
    def load(cls, folder: Path, training: Sequences) -> "SequentialRecommender":
        """Loads transformers that were trained before, without PyTorch.

        Args:
            folder: of `SequentialModel.save`.
            training: what item transitions and popularity are counted in; may hold events since.

        Raises:
            ValueError: the folder holds no model of this catalogue.
        """
        made = cls(FitSettings())
        model = SequentialModel.load(folder)
        if model.fingerprint != catalogue_fingerprint(
            training.items.ids(), model.content_fingerprint
        ):
            raise ValueError(f"{folder}: was trained for another catalogue; train it again")
        made._take(model, training)
        return made

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        if self._scorer is None:
            return self._transitions.scores(histories)
        return blend(
            self._scorer.logits(histories),
            self._transitions.scores(histories),
            self.model.transitions_weight,
        )

    def _take(self, model: SequentialModel, training: Sequences) -> None:
        self._scorer = SequentialScorer(model, training.item_counts)
        self._transitions.fit(training)
