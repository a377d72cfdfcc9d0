"""Whether "X without Y" and "X, then Y" mean anything: on films joined from captioned clips.

    python benchmarks/negation_temporal.py index=DIR [model=mini] [pairs=1000] [seed=0]

Negation: clips A and B drawn at random; X and Y are their captions. `A above A+B`: the clip alone
stands above the film of both. `A+C above A+B`: C is a third clip, so that both films are as long
and show X for as long. R@10: A among all clips and the film A+B. `string` embeds "X without Y";
`query_embedding` X alone; `X - Y` is the difference of the embeddings; `penalize_negatives` is what
ranking does.

Events: the film A+B, against B+A, for "X, then Y": which is above, and ties. `string` is the best
segment for the embedding of "X, then Y" (the order of segments has no part in it), `align` what
ranking does. R@1 among all films, forward and reversed, for different weights of the order.

Intervals: 95 %, bootstrap over pairs.
"""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.indexed import Indexed, interval, open_model, read_indexes
from benchmarks.options import parse_options
from reelseek.ranking import align_steps, penalize_negatives


class Clips(NamedTuple):
    """Of each clip its frames `(T, D)`, its segments `(S, D)` with their spans `(S, 2)`."""

    frames: list[np.ndarray]
    segments: list[np.ndarray]
    spans: list[np.ndarray]


def read_clips(indexed: Indexed) -> Clips:
    return Clips(
        np.split(indexed.frames, np.cumsum(indexed.frame_counts)[:-1]),
        np.split(indexed.segments, np.cumsum(indexed.segment_counts)[:-1]),
        [record.spans for record in indexed.records],
    )


def draw_triples(num_clips: int, *, pairs: int, seed: int) -> np.ndarray:
    """`(pairs, 3)`, different clips."""
    random = np.random.default_rng(seed)
    return np.stack([random.choice(num_clips, 3, replace=False) for _ in range(pairs)])


def pooled(frames: np.ndarray) -> np.ndarray:
    mean = frames.mean(axis=0)
    return mean / np.linalg.norm(mean)


def cell(values: np.ndarray) -> str:
    low, high = interval(100.0 * values)
    return f"{100 * values.mean():.1f} ({low:.0f}-{high:.0f})"


def negation(
    clips: Clips, triples: np.ndarray, *, query_embedding: np.ndarray, string: np.ndarray
) -> None:
    """`query_embedding` are the captions' embeddings `(N, D)`, `string` those of "X without Y"."""
    videos = np.stack([pooled(frames) for frames in clips.frames])
    best_frame = np.stack(
        [(query_embedding @ frames.T).max(axis=1) for frames in clips.frames], axis=1
    )
    found: dict[str, list[tuple[float, float, float]]] = {}
    for (a, b, c), text in zip(triples.tolist(), string, strict=True):
        films = [
            clips.frames[a],
            *(np.concatenate([clips.frames[a], clips.frames[n]]) for n in (b, c)),
        ]
        items = np.concatenate([videos, [pooled(film) for film in films]])
        negatives = np.append(best_frame[b], [(film @ query_embedding[b]).max() for film in films])
        positive = items @ query_embedding[a]
        difference = query_embedding[a] - query_embedding[b]
        scores = {
            "string": items @ text,
            "wanted": positive,
            "X - Y": items @ difference,
            "excluding": penalize_negatives(positive, negatives[None]),
        }
        for name, each in scores.items():
            alone, both, with_other = each[-3:]
            rivals = np.append(np.delete(each[: len(videos)], a), both)
            row = (alone > both, with_other > both, (rivals >= alone).sum() < 10)
            found.setdefault(name, []).append(row)
    print(f"{'X without Y':14}{'A above A+B':>18}{'A+C above A+B':>18}{'R@10':>18}")
    for name, rows in found.items():
        cells = [cell(column) for column in np.array(rows, dtype=float).T]
        print(f"{name:14}" + "".join(f"{each:>18}" for each in cells))


def film_of(clips: Clips, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Segments of clips one after the other, `(S, D)`, and their spans."""
    starts = np.cumsum([0.0, *(clips.spans[n][-1, 1] for n in numbers)])
    spans = [clips.spans[n] + start for n, start in zip(numbers, starts, strict=False)]
    return np.concatenate([clips.segments[n] for n in numbers]), np.concatenate(spans)


def events(
    clips: Clips, triples: np.ndarray, *, query_embedding: np.ndarray, string: np.ndarray
) -> None:
    usual = (query_embedding @ np.concatenate(clips.segments).T).mean(axis=1)
    pairs = triples[:, :2].tolist()
    films = [film_of(clips, [*order]) for a, b in pairs for order in ((a, b), (b, a))]
    forward: dict[str, list[tuple[bool, bool]]] = {"string": [], "align": []}
    for number, ((a, b), text) in enumerate(zip(pairs, string, strict=True)):
        both = films[2 * number : 2 * number + 2]
        as_string = [float((segments @ text).max()) for segments, _ in both]
        aligned = []
        for segments, spans in both:
            match = align_steps(
                query_embedding[[a, b]] @ segments.T - usual[[a, b], None], spans, order_weight=1.0
            )
            assert match is not None  # each clip has a segment
            aligned.append(match.score)
        for name, (first, second) in (("string", as_string), ("align", aligned)):
            forward[name].append((first > second + 1e-6, abs(first - second) <= 1e-6))
    print(f"\n{'X, then Y':14}{'forward above':>18}{'ties':>18}")
    for name, outcomes in forward.items():
        columns = np.array(outcomes, dtype=float).T
        print(f"{name:14}" + "".join(f"{cell(column):>18}" for column in columns))

    queries = range(0, len(pairs), max(1, len(pairs) // 200))
    print(f"\nR@1 of the forward film among {len(films)} films, {len(queries)} queries")
    lengths = np.array([len(segments) for segments, _ in films])
    everything = np.concatenate([segments for segments, _ in films])
    ends = np.cumsum(lengths)
    as_strings = np.maximum.reduceat(string @ everything.T, ends - lengths, axis=1)
    ranks = [as_strings[n] >= as_strings[n, 2 * n] for n in queries]
    print(f"{'string':14}{cell(np.array([r.sum() == 1 for r in ranks], dtype=float)):>18}")
    for weight in (0.0, 1.0):
        is_main_process = []
        for number in queries:
            chosen = query_embedding[pairs[number]]
            scores = chosen @ everything.T - usual[pairs[number], None]
            totals = [
                match.score if match is not None else -np.inf
                for match in (
                    align_steps(scores[:, end - n : end], spans, order_weight=weight)
                    for end, n, (_, spans) in zip(ends, lengths, films, strict=True)
                )
            ]
            is_main_process.append((np.array(totals) >= totals[2 * number]).sum() == 1)
        print(f"align, {weight:<7}{cell(np.array(is_main_process, dtype=float)):>18}")


def main() -> None:
    from reelseek.text import TextEncoder

    options = parse_options(__doc__, index=None, model="mini", pairs="1000", seed="0")
    indexed = read_indexes([Path(options["index"])])
    clips = read_clips(indexed)
    triples = draw_triples(
        len(clips.frames), pairs=int(options["pairs"]), seed=int(options["seed"])
    )
    model, tokenizer = open_model(options["model"])
    encode = TextEncoder(model.clip, tokenizer).encode
    captions = [each[0] for each in indexed.captions]
    query_embedding = encode(captions).numpy()
    for word, measure in ((" without ", negation), (", then ", events)):
        joined = [f"{captions[a]}{word}{captions[b]}" for a, b, _ in triples]
        measure(clips, triples, query_embedding=query_embedding, string=encode(joined).numpy())


if __name__ == "__main__":
    main()
