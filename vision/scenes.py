"""Frame embeddings of a video -> its scenes: stretches whose content is much the same."""

import heapq

import numpy as np

DEFAULT_SPREAD = 1.4  # of the built-in model, until there are videos enough to measure

# Of the spread of frames of different videos (`frame_spread`), how much two neighbours must differ
# to stay apart: chosen on half the films of benchmarks/moments.py.
_DIFFERENCE = 0.95
# Between 0, where a scene of one second is cut from a long one as soon as it looks different, and
# 1, which is Ward's linkage and leaves short scenes together.
_LENGTH_EXPONENT = 0.75


def frame_spread(embeddings: np.ndarray) -> float:
    """The mean squared distance between embeddings `(N, D)` of different videos, N at least 2."""
    total = embeddings.sum(axis=0, dtype=np.float64)
    squares = np.square(embeddings, dtype=np.float64).sum()
    num = len(embeddings)
    return float(2 * (num * squares - total @ total) / (num * (num - 1)))


def cut_scenes(frame_embeddings: np.ndarray, *, spread: float) -> np.ndarray:
    """Cuts a video where its content changes: neighbours are merged, the most alike first.

    Two neighbours of n and m frames differ by the squared distance of their means, times
    (nm / (n + m)) ** 0.75; with exponent 1 this is Ward's linkage (Ward 1963), the greedy form of
    kernel temporal segmentation with a linear kernel (Potapov et al. 2014, section 3.1).

    Args:
        frame_embeddings: `(T, D)`, L2-normalised, in order of time, T at least 1.
        spread: how far apart the model puts frames of different videos, by `frame_spread`; of the
            model, not of this video, or else a video of one scene would be cut up.

    Returns:
        `(S,)` int64, the first frame of each scene; the first of them is 0.
    """
    sums: list[np.ndarray] = list(frame_embeddings.astype(np.float64))
    counts = [1] * len(sums)
    before = list(range(-1, len(sums) - 1))
    after = [*range(1, len(sums)), -1]
    version = [0] * len(sums)  # of a scene, by its first frame; -1 where it was merged

    def difference(left: int, right: int) -> tuple[float, int, int, int, int]:
        n, m = counts[left], counts[right]
        apart = sums[left] / n - sums[right] / m
        cost = float(apart @ apart) * (n * m / (n + m)) ** _LENGTH_EXPONENT
        return cost, left, right, version[left], version[right]

    pairs = [difference(left, left + 1) for left in range(len(sums) - 1)]
    heapq.heapify(pairs)
    while pairs:
        cost, left, right, left_version, right_version = heapq.heappop(pairs)
        if cost >= _DIFFERENCE * spread:
            break  # a pair that is out of date costs what it cost, so none that is left is cheaper
        if (version[left], version[right]) != (left_version, right_version):
            continue
        sums[left] = sums[left] + sums[right]
        counts[left] += counts[right]
        after[left] = after[right]
        version[left], version[right] = version[left] + 1, -1
        if after[left] >= 0:
            before[after[left]] = left
            heapq.heappush(pairs, difference(left, after[left]))
        if before[left] >= 0:
            heapq.heappush(pairs, difference(before[left], left))
    return np.flatnonzero(np.array(version) >= 0)


def scene_spans(
    firsts: np.ndarray, times_seconds: np.ndarray, *, duration_seconds: float
) -> np.ndarray:
    """When the scenes are on: a cut lies midway between the two frames beside it.

    Args:
        firsts: `(S,)`, of `cut_scenes`.
        times_seconds: `(T,)`, of the frames.
        duration_seconds: as far as the video decodes; the last scene's end.

    Returns:
        `(S, 2)` float64 of `[start_seconds, end_seconds)`, one after the other from 0.
    """
    cuts = (times_seconds[firsts[1:] - 1] + times_seconds[firsts[1:]]) / 2
    edges = np.concatenate([[0.0], cuts, [max(duration_seconds, float(times_seconds[-1]))]])
    return np.stack([edges[:-1], edges[1:]], axis=1)
