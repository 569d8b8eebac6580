"""Examples and the Python in the documents run, and the README's commands are those of CI."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "prices"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks():
    """Yield (document, number, code) of every fenced Python block."""
    for document in DOCUMENTS:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)):
            yield pytest.param(code, id=f"{document.name}-{number}")


def run_script(arguments, folder):
    """Run Python with warnings as errors and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_in_the_documents_runs(code, tmp_path):
    """Each block on its own, in an empty folder."""
    assert run_script(["-c", code], tmp_path)


def test_the_simulated_market_example(tmp_path):
    """Prints events, scenarios and an estimate."""
    printed = run_script([str(ROOT / "examples" / "simulated_market.py")], tmp_path)

    assert "Joint episode" in printed
    assert "Estimate(value=" in printed


def test_the_simulation_example(tmp_path):
    """Prints a table of convergence, contributions, and the effect of a policy."""
    printed = run_script([str(ROOT / "examples" / "simulate_a_book.py")], tmp_path)

    assert "converged: True" in printed
    assert "expected_shortfall 0.99" in printed


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
def test_the_csv_example(tmp_path):
    """On the real daily panel."""
    printed = run_script([str(ROOT / "examples" / "assess_csv_folder.py"), str(SHARED), "2024-12-31"], tmp_path)

    assert "quoted in USDT" in printed
    assert "high coverage is 70.00% of capital" in printed


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared price data are not beside the checkout")
def test_the_example_of_one_week(tmp_path):
    """0.95 with it and 0.25 without, as in the sourced table of closes; the refuge turns its sign."""
    printed = run_script([str(ROOT / "examples" / "correlation_without_one_week.py"), str(SHARED)], tmp_path)

    year, rest = printed.split("2023 without 10 to 14 March")
    assert re.search(r"DAI +USDC +0\.95\d+ +0\.0\d+ +0\.9\d+ +365", year)
    assert re.search(r"DAI +USDC +0\.25\d+ +-?0\.0\d+ +0\.4\d+ +360", rest)
    assert re.search(r"USDC +USDT +-0\.49", year)
    assert re.search(r"USDC +USDT +0\.47|USDC +USDT +0\.468", rest)
    assert "DAI USDC: 0.95, 0.19 without 03-11, 03-12, 03-13" in printed
    assert "an alert at 0.8 rests on these days" in printed


def test_the_example_of_an_own_source(tmp_path):
    """Asks nobody; prints its prices, who answered, and the hours off the peg."""
    printed = run_script([str(ROOT / "examples" / "write_your_own_source.py")], tmp_path)

    assert "2024-03-01 01:00:00+00:00    0.9998" in printed
    assert "['own'] 4 samples stored" in printed
    assert "answered by own" in printed
    assert "DAI fell to 0.9891 at 02:00 for 0 days 01:00:00" in printed


def test_every_example_is_tested():
    """By name, in this file."""
    tested = Path(__file__).read_text()

    assert all(path.name in tested for path in (ROOT / "examples").glob("*.py"))


def test_links_between_documents_lead_somewhere():
    """Relative links of the documents."""
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
