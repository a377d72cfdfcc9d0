"""The index's tools, run in this process."""

from importlib import import_module

from tests.command_lines import Done, run_in_this_process


def run_tool(name: str, *arguments: object) -> Done:
    """What `python -m indexing.NAME ARGUMENTS` says, and the code it ends with.

    What would be a traceback is raised.
    """
    module = "enrich.__main__" if name == "enrich" else f"tools.{name}"
    program = import_module(f"reelseek.indexing.{module}")
    return run_in_this_process(program, name, *arguments)
