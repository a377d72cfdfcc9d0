"""`make demo`: indexes real sample videos and asks questions whose right answers are known.

It uses what anyone would: `python -m indexing` to index, `Searcher` to search. Everything it makes
is under `demo/`. It ends with an error if a right answer does not come first.
"""

import subprocess
import sys
from pathlib import Path

from demo_media import FilmPart, join_clips, make_clips

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from indexing.hits import SearchHit  # noqa: E402
from indexing.page import write_page  # noqa: E402
from search import Searcher, table  # noqa: E402

DEMO = ROOT / "demo"

# Each question with the clip that answers it.
QUESTIONS = {
    "a cartoon rabbit": "rabbit.mp4",
    "people riding bicycles in the street": "cyclists.mp4",
    "a man with a bow tie talking in a car": "man_in_car.mp4",
    "a rotating globe": "earth.mp4",
    "an astronaut with her helmet": "astronaut.mp4",
    "a cat looking into the camera": "cat.mp4",
    "a cup of coffee": "coffee.mp4",
    "a rocket on the launch pad": "rocket.mp4",
    "a red motorcycle": "motorcycle.mp4",
    "an old chinese temple": "temple.mp4",
    "a flower in bloom": "flower.mp4",
    "a cheetah": "cheetah.mp4",
}
MOMENTS = {
    "a cat": "cat.mp4",
    "people on bicycles": "cyclists.mp4",
    "a motorcycle": "motorcycle.mp4",
    "a cup of coffee on a table": "coffee.mp4",
}


def main() -> None:
    make_clips(DEMO / "clips")
    parts = {part.name: part for part in join_clips(DEMO / "clips", DEMO / "film" / "film.mp4")}
    index("clips")
    index("film")

    wrong = []
    results: list[tuple[str, list[SearchHit]]] = []
    searcher = Searcher.open(DEMO / "index-clips")
    for question, answer in QUESTIONS.items():
        hits = searcher.search(question, k=4)
        results.append((question, hits))
        if hits[0].key != answer:
            wrong.append(f"{question!r}: {answer} should come first, {hits[0].key} did")
        show(question, hits)

    searcher = Searcher.open(DEMO / "index-film")
    for question, name in MOMENTS.items():
        hits = searcher.search(question, k=3, level="moment")
        results.append((f"{question} (in a film of {len(parts)} scenes)", hits))
        overlap = intersection_over_union(hits[0], parts[name])
        if overlap < 0.5:
            wrong.append(f"{question!r}: the film's {name} should come first, IoU {overlap:.2f}")
        show(f"{question} (in a film of {len(parts)} scenes)", hits)

    write_page(DEMO / "page.html", results)
    print(f"\n{len(results) - len(wrong)} of {len(results)} right answers came first")
    print(f"the same as a page: {DEMO / 'page.html'}")
    if wrong:
        sys.exit("\n".join(["wrong answers:", *wrong]))


def index(name: str) -> None:
    """Runs the indexing command on `demo/NAME`."""
    command = [sys.executable, "-m", "indexing", f"videos={DEMO / name}"]
    subprocess.run(
        [*command, f"index={DEMO / f'index-{name}'}", "model=mini"], check=True, cwd=ROOT
    )


def show(question: str, hits: list[SearchHit]) -> None:
    print(f'\n"{question}"')
    print(table(hits))


def intersection_over_union(hit: SearchHit, part: FilmPart) -> float:
    """Of the moment found and the scene it should be, 0 to 1."""
    shared = min(hit.end_seconds, part.end_seconds) - max(hit.start_seconds, part.start_seconds)
    either = max(hit.end_seconds, part.end_seconds) - min(hit.start_seconds, part.start_seconds)
    return max(shared, 0.0) / either


if __name__ == "__main__":
    main()
