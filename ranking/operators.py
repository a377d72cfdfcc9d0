"""The words of a query that limit, exclude or order: what a search box can suggest of them.

They are phrases that `text.query` takes for filters, in its six languages; tests ask it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

LENGTH, DATE, WITHOUT, ORDER, QUOTED = "length", "date", "not shown", "order", "exact words"

_LENGTHS = {
    "en": "under 30 seconds|under 1 minute|under 5 minutes|over 1 minute|over 10 minutes|"
    "shorter than 1 minute|longer than 5 minutes|less than 30 seconds|more than 10 minutes",
    "zh": "30秒以内|1分钟以内|超过10分钟",
    "ja": "30秒以内|1分以内|10分以上",
    "ko": "30초 미만|1분 미만|10분 이상",
    "vi": "dưới 30 giây|dưới 1 phút|dài hơn 10 phút",
}
_DATES = {
    "en": "today|yesterday|this week|last week|from last week|this month|last month|"
    "from last month|this year|last year|from last year",
    "zh": "今天|昨天|本周|上周|本月|上个月|今年|去年",
    "ja": "今日|昨日|今週|先週|今月|先月|今年|去年",
    "ko": "오늘|어제|이번 주|지난주|이번 달|지난달|올해|작년",
    "th": "วันนี้|เมื่อวาน|สัปดาห์ที่แล้ว|เดือนที่แล้ว|ปีที่แล้ว",
    "vi": "hôm nay|hôm qua|tuần trước|tháng trước|năm nay|năm ngoái",
}
_YEARS = ("in {}", "before {}", "since {}", "after {}")
# These wait for a word of the user's.
_OPEN = {"without ": WITHOUT, "then ": ORDER}


@dataclass(frozen=True)
class Operator:
    """One phrase.

    Attributes:
        phrase: as typed; ends with a blank where a word must follow.
        detail: what it does, in a word or two.
    """

    phrase: str
    detail: str


def operators(years: Sequence[int] = ()) -> list[Operator]:
    """Returns all of them, those that are used most first.

    Args:
        years: of the collection's videos.
    """
    found = [Operator(phrase, detail) for phrase, detail in _OPEN.items()]
    for tables, detail in ((_DATES, DATE), (_LENGTHS, LENGTH)):
        found += [
            Operator(phrase, detail) for table in tables.values() for phrase in table.split("|")
        ]
    found += [
        Operator(pattern.format(year), DATE)
        for year in sorted(years, reverse=True)
        for pattern in _YEARS
    ]
    return found
