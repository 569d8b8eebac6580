"""Settings shared by all tests and doctests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Each worker of pytest-xdist has one core: more threads of OpenBLAS would only wait, in a loop that takes it.
# Read when numpy is first imported, which is behind this line.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

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
    import numpy as np
    import pandas as pd

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
    """Begin with what takes longest, and measure the coverage of core in its own tests alone.

    Tracing the others costs a third of their time; a long test that comes last has one core.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    root = Path(__file__).parent
    traced = {root / "src/tonsurance_risk/core", root / "tests/property", root / "tests/unit/core"}
    for item in items:
        if traced.isdisjoint(item.path.parents):
            item.add_marker("no_cover")
