"""What every store does: all parts together."""

from __future__ import annotations

import pytest

from tonsurance_risk.testing.event_contract import CorrelationContract, EventContract
from tonsurance_risk.testing.examples import SetClock
from tonsurance_risk.testing.job_contract import LedgerContract, LifetimeContract, OutboxContract
from tonsurance_risk.testing.price_contract import (
    MarkContract,
    PriceContract,
    RejectContract,
    RevisionContract,
)
from tonsurance_risk.testing.result_contract import (
    ReportContract,
    RunInputContract,
    ScenarioContract,
    SnapshotContract,
)


class StoreContract(
    LifetimeContract,
    PriceContract,
    RevisionContract,
    MarkContract,
    RejectContract,
    EventContract,
    CorrelationContract,
    ScenarioContract,
    ReportContract,
    SnapshotContract,
    RunInputContract,
    LedgerContract,
    OutboxContract,
):
    """The tests of a store. A subclass gives the fixture `store`: open, empty, with `clock` for its clock."""

    @pytest.fixture
    def clock(self) -> SetClock:
        """Return the clock that the store must show."""
        return SetClock()
