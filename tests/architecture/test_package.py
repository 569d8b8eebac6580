"""The package as a whole: exports, imports, directions, documentation of every public name."""

from __future__ import annotations

import functools
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tonsurance_risk as tr

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tonsurance_risk"


def test_every_public_name_is_there():
    """Sorted, listed by dir(), and loaded from where the stub says."""
    assert sorted(tr.__all__) == tr.__all__ == dir(tr)
    missing = [name for name in tr.__all__ if not hasattr(tr, name)]
    assert [] == missing, f"__init__.pyi names what its module does not have: {missing}"


def test_an_unknown_name_is_an_attribute_error():
    """Not an import error."""
    with pytest.raises(AttributeError, match="detect_depeg"):
        _ = tr.detect_depeg


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


@functools.cache
def modules_after(statement):
    """Return the names of the modules that a new process has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "forbidden",
    [
        "pandas",
        "scipy",
        "sqlalchemy",
        "alembic",
        "distributed",
        "concurrent.futures.thread",
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
def test_importing_loads_nothing_heavy_or_optional(forbidden):
    """What is heavy is loaded by the first name that needs it."""
    loaded = modules_after("import tonsurance_risk")

    assert forbidden not in loaded, f"`import tonsurance_risk` loads {forbidden}: keep imports out of __init__.py"


@pytest.mark.parametrize("forbidden", ["matplotlib", "httpx", "psycopg", "typer", "distributed", "pytest"])
def test_using_the_core_loads_nothing_optional(forbidden):
    """All public names."""
    loaded = modules_after("from tonsurance_risk import *")

    assert forbidden not in loaded, f"a public name loads {forbidden}: import it where it is used"


def test_the_command_line_starts_without_scipy_stats():
    """It takes a quarter of the start: `import scipy`, then `scipy.stats.x` where it is used, loads it at first use."""
    loaded = modules_after("import tonsurance_risk.cli")

    assert "scipy.special" in loaded, "the other names are no longer what is loaded"
    assert {"scipy.stats", "scipy.optimize", "scipy.cluster", "scipy.signal"}.isdisjoint(loaded)


def test_importing_takes_at_most_0_6_of_pandas_and_scipy_stats():
    """As `benchmarks/import_time.py` measures it; the ratio is about 0.03, so that a busy machine does not matter."""
    measure = runpy.run_path(str(ROOT / "benchmarks" / "import_time.py"))
    ours, peer = measure["best_seconds"]([measure["OURS"], measure["PEER"]], repetitions=2)

    assert ours <= measure["AIM"] * peer


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
        ("typer", ("cli",)),
        ("rich", ("cli", "reporting")),
        ("matplotlib", ("plots", "reporting")),
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
        "simulation", "marginal", "stress", "portfolio", "remedies", "alerts", "recommendations", "alert_memory", "comparison", "fingerprint", "documents",
        "run_changes", "explanation", "backtest", "backtest_shortfall", "replay", "nearest_loss", "reverse_stress",
    ]  # fmt: skip
    modules = {path.stem for path in (PACKAGE / "core").glob("*.py")} - {"__init__"}
    assert set(order) == modules
    for module in modules:
        imported = re.findall(
            r"from tonsurance_risk\.core\.(\w+) import", (PACKAGE / "core" / f"{module}.py").read_text()
        )
        assert all(order.index(other) < order.index(module) for other in imported), module
