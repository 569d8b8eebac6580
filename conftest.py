"""Settings shared by all tests and doctests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace: dict[str, object]) -> None:
    """Give every example what it may use without importing it."""
    doctest_namespace.update(np=np, pd=pd)


collect_ignore_glob = ["tests/fuzz/*"]
"""Drivers of the fuzzer atheris: programs, not tests."""


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what a command that ran in this process said of logging: its stream is closed by now."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of core in its own tests alone: tracing the others costs a third of their time."""
    root = Path(__file__).parent
    traced = {root / "src/tonsurance_risk/core", root / "tests/property", root / "tests/unit/core"}
    for item in items:
        if traced.isdisjoint(item.path.parents):
            item.add_marker("no_cover")
