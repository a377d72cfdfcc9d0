import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.salvage import rebuild_catalogue
from reelseek.indexing.store.texts import TimedText, VideoTexts, from_row, to_row
from reelseek.indexing.tools.export import export_index
from reelseek.indexing.tools.merge import merge_indexes
from reelseek.indexing.tools.repair import repair_index
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.writer import IndexWriter
from tests.indexing.damage import assert_sound, change_catalogue
from tests.indexing.small_index import contents, failed_video, make_index, random_index
from tests.indexing.store.test_catalogue import new_video, spoil_page

SIGN = TimedText("ocr", 1.5, 1 / 3 + 2, "STOP\n\u505c \U0001f6d1 \ud800")
LEXICAL = [
    TimedText("speech", 4.0, 5.0, "second"),
    TimedText("speech", 0.25, 4.0, "first"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "videos.sqlite"


@pytest.fixture
def catalogue(path):
    with closing(Catalogue(path)) as catalogue:
        yield catalogue


def store_videos(catalogue, *keys):
    """Returns their ids."""
    catalogue.store([new_video(key) for key in keys], [(1, 3 * i) for i in range(len(keys))])
    records = catalogue.records()
    return [records[key].id for key in keys]


def tell_texts(folder, key, source, texts, *, engine="by hand"):
    """Stores and publishes texts of a video of an index."""
    with IndexWriter(folder) as writer:
        video_id = writer.catalogue.records()[key].id
        writer.catalogue.store_texts(video_id, source, texts, engine=engine)
        writer.publish()


def texts_by_key(folder):
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        keys = {record.id: record.key for record in catalogue.scan()}
        return {keys[number]: texts for number, texts in catalogue.texts(list(keys)).items()}


def test_texts_come_back_in_order_of_time(catalogue):
    a, b, c = store_videos(catalogue, "a", "b", "c")
    catalogue.store_texts(a, "speech", LEXICAL, engine="ear")
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye 2.0")
    catalogue.store_texts(b, "ocr", [], engine="eye 2.0")
    assert catalogue.texts([c, b, a, 999]) == {a: [LEXICAL[1], SIGN, LEXICAL[0]]}
    assert list(catalogue.text_entries([a, b])) == [
        VideoTexts(a, "ocr", "eye 2.0", (SIGN,)),
        VideoTexts(a, "speech", "ear", (LEXICAL[1], LEXICAL[0])),
        VideoTexts(b, "ocr", "eye 2.0", ()),
    ]


def test_texts_of_more_videos_than_sqlite_takes_at_once(catalogue):
    ids = store_videos(catalogue, *(f"{i}" for i in range(1200)))
    catalogue.add_texts(VideoTexts(i, "ocr", "eye", (replace(SIGN, text=f"{i}"),)) for i in ids)
    assert {i: t[0].text for i, t in catalogue.texts(np.array(ids)).items()} == {
        i: f"{i}" for i in ids
    }


def test_those_not_looked_at_yet_are_listed_for_each_source(catalogue):
    a, b = store_videos(catalogue, "a", "b")
    catalogue.store([failed_video("broken")[0]], [None])
    catalogue.store_texts(a, "ocr", [], engine="eye")
    assert catalogue.without_texts("ocr") == [b]
    assert catalogue.without_texts("speech") == [a, b]


def test_new_texts_replace_those_of_their_source(catalogue):
    (a,) = store_videos(catalogue, "a")
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
    catalogue.store_texts(a, "speech", LEXICAL, engine="ear")
    catalogue.store_texts(a, "speech", LEXICAL[:1], engine="better ear")
    assert catalogue.texts([a]) == {a: [SIGN, LEXICAL[0]]}
    assert [entry.engine for entry in catalogue.text_entries([a])] == ["eye", "better ear"]


def test_storing_texts_is_a_change(catalogue):
    (a,) = store_videos(catalogue, "a")
    before = catalogue.counter("revision")
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
    assert catalogue.counter("revision") == before + 1


@pytest.mark.parametrize(
    ("source", "texts", "message"),
    [
        ("ocr", LEXICAL, "source is 'ocr'"),
        ("lips", [], "source is 'lips': must be one of .*ocr.*speech"),
    ],
)
def test_texts_of_another_source_are_refused_and_nothing_is_stored(
    catalogue, source, texts, message
):
    a, b = store_videos(catalogue, "a", "b")
    entries = [VideoTexts(a, "ocr", "eye", (SIGN,)), VideoTexts(b, source, "eye", tuple(texts))]
    with pytest.raises(ValueError, match=message):
        catalogue.add_texts(entries)
    assert catalogue.without_texts("ocr") == [a, b]


@pytest.mark.parametrize(
    "values", [(-0.1, 1), (2, 1), (0, float("inf")), (float("nan"), 1), (0, float("nan"))]
)
def test_times_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError, match="start_seconds"):
        TimedText("ocr", *values, "text")


# Videos that go and come


def test_texts_go_with_their_video(catalogue):
    a, b, c = store_videos(catalogue, "a", "b", "c")
    for video_id in (a, b, c):
        catalogue.store_texts(video_id, "ocr", [SIGN], engine="eye")
    catalogue.store([], [], deleted_keys=["a"])
    (new,) = store_videos(catalogue, "b")  # replaced
    assert catalogue.texts([a, b, c, new]) == {c: [SIGN]}
    assert list(catalogue.text_entries([a, b, new])) == []
    assert catalogue.without_texts("ocr") == [new]


def test_texts_stay_with_a_video_that_is_renamed_or_moved(catalogue):
    (a,) = store_videos(catalogue, "a")
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
    catalogue.update(catalogue.records()["a"], key="b", path="/b", metadata={"title": "B"})
    catalogue.relocate([(catalogue.records()["b"], (7, 0))], next_part=8)
    assert catalogue.texts([catalogue.records()["b"].id]) == {a: [SIGN]}


def test_texts_of_a_video_that_is_gone_are_not_kept(catalogue):
    (a,) = store_videos(catalogue, "a")
    catalogue.store([], [], deleted_keys=["a"])
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
    assert list(catalogue.text_entries([a])) == []


def test_twins_get_each_others_texts(catalogue):
    a, other = store_videos(catalogue, "a", "other")
    signature = catalogue.records()["a"].signature
    twins = [replace(new_video(key), signature=signature) for key in ("twin", "third")]
    catalogue.store(twins, [(1, 0), (1, 0)])
    duplicate, third = (catalogue.records()[key].id for key in ("twin", "third"))
    assert catalogue.copy_texts("ocr") == 0
    catalogue.store_texts(duplicate, "ocr", [SIGN], engine="eye")
    catalogue.store_texts(other, "speech", LEXICAL, engine="ear")
    assert catalogue.copy_texts("ocr") == 2
    assert catalogue.texts([a, duplicate, third]) == {a: [SIGN], duplicate: [SIGN], third: [SIGN]}
    assert catalogue.copy_texts("ocr") == 0
    assert catalogue.without_texts("ocr") == [other]
    assert catalogue.text_problems() == []
    catalogue.store([], [], deleted_keys=["twin"])
    assert catalogue.texts([a]) == {a: [SIGN]}


# Indexes of older versions


def test_index_of_before_has_no_texts_for_a_reader_and_gets_the_table_from_a_writer(path):
    with closing(Catalogue(path)) as catalogue:
        (a,) = store_videos(catalogue, "a")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE texts")
    with closing(Catalogue(path, read_only=True)) as reader:
        assert (reader.texts([a]), reader.text_problems()) == ({}, [])
        assert reader.without_texts("ocr") == [a]
        with closing(Catalogue(path)) as catalogue:
            catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
        assert reader.texts([a]) == {a: [SIGN]}


# Damage


def test_row_is_what_it_was_made_of():
    entry = VideoTexts(3, "ocr", "eye", (SIGN,))
    assert from_row(to_row(entry)) == entry


@pytest.mark.parametrize(
    "change",
    [
        {"video_id": 2},
        {"source": "speech"},
        {"engine": "ear"},
        {"texts": "[]"},
        {"texts": b"\xff"},
        {"checksum": 0},
        {"checksum": "x"},
    ],
    ids=str,
)
def test_texts_that_are_not_what_was_written_are_named(catalogue, path, change):
    a, b = store_videos(catalogue, "a", "b")
    catalogue.store_texts(a, "ocr", [SIGN], engine="eye")
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, value in change.items():
            connection.execute(f"UPDATE texts SET {name} = ?", (value,))
    with pytest.raises(ValueError, match=r"damaged \(the texts of video \d+\); run .*repair"):
        catalogue.texts([a, b])
    (problem,) = catalogue.text_problems()
    assert problem.endswith("texts are damaged")
    assert catalogue.drop_damaged_texts() == ["b" if "video_id" in change else "a"]
    assert catalogue.text_problems() == []
    assert catalogue.without_texts("ocr") == [a, b]


def test_verify_names_damaged_texts_and_repair_drops_them_alone(tmp_path, caplog):
    folder = tmp_path / "index"
    oracle = random_index(folder, 4)
    for key in ("1.mp4", "2.mp4"):
        tell_texts(folder, key, "ocr", [SIGN])
    assert_sound(folder, oracle)
    change_catalogue(
        folder,
        "UPDATE texts SET engine = 'x' WHERE video_id = (SELECT id FROM videos WHERE key = ?)",
        ("1.mp4",),
    )
    assert list(find_problems(folder)) == ["1.mp4: its ocr texts are damaged"]
    assert repair_index(folder) == ([], 4)
    assert "texts of 1.mp4 are lost: run reelseek enrich again" in caplog.text
    assert texts_by_key(folder) == {"2.mp4": [SIGN]}
    assert_sound(folder, oracle)


def test_texts_of_a_dropped_video_are_dropped_too(tmp_path):
    folder = tmp_path / "index"
    random_index(folder, 3)
    tell_texts(folder, "1.mp4", "ocr", [SIGN])
    change_catalogue(folder, "UPDATE videos SET path = '' WHERE key = '1.mp4'")
    assert repair_index(folder) == (["1.mp4"], 2)
    with closing(sqlite3.connect(folder / CATALOGUE_NAME)) as connection:
        assert connection.execute("SELECT * FROM texts").fetchall() == []


def test_rebuilt_catalogue_keeps_the_texts_that_can_be_read(path):
    with closing(Catalogue(path)) as catalogue:
        ids = store_videos(catalogue, *(f"{i}" for i in range(300)))
        signs = {i: replace(SIGN, text=f"sign {i:05d} " * 20) for i in ids}
        catalogue.add_texts(VideoTexts(i, "ocr", "eye", (sign,)) for i, sign in signs.items())
        before = catalogue.texts(ids)
    spoil_page(path, f"sign {ids[150]:05d}".encode())
    rebuild_catalogue(path, next_part=7)
    with closing(Catalogue(path)) as catalogue:
        catalogue.drop_damaged()
        catalogue.drop_damaged_texts()
        after = catalogue.texts(ids)
        assert 200 < len(after) < 300
        assert after.items() <= before.items()
        assert len(catalogue.records()) == 300


# Indexes that are brought together, and brought out


@pytest.mark.parametrize("prefix", [False, True])
def test_merged_index_has_the_texts(tmp_path, prefix):
    sources = [tmp_path / "one", tmp_path / "two"]
    for seed, source in enumerate(sources):
        random_index(source, 2 if seed == 0 else 1, seed=0)
    tell_texts(sources[0], "1.mp4", "ocr", [SIGN])
    tell_texts(sources[1], "0.mp4", "speech", LEXICAL)
    before = [contents(source) for source in sources]
    merge_indexes(sources, tmp_path / "all", prefix=prefix)
    expected = {"1.mp4": [SIGN], "0.mp4": LEXICAL[::-1]}
    if prefix:
        expected = {"one/1.mp4": [SIGN], "two/0.mp4": LEXICAL[::-1]}
    assert texts_by_key(tmp_path / "all") == expected
    assert list(find_problems(tmp_path / "all")) == []
    assert [contents(source) for source in sources] == before


def test_merging_keeps_the_texts_that_there_are(tmp_path):
    random_index(tmp_path / "one", 2)
    tell_texts(tmp_path / "one", "1.mp4", "speech", LEXICAL[:1])
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    tell_texts(tmp_path / "two", "1.mp4", "speech", LEXICAL[1:])
    tell_texts(tmp_path / "two", "1.mp4", "ocr", [SIGN])
    assert merge_indexes([tmp_path / "two"], tmp_path / "one") == (0, 2)
    assert texts_by_key(tmp_path / "one") == {"1.mp4": [SIGN, LEXICAL[0]]}


@pytest.mark.parametrize("rows", [1, 1000])
def test_texts_are_exported(tmp_path, monkeypatch, rows):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("reelseek.indexing.tools.export._ROWS", rows)
    make_index(tmp_path / "index", [])
    random_index(tmp_path / "index", 2)
    sign = replace(SIGN, text="STOP \u505c")
    tell_texts(tmp_path / "index", "1.mp4", "speech", LEXICAL, engine="ear")
    tell_texts(tmp_path / "index", "0.mp4", "ocr", [sign], engine="eye")
    assert export_index(tmp_path / "index", tmp_path / "out")["texts"] == 3
    found = parquet.read_table(tmp_path / "out" / "texts.parquet").to_pylist()
    with closing(Catalogue(tmp_path / "index" / CATALOGUE_NAME)) as catalogue:
        ids = {key: record.id for key, record in catalogue.records().items()}
    made = [("0.mp4", "eye", sign), ("1.mp4", "ear", LEXICAL[1]), ("1.mp4", "ear", LEXICAL[0])]
    assert found == [{"video_id": ids[k], "engine": e, **vars(text)} for k, e, text in made]
    assert json.dumps(found)
