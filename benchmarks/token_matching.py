"""Late interaction as a reranker of the first 50 videos: recall of a caption's own video.

    python benchmarks/token_matching.py index=DIR [train=DIR] [model=mini] [epochs=6]

`dot` are the videos by their embedding. `equal` reorders the first 50 by late interaction of tokens
and at most 12 frames with equal weights; `learned` with weights trained on the captions of `train`,
another index of the same model. `dot + ...` add the two scores, each in its standard deviations
over the 50. A tie counts against the system. Intervals of R@1: 95 %, bootstrap over queries.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.indexed import interval, open_model, read_indexes
from benchmarks.options import parse_options
from reelseek.ranking import match_tokens_in_videos
from reelseek.ranking.token_matching.matching import MAX_FRAMES
from reelseek.ranking.token_matching.reranker import RERANKED, combined
from reelseek.ranking.token_matching.training import train_token_matching
from reelseek.text import TextEncoder
from reelseek.text.token_encoding import TokenEncoder
from reelseek.vision.sampling import subsample


class Captioned(NamedTuple):
    """`videos` `(N, D)`, their `frames`; captions, and the video of each."""

    videos: np.ndarray
    frames: list[np.ndarray]
    captions: list[str]
    own: np.ndarray


def read(folder: str) -> Captioned:
    indexed = read_indexes([Path(folder)])
    frames = np.split(indexed.frames, np.cumsum(indexed.frame_counts)[:-1])
    pairs = [(n, caption) for n, each in enumerate(indexed.captions) for caption in each]
    return Captioned(
        indexed.videos,
        [subsample(each, MAX_FRAMES) for each in frames],
        [caption for _, caption in pairs],
        np.array([n for n, _ in pairs]),
    )


def main() -> None:
    options = parse_options(__doc__, index=None, train="", model="mini", epochs="6")
    model, tokenizer = open_model(options["model"])
    encode_tokens = TokenEncoder(model.clip, tokenizer).encode_tokens
    learned = None
    if options["train"]:
        pairs = read(options["train"])
        started = time.perf_counter()
        learned = train_token_matching(
            [each.numpy() for each in encode_tokens(pairs.captions)],
            [pairs.frames[n] for n in pairs.own],
            video_ids=pairs.own.tolist(),
            num_epochs=int(options["epochs"]),
            fingerprint=model.fingerprint,
        )
        seconds = time.perf_counter() - started
        print(f"trained on {len(pairs.captions)} captions in {seconds:.0f} s")

    asked = read(options["index"])
    queries = TextEncoder(model.clip, tokenizer).encode(asked.captions).numpy()
    tokens = encode_tokens(asked.captions)
    counts = np.array([len(each) for each in asked.frames])
    ranks: dict[str, list[float]] = {}
    for query, words, own in zip(queries, tokens, asked.own, strict=True):
        dot = asked.videos @ query
        first = np.argsort(-dot, kind="stable")[:RERANKED]
        frames, of_each = np.concatenate([asked.frames[n] for n in first]), counts[first]
        scores = {"dot": dot[first]}
        scores["equal"] = match_tokens_in_videos(words.numpy(), frames, counts=of_each)
        if learned is not None:
            scores["learned"] = learned.scores(words.numpy(), frames, counts=of_each)
        for name in list(scores)[1:]:
            scores[f"dot + {name}"] = combined(scores["dot"], scores[name])
        for name, each in scores.items():
            index = np.flatnonzero(first == own)
            rank = float((each >= each[index[0]]).sum()) if len(index) else np.inf
            ranks.setdefault(name, []).append(rank)
    print(f"{len(queries)} queries, {len(asked.videos)} videos")
    print(f"{'':16}{'R@1':>18}{'R@5':>8}{'R@10':>8}")
    for name, found in ranks.items():
        recalls = [100.0 * (np.array(found) <= k) for k in (1, 5, 10)]
        low, high = interval(recalls[0])
        row = f"{recalls[0].mean():.1f} ({low:.0f}-{high:.0f})"
        print(f"{name:16}{row:>18}{recalls[1].mean():>8.1f}{recalls[2].mean():>8.1f}")


if __name__ == "__main__":
    main()
