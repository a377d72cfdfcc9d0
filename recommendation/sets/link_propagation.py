"""Scores an item by the paths of three links from the user to it: user - item - user - item."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelseek.recommendation.sets.graph import degree_powers, scale_columns, scale_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["Exponents", "LinkPropagation"]


@dataclass(frozen=True)
class Exponents:
    """How much less a path counts through nodes of many links: by their degree to these powers.

    Attributes:
        chosen: of the item that the user chose.
        others: of the other user, who chose it too.
        target: of the item that is scored; below 0 favors popular ones.
    """

    chosen: float = 0.5
    others: float = 0.7
    target: float = 0.3


class LinkPropagation:
    """LinkProp (Fu et al., WSDM 2022, "Revisiting Neighborhood-based Link Prediction for
    Collaborative Filtering", section 3.2, equation 6, without the user's own degree, which does
    not change the user's order). With 0.5 in all places it is the linear part of GF-CF (Shen et
    al., CIKM 2021, "How Powerful is Graph Convolution for Recommendation?", section 4.3).

    Args:
        chosen: `(num_users, num_items)`, 0 or 1, of the users who are learned from.
    """

    def __init__(self, chosen: "csr_matrix", exponents: Exponents) -> None:
        self._chosen = chosen
        by_user = scale_rows(chosen, degree_powers(chosen, -exponents.others, of_users=True))
        self._together = (chosen.T @ by_user).tocsr()
        self._others = exponents.others
        self._set_item_exponents(exponents)

    def with_exponents(self, exponents: Exponents) -> "LinkPropagation":
        """Returns the same with other exponents; quick where only those of items differ."""
        if exponents.others != self._others:
            return LinkPropagation(self._chosen, exponents)
        other = object.__new__(LinkPropagation)
        other.__dict__.update(self.__dict__)
        other._set_item_exponents(exponents)
        return other

    def scores(self, histories: "csr_matrix") -> np.ndarray:
        """Returns `(B, num_items)` float32.

        Args:
            histories: `(B, num_items)`, 0 or 1.
        """
        reached = scale_columns(histories, self._of_chosen) @ self._together
        return reached.toarray() * self._of_target

    def _set_item_exponents(self, exponents: Exponents) -> None:
        self._of_chosen = degree_powers(self._chosen, -exponents.chosen, of_users=False)
        self._of_target = degree_powers(self._chosen, -exponents.target, of_users=False)
