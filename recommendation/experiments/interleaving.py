"""Two rankings -> one list, of which each hit belongs to the ranker that chose it.

Team-draft interleaving (Radlinski, Kurup and Joachims, CIKM 2008, algorithm 2): as captains choose
players, each round a coin says who chooses first; each takes the best that is not taken yet.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Interleaved", "preference", "team_draft"]

_Hit = TypeVar("_Hit")


@dataclass(frozen=True)
class Interleaved(Generic[_Hit]):
    """A list, and the team of each hit: 0 for the first ranker, 1 for the second."""

    hits: list[_Hit]
    teams: list[int]


def team_draft(
    first: Sequence[_Hit], second: Sequence[_Hit], *, length: int, seed: str
) -> Interleaved[_Hit]:
    """Interleaves two rankings.

    Args:
        length: of the list, at most; it is shorter where both rankings end before.
        seed: such as the request's id; the same one gives the same list.
    """
    rankings = (first, second)
    coin, taken = random.Random(seed), set[_Hit]()
    hits: list[_Hit] = []
    teams: list[int] = []
    sizes, nexts = [0, 0], [0, 0]
    while len(hits) < length:
        for team in (0, 1):
            ranking = rankings[team]
            while nexts[team] < len(ranking) and ranking[nexts[team]] in taken:
                nexts[team] += 1
        can_choose = [nexts[team] < len(rankings[team]) for team in (0, 1)]
        if not any(can_choose):
            break
        if all(can_choose):
            is_tie = sizes[0] == sizes[1]
            team = coin.randrange(2) if is_tie else int(sizes[0] > sizes[1])
        else:
            team = can_choose.index(True)
        hit = rankings[team][nexts[team]]
        taken.add(hit)
        hits.append(hit)
        teams.append(team)
        sizes[team] += 1
    return Interleaved(hits, teams)


def preference(teams: Sequence[int], clicked: Iterable[int]) -> int:
    """Returns who won: -1 the first, 1 the second ranker, 0 neither.

    Args:
        teams: of the list.
        clicked: indices of hits, each counted once.
    """
    votes = [0, 0]
    for index in set(clicked):
        votes[teams[index]] += 1
    return (votes[1] > votes[0]) - (votes[1] < votes[0])
