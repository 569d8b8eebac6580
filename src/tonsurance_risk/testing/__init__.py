"""For those who write a store or a source: the tests that each passes. They need pytest and hypothesis.

A file of tests with this in it runs them all:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock):
            with MyStore(clock) as store:
                yield store

    class MyMachine(StoreMachine):
        def open(self):
            return MyStore(self.clock)

    TestMyMachine = MyMachine.TestCase

    class TestMySource(SourceContract):
        asset, start, end = "DAI", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)

        @pytest.fixture
        def source(self):
            return MySource()
"""

from __future__ import annotations

import pytest

for _name in ("price", "event", "result", "job", "source"):
    pytest.register_assert_rewrite(f"tonsurance_risk.testing.{_name}_contract")

from tonsurance_risk.testing.examples import SetClock  # noqa: E402
from tonsurance_risk.testing.source_contract import SourceContract  # noqa: E402
from tonsurance_risk.testing.store_contract import StoreContract  # noqa: E402
from tonsurance_risk.testing.store_machine import StoreMachine  # noqa: E402

__all__ = ["SetClock", "SourceContract", "StoreContract", "StoreMachine"]
