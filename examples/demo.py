"""`make demo`: indexes real sample videos and asks questions whose right answers are known.

It uses what anyone would: `python -m indexing` to index, `Searcher` to search. The clips are called
`clip01.mp4` and so on, so the answers come from their pictures alone. The model is `mini_fast`:
`mini` finds more by captions (docs/benchmarks.md), but puts another clip first for some of these
questions, by a hundredth of a cosine. Everything it makes is under `demo/`. It ends with an error
if a right answer does not come first.
"""

import os
import subprocess
import sys
from pathlib import Path

from demo_media import FilmPart, join_clips, make_clips

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from reelseek import Searcher  # noqa: E402
from reelseek.ranking.command import table  # noqa: E402
from reelseek.ranking.hits import SearchHit  # noqa: E402
from reelseek.ranking.page import write_page  # noqa: E402

DEMO = ROOT / "demo"

# Each question with the clip that answers it.
QUESTIONS = {
    "a cartoon rabbit": "clip01.mp4",
    "people riding bicycles in the street": "clip02.mp4",
    "a man with a bow tie talking in a car": "clip03.mp4",
    "a rotating globe": "clip04.mp4",
    "an astronaut with her helmet": "clip05.mp4",
    "a cat looking into the camera": "clip06.mp4",
    "a cup of coffee": "clip07.mp4",
    "a rocket on the launch pad": "clip08.mp4",
    "a red motorcycle": "clip09.mp4",
    "an old chinese temple": "clip10.mp4",
    "a flower in bloom": "clip11.mp4",
    "a cheetah": "clip12.mp4",
}
MOMENTS = {
    "a cat": "clip06.mp4",
    "people on bicycles": "clip02.mp4",
    "a motorcycle": "clip09.mp4",
    "a cup of coffee on a table": "clip07.mp4",
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
        show(question, hits, right=answer)

    searcher = Searcher.open(DEMO / "index-film")
    for question, name in MOMENTS.items():
        hits = searcher.search(question, k=3, level="moment")
        results.append((f"{question} (in a film of {len(parts)} scenes)", hits))
        part = parts[name]
        right = f"{part.start_seconds:.1f} to {part.end_seconds:.1f} s, which is {name}"
        overlap = intersection_over_union(hits[0], part)
        if overlap < 0.5:
            wrong.append(f"{question!r}: {right}, should come first, IoU {overlap:.2f}")
        show(f"{question} (in a film of {len(parts)} scenes)", hits, right=right)

    write_page(DEMO / "page.html", results)
    print(f"\n{len(results) - len(wrong)} of {len(results)} right answers came first")
    print(f"the same as a page: {DEMO / 'page.html'}")
    print(f"to search in the browser: {_command('reelseek')} serve {DEMO / 'index-clips'}")
    if wrong:
        sys.exit("\n".join(["wrong answers:", *wrong]))


def _command(name: str) -> str:
    """A program beside this Python, such as `.venv/bin/reelseek`."""
    path = Path(sys.executable).parent / name
    return os.path.relpath(path) if path.exists() else name


def index(name: str) -> None:
    """Runs the indexing command on `demo/NAME`."""
    command = [sys.executable, "-m", "indexing", f"videos={DEMO / name}"]
    subprocess.run(
        [*command, f"index={DEMO / f'index-{name}'}", "model=mini_fast"], check=True, cwd=ROOT
    )


def show(question: str, hits: list[SearchHit], *, right: str) -> None:
    print(f'\n"{question}" (right: {right})')
    print(table(hits))


def intersection_over_union(hit: SearchHit, part: FilmPart) -> float:
    """Of the moment found and the scene it should be, 0 to 1."""
    shared = min(hit.end_seconds, part.end_seconds) - max(hit.start_seconds, part.start_seconds)
    either = max(hit.end_seconds, part.end_seconds) - min(hit.start_seconds, part.start_seconds)
    return max(shared, 0.0) / either


if __name__ == "__main__":
    main()
