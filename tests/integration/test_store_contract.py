"""What every store does: in memory, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tonsurance_risk.ports import Store
from tonsurance_risk.storage import open_store
from tonsurance_risk.storage.schema import metadata
from tonsurance_risk.testing import SetClock, StoreContract, StoreMachine

FAULTS = {
    "test_again_is_safe": ["F040", "F079"],
    "test_naive_times_are_refused": ["F088"],
    "test_another_zone_is_the_same_instant": ["F089"],
    "test_snapshots_another_zone_is_the_same_instant": ["F089"],
    "test_one_after_another_within_a_batch": ["F079"],
    "test_a_doubled_name_in_a_batch_is_saved_one_after_another": ["F079"],
    "test_an_impossible_price_stores_nothing": ["F034"],
    "test_known_at_gives_what_the_store_held": ["F048"],
    "test_rejects_come_back_once": ["F032"],
    "test_alerts_come_with_their_report": ["F068"],
    "test_a_job_is_done_once_its_report_is_stored": ["F068"],
    "test_one_holder_a_job_and_date": ["F093"],
    "test_a_lock_is_free_after_an_error": ["F087"],
}
for _name, _faults in FAULTS.items():
    for _fault in _faults:
        # The mark stays on the function: the shipped contract has none of our own, which others do not register.
        pytest.mark.fault(_fault)(getattr(StoreContract, _name))


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: SetClock) -> Iterator[Store]:
        with open_store("memory://", clock=clock) as opened:
            yield opened


class TestSqlite(StoreContract):
    @pytest.fixture
    def store(self, clock: SetClock, tmp_path: Path) -> Iterator[Store]:
        with open_store(f"sqlite:///{tmp_path / 'risk.db'}", clock=clock) as opened:
            yield opened


class TestPostgres(StoreContract):
    @pytest.fixture
    def store(self, clock: SetClock, postgres_url: str) -> Iterator[Store]:
        with open_store(postgres_url, clock=clock) as opened:
            yield opened


def test_no_part_of_the_contract_hides_another() -> None:
    """Two parts with a test of one name would leave one of them out."""
    names = [name for part in StoreContract.__bases__ for name in vars(part) if name.startswith("test")]

    assert len(names) == len(set(names)) > 80


EXAMPLES = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_file_gives_the_same_as_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    class Machine(StoreMachine):
        reopens = True

        def open(self) -> Store:
            if not hasattr(self, "path"):
                self.path = tmp_path_factory.mktemp("store") / "risk.db"
            return open_store(f"sqlite:///{self.path}", clock=self.clock)

    run_state_machine_as_test(Machine, settings=EXAMPLES)


def test_a_server_gives_the_same_as_memory(postgres_url: str) -> None:
    class Machine(StoreMachine):
        def open(self) -> Store:
            store = open_store(postgres_url, clock=self.clock)
            with store.database.begun(writes=True) as connection:
                connection.exec_driver_sql(f"TRUNCATE {', '.join(set(metadata.tables) - {'tonsurance_version'})}")
            return store

    run_state_machine_as_test(Machine, settings=EXAMPLES)
