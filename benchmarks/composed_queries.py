"""An image and a phrase in one query: do both count?

    python benchmarks/composed_queries.py index=DIR [model=mini] [queries=1000]

Films are made of two clips A and B each (the mean of both videos' embeddings); the query is a frame
of A with the caption of B. The film A+B stands among twenty films of A with other clips, which only
the caption tells apart, and twenty of B with others, which only the frame does. `plain` adds both
embeddings; `spread` counts each by one over the standard deviation of its scores for 256 videos of
the index, as searches do. A tie counts against the system; intervals: 95 %, bootstrap over queries.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.indexed import interval, open_model, read_indexes
from benchmarks.options import parse_options
from reelseek.ranking import compose
from reelseek.text import TextEncoder

OTHERS = 20
SAMPLE = 256


def main() -> None:
    options = parse_options(__doc__, index=None, model="mini", queries="1000")
    indexed = read_indexes([Path(options["index"])])
    model, tokenizer = open_model(options["model"])
    captions = TextEncoder(model.clip, tokenizer).encode([each[0] for each in indexed.captions])
    frames = np.split(indexed.frames, np.cumsum(indexed.frame_counts)[:-1])
    num_videos, draws = len(indexed.videos), np.random.default_rng(0)
    sample = indexed.videos[draws.choice(num_videos, min(SAMPLE, num_videos), replace=False)]
    ranks: dict[str, list[int]] = {"image": [], "phrase": [], "plain": [], "spread": []}
    for _ in range(int(options["queries"])):
        a, b, *others = draws.choice(num_videos, 2 + 2 * OTHERS, replace=False).tolist()
        films = indexed.videos[[a] + [a] * OTHERS + [b] * OTHERS] + indexed.videos[[b, *others]]
        films /= np.linalg.norm(films, axis=1, keepdims=True)
        parts = np.stack([frames[a][draws.integers(len(frames[a]))], captions[b].numpy()])
        spreads = (parts @ sample.T).std(axis=1)
        queries = {
            "image": parts[0],
            "phrase": parts[1],
            "plain": compose(parts, np.ones(2)),
            "spread": compose(parts, np.ones(2), spreads=spreads),
        }
        for name, query in queries.items():
            scores = films @ query
            ranks[name].append(int((scores >= scores[0]).sum()))
    print(f"{'':10}{'R@1':>18}{'R@5':>18}{'mean rank':>12}")
    for name, found in ranks.items():
        cells = []
        for k in (1, 5):
            hits = 100.0 * (np.array(found) <= k)
            low, high = interval(hits)
            cells.append(f"{hits.mean():.1f} ({low:.0f}-{high:.0f})")
        print(f"{name:10}{cells[0]:>18}{cells[1]:>18}{np.mean(found):>12.1f}")


if __name__ == "__main__":
    main()
