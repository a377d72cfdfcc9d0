"""The steps of a search (`indexing.shards.gathering`) as calls of the groups that read shards."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from reelseek.indexing.candidates import CandidateSet, GatherRequest
from reelseek.indexing.shards.gathering import ShardChoice, ShardFindings

T = TypeVar("T")

# Calls a step of the groups, with the arguments of each; returns the answers of those that answer.
Ask: TypeAlias = Callable[[str, Mapping[int, Sequence[Any]]], dict[int, Any]]


class RemoteShards:
    """A request to all shards, of which each group reads every n-th: a call to each group for each
    step, and none to a group that has nothing to do in it.

    Shards of a group that does not answer have found nothing.

    Args:
        request: to all shards.
        ask: calls the groups.
        num_groups: of the shards.
    """

    def __init__(self, request: GatherRequest, ask: Ask, *, num_groups: int) -> None:
        self._request = request
        self._ask = ask
        self._num_groups = num_groups

    def find(self, is_near: Sequence[bool]) -> list[ShardFindings]:
        is_asked = [near or self._request.num_texts > 0 for near in is_near]
        nothing = [ShardFindings.none(self._request) for _ in is_near]
        return self._step("find", is_near, nothing, is_asked=is_asked)

    def rescore(self, locations: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        # The estimates of a shard that is gone by now are the last that is chosen.
        lost = [[np.full(len(own), -np.inf, np.float32) for own in each] for each in locations]
        is_asked = [any(map(len, each)) for each in locations]
        return self._step("rescore", locations, lost, is_asked=is_asked)

    def read(self, choices: Sequence[ShardChoice]) -> list[CandidateSet | None]:
        nothing: list[CandidateSet | None] = [CandidateSet.none(self._request) for _ in choices]
        is_asked = [bool(self._request.ids) or not choice.is_empty for choice in choices]
        return self._step("read", choices, nothing, is_asked=is_asked)

    def _step(
        self, name: str, by_shard: Sequence[Any], results: list[T], *, is_asked: Sequence[bool]
    ) -> list[T]:
        """Puts the answers of the groups in the places of their shards."""
        groups = [slice(group, None, self._num_groups) for group in range(self._num_groups)]
        arguments = {
            group: (self._request, list(by_shard[own]))
            for group, own in enumerate(groups)
            if any(is_asked[own])
        }
        for group, answer in self._ask(name, arguments).items():
            results[groups[group]] = answer
        return results
