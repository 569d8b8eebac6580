"""What a store needs of a database, and what differs between databases: each has one module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Protocol, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, FromClause, exc
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from tonsurance_risk.errors import StorageError, StoreBusyError, StoreUnavailableError
from tonsurance_risk.ports import JobLock
from tonsurance_risk.storage.price_rows import AssetPrices, Samples

BUSY_TIMEOUT = timedelta(seconds=5)
"""How long a write waits for another one before it is refused."""
_ATTEMPTS = 5
_LONGEST_WAIT = 2.0

Conditions: TypeAlias = Sequence[ColumnElement[bool]]
_Result = TypeVar("_Result")


class Database(Protocol):
    """An open database that holds the tables of this library."""

    @property
    def name(self) -> str:
        """How messages call it; holds no password."""

    @property
    def driver_error(self) -> type[Exception]:
        """What the driver raises where it is used without SQLAlchemy."""

    @property
    def engine(self) -> Engine:
        """Where its connections come from."""

    def begun(self, *, writes: bool) -> AbstractContextManager[Connection]:
        """Run a block as one transaction: everything in it is kept, or nothing. There is one writer at a time."""

    def translated(self, error: BaseException) -> StorageError:
        """Return an error of the driver in the words of this library; `retry_after` says if it may pass."""

    def put_staged(self, connection: Connection, columns: Iterable[AssetPrices]) -> int:
        """Put rows into `staged_prices` the fast way, and return how many."""

    def samples(
        self, connection: Connection, prices: FromClause, where: Conditions
    ) -> dict[tuple[str, str], Samples]:
        """Return the samples of a selection by asset and source, without a loop over rows."""

    def lock(self, key: str) -> AbstractContextManager[JobLock]:
        """Hold a lock for a block; see `Ledger.lock`."""

    def before_upgrade(self) -> None:
        """Make what an upgrade that fails may have to go back to."""

    def renumber(self, connection: Connection, table: str) -> None:
        """Let numbers that the database gives in a table go on after the largest."""

    def size(self, connection: Connection) -> int:
        """Return how many bytes the database takes."""


@contextmanager
def storage_errors(database: Database) -> Iterator[None]:
    """Turn the errors of a database and its driver into those of this library."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreBusyError(f"no connection to the database {database.name} came free: {error}") from error
    except (exc.SQLAlchemyError, database.driver_error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
        raise database.translated(cause) from error


def run(database: Database, work: Callable[[Connection], _Result], *, writes: bool) -> _Result:
    """Do `work` as one transaction, again as a whole when what stopped it may have passed.

    A deadlock or a lost connection is met a few times; after a lost one nobody knows whether the commit arrived,
    so `work` must be such that doing it twice changes nothing.
    """
    attempts = Retrying(
        retry=retry_if_exception(lambda error: getattr(error, "retry_after", None) is not None),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_WAIT),
        reraise=True,
    )
    for attempt in attempts:
        with attempt:
            try:
                with storage_errors(database), database.begun(writes=writes) as connection:
                    return work(connection)
            except StoreUnavailableError:
                # The server may have moved: connections that wait in the pool may lead to the old place.
                database.engine.dispose()
                raise
    raise AssertionError("tenacity reraises")
