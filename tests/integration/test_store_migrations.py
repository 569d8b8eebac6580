"""From every earlier version of the schema to this one, with data in it, on both databases."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import create_engine, event, inspect, text

from databases import execute
from tonsurance_risk.errors import SchemaVersionError, StorageError
from tonsurance_risk.storage import open_store
from tonsurance_risk.storage.migrations import FIRST, run_upgrades
from tonsurance_risk.storage.schema import VERSION, metadata
from tonsurance_risk.storage.views import VIEWS

NOON = pd.Timestamp("2023-03-11 12:00", tz="UTC")
MICROSECONDS = NOON.value // 1000

DATA = f"""
INSERT INTO price_history (asset, source, step, time, price, recorded_at)
    VALUES ('USDC', 'feed', '1h', {MICROSECONDS}, 0.88, 1), ('it''s', 'feed', '1h', {MICROSECONDS}, 1.01, 1);
INSERT INTO price_revision (asset, source, step, time, price, recorded_at, replaced_at)
    VALUES ('USDC', 'feed', '1h', {MICROSECONDS}, 0.87, 0, 1);
INSERT INTO historical_depegs (asset, direction, start, "end", recovered_at, min_price, max_price, severity,
    n_observations, cut_by_gap, source, confirmed, local_to, threshold, recovery, min_duration, max_gap, merge_within,
    sample_span, peg_reference)
    VALUES ('USDC', 'below', {MICROSECONDS}, {MICROSECONDS}, NULL, 0.88, 0.88, 0.12, 1, false, NULL, NULL, NULL,
    0.99, 0.99, 0, NULL, 0, 3600000000, 1.0);
INSERT INTO correlation_assets VALUES ('feed', '1h', 30, 1, 'DAI', 0, 9), ('feed', '1h', 30, 1, 'USDC', 1, 9);
INSERT INTO asset_correlations VALUES ('feed', '1h', 30, 1, 'DAI', 'USDC', 0.5, 9, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO stress_scenarios VALUES ('a', 0, 0.5, '{{"USDC": 0.9}}', -0.5, 1.0, 'synthetic', 1.0, 0.0, 1.0, 0.0, 'me', true);
INSERT INTO risk_reports VALUES ('feed', '1h', {MICROSECONDS}, '{{"as_of": "2023-03-11T12:00:00Z"}}');
INSERT INTO risk_snapshots VALUES ('feed', '1h', {MICROSECONDS}, 1.0, 2.0, 3.0);
INSERT INTO run_inputs VALUES ('x', '{{}}')
"""


def of_version(url: str, version: int) -> None:
    """Make a database of an earlier version, with a row in every table."""
    engine = create_engine(url)
    with engine.begin() as connection:
        run_upgrades(connection, 0, target=version)
    engine.dispose()
    execute(url, *DATA.split(";\n"))


def shape(url: str) -> dict:
    """Everything that inspection tells of the tables and views."""
    engine = create_engine(url)
    inspector = inspect(engine)
    found = {}
    for name in inspector.get_table_names():
        found[name] = (
            sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)),
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted(str(sorted(key.items(), key=str)) for key in inspector.get_foreign_keys(name)),
            sorted(
                check["sqltext"].replace("(", "").replace(")", "").replace('"', "").lower()
                for check in inspector.get_check_constraints(name)
            ),
        )
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if engine.name == "sqlite"
        else "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    )
    with engine.connect() as connection:
        found["indexes"] = sorted(tuple(row) for row in connection.execute(text(query)))
    found["views"] = sorted(inspector.get_view_names())
    engine.dispose()
    return found


def test_the_steps_lead_to_the_tables_of_a_new_database(url: str, tmp_path: Path, request) -> None:
    """Column for column, check for check."""
    of_version(url, FIRST)
    open_store(url, migrate=True).close()
    stepped = shape(url)
    if url.startswith("sqlite"):
        new = f"sqlite:///{tmp_path / 'new.db'}"
        open_store(new).close()
    else:
        execute(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        open_store(new := url).close()

    assert shape(new) == stepped
    assert set(stepped) - {"indexes", "views"} == set(metadata.tables)
    assert stepped["views"] == sorted(VIEWS)


@pytest.mark.parametrize("version", range(FIRST, VERSION))
@pytest.mark.fault("F081")
def test_an_older_database_keeps_its_data(url: str, version: int) -> None:
    """It is refused with both numbers until asked to migrate."""
    of_version(url, version)
    with pytest.raises(SchemaVersionError, match=rf"version {version}, .* {VERSION};.*db upgrade") as refused:
        open_store(url)
    assert (refused.value.observed, refused.value.required) == (version, VERSION)

    for migrate in (True, False):
        with open_store(url, migrate=migrate) as store:
            assert store.load_prices().to_dict("list") == {"USDC": [0.88], "it's": [1.01]}
            early = store.load_prices(["USDC"], known_at=pd.Timestamp(0, unit="us", tz="UTC"))
            assert early["USDC"].tolist() == [0.87]
            (depeg,) = store.load_events()
            assert (depeg.start, depeg.sample_span, depeg.source) == (NOON, timedelta(hours=1), None)
            assert store.load_correlations(window_days=30, source="feed", step="1h").get("USDC", "DAI") == 0.5
            assert [scenario.name for scenario in store.load_scenarios()] == ["a"]
            assert len(store.load_reports()) == len(store.load_snapshots(source="feed", step="1h")) == 1
            assert store.load_run_inputs("x") == {}
            # The identities go on where they were.
            assert store.save_events([depeg]).unchanged == 1
    assert execute(url, "SELECT version_num FROM tonsurance_version") == [(str(VERSION),)]


def test_a_file_of_version_2_as_it_came_out(tmp_path: Path) -> None:
    """Its number was in a table of its own; what an upgrade starts from is kept beside it."""
    path = tmp_path / "risk.db"
    url = f"sqlite:///{path}"
    of_version(url, 2)
    execute(
        url,
        "DROP TABLE tonsurance_version",
        "CREATE TABLE tonsurance_schema (id INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (id), CHECK (id = 1))",
        "INSERT INTO tonsurance_schema VALUES (1, 2)",
    )
    with pytest.raises(SchemaVersionError, match=rf"version 2, .* {VERSION};"):
        open_store(url)
    with open_store(url, migrate=True) as store:
        assert store.load_prices()["USDC"].tolist() == [0.88]
    assert execute(f"{url}.before-schema-{VERSION}", "SELECT version FROM tonsurance_schema") == [(2,)]
    assert execute(url, "SELECT name FROM sqlite_master WHERE name = 'tonsurance_schema'") == []


@pytest.mark.fault("F081")
@pytest.mark.parametrize("version", [0, 1, VERSION + 1, 99])
@pytest.mark.parametrize("migrate", [False, True])
def test_a_database_newer_than_the_code(url: str, version: int, migrate: bool) -> None:
    """Or older than the first version that can be upgraded: both numbers, and nothing is written."""
    open_store(url).close()
    execute(url, f"UPDATE tonsurance_version SET version_num = '{version}'")
    before = shape(url)
    with pytest.raises(SchemaVersionError, match=rf"version {version}, .* {VERSION};") as refused:
        open_store(url, migrate=migrate)
    assert (refused.value.observed, refused.value.required) == (version, VERSION)
    assert shape(url) == before


@pytest.mark.fault("F081")
@pytest.mark.parametrize("target", [*range(FIRST, VERSION), 0])
def test_no_step_leads_back(url: str, target: int) -> None:
    """A downgrade is refused with both numbers, and nothing is written; docs say to restore a backup."""
    open_store(url).close()
    before = shape(url)
    engine = create_engine(url)
    refusal = pytest.raises(SchemaVersionError, match=f"from the schema version {VERSION} to {target};")
    with refusal as refused, engine.begin() as connection:
        run_upgrades(connection, VERSION, target=target)
    engine.dispose()
    assert (refused.value.observed, refused.value.required) == (VERSION, target)
    assert shape(url) == before


@pytest.mark.fault("F082")
@pytest.mark.parametrize("statement", ["job_locks", "scenario_events", "price_archives"])
def test_an_upgrade_that_fails_leaves_the_old_state(url: str, statement: str, monkeypatch) -> None:
    """Wherever it fails; the next one completes it."""
    of_version(url, 2)
    before = shape(url)
    opened = []

    def failing(database) -> None:
        opened.append(database.engine)

        @event.listens_for(database.engine, "before_cursor_execute")
        def _fail(_connection, _cursor, sql, *_others) -> None:
            if f"CREATE TABLE {statement}" in sql:
                raise RuntimeError("the power went")

    from tonsurance_risk.storage import postgres, sqlite

    kind = sqlite.SqliteFile if url.startswith("sqlite") else postgres.Postgres
    original = kind.before_upgrade
    with monkeypatch.context() as patched:
        patched.setattr(kind, "before_upgrade", lambda self: (original(self), failing(self)))
        with pytest.raises(RuntimeError, match="the power went"):
            open_store(url, migrate=True)
    assert opened
    assert shape(url) == before
    with open_store(url, migrate=True) as store:
        assert store.load_prices()["USDC"].tolist() == [0.88]


def test_a_view_lost(url: str) -> None:
    open_store(url).close()
    execute(url, "DROP VIEW depeg_statistics")
    with pytest.raises(StorageError, match=r"lost.*depeg_statistics"):
        open_store(url)
