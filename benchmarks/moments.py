"""Which seconds are found: moments of long films, by captions of the clips they are made of.

    python benchmarks/moments.py data=FILE.jsonl folder=DIR [films=50] [clips=20] [seed=0]

Each film is so many captioned clips end to end, one frame a second; clips are decoded and encoded
once (kept in `folder`), and a film's frames are those of its clips. All films go into one index,
for each way of cutting them into segments, and each clip's caption is asked once. Found: a moment
among the first 1 or 5 that overlaps (intersection over union) a place where the clip is by at least
0.5 or 0.7. `fixed windows` are ten seconds, each a hit as it is; the others are what
`search(level="moment")` returns. Intervals: bootstrap over queries, 95 %.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.options import parse_options
from reelseek.indexing import collect_videos
from reelseek.indexing.pipeline import encode_videos
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.store.manifest import IndexSettings
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.request import VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.vision import cut_scenes, frame_spread, frames_in_span, scene_spans, segment_spans

K = 5
WINDOW_SECONDS = 10.0


class Clips(NamedTuple):
    """Frames `(T, D)`, their times `(T,)` and the seconds of each clip; captions `(N, D)`."""

    frames: list[np.ndarray]
    times: list[np.ndarray]
    seconds: np.ndarray
    captions: np.ndarray


class Film(NamedTuple):
    """`frames` `(T, D)` at `times` `(T,)`; which clips it is of, and when each is on, `(C, 2)`."""

    frames: np.ndarray
    times: np.ndarray
    clips: np.ndarray
    spans: np.ndarray


def read_clips(data: str, path: Path) -> Clips:
    if not path.is_file():
        np.savez(path, allow_pickle=False, **encode_clips(data))
    with np.load(path) as kept:
        ends = np.cumsum(kept["counts"])[:-1]
        frames = np.split(kept["frames"], ends)
        return Clips(frames, np.split(kept["times"], ends), kept["seconds"], kept["captions"])


def encode_clips(data: str) -> dict[str, np.ndarray]:
    """By what indexes too, with the built-in model; the first clip of each caption."""
    from reelseek.configs.command_line import load_model_config
    from reelseek.text import TextEncoder, Tokenizer
    from reelseek.vision import DecodePool, FrameEncoder, FrameSettings, IntervalSampler, load_model

    items = list({i.metadata["captions"][0]: i for i in reversed(collect_videos(data))}.values())
    model = load_model(load_model_config("mini").spec())
    encoder = FrameEncoder(model, compiled=True)
    settings = FrameSettings(IntervalSampler(1.0), encoder.preprocessing)
    with DecodePool(settings) as pool:
        named = ((number, item.path) for number, item in enumerate(items))
        found = {video.tag: video for video in encode_videos(named, encoder=encoder, pool=pool)}
    good = [number for number in range(len(items)) if found[number].outcome == "ok"]
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    text_encoder = TextEncoder(model.clip, tokenizer, device=encoder.device)
    captions = text_encoder.encode([items[number].metadata["captions"][0] for number in good])
    return {
        "frames": np.concatenate([found[number].embeddings.numpy() for number in good]),
        "times": np.concatenate([found[number].times_seconds for number in good]),
        "counts": np.array([len(found[number].times_seconds) for number in good]),
        "seconds": np.array([found[number].duration_seconds for number in good]),
        "captions": captions.numpy(),
    }


def make_films(clips: Clips, *, num_films: int, clips_a_film: int, seed: int) -> list[Film]:
    """No clip is used again before all have been, and none is twice in a film."""
    random = np.random.default_rng(seed)
    films = []
    pile: np.ndarray = np.empty(0, np.int64)
    for _ in range(num_films):
        if len(pile) < clips_a_film:
            rest = random.permutation(np.setdiff1d(np.arange(len(clips.frames)), pile))
            pile = np.concatenate([pile, rest])
        chosen, pile = pile[:clips_a_film], pile[clips_a_film:]
        edges = np.concatenate([[0.0], np.cumsum(clips.seconds[chosen])])
        films.append(
            Film(
                np.concatenate([clips.frames[clip] for clip in chosen]),
                np.concatenate(
                    [clips.times[clip] + start for clip, start in zip(chosen, edges, strict=False)]
                ),
                chosen,
                np.stack([edges[:-1], edges[1:]], axis=1),
            )
        )
    return films


def pooled(film: Film, spans: np.ndarray) -> np.ndarray:
    """`(S, D)` embeddings of segments."""
    means = np.stack(
        [film.frames[frames_in_span(film.times, *span)].mean(axis=0) for span in spans]
    )
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def windows_of(film: Film) -> np.ndarray:
    end = float(film.spans[-1, 1])
    return segment_spans(end, segment_seconds=WINDOW_SECONDS, overlap_seconds=0.0)


def index_films(films: Sequence[Film], spans: Sequence[np.ndarray], folder: Path) -> IndexReader:
    dim = films[0].frames.shape[1]
    settings = IndexSettings({"name": "mini"}, "moments", dim, {}, {"kind": "given"})
    with IndexWriter(folder, settings) as writer:
        for number, (film, segments) in enumerate(zip(films, spans, strict=True)):
            end = float(film.spans[-1, 1])
            rows = pooled(film, np.concatenate([[(0.0, end)], segments]))
            video = NewVideo(
                f"{number:04d}",
                f"{number:04d}",
                FileSignature(0, 0, f"{number}"),
                "ok",
                duration_seconds=end,
                spans=segments,
            )
            writer.add(video, rows)
        writer.publish()
    return IndexReader(folder)


Hit = tuple[int, float, float]  # film, start and end seconds


def searched(reader: IndexReader, query: np.ndarray) -> list[Hit]:
    request = Request(query, sources=(VISUAL,))
    hits = Retriever(reader).search(request, k=K, level="moment")
    return [(int(hit.key), hit.start_seconds, hit.end_seconds) for hit in hits]


def overlap(hit: Hit, indices: list[Hit]) -> float:
    """The greatest intersection over union with one of the places where a clip is."""
    film, start, end = hit
    best = 0.0
    for other, first, last in indices:
        shared = min(end, last) - max(start, first)
        if film == other and shared > 0:
            best = max(best, shared / (end - start + last - first - shared))
    return best


def recalls(found: list[list[Hit]], indices: list[list[Hit]]) -> np.ndarray:
    """`(queries, 4)`: whether R@1 and R@5 at 0.5, and both at 0.7, were reached."""
    best = np.array(
        [
            [max(overlap(hit, where) for hit in hits[:depth]) for depth in (1, K)]
            for hits, where in zip(found, indices, strict=True)
        ]
    )
    return np.concatenate([best >= 0.5, best >= 0.7], axis=1)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the mean of `(queries,)` values, queries drawn again with replacement."""
    draws = np.random.default_rng(0).integers(len(values), size=(5_000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    options = parse_options(__doc__, data=None, folder=None, films="50", clips="20", seed="0")
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    clips = read_clips(options["data"], folder / "clips.npz")
    films = make_films(
        clips,
        num_films=int(options["films"]),
        clips_a_film=int(options["clips"]),
        seed=int(options["seed"]),
    )
    indices: dict[int, list[Hit]] = {}
    for number, film in enumerate(films):
        for clip, (start, end) in zip(film.clips.tolist(), film.spans.tolist(), strict=True):
            indices.setdefault(clip, []).append((number, start, end))
    queries = clips.captions[list(indices)]
    spread = frame_spread(np.stack([frames[len(frames) // 2] for frames in clips.frames]))

    fixed = [windows_of(film) for film in films]
    scenes = [
        scene_spans(
            cut_scenes(film.frames, spread=spread),
            film.times,
            duration_seconds=float(film.spans[-1, 1]),
        )
        for film in films
    ]
    windows = np.concatenate(
        [pooled(film, spans) for film, spans in zip(films, fixed, strict=True)]
    )
    every = [(n, float(s), float(e)) for n, spans in enumerate(fixed) for s, e in spans]
    found = {"fixed windows": [[every[i] for i in np.argsort(-(windows @ q))[:K]] for q in queries]}
    name = f"{options['films']}x{options['clips']}-{options['seed']}"
    for kind, spans in (("windows", fixed), ("scenes", scenes)):
        target = folder / f"{kind}-{name}"
        if target.exists():
            raise SystemExit(f"{target} is there already; name another folder")
        reader = index_films(films, spans, target)
        found[f"segments.kind={kind}"] = [searched(reader, query) for query in queries]
        reader.close()

    hours = sum(film.spans[-1, 1] for film in films) / 3600
    print(
        f"{len(films)} films, {hours:.1f} hours, {len(queries)} queries, {len(clips.frames)} clips"
    )
    print(f"{'percent':24} R@1 IoU 0.5   R@5 IoU 0.5   R@1 IoU 0.7   R@5 IoU 0.7")
    reached = {name: recalls(hits, list(indices.values())) for name, hits in found.items()}
    for name, values in reached.items():
        cells = []
        for column in values.T.astype(float):
            low, high = interval(column)
            cells.append(f"{100 * column.mean():4.1f} ({100 * low:.0f}-{100 * high:.0f})")
        print(f"{name:24} " + "   ".join(f"{cell:11}" for cell in cells))
    for name in list(reached)[1:]:
        more = reached[name].astype(float) - reached["fixed windows"]
        ranges = [interval(column) for column in more.T]
        print(
            f"{name} minus fixed windows: "
            + ", ".join(
                f"{100 * column.mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
                for column, (low, high) in zip(more.T, ranges, strict=True)
            )
        )


if __name__ == "__main__":
    main()
