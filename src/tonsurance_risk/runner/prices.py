"""Prices that the runner reads from a store."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from tonsurance_risk.ports import PriceStore
from tonsurance_risk.sources.vendors import vendors_of


def other_prices(
    store: PriceStore,
    source: str,
    step: str,
    start: datetime | None = None,
    end: datetime | None = None,
    known_at: datetime | None = None,
) -> list[pd.DataFrame]:
    """Return what the sources in the store independent of `source` show: a wide frame each, named by its source.

    One that has prices of the same vendor, whatever way they came, is left out: it would confirm them by
    themselves.
    All assets of each, whatever was asked for: the checks compare the coins of one source. With `known_at` it is
    what they showed at that instant.
    """
    own = vendors_of(source)
    frames = []
    for name in store.price_sources(step=step):
        if vendors_of(name).isdisjoint(own):
            found = store.load_prices(None, start, end, step=step, source=name, known_at=known_at)
            frame = found.dropna(axis=1, how="all")
            frame.attrs["vendor"] = name
            frames.append(frame)
    return [frame for frame in frames if not frame.empty]
