"""Analyses a query: text to embed, excluded phrases, events, names and filters.

analyzer = QueryAnalyzer(vocabulary=Vocabulary.of(captions))
meaning = analyzer.analyze("cats under 30 seconds from last week -people")
meaning.text       # "cats"
meaning.where      # "duration < 30 and date >= 2026-11-16"
meaning.excluded   # ("people",)
print(meaning)     # each part on a line
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reelseek.text.languages import UNKNOWN, LanguageDetector
from reelseek.text.normalization import has_invisible, normalized_query
from reelseek.text.query.constraints import Constraint, lacks_dates, lift_constraints, tidied
from reelseek.text.query.entities import Entity, EntityFinder
from reelseek.text.query.negation import lift_negations
from reelseek.text.query.quoting import Quoted
from reelseek.text.query.spelling import Correction, SpellChecker
from reelseek.text.query.temporal import temporal_steps
from reelseek.text.query.vocabulary import Vocabulary
from reelseek.text.segmentation import missing_segmenters, words
from reelseek.text.terminal import printable

LANGUAGES = ("en", "zh", "ja", "ko", "th", "vi")

# Queries that load everything their language needs; the last one, for all other languages.
_FIRST_QUERIES = {
    "en": "Anna's cat on a beech without people under 30 seconds from last week, then a dog runs",
    "zh": "昨天海滩上的猫,没有人",
    "ja": "昨日のビーチの猫、人がいない",
    "ko": "어제 해변의 고양이, 사람 없는",
    "th": "แมวบนชายหาดเมื่อวาน ไม่มีคน",
    "vi": "con mèo trên bãi biển hôm qua, không có người",
    "": "кошка на пляже вчера",
}

# dateparser, spaCy and others have state that threads must not share. They hold the interpreter's
# lock while they compute, so taking turns costs no time.
_lock = threading.Lock()


@dataclass(frozen=True)
class AnalyzedQuery:
    """The meaning of a query.

    Attributes:
        query: The original query.
        text: Text to embed; equals the query if nothing was taken out or corrected, and is empty
            if the query only has constraints.
        language: ISO 639-1 code, or `und`.
        words: Words of `text`, from `text.segmentation.words`.
        excluded: Phrases that must not be seen.
        steps: Events in order of time; none, or at least two.
        entities: Names in `text`, in order.
        constraints: Limits on the results.
        corrections: Corrected spelling mistakes.
        skipped: Warnings about skipped analyses, with the reason.
    """

    query: str
    text: str
    language: str
    words: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    entities: tuple[Entity, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    corrections: tuple[Correction, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def where(self) -> str | None:
        """The constraints in the filter language of `indexing.filters`, or None."""
        return " and ".join(one.where for one in self.constraints) or None

    def __str__(self) -> str:
        parts = (
            ("query", [self.query]),
            ("text", [self.text or "(none: the query only has filters)"]),
            ("language", [self.language]),
            ("words", [" ".join(self.words)]),
            ("without", self.excluded),
            ("in order", [f"{i}. {step}" for i, step in enumerate(self.steps, start=1)]),
            ("names", [f"{one.text} ({one.kind})" for one in self.entities]),
            ("filter", [f"{one.where}  <- {one.source!r}" for one in self.constraints]),
            (
                "corrected",
                [
                    f"{one.original} -> {one.corrected}  (quote it to keep it)"
                    for one in self.corrections
                ],
            ),
            ("skipped", self.skipped),
        )
        lines = [
            f"{label if i == 0 else '':<10} {printable(value)}"
            for label, values in parts
            for i, value in enumerate(values)
            if value
        ]
        return "\n".join(lines)


class QueryAnalyzer:
    """Analyses queries. Threads may share it.

    Args:
        languages: ISO 639-1 codes of the expected languages, the likeliest first.
        vocabulary: Words and names of the catalogue; its words are never corrected.
        now: Returns the time that "yesterday" refers to.
        spelling: Whether to correct spelling mistakes.
        entities: Whether to find names with spaCy and jieba; names of the catalogue are always
            found.
    """

    def __init__(
        self,
        *,
        languages: Sequence[str] = LANGUAGES,
        vocabulary: Vocabulary | None = None,
        now: Callable[[], datetime] = datetime.now,
        spelling: bool = True,
        entities: bool = True,
    ) -> None:
        vocabulary = vocabulary or Vocabulary()
        self._languages = languages
        self._detector = LanguageDetector(languages)
        self._tags = vocabulary.tags
        self._now = now
        self._names = EntityFinder(vocabulary.entities, neural=entities)
        self._spelling = SpellChecker(vocabulary.words, languages=languages) if spelling else None

    def analyze(self, query: str) -> AnalyzedQuery:
        """Analyses a query.

        Raises:
            ValueError: The query is empty or too long.
        """
        with _lock:
            return self._analyze(query)

    def _analyze(self, query: str) -> AnalyzedQuery:
        plain = normalized_query(query)
        if not any(map(str.isalnum, plain)):  # only emoji or punctuation: skip the patterns
            text = plain if has_invisible(query) else query
            return AnalyzedQuery(query, text, UNKNOWN, tuple(words(plain)))
        quoted = Quoted(plain)
        language, undetected = self._detector.language_of(quoted.text)
        corrected, corrections = self._corrected(quoted.text, language)
        lifted, constraints = lift_constraints(
            corrected, self._now(), language=language, tags=self._tags
        )
        positive, excluded = lift_negations(lifted, language=language)
        text = quoted.restored(tidied(positive))
        skipped = [undetected, lacks_dates(language)]
        if not text and excluded and not constraints:
            text, excluded = quoted.restored(corrected), ()
            skipped.append(
                "negation: it leaves nothing to look for, so the query was used as it is; say "
                "also what should be seen"
            )
        if text == quoted.restored(quoted.text) and not has_invisible(query):
            text = query
        return AnalyzedQuery(
            query=query,
            text=text,
            language=language,
            words=tuple(words(text)),
            excluded=tuple(quoted.unquoted(phrase) for phrase in excluded),
            steps=tuple(
                quoted.restored(step)
                for step in temporal_steps(tidied(positive), language=language)
            ),
            entities=self._names.find(text, language=language),
            constraints=tuple(
                replace(
                    one,
                    value=quoted.unquoted(one.value) if isinstance(one.value, str) else one.value,
                    source=quoted.restored(one.source),
                )
                for one in constraints
            ),
            corrections=corrections,
            skipped=tuple(line for line in (*skipped, *self._missing(text, language)) if line),
        )

    def warm_up(self) -> None:
        """Loads the patterns, dictionaries and models of all languages, in some seconds.

        Otherwise the first query of each language waits for them.
        """
        if self._spelling is not None:
            self._spelling.load()
        for language, query in _FIRST_QUERIES.items():
            if language in (*self._languages, ""):
                self.analyze(query)

    def load_dictionaries_of(self, other: "QueryAnalyzer") -> None:
        """Loads the dictionaries that another analyzer has loaded; other threads may analyse
        meanwhile."""
        if self._spelling is not None and other._spelling is not None and other._spelling.is_loaded:
            self._spelling.load()

    def _corrected(self, text: str, language: str) -> tuple[str, tuple[Correction, ...]]:
        if self._spelling is None or language == UNKNOWN:
            return text, ()
        names = [(one.start, one.end) for one in self._names.of_catalogue(text)]
        return self._spelling.correct(text, language=language, keep=names)

    def _missing(self, text: str, language: str) -> list[str | None]:
        spelling = self._spelling.missing(text, language=language) if self._spelling else None
        return [
            *missing_segmenters(text),
            spelling,
            self._names.missing(text, language=language),
        ]
