"""A query -> what it means: text to embed, what is not to be seen, events, names, filters.

analyzer = QueryAnalyzer(vocabulary=Vocabulary.of(captions))
meaning = analyzer.analyze("cats under 30 seconds from last week -people")
meaning.text       # "cats"
meaning.where      # "duration < 30 and date >= 2026-11-16"
meaning.excluded   # ("people",)
print(meaning)     # each part on a line
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

# Queries that need whatever there is for their language; the last one, for all others.
_FIRST_QUERIES = {
    "en": "Anna's cat on a beech without people under 30 seconds from last week, then a dog runs",
    "zh": "昨天海滩上的猫,没有人",
    "ja": "昨日のビーチの猫、人がいない",
    "ko": "어제 해변의 고양이, 사람 없는",
    "th": "แมวบนชายหาดเมื่อวาน ไม่มีคน",
    "vi": "con mèo trên bãi biển hôm qua, không có người",
    "": "кошка на пляже вчера",
}

# dateparser, spaCy and others keep state that two threads must not change at once. They hold the
# interpreter's lock while they compute, so that taking turns costs no time.
_lock = threading.Lock()


@dataclass(frozen=True)
class AnalyzedQuery:
    """What a query means.

    Attributes:
        query: as it was given.
        text: what is to be seen, for embedding; the query, character for character, where nothing
            was taken out or corrected. Empty where constraints say all.
        language: ISO 639-1 code, or `und`.
        words: of `text`, as `text.segmentation.words` has them.
        excluded: phrases of what is not to be seen.
        steps: phrases in order of time; none, or at least two.
        entities: names in `text`, in order.
        constraints: limits on the answers.
        corrections: words that were spelt otherwise.
        skipped: what was passed over and why, a line each.
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
        """The constraints in the language of `indexing.filters`, or None."""
        return " and ".join(one.where for one in self.constraints) or None

    def __str__(self) -> str:
        parts = (
            ("query", [self.query]),
            ("text", [self.text or "(nothing: the filters say all)"]),
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
        languages: of the queries, as ISO 639-1 codes, the likeliest first.
        vocabulary: of the catalogue: its words are right, its names are names.
        now: tells the time that "yesterday" is counted from.
        spelling: whether misspelt words are corrected.
        entities: whether spaCy and jieba look for names; the catalogue's are found anyway.
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
        """Reads a query.

        Raises:
            ValueError: it is empty, or longer than any query is.
        """
        with _lock:
            return self._analyzed(query)

    def _analyzed(self, query: str) -> AnalyzedQuery:
        plain = normalized_query(query)
        if not any(map(str.isalnum, plain)):  # emoji and marks: no pattern need be compiled
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
                "negation: it leaves nothing to look for, so the query was taken as it is; say "
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
                Constraint(
                    c.field, c.operator, _unquoted(c.value, quoted), quoted.restored(c.source)
                )
                for c in constraints
            ),
            corrections=corrections,
            skipped=tuple(line for line in (*skipped, *self._missing(text, language)) if line),
        )

    def warm_up(self) -> None:
        """Loads what the first query of each language would wait for: patterns, dictionaries,
        models. This takes some seconds, after which no query waits for more than itself."""
        for language, query in _FIRST_QUERIES.items():
            if language in (*self._languages, ""):
                self.analyze(query)

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


def _unquoted(value: str | float, quoted: Quoted) -> str | float:
    return quoted.unquoted(value) if isinstance(value, str) else value
