"""Texts that have words of the query -> those that are evidence, best first."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from reelseek.indexing.candidates import CandidateVideo, CollectionStatistics, TextMatch
from reelseek.indexing.lexical.documents import stems, stems_by_word, words_of
from reelseek.indexing.lexical.scoring import Bm25, TermStatistics, inverse_document_frequency
from reelseek.ranking.fusion import score_cutoff
from reelseek.ranking.request import VISUAL, Request
from reelseek.text.query.function_words import content_words

# Of the query's words, in a text that counts beside frames: a quarter if that is two words, but a
# half if it is one, since any title may share a word with any query.
_MIN_COVERAGE, _MIN_COVERAGE_ONE_WORD = 0.25, 0.5
# One word of the query, in a text that says nothing else, counts for a video that looks like it.
_MIN_COVERAGE_LIKELY = 0.2
_MIN_WEIGHT = 0.25  # of a word that every text has, beside one that no text has


@dataclass(frozen=True)
class Terms:
    """The stems of a query, and their statistics in the collection by level of texts.

    Attributes:
        required: a text that has any of them matches.
        optional: add to the score of a text that matches.
        excluded: a text that has one does not match.
    """

    required: Sequence[str]
    optional: Sequence[str]
    excluded: Sequence[str]
    statistics: Mapping[str, TermStatistics]

    @property
    def occur(self) -> bool:
        """Whether any text of the collection matches."""
        return any(
            each.frequencies.get(stem)
            for each in self.statistics.values()
            for stem in self.required
        )


class ScoredText(NamedTuple):
    """A text that has words of the query.

    Attributes:
        match: the text.
        score: BM25.
        coverage: of the query's content words that it has, 0 to 1, weighted by rarity.
        num_shared: how many of them it has.
        says_more: whether it has content words that the query lacks.
    """

    match: TextMatch
    score: float
    coverage: float = 0.0
    num_shared: int = 0
    says_more: bool = False

    def counts(self, *, is_likely: bool) -> bool:
        """Whether it is evidence beside frames.

        Args:
            is_likely: whether the video is among those that look most like the query.
        """
        if self.num_shared < 2:
            minimum = _MIN_COVERAGE_ONE_WORD
            if is_likely and not self.says_more:
                minimum = _MIN_COVERAGE_LIKELY
            return self.coverage >= minimum
        return not self.says_more or self.coverage >= _MIN_COVERAGE


def query_stems(request: Request) -> tuple[list[str], list[str], list[str]]:
    """Returns the stems that a text must have one of, those that add to its score, and those that
    it must not have.

    Function words are required only where there are no others: when texts alone are searched, or
    when a number is a video's name, such as `IMG_0042` or `1917`.
    """
    content = content_words(request.words)
    required = stems(content or request.words)
    optional = [stem for stem in stems(request.words) if stem not in required] if content else []
    return required, optional, stems(content_words(request.excluded_words))


def rank_matches(
    matches: Sequence[TextMatch],
    videos: Mapping[str, CandidateVideo],
    terms: Terms,
    *,
    num: int,
    level: str,
    with_optional: bool = True,
) -> list[ScoredText]:
    """Orders the best `num` texts by BM25: at level `video` only the best of each video; of copies
    of a video only the first's."""
    used = list(dict.fromkeys([*terms.required, *(terms.optional if with_optional else ())]))
    bm25 = {level: Bm25(used, statistics) for level, statistics in terms.statistics.items()}
    scored = [
        ScoredText(match, bm25[match.level].score(match.counts, match.length))
        for match in matches
        if match.id in videos
    ]
    scored.sort(key=lambda text: (-text.score, text.match.id, text.match.start_seconds or 0.0))
    if level == "video":
        best: dict[str, ScoredText] = {}
        for text in scored:
            best.setdefault(text.match.id, text)
        scored = list(best.values())
    first: dict[str, str] = {}  # by content, the video that stands for its copies
    return [
        text
        for text in scored[:num]
        if first.setdefault(videos[text.match.id].content, text.match.id) == text.match.id
    ]


def find_texts(
    request: Request, ranked: Sequence[ScoredText], statistics: CollectionStatistics
) -> list[ScoredText]:
    """Measures how much of the query each text has; beside frames, keeps those that may count."""
    if not ranked:
        return []
    content = content_words(request.words)
    beside_frames = VISUAL in request.sources
    if beside_frames and not content:
        ranked = [text for text in ranked if _is_called(text.match, request.words)]
    found = _measured(ranked, content or request.words, request.words, statistics)
    return [text for text in found if text.counts(is_likely=True)] if beside_frames else found


def texts_beside_frames(
    texts: Sequence[ScoredText], likely_ids: Collection[str]
) -> list[ScoredText]:
    """Keeps the texts that are evidence beside frames: one that shares a word or two with the query
    is none beside one that has all of it.

    Args:
        likely_ids: of the videos that look most like the query.
    """
    found = [text for text in texts if text.counts(is_likely=text.match.id in likely_ids)]
    return score_cutoff(found, [text.score for text in found])


def _is_called(match: TextMatch, query_words: Sequence[str]) -> bool:
    """Whether these words, one of them a number, are a video's whole title or name."""
    called = PurePosixPath(match.text).stem if match.source == "name" else match.text
    has_number = any(char.isdigit() for word in query_words for char in word)
    return has_number and words_of([called.replace("_", " ")]) == list(query_words)


@lru_cache(maxsize=10_000)
def _words_of_snippet(text: str) -> tuple[str, ...]:
    """Kept, since searches meet the same texts again."""
    return tuple(words_of([text]))


def _weighted_words(
    query_words: Sequence[str], statistics: CollectionStatistics
) -> list[tuple[list[str], float]]:
    """Each word's stems and its inverse document frequency, kept from falling far below that of a
    word that no video has: the rarest word of a query does not answer it alone."""
    num_videos = statistics.num_videos
    minimum = _MIN_WEIGHT * inverse_document_frequency(0, num_videos)
    weighted = []
    for word in dict.fromkeys(query_words):
        rarity = inverse_document_frequency(statistics.words.get(word, 0), num_videos)
        weighted.append((stems([word]), max(minimum, rarity)))
    return weighted


def _measured(
    texts: Sequence[ScoredText],
    query_words: Sequence[str],
    query: Sequence[str],
    statistics: CollectionStatistics,
) -> list[ScoredText]:
    weighted = _weighted_words(query_words, statistics)
    total = sum(weight for _, weight in weighted)
    all_stems = {stem for parts, _ in weighted for stem in parts}
    words_of_texts = [_words_of_snippet(text.match.text) for text in texts]
    different = list(dict.fromkeys(word for words in words_of_texts for word in words))
    # At once: texts share many.
    stems_of = stems_by_word(different)
    more = {
        word
        for word in content_words(different, in_language_of=query)
        if not all_stems.issuperset(stems_of[word])
    }
    found = []
    for text, words in zip(texts, words_of_texts, strict=True):
        has = {stem for word in words for stem in stems_of[word]}
        shared = [weight for parts, weight in weighted if has.issuperset(parts)]
        coverage = sum(shared) / total if total else 0.0
        found.append(
            text._replace(
                coverage=coverage, num_shared=len(shared), says_more=not more.isdisjoint(words)
            )
        )
    return found
