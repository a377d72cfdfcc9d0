"""A sentence -> the sentence without what is not to be seen, and that as phrases.

    "beach without people"  -> "beach", ("people",)
    人のいないビーチ           -> ビーチ, (人,)

Each pattern has a group `not_seen`, or several; what else it matches is the words that negate. Not
read as a negation: idioms ("no parking sign", 믿을 수 없는), words that look like one (無人機,
không gian), hyphens within words, dashes.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import regex

from reelseek.text.query.constraints import CUT
from reelseek.text.query.quoting import SIGN

_WORD = rf"(?:{SIGN}|[\p{{L}}\p{{M}}\p{{N}}'][\p{{L}}\p{{M}}\p{{N}}'\-_]*)"
_END = r"(?=\s*(?:$|[\n,.;:!?。]))"

# English: what ends the phrase after "without".
_STOPS = (
    r"in(?! the (?:background|foreground|back|front|frame|picture)\b)|on|at|during|under|near|"
    r"behind|"
    r"beside|next|over|through|while|when|from|for|then|but|that|which|who|with|without|as|to|"
    r"into|"
    r"under|along|against|across|between|before|after|by|no|not|except|excluding|is|are|and "
    r"(?:an?|the)"
)
_PHRASE = (
    rf"{_WORD}(?:(?!,? and (?:an?|the)\b)(?:,? (?:or|and|nor))? (?!"
    rf"(?:{_STOPS})\b){_WORD}){{0,7}}"
)
_GERUND_OR_NOUN = (
    r"(?!(?:only|bad|yet|so|very|enough|even|sure|really|just|to|be|quite|all|"
    r"much|many|far|long|a single|one)\b)"
)
_IDIOM_WITHOUT = (
    r"(?:an? )?(?:doubt|question|borders|end|limits?|fail|delay|cause|warning|"
    r"words|further|reason)\b"
)
_IDIOM_NO = (
    r"(?:way|man'?s?|one|body|doubt|matter|longer|more|less|country|time|problem|idea|limits?|"
    r"fear|"
    r"war|kidding|signal|worries|comment|escape|future|place|hands?|name|thanks|good|big deal|"
    r"evil|"
    r"\d+|\w+ing|entry|trespassing|\w+ (?:sign|signs|symbol|zone|area|policy|logo)|entry sign|"
    r"\w+ \w+ sign)\b"
)
_ENGLISH = (
    rf"\b(?:but )?without (?!{_IDIOM_WITHOUT})(?:any )?(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:with|has|having|but|and|there (?:is|are)) no (?!{_IDIOM_NO})"
    rf"(?P<not_seen>{_PHRASE})",
    rf"(?<!\b(?:says?|said|saying|shout\w*|scream\w*|yes|or|word|oh),? )(?:,\s*|(?<![\w'-]))no "
    rf"(?!{_IDIOM_NO})(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:but|and) not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})",
    rf"(?:\b(?:who|that|which) (?:is|are) )not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})",
    rf",\s*not {_GERUND_OR_NOUN}(?P<not_seen>{_PHRASE})(?:,(?= ))?",
    rf"(?<!\b(?:is|are|was|were|do|does|did|can|could|will|would|should|shall|may|might|must|has|"
    rf"have|had|or|why|if|or|am|be|whether|of|course)) not {_GERUND_OR_NOUN}"
    rf"(?P<not_seen>{_PHRASE})",
    rf"(?:,\s*|\b)(?:except|excluding|other than)(?: for)? (?!that\b|when\b|if\b)"
    rf"(?P<not_seen>{_PHRASE})",
)
_EVERYWHERE = (
    rf"(?:(?<=\s)|^)-(?P<not_seen>{SIGN}|\p{{L}}[\p{{L}}\p{{M}}\p{{N}}'_\-]*)"
    rf"(?![\p{{L}}\p{{N}}\-])",
)
_NOT_HAN = r"[^的,\uff0c。;\s]"
_CHINESE = (
    rf"(?<![有])(?:没有|沒有|不含|不包含|不带|沒|没)(?!问题|关系|办法|意义|想到|关联|尽头|人知|"
    rf"完|了)(?P<not_seen>{_NOT_HAN}{{1,10}})的(?=\S)",
    rf"无(?P<not_seen>人|车|字幕|水印|文字|声音|音乐|广告)(?:的|{_END})",
    rf"(?:^|[,\uff0c\s])\s*(?<!有)(?:而不是|但不要|不要|不含|没有|沒有|不包括|排除|除去|不是)"
    rf"(?P<not_seen>{_NOT_HAN}{{1,12}}){_END}",
    rf"(?<=\p{{Han}})(?<!有)(?:没有|沒有)(?!问题|关系|办法|意义|想到|尽头|了|过)"
    rf"(?P<not_seen>\p{{Han}}{{1,4}}){_END}",
    rf"除了?(?P<not_seen>{_NOT_HAN}{{1,10}}?)(?:以外|之外|外)的?(?:所有|其他|其它)?",
    rf"(?:不|没)(?=[戴穿带拿骑背抽系])(?P<not_seen>{_NOT_HAN}{{2,8}})的(?=\S)",
    rf"不是(?P<not_seen>{_NOT_HAN}{{1,6}})的(?=\S)",
)
_NOUN_JA = r"[\p{Han}\p{Katakana}ー々]+"
_KANA_NOUN = (
    rf"(?:{SIGN}|{_NOUN_JA}|(?<![\p{{Hiragana}}\p{{Han}}])(?:ねこ|いぬ|ひと|こども|くるま))"
)
_NOT_JA = (
    r"(?!(?:限り|果て|仕方|仕様|間違い|問題|意味|申し訳|何|他|途方|心配|数|違い|名|底|台|"
    r"文句)(?:の|が|は|も|なし|無し))"
)
_JAPANESE = (
    rf"{_NOT_JA}(?P<not_seen>{_KANA_NOUN}(?:や{_KANA_NOUN})*)[のがはも](?:写って|映って|入って|"
    rf"出て)?(?:い|居)?(?:ない|無い)"
    r"(?=$|[\n,。\s\p{Han}\p{Katakana}]|[のこあ]\S)",
    rf"{_NOT_JA}(?P<not_seen>{_KANA_NOUN}(?:や{_KANA_NOUN})*)(?:なし|無し|抜き)(?:の(?=\S)|で|"
    rf"{_END}|(?=\s))",
    rf"(?P<not_seen>{_KANA_NOUN}(?:や{_KANA_NOUN})*)(?:以外|を除く|を除いた|を除外した)の?",
    r"(?P<not_seen>[\p{Han}\p{Katakana}ー]+を[\p{Hiragana}\p{Han}]{1,6}?[てで])い?ない"
    r"(?=[\p{Han}\p{Katakana}])",
    rf"(?P<not_seen>{_KANA_NOUN})(?:では|じゃ)ない(?=[\p{{Han}}\p{{Katakana}}])",
)
_NOT_KO = (
    r"(?!(?:수|끊임|끝|상관|어이|쓸데|소용|틀림|변함|꾸밈|거침|철|버릇|정신|문제|관심|"
    r"필요|말할 것도|할 수|\p{Hangul}+ 수)(?:이|가|도|은|는)?\s?(?:없|제외))"
)
_KOREAN = (
    rf"(?<!\p{{Hangul}}){_NOT_KO}(?P<not_seen>\p{{Hangul}}+?(?:(?:이나|나|와|과|하고) "
    rf"\p{{Hangul}}+?)?)(?:이|가|은|는|도)?\s?(?:없는|없이|없음)(?!\p{{Hangul}})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+?)(?:을|를|은|는)?\s?(?:제외하고|제외한|제외|빼고|"
    r"뺀|말고)(?!\p{Hangul})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+[을를] \p{Hangul}+?)지 ?(?:않은|않는|않고)"
    r"(?!\p{Hangul})",
    r"(?<!\p{Hangul})(?P<not_seen>\p{Hangul}+?)(?:이|가) 아닌(?!\p{Hangul})",
)
_STOPS_TH = r"(?:ใน|บน|ที่|ตอน|ขณะ|แต่|ก่อน|หลัง|ระหว่าง|ริม|ข้าง|อยู่|เลย|กลาง|เวลา)"
_PHRASE_TH = rf"(?:(?!{_STOPS_TH})[\p{{Thai}}]){{1,24}}"
_THAI = (
    rf"(?:ที่|ซึ่ง|โดย|แบบ|แต่)?(?<=\S)(?:ไม่มี|ไร้|ปราศจาก)(?!ปัญหา|วัน|ใคร|อะไร|ทาง|ที่|เงื่อนไข|ขีดจำกัด|สิ้นสุด)"
    rf"(?P<not_seen>{_PHRASE_TH})",
    rf"(?<=\S\s)(?:ไม่มี|ไร้|ไม่เอา)(?!ปัญหา|วัน|ใคร|อะไร|ทาง|ที่)(?P<not_seen>{_PHRASE_TH})",
    rf"(?:ยกเว้น|ไม่รวม|นอกจาก)\s?(?P<not_seen>{_PHRASE_TH})",
    rf"(?:ที่|ซึ่ง)ไม่ใช่(?P<not_seen>{_PHRASE_TH})",
    rf"(?:ที่|ซึ่ง)?ไม่(?P<not_seen>(?:ใส่|สวม|ถือ){_PHRASE_TH})",
)
_STOPS_VI = (
    r"trong|trên|ở|tại|vào|dưới|nhưng|khi|lúc|với|của|để|sau|trước|gần|bên|đang|mà|"
    r"không|từ"
)
_PHRASE_VI = rf"{_WORD}(?: (?!(?:{_STOPS_VI})\b){_WORD}){{0,5}}"
_NOT_VI = r"(?!(?:gì|ai|việc|vấn đề|thật|khả năng|sao|giới hạn|điểm dừng|nghi ngờ)\b)"
_VIETNAMESE = (
    rf"(?:,\s*|\b)(?:mà )?(?:không (?:hề )?có|chẳng có|không bao gồm|không phải(?: là)?|ngoại "
    rf"trừ|loại trừ|trừ)"
    rf" {_NOT_VI}(?:bất kỳ |một |bóng )?(?P<not_seen>{_PHRASE_VI})",
    rf"(?:,\s*|\b)không (?P<not_seen>(?:(?:đội|đeo|mặc|mang|cầm|đi giày)\b(?: (?!"
    rf"(?:{_STOPS_VI})\b){_WORD}){{0,3}}|người|xe|phụ đề|âm thanh))(?!\p{{L}})",
)
_SPLIT = {
    "en": r",? (?:or|and|nor) |, ",
    "vi": r" (?:hoặc|và|hay) |, ",
    "th": r"และ|หรือ|กับ",
    "ko": r"(?:이나|나|와|과|하고) ",
    "zh": r"和|或者?|以及|,",
    "ja": r"や",
}
_DETERMINER = regex.compile(
    r"^(?:an?|the|any|some|other|bất kỳ|các|những|任何)\s+|^任何", regex.IGNORECASE
)
# What is left of a clause that was cut: "a man who is", "but", a comma before nothing.
_DANGLING = regex.compile(
    rf"(?<!\s)\s++(?:who|that|which)(?: (?:is|are))?\s*(?={CUT}|$)"
    rf"|(?<![\s,])[\s,]++(?:but|and|with|nhưng|mà)\s*(?={CUT}|$)",
    regex.IGNORECASE,
)
_BY_LANGUAGE = {
    "en": (
        regex.compile(r"\b(?:without|no|not|except|excluding|other)\b", regex.IGNORECASE),
        _ENGLISH,
    ),
    "zh": (regex.compile(r"[没沒无除不]"), _CHINESE),
    "ja": (regex.compile(r"ない|無い|なし|無し|抜き|以外|除"), _JAPANESE),
    "ko": (regex.compile(r"없|제외|빼고|뺀|말고|않|아닌"), _KOREAN),
    "th": (regex.compile(r"ไม่|ไร้|ปราศจาก|ยกเว้น|นอกจาก"), _THAI),
    "vi": (regex.compile(r"không|trừ|chẳng", regex.IGNORECASE), _VIETNAMESE),
}


class _Negation(NamedTuple):
    start: int
    end: int
    phrases: tuple[str, ...]


@cache
def _compiled(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.IGNORECASE)


def lift_negations(text: str, *, language: str = "en") -> tuple[str, tuple[str, ...]]:
    """Takes out of a normalised sentence what is not to be seen.

    Args:
        language: ISO 639-1; only its patterns, and English ones among Latin letters, are tried.

    Returns:
        The text, with `CUT` where something was taken out, and the phrases, in order.
    """
    found: list[_Negation] = []
    for name, (hint, patterns) in _BY_LANGUAGE.items():
        is_other = {"zh": "ja", "ja": "zh"}.get(name) == language
        if not is_other and not (name == "en" and language == "vi") and hint.search(text):
            for pattern in patterns:
                found += _negations(text, pattern, name)
    found += _negations(text, _EVERYWHERE[0], "")
    excluded: list[tuple[int, str]] = []
    kept: list[_Negation] = []
    for negation in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or negation.start >= kept[-1].end:
            kept.append(negation)
            excluded += [(negation.start, phrase) for phrase in negation.phrases]
    for negation in reversed(kept):
        text = text[: negation.start] + CUT + text[negation.end :]
    if kept:
        text = _DANGLING.sub("", text)
    return text, tuple(dict.fromkeys(phrase for _, phrase in sorted(excluded, key=lambda p: p[0])))


def _negations(text: str, pattern: str, language: str) -> Iterator[_Negation]:
    for match in _compiled(pattern).finditer(text):
        if language == "en" and _is_title(match):
            continue
        parts = [match["not_seen"]]
        if language in _SPLIT:
            parts = _compiled(_SPLIT[language]).split(match["not_seen"])
        phrases = tuple(_DETERMINER.sub("", part.strip(" ,")) for part in parts)
        if all(phrases):
            yield _Negation(match.start(), match.end(), phrases)


def _is_title(match: regex.Match[str]) -> bool:
    """Whether the negating word is written as in "No Time to Die" or "The House With No Name"."""
    cue = match.string[match.start() : match.start("not_seen")].strip(" ,")
    return match["not_seen"][:1].isupper() and cue.split()[-1][:1].isupper() and not cue.isupper()
