import numpy as np
import pytest

from reelseek.recommendation import evaluate_completion as program
from tests.command_lines import run_in_this_process


@pytest.fixture
def files(tmp_path):
    def write(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_text(content)
        return [f"{name}={tmp_path / name}" for name in contents]

    return write


def run(*arguments):
    return run_in_this_process(program, "evaluate_completion", *arguments)


def test_queries_by_hand(files):
    log = "aab\t5\naac\t3\naad\t1\n"
    # For "a" and "aa": aac is second, aab first, aax is unknown; "a" alone leaves nothing to do.
    given = files(log=log, test="aac\t2\naab\t1\naax\t1\na\t9\n")
    metrics = run(*given, "prefix_letters=1-2").metrics
    expected = (2 / 2 + 1 + 0) / 4
    assert metrics["MRR@10"] == metrics["baselines"]["table"] == pytest.approx(expected)
    # In the test's own order: aac, aab and aax, which are equal.
    assert metrics["ceiling"] == pytest.approx((2 + 1 / 2 + 1 / 3) / 4, abs=1e-4)
    assert metrics["num_asked"] == 6
    assert metrics["p99_ms"] > 0


def test_days_are_answered_from_all_earlier_ones_of_both_files(files):
    log = "aab\t5\t2020-01-01\naac\t9\t2020-01-04\n"
    test = "aac\t1\t2020-01-02\naac\t1\t2020-01-03\naab\t1\t2020-01-05\n"
    metrics = run(*files(log=log, test=test), "prefix_letters=1").metrics
    # On the 2nd aac is unknown, on the 3rd it is second, on the 5th it leads aab by 11 to 5.
    assert metrics["MRR@10"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3, abs=1e-4)
    assert metrics["ceiling"] == 1
    assert list(metrics["best_forecasts"]) == ["2020-01-02", "2020-01-03", "2020-01-05"]


def test_a_test_day_is_not_known_beforehand(files):
    given = files(log="aab\t1\t2020-01-01\n", test="aac\t9\t2020-01-01\n")
    assert run(*given).metrics["MRR@10"] == 0


def test_a_surge_beats_the_plain_table(files):
    days = []
    for day in range(1, 25):
        for number in range(12):
            count = 300 if number == day // 2 else 3 + number
            days.append(f"co{number:02d} x\t{count}\t2020-01-{day:02d}")
    log = [line for line in days if line[-2:] <= "12"]
    test = [line for line in days if line[-2:] > "12"]
    metrics = run(*files(log="\n".join(log), test="\n".join(test))).metrics
    assert metrics["MRR@10"] > metrics["baselines"]["table"] + 0.05
    assert metrics["ceiling"] > metrics["MRR@10"]


def test_words_by_hand(files):
    log = "xa xbc\t3\nxa xbd\t1\nxe xbd\t1\n"
    given = files(log=log, test="xe xbd\t2\n")
    metrics = run(*given, "mode=word", "prefix_letters=2", "text_model=null").metrics
    # Both words have a letter left: of xe after "xe" none, so it is not asked; xbd after "xb".
    assert metrics["num_asked"] == 1
    assert metrics["baselines"]["unigram"] == pytest.approx(1 / 2)
    assert metrics["baselines"]["bigram"] == metrics["MRR@10"] == metrics["ceiling"] == 1
    metrics = run(*given, "mode=word", "prefix_letters=1", "text_model=null").metrics
    # After "x": the first word xe is second to xa; then the words are xa, xbc, xbd, xe by count
    # (4, 3, 2, 1), and after xe it is xbd.
    assert metrics["num_asked"] == 2
    assert metrics["baselines"]["unigram"] == pytest.approx((1 / 4 + 1 / 3) / 2, abs=1e-4)
    assert metrics["baselines"]["bigram"] == pytest.approx((1 / 2 + 1) / 2)


def test_words_with_dates(files):
    log = "xa xbc\t3\t2020-01-01\n"
    test = "xa xbd\t1\t2020-01-02\nxa xbd\t9\t2020-01-03\n"
    metrics = run(*files(log=log, test=test), "mode=word", "prefix_letters=2").metrics
    # xbd is unknown on the 2nd; on the 3rd, xbc has been asked 3 times and xbd once.
    assert metrics["baselines"]["bigram"] == pytest.approx(9 / 2 / 10)


def test_other_forms_of_files(files):
    bing = "Date\tQuery\tIsImplicitIntent\tState\tCountry\tPopularityScore\n"
    rows = [f"2020-01-{day:02d}\tmask {day % 3}\tTrue\tOhio\tUS\t{day}\n" for day in range(1, 9)]
    given = files(log=bing + "".join(rows[:5]), test=bing + "".join(rows[5:]))
    assert 0 < run(*given, "prefix_letters=1-4").metrics["MRR@10"] <= 1
    given = files(log="1:a dog runs\n2:a cat\n", test="3\t谍战电视剧\n4\ta cat runs\n")
    assert run(*given, "mode=word", "text_model=null").metrics["num_asked"] > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["prefix_letters=0"], "prefix_letters=0: must be a range such as 1-4"),
        (["prefix_letters=4-1"], "prefix_letters=4-1"),
        (["prefix_letters=many"], "prefix_letters=many"),
        (["mode=letter"], "mode=letter: must be one of query, word"),
    ],
)
def test_mistakes_are_one_line(files, arguments, reason):
    done = run(*files(log="a\n", test="b\n"), *arguments)
    assert done.returncode == 2
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_missing_files(files, tmp_path):
    done = run(f"log={tmp_path / 'none'}", *files(test="a\n"))
    assert (done.returncode, "log=" in done.stderr) == (2, True)


def test_tables_do_not_know_the_future():
    """A brute-force table of the days before, against the command's."""
    from collections import Counter

    from reelseek.recommendation.completion.query_evaluation import evaluate_queries

    draws = np.random.default_rng(0)
    days = {
        day: Counter({f"q{n} x": int(draws.integers(1, 9)) for n in draws.integers(0, 30, 12)})
        for day in range(100, 108)
    }
    log = {day: days[day] for day in range(100, 104)}
    test = {day: days[day] for day in range(104, 108)}
    total, found, weight = Counter(), 0.0, 0
    for day, asked in days.items():
        if day in test:
            for query, count in asked.items():
                for n in (1, 2):
                    same = [q for q in total if q[:n] == query[:n]]
                    ranked = sorted(same, key=lambda q: (-total[q], q))[:10]
                    found += count / (ranked.index(query) + 1) if query in ranked else 0
                    weight += count
        total.update(asked)
    result = evaluate_queries(log, test, (1, 2))
    assert result["baselines"]["table"] == pytest.approx(found / weight)
