"""The README's commands and Python lines, as they stand there."""

import ast
import re
from pathlib import Path

import pytest

from configs import command_line

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
COMMANDS = re.findall(
    r"^\.venv/bin/python (-m (?:indexing|ranking)(?:\.\w+)?|search\.py|train\.py) (.+)$",
    README,
    re.M,
)
CONFIG_NAMES = {
    "-m indexing": "index",
    "-m ranking": "ranker",
    "search.py": "search",
    "train.py": "train",
}


def test_readme_shows_both_commands():
    assert {program for program, _ in COMMANDS} >= {"-m indexing", "search.py"}


@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_options_of_each_command_exist(program, arguments):
    import shlex

    name = CONFIG_NAMES.get(program) or program.removeprefix("-m indexing.")
    words = shlex.split(arguments, comments=True)
    prepared = command_line.prepare_arguments(words, config_name=name)
    given = {word.partition("=")[0] for word in words}
    if name == "index":
        given = {"index.folder" if option == "index" else option for option in given}
    assert given <= {argument.partition("=")[0] for argument in prepared}


def test_python_lines_use_names_that_exist(monkeypatch, capsys):
    """The lines run, with an index that answers one hit."""
    import search as search_module
    from indexing import SearchHit

    hit = SearchHit(1, "id", "a.mp4", 0.5, 1.0, 2.0, 1.5, 9.0, "a.mp4")

    class AnySearcher:
        open = classmethod(lambda cls, index: cls())

        def search(self, query, *, k=10, level="video"):
            return [hit]

    monkeypatch.setattr(search_module, "Searcher", AnySearcher)
    monkeypatch.setattr(search_module, "search", lambda query, *, index, k: [hit])
    (code,) = re.findall(r"```python\n(.+?)```", README, re.S)
    exec(compile(ast.parse(code), "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["1 a.mp4 0.5", "a.mp4: 1 to 2 s"]
