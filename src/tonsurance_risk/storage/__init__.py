"""Where prices and results are kept."""

from __future__ import annotations

import re
from pathlib import Path

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.ports import Clock, PriceStore, ResultStore, Store, SystemClock
from tonsurance_risk.storage.database import Database
from tonsurance_risk.storage.memory import MemoryStore
from tonsurance_risk.storage.postgres import Postgres
from tonsurance_risk.storage.sql import SqlStore
from tonsurance_risk.storage.sqlite import SqliteFile

__all__ = ["MemoryStore", "PriceStore", "ResultStore", "SqlStore", "Store", "open_database", "open_store"]

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgresql+psycopg://")
_ACCEPTED = (
    "accepted are sqlite:///FILE (an absolute path: sqlite:////FOLDER/FILE), "
    "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE and memory://"
)


def open_store(
    url: str,
    *,
    migrate: bool = False,
    clock: Clock = SystemClock(),  # noqa: B008 - it holds no state
) -> Store:
    """Open a store; a database that is new or empty is set up.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE``, ``postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`` or ``memory://``.
    migrate : bool
        Whether an older schema is upgraded; without it, one is refused. A newer one always is.
    clock : Clock
        Tells when a price is recorded.

    Raises
    ------
    SettingsError
        If the URL is another one.
    SchemaVersionError
        If the database has another schema than this version of the library.
    StoreCorruptError
        If the file is not a sound database or holds the tables of something else. Nothing is written to it.
    StoreBusyError
        If another process holds the database for longer than 5 s.
    StoreUnavailableError
        If a database server does not answer or does not let us in.
    StorageError
        If the folder is missing or the place cannot be used.

    Notes
    -----
    An SQLite database is in WAL mode: beside FILE there are FILE-wal and FILE-shm while it is open, and a
    copy of FILE alone may lack the newest commits.

    Examples
    --------
    >>> import pandas as pd
    >>> day = pd.Timestamp("2023-03-11", tz="UTC")
    >>> with open_store("memory://") as store:
    ...     result = store.save_prices(pd.Series([0.88], [day], name="USDC"), source="example", step="1d")
    ...     prices = store.load_prices(step="1d")
    >>> result
    WriteResult(new=1, changed=0, unchanged=0, rejected=0)
    >>> prices.loc[day, "USDC"]
    np.float64(0.88)
    """
    if url == "memory://":
        return MemoryStore(clock)
    return SqlStore(open_database(url, migrate=migrate), clock)


def open_database(url: str, *, migrate: bool = False) -> Database:
    """Open the database of a store; see `open_store`."""
    check_url(url)
    if url == "memory://":
        raise SettingsError(f"memory:// is no database; {_ACCEPTED}")
    if url.startswith(_POSTGRES):
        return Postgres(url, migrate=migrate)
    return SqliteFile(Path(url.removeprefix(_SQLITE)), migrate=migrate)


def check_url(url: str) -> None:
    """Raise `SettingsError` for a URL that no store can have; nothing is opened."""
    if not isinstance(url, str):
        raise SettingsError(f"a store must be named by a URL, found {type(url).__name__}; {_ACCEPTED}")
    if url in ("sqlite://", _SQLITE, f"{_SQLITE}:memory:"):
        raise SettingsError(f"a store in memory is memory://, found {url}; {_ACCEPTED}")
    if url == "memory://" or url.startswith(_POSTGRES):
        return
    if not url.startswith(_SQLITE):
        # Only the scheme: the rest may hold a password.
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", url)
        raise SettingsError(
            f"no store can be opened with a URL of {scheme[0] if scheme else 'no scheme'}; {_ACCEPTED}"
        )
    file = url.removeprefix(_SQLITE)
    if "?" in file or "\0" in file:
        raise SettingsError(f"the file of an SQLite URL takes no options and no NUL; {_ACCEPTED}")
