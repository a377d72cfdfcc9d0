"""Which videos a search may find: `duration<60 and tag='cat'` -> an SQL condition over `videos`.

    where      = all { "or" all }
    all        = term { "and" term }
    term       = "not" term | "(" where ")" | comparison
    comparison = field ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
               | field ["not"] "in" "(" value { "," value } ")"
               | field ["not"] ("like" | "contains") value
               | field ["not"] "exists" | field "is" ["not"] "null"

Keywords may be in either case; names and `=` heed case; `like` (`%` any text, `_` any character)
and `contains` do not, for the letters a to z. A value, or a field with odd characters in its name,
stands in single or double quotes; a doubled quote means itself and a backslash is ordinary, as in
SQL. A single word needs no quotes (`tag=cat`): the right side is always a value, never a field.

Fields: `path`, `key` and `outcome`; `duration` in seconds (`90`, `30s`, `5min`, `1h30m`); `date`,
the metadata's own where it has one (ISO 8601 text, or a year), else when the file says that it was
recorded (`indexing.store.dates`), else when it was last modified, in UTC; `tag` or `tags`; and all
that the metadata holds, by its name, nested ones with dots (`camera.model`). `metadata.outcome` is
the metadata's where a name means something else.

- A list matches where any of its elements does. An object matches nothing.
- `!=` and `not in`, `not like`, `not contains` ask that the field is there and that the positive
  comparison fails: `tag != 'cat'` finds the tagged videos that have no tag `cat`. `not tag = 'cat'`
  finds the untagged ones as well. A field that is `null` is not there; an empty list is.
- A number matches numbers, and texts that are one as a whole (`"2019"`, not `"2019 AD"`); a word
  or what is in quotes matches texts; `true` and `false` match themselves. Texts are in the order
  of their code points.
- Dates are compared as far as the filter tells them: `date = 2026-11` is all of that month, and
  `date <= '2026-11-23'` includes that day. No time zone is converted.
"""

import difflib
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from reelseek.indexing.store.dates import CAPTURED
from reelseek.indexing.store.metadata import (
    FORBIDDEN,
    MAX_METADATA_DEPTH,
    MAX_METADATA_FIELDS,
    METADATA_SQL,
    is_sayable,
)

BUILT_IN_FIELDS = ("path", "key", "duration", "date", "outcome", "tag", "tags")
MAX_LENGTH = 10_000  # characters
MAX_DEPTH = 7  # parentheses inside each other; 10 overflow the stack of 100 in SQLite's parser
MAX_TERMS = 500  # fields and values; SQLite takes expressions that are 1,000 deep

Value: TypeAlias = str | int | float | bool
Condition: TypeAlias = tuple[str, list[Value]]

_COLUMNS = {
    "path": "videos.path",
    "key": "videos.key",
    "outcome": "videos.outcome",
    "duration": "videos.duration_seconds",
    "date": f"CASE WHEN json_type({METADATA_SQL}, '$.date') IN ('text', 'integer') "
    f"THEN replace(json_extract({METADATA_SQL}, '$.date'), ' ', 'T') "
    f"WHEN json_type({METADATA_SQL}, '$.{CAPTURED}.date') = 'text' "
    f"THEN json_extract({METADATA_SQL}, '$.{CAPTURED}.date') "
    "ELSE strftime('%Y-%m-%dT%H:%M:%S', videos.modified_ns / 1000000000, 'unixepoch') END",
}
# Beside a cast number SQLite reads a text that is a number as that number, and puts every other
# text above infinity.
_IS_NUMBER = "item.type IN ('integer', 'real', 'text') AND item.value <= CAST(9e999 AS REAL)"

_KEYWORDS = ("and", "or", "not", "in", "like", "contains", "exists", "is", "null")
_PATTERNS = ("like", "contains")
_EQUALITIES = ("=", "==", "!=", "<>")
_SYMBOLS = (*_EQUALITIES, "<", "<=", ">", ">=")
_TOKEN = re.compile(
    r"""\s* (?: (?P<string> '(?:[^']|'')*'(?!') | "(?:[^"]|"")*"(?!") )
              | (?P<symbol> <= | >= | == | != | <> | [=<>(),] )
              | (?P<word> [\w.:/@%+#*~-]+ )
              | (?P<end> \Z )
              | (?P<wrong> . ) )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_AMOUNT = r"([0-9]+(?:\.[0-9]+)?)"
_TIME = re.compile(rf"(?:{_AMOUNT}h)?(?:{_AMOUNT}m(?:in)?)?(?:{_AMOUNT}s)?", re.IGNORECASE)
_ISO_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d)?)?)?)?", re.ASCII)


@dataclass(frozen=True)
class Junction:
    """All of the parts, where `word` is `AND`, or any of them, where it is `OR`."""

    word: str
    parts: tuple["Node", ...]

    def condition(self) -> Condition:
        return _joined(f" {self.word} ", (part.condition() for part in self.parts))


@dataclass(frozen=True)
class Not:
    part: "Node"

    def condition(self) -> Condition:
        sql, values = self.part.condition()
        return f"NOT {sql}", values


@dataclass(frozen=True)
class Exists:
    """The field is there and is not null."""

    field: str

    def condition(self) -> Condition:
        if self.field in _COLUMNS:
            return "1", []
        return f"ifnull(json_type({METADATA_SQL}, ?), 'null') <> 'null'", [_json_path(self.field)]


@dataclass(frozen=True)
class Comparison:
    """The field, or an element of it, compares with one of the values.

    Attributes:
        operator: `=`, `<`, `<=`, `>`, `>=`, `like` or `contains`.
        values: one, or for `=` any number of them.
    """

    field: str
    operator: str
    values: tuple[Value, ...]

    def condition(self) -> Condition:
        return self._of_column() if self.field in _COLUMNS else self._of_metadata()

    def _of_column(self) -> Condition:
        operand = _COLUMNS[self.field]
        if self.field != "date" or self.operator in _PATTERNS:
            return self._test(operand, self.values)
        dates = map(str, self.values)
        return _joined(" OR ", (self._test(f"substr({operand}, 1, {len(d)})", [d]) for d in dates))

    def _of_metadata(self) -> Condition:
        texts = [value for value in self.values if isinstance(value, str)]
        tests = [self._of_item(value) for value in self.values if not isinstance(value, str)]
        if texts:
            test, values = self._test("item.value", texts)
            tests.append((f"item.type = 'text' AND {test}", values))
        test, values = _joined(" OR ", tests)
        # SQLite parses a row's metadata once for all its `json_extract`, but for each `json_each`.
        # Of two paths it makes a list, in which `true` stays what it is; the second finds nothing.
        items = f"json_each(json_extract({METADATA_SQL}, ?, '$[0]'), '$[0]') AS item"
        # A text for a key: not an element nor the value itself, but a member of an object.
        sql = f"EXISTS (SELECT 1 FROM {items} WHERE typeof(item.key) <> 'text' AND {test})"
        return sql, [_json_path(self.field), *values]

    def _of_item(self, value: Value) -> Condition:
        if isinstance(value, bool):
            return f"item.type = '{str(value).lower()}'", []
        return f"{_IS_NUMBER} AND item.value {self.operator} CAST(? AS NUMERIC)", [value]

    def _test(self, operand: str, values: Sequence[Value]) -> Condition:
        if self.operator == "=":
            return f"{operand} IN ({', '.join('?' * len(values))})", [*values]
        if self.operator == "contains":
            return f"instr(lower({operand}), lower(?)) > 0", [*values]
        return f"{operand} {self.operator} ?", [*values]


Node: TypeAlias = Junction | Not | Exists | Comparison


@dataclass(frozen=True)
class Filter:
    """A filter: its text, its meaning, and the fields that it names."""

    text: str
    root: Node
    fields: tuple[str, ...]

    def condition(self) -> Condition:
        """Returns an SQL expression over the table `videos`, never NULL, and its parameters in
        order."""
        sql, values = self.root.condition()
        return f"({sql})", values


def parse_filter(text: str) -> Filter:
    """Reads a filter; the language is in this module's docstring.

    Raises:
        ValueError: in one line: the filter, its fault, and the column.
    """
    return _Parser(text).filter()


def check_fields(where: Filter, known_metadata_fields: set[str]) -> None:
    """Refuses a filter that names a field which no video has: most often a slip.

    Args:
        known_metadata_fields: by `Catalogue.metadata_fields`; refuses nothing if they are cut off.

    Raises:
        ValueError: names the known fields, the most similar first.
    """
    if len(known_metadata_fields) >= MAX_METADATA_FIELDS:
        return
    for field in where.fields:
        parts = field.removeprefix("metadata.").split(".")[:MAX_METADATA_DEPTH]
        if field not in BUILT_IN_FIELDS and ".".join(parts) not in known_metadata_fields:
            names = _nearest_first(field, {*BUILT_IN_FIELDS, *known_metadata_fields})
            more = f" and {len(names) - 20} more" if len(names) > 20 else ""
            raise ValueError(
                f"where={_shown(where.text)}: no video has the field {_shown(field)!r}; "
                f"there are {', '.join(map(_shown, names[:20]))}{more}"
            )


def _nearest_first(field: str, names: set[str]) -> list[str]:
    near = difflib.get_close_matches(field[:60].lower(), {name.lower() for name in names}, n=5)
    rank = {name: i for i, name in enumerate(near)}
    return sorted(names, key=lambda name: (rank.get(name.lower(), len(rank)), name))


class _Token(NamedTuple):
    kind: str  # `string`, `word`, `symbol` (keywords too) or `end`
    text: str  # of a string, what is between its quotes; of a keyword, in lower case
    column: int


class _Parser:
    """Recursive descent: a method for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._position = 0
        self._fields: list[str] = []

    def filter(self) -> Filter:
        root = self._any_of(depth=0)
        if self._next.kind != "end":
            raise self._expected("`and` or `or`")
        return Filter(self._text, root, tuple(dict.fromkeys(self._fields)))

    def _any_of(self, depth: int) -> Node:
        parts = [self._all_of(depth)]
        while self._accept("or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Junction("OR", tuple(parts))

    def _all_of(self, depth: int) -> Node:
        parts = [self._term(depth)]
        while self._accept("and"):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Junction("AND", tuple(parts))

    def _term(self, depth: int) -> Node:
        negated = False
        while self._accept("not"):
            negated = not negated
        if not self._accept("("):
            node = self._comparison()
        elif depth == MAX_DEPTH:
            self._position -= 1
            raise self._wrong(f"more than {MAX_DEPTH} parentheses inside each other")
        else:
            node = self._any_of(depth + 1)
            self._require(")")
        return Not(node) if negated else node

    def _comparison(self) -> Node:
        field = self._field()
        if self._accept("is"):
            there: Node = Exists(field) if self._accept("not") else Not(Exists(field))
            self._require("null")
            return there
        negated = self._accept("not")
        if self._accept("exists"):
            return Not(Exists(field)) if negated else Exists(field)
        operator = self._accept("in", *_PATTERNS, *(() if negated else _SYMBOLS))
        if not operator:
            raise self._expected("an operator such as `=`, `<`, `in` or `contains`")
        values = self._values(field) if operator == "in" else [self._value(field, operator)]
        positive = "=" if operator in ("in", *_EQUALITIES) else operator
        node = Comparison(field, positive, tuple(values))
        if negated or operator in ("!=", "<>"):
            return Junction("AND", (Exists(field), Not(node)))
        return node

    def _field(self) -> str:
        token = self._next
        is_name = token.kind == "word" and not _NUMBER.fullmatch(token.text)
        if not is_name and token.kind != "string":
            raise self._expected("a field")
        if not all(map(is_sayable, token.text.split("."))):
            raise self._wrong("a field is names with dots between them, without double quotes")
        self._position += 1
        self._fields.append(token.text)
        return token.text

    def _values(self, field: str) -> list[Value]:
        self._require("(")
        values = [self._value(field, "=")]
        while self._accept(","):
            values.append(self._value(field, "="))
        self._require(")")
        return values

    def _value(self, field: str, operator: str) -> Value:
        token = self._next
        if token.kind not in ("string", "word"):
            raise self._expected("a value")
        try:
            value = _value(field, operator, token=token)
        except ValueError as error:
            raise self._wrong(str(error)) from None
        self._position += 1
        return value

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _accept(self, *symbols: str) -> str | None:
        """Steps over the next token if it is one of these, and returns it."""
        if self._next.kind != "symbol" or self._next.text not in symbols:
            return None
        self._position += 1
        return self._tokens[self._position - 1].text

    def _require(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self._expected(f"`{symbol}`")

    def _expected(self, what: str) -> ValueError:
        after = self._tokens[self._position - 1].text if self._position else ""
        found = f", found {_shown(self._next.text)!r}" if self._next.kind != "end" else ""
        return self._wrong(f"expected {what}{after and f' after {_shown(after)!r}'}{found}")

    def _wrong(self, what: str) -> ValueError:
        return _error(self._text, self._next.column, what=what)


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise _error(text, MAX_LENGTH + 1, what=f"longer than {MAX_LENGTH:,} characters")
    if forbidden := FORBIDDEN.search(text):
        what = f"the character U+{ord(forbidden[0]):04X} is not allowed"
        raise _error(text, forbidden.start() + 1, what=what)
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        content, column = match[kind], match.start(kind) + 1
        if kind == "wrong":
            what = "is never closed" if content in "'\"" else "has no meaning here"
            raise _error(text, column, what=f"{content} {what}")
        if kind == "string":
            content = content[1:-1].replace(content[0] * 2, content[0])
        elif content.lower() in _KEYWORDS:
            kind, content = "symbol", content.lower()
        tokens.append(_Token(kind, content, column))
    terms = [token for token in tokens if token.kind in ("string", "word")]
    if len(terms) > MAX_TERMS:
        what = f"more than {MAX_TERMS} fields and values"
        raise _error(text, terms[MAX_TERMS].column, what=what)
    return tokens


def _value(field: str, operator: str, *, token: _Token) -> Value:
    """Returns the value that a token stands for beside this field; the ValueError names the
    expected values."""
    text, is_pattern = token.text, operator in _PATTERNS
    if field == "duration":
        if is_pattern:
            raise ValueError(f"duration is a number, which {operator!r} does not compare")
        return _seconds(text)
    if field == "date" and not is_pattern:
        if not _ISO_DATE.fullmatch(text):
            raise ValueError(f"expected a date such as 2026-11-23T10:00, found {_shown(text)!r}")
        return text.replace(" ", "T")
    if field in _COLUMNS or is_pattern or token.kind == "string":
        return text
    if text.lower() in ("true", "false"):
        if operator not in _EQUALITIES:
            raise ValueError(f"{text} is neither before nor after anything")
        return text.lower() == "true"
    return _number(text) if _NUMBER.fullmatch(text) else text


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return _number(text)
    match = _TIME.fullmatch(text)
    if not match or not text:
        raise ValueError(f"expected seconds such as 90, 30s or 1h30m, found {_shown(text)!r}")
    hours, minutes, seconds = (_number(number or "0") for number in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _number(text: str) -> int | float:
    if text.lstrip("+-").isdigit() and len(text) < 19:  # so that SQLite's 64 bits hold it
        return int(text)
    if math.isinf(value := float(text)):
        raise ValueError(f"{_shown(text)} is too large")
    return value


def _json_path(field: str) -> str:
    name = "tags" if field == "tag" else field.removeprefix("metadata.")
    # Escaped by `json.dumps` as the catalogue's metadata are: SQLite compares names as written.
    return "$" + "".join(f".{json.dumps(part)}" for part in name.split("."))


def _joined(word: str, conditions: Iterable[Condition]) -> Condition:
    sqls, values = zip(*conditions, strict=True)
    return f"({word.join(sqls)})", list(itertools.chain(*values))


def _error(text: str, column: int, *, what: str) -> ValueError:
    first = max(0, column - 40)
    return ValueError(
        f"where={'...' * bool(first)}{_shown(text[first:])}: {what} (column {column})"
    )


def _shown(text: str) -> str:
    """Makes any text fit a message of one line."""
    line = "".join(c if c.isprintable() else " " for c in text[:60])
    return line if len(text) <= 60 else f"{line}..."
