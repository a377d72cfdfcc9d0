"""The words of a query -> texts of the index that have them, and the videos or moments that they
speak of."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from reelseek.indexing.hits import LexicalHit, SearchHit
from reelseek.indexing.lexical.documents import stems, words_of
from reelseek.indexing.reader import IndexReader
from reelseek.ranking.evidence import Evidence
from reelseek.ranking.fusion import score_cutoff
from reelseek.ranking.request import LEXICAL, VISUAL, Request
from reelseek.text.query.function_words import content_words

_MIN_TEXTS = 50  # that are looked for
# Of what is asked, in a text that counts beside pictures: a quarter if that is two words, but a
# half if it is one, since any title may share a word with any query.
_MIN_COVERAGE, _MIN_COVERAGE_ONE_WORD = 0.25, 0.5
# One word of these, in a text that says nothing else, counts for what also looks like it.
_MIN_COVERAGE_LIKELY = 0.2
_MIN_WEIGHT = 0.25  # of a word that every text has, beside one that no text has


@dataclass(frozen=True)
class FoundText:
    """A text that has words of the query.

    Attributes:
        hit: where it is.
        fraction: of the content words that are asked, that it has, 0 to 1.
        num_shared: how many of them those are.
        says_more: whether it has content words that are not asked.
    """

    hit: LexicalHit
    fraction: float
    num_shared: int
    says_more: bool

    def counts(self, *, is_likely: bool) -> bool:
        """Whether it is evidence beside pictures.

        Args:
            is_likely: whether the video is among those that look most like what is asked.
        """
        if self.num_shared < 2:
            minimum = _MIN_COVERAGE_ONE_WORD
            if is_likely and not self.says_more:
                minimum = _MIN_COVERAGE_LIKELY
            return self.fraction >= minimum
        return not self.says_more or self.fraction >= _MIN_COVERAGE


def find_texts(reader: IndexReader, request: Request, *, k: int, level: str) -> list[FoundText]:
    """Texts that have words of the query, best first; beside pictures, those that may count.

    Function words are looked for only where there are no others: when texts alone are searched, or
    when a number is what a video is called, such as `IMG_0042` or `1917`.
    """
    if LEXICAL not in request.sources or not request.words:
        return []
    content = content_words(request.words)
    hits = reader.search_words(
        content or request.words,
        k=max(k, _MIN_TEXTS),
        also=request.words if content else (),
        excluded=content_words(request.excluded_words),
        where=request.where,
        level=level,
    )
    beside_frames = VISUAL in request.sources
    if not hits:
        return []
    if beside_frames and not content:
        hits = [hit for hit in hits if _is_called(hit, request.words)]
    query_words = _weighted_words(reader, content or request.words)
    found = _fractions(query_words, hits, request.words)
    return [text for text in found if text.counts(is_likely=True)] if beside_frames else found


def texts_beside_frames(texts: Sequence[FoundText], likely_ids: Collection[int]) -> list[FoundText]:
    """Those that are evidence, too, where there are pictures: a text that shares a word or two
    with the query is none beside one with all of it.

    Args:
        likely_ids: of the videos that look most like what is asked.
    """
    found = [text for text in texts if text.counts(is_likely=text.hit.video_id in likely_ids)]
    return score_cutoff(found, [text.hit.score for text in found])


def hits_from_texts(
    reader: IndexReader,
    request: Request,
    texts: Sequence[FoundText],
    *,
    shown: Collection[tuple],
    level: str,
) -> list[SearchHit]:
    """Texts as hits of pictures, with the same scores, in the texts' order.

    Args:
        shown: the places (`SearchHit.dedup_key`) that pictures were found at.
    """
    video_ids = sorted({text.hit.video_id for text in texts})
    of_video: dict[int, list[SearchHit]] = {}
    for hit in reader.hits_of(video_ids, request.query_embedding, level=level):
        of_video.setdefault(hit.video_id, []).append(hit)
    hits = []
    for rank, text in enumerate(texts, start=1):
        if text.hit.video_id not in of_video:  # deleted since
            continue
        hit = _spoken_of(text.hit, of_video[text.hit.video_id], shown, level)
        detail = f"{text.hit.source}: {text.hit.text}"
        evidence = Evidence(LEXICAL, rank, text.hit.score, detail, fraction=text.fraction)
        hits.append(replace(hit, evidence=(evidence,)))
    return hits


def _is_called(hit: LexicalHit, query_words: Sequence[str]) -> bool:
    """Whether these words, of which one is a number, are a video's whole title or name."""
    called = PurePosixPath(hit.text).stem if hit.source == "name" else hit.text
    has_number = any(char.isdigit() for word in query_words for char in word)
    return has_number and words_of([called.replace("_", " ")]) == list(query_words)


def _spoken_of(
    text: LexicalHit, of_video: list[SearchHit], shown: Collection[tuple], level: str
) -> SearchHit:
    """The video, or the moment of it, that a text speaks of: a timed one of its own seconds."""
    if text.start_seconds is None or text.end_seconds is None:
        return of_video[0]
    middle = (text.start_seconds + text.end_seconds) / 2
    if level == "video":
        return replace(of_video[0], best_seconds=middle)
    around = [hit for hit in of_video if hit.start_seconds <= middle < hit.end_seconds]
    hit = (around or of_video)[0]
    if hit.dedup_key not in shown:  # no picture speaks for the rest of that moment
        hit = replace(hit, start_seconds=text.start_seconds, end_seconds=text.end_seconds)
    return replace(hit, best_seconds=middle)


def _weighted_words(
    reader: IndexReader, query_words: Sequence[str]
) -> list[tuple[list[str], float]]:
    """Each word's stems, and its inverse document frequency (Robertson and Zaragoza 2009,
    equation 3.1), which is not let fall far below that of a word that no video has: the rarest word
    of a query does not answer it alone."""
    frequency, _ = reader.vocabulary()
    num_videos = reader.manifest.num_videos
    minimum = _MIN_WEIGHT * math.log(1 + (num_videos + 0.5) / 0.5)
    weighted = []
    for word in dict.fromkeys(query_words):
        found = min(num_videos, frequency.get(word, 0))
        rarity = math.log(1 + (num_videos - found + 0.5) / (found + 0.5))
        weighted.append((stems([word]), max(minimum, rarity)))
    return weighted


def _fractions(
    query_words: Sequence[tuple[list[str], float]], hits: Sequence[LexicalHit], query: Sequence[str]
) -> list[FoundText]:
    """How much of what is asked each text has, and whether it has more; endings do not matter."""
    total = sum(weight for _, weight in query_words)
    all_stems = {stem for parts, _ in query_words for stem in parts}
    words_of_hits = [words_of([hit.text]) for hit in hits]
    different = list(dict.fromkeys(word for words in words_of_hits for word in words))
    content = set(content_words(different, in_language_of=query))  # at once: texts share many
    found = []
    for hit, words in zip(hits, words_of_hits, strict=True):
        has = set(stems(words))
        shared = [weight for parts, weight in query_words if has.issuperset(parts)]
        says_more = not all_stems.issuperset(stems([word for word in words if word in content]))
        fraction = sum(shared) / total if total else 0.0
        found.append(FoundText(hit, fraction, len(shared), says_more))
    return found
