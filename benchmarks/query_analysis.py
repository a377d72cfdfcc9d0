"""What it costs to understand a query: each heavy part's loading, and the analysis itself.

    python benchmarks/query_analysis.py [rounds=5]

The queries are those of the table in tests/text: six languages, plain ones and such with filters,
negations, events, names and mistakes. Loading is timed in a process of its own for each part, from
its import to its first answer. Analysis is timed when everything is loaded, without and with the
neural part (spaCy and jieba, which look for names): median and 99th percentile, of all and of each
language. All in seconds or milliseconds of the processor, so that other work does not count.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.text import QueryAnalyzer, Vocabulary  # noqa: E402
from tests.text.query_table import CATALOGUE, ENTITIES, NOW, TABLE, TAGS  # noqa: E402

# Each part's first use, after what it stands on is there.
PARTS = {
    "patterns of filters, negations, events": (
        "from reelseek.text import QueryAnalyzer; "
        "analyzer = QueryAnalyzer(spelling=False, entities=False)",
        "analyzer.analyze('cats under 9 seconds from last week without dogs')",
    ),
    "rjieba (Chinese words)": ("from reelseek.text import words", "words('海滩上的狗')"),
    "fugashi (Japanese words)": ("from reelseek.text import words", "words('ビーチの犬')"),
    "fugashi, python-mecab-ko-dic (Korean words)": (
        "from reelseek.text import words",
        "words('해변의 개')",
    ),
    "icu4py (Thai words)": ("from reelseek.text import words", "words('ชายหาด')"),
    "pyvi (Vietnamese words)": ("from reelseek.text import words", "words('bãi biển đẹp')"),
    "wordfreq and symspellpy (spelling)": (
        "from reelseek.text.query.spelling import SpellChecker; "
        "checker = SpellChecker({}, languages=['en'])",
        "checker.correct('a girafe', language='en')",
    ),
    "lingua (English or Spanish)": (
        "from reelseek.text.languages import LanguageDetector; "
        "detector = LanguageDetector(['en', 'es'])",
        "detector.language_of('a dog on a beach')",
    ),
    "spacy (English names)": (
        "from reelseek.text.query.entities import EntityFinder; finder = EntityFinder({})",
        "finder.find('Paris at night', language='en')",
    ),
    "jieba (Chinese names)": (
        "from reelseek.text.query.entities import EntityFinder; finder = EntityFinder({})",
        "finder.find('姚明在北京', language='zh')",
    ),
}


def load_seconds(before: str, use: str) -> float:
    program = (
        f"import time\n{before}\nstarted = time.process_time()\n{use}\n"
        "print(time.process_time() - started)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def times_of(analyzer: QueryAnalyzer, *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each analysis, by the query's language; a first round loads what it needs."""
    times: dict[str, list[float]] = {}
    for i in range(rounds + 1):
        for expected in TABLE:
            started = time.process_time()
            analyzer.analyze(expected.query)
            if i > 0:
                milliseconds = (time.process_time() - started) * 1e3
                times.setdefault(expected.language, []).append(milliseconds)
    return times


def row(name: str, times: list[float]) -> str:
    percentile = statistics.quantiles(times, n=100)[98]
    return f"{name:<24} {statistics.median(times):9.2f} {percentile:9.2f}"


def main() -> None:
    rounds = int(parse_options(__doc__, rounds="5")["rounds"])
    print("part, loaded when first needed                  seconds")
    for name, (before, use) in PARTS.items():
        print(f"{name:<44} {load_seconds(before, use):10.2f}", flush=True)
    vocabulary = Vocabulary.of(CATALOGUE, tags=TAGS, entities=ENTITIES)
    for neural in (False, True):
        analyzer = QueryAnalyzer(vocabulary=vocabulary, now=lambda: NOW, entities=neural)
        times = times_of(analyzer, rounds=rounds)
        print(f"\n{'with' if neural else 'without'} the neural part        p50 ms    p99 ms")
        print(row(f"all {len(TABLE)} queries", [one for some in times.values() for one in some]))
        for language, some in times.items():
            print(row(f"  {language}", some))


if __name__ == "__main__":
    main()
