"""What a database holds when it is opened: nothing yet, our tables, older or newer ones, or something else."""

from __future__ import annotations

import attrs
from sqlalchemy import Connection, Inspector, column, exc, insert, inspect, select, table

from tonsurance_risk.errors import SchemaVersionError, StoreCorruptError
from tonsurance_risk.storage.database import Database
from tonsurance_risk.storage.schema import FIRST_VERSION_TABLE, VERSION, metadata, schema_version
from tonsurance_risk.storage.views import VIEWS, create_views

RESTORE = "it was left as it is; restore it from a backup or give another path"


@attrs.frozen
class Content:
    """What is there: the number of its schema, None for nothing at all."""

    version: int | None
    in_first_table: bool = False


def prepare(database: Database, *, migrate: bool) -> bool:
    """Set up a database that is empty, upgrade an older one if `migrate`; return whether it did.

    Raises
    ------
    SchemaVersionError
        If it is older and `migrate` is false, or newer; nothing is written to it.
    StoreCorruptError
        If it holds the tables of something else, or has lost some of its own; nothing is written to it.
    """
    with database.begun(writes=False) as connection:
        found = content(connection, database.name)
    if found.version == VERSION:
        return False
    if found.version is not None and not migrate:
        raise SchemaVersionError(
            f"{database.name} has the schema version {found.version}, this version of the library has {VERSION}; "
            f"nothing was written to it. Upgrade it with 'tonsurance-risk db upgrade' or migrate=True",
            observed=found.version,
            required=VERSION,
        )
    if found.version is None:
        with database.begun(writes=True) as connection:
            # Another process may have set it up meanwhile.
            if content(connection, database.name).version is None:
                create_all(connection)
        return True
    upgrade(database)
    return True


def create_all(connection: Connection) -> None:
    """Create the tables and views of this version."""
    metadata.create_all(connection)
    create_views(connection)
    connection.execute(insert(schema_version).values(version_num=str(VERSION)))


def upgrade(database: Database) -> None:
    """Bring an older schema to this version, all steps in one transaction."""
    # Alembic is slow to import, and few calls come here.
    from tonsurance_risk.storage.migrations import run_upgrades

    with database.begun(writes=True) as connection:
        found = content(connection, database.name)
        if found.version is not None and found.version < VERSION:
            # Only now that no other process can: it would be a copy of what that one made.
            database.before_upgrade()
            run_upgrades(connection, found.version, in_first_table=found.in_first_table)
            content(connection, database.name)


def content(connection: Connection, name: str) -> Content:
    """Return which version of our tables is there.

    Raises
    ------
    SchemaVersionError
        If it is newer than this code, or of before the first that can be upgraded.
    StoreCorruptError
        If there are other tables, or some are missing.
    """
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    if not tables:
        return Content(None)
    if schema_version.name in tables:
        found = Content(_number(connection, schema_version.name, "version_num", name))
    elif FIRST_VERSION_TABLE in tables:
        found = Content(_number(connection, FIRST_VERSION_TABLE, "version", name), in_first_table=True)
    else:
        raise StoreCorruptError(
            f"{name} holds the tables of something else ({', '.join(sorted(tables))}); "
            f"nothing was written to it, give another path"
        )
    if found.version is None or not 2 <= found.version <= VERSION:
        raise SchemaVersionError(
            f"{name} has the schema version {found.version}, this version of the library has {VERSION}; "
            f"nothing was written to it",
            observed=found.version,
            required=VERSION,
        )
    if found.version == VERSION:
        _refuse_losses(inspector, tables, name)
    return found


def _number(connection: Connection, name: str, of: str, place: str) -> int:
    try:
        return int(connection.execute(select(column(of)).select_from(table(name))).scalar_one())
    except (ValueError, TypeError, exc.NoResultFound, exc.MultipleResultsFound) as error:
        raise StoreCorruptError(f"{place} has lost its schema version; {RESTORE}") from error
    except exc.DBAPIError as error:
        raise StoreCorruptError(f"{place} has the table {name} of something else; {RESTORE}") from error


def _refuse_losses(inspector: Inspector, tables: set[str], name: str) -> None:
    missing = sorted(set(metadata.tables) - tables) + sorted(set(VIEWS) - set(inspector.get_view_names()))
    if missing:
        raise StoreCorruptError(f"{name} has lost {', '.join(missing)}; {RESTORE}")
