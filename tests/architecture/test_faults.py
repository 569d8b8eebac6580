"""Every row of the fault table that the store or the runner answers for has a test that runs, on either database or one of them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

STORAGE = {
    "F067": "kill -9 before commit",
    "F068": "kill -9 between commit and ledger or alert",
    "F069": "kill -9 in the middle of COPY",
    "F070": "disk full while writing the database",
    "F071": "disk full while writing a report",
    "F072": "database locked for too long",
    "F073": "corrupt file, or no database",
    "F074": "empty file",
    "F075": "only the main file of a write-ahead log copied",
    "F076": "server restarted in a transaction",
    "F077": "deadlock, serialization failure",
    "F078": "no connection left in the pool",
    "F079": "doubled key in one batch",
    "F080": "server takes no writes",
    "F081": "schema older or newer than the code",
    "F082": "migration interrupted",
    "F083": "no TimescaleDB",
    "F084": "TimescaleDB that compresses nothing",
    "F085": "unique index without the time on a hypertable",
    "F086": "hypertable of another chunk interval",
    "F087": "lock leaked by a connection of the pool",
    "F088": "naive time",
    "F089": "time zone other than UTC",
    "F090": "very many rows in one call",
    "F091": "text in a price column",
    "F092": "rows deleted by hand",
}
"""The rows of the group "Storage"."""
RUNNER = {
    "F093": "two runners at once",
    "F094": "run missed for ten days",
    "F095": "run longer than the interval",
    "F096": "started before the day is final",
    "F097": "clock set back",
    "F098": "clock a year ahead",
    "F099": "SIGTERM in the middle of a run",
    "F100": "SIGKILL",
    "F101": "one asset that always fails",
    "F102": "more simulations than memory",
    "F103": "worker that hangs",
    "F104": "nobody starts the job",
    "F105": "output closed",
    "F106": "fork with open connections",
    "F107": "the same depeg again and again",
    "F108": "value that swings about its threshold",
    "F109": "receiver that refuses",
    "F110": "receiver that is away",
    "F111": "receiver that hangs",
    "F112": "message too long, control characters",
    "F113": "key in the text of an error",
    "F114": "resolve without an open alert, restart in between",
}
"""The rows of the groups "Scheduler and process" and "Alerts and webhooks"."""
ALWAYS_SKIPPED = {"timescale", "slow"}


def marks(function: ast.FunctionDef) -> list[tuple[str, list[object]]]:
    """Return the names and constant arguments of the marks of a test."""
    found = []
    for decorator in function.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
        if ast.unparse(call.func).startswith("pytest.mark."):
            values = [one.value for one in call.args if isinstance(one, ast.Constant)]
            found.append((ast.unparse(call.func).removeprefix("pytest.mark."), values))
    return found


@functools.cache
def covered() -> dict[str, list[str]]:
    """Return the tests of each row that are not left out by default, those of the shipped contract included."""
    tests: dict[str, list[str]] = {}
    contract = ast.parse((TESTS / "integration" / "test_store_contract.py").read_text())
    (faults,) = (
        node.value for node in contract.body if isinstance(node, ast.Assign) and "FAULTS" in ast.unparse(node)
    )
    for name, rows in ast.literal_eval(faults).items():
        for row in rows:
            tests.setdefault(row, []).append(f"contract::{name}")
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                marked = marks(node)
                if not ALWAYS_SKIPPED & {name for name, _ in marked}:
                    for row in (value for name, values in marked if name == "fault" for value in values):
                        tests.setdefault(row, []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return tests


@pytest.mark.parametrize("row", STORAGE | RUNNER)
def test_every_row_of_a_group_has_a_test(row: str) -> None:
    tests = covered().get(row, [])
    print(f"{row} {(STORAGE | RUNNER)[row]}: {', '.join(tests)}")
    assert tests


def test_no_mark_names_a_row_that_is_not_there() -> None:
    assert set(covered()) <= {f"F{number:03d}" for number in range(1, 149)}
