"""The package as a whole: exports, imports, directions, documentation of every public name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tonsurance_risk as tr

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tonsurance_risk"


def test_all_is_sorted_and_complete():
    """Constants, classes, functions; every name that the module binds on purpose."""
    names = set(tr.__all__)
    bound = {name for name in vars(tr) if not name.startswith("_")} | {"__version__"}
    submodules = {path.stem for path in PACKAGE.iterdir()}

    assert sorted(tr.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name)) == tr.__all__
    assert bound - submodules <= names <= bound


@pytest.mark.parametrize("name", [name for name in tr.__all__ if callable(getattr(tr, name))])
def test_public_names_are_documented(name):
    """A docstring, and an example or parameters for what takes arguments."""
    member = getattr(tr, name)
    doc = inspect.getdoc(member)

    assert doc
    assert doc.splitlines()[0].endswith((".", ":"))
    if inspect.isfunction(member) and len(inspect.signature(member).parameters) > 1:
        for parameter in inspect.signature(member).parameters:
            assert re.search(rf"\b{parameter}\b", doc), f"{name} says nothing of {parameter}"


@pytest.mark.parametrize(
    "forbidden",
    [
        "matplotlib",
        "jinja2",
        "httpx",
        "psycopg",
        "typer",
        "prometheus_client",
        "cattrs",
        "apscheduler",
        "hypothesis",
        "pytest",
        "mkdocs",
    ],
)
def test_importing_needs_no_optional_package(forbidden):
    """In a process of its own."""
    code = f"import sys, tonsurance_risk; sys.exit({forbidden!r} in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_importing_prints_and_writes_nothing(tmp_path):
    """No file, no output, no thread, and warnings are errors."""
    code = "import threading, tonsurance_risk; assert threading.active_count() == 1"

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, check=True
    )

    assert (b"", b"") == (done.stdout, done.stderr)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.stem)
def test_core_has_no_effects(path):
    """No clock, environment, files, logging, printing or global randomness."""
    code = "\n".join(
        line for line in path.read_text().splitlines() if not line.lstrip().startswith((">>>", "..."))
    )

    found = re.findall(
        r"datetime\.now|\btime\.time\b|os\.environ|\bopen\(|print\(|logging|np\.random\.(?!Generator|SeedSequence|SFC64)",
        code,
    )
    assert [] == found


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("sqlalchemy", ("storage",)),
        ("httpx", ("sources", "reporting")),
        ("httpcore", ("sources", "reporting")),
        ("orjson", ("sources",)),
        ("cattrs", ("settings_reading.py",)),
        ("prometheus_client", ("runner",)),
        (
            "typer",
            (
                "cli.py",
                "cli_config.py",
                "cli_db.py",
                "cli_report.py",
                "cli_runs.py",
                "cli_scenarios.py",
                "cli_serve.py",
                "cli_simulate.py",
            ),
        ),
        ("rich", ("cli.py", "cli_report.py", "reporting")),
        ("matplotlib", ("plots.py", "reporting")),
        ("jinja2", ("reporting",)),
        ("hypothesis", ("testing",)),
        ("pytest", ("testing",)),
    ],
)
def test_packages_stay_in_their_place(package, allowed):
    """SQL in the stores, the command line in cli."""
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if re.search(rf"^\s*(from|import) {package}\b", path.read_text(), re.MULTILINE)
    }

    assert users <= set(allowed)


def test_the_order_of_core():
    """Inside core, modules import only those before them."""
    order = [
        "tables", "prices", "alignment", "common_mode", "quality", "depeg", "streaming", "detector", "consensus", "returns",
        "psd", "association", "bootstrap", "correlation", "windows", "volatility", "scenarios", "measures", "statistics",
        "contagion", "first_component", "sensitivity", "regimes", "result_checks", "dependence", "payoff", "loss_model",
        "sampling", "importance", "tally", "variance", "intervals", "execution", "engine", "contributions", "sample",
        "simulation", "marginal", "stress", "portfolio", "alerts", "alert_memory", "comparison", "fingerprint", "documents",
        "backtest", "backtest_shortfall", "replay", "nearest_loss", "reverse_stress",
    ]  # fmt: skip
    modules = {path.stem for path in (PACKAGE / "core").glob("*.py")} - {"__init__"}
    assert set(order) == modules
    for module in modules:
        imported = re.findall(
            r"from tonsurance_risk\.core\.(\w+) import", (PACKAGE / "core" / f"{module}.py").read_text()
        )
        assert all(order.index(other) < order.index(module) for other in imported), module
