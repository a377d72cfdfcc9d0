import json
import os

import pytest

from reelseek.indexing import collect_videos
from reelseek.indexing.sources.collection import read_source


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def keys(videos):
    return [item.key for item in collect_videos(str(videos))]


def test_folder_is_searched_recursively_and_hidden_or_other_files_are_passed_over(tmp_path):
    touch(tmp_path, "b.MP4", "a.mkv", "sub/deep/c.webm", "notes.txt", "photo.jpg", "noend")
    touch(tmp_path, ".hidden.mp4", ".trash/d.mp4", "sub/.cache/e.mp4")
    items = collect_videos(str(tmp_path))
    assert [item.key for item in items] == ["a.mkv", "b.MP4", "sub/deep/c.webm"]
    assert [item.path for item in items] == [tmp_path / item.key for item in items]
    assert all(item.metadata == {} for item in items)


def test_hidden_folder_that_is_named_itself_is_searched(tmp_path):
    touch(tmp_path, ".videos/a.mp4")
    assert keys(tmp_path / ".videos") == ["a.mp4"]


def test_paths_are_absolute_though_the_folder_is_named_relatively(tmp_path, monkeypatch):
    touch(tmp_path, "clips/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert collect_videos("clips")[0].path == tmp_path / "clips" / "a.mp4"
    assert collect_videos("clips/a.mp4")[0].path == tmp_path / "clips" / "a.mp4"
    assert collect_videos("clips/*.mp4")[0].path == tmp_path / "clips" / "a.mp4"


def test_file_is_itself_whatever_its_suffix(tmp_path):
    touch(tmp_path, "a.mp4", "b.unusual", "c.jpg")
    for name in ("a.mp4", "b.unusual", "c.jpg"):
        (item,) = collect_videos(str(tmp_path / name))
        assert (item.key, item.path) == (name, tmp_path / name)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["a.mp4", "b.mp4"]),
        ("*", ["a.mp4", "b.mp4", "photo.jpg"]),
        ("sub/?.mp4", ["c.mp4"]),
        ("s*/?.mp4", ["sub/c.mp4"]),
        ("**/*.mp4", ["a.mp4", "b.mp4", "sub/c.mp4"]),
        ("[ab].mp4", ["a.mp4", "b.mp4"]),
    ],
)
def test_glob_keys_are_relative_to_its_fixed_part(tmp_path, pattern, expected):
    touch(tmp_path, "a.mp4", "b.mp4", "photo.jpg", "notes.md", "sub/c.mp4")
    assert keys(tmp_path / pattern) == expected


def test_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path):
    touch(tmp_path, "[2024] trip*/a.mp4")
    assert keys(tmp_path / "[2024] trip*") == ["a.mp4"]


def test_text_file_lists_paths_relative_to_itself(tmp_path):
    (tmp_path / "list.txt").write_bytes(
        "\ufeff# a comment\r\n\r\nclips/a.mp4\r\n  ./clips/../b c.mp4  \r\n/far/d.mp4\r\n".encode()
    )
    items = collect_videos(str(tmp_path / "list.txt"))
    assert [(item.key, str(item.path)) for item in items] == [
        ("clips/a.mp4", f"{tmp_path}/clips/a.mp4"),
        ("b c.mp4", f"{tmp_path}/b c.mp4"),
        ("/far/d.mp4", "/far/d.mp4"),
    ]


def test_jsonl_lists_videos_or_images_with_metadata(tmp_path):
    path = write_lines(
        tmp_path / "list.jsonl",
        {"video": "clips/a.mp4", "captions": ["one", "two"], "title": "A \u732b", "year": 1999},
        {"image": "b.jpg", "captions": "only one"},
        {"video": "../c.mp4"},
    )
    items = collect_videos(path)
    assert [item.key for item in items] == ["clips/a.mp4", "b.jpg", "../c.mp4"]
    assert items[0].metadata == {"captions": ["one", "two"], "title": "A \u732b", "year": 1999}
    assert items[1].metadata == {"captions": ["only one"]}
    assert items[2].metadata == {}
    assert items[2].path == tmp_path.parent / "c.mp4"


def test_repeated_lines_merge_their_captions_and_keep_the_first_metadata(tmp_path):
    path = write_lines(
        tmp_path / "list.jsonl",
        {"video": "a.mp4", "captions": ["one", "two"], "title": "first"},
        {"video": "b.mp4"},
        {"video": "./a.mp4", "captions": ["two", "three"], "title": "second"},
        {"video": "b.mp4", "captions": ["four"]},
    )
    items = collect_videos(path)
    assert [(item.key, item.metadata) for item in items] == [
        ("a.mp4", {"captions": ["one", "two", "three"], "title": "first"}),
        ("b.mp4", {"captions": ["four"]}),
    ]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_json_string_may_hold_what_unicode_calls_a_line_break(tmp_path, separator):
    caption = f"a dog{separator}and a cat"
    line = json.dumps({"video": "a.mp4", "captions": [caption]}, ensure_ascii=False)
    (tmp_path / "list.jsonl").write_text(line + "\n", encoding="utf-8")
    (item,) = collect_videos(str(tmp_path / "list.jsonl"))
    assert item.metadata == {"captions": ["a dog and a cat"]}


def test_captions_are_cleaned_and_what_is_none_is_named_with_its_line(tmp_path, caplog):
    path = write_lines(
        tmp_path / "list.jsonl",
        {"video": "a.mp4", "captions": [" a  dog ", "a dog", "", None, "a\tcat"]},
        {"video": "b.mp4", "captions": 3},
        {"video": "c.mp4", "captions": {"en": "a"}},
        {"video": "d.mp4", "captions": ["\u200b\n"]},
        {"video": "e.mp4", "captions": None},
    )
    items = collect_videos(path)
    assert [item.metadata for item in items] == [{"captions": ["a dog", "a cat"]}, *[{}] * 4]
    (message,) = caplog.messages
    assert message == (
        f"{path}: 5 captions are left out: line 1, caption 3 is blank; line 1, caption 4 is "
        "missing; line 2 is 3, not text; line 3 is {'en': 'a'}, not text; line 4 is blank"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{not json", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('["a.mp4"]', "must be an object"),
        ('"a.mp4"', "must be an object"),
        ("{}", "`video` is missing"),
        ('{"video": ""}', "`video` is missing"),
        ('{"video": 7}', "is not a path"),
        ('{"video": ["a.mp4"]}', "is not a path"),
    ],
)
def test_malformed_line_is_named_with_its_number(tmp_path, line, reason):
    path = tmp_path / "list.jsonl"
    path.write_text('{"video": "fine.mp4"}\n\n' + line + "\n")
    with pytest.raises(ValueError, match=f"list.jsonl, line 3: .*{reason}"):
        collect_videos(str(path))


@pytest.mark.parametrize("name", ["list.txt", "list.jsonl"])
def test_list_that_is_not_utf8_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"video": "caf\xe9.mp4"}')
    with pytest.raises(ValueError, match=rf"{name}: is not UTF-8 text \(byte 14\)"):
        collect_videos(str(tmp_path / name))


@pytest.mark.parametrize("name", ["folder", "empty.txt", "empty.jsonl", "*.mp4"])
def test_collection_without_a_video_says_so(tmp_path, name):
    (tmp_path / "folder").mkdir()
    touch(tmp_path, "folder/notes.md", "empty.txt", "empty.jsonl")
    with pytest.raises(ValueError, match="holds no video"):
        collect_videos(str(tmp_path / name))


@pytest.mark.parametrize("name", ["missing", "missing.jsonl", "x" * 300])
def test_path_that_is_not_there_is_a_one_line_error(tmp_path, name):
    with pytest.raises(ValueError, match=f"videos={tmp_path}/{name}: ") as raised:
        collect_videos(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_empty_name_says_what_to_give():
    with pytest.raises(ValueError, match="videos is empty"):
        collect_videos("")


def test_numbers_that_are_not_finite_are_nothing(tmp_path):
    line = '{"video": "a.mp4", "score": NaN, "deep": [{"x": -Infinity}, 1e999], "year": 2019}'
    (tmp_path / "list.jsonl").write_text(line)
    (item,) = collect_videos(str(tmp_path / "list.jsonl"))
    assert item.metadata == {"score": None, "deep": [{"x": None}, None], "year": 2019}


def test_home_in_a_list_is_expanded_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    touch(tmp_path, "~/real.mp4")
    (tmp_path / "list.txt").write_text("~/Videos/a.mp4\n$HOME/b.mp4\n~/real.mp4\n")
    items = collect_videos(str(tmp_path / "list.txt"))
    assert [str(item.path) for item in items] == [
        "/home/me/Videos/a.mp4",
        "/home/me/b.mp4",
        str(tmp_path / "~" / "real.mp4"),
    ]


def test_photos_of_a_folder_are_taken_when_asked(tmp_path):
    touch(tmp_path, "a.mp4", "sub/b.JPG", "c.webp")
    assert [item.key for item in read_source(str(tmp_path)).items] == ["a.mp4"]
    items = read_source(str(tmp_path), images=True).items
    assert [item.key for item in items] == ["a.mp4", "c.webp", "sub/b.JPG"]


@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.txt", "pipe.jsonl"])
def test_pipe_that_is_named_itself_is_not_read(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert [item.key for item in read_source(str(tmp_path / name)).items] == [name]
