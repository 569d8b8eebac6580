"""Locks for databases that have none of their own: a row that says who holds it, and until when."""

from __future__ import annotations

import os
import platform
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from tonsurance_risk.errors import LockHeldError, LockLostError, StorageError
from tonsurance_risk.storage.database import Database, run
from tonsurance_risk.storage.schema import job_locks

LEASE = timedelta(seconds=60)
"""After so long without renewal a lock is free, whatever became of its holder."""
RENEWALS = 4
"""Attempts to renew within one lease: a database that is busy for a while costs no lock."""


class Lease:
    """A row in `job_locks` that a thread renews while a block runs.

    A holder that died is known at once where its process can be looked for, on the same machine and in the same
    container; elsewhere the lease runs out. The clock is that of the machine: a lease is about processes, not
    about logical dates.
    """

    def __init__(self, database: Database, key: str) -> None:
        self._database = database
        self._key = key
        self._owner = f"{_place()} {os.getpid()} {uuid.uuid4().hex}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease for a block."""
        run(self._database, self._take, writes=True)
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=[ended], name=f"lease of {self._key}", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            ended.set()
            renewal.join()
            # A lease that cannot be given back runs out.
            with suppress(StorageError):
                run(
                    self._database,
                    lambda connection: connection.execute(delete(job_locks).where(*self._mine())),
                    writes=True,
                )

    def verify(self) -> None:
        """Raise a `LockLostError` if the lease is no longer ours; see `JobLock.verify`."""
        still = select(job_locks.c.expires_at).where(*self._mine())
        expires = run(self._database, lambda connection: connection.scalars(still).one_or_none(), writes=False)
        if expires is None or expires <= _now():
            raise LockLostError(f"the lease of {self._key} ran out, and another run may have it now")

    def _take(self, connection: Connection) -> None:
        stored = connection.execute(select(job_locks).where(job_locks.c.lock == self._key)).one_or_none()
        if stored is not None:
            if stored.expires_at > _now() and not _died(stored.owner):
                raise LockHeldError(
                    f"another run has {self._key} in the database {self._database.name} "
                    f"(process {stored.owner.split()[-2]}); wait until it ends"
                )
            connection.execute(delete(job_locks).where(job_locks.c.lock == self._key))
        row = {"lock": self._key, "owner": self._owner, "expires_at": _now() + LEASE}
        connection.execute(insert(job_locks), row)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(LEASE.total_seconds() / RENEWALS):
            longer = update(job_locks).values(expires_at=_now() + LEASE).where(*self._mine())
            # The next attempt may succeed; `verify` tells when none has.
            with suppress(StorageError):
                run(self._database, lambda connection: connection.execute(longer), writes=True)  # noqa: B023

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return job_locks.c.lock == self._key, job_locks.c.owner == self._owner


def _now() -> datetime:
    return datetime.now(UTC)


def _place() -> str:
    """Return the name of the machine, and of the container where there is one: process numbers count inside it."""
    space = Path("/proc/self/ns/pid")
    inside = str(space.readlink()) if space.exists() else ""
    return f"{platform.node() or 'unnamed'}/{inside}".replace(" ", "_")


def _died(owner: str) -> bool:
    place, process, _ = owner.split()
    return place == _place() and Path("/proc/self").exists() and not Path(f"/proc/{process}").exists()
