"""A database seen by somebody else: statements beside the store, and events of its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from sqlalchemy import create_engine, event


def execute(url: str, *statements: str) -> list[tuple]:
    """Run statements in one transaction and return the rows of the last."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def terminate_others(url: str) -> None:
    """Do what a restart of the server does to every connection."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@contextmanager
def listening(target: object, name: str, function: Callable) -> Iterator[None]:
    """Call a function at each event of a kind, for a block."""
    event.listen(target, name, function)
    try:
        yield
    finally:
        event.remove(target, name, function)


def stop(connection, code: str) -> None:
    """Let PostgreSQL fail with a code in the middle of a transaction."""
    raised = f"DO $$ BEGIN RAISE EXCEPTION 'stopped' USING ERRCODE = '{code}'; END $$"
    connection.connection.cursor().execute(raised)


def spellings(password: str) -> set[str]:
    """Return how a password can stand in a text: plain, and as it is written in a URL."""
    return {password, quote(password), quote_plus(password)}
