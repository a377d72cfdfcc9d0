"""Reads numbers in digits or in words, in six languages."""

import regex

_WORDS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20,
    "thirty": 30, "forty": 40, "forty-five": 45, "fifty": 50, "sixty": 60, "ninety": 90,
    "half a": 0.5, "half an": 0.5, "a couple of": 2, "a few": 3,
    "một": 1, "hai": 2, "ba": 3, "bốn": 4, "năm": 5, "sáu": 6, "bảy": 7, "tám": 8, "chín": 9,
    "mười": 10, "hai mươi": 20, "ba mươi": 30, "nửa": 0.5,
    "한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "열": 10,
    "삼십": 30, "십": 10, "반": 0.5,
    "หนึ่ง": 1, "สอง": 2, "สาม": 3, "สี่": 4, "ห้า": 5, "หก": 6, "สิบ": 10, "ยี่สิบ": 20,
    "สามสิบ": 30, "ครึ่ง": 0.5,
}  # fmt: skip
_HAN_DIGITS = {sign: i for i, sign in enumerate("零一二三四五六七八九")} | {
    "两": 2,
    "兩": 2,
    "半": 0.5,
}

_LATIN = "|".join(
    sorted((regex.escape(word) for word in _WORDS if word[0].isascii() or "à" <= word[0] <= "ỹ"),
           key=len, reverse=True)
)  # fmt: skip
_OTHER = "|".join(
    sorted((word for word in _WORDS if word[0] > "\u0e00" and word[0] not in "\u1e00"),
           key=len, reverse=True)
)  # fmt: skip

# A number as part of a pattern.
NUMBER = (
    rf"(?:(?<![\d.,:])\d{{1,6}}(?:[.,]\d{{1,3}})?|\b(?:{_LATIN})\b|(?:{_OTHER})"
    r"|[一二三四五六七八九两兩]?十[一二三四五六七八九]?|[一二三四五六七八九两兩半])"
)


def number_of(text: str) -> float:
    """Returns the value of a match of `NUMBER`."""
    text = text.casefold()
    if text[0].isdigit():
        whole, _, decimals = text.partition(",")
        is_thousands = len(decimals) == 3 and len(whole) <= 3  # "1,000"; "2,5" has a decimal
        return float(whole + decimals if is_thousands else text.replace(",", "."))
    if text in _WORDS:
        return _WORDS[text]
    tens, ten, ones = text.partition("十")
    if not ten:
        return _HAN_DIGITS[tens]
    return _HAN_DIGITS.get(tens, 1) * 10 + _HAN_DIGITS.get(ones, 0)
