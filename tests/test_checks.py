"""A user's mistakes are said before a model is loaded, with the option's name, in one line."""

import json
import logging
import os
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import reelseek
import reelseek.indexing.__main__
from reelseek import vision
from reelseek.configs import command_line
from reelseek.configs.schema import IndexConfig
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.searcher import Searcher
from reelseek.vision.models import kept_text, openvino_text
from tests.command_lines import run_in_this_process
from tests.indexing.small_index import SETTINGS, video_of

SAMPLING = {
    "kind": "interval",
    "every_seconds": 1.0,
    "min_frames": 8,
    "max_frames": 100,
    "dedup_threshold": 0.0,
}


@pytest.fixture
def index(tmp_path):
    settings = replace(SETTINGS, sampling=SAMPLING)
    with IndexWriter(tmp_path / "index", settings) as writer:
        for i in range(5):
            writer.add(*video_of(f"{i}.mp4", np.eye(8)[i : i + 2], metadata={"year": i}))
        writer.publish()
    return tmp_path / "index"


@pytest.fixture
def say(monkeypatch):
    """Runs a program in this process; returns its one line on stderr."""

    def no_model(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(vision, "load_model", no_model)
    monkeypatch.setattr(vision, "start_decode_server", no_model)

    def run(program, name, *arguments):
        done = run_in_this_process(import_module(program), name, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        (line,) = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["query=a", "where=year <"], "where=year <: expected a value"),
        (["query=a", "where=yeer = 1"], "where=yeer = 1: no video has the field 'yeer'"),
        (["query= "], "query is empty"),
        (["image=TMP/none.jpg"], "image=TMP/none.jpg: no such file"),
        (["image=TMP"], "image=TMP: is not a file"),
        (["video=TMP/pipe.mp4"], "video=TMP/pipe.mp4: is not a file"),
        (["query=a", "page=TMP"], "page=TMP: is a folder; name a file in it"),
        (["query=a", "page=TMP/none/a.html"], "page=TMP/none/a.html: there is no folder TMP/none"),
        (["query=a", "ranker=TMP/none"], "ranker=TMP/none: holds no ranker"),
        (
            ["query=a", "token_matching=TMP/none"],
            "token_matching=TMP/none: holds no token matching weights",
        ),
        (["query=a", "sources=[visual,wrods]"], "sources=wrods: must be one of visual, lexical"),
        (["query=a", "device=cuad"], "device=cuad: must be auto, cpu, cuda or cuda:N"),
        (["query=a", "device=cuda:x"], "device=cuda:x: must be auto"),
        (["query=a", "model=minni"], "model=minni is unknown and no such folder exists; near"),
    ],
)
def test_search(say, index, tmp_path, arguments, line):
    os.mkfifo(tmp_path / "pipe.mp4")
    filled = [argument.replace("TMP", str(tmp_path)) for argument in arguments]
    assert say("reelseek.ranking.command", "search", f"index={index}", *filled).startswith(
        line.replace("TMP", str(tmp_path))
    )


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["sampling=uniform"], "was built with sampling"),
        (["index.kind=IVFF4"], "index.kind=IVFF4: must be auto, flat"),
        (["device=cuad"], "device=cuad: must be"),
        (
            ["model=ViT-B-23"],
            "model=ViT-B-23 is unknown and no such folder exists",
        ),
        (["precision=fp15"], "precision=fp15: must be one of auto, int8, bf16, fp32"),
        (["precision=int8", "device=cuda"], "precision=int8 needs device=cpu, not device=cuda"),
        (["videos=TMP/none"], "videos=TMP/none: no such file or folder"),
        (["shards=3"], "shards=3: index=TMP/index has 1; leave shards out, or divide it anew: "),
        (["shards=0"], "shards=0: must be 1 to 9999"),
        (["index=TMP"], "index=TMP: the folder holds other files"),
        (["index=TMP/a.mp4"], "index=TMP/a.mp4: TMP/a.mp4 is not a folder"),
    ],
)
def test_indexing(say, index, tmp_path, arguments, part):
    (tmp_path / "a.mp4").write_bytes(b"a")
    given = {"videos": f"{tmp_path}/a.mp4", "index": str(index)}
    for argument in arguments:
        name, _, value = argument.partition("=")
        given[name] = value.replace("TMP", str(tmp_path))
    line = say(
        "reelseek.indexing.__main__", "index", *(f"{name}={value}" for name, value in given.items())
    )
    assert part.replace("TMP", str(tmp_path)) in line


def test_shards(say, index, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    divide_index(index, 2)
    run = partial(say, "reelseek.indexing.__main__", "index", f"videos={tmp_path}/a.mp4")
    for given in ("shards=3", "shards=1"):
        line = run(f"index={index}", given)
        assert line == (
            f"{given}: index={index} has 2; leave shards out, or divide it anew: "
            f"reelseek shard --index {index} --{given.replace('=', ' ')}"
        )
    shard = index / "shards" / "0001"
    assert run(f"index={shard}") == f"index={shard}: is a shard; name the whole index, {index}"
    shard.rename(tmp_path / "elsewhere")
    expected = f"index={index}: its shard {shard} is missing; put it back, or index again into a "
    for tool in ("delete", "repair", "shard"):
        given = {"delete": ["keys=a"], "shard": ["shards=3"]}.get(tool, [])
        line = say(f"reelseek.indexing.tools.{tool}", tool, f"index={index}", *given)
        assert line.startswith(expected)
    line = say("reelseek.ranking.command", "search", f"index={index}", "query=dog")
    assert line.startswith(expected)


def test_locked_index(say, index, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    with IndexWriter(index):
        expected = f"index={index}: another process is writing it; wait until it has finished"
        given = f"index={index}"
        assert (
            say("reelseek.indexing.__main__", "index", f"videos={tmp_path}/a.mp4", given)
            == expected
        )
        assert say("reelseek.indexing.enrich.__main__", "enrich", given, "ocr=true") == expected
        assert say("reelseek.indexing.tools.delete", "delete", given, "keys=1.mp4") == expected
        assert say("reelseek.indexing.tools.repair", "repair", given) == expected
        assert say("reelseek.indexing.tools.shard", "shard", given, "shards=2") == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("status", []),
        ("verify", []),
        ("repair", []),
        ("delete", ["keys=a"]),
        ("enrich", ["ocr=true"]),
        ("export", ["output=o"]),
        ("shard", ["shards=2"]),
    ],
)
def test_folder_that_is_no_index(say, tmp_path, name, arguments):
    for folder in (tmp_path / "none", tmp_path):
        (tmp_path / "a.txt").touch()
        program = "enrich.__main__" if name == "enrich" else f"tools.{name}"
        line = say(f"reelseek.indexing.{program}", name, f"index={folder}", *arguments)
        assert line.startswith(f"index={folder}: ")


def test_sources_that_are_no_indexes(say, index, tmp_path):
    for name, found in (("none", "no such folder"), (".", "is not an index")):
        given = f"sources=[{index},{tmp_path / name}]"
        line = say("reelseek.indexing.tools.merge", "merge", f"index={tmp_path}/all", given)
        assert line.startswith(f"sources={tmp_path / name}: {found}")


def test_folder_that_cannot_be_written(say, index, tmp_path):
    (tmp_path / "file").touch()
    output = f"output={tmp_path}/file/o"
    judgements = tmp_path / "j.jsonl"
    judgements.write_text(json.dumps({"query": "a", "video": "1.mp4", "relevance": 1}))
    for program, name, more in [
        ("reelseek.indexing.tools.export", "export", []),
        ("reelseek.ranking.token_matching.__main__", "token_matching", []),
        ("reelseek.ranking.__main__", "ranker", [f"judgements={judgements}"]),
    ]:
        line = say(program, name, f"index={index}", output, *more)
        assert line == f"{output}: {tmp_path}/file is not a folder; name another"


def test_what_is_to_be_learned_from(say, index, tmp_path):
    where = [f"index={index}", f"output={tmp_path}/o"]
    line = say("reelseek.ranking.token_matching.__main__", "token_matching", *where)
    assert line.startswith(f"index={index}: 0 of its videos have captions")
    judgements = tmp_path / "j.jsonl"
    judgements.write_text(json.dumps({"query": "a", "video": "none.mp4", "relevance": 1}))
    line = say("reelseek.ranking.__main__", "ranker", *where, f"judgements={judgements}")
    assert line == f"judgements={judgements}: none of its videos is in index={index}"
    assert not (tmp_path / "o").exists()


def test_speech_model_that_is_not_there(say, index, tmp_path):
    pytest.importorskip("faster_whisper")
    given = [f"index={index}", "speech=true", f"speech_model={tmp_path}/none"]
    line = say("reelseek.indexing.enrich.__main__", "enrich", *given)
    assert line.startswith(f"speech_model={tmp_path}/none: no such folder")


# In Python.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 5}, "index must be a path, as a str or Path, not int"),
        ({"index": None}, "index must be a path"),
        ({"model": 5}, "model must be the name of a model"),
        ({"device": 0}, "device must be a str such as auto, cpu or cuda, not int"),
        ({"ranker": True}, "ranker must be a path, as a str or Path, or None, not bool"),
        ({"log_queries": "yes"}, "log_queries must be True or False, not str"),
    ],
)
def test_wrong_type_of_what_is_opened(options, message):
    with pytest.raises(TypeError, match=message):
        Searcher.open(**{"index": "i", **options})


def test_questions_are_checked_before_the_index_is_opened(monkeypatch):
    monkeypatch.setattr(Searcher, "open", None)
    with pytest.raises(ValueError, match="k=0: must be at least 1"):
        reelseek.search("red", index="none", k=0)
    with pytest.raises(TypeError, match="query must be a sentence"):
        reelseek.search(5, index="none")


def test_advice_comes_once_when_an_index_is_made_with_the_default_model(
    monkeypatch, capsys, index, tmp_path
):
    def no_engine(*_, **__):
        raise ValueError("that is far enough")

    model = SimpleNamespace(spec=SimpleNamespace(name="mini"), fingerprint="f", embedding_dim=8)
    monkeypatch.setattr(vision, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(vision, "start_decode_server", lambda: None)
    monkeypatch.setattr(kept_text, "stamp_model", lambda spec: None)
    monkeypatch.setattr(openvino_text, "compile_text_tower", lambda model: None)
    monkeypatch.setattr(reelseek.indexing.__main__, "_engine", no_engine)
    monkeypatch.setattr(os, "nice", lambda increment: 0)
    monkeypatch.setattr(logging.root, "handlers", logging.root.handlers[:])
    (tmp_path / "a.mp4").write_bytes(b"a")
    main = import_module("reelseek.indexing.__main__").main
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CI", raising=False)
    new = tmp_path / "new"
    for folder, others, is_advised in (
        (new, ["model=mini"], False),
        (new, ["progress=json"], False),
        (index, [], False),
        (new, [], True),
        (new, [], False),
    ):
        given = [f"videos={tmp_path}/a.mp4", f"index={folder}", *others]
        monkeypatch.setattr(sys, "argv", ["indexing", *given])
        with pytest.raises(SystemExit):
            command_line.run(main, IndexConfig, usage="")
        printed = capsys.readouterr()
        assert "that is far enough" in printed.err
        assert ("model=siglip2_b32" in printed.err) == is_advised
        assert printed.out == ""


def test_place_that_is_not_there_is_named_beside_others(index, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"")
    places = f"videos=[{tmp_path}/videos,{tmp_path}/none]"
    # What the index was not made with ends the run before a model is loaded.
    done = run_in_this_process(
        reelseek.indexing.__main__, "index", places, f"index={index}", "sampling.every_seconds=7"
    )
    passed_over, error = done.stderr.splitlines()
    assert passed_over == f"passed over: videos={tmp_path}/none: no such file or folder"
    assert error.startswith("error: ")
