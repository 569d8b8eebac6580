"""The benchmarks run, at a size for tests, and the comparison with a baseline can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
AREAS = {"simulation", "detection", "correlation", "storage", "report"}
JOB = "reference job, n = 20,000, one thread"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One run of every benchmark against a baseline that is partly out of reach: what it said, and its figures."""
    folder = tmp_path_factory.mktemp("benchmarks")
    baseline = {
        f"{JOB} / drawing its normals alone": {"seconds": 1e9, "ratio": 1e9},
        f"{JOB} / plain numpy": {"seconds": 1e-12, "ratio": 1e-9},
        "a former job / pandas": {"seconds": 1.0, "ratio": 1.0},
    }
    (folder / "baseline.json").write_text(json.dumps({"figures": baseline}))
    options = ["--tiny", "--write", "figures.json", "--against", "baseline.json"]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / "run.py"), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "figures.json").exists(), done.stderr
    return done, json.loads((folder / "figures.json").read_text())["figures"]


def test_every_area_has_a_figure_beside_a_peer(measured):
    """A time, and a ratio to a way that did the same work."""
    _, figures = measured

    assert {figure["area"] for figure in figures.values()} == AREAS
    assert all(figure["seconds"] > 0.0 and figure["ratio"] > 0.0 for figure in figures.values())


def test_a_ratio_far_below_the_baseline_fails(measured):
    """By name, as does a figure that is missing; the times do not matter."""
    done, _ = measured

    assert 1 == done.returncode
    assert f"{JOB} / drawing its normals alone: " in done.stderr
    assert "a former job / pandas: in the baseline, not measured here" in done.stderr
    assert "plain numpy" not in done.stderr


def test_the_committed_baseline_is_of_a_whole_run():
    """Every area, with ratios that say what was measured against what."""
    baseline = json.loads((BENCHMARKS / "baseline.json").read_text())["figures"]

    assert {figure["area"] for figure in baseline.values()} == AREAS
    assert all(" / " in name for name in baseline)
