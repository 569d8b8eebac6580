"""Every row of the fault table that the store or the runner answers for has a test that runs, on either database or one of them."""

from __future__ import annotations

import pytest

from faults import FAULTS, fault_tests

PROMISED = {
    row: words
    for group in ("Storage", "Scheduler and process", "Alerts and webhooks")
    for row, words in FAULTS[group].items()
}


@pytest.mark.parametrize("row", PROMISED)
def test_every_row_of_a_group_has_a_test(row: str) -> None:
    tests = [test.name for test in fault_tests().get(row, []) if test.by_default]
    print(f"{row} {PROMISED[row]}: {', '.join(tests)}")
    assert tests, f"{row} ({PROMISED[row]}) has no test: mark one with pytest.mark.fault({row!r})"


def test_no_mark_names_a_row_that_is_not_there() -> None:
    assert set(fault_tests()) <= {row for group in FAULTS.values() for row in group}
