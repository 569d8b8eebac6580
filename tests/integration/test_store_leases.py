"""Leases in an SQLite file: renewed while the block runs, lost when they run out, taken from the dead."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from tonsurance_risk.errors import LockHeldError
from tonsurance_risk.storage import SqlStore, leases, open_store
from tonsurance_risk.storage.schema import job_locks
from tonsurance_risk.testing.examples import NOON


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    with open_store(f"sqlite:///{tmp_path / 'risk.db'}") as opened:
        yield opened


def execute(store: SqlStore, statement) -> object:
    with store.database.begun(writes=True) as connection:
        return connection.execute(statement)


def expiry(store: SqlStore):
    with store.database.begun(writes=False) as connection:
        return connection.scalars(select(job_locks.c.expires_at)).one_or_none()


def test_a_lease_is_renewed_and_given_back(store: SqlStore, monkeypatch) -> None:
    """So it lasts as long as the block, not as long as a lease."""
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=0.4))
    with store.lock("daily", NOON) as lock:
        first = expiry(store)
        time.sleep(0.8)
        assert expiry(store) > first
        lock.verify()
    assert expiry(store) is None


def test_a_holder_that_lost_its_lease_is_told(store: SqlStore) -> None:
    with store.lock("daily", NOON) as lock:
        execute(store, delete(job_locks))
        with pytest.raises(LockHeldError, match="ran out"):
            lock.verify()


@pytest.mark.fault("F100")
@pytest.mark.parametrize("owner", ["another-machine/ 1 a", None])
def test_a_lease_of_somebody_else_runs_out(store: SqlStore, owner: str | None) -> None:
    """On another machine nobody can see whether the process lives: the lease alone decides."""
    with store.lock("daily", NOON):
        if owner is not None:
            execute(store, update(job_locks).values(owner=owner))
        with pytest.raises(LockHeldError, match="another run has daily"), store.lock("daily", NOON):
            pass
        execute(store, update(job_locks).values(expires_at=NOON))
        with store.lock("daily", NOON) as taken:
            taken.verify()
