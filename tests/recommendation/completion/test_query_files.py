from collections import Counter
from datetime import date

import pytest

from reelseek.recommendation.completion.query_files import read_daily_counts, total_counts

FIRST, SECOND = (date(2020, 1, day).toordinal() for day in (1, 2))


@pytest.fixture
def read(tmp_path):
    def read(content: str | bytes):
        path = tmp_path / "queries.tsv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_daily_counts(path, option="log")

    return read


def test_counts_and_dates(read):
    found = read("Dog\t2\t2020-01-01\ndog \t1\t2020-01-01\ncat\t3\t2020-01-02\r\n\n")
    assert found == {FIRST: Counter({"dog": 3}), SECOND: Counter({"cat": 3})}
    assert total_counts(found, before=SECOND) == Counter({"dog": 3})
    assert total_counts(found) == Counter({"dog": 3, "cat": 3})


def test_counts_without_dates_and_queries_alone(read):
    assert read("dog\t2\ncat\t0\n42\t5\n") == {None: Counter({"dog": 2, "42": 5})}
    assert read("a dog\na cat\na dog\n") == {None: Counter({"a dog": 2, "a cat": 1})}


def test_a_table_of_bings(read):
    header = "Date\tQuery\tIsImplicitIntent\tState\tCountry\tPopularityScore\n"
    rows = "2020-01-01\tMasks\tTrue\tOhio\tUS\t7\n2020-01-01\tmasks\tTrue\tUtah\tUS\t1\n"
    assert read("\ufeff" + header + rows) == {FIRST: Counter({"masks": 8})}


def test_numbered_queries(read):
    assert read("1:after school: a guide\n2:dogs\n") == {
        None: Counter(["after school: a guide", "dogs"])
    }
    assert read("6\t谍战电视剧\n10\t恐龙 动画片\n") == {
        None: Counter(["谍战电视剧", "恐龙 动画片"])
    }


def test_priorities_of_trec_are_no_part_of_queries(read):
    lines = ["1:3:10 to yuma", "2:dogs", "20001:1:cats", "20002:1:birds", "20003:4:1955 plates"]
    assert list(read("\n".join(lines))[None]) == [
        "3:10 to yuma",
        "dogs",
        "cats",
        "birds",
        "1955 plates",
    ]


def test_odd_lines(read):
    # Folded to nothing, pasted text, and characters that some call ends of lines.
    found = read("\u200b\t1\n" + "x" * 500 + "\t1\na\x0bb\u2028c\t1\n")
    assert found == {None: Counter({"a b c": 1})}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "holds no query"),
        ("dog\tmany\n", "line 1 cannot be read"),
        ("dog\t1\ncat\t-1\n", "line 2 cannot be read"),
        ("dog\t1\t01/02/2020\n", "no date such as"),
        ("dog\t1\t2020-13-01\n", "line 1 cannot be read"),
        ("dog\t1\t2020-01-01\ncat\t1\n", "some lines have a date"),
        ("dog\tnan\n", "line 1 cannot be read"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(read, content, reason):
    with pytest.raises(ValueError, match=r"log=.*queries\.tsv") as caught:
        read(content)
    assert reason in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"test=.*cannot be read"):
        read_daily_counts(tmp_path / "none", option="test")
