"""Cuts a video into scenes of similar content, by its frame embeddings."""

import heapq

import numpy as np

DEFAULT_SPREAD = 1.4  # of `mini`; used until there are enough videos to measure

# Two neighbours stay apart if they differ by this fraction of the spread of frames of different
# videos (`frame_spread`); chosen on half the films of benchmarks/moments.py.
_DIFFERENCE = 0.95
# 0 cuts a one-second scene from a long one as soon as it looks different; 1 is Ward's linkage,
# which keeps short scenes merged.
_LENGTH_EXPONENT = 0.75


def frame_spread(embeddings: np.ndarray) -> float:
    """Returns the mean squared distance between embeddings `(N, D)` of different videos, N >= 2."""
    total = embeddings.sum(axis=0, dtype=np.float64)
    squares = np.square(embeddings, dtype=np.float64).sum()
    num = len(embeddings)
    return float(2 * (num * squares - total @ total) / (num * (num - 1)))


def cut_scenes(frame_embeddings: np.ndarray, *, spread: float) -> np.ndarray:
    """Cuts a video where its content changes, by merging the most similar neighbours first.

    Two neighbours of n and m frames differ by the squared distance of their means, times
    (nm / (n + m)) ** 0.75. With exponent 1 this is Ward's linkage (Ward 1963), the greedy form of
    kernel temporal segmentation with a linear kernel (Potapov et al. 2014, section 3.1).

    Args:
        frame_embeddings: `(T, D)`, L2-normalised, in order of time, T at least 1.
        spread: The model's `frame_spread` over different videos. The spread of this video would
            cut up a video of one scene.

    Returns:
        `(S,)` int64, the first frame of each scene, starting with 0.
    """
    sums: list[np.ndarray] = list(frame_embeddings.astype(np.float64))
    counts = [1] * len(sums)
    before = list(range(-1, len(sums) - 1))
    after = [*range(1, len(sums)), -1]
    version = [0] * len(sums)  # by first frame: counts a scene's merges; -1 after it was absorbed

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
            break  # outdated pairs stay in the heap, so no current pair is cheaper
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
    """Returns the times of the scenes; each cut is midway between the two frames beside it.

    Args:
        firsts: `(S,)`, from `cut_scenes`.
        times_seconds: `(T,)`, times of the frames.
        duration_seconds: End of the last scene.

    Returns:
        `(S, 2)` float64 of `[start_seconds, end_seconds)`, contiguous from 0.
    """
    cuts = (times_seconds[firsts[1:] - 1] + times_seconds[firsts[1:]]) / 2
    edges = np.concatenate([[0.0], cuts, [max(duration_seconds, float(times_seconds[-1]))]])
    return np.stack([edges[:-1], edges[1:]], axis=1)
