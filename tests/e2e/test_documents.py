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


BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.+?) -->\n+)?```python\n(?P<code>.*?)```", re.DOTALL)


def python_blocks():
    """Yield the code of every fenced Python block; of a document that says so, all blocks as one script."""
    for document in DOCUMENTS:
        text = document.read_text()
        name = document.relative_to(ROOT).as_posix()
        if "<!-- blocks: one script -->" in text:
            yield pytest.param("\n".join(found["code"] for found in BLOCK.finditer(text)), id=name)
            continue
        for number, found in enumerate(BLOCK.finditer(text)):
            reason = found["reason"]
            marks = [pytest.mark.skip(reason=f"{name}: {reason}")] if reason else []
            yield pytest.param(found["code"], id=f"{name}-{number}", marks=marks)


def run_script(arguments, folder):
    """Run Python with warnings as errors and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [block for block in python_blocks() if block.id != "docs/tutorial.md"])
def test_python_in_the_documents_runs(code, tmp_path):
    """Each block on its own, in an empty folder."""
    assert run_script(["-c", code], tmp_path)


def test_python_in_the_documents_is_fenced():
    """An indented block would not be run."""
    indented = [
        f"{document.name}: {line.strip()}"
        for document in DOCUMENTS
        for line in re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE).splitlines()
        if re.match(r" {4}(import |from \w+ import |>>> )", line)
    ]
    assert [] == indented, "write ```python, and <!-- not run: REASON --> before it where it cannot run"


def test_the_tutorial(tmp_path):
    """Its detection finds what the market made up; the backtest and the report are those of the text."""
    [tutorial] = [block for block in python_blocks() if block.id == "docs/tutorial.md"]
    printed = run_script(["-c", tutorial.values[0]], tmp_path)

    assert "1 of 1 false prints rejected, 0 others" in printed
    assert "11 found, 11 in the market" in printed
    assert "50,000,000 of capital, 35,000,000 covered by 1,247 policies" in printed
    assert "from Banking Crisis (SVB), proven: True" in printed
    assert re.search(r"\d+ exceptions in 480 days; 24 expected", printed)
    assert "HIGH coverage is 70.00% of capital" in printed
    assert (tmp_path / "reports" / "risk_report_2025-12-31.json").is_file()


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
