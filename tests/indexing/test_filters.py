"""The filter language: every answer of SQLite is held against the same question asked in Python."""

import datetime
import json
import random
import re
import sqlite3
from contextlib import closing

import pytest

from reelseek.indexing.filters import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TERMS,
    Comparison,
    Exists,
    Junction,
    Not,
    check_fields,
    parse_filter,
)
from reelseek.indexing.store.metadata import MAX_METADATA_FIELDS, metadata_fields


@pytest.fixture
def connection():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE videos (id INTEGER PRIMARY KEY, key TEXT NOT NULL, path TEXT NOT NULL, "
            "duration_seconds REAL NOT NULL, modified_ns INTEGER NOT NULL, outcome TEXT NOT NULL, "
            "metadata TEXT NOT NULL)"
        )
        yield connection


def add(connection, *, metadata=None, duration=10.0, modified="2026-01-02T03:04:05", key=None):
    """Adds a video and returns it; metadata that is a text is stored as it is."""
    moment = datetime.datetime.fromisoformat(modified + "+00:00")
    number = connection.execute("SELECT count(*) FROM videos").fetchone()[0] + 1
    key = key or f"{number}.mp4"
    stored = metadata if isinstance(metadata, str) else json.dumps(metadata or {}, sort_keys=True)
    connection.execute(
        "INSERT INTO videos VALUES (?, ?, ?, ?, ?, 'ok', ?)",
        (number, key, f"/videos/{key}", duration, int(moment.timestamp()) * 10**9, stored),
    )
    return {
        "id": number,
        "key": key,
        "path": f"/videos/{key}",
        "duration": duration,
        "modified": modified,
        "outcome": "ok",
        "metadata": metadata or {},
    }


def found(connection, text):
    """The ids of the videos that a filter finds, asked for as a caller would."""
    sql, values = parse_filter(text).condition()
    assert sql.count("?") == len(values)
    rows = connection.execute(f"SELECT id, ({sql}) FROM videos ORDER BY id", values).fetchall()
    assert {value for _, value in rows} <= {0, 1}  # never NULL: `not` would lose the video
    where = f"SELECT id FROM videos WHERE duration_seconds >= 0 AND {sql} ORDER BY id"
    ids = [number for (number,) in connection.execute(where, values)]
    assert ids == [number for number, value in rows if value]
    return ids


def matches(connection, metadata, text):
    connection.execute("DELETE FROM videos")
    add(connection, metadata=metadata)
    return bool(found(connection, text))


def refusal(text):
    with pytest.raises(ValueError) as caught:
        parse_filter(text)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith("where=") and message.isprintable() and len(message) < 300
    return message


# The oracle: what a filter means, in Python, beside a text that asks for it.

FIELDS = (
    *("path", "key", "outcome", "duration", "date", "tag", "tags", "title", "year", "mixed"),
    *("camera.model", "camera.lens.mm", "camera", "flag", "nowhere", "no.where", "metadata.tag"),
    *("metadata.outcome", "'shot on'", '"café.größe"', "'it''s'", "'in'", "metadata.date", "a\\b"),
)
TEXTS = (
    *("cat", "Cat", "dog", "it's", 'say "hi"', "", "2019", " 7 ", "7.5", "1e3", "-3", "12abc"),
    *(
        "É",
        "é",
        "日本",
        "🐈",
        "a%b",
        "a_b",
        "a\\b",
        "true",
        "null",
        "ok",
        "1.mp4",
        "[1]",
        "cat\ndog",
    ),
)
NUMBERS = (0, 1, 7, 7.5, -3, 1000, 2019, 0.1, 2**53 + 1, 1e300)
PATTERNS = ("%", "c%", "%a%", "C_t", "", "_", "%É%", "a\\%", "%.MP4", "/videos/%")
DATES = ("2026", "2026-01", "2026-01-02", "2026-01-02T03:04", "2026-01-02 03:04:05", "2025-12")
DURATIONS = {"30s": 30, "5min": 300, "1h30m": 5400, "1.5H": 5400, "0": 0, "10.5": 10.5, "1e1": 10}
ORDERS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
SQLITE_NUMBER = re.compile(r"[ \t\n\v\f\r]*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?[ \t\n\v\f\r]*", re.I)


def random_metadata(rng):
    def scalar():
        return rng.choice([rng.choice(TEXTS), rng.choice(NUMBERS), True, False, None])

    def anything(depth=2):
        kind = rng.random()
        if kind < 0.2 and depth:
            return [anything(depth - 1) for _ in range(rng.randrange(4))]
        if kind < 0.3 and depth:
            return {rng.choice("ab"): anything(depth - 1)}
        return scalar()

    candidates = {
        "tags": lambda: rng.sample(TEXTS, rng.randrange(4)),
        "tag": scalar,
        "title": lambda: rng.choice(TEXTS),
        "year": lambda: rng.choice([*NUMBERS, "2019"]),
        "mixed": anything,
        "camera": lambda: rng.choice(
            [{"model": scalar(), "lens": {"mm": scalar()}}, {"model": anything()}, scalar()]
        ),
        "flag": lambda: rng.choice([True, False, 1, "true"]),
        "outcome": scalar,
        "shot on": scalar,
        "café": lambda: {"größe": scalar()},
        "it's": scalar,
        "in": anything,
        "a\\b": scalar,
        "date": lambda: rng.choice(
            [*DATES, 2026, 2025.5, None, ["2026"], {"year": 2026}, "2026-01-02T03:04:05Z"]
        ),
    }
    return {name: make() for name, make in candidates.items() if rng.random() < 0.6}


def elements(video, field):
    """The values to compare, or None where the field is not there."""
    name = field[1:-1].replace("''", "'") if field[0] in "'\"" else field
    if name in ("path", "key", "outcome", "duration"):
        return [video[name]]
    own = video["metadata"].get("date")
    if name == "date":
        is_own = isinstance(own, (str, int))
        return [str(own).replace(" ", "T") if is_own else video["modified"]]
    value = video["metadata"]
    for part in ("tags" if name == "tag" else name.removeprefix("metadata.")).split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return None
    return value if isinstance(value, list) else [] if isinstance(value, dict) else [value]


def compares(element, operator, value):
    if isinstance(value, bool):
        return element is value
    if operator == "contains":
        return isinstance(element, str) and ascii_lower(value) in ascii_lower(element)
    if operator == "like":
        signs = {"%": ".*", "_": "."}
        pattern = "".join(signs.get(sign) or re.escape(sign) for sign in value)
        flags = re.IGNORECASE | re.ASCII | re.DOTALL
        return isinstance(element, str) and bool(re.fullmatch(pattern, element, flags))
    if isinstance(value, (int, float)):
        if isinstance(element, str) and SQLITE_NUMBER.fullmatch(element):
            element = float(element)
        if isinstance(element, bool) or not isinstance(element, (int, float)):
            return False
    elif not isinstance(element, str):
        return False
    return element == value if operator == "=" else ORDERS[operator](element, value)


def ascii_lower(text):
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)


def random_value(rng, field, operator):
    """A value as it is written, and what it means."""
    if field == "duration":
        return rng.choice(list(DURATIONS.items()))
    if field == "date" and operator not in ("like", "contains"):
        value = rng.choice(DATES)
        written = value if " " not in value and rng.random() < 0.5 else f"'{value}'"
        return written, value.replace(" ", "T")
    if field not in ("path", "key", "outcome", "date") and operator not in ("like", "contains"):
        kind = rng.random()
        if kind < 0.3:
            number = rng.choice(NUMBERS)
            return rng.choice([str(number), f"+{number}"]) if number > 0 else str(number), number
        if kind < 0.4 and operator in ("=", "!=", "in"):
            return rng.choice([("true", True), ("False", False)])
    value = rng.choice(PATTERNS if operator == "like" else TEXTS)
    if re.fullmatch("[A-Za-z]+", value) and value not in ("true", "null") and rng.random() < 0.5:
        return value, value
    quote = rng.choice("'\"")
    return quote + value.replace(quote, quote * 2) + quote, value


def random_comparison(rng):
    field = rng.choice(FIELDS)
    written_field = f"'{field}'" if "\\" in field else field
    operators = ["=", "==", "!=", "<>", *ORDERS, "in", "exists", "is"]
    operator = rng.choice(operators if field == "duration" else [*operators, "like", "contains"])
    shown = rng.choice([operator, operator.upper()])
    negated = operator in ("in", "exists", "is", "like", "contains") and rng.random() < 0.4
    no = " not" if negated else ""
    if operator == "exists":
        return f"{written_field}{no} {shown}", lambda v: (elements(v, field) is None) == negated
    if operator == "is":
        there = negated
        return (
            f"{written_field} {shown}{no} null",
            lambda v: (elements(v, field) is not None) == there,
        )
    number = rng.randrange(1, 4) if operator == "in" else 1
    values = [random_value(rng, field, operator) for _ in range(number)]
    written = ", ".join(text for text, _ in values)
    if operator == "in":
        written = f"({written})"
    negated = negated or operator in ("!=", "<>")
    meant = "=" if operator in ("in", "==", "!=", "<>") else operator

    def predicate(video):
        items = elements(video, field)
        if items is None:
            return False
        cut = field == "date" and meant not in ("like", "contains")
        hit = any(
            compares(item[: len(value)] if cut else item, meant, value)
            for item in items
            for _, value in values
        )
        return hit != negated

    return f"{written_field}{no} {shown} {written}", predicate


def random_filter(rng, depth=3):
    """A text, what it means as a function of a video, and how tightly its last word binds."""
    kind = rng.choice(["or", "and", "not", "(", "plain"]) if depth else "plain"
    if kind == "plain":
        return (*random_comparison(rng), 3)
    text, predicate, binding = random_filter(rng, depth - 1)
    if kind == "(":
        return f"({text})", predicate, 3
    if kind == "not":
        text = text if binding >= 2 else f"({text})"
        return f"NOT {text}", lambda video: not predicate(video), 2
    other_text, other, other_binding = random_filter(rng, depth - 1)
    if kind == "or":
        return f"{text} or {other_text}", lambda v: predicate(v) or other(v), 0
    text = text if binding >= 1 else f"({text})"
    other_text = other_text if other_binding >= 1 else f"({other_text})"
    return f"{text} AND {other_text}", lambda v: predicate(v) and other(v), 1


def test_sqlite_finds_what_python_finds(connection):
    rng = random.Random(0)
    videos = [
        add(
            connection,
            metadata=random_metadata(rng),
            duration=rng.choice([0.0, 10.0, 10.5, 30.0, 300.0, 5400.0]),
            modified=rng.choice(["2025-12-31T23:59:59", "2026-01-02T03:04:05"]),
            key=rng.choice([None, f"a'b{i}", f"日本\\{i}.MP4"]),
        )
        for i in range(80)
    ]
    num_some = 0
    for _ in range(1500):
        text, predicate, _ = random_filter(rng)
        expected = [video["id"] for video in videos if predicate(video)]
        assert found(connection, text) == expected, text
        num_some += 0 < len(expected) < len(videos)
    assert num_some > 700  # the questions were not idle


# The language


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a=1 or b=2 and c=3", "a=1 or (b=2 and c=3)"),
        ("a=1 and b=2 or c=3", "(a=1 and b=2) or c=3"),
        ("not a=1 and b=2", "(not a=1) and b=2"),
        ("not a=1 or b=2", "(not (a=1)) or (b=2)"),
        ("not not a=1", "a = 1"),
        ("A=1\n\tAND\r\nb=2", 'A=1 and "b"==2'),
        ("tag=cat", "tag = 'cat'"),
        ("tag IN(cat,dog)", "(tag in ('cat', \"dog\"))"),
        ("tag NOT LIKE c%", "tag not like 'c%'"),
        ("a exists", "a is not null"),
        ("a not exists", "a is null"),
        ("a <> 1", "a != 1"),
        ("tag='cat'and(a=1)", "tag='cat' and a=1"),
        ("duration<1h30m", "duration < 5400"),
        ("duration<'90s'", "duration < 1.5m"),
        ("duration<=1h1min1s", "duration<=3661"),
        ("date>2026-11-23T10:00", "date > '2026-11-23 10:00'"),
    ],
)
def test_two_ways_to_say_the_same(text, same):
    assert parse_filter(text).root == parse_filter(same).root


def test_a_filter_is_a_tree_of_its_parts():
    where = parse_filter("duration < 60 and tag != 'cat' or duration >= 1h")
    no_cat = (Exists("tag"), Not(Comparison("tag", "=", ("cat",))))
    short = (Comparison("duration", "<", (60,)), Junction("AND", no_cat))
    long = Comparison("duration", ">=", (3600.0,))
    assert where.root == Junction("OR", (Junction("AND", short), long))
    assert where.fields == ("duration", "tag")
    assert hash(where) == hash(parse_filter(where.text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a='it''s'", "it's"),
        ('a="it\'s"', "it's"),
        ('a="say ""hi"""', 'say "hi"'),
        ("a=''", ""),
        ("a=''''", "'"),
        (r"a='C:\new\'", "C:\\new\\"),
        ("a='2019'", "2019"),
        ("a=2019", 2019),
        ("a=-.5e1", -5.0),
        ("a=123456789012345678", 123456789012345678),
        ("a=99999999999999999999", 1e20),
        ("a=TRUE", True),
        ("a='true'", "true"),
        ("a=nan", "nan"),
        ("a=30s", "30s"),
        ("a=2026-11-23", "2026-11-23"),
        ("a=black-cat", "black-cat"),
        ("a=日本", "日本"),
        ("a=';drop table videos--'", ";drop table videos--"),
        ("key=007", "007"),
        ("duration='0.5'", 0.5),
    ],
)
def test_values(text, value):
    (got,) = parse_filter(text).root.values
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("metadata", "text", "expected"),
    [
        ({"tags": ["cat", "dog"]}, "tag='cat'", True),
        ({"tags": ["cat", "dog"]}, "tag!='cat'", False),
        ({"tags": ["dog"]}, "tag!='cat'", True),
        ({"tags": []}, "tag!='cat'", True),
        ({}, "tag!='cat'", False),
        ({}, "not tag='cat'", True),
        ({"tags": None}, "tag is null and tag not exists", True),
        ({"tags": "cat"}, "tags='cat'", True),
        ({"captions": ["a dog runs", "grass"]}, "captions contains 'DOG'", True),
        ({"captions": ["a dog runs", "grass"]}, "captions not contains 'dog'", False),
        ({"captions": ["100 %"]}, "captions contains '0 %'", True),
        ({"title": "Cat video"}, "title like 'ca%'", True),
        ({"title": "Cat video"}, "title like 'ca'", False),
        ({"year": 2019}, "year >= 2019 and year < 2019.5", True),
        ({"year": "2019"}, "year = 2019", True),
        ({"year": "2019 AD"}, "year > 0 or year <= 0", False),
        ({"year": 2019}, "year = '2019'", False),
        ({"year": 2019}, "year like '2019'", False),
        ({"flag": True}, "flag = 1 or flag = 'true'", False),
        ({"flag": 1}, "flag = true", False),
        ({"camera": {"model": "x"}}, "camera = 'x' or camera contains 'x'", False),
        ({"camera": {"model": "x"}}, "camera exists and camera.model = x", True),
        ({"a.b": 1}, "a.b exists", False),
        ({"5": 1}, "'5' = 1", True),
        ({"outcome": "win"}, "outcome = 'ok' and metadata.outcome = 'win'", True),
        ({"größe": "é"}, "größe = 'é'", True),
        ({"date": "2026-11-23"}, "date = 2026-11 and date <= '2026-11-23'", True),
        ({"date": "2026-11-23 10:30"}, "date <= 2026-11-23 and date > '2026-11-23T10:29'", True),
        ({"date": 2025}, "date = 2025", True),
        ({}, "date = 2026-01-02T03:04:05", True),
        ({}, "metadata.date exists", False),
        ({"date": "2026-11"}, "date like '2026-%'", True),
    ],
)
def test_meanings(connection, metadata, text, expected):
    assert matches(connection, metadata, text) is expected


@pytest.mark.parametrize("stored", ['{"tags": ["cat"], "x": NaN}', "", '"cat"', "[1]", "{"])
def test_metadata_that_sqlite_cannot_read_are_none(connection, stored):
    add(connection, metadata=stored)
    add(connection, metadata={"tags": ["cat"]})
    assert found(connection, "tag=cat") == [2]
    assert found(connection, "not tag=cat") == [1]
    assert found(connection, "date=2026") == [1, 2]
    assert "tags" in metadata_fields(connection)


# Refusals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "where=: expected a field (column 1)"),
        ("duration<", "where=duration<: expected a value after '<' (column 10)"),
        ("duration < )", "expected a value after '<', found ')' (column 12)"),
        ("duration", "expected an operator such as `=`, `<`, `in` or `contains` after 'duration'"),
        ("tag not = 3", "after 'not', found '=' (column 9)"),
        ("tag = and", "expected a value after '=', found 'and' (column 7)"),
        ("tag = black cat", "expected `and` or `or` after 'black', found 'cat' (column 13)"),
        ("(tag = cat", "expected `)` after 'cat' (column 11)"),
        ("tag = cat)", "expected `and` or `or` after 'cat', found ')' (column 10)"),
        ("tag in cat", "expected `(` after 'in', found 'cat' (column 8)"),
        ("tag in ()", "expected a value after '(', found ')' (column 9)"),
        ("tag in ('a' 'b')", "expected `)` after 'a', found 'b' (column 13)"),
        ("tag is cat", "expected `null` after 'is', found 'cat' (column 8)"),
        ("and tag=cat", "expected a field, found 'and' (column 1)"),
        ("60 > duration", "expected a field, found '60' (column 1)"),
        ("tag = 'cat", "' is never closed (column 7)"),
        ("tag = 'a'';", "' is never closed (column 7)"),
        ('tag = "', '" is never closed (column 7)'),
        ("tag = cat; drop table videos", "; has no meaning here (column 10)"),
        ("tag = 'x' && a = 1", "& has no meaning here (column 11)"),
        ("tag ! cat", "! has no meaning here (column 5)"),
        ("camera..model = 1", "a field is names with dots between them"),
        ("'say \"hi\"' = 1", "without double quotes (column 1)"),
        ("'' = 1", "a field is names"),
        ("duration < soon", "expected seconds such as 90, 30s or 1h30m, found 'soon' (column 12)"),
        ("duration < nan", "found 'nan'"),
        ("duration < ''", "expected seconds"),
        ("duration < 1.2.3s", "expected seconds"),
        ("duration like '1%'", "duration is a number, which 'like' does not compare (column 15)"),
        ("date < yesterday", "expected a date such as 2026-11-23T10:00, found 'yesterday'"),
        ("date in (2026, 11)", "found '11' (column 16)"),
        ("year < 1e999", "1e999 is too large (column 8)"),
        ("duration < 1e999", "1e999 is too large"),
        ("duration < -1e999", "-1e999 is too large"),
        (f"duration < {'9' * 400}h", "is too large"),
        ("flag > true", "true is neither before nor after anything (column 8)"),
        ("tag = \0", "the character U+0000 is not allowed (column 7)"),
        ("tag = '\x1b[31m'", "the character U+001B is not allowed (column 8)"),
        ("tag = '\ud800'", "the character U+D800 is not allowed (column 8)"),
        ("'; drop table videos; --", "' is never closed (column 1)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, message):
    assert message in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 100_000 + "a=1" + ")" * 100_000,
        "not " * 30_000 + "a=1",
        "'" * 100_001,
        "a=" + "9" * 100_000,
    ],
)
def test_what_is_too_long_is_refused(text):
    assert f"longer than {MAX_LENGTH:,} characters" in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * MAX_LENGTH, f"more than {MAX_DEPTH} parentheses inside each other (column 8)"),
        ("not (" * 1500 + "a=1" + ")" * 1500, "parentheses inside each other"),
        (" or ".join(["a=1"] * (MAX_TERMS // 2 + 1)), f"more than {MAX_TERMS} fields and values"),
        (f"a in ({', '.join('1' * MAX_TERMS)})", f"more than {MAX_TERMS} fields and values"),
        (" or ".join(["a exists"] * (MAX_TERMS + 1)), f"more than {MAX_TERMS} fields"),
        ("'" * (MAX_LENGTH - 1), "is never closed"),
        ("a='" + "''" * 4000, "is never closed"),
        ("a=" + "(" * 9000, "expected a value"),
        ("." * MAX_LENGTH, "a field is names"),
        (f"duration={'9' * 9900}h", "is too large"),
        (f"duration={'9' * 9900}x", "expected seconds"),
        (f"duration={'1.1' * 3300}", "expected seconds"),
        ("\n" * MAX_LENGTH, "expected a field"),
    ],
)
def test_what_is_too_much_is_refused(text, message):
    assert message in refusal(text)


@pytest.mark.parametrize("leaf", ["a != 1", "date in (2026, 2025)", "a.b.c like '%x%'", "a exists"])
def test_sqlite_takes_the_deepest_and_the_widest_that_is_allowed(connection, leaf):
    add(connection, metadata={"a": 2})
    deep = f"{'(tag=x or tag=y and not ' * MAX_DEPTH}{leaf}{')' * MAX_DEPTH}"
    assert found(connection, deep) in ([], [1])
    wide = " and ".join([leaf] * (MAX_TERMS // leaf.count(" ")))
    assert found(connection, wide) in ([], [1])
    listed = f"not key in ({', '.join(['x'] * (MAX_TERMS - 3))})"
    assert found(connection, f"{'(' * MAX_DEPTH}{listed} or a=2{')' * MAX_DEPTH}") == [1]
    assert found(connection, "not " * 2400 + "a=2") == [1]


def test_everything_of_the_user_is_a_parameter(connection):
    add(connection, metadata={"x') --": "'; drop table videos"})
    text = """ "x') --" = "'; drop table videos" and path not in ("') or 1=1 --") """
    sql, values = parse_filter(text).condition()
    assert "drop" not in sql and "--" not in sql and "1=1" not in sql
    assert values == ['$."x\') --"', "'; drop table videos", "') or 1=1 --"]
    assert found(connection, text) == [1]


def test_a_like_of_many_wildcards_is_answered(connection):
    add(connection, metadata={"title": "a" * 5000})
    assert found(connection, f"title like '{'%a' * 2000}b'") == []
    assert found(connection, f"title like '{'%_' * 2000}%'") == [1]
    assert found(connection, f"title contains '{'a' * 4999}'") == [1]


# Fields


def test_metadata_fields_are_named_with_dots(connection):
    add(connection, metadata={"tags": ["x"], "camera": {"model": "x", "lens": {"mm": {"y": 1}}}})
    add(connection, metadata={"year": 1, "camera": "none", "größe": None, "it's": 1, "empty": {}})
    add(connection, metadata={"a.b": 1, 'a"b': {"c": 1}, "": 1, "in": {"d.e": 1}, "\ud800": 1})
    assert metadata_fields(connection) == {
        *("tags", "camera", "camera.model", "camera.lens", "camera.lens.mm", "year", "größe"),
        *("it's", "empty", "in"),
    }


def test_metadata_fields_of_nothing(connection):
    assert metadata_fields(connection) == set()
    add(connection)
    assert metadata_fields(connection) == set()


def test_metadata_fields_are_cut_off_and_then_refuse_nothing(connection):
    add(connection, metadata={f"field{i}": {"a": {"b": 1}} for i in range(MAX_METADATA_FIELDS)})
    names = metadata_fields(connection)
    assert MAX_METADATA_FIELDS <= len(names) < MAX_METADATA_FIELDS + 3
    check_fields(parse_filter("anything = 1"), names)


def test_fields_that_some_video_has_pass():
    known = {"year", "camera", "camera.model", "a", "a.b", "a.b.c", "outcome"}
    for text in ("duration<60", "path=x or key=x and outcome=x", "tag=x", "tags=x and date=2026",
                 "year=1 and camera.model=x", "a.b.c.d.e=1", "metadata.outcome=1"):  # fmt: skip
        check_fields(parse_filter(text), known)


@pytest.mark.parametrize(
    ("field", "first"),
    [
        ("dration", "duration, "),
        ("Year", "year, "),
        ("camera.modle", "camera.model, camera, "),
        ("metadata.date", "metdata, "),
        ("zzz", "camera, camera.model, "),
        ("z" * 5000, "camera, "),
    ],
)
def test_an_unknown_field_is_refused_with_those_near_it(field, first):
    with pytest.raises(ValueError) as caught:
        check_fields(
            parse_filter(f"tag=cat and {field}=1"), {"year", "camera", "camera.model", "metdata"}
        )
    message = str(caught.value)
    assert message.startswith(f"where=tag=cat and {field[:40]}")
    shown = field if len(field) <= 60 else f"{field[:60]}..."
    assert f": no video has the field '{shown}'; there are {first}" in message
    assert "\n" not in message and "outcome" in message


def test_of_many_fields_the_nearest_are_named():
    known = {f"field{i:03}" for i in range(500)} | {"evil\x1b[31m\nname"}
    with pytest.raises(ValueError, match=r"there are field123, .* and 488 more$") as caught:
        check_fields(parse_filter("fields123=1"), known)
    assert str(caught.value).isprintable()
