"""The benchmarks run, at a size for tests, and the comparison with a baseline can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
AREAS = {"simulation", "detection", "correlation", "storage", "report"}


def run(*arguments):
    """Run every benchmark, tiny, with warnings as errors."""
    command = [sys.executable, "-W", "error", str(BENCHMARKS / "run.py"), "--tiny", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Figures of one run."""
    path = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    done = run("--write", path)
    assert 0 == done.returncode, done.stderr
    return json.loads(path.read_text())


def test_every_area_has_a_figure_beside_a_peer(measured):
    """A time, and a ratio to a way that did the same work."""
    figures = measured["figures"].values()

    assert {figure["area"] for figure in figures} == AREAS
    assert all(figure["seconds"] > 0.0 and figure["ratio"] > 0.0 for figure in figures)


def test_a_ratio_far_below_the_baseline_fails(measured, tmp_path):
    """By name; times do not matter, nor does a ratio a little lower or higher."""
    names = list(measured["figures"])
    slow, name, gone = names[0], names[1], "no such benchmark / pandas"
    baseline = {
        slow: {"seconds": 1.0, "ratio": 1e9},
        name: {"seconds": 1e-12, "ratio": 1e-9},
        gone: {"seconds": 1.0, "ratio": 1.0},
    }
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"figures": baseline}))

    done = run("--against", path)

    assert 1 == done.returncode
    assert f"{slow}: " in done.stderr
    assert f"{gone}: in the baseline, not measured here" in done.stderr
    assert f"{name}: " not in done.stderr


def test_the_committed_baseline_is_of_a_whole_run():
    """Every area, with ratios that say what was measured against what."""
    baseline = json.loads((BENCHMARKS / "baseline.json").read_text())

    assert {figure["area"] for figure in baseline["figures"].values()} == AREAS
    assert all(" / " in name for name in baseline["figures"])
