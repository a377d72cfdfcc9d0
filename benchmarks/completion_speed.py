"""How long completions take, how much memory they need, and what odd prefixes cost.

    python benchmarks/completion_speed.py [queries=FILE] [asked=200000] [trees=false] [text_model=]

Builds a model of the queries of a file (as of `docs/completion.md`), or of a million generated
ones, saves and opens it as a service does, and asks for the beginnings of its queries, cut
anywhere, half of them with a letter wrong so that nothing was asked like that. Prints one JSON
object: percentiles by the clock (`p50_ms`, `p99_ms`), on the processor (`p99_cpu_ms`), the size of
the files, the growth of the process, and the slowest odd prefix of 10 kB.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.completion.completer import alphabet_of  # noqa: E402
from reelseek.recommendation.completion.latency import Latency  # noqa: E402
from reelseek.recommendation.completion.model_files import (  # noqa: E402
    BuiltModel,
    open_model,
    save_model,
)
from reelseek.recommendation.completion.phrases import MAX_USERS, build_phrases  # noqa: E402
from reelseek.recommendation.completion.query_files import (  # noqa: E402
    read_daily_counts,
    total_counts,
)
from reelseek.recommendation.completion.tokens import words  # noqa: E402
from reelseek.recommendation.completion.word_counts import worded  # noqa: E402
from reelseek.recommendation.completion.word_training import train_word_model  # noqa: E402

K = 10
NUM_GENERATED = 1_000_000
ODD = [
    "x" * 10_000, "\u0301" * 5_000, "\u8c0d" * 3_333, "a " * 5_000, "\U0001f408" * 2_500,
    "\ufdfa" * 3_333, "\x00" * 10_000, "a" + "\u0300" * 4_999, "(" * 10_000, "\u202e" * 3_333,
    "\u0e01" * 3_333, "\ufdfa" * 199, "a b " * 49,
]  # fmt: skip


def generated(num: int) -> dict[str, int]:
    """Queries of one to five made-up words, whose frequencies fall as those of real ones do."""
    draws = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    vocabulary = [
        "".join(draws.choice(letters, size)) for size in draws.integers(2, 11, 60_000).tolist()
    ]
    counts: dict[str, int] = {}
    while len(counts) < num:
        numbers = np.minimum(draws.zipf(1.3, 500_000), len(vocabulary)) - 1
        sizes = draws.integers(1, 6, 100_000)
        start = 0
        for size in sizes.tolist():
            query = " ".join(vocabulary[n] for n in numbers[start : start + size].tolist())
            start += size
            if query:
                counts[query] = counts.get(query, 0) + 1
    return counts


def prefixes(queries: Sequence[str], num: int) -> Iterator[str]:
    draws = np.random.default_rng(1)
    for number in draws.integers(0, len(queries), num).tolist():
        query = queries[number]
        prefix = query[: int(draws.integers(1, len(query) + 1))]
        if draws.random() < 0.5:
            place = int(draws.integers(0, len(prefix)))
            prefix = prefix[:place] + "q" + prefix[place + 1 :]
        yield prefix


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> None:
    options = parse_options(__doc__, queries="", asked="200000", trees="false", text_model="")
    if options["queries"]:
        log = read_daily_counts(Path(options["queries"]), option="queries")
        counts: dict[str, int] = dict(total_counts(log))
    else:
        counts = generated(NUM_GENERATED)
    texts = sorted(counts)
    print(f"{len(texts):,} queries", file=sys.stderr)
    embed = None
    if options["text_model"]:
        from reelseek.recommendation.completion.word_embeddings import WordEmbeddings

        embed = WordEmbeddings(options["text_model"])
    model = train_word_model(
        worded((words(query), float(count)) for query, count in counts.items()),
        with_trees=options["trees"] == "true",
        embed=embed,
        report=lambda message: print(message, file=sys.stderr),
    )
    scores = np.array([counts[text] for text in texts], float)
    tries, arrays = build_phrases(texts, scores, num_users=np.full(len(texts), MAX_USERS))
    details = {"min_users": 0, "block_list": [], "alphabet": alphabet_of(texts), "log_position": 0}
    built = BuiltModel({**tries, "words": model.vocabulary.trie}, arrays | model.tensors(), details)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder, built)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        del built, model, tries, arrays
        before = resident_mb()
        completer = open_model(folder).completer
        latency = Latency()
        for prefix in prefixes(texts, int(options["asked"])):
            latency.timed(completer.complete, prefix, K)
        grown = resident_mb() - before
        slowest = 0.0
        for prefix in ODD:
            completer.complete(prefix, K)
            started = time.thread_time()
            completer.complete(prefix, K)
            slowest = max(slowest, time.thread_time() - started)
    result = {
        "queries": len(texts),
        **latency.summary(),
        "files_mb": round(size / 1e6, 1),
        "grown_mb": round(grown, 1),
        "slowest_odd_ms": round(slowest * 1e3, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
