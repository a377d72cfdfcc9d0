"""The documented proxy's configuration is one that HAProxy takes."""

import shutil
import subprocess

import pytest

from tests.command_lines import PROJECT


def test_configuration():
    haproxy = shutil.which("haproxy")
    if haproxy is None:
        pytest.skip("haproxy is not installed")
    run = subprocess.run(
        [haproxy, "-c", "-f", PROJECT / "serving" / "haproxy.cfg"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "warning" not in run.stderr.lower()
