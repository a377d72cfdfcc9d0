"""What the process of a command line does with its arguments and its output."""

import os
import subprocess
import sys

import pytest

from reelseek.configs import command_line
from reelseek.configs.schema import RepairConfig, SearchConfig
from tests.command_lines import PROJECT

PROGRAM = """
from reelseek.configs import command_line
from reelseek.configs.schema import RepairConfig
command_line.run(lambda config: print(config.index), RepairConfig, usage="usage")
"""


def run(*arguments, stdout=subprocess.PIPE, cwd=PROJECT, **environment):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUTF8": "0", **environment},
        text=True,
    )


def test_what_a_terminal_cannot_show_is_escaped():
    done = run("index=é\u65e5\udc80", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "\\xe9\\u65e5\\udc80\n"


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = run("index=i", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    script = (
        f"cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec {sys.executable} {PROJECT}/search.py i"
    )
    (tmp_path / "gone").mkdir()
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the current folder is gone; change to one that exists\n"


@pytest.mark.parametrize("arguments", [["--version"], ["index=i", "--version"]])
def test_version_is_that_of_this_program(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["search.py", *arguments])
    monkeypatch.setattr(command_line, "version", lambda name: f"9.8 of {name}")
    command_line.run(lambda config: None, SearchConfig, usage="usage")
    assert capsys.readouterr().out == "reelseek 9.8 of reelseek\n"


@pytest.mark.parametrize("argument", ["-h", "--help"])
def test_both_ways_to_ask_for_help(monkeypatch, capsys, argument):
    monkeypatch.setattr(sys, "argv", ["x", argument])
    command_line.run(lambda config: None, RepairConfig, usage="usage of repair")
    assert capsys.readouterr().out.startswith("usage of repair\n")


def test_an_extra_that_is_missing_is_one_line_and_what_python_lacks_is_not(monkeypatch, capsys):
    def lacks_extra(config):
        raise ImportError("needs a package: pip install 'reelseek[parquet]'")

    def is_broken(config):
        import no_such_module_at_all  # noqa: F401

    monkeypatch.setattr(sys, "argv", ["x", "index=i"])
    monkeypatch.delenv("REELSEEK_TRACEBACK", raising=False)
    with pytest.raises(SystemExit, match="2"):
        command_line.run(lacks_extra, RepairConfig, usage="")
    assert capsys.readouterr().err.startswith("error: needs a package: pip install")
    monkeypatch.setattr(sys, "argv", ["x", "index=i"])
    with pytest.raises(ModuleNotFoundError):
        command_line.run(is_broken, RepairConfig, usage="")
