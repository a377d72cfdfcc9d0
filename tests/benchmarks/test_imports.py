"""Benchmarks are run by hand: that their imports follow the code's moves is tested."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_benchmark_can_be_imported(name):
    importlib.import_module(f"benchmarks.{name}")
