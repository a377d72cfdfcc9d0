import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import product

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.enrich.__main__ import enrich_index
from reelseek.indexing.enrich.extractor import ReadVideo
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.searcher import Searcher
from tests.command_lines import PROJECT, assert_user_error
from tests.conftest import COLOURS
from tests.indexing.in_process import run_tool
from tests.indexing.speaking import (
    RATE,
    film_index,
    picture,
    say,
    silence,
    whisper_folder,
    write_film,
)


class FakeReader:
    """Says of each video its key; `does` happens before."""

    engine = "fake 1.0"

    def __init__(self, source="ocr", does=lambda key: None):
        self.source = source
        self.seen = []
        self._does = does

    def read(self, records):
        for record in records:
            self.seen.append(record.key)
            self._does(record.key)
            if "broken" in record.key:
                yield ReadVideo(record, None, "it breaks off")
            else:
                yield ReadVideo(record, [TimedText(self.source, 1.0, 2.0, record.key)])


def enrich(folder, *readers, **options):
    return enrich_index(folder, readers, show_progress=False, **options)


def texts_by_key(folder):
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        keys = {record.id: record.key for record in catalogue.scan()}
        found = catalogue.texts(list(keys))
        return {keys[n]: sorted(text.text for text in found[n]) for n in sorted(found)}


def counts(summary):
    return summary.ocr, summary.speech, summary.failed


def films_of(folder, *names):
    return {name: write_film(folder / name, [picture(level=i)]) for i, name in enumerate(names)}


@pytest.fixture
def films(tmp_path):
    return films_of(tmp_path / "films", "a.mkv", "b.mkv", "c.mkv")


@pytest.fixture
def folder(tmp_path, films):
    film_index(tmp_path / "index", films, [(0, 1)])
    return tmp_path / "index"


def test_each_video_is_looked_at_once_by_each_reader(folder):
    ocr, speech = FakeReader(), FakeReader("speech")
    assert counts(enrich(folder, ocr)) == (3, 0, 0)
    assert texts_by_key(folder) == {key: [key] for key in ("a.mkv", "b.mkv", "c.mkv")}
    assert counts(enrich(folder, ocr, speech)) == (0, 3, 0)
    assert ocr.seen == speech.seen == ["a.mkv", "b.mkv", "c.mkv"]
    assert texts_by_key(folder)["a.mkv"] == ["a.mkv", "a.mkv"]
    assert list(find_problems(folder)) == []


def test_what_was_found_is_published(folder):
    before = Manifest.read(folder)
    enrich(folder, FakeReader())
    after = Manifest.read(folder)
    assert after.generation == before.generation + 1
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        assert after.revision == catalogue.counter("revision")
    enrich(folder, FakeReader())
    assert Manifest.read(folder) == after  # nothing was new


def test_failing_video_is_named_skipped_and_tried_again(tmp_path, caplog):
    films = films_of(tmp_path / "films", "a.mkv", "broken.mkv", "c.mkv")
    film_index(tmp_path / "index", films, [(0, 1)])
    assert counts(enrich(tmp_path / "index", FakeReader())) == (2, 0, 1)
    assert "broken.mkv: ocr failed: it breaks off" in caplog.text
    assert texts_by_key(tmp_path / "index") == {"a.mkv": ["a.mkv"], "c.mkv": ["c.mkv"]}
    again = FakeReader()
    assert counts(enrich(tmp_path / "index", again)) == (0, 0, 1)
    assert again.seen == ["broken.mkv"]


def test_file_that_is_gone_or_has_changed_is_not_looked_at(folder, films, caplog):
    films["a.mkv"].unlink()
    films["b.mkv"].write_bytes(b"another film")
    os.utime(films["c.mkv"], (1, 1))  # the same content with another time
    reader = FakeReader()
    assert counts(enrich(folder, reader)) == (1, 0, 2)
    assert reader.seen == ["c.mkv"]
    assert "a.mkv: ocr failed: it cannot be read (No such file or directory)" in caplog.text
    assert "b.mkv: ocr failed: it has changed since it was indexed" in caplog.text


def test_one_of_twins_is_looked_at(tmp_path, films):
    shutil.copy(films["a.mkv"], tmp_path / "films" / "twin.mkv")
    films["twin.mkv"] = tmp_path / "films" / "twin.mkv"
    film_index(tmp_path / "index", films, [(0, 1)])
    films["a.mkv"].unlink()
    reader = FakeReader()
    assert counts(enrich(tmp_path / "index", reader)) == (4, 0, 0)
    assert sorted(reader.seen) == ["b.mkv", "c.mkv", "twin.mkv"]
    assert texts_by_key(tmp_path / "index")["a.mkv"] == ["twin.mkv"]


def test_twin_that_comes_later_has_the_texts_at_once(folder, films):
    enrich(folder, FakeReader())
    with IndexWriter(folder) as writer:
        record = writer.catalogue.records()["a.mkv"]
        fields = {name: getattr(record, name) for name in ("path", "signature", "outcome", "spans")}
        from reelseek.indexing.store.videos import NewVideo

        writer.add_duplicate(NewVideo("later.mkv", **fields), record)
        writer.publish()
    reader = FakeReader()
    assert counts(enrich(folder, reader)) == (1, 0, 0)
    assert reader.seen == []
    assert texts_by_key(folder)["later.mkv"] == ["a.mkv"]


def test_new_videos_alone_are_looked_at(folder, tmp_path):
    enrich(folder, FakeReader())
    more = films_of(tmp_path / "more", "d.mkv", "e.mkv")
    more["e.mkv"].write_bytes(more["e.mkv"].read_bytes() + b"\0")
    film_index(folder, more, [(0, 1)])
    reader = FakeReader()
    enrich(folder, reader)
    assert "e.mkv" in reader.seen and "b.mkv" not in reader.seen


# Runs that are stopped


def test_stopped_run_keeps_what_is_done_and_the_next_goes_on(folder):
    stop = StopRequest()

    def stop_at(key):
        if key == "b.mkv":
            stop.signal_number = signal.SIGINT

    summary = enrich(folder, FakeReader(does=stop_at), FakeReader("speech"), stop=stop)
    assert (counts(summary), summary.stopped) == ((2, 0, 0), True)
    assert set(texts_by_key(folder)) == {"a.mkv", "b.mkv"}
    reader = FakeReader()
    assert counts(enrich(folder, reader)) == (1, 0, 0)
    assert reader.seen == ["c.mkv"]


def test_second_ctrl_c_keeps_what_is_done(folder):
    def interrupt(key):
        if key == "b.mkv":
            raise KeyboardInterrupt

    summary = enrich(folder, FakeReader(does=interrupt))
    assert (counts(summary), summary.stopped) == ((1, 0, 0), True)
    assert set(texts_by_key(folder)) == {"a.mkv"}
    assert list(find_problems(folder)) == []


def test_killed_run_keeps_what_was_done(folder, tmp_path):
    program = f"""
import time
from pathlib import Path
from tests.indexing.enrich.test_enrich import FakeReader, enrich

def wait(key):
    if key == "c.mkv":
        Path({str(tmp_path / "reached")!r}).touch()
        time.sleep(60)

enrich(Path({str(folder)!r}), FakeReader(does=wait))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "reached").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert set(texts_by_key(folder)) == {"a.mkv", "b.mkv"}
    reader = FakeReader()
    assert counts(enrich(folder, reader)) == (1, 0, 0)
    assert reader.seen == ["c.mkv"]
    assert list(find_problems(folder)) == []


# The command line


def enrich_command(folder, *arguments):
    return run_tool("enrich", f"index={folder}", "niceness=0", *arguments)


def test_command_reads_and_hears_a_film(tmp_path):
    pytest.importorskip("rapidocr")
    pytest.importorskip("faster_whisper")
    model = whisper_folder()
    samples = np.concatenate([silence(4), say("The elephant is drinking water."), silence(1)])
    shown = [picture(text, size=(400, 200)) for text in ("", "", "", "", "HARBOUR", "HARBOUR")]
    films = {"film.mkv": write_film(tmp_path / "film.mkv", shown, samples)}
    film_index(tmp_path / "index", films, [(0, 4), (4, 6)])
    process = enrich_command(tmp_path / "index", "ocr=true", "speech=true", f"speech_model={model}")
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout.splitlines()[-1])
    assert (summary["ocr"], summary["speech"], summary["failed"]) == (1, 1, 0)
    assert summary["seconds"] > 0
    with closing(Catalogue(tmp_path / "index" / CATALOGUE_NAME, read_only=True)) as catalogue:
        (texts,) = catalogue.texts(catalogue.searchable_ids().tolist()).values()
    written = [text for text in texts if text.source == "ocr"]
    (spoken,) = [text for text in texts if "elephant" in text.text]
    assert written == [TimedText("ocr", 4.0, 6.0, "HARBOUR")]
    assert spoken.start_seconds == pytest.approx(4.0, abs=0.75)


def test_picture_and_texts_find_together_what_neither_finds_alone(
    tmp_path, colour_index, colour_model
):
    """Each colour goes with each word, written or spoken, in one film: only both tell which."""
    pytest.importorskip("rapidocr")
    pytest.importorskip("faster_whisper")
    model = whisper_folder()
    written, spoken = ("museum", "kitchen"), ("elephant",)
    for colour, rgb in COLOURS.items():
        for word in written:
            path = tmp_path / "films" / f"{colour} {word}"[::-1]  # the name gives nothing away
            write_film(path.with_suffix(".mkv"), 2 * [picture(word, colour=rgb)])
        for word in spoken:
            path = tmp_path / "films" / f"{colour} {word}"[::-1]
            samples = np.concatenate([silence(1), say(f"An {word} is drinking."), silence(1)])
            shown = [picture(colour=rgb)] * round(len(samples) / RATE)
            write_film(path.with_suffix(".mkv"), shown, samples)
    colour_index.update(tmp_path / "films")
    folder = colour_index.folder
    done = enrich_command(folder, "ocr=true", "speech=true", f"speech_model={model}")
    assert done.returncode == 0, done.stderr
    searcher = Searcher(IndexReader(folder), colour_model, device="cpu")
    reciprocal_ranks = {source: [] for source in ("visual", "lexical", "visual,lexical")}
    for colour, word in product(COLOURS, (*written, *spoken)):
        query = f"{colour} {word}"
        for source, found in reciprocal_ranks.items():
            hits = searcher.search(query, k=9, sources=source.split(","))
            ranks = {hit.key: hit.rank for hit in hits}
            found.append(1 / ranks.get(query[::-1] + ".mkv", np.inf))
    searcher.close()
    means = {source: np.mean(found) for source, found in reciprocal_ranks.items()}
    print(means)
    assert means["visual,lexical"] == 1.0
    assert max(means["visual"], means["lexical"]) < 0.7  # one of three, by chance


@pytest.mark.parametrize(
    ("module", "argument", "remedy"),
    [
        ("rapidocr", "ocr=true", "pip install 'reelseek[ocr]'"),
        ("faster_whisper", "speech=true", "pip install 'reelseek[speech]'"),
    ],
)
def test_extra_that_is_missing_is_named(folder, monkeypatch, module, argument, remedy):
    monkeypatch.setitem(sys.modules, module, None)
    process = enrich_command(folder, argument)
    assert_user_error(process, module.replace("_", "-"), remedy)
    assert texts_by_key(folder) == {}


def test_missing_index_is_named(tmp_path):
    process = enrich_command(tmp_path / "none", "ocr=true")
    assert_user_error(process, "none", "make one with reelseek index")


def test_index_of_failures_only_ends_with_1(tmp_path, monkeypatch):
    pytest.importorskip("rapidocr")
    films = films_of(tmp_path / "films", "a.mkv")
    film_index(tmp_path / "index", films, [(0, 1)])
    films["a.mkv"].unlink()
    monkeypatch.setattr("reelseek.indexing.enrich.ocr.RapidOcr", lambda: FakeReader())
    process = enrich_command(tmp_path / "index", "ocr=true")
    assert process.returncode == 1
    assert json.loads(process.stdout)["failed"] == 1
