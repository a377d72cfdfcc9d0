import pytest

from reelseek.text import scripts_of


@pytest.mark.parametrize(
    ("sentence", "scripts"),
    [
        ("a dog catches a frisbee", {"Latin"}),
        ("café, naïve, Straße, Łódź", {"Latin"}),
        ("cafe\u0301", {"Latin"}),  # the accent on its own belongs to any script
        ("кот на крыше", {"Cyrillic"}),
        ("γάτα", {"Greek"}),
        ("猫", {"Han"}),
        ("ねこがカーテンに登る", {"Hiragana", "Katakana", "Han"}),
        ("고양이", {"Hangul"}),
        ("قطة", {"Arabic"}),
        ("חתול", {"Hebrew"}),
        ("बिल्ली", {"Devanagari"}),
        ("แมว", {"Thai"}),
        ("კატა", {"Georgian"}),
        ("ᏪᏌ", {"Other"}),  # Cherokee, which is not in the list
        ("a cat, 猫, кот", {"Latin", "Han", "Cyrillic"}),
        ("", set()),
        ("1234 5:00 ... !? \u00b5 \u20ac \U0001f408 \u2603", set()),
    ],
)
def test_scripts_of_a_sentence(sentence, scripts):
    assert scripts_of(sentence) == scripts
