"""The metrics of several processes in one."""

import os
import subprocess
import sys

from reelseek.serving.telemetry import METRICS_FOLDER
from tests.command_lines import PROJECT


def test_a_process_that_sets_nothing_is_not_the_one_that_is_furthest_behind(tmp_path):
    helper = "import reelseek.serving.telemetry"
    worker = "from reelseek.serving import telemetry as t; t.{}.set({}); print(t.metrics_text())"
    for program in (
        helper,
        worker.format("GENERATION", 4),
        worker.format("LEARNED_POSITION", 812),
        worker.format("GENERATION", 3),
    ):
        found = subprocess.run(
            [sys.executable, "-c", program],
            cwd=PROJECT,
            env={**os.environ, METRICS_FOLDER: str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert "reelseek_index_generation 3.0" in found
    assert "reelseek_learned_position 812.0" in found
