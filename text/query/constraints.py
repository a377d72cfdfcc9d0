"""Takes filters out of a sentence: limits on duration, date and tags.

    "cats under 30 seconds from last week" -> "cats", duration < 30, date >= 2026-11-16
    "sleeping #cat, -tag:drone"            -> "sleeping", tag = 'cat', not tag = 'drone'

Reads durations before dates, since "under 30 seconds" also looks like a date, and then tags.
dateparser, if installed, reads dates in languages without a grammar here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import regex

from reelseek.text.query.dates import find_dates
from reelseek.text.query.durations import Span, find_durations
from reelseek.text.query.quoting import SIGN

CUT = "\n"  # marks where text was taken out; normalised text has no line breaks
GRAMMARS = ("en", "zh", "ja", "ko", "th", "vi")

_TAG = regex.compile(
    rf"(?<![\p{{L}}\p{{N}}_&#])(?P<minus>-)?(?:\#(?=[\p{{L}}\p{{N}}{SIGN[1:-1]}])|"
    r"(?:tags?|标签|標籤|タグ|태그|แท็ก|thẻ)\s?[:=]\s?)"
    rf"(?P<name>{SIGN}|[\p{{L}}\p{{M}}\p{{N}}_]"
    rf"(?:[\p{{L}}\p{{M}}\p{{N}}_\-]*[\p{{L}}\p{{M}}\p{{N}}_])?)",
    regex.IGNORECASE,
)
_TAGGED = regex.compile(
    r"(?:\b(?:that|which) (?:are|is) )?(?P<minus>\bnot )?\btagged (?:as |with )?"
    rf"(?P<name>{SIGN}|[\p{{L}}\p{{M}}\p{{N}}_\-]*[\p{{L}}\p{{M}}\p{{N}}_])",
    regex.IGNORECASE,
)
_NUMBER_ONE = regex.compile(r"\d+")  # "#1" is a rank
_IN_WORDS = {
    "date": {"<": "before", "<=": "until", "=": "of", ">": "after", ">=": "since"},
    "duration": {
        "<": "shorter than",
        "<=": "of at most",
        "=": "of",
        ">": "longer than",
        ">=": "of at least",
    },
}
_EDGES = " ,;:.\uff0c\u3002\u30fb"
# Words that connected the cut text to the rest.
_BEFORE_CUT = regex.compile(
    r"(?:\s*(?:[,;:]|(?<!\p{L})-(?!\p{L})|\b(?:and|but|và)(?=\s*\n)))*\s*(?=\n)", regex.IGNORECASE
)
_AFTER_CUT = regex.compile(r"^\s*(?:[,;:]|\b(?:and|of|và)\b|的|の|의(?=\s))*\s*", regex.IGNORECASE)
_AROUND_CUTS = regex.compile(r"\s*\n[\s\n]*")
_REACH = 40  # characters
_NEEDS_NO_BLANK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]")


@dataclass(frozen=True)
class Constraint:
    """A limit on the results.

    Attributes:
        field: `duration` in seconds, `date`, or `tag`.
        operator: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: Seconds, an ISO date (or year, or month), or a tag.
        source: The words of the query.
    """

    field: str
    operator: str
    value: str | float
    source: str

    @property
    def where(self) -> str:
        """The constraint in an index's filter language; `!=` also matches videos without tags."""
        if self.field == "tag":
            quoted = str(self.value).replace("'", "''")
            return f"{'not ' if self.operator == '!=' else ''}tag = '{quoted}'"
        value = self.value if isinstance(self.value, str) else _plain(self.value)
        return f"{self.field} {self.operator} {value}"

    @property
    def phrase(self) -> str:
        """The constraint in words that follow "no video", such as `before 2025`."""
        if self.field == "tag":
            return f"{'not ' if self.operator == '!=' else ''}tagged {self.value!r}"
        words = _IN_WORDS[self.field][self.operator]
        return f"{words} {self.value if isinstance(self.value, str) else _plain(self.value) + ' s'}"


def _plain(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def lift_constraints(
    text: str, now: datetime, *, language: str = "en", tags: Sequence[str] = ()
) -> tuple[str, tuple[Constraint, ...]]:
    """Takes the constraints out of a normalised sentence.

    Args:
        text: The sentence.
        now: The time that "yesterday" refers to.
        language: ISO 639-1 code; dateparser reads languages without a grammar.
        tags: Tags of the catalogue; `#du_lich` means `du lich` if that is one of them.

    Returns:
        The text with `CUT` in place of each constraint (see `tidied`), and the constraints.
    """
    found: list[Constraint] = []
    for field, spans_in in _finders(now, language):
        spans = spans_in(text)
        for span in spans:
            source = text[span.start : span.end].strip(_EDGES)
            found += [Constraint(field, op, value, source) for op, value in span.comparisons]
        text = _without(text, spans)
    known = {tag.casefold(): tag for tag in tags}
    for pattern in (_TAG, _TAGGED):
        matches = [m for m in pattern.finditer(text) if not _NUMBER_ONE.fullmatch(m["name"])]
        for match in matches:
            operator = "!=" if match["minus"] else "="
            tag = _known_tag(match["name"], known)
            found.append(Constraint("tag", operator, tag, match[0].strip()))
        text = _without(text, [Span(match.start(), match.end(), ()) for match in matches])
    return text, tuple(dict.fromkeys(found))


def _known_tag(name: str, known: dict[str, str]) -> str:
    spaced = name.replace("_", " ").casefold()
    return known.get(name.casefold()) or known.get(spaced) or name


def _finders(now: datetime, language: str) -> list[tuple[str, Callable[[str], list[Span]]]]:
    finders: list[tuple[str, Callable[[str], list[Span]]]] = [
        ("duration", find_durations),
        ("date", lambda text: find_dates(text, now)),
    ]
    if language not in (*GRAMMARS, "und"):
        finders.append(("date", lambda text: _other_dates(text, now, language)))
    return finders


def lacks_dates(language: str) -> str | None:
    """Returns a warning, with its remedy, if dates in this language cannot be read; else None."""
    if language in (*GRAMMARS, "und") or _dateparser() is not None:
        return None
    return f"dates in {language}: dateparser is not installed: pip install '.[query]'"


@cache
def _dateparser() -> Any | None:
    try:
        from dateparser import search
        from dateparser.date import DateDataParser
    except ImportError:
        return None
    return search.search_dates, DateDataParser


def _other_dates(text: str, now: datetime, language: str) -> list[Span]:
    """Finds dates of the past with dateparser, as precise as the sentence."""
    parser = _dateparser()
    if parser is None:
        return []
    search_dates, data_parser = parser
    settings = {"RELATIVE_BASE": now.replace(tzinfo=None), "PREFER_DATES_FROM": "past"}
    try:
        dates = search_dates(text, languages=[language], settings=settings) or []
    except (ValueError, RecursionError, OverflowError):
        return []
    read = data_parser(languages=[language], settings=settings).get_date_data
    spans = []
    position = 0
    for phrase, _ in dates:
        start = text.find(phrase, position)
        parsed = read(phrase)
        if start < 0 or len(phrase) < 4 or phrase.isdigit() or parsed.date_obj is None:
            continue
        shorter = phrase.rpartition(" ")[0]  # it includes the "en" of "ayer en la playa"
        if shorter and read(shorter).date_obj == parsed.date_obj:
            phrase = shorter
        position = start + len(phrase)
        spans.append(Span(start, position, (_as_precise(parsed.date_obj, parsed.period),)))
    return spans


def _as_precise(moment: datetime, period: str) -> tuple[str, str]:
    if period == "week":
        monday = moment - timedelta(days=moment.weekday())
        return ">=", monday.date().isoformat()
    digits = {"year": 4, "month": 7}.get(period, 10)
    return "=", moment.date().isoformat()[:digits]


def _without(text: str, spans: Sequence[Span]) -> str:
    for span in sorted(spans, reverse=True):
        text = text[: span.start] + CUT + text[span.end :]
    return text


def tidied(text: str) -> str:
    """Joins the text around the cuts into a sentence."""
    if CUT not in text:
        return text
    text = _AROUND_CUTS.sub(CUT, text)
    first, *rest = text.split(CUT)
    joined = first
    for part in rest:
        head = _without_connectives(joined)
        tail = _AFTER_CUT.sub("", part) if not head.strip(_EDGES) or part[:1] in ",;:的の" else part
        glue = "" if _is_unspaced(head[-1:], tail[:1]) else " "
        # Of two commas around the cut, `tail` has lost its own.
        joined = head + (glue if head and tail else "") + tail
    return _without_connectives(joined).strip(_EDGES + CUT)


def _without_connectives(text: str) -> str:
    """Drops connectives at the end of the text."""
    return text[:-_REACH] + _BEFORE_CUT.sub("", text[-_REACH:] + CUT).rstrip(CUT)


def _is_unspaced(before: str, after: str) -> bool:
    return bool(_NEEDS_NO_BLANK.match(before) and _NEEDS_NO_BLANK.match(after)) or after in ".!?"
