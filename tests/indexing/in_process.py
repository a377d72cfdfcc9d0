"""The index's command lines, run in this process and without Hydra, which takes its time."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from subprocess import CompletedProcess
from typing import cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reelseek.configs import command_line
from tests.command_lines import PROJECT


def run_tool(name: str, *arguments: object) -> CompletedProcess[str]:
    """What `python -m indexing.NAME ARGUMENTS` says, and the code it ends with.

    What would be a traceback is raised.
    """
    program = import_module(
        f"reelseek.indexing.{'enrich.__main__' if name == 'enrich' else f'tools.{name}'}"
    )
    stdout, stderr = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            program.main(_config(name, [str(argument) for argument in arguments]))
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            print(f"error: {command_line.one_line(error)}", file=sys.stderr)
            code = 2
        except SystemExit as end:
            code = int(end.code or 0)
    return CompletedProcess(name, code, stdout.getvalue(), stderr.getvalue())


def _config(name: str, arguments: list[str]) -> DictConfig:
    """The YAML's values with those of the arguments, as Hydra would compose them."""
    values = cast(DictConfig, OmegaConf.load(PROJECT / "configs" / f"{name}.yaml"))
    own = OmegaConf.masked_copy(values, [str(key) for key in values if key != "defaults"])
    config = OmegaConf.merge(OmegaConf.structured(command_line.SCHEMAS[name]), own)
    for part in values.defaults:
        if "decoding" in part:
            config.decoding = command_line.load_decoding_config()
    prepared = command_line.prepare_arguments(arguments, config_name=name)
    for override in OverridesParser.create().parse_overrides(prepared):
        OmegaConf.update(config, override.key_or_group, override.value())
    return cast(DictConfig, config)
