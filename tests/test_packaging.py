"""The wheel installs one importable name; a checkout loads no module twice under two names."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("configs", "indexing", "ranking", "recommendation", "text", "training", "vision")

# Files of these names lie in the folder in which the installed package is tried.
HOSTILE = ("configs/__init__.py", "indexing.py", "search.py", "text.py", "train.py", "vision.py")

# Prints, as a process ends, each file of this checkout that was loaded as several modules.
REPORT = """
import atexit, json, os, sys

def report():
    modules = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and os.path.realpath(path).startswith(ROOT) and "site-packages" not in path:
            modules.setdefault(os.path.realpath(path), {}).setdefault(id(module), []).append(name)
    twice = [list(names.values()) for names in modules.values() if len(names) > 1]
    with open(REPORT_TO, "w") as file:
        json.dump([len(modules), twice], file)

atexit.register(report)
"""


# A checkout.


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "indexing", "videos=/absent", "index=INDEX"],
        *(["-m", f"indexing.{tool}", "--help"] for tool in ("verify", "enrich")),
        ["-m", "indexing.status", "index=/absent"],
        ["-m", "indexing.repair", "index=/absent"],
        ["-m", "ranking", "--help"],
        ["search.py", "index=/absent", "query=a dog"],
        ["train.py", "data.train=/absent.jsonl", "output=INDEX"],
        ["-m", "reelseek", "status", "--index", "/absent"],
        ["-c", "import ranking.hits, reelseek.ranking.hits, ranking.searcher; ranking.hits"],
        ["-c", "from search import Searcher; from text import Tokenizer; import vision"],
    ],
    ids=" ".join,
)
def test_no_module_is_loaded_twice(tmp_path, arguments):
    report = tmp_path / "report.json"
    values = f"ROOT = {str(REPOSITORY) + os.sep!r}\nREPORT_TO = {str(report)!r}\n"
    (tmp_path / "sitecustomize.py").write_text(values + REPORT)
    arguments = [each.replace("INDEX", str(tmp_path / "i")) for each in arguments]
    if arguments[0].endswith(".py"):
        arguments[0] = str(REPOSITORY / arguments[0])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (2 if any("/absent" in each for each in arguments) else 0), (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    num_modules, twice = json.loads(report.read_text())
    assert num_modules >= 4 and twice == []


# A wheel.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing of earlier builds gets into it."""
    copy, output = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("wheel")
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("reelseek", *ROOMS):
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=ignore)
    program = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", program, str(output)], cwd=copy, check=True, capture_output=True
    )
    (path,) = output.glob("*.whl")
    return path


def recorded(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        return [row[0] for row in csv.reader(io.StringIO(archive.read(name).decode()))]


def test_wheel_installs_one_name(wheel):
    top = {name.partition("/")[0] for name in recorded(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"reelseek"}


def test_wheel_has_every_file_of_the_packages(wheel):
    """All that is no bytecode: modules, stubs, YAML, templates, word lists, py.typed."""
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    files |= {path.name for path in (REPOSITORY / "reelseek").iterdir() if path.is_file()}
    for example in ("py.typed", "configs/search.yaml", "ranking/templates/hits.html"):
        assert example in files
    assert {"vision/__init__.pyi", "text/query/everyday_queries.txt"} <= files
    assert {f"reelseek/{name}" for name in files} <= set(recorded(wheel))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A Python in which the wheel is installed, and what it depends on is found where it is in
    this one; the folder to try it in holds files named like our packages."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python")]
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, str(wheel)], check=True)
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run(
        [binaries / "python", "-c", program], check=True, capture_output=True, text=True
    )
    # A line of a .pth file; those that lie there are not read, so that no checkout is found.
    (Path(packages.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    hostile = folder / "hostile"
    for name in HOSTILE:
        path = hostile / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise RuntimeError(__name__)\n")

    def run(program, *arguments):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [binaries / program, *map(str, arguments)],
            cwd=hostile,
            env=environment | {"XDG_DATA_HOME": str(folder / "data"), "REELSEEK_INDEX": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["reelseek", "--help"],
        ["reelseek", "--version"],
        ["python", "-m", "reelseek", "--version"],
        ["python", "-c", "from reelseek import Searcher, search, SearchHit; print(SearchHit)"],
    ],
    ids=" ".join,
)
def test_installed_package_starts_beside_a_users_own_modules(installed, arguments):
    done = installed(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "reelseek" in done.stdout


def test_installed_package_offers_no_other_name(installed):
    program = f"from importlib.util import find_spec; import sys; sys.path.remove(''); \
print([name for name in {ROOMS} if find_spec(name)])"
    assert installed("python", "-c", program).stdout == "[]\n"


@pytest.mark.long
@pytest.mark.model
def test_installed_package_indexes_and_searches(installed, write_video):
    red = write_video("red.mp4", [(220, 30, 30)] * 20)
    module = ["python", "-m", "reelseek"]
    done = installed(*module, "index", red.parent, "--niceness", "0", "device=cpu")
    assert json.loads(done.stdout.splitlines()[-1])["searchable"] == 1, done.stderr
    done = installed("reelseek", "search", "something red", "-k", "5", "--json")
    (hit,) = json.loads(done.stdout)
    assert (done.returncode, hit["key"]) == (0, "red.mp4"), done.stderr
