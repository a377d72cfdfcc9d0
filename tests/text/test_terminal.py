import unicodedata

import pytest

from reelseek.text.terminal import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("esc\x1b[31mred\nline.mp4", r"esc\x1b[31mred\nline.mp4"),
        ("cr\rover\ttab\x07\x08\x7f", r"cr\rover\ttab\x07\x08\x7f"),
        ("c1\x9b31m\x85", r"c1\x9b31m\x85"),
        ("exe\u202egpj.mp4", "exe\\u202egpj.mp4"),
        (
            "\u2066isolate\u2069 \u200f\u061c\u200b\ufeff",
            r"\u2066isolate\u2069 \u200f\u061c\u200b\ufeff",
        ),
        ("lines\u2028and\u2029paragraphs", r"lines\u2028and\u2029paragraphs"),
        (b"caf\xe9.mp4".decode(errors="surrogateescape"), r"caf\udce9.mp4"),
        ("\U000e0041tag", r"\U000e0041tag"),
    ],
)
def test_what_a_terminal_would_obey_or_cannot_show_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog.mp4",
        "日本語\u3000旅行.mp4",
        "\u0645\u06cc\u200c\u0631\u0648\u0645",
        "👩\u200d🚀 ❤️",
        "שלום",
        "C:\\new\\table",
    ],
)
def test_names_of_every_script_stay_as_they_are(text):
    assert printable(text) == text


def test_no_character_of_unicode_gets_past():
    for code in range(0x110000):
        shown = printable(chr(code))
        shown.encode()
        for character in shown:
            category = unicodedata.category(character)
            assert category not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
            assert category != "Cf" or character in "\u200c\u200d"


def test_lines_stay_lines():
    assert printable_lines("query\x1b[2J\ntext\u202e") == "query\\x1b[2J\ntext\\u202e"
