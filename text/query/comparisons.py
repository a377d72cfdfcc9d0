"""Reads words that compare an amount or a date, such as "under X", "X 以内", "trước X".

Matches the words of all languages at once: mixed queries work, and no language need be known.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import regex

from reelseek.text.query.grammars.base import compiled

Part = TypeVar("Part")
Found = TypeVar("Found")

_REACH = 40  # characters to search on either side of an amount

_DURATION_BEFORE = {
    "<": r"\b(?:under|below|less than|fewer than|shorter than|briefer than|not even|dưới|ngắn hơn|"
    r"ít hơn|chưa đến|chưa tới)|不到|少于|短于|低于|小于|不足|ต่ำกว่า|น้อยกว่า|สั้นกว่า|ไม่ถึง|(?<![<>=])<",
    "<=": r"\b(?:at most|(?:no|not) (?:longer|more) than|not over|not exceeding|up to|max(?:imum)?"
    r"(?: of)?|không quá|tối đa|nhiều nhất|không dài hơn)|不超过|不多于|不长于|最多|至多|最长|"
    r"最大|最長|최대|최장|"
    r"ไม่เกิน|ไม่นานกว่า|สูงสุด|<=|≤",
    ">": r"\b(?:over|above|more than|longer than|exceeding|upwards of|beyond|trên|dài hơn|lâu hơn|"
    r"nhiều hơn|hơn|quá)|超过|多于|长于|大于|高于|นานกว่า|มากกว่า|ยาวกว่า|เกินกว่า|เกิน|(?<![<>=])>",
    ">=": r"\b(?:at least|(?:no|not) (?:less|shorter|fewer) than|minimum(?: of)?|ít nhất|tối "
    r"thiểu|"
    r"không dưới)|至少|最少|不少于|不短于|最低|최소|อย่างน้อย|ไม่ต่ำกว่า|ไม่น้อยกว่า|>=|≥",
    "~": r"\b(?:about|around|roughly|approximately|circa|khoảng|tầm)|大约|大概|約|约|약|ประมาณ|~",
}
_DURATION_AFTER = {
    "<": r"未満|より短い|弱の|미만|보다 짧은|이 안 되는",
    "<=": r"(?:or|and) (?:less|shorter|under|fewer)\b|max(?:imum)?\b|at (?:the )?most\b|tops\b|"
    r"以内|以下|之内|内(?!容)|이하|이내|hoặc ít hơn|trở xuống|หรือน้อยกว่า|ลงมา",
    ">": r"より長い|を超える|超の|초과|넘는|보다 긴",
    ">=": r"(?:or|and) (?:more|longer|over|up)\b|(?:at )?minimum\b|以上|이상|trở lên|hoặc hơn|"
    r"ขึ้นไป|\+",
    "~": r"左右|ぐらい|くらい|程度|정도",
}
_DATE_BEFORE = {
    "<": r"\bdate ?<|\b(?:before|prior to|earlier than|older than|trước)|ก่อน|早于",
    "<=": r"\bdate ?<=|\b(?:until|till|up to|(?:no|not) (?:later|newer) than|"
    r"cho đến|đến|tới)|截至|จนถึง|ถึง",
    ">": r"\bdate ?>|\b(?:after|later than|newer than|sau)|晚于|หลังจาก|หลัง",
    ">=": r"\bdate ?>=|\b(?:(?:no|not) (?:earlier|older) than|since|"
    r"starting (?:from|in|on)|from|kể từ|từ)|自从|自|从|ตั้งแต่",
    "=": r"\bdate ?[=:]|\b(?:in|on|during|of|dated|vào|trong|hồi|của)|于|ใน|เมื่อ|จาก|ของ",
}
_DATE_AFTER = {
    "<": r"之前|以前(?=$|[的拍录,\s\n])|より前|前に|이전에|전에|전(?!\p{Hangul})",
    "<=": r"or (?:before|earlier)\b|为止|まで|까지|以前の?|이전",
    ">": r"之后|以后|より後|より後の",
    ">=": r"on(?:wards?)?\b|and (?:later|after)\b|or (?:later|newer)\b|以来|起(?!来)|以降|から|"
    r"이후|부터|"
    r"trở đi|เป็นต้นไป",
}
_BETWEEN = (
    r"\s*(?:-|~|\b(?:and|to|through|until|till|và|đến|tới)\b|到|至|和|から|に|에서|부터|"
    r"ถึง|และ|จนถึง|กับ)\s*"
)
_RANGE_BEFORE = (
    r"\b(?:between|from|giữa|trong khoảng|khoảng|từ)\s+$|(?:ระหว่าง|ตั้งแต่|ระหว่าง|从|自|在)\s*$"
)
_RANGE_AFTER = r"\s*(?:\blong\b|之间|之間|まで|の間|사이|까지)"


class Compared(NamedTuple):
    """The span of an amount with the words that compare it."""

    start: int
    end: int
    operator: str | None  # None if no word compares the amount
    cue: str  # the words before the amount


_TABLES = {
    "duration": (_DURATION_BEFORE, _DURATION_AFTER),
    "date": (_DATE_BEFORE, _DATE_AFTER),
}


@cache
def _operator_patterns(kind: str) -> tuple[regex.Pattern[str], regex.Pattern[str]]:
    """Returns the patterns before and after an amount; group `o3` is a table's third operator."""
    before, after = (
        "|".join(f"(?P<o{i}>{words})" for i, words in enumerate(table.values()))
        for table in _TABLES[kind]
    )
    return compiled(rf"(?:{before})\s*(?:the\b\s*)?$"), compiled(rf"\s*(?:{after})")


def compared(text: str, start: int, end: int, *, kind: str) -> Compared:
    """Finds the words that compare the amount at `text[start:end]`.

    Args:
        text: The sentence.
        start: Start of the amount.
        end: End of the amount.
        kind: `duration` or `date`: "from" and "before" only compare dates.
    """
    operators_before, operators_after = (tuple(table) for table in _TABLES[kind])
    pattern_before, pattern_after = _operator_patterns(kind)
    head = text[max(0, start - _REACH) : start]
    before = pattern_before.search(head)
    after = pattern_after.match(text, end, end + _REACH)
    operator = None
    cue = ""
    if before:
        start -= len(head) - before.start()
        cue = before[0].strip()
        operator = operators_before[int(str(before.lastgroup)[1:])]
    if after and (operator is None or (operator in ("=", ">=") and kind == "date")):
        end = after.end()
        operator = operators_after[int(str(after.lastgroup)[1:])]
    return Compared(start, end, operator, cue)


def is_range(text: str, first_end: int, second_start: int) -> bool:
    """Whether the text between two amounts makes them a range."""
    return bool(compiled(_BETWEEN).fullmatch(text, first_end, second_start))


def range_span(text: str, start: int, end: int) -> tuple[int, int, bool]:
    """Returns a range's span including words such as "between", and whether there are any."""
    head = text[max(0, start - _REACH) : start]
    before = compiled(_RANGE_BEFORE).search(head)
    after = compiled(_RANGE_AFTER).match(text, end)
    return (
        start - (len(head) - before.start() if before else 0),
        after.end() if after else end,
        bool(before),
    )


def ranges_and_singles(
    parts: Sequence[Part],
    *,
    range_of: Callable[[Part, Part], Found | None],
    single_of: Callable[[Part], Found | None],
) -> Iterator[Found]:
    """Yields what amounts or periods mean, in order.

    Args:
        parts: Amounts or periods in the order of the sentence.
        range_of: Returns the range of two neighbours, or None.
        single_of: Returns the meaning of a part that belongs to no range, or None.
    """
    i = 0
    while i < len(parts):
        found = range_of(parts[i], parts[i + 1]) if i + 1 < len(parts) else None
        i += 2 if found else 1
        found = found or single_of(parts[i - 1])
        if found is not None:
            yield found
