"""A video's entry, and what was read or heard in it -> documents for a search by words.

A video has one document of all that is said about it, and one of each timed text. In the former a
word counts as often as it is there, times the weight of the field it is in, as does the length
(Robertson, Zaragoza and Taylor, "Simple BM25 Extension to Multiple Weighted Fields", CIKM 2004,
section 4): a field that few videos have would be scored wrongly by itself. Words are those of
`text.segmentation`; English endings are cut off, of documents as of queries, so that "dogs" finds
"dog".
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import regex

from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.texts import TimedText

if TYPE_CHECKING:
    from tantivy import Document, Schema, TextAnalyzer

# How often a word of each field counts.
FIELDS = {"title": 3, "tags": 2, "captions": 1, "name": 1}

_VERSION = 2  # of what this module makes of a text
# What decides where a word of some languages ends.
_SEGMENTERS = ("rjieba", "fugashi", "unidic-lite", "python-mecab-ko-dic", "pyvi", "icu4py")
_NO_WORD = regex.compile(r"[^\p{L}\p{M}\p{N}]+")  # in names, such as underscores
_LONGEST = 200  # characters of a word; what is longer is no word
_SNIPPET = 240  # characters of a text that a hit shows


@cache
def analysis() -> str:
    """What the words of a text, and the files that hold them, depend on; those of another analysis
    are made anew."""
    found = [f"{_VERSION}", f"tantivy {version('tantivy').rpartition('.')[0]}"]
    for package in _SEGMENTERS:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def is_readable(other: str) -> bool:
    """Whether documents of another analysis have the same fields, if not quite the same words."""
    return other.partition(",")[0] == f"{_VERSION}"


def is_installed() -> bool:
    """Whether there is tantivy, which indexes the words."""
    try:
        import tantivy  # noqa: F401
    except ImportError:
        return False
    return True


def texts_of(record: VideoRecord) -> dict[str, list[str]]:
    """What is said about a video, by field; its name is that of the file and the folders."""
    return {
        "title": _strings(record.metadata.get("title")),
        "captions": _strings(record.metadata.get("captions")),
        "tags": _strings(record.metadata.get("tags")),
        "name": [_spaced_name(record.key)],
    }


@lru_cache(maxsize=10_000)
def _spaced_name(key: str) -> str:
    name = key.removesuffix(PurePosixPath(key).suffix)
    return _NO_WORD.sub(" ", plain(name))


def words_of(texts: Iterable[str]) -> list[str]:
    """The words of texts, as they are written."""
    from reelseek.text.segmentation import words  # whose patterns take a moment to compile

    return [word for text in texts for word in words(plain(text)) if len(word) <= _LONGEST]


def stems(found: Sequence[str]) -> list[str]:
    """Words without English endings; the same word may come back several times."""
    return _stemmer().analyze(plain(" ".join(found)))


def stems_by_word(found: Sequence[str]) -> dict[str, list[str]]:
    """The stems of each word, which are one, but of a word with a blank in it."""
    every = stems(found)  # at once, in a tenth of the time
    if len(every) == len(found):
        return {word: [stem] for word, stem in zip(found, every, strict=True)}
    return {word: stems([word]) for word in found}


def schema(level: str) -> "Schema":
    """Of the documents of a level: `video` or `moment`."""
    from tantivy import SchemaBuilder

    builder = SchemaBuilder()
    builder.add_unsigned_field("video", indexed=True, fast=True)
    builder.add_text_field("words", tokenizer_name="whitespace", index_option="freq")  # stems
    builder.add_unsigned_field("length", fast=True)  # stems in all
    builder.add_unsigned_field("order", fast=True)  # of the public id, among texts that score alike
    builder.add_bytes_field("stems", stored=True)  # as in `words`, to be counted
    if level == "video":  # what there is, to compare queries with
        builder.add_text_field("plain", tokenizer_name="whitespace", index_option="basic")
        builder.add_text_field("tag", tokenizer_name="raw", index_option="basic")
    else:
        builder.add_float_field("start", fast=True)
        builder.add_float_field("end", fast=True)
        for name in ("source", "text"):  # UTF-8, to be shown
            builder.add_bytes_field(name, stored=True)
    return builder.build()


def video_document(record: VideoRecord) -> "Document":
    """Of what is said about a video."""
    document = _new_document(record)
    texts = texts_of(record)
    found = {field: words_of(some) for field, some in texts.items()}
    weighted = [stem for field, some in found.items() for stem in FIELDS[field] * stems(some)]
    _add_stems(document, weighted)
    said = [word for field, some in found.items() if field != "name" for word in some]
    document.add_text("plain", " ".join(said))
    for tag in texts["tags"]:
        document.add_text("tag", " ".join(tag.split()).casefold())
    return document


def timed_document(record: VideoRecord, text: TimedText) -> "Document":
    """Of a text at a time in a video."""
    document = _new_document(record)
    _add_stems(document, stems(words_of([text.text])))
    document.add_float("start", text.start_seconds)
    document.add_float("end", text.end_seconds)
    document.add_bytes("source", text.source.encode())
    document.add_bytes("text", snippet(plain(text.text)).encode())
    return document


def _new_document(record: VideoRecord) -> "Document":
    from tantivy import Document

    document = Document()
    document.add_unsigned("video", record.id)
    document.add_unsigned("order", int.from_bytes(record.public_id.encode()[:7], "big"))
    return document


def _add_stems(document: "Document", found: Sequence[str]) -> None:
    joined = " ".join(found)
    document.add_text("words", joined)
    document.add_unsigned("length", len(found))
    document.add_bytes("stems", joined.encode())


def best_text(record: VideoRecord, query_stems: Iterable[str]) -> tuple[str, str]:
    """The field and the text about a video that have most of these stems; of equals that of the
    field with the greatest weight, then the shortest."""
    query_stems = frozenset(query_stems)
    best, found = (0, 0, 0), ("", "")
    for field, texts in texts_of(record).items():
        for text in texts:
            shared = len(_different_stems(text) & query_stems)
            value = (shared, FIELDS[field], -len(text))
            if shared and value > best:
                best, found = value, (field, record.key if field == "name" else text)
    field, text = found if best[0] else ("name", PurePosixPath(record.key).name)
    return field, snippet(text)


def snippet(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SNIPPET else f"{line[: _SNIPPET - 1]}…"


@lru_cache(maxsize=10_000)
def _different_stems(text: str) -> frozenset[str]:
    return frozenset(stems(words_of([text])))


def _strings(value: object) -> list[str]:
    """Texts in a value of the metadata, which may be of any kind."""
    return [plain(text) for text in _found_strings(value) if text.strip()]


def _found_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (text for text in value if isinstance(text, str))


def plain(text: str) -> str:
    """Without halves of characters, as they stand for bytes of names that are no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@cache
def _stemmer() -> "TextAnalyzer":
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    return TextAnalyzerBuilder(Tokenizer.whitespace()).filter(Filter.stemmer("English")).build()
