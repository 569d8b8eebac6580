"""The steps from each version of the schema to the next, run by alembic in the caller's transaction."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from tonsurance_risk.errors import SchemaVersionError
from tonsurance_risk.storage.schema import FIRST_VERSION_TABLE, VERSION, schema_version

FIRST = 2
"""The oldest version that can be upgraded."""


def run_upgrades(
    connection: Connection, found: int, *, in_first_table: bool = False, target: int = VERSION
) -> None:
    """Bring a database from one version to a later one; 0 stands for no tables at all.

    Raises
    ------
    SchemaVersionError
        If the target is an earlier one: no step leads back.
    """
    if target < found:
        raise SchemaVersionError(
            f"no step leads back from the schema version {found} to {target}; restore a backup of that version",
            observed=found,
            required=target,
        )
    scripts = ScriptDirectory(str(Path(__file__).parent))
    if in_first_table:
        schema_version.create(connection)
        connection.execute(schema_version.insert().values(version_num=str(found)))
        connection.execute(text(f"DROP TABLE {FIRST_VERSION_TABLE}"))
    with EnvironmentContext(
        Config(), scripts, fn=lambda revision, _context: scripts._upgrade_revs(str(target), revision)
    ) as environment:
        environment.configure(connection=connection, version_table=schema_version.name)
        environment.run_migrations()
