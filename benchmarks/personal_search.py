"""What the personal order of hits costs in relevance, and how much earlier it puts clicks.

    python benchmarks/personal_search.py data=LIST.jsonl index=DIR [users=1000] [days=14]
        [visits=20] [weights=0.1,0.05,0.15,0.2,0.3] [page=24] [taste=authors] [seed=0]

`index` holds the captioned clips of `data`. Captions are asked of the pictures alone, as words
would find the caption itself. Clips lack authors and tags, so each gets them here: the tag is the
kind of video, of twenty, whose sentence it matches best, and the author one of 24, by a hash of its
name. Users, who are simulated (`benchmarks/user_simulator.py`), have tastes for groups of three
authors. With `taste=looks` clips have neither tag nor author: they are grouped by how they look
beside others of their kind (k-means of embeddings less the mean of the kind), and users have tastes
for these groups, of which the learner is told nothing.

For `days` they look for kinds of videos, `visits` of each user, and the learner learns what they
click and watch. Then hits are ordered by the product's own search, model follower and order:

- `relevance`: twenty captions for each user; R@1 and R@10, without and with the personal order.
- `clicks`: a tenth as many visits as were learned, in words that were not asked before; the mean
  reciprocal rank of the first hit of the page that the user clicks, as expected by the simulator.
  `best` is the gain where a page is in the order of the probabilities of clicks. `several_answers`
  is of the visits where at least five of the first ten hits are of the kind that was asked for.

Prints a line of JSON for each weight; intervals of 95 %, from a paired bootstrap over users.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.user_simulator import SimulatorSettings, UserSimulator, Visit  # noqa: E402
from reelseek.indexing.reader import IndexReader  # noqa: E402
from reelseek.ranking.score_units import score_unit  # noqa: E402
from reelseek.ranking.searcher import Searcher  # noqa: E402
from reelseek.recommendation.events.rows import LoggedEvent  # noqa: E402
from reelseek.recommendation.events.schema import Click, Impression, Play, Search  # noqa: E402
from reelseek.recommendation.learning.content_codes import content_codes  # noqa: E402
from reelseek.recommendation.learning.examples import VideoFacts  # noqa: E402
from reelseek.recommendation.learning.learner import Learner  # noqa: E402
from reelseek.recommendation.learning.model import OnlineModel  # noqa: E402
from reelseek.recommendation.learning.store import ModelStore  # noqa: E402
from reelseek.recommendation.metrics import bootstrap_interval  # noqa: E402
from reelseek.recommendation.personal.follower import ModelFollower  # noqa: E402
from reelseek.recommendation.personal.ordering import personal_order  # noqa: E402

KINDS = (
    *("music", "people talking", "video games", "sports", "news", "school lessons", "a TV show"),
    *("a movie scene", "cartoons", "cars", "how to make something", "travel", "technology"),
    *("animals", "children", "nature", "food", "cooking", "fashion and beauty", "dancing"),
)
ASKED_WHILE_LEARNING = "a video of {}"
ASKED_AFTERWARDS = ("{}", "someone shows {}", "i want to see {}")
NUM_AUTHORS, NUM_STYLES = 24, 8
CAPTIONS_OF_USER = 20
SEVERAL = 5  # of the first ten hits
START_SECONDS = 1.78e9
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Page:
    """Hits of one question.

    Attributes:
        clips: `(n,)`, best first.
        scores: `(n,)`, of relevance.
        unit: of the scores.
    """

    clips: np.ndarray
    scores: np.ndarray
    unit: float

    def order(self, personal: np.ndarray, weight: float) -> list[int]:
        """Returns the new order of the hits.

        Args:
            personal: `(num_clips,)`.
        """
        return personal_order(self.scores.tolist(), personal[self.clips], bound=weight * self.unit)

    def first(self, num: int) -> "Page":
        return Page(self.clips[:num], self.scores[:num], self.unit)


class Log:
    """A log in memory."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []

    def add(self, visit: Visit, ranking: Sequence[int], *, simulator: UserSimulator) -> None:
        """Adds what a user asks, is shown, and does with it."""
        at = START_SECONDS + visit.time_seconds
        asked = ASKED_WHILE_LEARNING.format(KINDS[int(visit.query.split()[1])])
        of_user: dict[str, Any] = {"event_id": "", "time_seconds": at, "user": f"u{visit.user}"}
        of_user |= {"request_id": visit.request}
        self._append(Search(query=asked, **of_user), at)
        for each in simulator.react(visit, ranking):
            common = {**of_user, "video": str(each.video)}
            self._append(Impression(position=each.position, surface="search", **common), at)
            if each.clicked:
                self._append(Click(**common), at)
                self._append(Play(watched_seconds=each.watched_seconds, **common), at)

    def _append(self, event: Search | Impression | Click | Play, at: float) -> None:
        self.events.append(LoggedEvent(len(self.events) + 1, at, event))

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        return self.events[after : after + limit]

    def bounds(self) -> tuple[int, int]:
        return 0, len(self.events)


def author_of(name: str) -> int:
    """Returns the author whom a clip is given."""
    return (
        int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") % NUM_AUTHORS
    )


def kinds_of(scores: np.ndarray) -> np.ndarray:
    """Returns for each clip the question that it matches best, compared with other clips.

    Args:
        scores: `(num_questions, num_clips)`.
    """
    spread = np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    return ((scores - scores.mean(axis=1, keepdims=True)) / spread).argmax(axis=0)


def expected_reciprocal_rank(clicks: np.ndarray) -> float:
    """Returns the expected reciprocal rank of the first click; no click counts 0.

    Args:
        clicks: `(n,)`, the probability of a click at each position, independent of each other.
    """
    none_before = np.concatenate([[1.0], np.cumprod(1 - clicks)[:-1]])
    return float((none_before * clicks / np.arange(1, len(clicks) + 1)).sum())


def gain(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Returns by how many percent the sum over users has grown, and its interval.

    Args:
        before, after: `(num_users,)`, each user's sum; `before` is above 0.
    """
    percent = 100 * (after / before - 1)
    low, high = bootstrap_interval(percent, before)
    mean = float(np.average(percent, weights=before))
    return {"percent": round(mean, 2), "interval": [round(low, 2), round(high, 2)]}


def difference(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Returns both means in percent, their difference in points, and its interval.

    Args:
        before, after: `(num_users,)`, each user's mean, 0 to 1.
    """
    low, high = bootstrap_interval(100 * (after - before))
    return {
        "without": round(100 * float(before.mean()), 2),
        "with": round(100 * float(after.mean()), 2),
        "points": round(100 * float((after - before).mean()), 2),
        "interval": [round(low, 2), round(high, 2)],
    }


def styles_of(embeddings: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Groups clips by how they look beside others of their kind.

    Args:
        embeddings: `(n, D)`.
        kinds: `(n,)`, from 0.
    """
    import faiss

    means_of_kinds = [embeddings[kinds == kind].mean(axis=0) for kind in range(kinds.max() + 1)]
    centred = embeddings - np.array(means_of_kinds)[kinds]
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    means = faiss.Kmeans(centred.shape[1], NUM_STYLES, seed=0, spherical=True, niter=50)
    means.train(centred)
    return means.index.search(centred, 1)[1][:, 0]


class Clips:
    """The clips of an index, as its search finds them.

    Args:
        taste: what users have a taste for, authors or looks.

    Attributes:
        names: of those that are hits of their own; a clip is its place here.
        number: of each name, of copies too.
        facts: what the learner knows of each.
        styles: that users have tastes for.
    """

    def __init__(self, index: Path, *, taste: str) -> None:
        self._searcher = Searcher.open(index)
        self._num_videos = self._searcher.reader.manifest.num_videos
        hits = self._searcher.search("a video", k=self._num_videos, sources=["visual"])
        self.names = sorted(hit.key for hit in hits)
        self.number = {name: place for place, name in enumerate(self.names)}
        self.number |= {copy.key: self.number[hit.key] for hit in hits for copy in hit.also_as}
        self.authors = np.array([author_of(name) for name in self.names])
        pages = [self.page(ASKED_WHILE_LEARNING.format(kind)) for kind in KINDS]
        self.scores = np.array([page.scores[np.argsort(page.clips)] for page in pages])
        self.kinds = kinds_of(self.scores)
        ids = {hit.key: hit.id for hit in hits}
        seconds = [hit.duration_seconds for hit in sorted(hits, key=lambda hit: hit.key)]
        reader = IndexReader(index)
        found, embeddings = reader.video_embeddings([ids[name] for name in self.names])
        reader.close()
        row_of = {name: row for row, name in enumerate(found)}
        embeddings = embeddings[[row_of[ids[name]] for name in self.names]]
        codes = content_codes(embeddings)
        if taste == "looks":
            self.styles = styles_of(embeddings, self.kinds)
            known = zip(seconds, codes, strict=True)
            self.facts = [VideoFacts(duration_ms=1000 * each, code=code) for each, code in known]
            return
        self.styles = self.authors % NUM_STYLES
        self.facts = [
            VideoFacts(f"author {author}", KINDS[kind], 1000 * each, code=code)
            for author, kind, each, code in zip(
                self.authors, self.kinds, seconds, codes, strict=True
            )
        ]

    def page(self, sentence: str) -> Page:
        """Returns all clips."""
        results = self._searcher.search(sentence, k=self._num_videos, sources=["visual"])
        return Page(
            np.array([self.number[hit.key] for hit in results]),
            np.array([hit.score for hit in results]),
            score_unit(self._searcher, results, level="video"),
        )


def learn(clips: Clips, simulator: UserSimulator, *, days: float, folder: Path) -> Learner:
    """Has users look for kinds of videos, and learns what they do."""
    log = Log()
    for visit in simulator.visits(days * _DAY_SECONDS):
        topic = int(visit.query.split()[1])
        ranking = visit.candidates[np.argsort(-clips.scores[topic, visit.candidates])]
        log.add(visit, ranking.tolist(), simulator=simulator)
    with ModelStore(folder) as store:
        learner = Learner(
            log,
            store,
            model=OnlineModel(),
            facts_of=lambda video: clips.facts[int(video)],
            commit_events=20_000,
        )
        while learner.step():
            pass
    return learner


def relevance(
    questions: Sequence[tuple[Page, int]], personal: np.ndarray, *, weights: Sequence[float]
) -> np.ndarray:
    """Returns R@1 and R@10 of each user for each weight, `(num_weights, num_users, 2)`.

    Args:
        questions: each with the clip that is right.
        personal: `(num_users, num_clips)`.
    """
    rng = np.random.default_rng(0)
    found = np.zeros((len(weights), len(personal), 2))
    for user, own in enumerate(personal):
        asked = rng.choice(len(questions), min(CAPTIONS_OF_USER, len(questions)), replace=False)
        for number in asked.tolist():
            page, right = questions[number]
            for at, weight in enumerate(weights):
                (place,) = np.nonzero(page.clips[page.order(own, weight)] == right)
                rank = place[0] if len(place) else np.inf
                found[at, user] += rank < 1, rank < 10
        found[:, user] /= len(asked)
    return found


@dataclass(frozen=True)
class ClickRanks:
    """Sums over each user's visits of the expected reciprocal rank of the first click.

    Attributes:
        visits: `(num_users,)`, their number.
        by_weight: `(num_weights, num_users)`.
        best: `(num_users,)`, where pages are in the order of the probabilities of clicks.
    """

    visits: np.ndarray
    by_weight: np.ndarray
    best: np.ndarray

    @classmethod
    def none(cls, num_weights: int, num_users: int) -> "ClickRanks":
        shape = num_weights, num_users
        return cls(np.zeros(num_users, np.int64), np.zeros(shape), np.zeros(num_users))

    def figures(self, at: int) -> dict[str, Any]:
        """Returns MRR without a personal order, and the gain of a weight over it.

        Args:
            at: of the weight; the first one is 0.
        """
        came = self.visits > 0
        before = self.by_weight[0, came]
        return {
            "visits": int(self.visits.sum()),
            "MRR": round(float(before.sum() / self.visits.sum()), 4),
            **gain(before, self.by_weight[at, came]),
            "best": gain(before, self.best[came])["percent"],
        }


def clicks(
    pages: dict[int, list[Page]],
    simulator: UserSimulator,
    personal: np.ndarray,
    *,
    weights: Sequence[float],
    seconds: float,
) -> tuple[ClickRanks, ClickRanks]:
    """Returns the ranks of all visits, and of those to pages with several answers.

    Args:
        pages: of each kind, in several words.
        weights: the first one is 0.
    """
    rng = np.random.default_rng(1)
    every = ClickRanks.none(len(weights), len(personal))
    several = ClickRanks.none(len(weights), len(personal))
    for visit in simulator.visits(seconds):
        topic = int(visit.query.split()[1])
        page = pages[topic][int(rng.integers(len(pages[topic])))]
        attraction = np.array([simulator.attraction(visit, clip) for clip in page.clips.tolist()])
        look = np.arange(1, len(attraction) + 1) ** -simulator.settings.look
        orders = [page.order(personal[visit.user], weight) for weight in weights]
        ranks = [expected_reciprocal_rank(look * attraction[order]) for order in orders]
        is_answer = simulator.topic[page.clips[:10]] == topic
        for found in (every, several) if is_answer.sum() >= SEVERAL else (every,):
            found.visits[visit.user] += 1
            found.by_weight[:, visit.user] += ranks
            found.best[visit.user] += expected_reciprocal_rank(look * np.sort(attraction)[::-1])
    return every, several


def simulated_users(
    clips: Clips, *, num_users: int, visits: float, days: float, seed: int
) -> UserSimulator:
    """Returns users of the simulator, whose videos are the clips."""
    settings = SimulatorSettings(
        num_users=num_users,
        num_videos=len(clips.names),
        num_topics=len(KINDS),
        num_styles=NUM_STYLES,
        new_videos_per_day=0,
        seconds_between_visits=days * _DAY_SECONDS / (num_users * visits),
    )
    simulator = UserSimulator(settings, seed=seed)
    simulator.topic, simulator.style = clips.kinds, clips.styles
    return simulator


def personal_scores(
    folder: Path, clips: Clips, *, num_users: int, now_seconds: float
) -> np.ndarray:
    """Returns what servers that follow a model say, `(num_users, num_clips)`."""
    follower = ModelFollower(folder)
    follower.poll()
    return np.array(
        [
            follower.score(f"u{user}", clips.facts, now_seconds=now_seconds).scores
            for user in range(num_users)
        ]
    )


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        index=None,
        users="1000",
        days="14",
        visits="20",
        weights="0.1,0.05,0.15,0.2,0.3",
        page="24",
        taste="authors",
        seed="0",
    )
    num_users, days, size = int(options["users"]), float(options["days"]), int(options["page"])
    weights = [0.0, *map(float, options["weights"].split(","))]
    if options["taste"] not in ("authors", "looks"):
        raise SystemExit(f"taste={options['taste']}: must be authors or looks")
    clips = Clips(Path(options["index"]), taste=options["taste"])
    simulator = simulated_users(
        clips,
        num_users=num_users,
        visits=float(options["visits"]),
        days=days,
        seed=int(options["seed"]),
    )
    with tempfile.TemporaryDirectory() as folder:
        learner = learn(clips, simulator, days=days, folder=Path(folder))
        now = START_SECONDS + simulator.now_seconds
        personal = personal_scores(Path(folder), clips, num_users=num_users, now_seconds=now)
    rows = [json.loads(line) for line in Path(options["data"]).read_text().splitlines()]
    questions = [
        (clips.page(row["captions"][0]).first(size), clips.number[row["video"]])
        for row in rows
        if row["video"] in clips.number
    ]
    pages = {
        kind: [clips.page(words.format(name)).first(size) for words in ASKED_AFTERWARDS]
        for kind, name in enumerate(KINDS)
    }
    recalls = relevance(questions, personal, weights=weights)
    seconds = days * _DAY_SECONDS / 10
    every, several = clicks(pages, simulator, personal, weights=weights, seconds=seconds)
    spans = [(p.scores[0] - p.scores[9]) / p.unit for each in pages.values() for p in each]
    common = {
        "users": num_users,
        "clips": len(clips.names),
        "captions": len(questions),
        "examples": learner.joiner.counts.examples,
        "freezes": learner.guard.num_freezes,
        "units_from_hit_1_to_10": round(float(np.median(spans)), 2),
    }
    print(json.dumps(common), flush=True)
    for at, weight in enumerate(weights[1:], 1):
        figures: dict[str, Any] = {"weight": weight}
        for column, name in enumerate(("R@1", "R@10")):
            figures[name] = difference(recalls[0, :, column], recalls[at, :, column])
        figures["clicks"] = every.figures(at)
        figures["several_answers"] = several.figures(at)
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
