import json
import math
import shutil
import threading
from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing import snapshot as generation
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical import index as lexical
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.tools.merge import merge_indexes
from reelseek.indexing.tools.repair import upgrade_index
from reelseek.indexing.tools.status import index_status
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.vectors.shard import file_checksum
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.request import LEXICAL, Request
from reelseek.ranking.retrieval import Retriever
from tests.indexing.damage import change_catalogue, change_manifest
from tests.indexing.searching import search, search_words
from tests.indexing.small_index import SETTINGS, queries, video_of

pytest.importorskip("tantivy")

DOG = "park/Dog_catches-frisbee.mp4"
VIDEOS = {
    DOG: {"captions": ["A dog catches a frisbee.", "grass and sky"]},
    "beach.mp4": {"captions": ["people at a beach"], "title": "Summer Holidays", "tags": ["Sea"]},
    "quiet.mp4": {"captions": ["a beach with nobody"], "tags": ["sea", "empty  Beach"]},
    "sign.mp4": {"captions": ["a street at night"], "author": "hidden"},
}
TEXTS = [
    ("sign.mp4", "ocr", 3.0, 4.5, "SALE today"),
    ("sign.mp4", "speech", 1.0, 2.0, "look, a frisbee sale"),
    ("quiet.mp4", "speech", 0.0, 1.0, "people are loud"),
]


def add(writer, key, metadata=None, *, seed=0):
    segments = np.random.default_rng([seed, *key.encode()]).normal(size=(2, 8))
    writer.add(*video_of(key, segments, metadata=metadata or {}))


def add_texts(writer, texts):
    """Texts are `(key, source, start, end, text)`."""
    ids = {key: record.id for key, record in writer.catalogue.records().items()}
    for key, source, *rest in texts:
        timed = [TimedText(source, *rest)]
        writer.catalogue.store_texts(ids[key], source, timed, engine="given")


def make(folder, videos, texts=()):
    with IndexWriter(folder, SETTINGS) as writer:
        for key, metadata in videos.items():
            add(writer, key, metadata)
        writer.save()
        add_texts(writer, texts)
        return writer.publish()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "index"
    make(folder, VIDEOS, TEXTS)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture(scope="module")
def reader(made):
    with closing(IndexReader(made)) as reader:
        yield reader


def keys(reader, words, **options):
    hits = search_words(reader, words.split(), **{"k": 10} | options)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert all(score > 0 for score in scores)
    return [hit.key for hit in hits]


def keys_in(folder, words, **options):
    with closing(IndexReader(folder)) as reader:
        return set(keys(reader, words, **options))


# What is found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dog", {DOG}),
        ("dogs", {DOG}),
        ("catching", {DOG}),
        ("park", {DOG}),
        ("holiday", {"beach.mp4"}),
        ("sea", {"beach.mp4", "quiet.mp4"}),
        ("today", {"sign.mp4"}),
        ("nobody summer", {"beach.mp4", "quiet.mp4"}),
        ("hidden", set()),
        ("mp4", set()),
        ("", set()),
    ],
)
def test_words_are_found_wherever_they_stand(reader, words, expected):
    assert set(keys(reader, words)) == expected


def test_hit_says_where_the_words_stand(reader):
    (hit,) = search_words(reader, ["frisbees", "catch"], k=1)
    assert (hit.key, hit.source, hit.text) == (DOG, "captions", "A dog catches a frisbee.")
    assert hit.start_seconds is None and hit.end_seconds is None
    (hit,) = search_words(reader, ["holidays"], k=1)
    assert (hit.source, hit.text) == ("title", "Summer Holidays")
    (hit,) = search_words(reader, ["park"], k=1)
    assert (hit.source, hit.text) == ("name", DOG)
    (hit,) = search_words(reader, ["today"], k=1)
    assert (hit.source, hit.start_seconds, hit.end_seconds) == ("ocr", 3.0, 4.5)
    assert hit.text == "SALE today"


def test_video_comes_once_and_each_of_its_moments_where_they_are_asked_for(reader):
    assert keys(reader, "sale") == ["sign.mp4"]
    hits = search_words(reader, ["sale"], k=10, level="moment")
    assert {(hit.source, hit.start_seconds) for hit in hits} == {("ocr", 3.0), ("speech", 1.0)}


def test_excluded_words_leave_out_texts_and_with_its_own_texts_the_video(reader):
    assert keys(reader, "beach", excluded=["people"]) == ["quiet.mp4"]
    assert keys(reader, "sale", excluded=["today"]) == ["sign.mp4"]
    hits = search_words(reader, ["sale"], k=10, excluded=["today"], level="moment")
    assert [hit.source for hit in hits] == ["speech"]
    assert keys(reader, "sale", excluded=["streets"], level="moment") == []


def test_fields_have_weights(tmp_path):
    said = {"captions": ["an owl"], "tags": ["owl", "an"], "title": "an owl"}
    videos = {f"{number}.mp4": {name: text} for number, (name, text) in enumerate(said.items())}
    others = {f"other{number}.mp4": {"captions": ["a heron"]} for number in range(20)}
    make(tmp_path / "index", videos | others)
    with closing(IndexReader(tmp_path / "index")) as reader:
        hits = search_words(reader, ["owl"], k=10)
    assert [hit.source for hit in hits] == ["title", "tags", "captions"]


@pytest.mark.parametrize(
    "word",
    [
        "-dog",
        "title:dog",
        "dog*",
        '"',
        "(",
        "\0",
        "\udcff",
        "a" * 100_000,
        "dog OR sea",
        "",
        "👍🏽",
    ],
)
def test_word_is_no_query_language(reader, word):
    assert set(keys_of(reader, [word])) <= {DOG, "beach.mp4", "quiet.mp4"}
    assert keys_of(reader, [word, "holidays"])[0] in ("beach.mp4", DOG)
    assert isinstance(search_words(reader, ["beach"], k=3, excluded=[word]), list)


def keys_of(reader, words):
    return [hit.key for hit in search_words(reader, words, k=10)]


def test_very_many_words_are_answered(reader):
    assert DOG in keys_of(reader, ["dog", *(f"word{i}" for i in range(20_000))])


@pytest.mark.parametrize(
    "metadata",
    [
        {"title": 3, "captions": {"a": "b"}, "tags": [1, None, ["deep"]]},
        {"title": "", "captions": "a sentence", "tags": "one"},
        {"title": "half of a pair \ud83d"},
        {"captions": ["\0 and \u202e and " + "x" * 10_000]},
        {"title": ["several", "titles"]},
    ],
)
def test_metadata_of_any_kind_is_indexed(tmp_path, metadata):
    make(tmp_path / "index", {"odd.mp4": metadata, "b.mp4": {}})
    assert keys_in(tmp_path / "index", "odd") == {"odd.mp4"}
    assert list(find_problems(tmp_path / "index")) == []


def test_words_of_other_scripts_are_found(tmp_path):
    make(tmp_path / "index", {"1.mp4": {"title": "СОБАКА на пляже"}, "2.mp4": {"title": "ÉTÉ"}})
    assert keys_in(tmp_path / "index", "собака") == {"1.mp4"}
    assert keys_in(tmp_path / "index", "été") == {"2.mp4"}


# Scores and numbers of hits, beside an oracle


def random_captions(count, *, seed=0, most=12):
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 41)
    return [
        [
            f"w{n}"
            for n in random.choice(40, int(random.integers(1, most)), p=weights / weights.sum())
        ]
        for _ in range(count)
    ]


def said_of(captions):
    """With the tag, which counts twice, and the name."""
    return [[*words, "tag", "tag", f"x{i:03}"] for i, words in enumerate(captions)]


def bm25(documents, words, *, k1=1.2, b=0.75):
    """Scores of all documents, as Robertson and Zaragoza (2009, section 3.2) define them."""
    counts = [Counter(document) for document in documents]
    mean = sum(map(len, documents)) / len(documents)
    scores = np.zeros(len(documents))
    for word in words:
        having = sum(word in each for each in counts)
        weight = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5)) * (k1 + 1)
        for i, each in enumerate(counts):
            length = k1 * (1 - b + b * len(documents[i]) / mean)
            scores[i] += weight * each[word] / (each[word] + length)
    return scores


@pytest.fixture(scope="module")
def random_texts(tmp_path_factory):
    folder, captions = tmp_path_factory.mktemp("random") / "index", random_captions(200)
    videos = {
        f"x{i:03}.mp4": {"captions": [" ".join(words)], "tags": ["even" if i % 2 == 0 else "odd"]}
        for i, words in enumerate(captions)
    }
    make(folder, videos)
    return folder, captions


@pytest.mark.parametrize("words", ["w0", "w7 w3", "w1 w5 w20 w39", "w38 none"])
@pytest.mark.parametrize("k", [1, 5, 1_000])
def test_scores_are_those_of_bm25(random_texts, words, k):
    folder, captions = random_texts
    expected = bm25(said_of(captions), words.split())
    with closing(IndexReader(folder)) as reader:
        hits = search_words(reader, words.split(), k=k)
    assert len(hits) == min(k, int((expected > 0).sum()))
    np.testing.assert_allclose(
        [hit.score for hit in hits], np.sort(expected)[::-1][: len(hits)], rtol=1e-5
    )
    for hit in hits:
        assert hit.score == pytest.approx(expected[int(hit.key[1:4])], rel=1e-5)


@pytest.mark.parametrize("first_look", [1, 7, 256])
@pytest.mark.parametrize("where", ["tag = 'even'", "key like 'x00%'", "key = 'x150.mp4'"])
@pytest.mark.parametrize("k", [1, 4, 1_000])
def test_filter_gives_k_hits_where_there_are_k(random_texts, monkeypatch, first_look, where, k):
    monkeypatch.setattr(lexical, "_FIRST_LOOK", first_look)
    folder, captions = random_texts
    scores = bm25(said_of(captions), ["w0", "w9"])
    with closing(IndexReader(folder)) as reader:
        fits = {int(hit.key[1:4]) for hit in search(reader, queries(1)[0], k=1_000, where=where)}
        hits = search_words(reader, ["w0", "w9"], k=k, where=where)
    expected = sorted((scores[i] for i in fits if scores[i] > 0), reverse=True)[:k]
    assert all(int(hit.key[1:4]) in fits for hit in hits)
    np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_k_videos_come_back_though_one_has_many_texts(tmp_path, monkeypatch, k):
    monkeypatch.setattr(lexical, "_FIRST_LOOK", 2)
    make(tmp_path / "index", {f"{i}.mp4": {} for i in range(3)})
    with IndexWriter(tmp_path / "index") as writer:
        ids = {key: record.id for key, record in writer.catalogue.records().items()}
        for key, count in (("0.mp4", 60), ("1.mp4", 1), ("2.mp4", 1)):
            timed = [TimedText("ocr", float(i), i + 1.0, "exit") for i in range(count)]
            writer.catalogue.store_texts(ids[key], "ocr", timed, engine="given")
        writer.publish()
    with closing(IndexReader(tmp_path / "index")) as reader:
        assert len(keys(reader, "exit", k=k)) == min(k, 3)
        assert len(keys(reader, "exit", k=50, level="moment")) == 50


def test_where_k_and_level_are_checked(reader):
    request = Request(queries(1)[0], words=["dog"], sources=(LEXICAL,))
    with pytest.raises(ValueError, match="k=0"):
        Retriever(reader).search(request, k=0, level="video")
    with pytest.raises(ValueError, match="level=frame"):
        Retriever(reader).search(request, k=1, level="frame")
    with pytest.raises(ValueError, match="colour"):
        search_words(reader, ["dog"], k=1, where="colour = 'red'")
    assert keys(reader, "beach", where="title exists") == ["beach.mp4"]


def test_vocabulary_counts_videos(reader):
    statistics = reader.statistics()
    words, tags = statistics.words, statistics.tags
    assert words["beach"] == 2 and words["dog"] == 1 and words["holidays"] == 1
    assert tags == {"sea": 2, "empty beach": 1}
    assert "sale" not in words and "park" not in words  # misread, or no word at all
    assert reader.statistics().words is words


def test_threads_search_at_once(reader):
    expected, wrong = search_words(reader, ["beach", "sale"], k=5), []

    def search():
        for _ in range(50):
            if search_words(reader, ["beach", "sale"], k=5) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Kept in step


def lexical_folder(folder):
    (path,) = folder.glob("lexical-*")
    info = Manifest.read(folder).lexical
    assert path.name == info.name
    assert {file.name for file in path.iterdir()} == set(info.files)
    return path


def contents(path):
    return {
        file.name: (file.read_bytes(), file.stat().st_ino, file.stat().st_mtime_ns)
        for file in path.iterdir()
    }


def test_unchanged_texts_are_not_written_again(folder):
    before, generation = contents(lexical_folder(folder)), Manifest.read(folder).generation
    with IndexWriter(folder) as writer:
        assert writer.publish().generation == generation
        writer.publish(rebuild=True)
    assert Manifest.read(folder).generation == generation + 1
    assert contents(lexical_folder(folder)) == before


def test_changed_metadata_is_found_after_the_next_publishing(folder):
    with IndexWriter(folder) as writer, closing(IndexReader(folder)) as reader:
        record = writer.catalogue.records()["beach.mp4"]
        writer.catalogue.update(record, metadata={"captions": ["a volcano"]})
        assert keys(reader, "volcano") == []
        writer.publish()
        assert keys(reader, "volcano") == ["beach.mp4"]
        assert keys(reader, "holidays") == []
        assert keys(reader, "dog") == [DOG]


def test_new_key_of_a_video_is_found(folder):
    with IndexWriter(folder) as writer:
        record = writer.catalogue.records()["beach.mp4"]
        writer.catalogue.update(record, key="Zanzibar.mp4", path="/videos/Zanzibar.mp4")
        writer.publish()
    assert keys_in(folder, "zanzibar") == {"Zanzibar.mp4"}


def test_new_texts_of_a_video_are_found(folder):
    with IndexWriter(folder) as writer:
        add_texts(writer, [(DOG, "ocr", 0.5, 1.0, "beware"), ("sign.mp4", "ocr", 0.0, 1.0, "shut")])
        writer.publish()
    assert keys_in(folder, "beware") == {DOG}
    assert keys_in(folder, "shut") == {"sign.mp4"}
    assert keys_in(folder, "today") == set()
    assert keys_in(folder, "look") == {"sign.mp4"}


@pytest.mark.parametrize("level", ["video", "moment"])
def test_deleted_video_is_not_found_at_once(folder, level):
    with IndexWriter(folder) as writer, closing(IndexReader(folder)) as reader:
        assert "sign.mp4" in keys(reader, "frisbee", level=level)
        writer.delete(["sign.mp4"])
        for _ in range(2):
            assert keys(reader, "frisbee", level=level, k=1) == [DOG]
            assert keys(reader, "frisbee", level=level) == [DOG]
        writer.publish()
        assert keys(reader, "frisbee", level=level) == [DOG]
    assert Manifest.read(folder).lexical.num_documents == {"video": 3, "moment": 1}


def test_lost_entry_is_not_taken_for_a_deleted_one(folder):
    change_catalogue(folder, "DELETE FROM videos WHERE key = 'sign.mp4'")
    with closing(IndexReader(folder)) as reader, pytest.raises(ValueError, match="damaged"):
        search_words(reader, ["frisbee"], k=5)


def test_small_change_leaves_the_earlier_files_as_they_are_and_shares_them(tmp_path):
    folder = tmp_path / "index"
    captions = random_captions(40, most=6)
    make(folder, {f"{i}.mp4": {"captions": [" ".join(c)]} for i, c in enumerate(captions)})
    earlier = lexical_folder(folder)
    shutil.copytree(earlier, tmp_path / "kept")
    before = contents(earlier)
    opened = LexicalIndex(folder, Manifest.read(folder).lexical)
    with IndexWriter(folder) as writer:
        for name in earlier.iterdir():  # deleted by the publishing: these stay to be looked at
            (tmp_path / "kept" / name.name).unlink()
            (tmp_path / "kept" / name.name).hardlink_to(name)
        add(writer, "new.mp4", {"captions": ["w0 novelty"]})
        writer.delete(["3.mp4"])
        writer.publish()
    assert contents(tmp_path / "kept") == before
    assert not earlier.exists()
    after = contents(lexical_folder(folder))
    shared = {inode for _, inode, _ in before.values()} & {inode for _, inode, _ in after.values()}
    assert len(shared) >= 5
    found = opened.search(["w0"], num=1_000, terms=opened.statistics(["w0"]))
    assert len(found) == sum("w0" in words for words in captions)
    assert keys_in(folder, "novelty") == {"new.mp4"}
    assert list(find_problems(folder)) == []


def test_after_many_changes_all_is_as_if_made_anew(tmp_path):
    folder, random = tmp_path / "index", np.random.default_rng(0)
    captions = {f"v{i}": words for i, words in enumerate(random_captions(30, most=5))}
    make(folder, {key: {"captions": [" ".join(words)]} for key, words in captions.items()})
    names = set()
    with IndexWriter(folder) as writer:
        for number in range(14):
            key = f"v{int(random.integers(40))}"
            words = random_captions(1, seed=number, most=5)[0]
            if key not in captions:
                add(writer, key, {"captions": [" ".join(words)]})
            elif random.random() < 0.3:
                writer.delete([key])
                words = []
            else:
                record = writer.catalogue.records()[key]
                writer.catalogue.update(record, metadata={"captions": [" ".join(words)]})
            captions[key] = words
            captions = {key: words for key, words in captions.items() if words}
            writer.publish()
            names.add(lexical_folder(folder).name)
            with closing(IndexReader(folder)) as reader:
                for word in ("w0", "w1", "w5"):
                    expected = {key for key, words in captions.items() if word in words}
                    assert set(keys(reader, word, k=100)) == expected
    assert len(names) == 14
    assert list(find_problems(folder)) == []
    info = Manifest.read(folder).lexical
    assert info.num_documents == {"video": len(captions), "moment": 0}
    metas = json.loads((folder / info.name / "video.meta.json").read_text())["segments"]
    assert sum(segment["max_doc"] for segment in metas) < 2 * len(captions)
    assert len(info.files) < 100


def test_catalogue_without_texts_of_older_versions_is_indexed(tmp_path):
    make(tmp_path / "index", VIDEOS)
    change_catalogue(tmp_path / "index", "DROP TABLE texts")
    assert list(find_problems(tmp_path / "index")) == []
    assert keys_in(tmp_path / "index", "dog") == {DOG}


def test_merged_index_has_the_words_of_both(tmp_path):
    make(tmp_path / "one", {"a.mp4": {"captions": ["a heron"]}}, [("a.mp4", "ocr", 0, 1, "pier")])
    make(tmp_path / "two", {"b.mp4": {"captions": ["two herons"]}})
    merge_indexes([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert keys_in(tmp_path / "both", "heron") == {"a.mp4", "b.mp4"}
    assert keys_in(tmp_path / "both", "pier") == {"a.mp4"}


def test_status_counts_documents(folder):
    status = index_status(folder)["words"]
    assert (status["videos"], status["timed_texts"]) == (4, 3)
    assert status["bytes"] == sum(f.stat().st_size for f in lexical_folder(folder).iterdir())


# Where something is lacking or damaged


@pytest.fixture
def without_tantivy(monkeypatch):
    monkeypatch.setattr(documents, "is_installed", lambda: False)


def test_without_tantivy_all_is_published_but_words_and_it_is_said_once(
    tmp_path, without_tantivy, caplog
):
    make(tmp_path / "index", VIDEOS, TEXTS)
    (line,) = [r.getMessage() for r in caplog.records if "tantivy" in r.name or "words" in r.msg]
    assert "pip install 'reelseek[lexical]'" in line
    assert Manifest.read(tmp_path / "index").lexical is None
    assert not list((tmp_path / "index").glob("lexical-*"))
    with closing(IndexReader(tmp_path / "index")) as reader:
        assert len(search(reader, queries(1)[0], k=10)) == 4
        assert search_words(reader, ["dog"], k=3) == []
        assert not reader.has_lexical_index and "pip install 'reelseek[lexical]'" in reader.skipped
        statistics = reader.statistics()
        assert (statistics.words, statistics.tags, statistics.has_texts) == ({}, {}, False)
    assert list(find_problems(tmp_path / "index")) == []
    assert index_status(tmp_path / "index")["words"] is None


def test_without_tantivy_nothing_is_said_where_there_are_no_texts(
    tmp_path, without_tantivy, caplog
):
    make(tmp_path / "index", {"dog.mp4": {"author": "x"}})
    assert caplog.records == []


def test_index_that_has_words_is_searched_without_them(folder, without_tantivy):
    with closing(IndexReader(folder)) as reader:
        assert len(search(reader, queries(1)[0], k=10)) == 4
        assert not reader.has_lexical_index and search_words(reader, ["dog"], k=3) == []
    assert list(find_problems(folder)) == []
    before = Manifest.read(folder)
    with IndexWriter(folder) as writer:
        assert writer.publish() == before


def test_words_come_with_tantivy(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(documents, "is_installed", lambda: False)
        make(tmp_path / "index", VIDEOS)
    with closing(IndexReader(tmp_path / "index")) as reader:
        assert "reelseek index" in reader.skipped
        with IndexWriter(tmp_path / "index") as writer:
            writer.publish()
        assert keys(reader, "dog") == [DOG]
        assert reader.has_lexical_index and reader.skipped == ""


def test_other_analysis_is_told_and_indexed_anew(folder, monkeypatch, caplog):
    monkeypatch.setattr(documents, "analysis", lambda: "another")
    assert keys_in(folder, "dog") == {DOG}
    assert "run reelseek index again" in caplog.text
    before = lexical_folder(folder).name
    with IndexWriter(folder) as writer:
        writer.publish()
    assert lexical_folder(folder).name != before
    caplog.clear()
    assert keys_in(folder, "dog") == {DOG}
    assert caplog.text == ""


def test_files_of_another_tantivy_are_searched_without_their_words(folder, monkeypatch, caplog):
    for path in lexical_folder(folder).glob("*.meta.json"):
        data = path.read_bytes().replace(b'"segment_id"', b'"another_id"')
        path.unlink()
        path.write_bytes(data + b"{")
        files = {path.name: file_checksum(path)}
        change_manifest(folder, lambda v, files=files: v["lexical"]["files"].update(files))
    with pytest.raises(ValueError, match="is damaged"):
        IndexReader(folder)
    change_manifest(folder, lambda values: values["lexical"].update(analysis="2, index_format v6"))
    with closing(IndexReader(folder)) as reader:
        assert "run reelseek index again" in caplog.text
        assert len(search(reader, queries(1)[0], k=10)) == 4
        assert search_words(reader, ["dog"], k=3) == [] and "again" in reader.skipped
    assert list(find_problems(folder)) == []
    with IndexWriter(folder) as writer:
        writer.publish()
    assert keys_in(folder, "dog") == {DOG}


def test_words_of_an_earlier_version_are_skipped_with_the_remedy(folder, caplog):
    """Its documents lack fields that are searched by now."""
    change_manifest(folder, lambda values: values["lexical"].update(analysis="1, tantivy 0.26"))
    with closing(IndexReader(folder)) as reader:
        assert f"run reelseek repair --upgrade --index {folder}" in caplog.text
        assert search_words(reader, ["dog"], k=3) == []
        request = Request(queries(1)[0], words=["dog"])
        assert len(Retriever(reader).search(request, k=10, level="video")) == 4
    assert upgrade_index(folder) == 4
    caplog.clear()
    assert keys_in(folder, "dog") == {DOG}
    assert caplog.text == ""


def test_where_nothing_temporary_can_be_written_words_are_skipped(folder, monkeypatch, caplog):
    def fail(**options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", fail)
    with closing(IndexReader(folder)) as reader:
        assert len(search(reader, queries(1)[0], k=10)) == 4
        assert not reader.has_lexical_index
    assert "set TMPDIR" in caplog.text


def damage(path, how):
    if how == "gone":
        path.unlink()
    elif how == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.unlink()
        path.write_bytes(data)
    elif how == "cut":
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-1])
    elif how == "link":
        kept = path.parent.parent / "aside"
        path.rename(kept)
        path.symlink_to(kept)
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["gone", "flipped", "cut", "link", "folder"])
@pytest.mark.parametrize(
    "pattern", ["table.npy", "video.meta.json", "video.*.term", "moment.*.store", "moment.*.fast"]
)
def test_damaged_file_is_noticed_and_made_anew(folder, monkeypatch, pattern, how):
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)
    (path,) = lexical_folder(folder).glob(pattern)
    damage(path, how)
    with pytest.raises(ValueError, match=r"^[^\n]*reelseek repair[^\n]*$"):
        IndexReader(folder)
    (problem,) = find_problems(folder)
    assert path.name in problem
    with IndexWriter(folder) as writer:
        writer.publish()
    assert list(find_problems(folder)) == []
    assert keys_in(folder, "frisbee") == {DOG, "sign.mp4"}


def test_folder_that_is_a_link_is_refused_and_what_it_leads_to_is_left(folder, monkeypatch):
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)
    path, aside = lexical_folder(folder), folder.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)
    before = contents(aside)
    with pytest.raises(ValueError, match="is damaged"):
        IndexReader(folder)
    with IndexWriter(folder) as writer:
        writer.publish()
    assert keys_in(folder, "dog") == {DOG}
    assert contents(aside) == before


@pytest.mark.parametrize("name", ["../x", "/etc", "sub/x", ".", "..", "", "embeddings", "a\0b"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_name_that_leads_elsewhere_is_refused(folder, monkeypatch, name, what):
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)

    def change(values):
        if what == "folder":
            values["lexical"]["name"] = name
        else:
            values["lexical"]["files"][name] = 0

    change_manifest(folder, change)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        IndexReader(folder)
    assert list(find_problems(folder))
    assert (folder / "embeddings").is_dir()


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info["files"].clear(),
        lambda info: info["num_documents"].update(video=3),
        lambda info: info["num_documents"].clear(),
        lambda info: info.update(files=[]),
        lambda info: info.update(num_documents=7),
        lambda info: info.pop("name"),
        lambda info: info.update(name=None),
        lambda info: info.update(more=1),
    ],
)
def test_odd_values_in_the_manifest_are_refused(folder, monkeypatch, change):
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)
    change_manifest(folder, lambda values: change(values["lexical"]))
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        IndexReader(folder)
    assert list(find_problems(folder))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff" * 3_000, None])
def test_crafted_files_are_refused_in_one_line(folder, monkeypatch, capfd, content):
    """With checksums that are right."""
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)
    from reelseek.indexing.vectors.shard import file_checksum

    for path in sorted(lexical_folder(folder).iterdir()):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2] if content is None else content)
        checksum = file_checksum(path)
        change_manifest(
            folder, lambda v, n=path.name, c=checksum: v["lexical"]["files"].update({n: c})
        )
        try:
            with closing(IndexReader(folder)) as reader:
                search_words(reader, ["frisbee", "sale"], k=5)
        except ValueError as error:
            assert "\n" not in str(error)
        path.write_bytes(data)
        checksum = file_checksum(path)
        change_manifest(
            folder, lambda v, n=path.name, c=checksum: v["lexical"]["files"].update({n: c})
        )
    assert keys_in(folder, "frisbee") == {DOG, "sign.mp4"}


def test_words_of_other_videos_are_noticed(folder):
    path = lexical_folder(folder) / "table.npy"
    table = np.load(path)
    table["checksum"][1] ^= 1
    path.unlink()
    np.save(path, table)
    checksum = file_checksum(path)
    change_manifest(folder, lambda values: values["lexical"]["files"].update({path.name: checksum}))
    (problem,) = find_problems(folder)
    assert problem.endswith("the words of 1 videos are not theirs")


def test_what_a_killed_run_has_left_is_in_nobodys_way(folder):
    number = Manifest.read(folder).generation + 1
    left = folder / f"lexical-{number:08d}"
    left.mkdir()
    (left / "video.meta.json").write_text("half")
    (folder / "lexical-00000099").symlink_to(folder.parent)
    with IndexWriter(folder) as writer:
        add(writer, "new.mp4", {"captions": ["a comet"]})
        writer.publish()
    lexical_folder(folder)
    assert keys_in(folder, "comet") == {"new.mp4"}
    assert folder.parent.is_dir()


def test_full_disk_leaves_the_earlier_generation(folder, monkeypatch):
    before = contents(lexical_folder(folder))
    with IndexWriter(folder) as writer:
        add(writer, "new.mp4", {"captions": ["a comet"]})
        with monkeypatch.context() as patched:

            def fail(*arguments):
                raise OSError(28, "No space left on device")

            patched.setattr(shutil, "copyfile", fail)
            with pytest.raises(OSError, match="No space"):
                writer.publish()
        assert contents(lexical_folder(folder)) == before
        assert keys_in(folder, "frisbee") == {DOG, "sign.mp4"}
        writer.publish()
    assert keys_in(folder, "comet") == {"new.mp4"}


def test_disk_without_links_gets_copies(folder, monkeypatch):
    def fail(*arguments):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", fail)
    monkeypatch.setattr("pathlib.Path.symlink_to", fail)
    with IndexWriter(folder) as writer:
        add(writer, "new.mp4", {"captions": ["a comet"]})
        writer.publish()
    assert keys_in(folder, "comet frisbee") == {"new.mp4", DOG, "sign.mp4"}
    assert list(find_problems(folder)) == []
