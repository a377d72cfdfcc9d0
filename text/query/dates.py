"""Reads limits on when a video was made, in six languages.

"yesterday", "in 2024", "before May 2023", 先週, 지난달, "trong 3 ngày qua". A day, month or year is
compared as a whole (`2026-10` is the whole month). "Last week" runs from that week's Monday to now,
as in speech. A year or a month only counts after a word such as "in" or "since".
"""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from functools import cache, partial
from typing import NamedTuple

import regex

from reelseek.text.query.comparisons import compared, is_range, range_span, ranges_and_singles
from reelseek.text.query.durations import Span
from reelseek.text.query.numerals import NUMBER, number_of

_MONTHS = (
    r"jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?"
    r"(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_THAI_MONTHS = (
    "มกราคม กุมภาพันธ์ มีนาคม เมษายน พฤษภาคม มิถุนายน กรกฎาคม สิงหาคม กันยายน ตุลาคม พฤศจิกายน ธันวาคม"
).split()
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_BUDDHIST_ERA = 543  # years that the Thai calendar is ahead

# Words for a day, week, month or year, by the number of such units before the current one.
_RELATIVE = {
    ("day", 0): r"\btoday\b|今天|今日|本日|오늘|วันนี้|\bhôm nay\b",
    ("day", 1): r"\byesterday\b|昨天|昨日|きのう|어제|เมื่อวาน(?:นี้)?(?!ซืน)|\bhôm qua\b",
    (
        "day",
        2,
    ): r"\b(?:the )?day before yesterday\b|前天|一昨日|おととい|그저께|그제|เมื่อวานซืน(?:นี้)?|"
    r"\bhôm kia\b",
    ("week", 0): r"\bthis week\b|本周|这周|这个?星期|今週|이번 ?주|(?:สัปดาห์|อาทิตย์)นี้|\btuần này\b",
    ("week", 1): r"\b(?:last|past|previous) week\b|上周|上个?星期|上週|先週|지난 ?주|저번 ?주|"
    r"(?:สัปดาห์|อาทิตย์)(?:ที่แล้ว|ก่อน|ที่ผ่านมา)|\btuần (?:trước|rồi|vừa rồi)\b",
    ("month", 0): r"\bthis month\b|本月|这个?月|今月|이번 ?달|เดือนนี้|\btháng này\b",
    (
        "month",
        1,
    ): r"\b(?:last|past|previous) month\b|上个?月|先月|지난 ?달|저번 ?달|เดือน(?:ที่แล้ว|ก่อน|ที่ผ่านมา)|"
    r"\btháng (?:trước|rồi|vừa rồi)\b",
    ("year", 0): r"\bthis year\b|今年|올해|금년|ปีนี้|\bnăm nay\b",
    (
        "year",
        1,
    ): r"\b(?:last|past|previous) year\b|去年|昨年|작년|지난 ?해|ปี(?:ที่แล้ว|ก่อน|ที่ผ่านมา)|\bnăm "
    r"(?:ngoái|trước)\b",
    ("year", 2): r"前年|一昨年|おととし|재작년",
}
_COUNTED_UNITS = {
    "day": r"days?\b|天|日間?|일|วัน|ngày\b",
    "week": r"weeks?\b|周|个?星期|週間?|주|สัปดาห์|อาทิตย์|tuần\b",
    "month": r"months?\b|个月|か月間?|ヶ月間?|カ月間?|개월|달|เดือน|tháng\b",
    "year": r"years?\b|年間?|년|ปี|năm\b",
}
_UNIT = "|".join(f"(?P<{unit}>{words})" for unit, words in _COUNTED_UNITS.items())
_PATTERNS = {
    "recent": rf"(?:\b(?:the )?(?:last|past)\s|最近|过去|過去|近(?!\p{{Han}}{{2}})|直近|최근 ?|"
    rf"지난 ?)(?P<n>{NUMBER})\s?(?:{_UNIT})(?:间|간| 동안)?"
    rf"|(?:\btrong )?(?P<n>{NUMBER}) (?:{_UNIT})(?: vừa)? (?:qua|gần đây)\b"
    rf"|(?P<n>{NUMBER}) ?(?:{_UNIT})(?:ที่ผ่านมา|ล่าสุด)",
    "ago": rf"(?P<n>{NUMBER})\s?(?:{_UNIT})(?:\s?\bago\b|\s?之?前(?![的]?\p{{Han}}*(?:门|台))|"
    rf"\s?전(?!\p{{Hangul}})|(?:ที่แล้ว|ก่อน)|\s\btrước\b)",
    "iso": r"(?<![\w.-])(?P<y>(?:19|20)\d\d)[-/](?P<m>0?[1-9]|1[0-2])(?:[-/](?P<d>0?[1-9]|"
    r"[12]\d|3[01]))?(?![\w-])",
    "english": rf"\b(?:the )?(?P<d>[12]?\d|3[01])(?:st|nd|rd|th)?(?: of)? "
    rf"(?P<month_name>{_MONTHS})\b(?:,? (?P<y>(?:19|20)\d\d)\b)?"
    rf"|\b(?P<month_name>{_MONTHS})\b\.?(?: (?P<d>[12]?\d|3[01])(?:st|nd|rd|th)?\b(?!:|\s?(?:%|"
    rf"seconds?|minutes?)))?(?:,? (?P<y>(?:19|20)\d\d)\b)?",
    "day_name": rf"\b(?:last )?(?P<weekday>{'|'.join(_WEEKDAYS)})\b",
    "han": r"(?<![\d.])(?P<y>(?:19|20)\d\d)\s?[年년](?!代|대|式|식|款|间|間)(?:\s?(?P<m>1[0-2]|"
    r"0?[1-9])\s?[月월](?:\s?(?P<d>3[01]|[12]\d|0?[1-9])\s?[日号號일])?)?"
    r"|(?<![\d.])(?P<m>1[0-2]|0?[1-9])\s?[月월]\s?(?P<d>3[01]|[12]\d|0?[1-9])\s?[日号號일]",
    "vietnamese": r"\b(?:(?:ngày )?(?P<d>3[01]|[12]?\d) )?tháng (?P<m>1[0-2]|[1-9])\b(?:,? "
    r"(?:năm )?(?P<y>(?:19|20)\d\d)\b)?"
    r"|\bnăm (?P<y>(?:19|20)\d\d)\b",
    "thai": rf"(?:วันที่\s?)?(?:(?P<d>3[01]|[12]\d|[1-9])\s)?(?:เดือน)?"
    rf"(?P<thai_name>{'|'.join(_THAI_MONTHS)})(?:\s?(?:ปี|พ\.ศ\.|ค\.ศ\.)?\s?(?P<y>(?:19|20|"
    rf"25)\d\d))?"
    r"|(?:(?:ปี\s?)?(?:พ\.ศ\.|ค\.ศ\.)|ปี)\s?(?P<y>(?:19|20|25)\d\d)",
    "only_year": r"(?<![\w.:/$#-])(?P<y>(?:19|20)\d\d)(?![\w:/%]|[.,]\d|-\d{2})",
}
# Kinds that need no word such as "in", since they hardly mean anything else.
_UNAMBIGUOUS = ("relative", "recent", "ago", "iso", "vietnamese", "thai")

_MADE = (
    r"(?:that (?:was|were) |which (?:was|were) )?(?:uploaded|recorded|filmed|taken|posted|added|"
    r"captured|published|dated)"
)
_MADE_BEFORE = regex.compile(
    rf"\b{_MADE}\s*:?\s*$|(?:拍摄于|上传于|quay|đăng|được quay|ถ่าย(?:เมื่อ)?|\b(?:in|from) the)\s*$",
    regex.IGNORECASE,
)
_MADE_AFTER = regex.compile(
    r"(?P<made>(?:に|에)?\s?(?:拍摄|拍攝|拍|录制|录|上传|撮影(?:した|された)|撮った|録画(?:した|"
    r"された)|投稿(?:した|された)|"
    r"찍은|촬영한|촬영된|올린|녹화한)的?(?!照)|(?:の|에|的))",
)
_NOT_A_DATE_AFTER = regex.compile(
    r"'s?\b|\s(?:of|tonight)\b|の(?:天気|ニュース|新聞|夕食|朝食)|的(?:新闻|天气|报纸)|"
    r"\s\S*[은는던린운](?=\s\S)(?<!찍은|촬영한|올린)"
)
_AGO_LIMIT = regex.compile(
    r"(?:\bfrom )?\b(?:(?P<more>more than|over)|less than|within)\s+$", regex.IGNORECASE
)
_IS_ALONE = regex.compile(r"\s*(?:$|[\n,.;:!?)])")
_BARE_NEEDS_A_BORDER = regex.compile(r"today|yesterday", regex.IGNORECASE)


class _Period(NamedTuple):
    """A period and its place in the text."""

    start: int
    end: int
    kind: str
    first: date
    after: date  # the day after the last
    prefix: str | None  # of ISO dates in the period, such as `2026-10`; None for a week

    @property
    def begin(self) -> str:
        return self.prefix or self.first.isoformat()


def find_dates(text: str, now: datetime) -> list[Span]:
    """Finds the parts of a normalised text that limit when a video was made, in order."""
    found = ranges_and_singles(
        list(_periods(text, now.date())),
        range_of=partial(_range, text),
        single_of=partial(_single, text),
    )
    return [_with_made(text, span) for span in found]


def _periods(text: str, today: date) -> Iterator[_Period]:
    end = 0
    for match in _pattern().finditer(text):
        kinds = ("relative", *_PATTERNS)
        kind = next(kind for kind in kinds if match[f"kind_{kind}"] is not None)
        found = _READERS.get(kind, _absolute)(match, today)
        if found is not None and match.start() >= end:
            end = match.end()
            yield _Period(match.start(), end, kind, *found)


@cache
def _pattern() -> regex.Pattern[str]:
    relative = "|".join(
        f"(?P<{unit}_{count}>{words})" for (unit, count), words in _RELATIVE.items()
    )
    named = "|".join(f"(?P<kind_{name}>{pattern})" for name, pattern in _PATTERNS.items())
    # Patterns with a count go first.
    return regex.compile(f"{named}|(?P<kind_relative>{relative})", regex.IGNORECASE)


_Found = tuple[date, date, str | None] | None


def _relative(match: regex.Match[str], today: date) -> _Found:
    unit, count = next(key for key in _RELATIVE if match[f"{key[0]}_{key[1]}"] is not None)
    return _calendar(today, unit, count)


def _counted(match: regex.Match[str]) -> tuple[str, int]:
    unit = next(unit for unit in _COUNTED_UNITS if match[unit] is not None)
    return unit, round(number_of(match["n"]))


def _ago(match: regex.Match[str], today: date) -> _Found:
    return _calendar(today, *_counted(match))


def _recent(match: regex.Match[str], today: date) -> _Found:
    unit, count = _counted(match)
    first = _first_day(today, unit, count)
    if first is not None and unit in ("month", "year"):
        first = first.replace(day=min(today.day, 28))
    return (first, today + timedelta(days=1), None) if first else None


def _calendar(today: date, unit: str, count: int) -> _Found:
    """Returns the day, week, month or year that lies `count` units before the current one."""
    first = _first_day(today, unit, count)
    if first is None:
        return None
    if unit == "week":
        first -= timedelta(days=first.weekday())
        return first, first + timedelta(days=7), None
    return _whole(
        first.year,
        first.month if unit != "year" else None,
        first.day if unit == "day" else None,
    )


def _first_day(today: date, unit: str, count: int) -> date | None:
    """Goes back by days or weeks, or to the first day of an earlier month; None before year 1."""
    if unit in ("day", "week"):
        days = count * (7 if unit == "week" else 1)
        return today - timedelta(days=days) if days < today.toordinal() else None
    months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
    return date(months // 12, months % 12 + 1, 1) if months >= 12 else None


def _weekday(match: regex.Match[str], today: date) -> _Found:
    back = (today.weekday() - _WEEKDAYS.index(match["weekday"].casefold()) - 1) % 7 + 1
    return _calendar(today, "day", back)


def _absolute(match: regex.Match[str], today: date) -> _Found:
    groups = match.groupdict()
    year, month, day = (int(groups[name]) if groups[name] else None for name in "ymd")
    if groups["month_name"]:
        month = _MONTH_NAMES.index(groups["month_name"][:3].casefold()) + 1
    elif groups["thai_name"]:
        month = _THAI_MONTHS.index(groups["thai_name"]) + 1
    if year is None:  # the latest one that is not in the future
        year = today.year
        if (month or 1, day or 1) > (today.month, today.day if day else 31):
            year -= 1
    elif year >= 2400:
        year -= _BUDDHIST_ERA
    return _whole(year, month, day)


def _whole(year: int, month: int | None = None, day: int | None = None) -> _Found:
    try:
        first = date(year, month or 1, day or 1)
        if day:
            return first, first + timedelta(days=1), first.isoformat()
        if month:
            return first, date(year + month // 12, month % 12 + 1, 1), f"{year:04}-{month:02}"
        return first, date(year + 1, 1, 1), f"{year:04}"
    except ValueError:  # the 31st of February
        return None


_READERS: dict[str, Callable[[regex.Match[str], date], _Found]] = {
    "relative": _relative,
    "recent": _recent,
    "ago": _ago,
    "day_name": _weekday,
}


def _range(text: str, first: _Period, second: _Period) -> Span | None:
    if not is_range(text, first.end, second.start) or first.first >= second.first:
        return None
    start, end, is_marked = range_span(text, first.start, second.end)
    if not is_marked and not (
        first.kind in (*_UNAMBIGUOUS, "han") and second.kind in (*_UNAMBIGUOUS, "han")
    ):
        return None
    last = ("<=", second.prefix) if second.prefix else ("<", second.after.isoformat())
    return Span(start, end, ((">=", first.begin), last))


def _single(text: str, period: _Period) -> Span | None:
    start, end, operator, cue = compared(text, period.start, period.end, kind="date")
    if _NOT_A_DATE_AFTER.match(text, period.end):
        return None
    if period.kind == "ago" and (limit := _AGO_LIMIT.search(text[:start])):
        operator = "<" if limit["more"] else ">"  # "more than 3 days ago" is before that day
        return Span(limit.start(), end, _comparisons(period, operator))
    is_bare = period.kind == "only_year" or text[period.start : period.end].isalpha()
    if is_bare and period.kind != "relative" and cue.casefold().endswith(" the"):
        return None  # "from the 2002 film", "in the may sunshine"
    if cue.casefold() in ("from", "of") or (operator == ">=" and cue in ("từ", "从", "自")):
        operator = ">=" if cue in ("từ", "自", "从") and end == period.end else "="
    if operator is None and not _stands_alone(text, period):
        return None
    if _is_a_word(text, period, cue):
        return None
    return Span(start, end, _comparisons(period, operator or "="))


def _stands_alone(text: str, period: _Period) -> bool:
    """Whether a period means a date although no word compares it."""
    made_before = _MADE_BEFORE.search(text[max(0, period.start - 30) : period.start])
    made_after = _MADE_AFTER.match(text, period.end)
    if made_before or (made_after and len(made_after["made"]) > 1):
        return True
    if period.kind == "han":
        is_attribute = made_after and period.prefix and len(period.prefix) == 4
        return not is_attribute and text[period.end : period.end + 1] != "年"
    if period.kind not in _UNAMBIGUOUS:
        return False
    is_bare = _BARE_NEEDS_A_BORDER.fullmatch(text, period.start, period.end)
    return not is_bare or bool(_IS_ALONE.match(text, period.end))


def _is_a_word(text: str, period: _Period, cue: str) -> bool:
    """Whether the period is a word such as "may" or "march", or a number of things."""
    if period.kind == "english" and text[period.start : period.end].isalpha():
        return cue.casefold() in ("of", "up to", "during") or not cue
    return period.kind == "only_year" and cue.casefold() in ("of", "up to", "on", "từ", "trên")


def _comparisons(period: _Period, operator: str) -> tuple[tuple[str, str], ...]:
    if operator == "=":
        if period.kind == "recent" or (period.kind == "relative" and period.prefix is None):
            return ((">=", period.begin),)
        if period.prefix is None:
            return ((">=", period.begin), ("<", period.after.isoformat()))
        return (("=", period.prefix),)
    if operator == ">" and period.prefix is None:
        return ((">=", period.after.isoformat()),)
    if operator == "<=" and period.prefix is None:
        return (("<", period.after.isoformat()),)
    return ((operator, period.begin),)


def _with_made(text: str, span: Span) -> Span:
    """Extends the span by "filmed" before it and 撮影した after it."""
    start, end, comparisons = span
    head = text[max(0, start - 30) : start]
    if made := _MADE_BEFORE.search(head):
        start -= len(head) - made.start()
    if made := _MADE_AFTER.match(text, end):
        end = made.end()
    return Span(start, end, comparisons)
