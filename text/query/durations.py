"""Reads limits on a video's length in six languages.

"under 30 seconds", "1-2 min", 30秒以内, "5분 미만", "dài hơn 5 phút". An amount alone is not
the length ("a 30 second timer"), nor is the time an action takes ("in under 10 seconds").
"About N long" and "N-second clip" mean N plus or minus a fifth.
"""

from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import regex

from reelseek.text.query.comparisons import compared, is_range, range_span, ranges_and_singles
from reelseek.text.query.numerals import NUMBER, number_of

_UNITS = {
    1: r"s(?:ec(?:ond)?s?)?\b|giây|秒钟|秒鐘|秒間|秒|초|วินาที",
    60: r"min(?:ute)?s?\b|phút|分钟|分鐘|分間|分(?!か)|분|นาที",
    3600: r"h(?:(?:ou)?rs?)?\b|giờ|tiếng|个小时|個小時|小时|小時|个钟头|钟头|時間|시간|ชั่วโมง|"
    r"ชม\.?",
}
_UNIT = "|".join(f"(?P<u{seconds}>{words})" for seconds, words in _UNITS.items())
_TOLERANCE = 0.2  # of "about", as a fraction of the amount

# Words beside an amount that is not the video's length.
_NOT_ITS_LENGTH_BEFORE = regex.compile(
    r"\b(?:in|for|by|after|every|within|trong|vòng)\s+$|在\s*$|ใน\s*$", regex.IGNORECASE
)
_NOT_ITS_LENGTH_AFTER = regex.compile(
    r"\s*(?:\b(?:left|remaining|to go|ago|later|early|late|apart|away|old|before|rule|timer|"
    r"countdown|workout|challenge|per|nữa|trước khi)\b|に(?!わた)|で|에 |만에|后|後に|前|전|"
    r"전에|ก่อน|倒计时)",
    regex.IGNORECASE,
)
_CLIP = regex.compile(
    r"[\s-]*(?:long\s+)?(?=(?:videos?|clips?|footage|films?|movies?|shots?|recordings?)\b)",
    regex.IGNORECASE,
)
_SINGULAR = regex.compile(r"(?:second|minute|hour|sec|min)$", regex.IGNORECASE)
_TRAILING = regex.compile(
    r"\s*(?:\b(?:long|in length|in duration|of length)\b|长的?(?!\p{Han})|的|の)", regex.IGNORECASE
)
_PREFIX = regex.compile(
    r"(?:\b(?:(?:with )?(?:a )?(?:duration|length)(?: of)?|lasting|that (?:is|are|lasts?)|which "
    r"(?:is|are)|"
    r"of|(?:có )?(?:độ dài|thời lượng)|dài)|长度|时长|長さ|길이|ความยาว|ยาว|ที่)\s*[:=]?\s*$",
    regex.IGNORECASE,
)


class Span(NamedTuple):
    """A part of the sentence that limits one field, by pairs of an operator and a value."""

    start: int
    end: int
    comparisons: tuple[tuple[str, float | str], ...]


class _Amount(NamedTuple):
    start: int
    end: int
    seconds: float
    has_unit: bool


@cache
def _amounts_pattern() -> regex.Pattern[str]:
    one = (
        rf"(?P<n>{NUMBER})(?P<gap>\s?-?\s?)(?:{_UNIT}|m(?=\d+s\b))(?P<half>半|\s?rưỡi|\s?반|"
        rf"ครึ่ง|\s?and a half)?"
    )
    clock = r"(?<![\d:])(?P<clock>\d{1,2}:\d\d(?::\d\d)?)(?![\d:])"
    return regex.compile(rf"{clock}|(?:{one}(?:\s?(?:and\s)?(?=\d|[一-十]))?)+", regex.IGNORECASE)


def find_durations(text: str) -> list[Span]:
    """Finds the parts of a normalised text that limit a video's length, in order."""
    found = ranges_and_singles(
        list(_amounts(text)), range_of=partial(_range, text), single_of=partial(_single, text)
    )
    return [_whole(text, span) for span in found]


@cache
def _bare_pattern() -> regex.Pattern[str]:
    """Matches a number before a range's second amount: the "10" of "10 to 20 seconds"."""
    return regex.compile(
        rf"(?<![\w$#.])(?P<n>{NUMBER})(?=\s*(?:-|~|\b(?:and|to|và|đến|tới)\b|到|至|から|에서|ถึง|"
        rf"และ)\s*$)",
        regex.IGNORECASE,
    )


@cache
def _field_pattern() -> regex.Pattern[str]:
    """Matches a filter such as "duration < 30", which needs no unit."""
    return regex.compile(
        rf"\b(?:duration|length)\s*(?:[<>]=?)\s*(?P<n>\d+(?:\.\d+)?)(?P<minutes>m\b)?"
        rf"(?![\w.:]|\s*(?:{_UNIT}))",
        regex.IGNORECASE,
    )


def _amounts(text: str) -> Iterator[_Amount]:
    for match in _amounts_pattern().finditer(text):
        if match["clock"]:
            parts = [float(part) for part in match["clock"].split(":")]
            seconds = sum(part * 60**i for i, part in enumerate(reversed(parts)))
            yield _Amount(match.start(), match.end(), seconds, True)
            continue
        head = text[max(0, match.start() - 20) : match.start()]
        bare = _bare_pattern().search(head)
        positions = sorted((start, unit) for unit in _UNITS for start in match.starts(f"u{unit}"))
        units = [unit for _, unit in positions]
        smallest_unit = min(units)
        numbers = match.captures("n")
        if len(units) < len(numbers):  # the "m" of 1m30s
            units = [60, *units]
        seconds = sum(number_of(n) * unit for n, unit in zip(numbers, units, strict=False))
        if match["half"]:
            seconds += 0.5 * units[-1]
        if bare:
            start = match.start() - len(head) + bare.start()
            yield _Amount(start, start + len(bare[0]), number_of(bare["n"]) * smallest_unit, False)
        yield _Amount(match.start(), match.end(), seconds, True)
    for match in _field_pattern().finditer(text):
        seconds = float(match["n"]) * (60 if match["minutes"] else 1)
        yield _Amount(match.start("n"), match.end(), seconds, True)


def _range(text: str, first: _Amount, second: _Amount) -> Span | None:
    if not is_range(text, first.end, second.start) or first.seconds >= second.seconds:
        return None
    start, end, is_marked = range_span(text, first.start, second.end)
    if not is_marked and _is_not_its_length(text, start, end):
        return None
    return Span(start, end, ((">=", first.seconds), ("<=", second.seconds)))


def _single(text: str, amount: _Amount) -> Span | None:
    if not amount.has_unit:
        return None
    start, end, operator, cue = compared(text, amount.start, amount.end, kind="duration")
    clip = _CLIP.match(text, amount.end)
    if operator is None and clip and not text[amount.start : amount.end].startswith("a "):
        operator, end = "~", clip.end()
    if operator is None or _is_not_its_length(text, start, end):
        return None
    number = text[amount.start : amount.end].split(" ")[0].split("-")[0].casefold()
    is_adjective = _SINGULAR.search(text, amount.start, amount.end) and number not in (
        "a", "an", "one", "1", "half", "0.5",
    )  # fmt: skip
    if is_adjective and not clip and "\n" not in text[end : end + 2] and text[end:].strip(" .,!"):
        return None
    if operator == "~":
        if cue and not clip:
            return None
        low, high = amount.seconds * (1 - _TOLERANCE), amount.seconds * (1 + _TOLERANCE)
        return Span(start, end, ((">=", round(low, 3)), ("<=", round(high, 3))))
    return Span(start, end, ((operator, amount.seconds),))


def _is_not_its_length(text: str, start: int, end: int) -> bool:
    head = text[max(0, start - 12) : start]
    return bool(_NOT_ITS_LENGTH_BEFORE.search(head) or _NOT_ITS_LENGTH_AFTER.match(text, end))


def _whole(text: str, span: Span) -> Span:
    """Extends the span by "lasting" before it and "long" after it."""
    start, end, comparisons = span
    if trailing := _TRAILING.match(text, end):
        end = trailing.end()
    head = text[max(0, start - 30) : start]
    if prefix := _PREFIX.search(head):
        start -= len(head) - prefix.start()
    return Span(start, end, comparisons)
