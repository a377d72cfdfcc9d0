import json

import pytest

from reelseek.training.text.files import read_entries


def read(path, *, are_pairs=False, **options):
    return read_entries("data.train", [str(path)], are_pairs=are_pairs, **options)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_texts_are_lines_without_blank_ones(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffa red  dog\r\n\n  \n\u00a0two\tkites \nlast")
    assert list(read(path)) == [("a red dog",), ("two kites",), ("last",)]


def test_json_lines_have_a_text_or_captions(tmp_path):
    lines = [
        {"query": "a", "title": "not this one"},
        {"text": "b"},
        {"title": "c"},
        {"captions": ["d", " ", "e"], "video": "x.mp4"},
    ]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    assert list(read(path)) == [("a",), ("b",), ("c",), ("d",), ("e",)]


def test_pairs_are_two_columns_or_two_fields(tmp_path):
    table = write(tmp_path / "a.tsv", 'say "hi\tHello\nb c \t d\n')
    lines = [{"title": "T", "query": "q"}, {"text": "x", "title": "y"}]
    objects = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, lines)))
    entries = read_entries("pairs", [str(table), str(objects)], are_pairs=True)
    expected = [('say "hi', "Hello"), ("b c", "d"), ("q", "T"), ("x", "y")]
    assert list(entries) == expected
    assert [entries[number] for number in (3, 0, 2)] == [expected[3], expected[0], expected[2]]
    with pytest.raises(IndexError):
        entries[4]


@pytest.mark.parametrize(
    ("name", "content", "are_pairs", "reason"),
    [
        ("a.txt", b"fine\n\xff\xfe\n", False, "line 2 (not UTF-8 at byte 1)"),
        ("a.jsonl", '{"text": "a"}\n\n{"text"\n', False, "line 3 (not JSON)"),
        ("a.jsonl", "[1]\n", False, "line 1 (not a JSON object)"),
        ("a.jsonl", '{"name": "a"}\n', False, "line 1 (none of `query`, `text`, `title`"),
        ("a.jsonl", '{"text": 3}\n', False, "line 1 (a text that is none)"),
        ("a.jsonl", '{"captions": "a"}\n', False, "line 1 (`captions` is no list)"),
        ("a.tsv", "a\tb\na\tb\tc\n", True, "line 2 (3 columns"),
        ("a.tsv", "a\t \n", True, "line 1 (2 columns, of which 1 hold text)"),
        ("a.jsonl", '{"query": "a"}\n', True, "line 1 (1 of `query`, `text`, `title`, not two)"),
    ],
)
def test_malformed_lines_are_named(tmp_path, caplog, name, content, are_pairs, reason):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError) as refused:
        read(path, are_pairs=are_pairs)
    assert f"data.train={path}" in str(refused.value)
    assert reason in str(refused.value)
    good = b"a\tb\n" if path.suffix == ".tsv" else b'{"query": "x", "title": "y"}\n'
    write(path, path.read_bytes().rstrip(b"\n") + b"\n" + good * 9)
    assert len(read(path, are_pairs=are_pairs, max_failed_fraction=0.2)) >= 9
    assert reason in caplog.text


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_file_without_a_text_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="holds no text"):
        read(write(tmp_path / "a.txt", content))


def test_missing_file_folder_and_table_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"none.txt: cannot be read \(no such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"cannot be read \(is a directory"):
        read(tmp_path)
    with pytest.raises(ValueError, match="name a table of two columns as pairs"):
        read(write(tmp_path / "a.tsv", "a\tb\n"))
