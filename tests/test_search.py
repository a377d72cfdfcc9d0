import html
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import reelseek.indexing.__main__
import tests.conftest
from reelseek import Searcher
from reelseek.indexing import IndexReader, IndexSettings, update_index
from reelseek.indexing.lexical import documents
from reelseek.indexing.sources.collection import read_source
from reelseek.indexing.store.manifest import Manifest
from reelseek.ranking import SearchHit
from reelseek.ranking import command as search
from reelseek.ranking.command import table
from reelseek.ranking.evidence import Evidence
from reelseek.text.query.analyzer import QueryAnalyzer
from reelseek.vision import FrameSettings, IntervalSampler, VideoDecodeError
from tests.command_lines import assert_user_error, run_in_this_process, run_program
from tests.conftest import COLOURS, InProcessPool

pytestmark = pytest.mark.long

RED, GREEN, BLUE = COLOURS.values()


# The search function, with the model of colours


@pytest.fixture
def searcher(colour_encoder, colour_model, write_video, tmp_path):
    folder = tmp_path / "videos"
    write_video("film.mp4", [RED] * 12 + [GREEN] * 12 + [BLUE] * 12, fps=2, folder=folder)
    write_video("red.mp4", [RED] * 10, fps=2, folder=folder)
    write_video("green.mp4", [GREEN] * 10, fps=2, folder=folder)
    settings = IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=colour_model.fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5},
        segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 2.0},
    )
    update_index(
        tmp_path / "index",
        [read_source(str(folder))],
        settings=settings,
        encoder=colour_encoder,
        pool=InProcessPool(FrameSettings(IntervalSampler(0.5), colour_encoder.preprocessing)),
        show_progress=False,
    )
    searcher = Searcher(IndexReader(tmp_path / "index"), colour_model, device="cpu")
    yield searcher
    searcher.close()


def keys(hits):
    return [hit.key for hit in hits]


def test_words_find_the_video(searcher):
    assert keys(searcher.search("something green")) == ["green.mp4", "film.mp4", "red.mp4"]
    assert keys(searcher.search("something blue", k=1)) == ["film.mp4"]


def test_words_find_the_moment(searcher):
    best = searcher.search("blue", k=1, level="moment")[0]
    assert (best.key, best.start_seconds) == ("film.mp4", 12.0)
    assert best.end_seconds == pytest.approx(18, abs=0.01)


def test_image_file_is_a_query(searcher, tmp_path):
    Image.new("RGB", (50, 30), GREEN).save(tmp_path / "query.png")
    hits = searcher.search(tmp_path / "query.png")
    assert keys(hits) == ["green.mp4", "film.mp4", "red.mp4"]
    assert hits[0].score == pytest.approx(1, abs=0.01)


def test_video_file_is_a_query(searcher, write_video):
    query = write_video("query.mp4", [RED] * 5 + [GREEN] * 5 + [BLUE] * 5)
    hits = searcher.search(query)
    assert keys(hits)[0] == "film.mp4"
    assert hits[0].score == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_pillow_image_is_a_query(searcher, mode):
    hits = searcher.search(Image.new("RGB", (50, 30), RED).convert(mode))
    assert keys(hits)[0] == "red.mp4"
    assert hits[0].score == pytest.approx(1, abs=0.03)


def test_string_is_words_even_if_a_file_has_that_name(searcher, tmp_path, monkeypatch):
    Image.new("RGB", (50, 30), GREEN).save(tmp_path / "red.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").mkdir()
    assert keys(searcher.search("red"))[0] == "red.mp4"


def test_missing_query_file_is_named(searcher, tmp_path):
    with pytest.raises(VideoDecodeError, match="no such file"):
        searcher.search(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("", {}, "query is empty"),
        (" \n\t", {}, "query is empty"),
        ("red", {"k": 0}, "k=0: must be at least 1"),
        ("red", {"k": -3}, "k=-3: must be at least 1"),
        ("red", {"level": "shot"}, "level=shot: must be one of video, moment"),
    ],
)
def test_question_that_cannot_be_answered_says_why(searcher, query, options, message):
    with pytest.raises(ValueError, match=message):
        searcher.search(query, **options)


def test_searcher_says_what_it_is_and_closes_itself(searcher):
    with searcher as same:
        assert same is searcher
        folder = str(searcher.reader.folder)
        assert repr(searcher) == (
            f"Searcher(index={folder!r}, model='colours', videos=3, segments="
            f"{searcher.reader.manifest.num_segments})"
        )
    with pytest.raises(Exception, match="closed"):
        searcher.search("red")


def test_path_given_as_words_gets_a_hint(searcher, caplog):
    searcher.search("photo.jpg")
    assert "taken as words" in caplog.text and "Path('photo.jpg')" in caplog.text


# What a sentence means


def test_filters_in_a_sentence_are_heeded(searcher):
    assert keys(searcher.search("something green under 10 seconds")) == ["green.mp4", "red.mp4"]
    assert keys(searcher.search("green", where="duration > 10")) == ["film.mp4"]
    assert searcher.search("green under 10 seconds", where="duration > 10") == []
    as_it_stands = searcher.search("something green under 10 seconds", analyze=False)
    assert keys(as_it_stands) == ["green.mp4", "film.mp4", "red.mp4"]


EMPTY_FILTERS = [
    ("green before 1990", None, "no video before 1990 (from 'before 1990')"),
    ("green in 1990", None, "no video of 1990 (from 'in 1990')"),
    (
        "green from 1985 to 1990",
        None,
        "no video since 1985 and until 1990 (from 'from 1985 to 1990')",
    ),
    ("green under 2 seconds", None, "no video shorter than 2 s (from 'under 2 seconds')"),
    ("green #cat", None, "no video tagged 'cat' (from '#cat')"),
    ("green", "date < 1990", "no video that fits where='date < 1990'"),
    (
        "green under 10 seconds",
        "duration > 10",
        "no video that fits where='duration > 10' and also shorter than 10 s (from 'under 10 "
        "seconds')",
    ),
]


def test_filter_that_leaves_nothing_says_so(searcher):
    for query, where, why in EMPTY_FILTERS:
        hits = searcher.search(query, where=where)
        assert hits == []
        remedy = "; to look for these words instead, put them in quotes"
        assert hits.why_empty == why + remedy * (query != "green")
        assert hits.why_empty in html.unescape(hits._repr_html_())
        assert searcher.search('green "before 1990"').why_empty == ""


def test_results_that_are_there_have_nothing_to_explain(searcher):
    assert searcher.search("green since 1990").why_empty == ""
    assert searcher.search("green", min_confidence=0.0, where="date > 1990").why_empty == ""


def test_results_read_well_and_have_pictures_in_a_notebook(searcher):
    hits = searcher.search("something green", k=2)
    assert (
        repr(hits).splitlines()[0].startswith("[SearchHit(rank=1, key='green.mp4', time=0:00-0:0")
    )
    assert len(repr(hits).splitlines()) == 2
    assert hits._repr_html_().count("<img ") == 2
    assert hits[0]._repr_html_().count("<img ") == 1


def test_table_cannot_steer_the_terminal_and_has_one_number_a_hit():
    hit = SearchHit(
        rank=1,
        id="abc",
        video="/a",
        score=0.0354,
        start_seconds=0.0,
        end_seconds=3.0,
        best_seconds=1.0,
        duration_seconds=3.0,
        key="esc\x1b[31mred\nline\u202e.mp4",
        confidence=0.0001,
        evidence=(Evidence("visual", 1, 0.3), Evidence("lexical", 2, 7.1, detail="\x1b[2Jtitle")),
    )
    _, line = table([hit]).split("\n")
    columns = ["1", "<1 %", "0:00-0:03", "visual, lexical", r"esc\x1b[31mred\nline\u202e.mp4"]
    assert re.split("  +", line.strip()) == columns
    _, line, why = table([replace(hit, confidence=None)], explained=True).split("\n")
    assert re.split("  +", line.strip())[1] == "-"
    assert why.strip().startswith("score 0.035: visual #1 0.300; lexical #2 7.10 (")
    assert why.isprintable()


def test_what_a_sentence_excludes_goes_last(searcher):
    pictures = {"sources": ["visual"]}
    assert keys(searcher.search("blue", **pictures))[0] == "film.mp4"
    found = searcher.search("green without red", level="moment", k=9, **pictures)
    assert (found[0].key, found[-1].score) == ("green.mp4", min(hit.score for hit in found))
    meaning = searcher.analyze("green without red")
    assert (meaning.text, meaning.excluded) == ("green", ("red",))


def test_events_in_a_sentence_are_found_in_order(searcher):
    found = searcher.search("red, then green, then blue", level="moment")
    assert [hit.key for hit in found] == ["film.mp4"]
    assert found[0].start_seconds < 3 and found[0].end_seconds > 15
    backwards = searcher.search("blue, then green, then red", level="moment")
    assert backwards[0].score < found[0].score


def test_several_parts_are_all_matched(searcher, tmp_path):
    Image.new("RGB", (50, 30), RED).save(tmp_path / "red.png")
    image = tmp_path / "red.png"
    assert keys(searcher.search([image, "green", "blue"]))[0] == "film.mp4"
    assert keys(searcher.search({image: 1.0, "green": 0.2}))[0] == "red.mp4"
    assert keys(searcher.search({"green": 1.0, image: -0.5}))[0] == "green.mp4"
    with pytest.raises(ValueError, match="cancel out"):
        searcher.search({"green": 1.0, "Green": -1.0})
    with pytest.raises(ValueError, match="query is empty"):
        searcher.search([])


def test_names_of_files_are_words(searcher):
    pytest.importorskip("tantivy")
    assert keys(searcher.search("film", sources=["lexical"])) == ["film.mp4"]
    assert searcher.skipped == ""
    with pytest.raises(ValueError, match="sources=sound"):
        searcher.search("film", sources=["sound"])


def test_after_warming_up_answers_are_the_same(searcher, monkeypatch):
    expected = searcher.search("something green")
    other = Searcher(IndexReader(searcher.reader._folder), searcher.encoder._model, device="cpu")
    other.warm_up()
    monkeypatch.setattr(QueryAnalyzer, "__init__", None)  # it is there already
    assert other.search("something green") == expected
    other.close()


def test_without_tantivy_pictures_are_searched_and_that_is_said(searcher, monkeypatch):
    monkeypatch.setitem(sys.modules, "tantivy", None)
    documents._stemmer.cache_clear()
    alone = Searcher(IndexReader(searcher.reader._folder), searcher.encoder._model, device="cpu")
    expected = searcher.search("something green", sources=["visual"])
    found = alone.search("something green")
    assert [(hit.key, hit.score) for hit in found] == [(hit.key, hit.score) for hit in expected]
    assert "pip install" in alone.skipped
    alone.close()


# The command lines, with the real model


def run_search(index, *arguments):
    return run_in_this_process(search, "search", f"index={index}", *arguments)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of three clips of three seconds."""
    folder = tmp_path_factory.mktemp("clips")
    write_video = tests.conftest.write_video.__wrapped__(folder)
    for name, colour in COLOURS.items():
        write_video(f"{name}.mp4", [colour] * 6, fps=2)
    return folder


@pytest.fixture(scope="module")
def indexed(clips, tmp_path_factory):
    """What indexing the clips with `mini` left, and the index."""
    index = tmp_path_factory.mktemp("indexes") / "index"
    done = run_in_this_process(
        reelseek.indexing.__main__, "index", f"videos={clips}", f"index={index}"
    )
    assert done.returncode == 0, done.stderr
    return done, index


@pytest.fixture(scope="module")
def index(indexed):
    return indexed[1]


@pytest.mark.model
def test_indexing_ends_with_a_line_of_counts(indexed):
    process, index = indexed
    summary = json.loads(process.stdout.splitlines()[-1])
    names = "indexed unchanged failed deleted".split()
    assert [summary[name] for name in names] == [3, 0, 0, 0]
    assert summary["seconds"] > 0
    report = [json.loads(line) for line in (index / "report.jsonl").read_text().splitlines()]
    assert [(line["key"], line["outcome"]) for line in report] == [
        ("blue.mp4", "ok"),
        ("green.mp4", "ok"),
        ("red.mp4", "ok"),
    ]


@pytest.mark.model
def test_json_is_all_there_is_on_stdout(index, clips):
    query = """a "red" car, it's [blue] {or} $HOME = ${x}, 50% \\ caf\u00e9"""
    process = run_program("search.py", f"index={index}", f"query={query}", "k=2", "json=true")
    assert process.returncode == 0, process.stderr
    hits = json.loads(process.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert {"rank", "video", "score", "start_seconds", "end_seconds"} <= hits[0].keys()
    assert hits[0]["score"] >= hits[1]["score"]
    for hit in hits:
        assert Path(hit["video"]).parent == clips
        assert (hit["start_seconds"], hit["end_seconds"]) == (0.0, pytest.approx(3, abs=0.01))


@pytest.mark.model
def test_table_has_a_line_a_hit(index):
    process = run_search(index, "query=a cat", "level=moment")
    assert process.returncode == 0, process.stderr
    head, *lines = process.stdout.splitlines()
    assert head.split() == ["#", "match", "time", "found", "by", "video"]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert all(line.split()[2] == "%" for line in lines)
    assert {line.split()[3] for line in lines} == {"0:00-0:03"}
    assert {line.split()[-1] for line in lines} == {"red.mp4", "green.mp4", "blue.mp4"}
    assert "score" not in process.stdout


@pytest.mark.model
@pytest.mark.parametrize("name", ["csv", "srt", "html", "json", "otio", "edl"])
def test_hits_are_written_in_other_formats(index, tmp_path, name):
    if name in ("otio", "edl"):
        pytest.importorskip("otio_cmx3600_adapter")
    output = tmp_path / "hits"
    asked = ("query=red", "level=moment", f"format={name}")
    printed = run_search(index, *asked).stdout
    written = run_search(index, *asked, f"output={output}")
    assert (written.returncode, written.stdout) == (0, "")
    text = output.read_bytes().decode()
    assert "red.mp4" in text and str(output) in written.stderr
    if name == "json":
        assert json.loads(printed) == json.loads(text)
    else:
        assert printed.replace("\r\n", "\n") == text.replace("\r\n", "\n")


def test_formats_that_contradict_or_cannot_be_written_are_refused(index, tmp_path):
    done = run_search(index, "query=red", "format=csv", "json=true")
    assert_user_error(done, "format=csv", "json=true")
    done = run_search(index, "query=red", "format=csv", f"output={tmp_path}/no/hits.csv")
    assert_user_error(done, "output=", "no folder")


def test_explanation_says_what_is_meant_and_why_each_hit_is_there(index):
    process = run_search(index, "query=blue under 1 minute -cats", "explain=true")
    assert process.returncode == 0, process.stderr
    assert "duration < 60" in process.stderr and "without    cats" in process.stderr
    assert "lexical #1" in process.stdout and "name: blue.mp4" in process.stdout


@pytest.mark.model
def test_nothing_matches_is_an_answer(index):
    process = run_search(index, "query=a sewing machine", "min_confidence=1")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("nothing matches: the first hit has a probability of ")
    assert process.stdout.endswith(" % (min_confidence=1)\n")


@pytest.mark.model
def test_index_of_another_model_is_refused(index, tmp_path):
    other = shutil.copytree(index, tmp_path / "other")
    manifest = Manifest.read(other)
    settings = replace(manifest.settings, fingerprint="0123456789abcdef" * 2)
    replace(manifest, settings=settings).write(other)
    process = run_search(other, "query=red")
    assert_user_error(process, f"index={other}", "01234567", "index into a new folder")


@pytest.mark.model
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["query="], ["query is empty"]),
        (["query= "], ["query is empty"]),
        (["query=red", "k=0"], ["k=0", "at least 1"]),
        (["query=red", "k=abc"], ["k", "abc"]),
        (["query=red", "level=shot"], ["level", "shot"]),
        (["qurey=red"], ["unknown option qurey", "query"]),
        (["red"], ["'red'", "name=value"]),
        ([], ["query, image or video"]),
        (["image=a.png", "video=a.mp4"], ["image and video"]),
    ],
)
def test_bad_argument_is_one_line_and_exit_code_2(index, arguments, parts):
    assert_user_error(run_search(index, *arguments), *parts)


@pytest.mark.model
def test_missing_image_is_named(index, tmp_path):
    process = run_search(index, f"image={tmp_path}/none.png")
    assert_user_error(process, f"{tmp_path}/none.png", "no such file")


@pytest.mark.parametrize("name", ["none", "folder"])
def test_what_is_not_an_index_says_how_to_make_one(tmp_path, name):
    (tmp_path / "folder").mkdir()
    process = run_search(tmp_path / name, "query=red")
    assert_user_error(process, f"index={tmp_path / name}", "make one with reelseek index")


def test_indexing_a_folder_without_videos_is_one_line(tmp_path):
    process = run_in_this_process(
        reelseek.indexing.__main__, "index", f"videos={tmp_path}", f"index={tmp_path}/index"
    )
    assert_user_error(process, f"videos={tmp_path}", "holds no video")
    assert not (tmp_path / "index").exists()


def test_indexing_with_an_unknown_model_gives_near_names(clips, tmp_path):
    process = run_in_this_process(
        reelseek.indexing.__main__,
        "index",
        f"videos={clips}",
        f"index={tmp_path}/index",
        "model=minni",
    )
    assert_user_error(process, "model=minni", "near names: mini")
    assert not (tmp_path / "index").exists()


@pytest.mark.model
def test_indexing_nothing_but_broken_videos_is_a_failure(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video" * 100)
    process = run_in_this_process(
        reelseek.indexing.__main__, "index", f"videos={tmp_path}/videos", f"index={tmp_path}/index"
    )
    assert process.returncode == 1
    assert json.loads(process.stdout.splitlines()[-1])["failed"] == 1
    assert "error: none of the videos can be searched" in process.stderr.splitlines()
    assert "Traceback" not in process.stderr
