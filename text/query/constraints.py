"""A sentence -> the sentence without what limits the answers, and those limits as constraints.

    "cats under 30 seconds from last week" -> "cats", duration < 30, date >= 2026-11-16
    "sleeping #cat, -tag:drone"            -> "sleeping", tag = 'cat', not tag = 'drone'

Durations are read first, since "under 30 seconds" reads as a date too; then dates; then tags. Where
dateparser is installed, it is asked for dates in languages that have no grammar here.
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

CUT = "\n"  # stands where something was taken out; a normalised text has none
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
# Words that held what was cut to the rest, and hold nothing now.
_BEFORE_CUT = regex.compile(
    r"(?:\s*(?:[,;:]|(?<!\p{L})-(?!\p{L})|\b(?:and|but|và)(?=\s*\n)))*\s*(?=\n)", regex.IGNORECASE
)
_AFTER_CUT = regex.compile(r"^\s*(?:[,;:]|\b(?:and|of|và)\b|的|の|의(?=\s))*\s*", regex.IGNORECASE)
_AROUND_CUTS = regex.compile(r"\s*\n[\s\n]*")
_REACH = 40  # characters
_NEEDS_NO_BLANK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]")


@dataclass(frozen=True)
class Constraint:
    """A limit on the answers.

    Attributes:
        field: `duration` in seconds, `date`, or `tag`.
        operator: `=`, `!=`, `<`, `<=`, `>` or `>=`.
        value: seconds, an ISO date or the beginning of one, or a tag.
        source: the words that it was read from.
    """

    field: str
    operator: str
    value: str | float
    source: str

    @property
    def where(self) -> str:
        """In the language of an index's filters; `!=` holds for what has no tags as well."""
        if self.field == "tag":
            quoted = str(self.value).replace("'", "''")
            return f"{'not ' if self.operator == '!=' else ''}tag = '{quoted}'"
        value = self.value if isinstance(self.value, str) else _plain(self.value)
        return f"{self.field} {self.operator} {value}"

    @property
    def phrase(self) -> str:
        """In words that go after "no video", such as `before 2025`."""
        if self.field == "tag":
            return f"{'not ' if self.operator == '!=' else ''}tagged {self.value!r}"
        words = _IN_WORDS[self.field][self.operator]
        return f"{words} {self.value if isinstance(self.value, str) else _plain(self.value) + ' s'}"


def _plain(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def lift_constraints(
    text: str, now: datetime, *, language: str = "en", tags: Sequence[str] = ()
) -> tuple[str, tuple[Constraint, ...]]:
    """Takes the limits out of a normalised sentence.

    Args:
        now: what "yesterday" is counted from.
        language: ISO 639-1; where there is no grammar for it, dateparser is asked.
        tags: those of the catalogue; `#du_lich` means `du lich` where that is one of them.

    Returns:
        The text, with `CUT` where something was taken out (`tidied` makes a sentence of it), and
        the constraints.
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
    """What is passed over in this language: a line with its remedy, or None."""
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
    """Dates of the past that dateparser finds, each as precise as it was said."""
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
    for said, _ in dates:
        start = text.find(said, position)
        parsed = read(said)
        if start < 0 or len(said) < 4 or said.isdigit() or parsed.date_obj is None:
            continue
        shorter = said.rpartition(" ")[0]  # it takes the "en" of "ayer en la playa" along
        if shorter and read(shorter).date_obj == parsed.date_obj:
            said = shorter
        position = start + len(said)
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
    """A sentence of what is left around the cuts."""
    if CUT not in text:
        return text
    text = _AROUND_CUTS.sub(CUT, text)
    first, *rest = text.split(CUT)
    joined = first
    for part in rest:
        head = _without_hold(joined)
        tail = _AFTER_CUT.sub("", part) if not head.strip(_EDGES) or part[:1] in ",;:的の" else part
        glue = "" if _is_unspaced(head[-1:], tail[:1]) else " "
        # A comma that held the cut on both sides goes on the side that it began.
        joined = head + (glue if head and tail else "") + tail
    return _without_hold(joined).strip(_EDGES + CUT)


def _without_hold(text: str) -> str:
    """The text less the words at its end that hold nothing now; few enough to look there only."""
    return text[:-_REACH] + _BEFORE_CUT.sub("", text[-_REACH:] + CUT).rstrip(CUT)


def _is_unspaced(before: str, after: str) -> bool:
    return bool(_NEEDS_NO_BLANK.match(before) and _NEEDS_NO_BLANK.match(after)) or after in ".!?"
