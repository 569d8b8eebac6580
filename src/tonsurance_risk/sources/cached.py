"""A source behind a store: what is held is not asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.errors import HistoryLimitError
from tonsurance_risk.ports import Clock, PriceSource, PriceStore, SourceUsage, SystemClock, usage_of
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, joined
from tonsurance_risk.sources.samples import Grid
from tonsurance_risk.sources.steps import step_span
from tonsurance_risk.values import as_utc, text

_APART = 24
"""Holes with fewer held samples between them are asked for together: a call more costs more than so many rows."""
_INSTANT = timedelta(microseconds=1)
_STILL_TO_COME = timedelta(days=1)
"""A sample that was not there so long after its time is not asked for again by this object."""


class CachedSource:
    """The prices that a store holds of a source; those that are missing are fetched and stored first.

    Parameters
    ----------
    source : PriceSource
        Gives what is missing.
    store : PriceStore
        Holds prices under the name of the source.
    clock : Clock, optional
        Tells the time; the machine's when not given. Samples that are still to come are not missing.

    Attributes
    ----------
    name : str
        That of the source.

    Notes
    -----
    What was fetched once is not looked at again: a price that the source has revised since stays as it is; a
    backfill looks at the last days again.

    Examples
    --------
    >>> from tonsurance_risk.sources import SampleSource
    >>> from tonsurance_risk.storage import open_store
    >>> days = pd.date_range("2024-03-01", periods=3, tz="UTC")
    >>> with open_store("memory://") as store:
    ...     prices = CachedSource(SampleSource(), store).fetch("DAI", days[0], days[2], step="1d")
    ...     prices.equals(store.load_prices(step="1d")["DAI"])
    True
    """

    def __init__(self, source: PriceSource, store: PriceStore, *, clock: Clock | None = None) -> None:
        self._source = source
        self._store = store
        self._clock = clock or SystemClock()
        self._not_there: dict[tuple[str, str], pd.DatetimeIndex] = {}

    @property
    def name(self) -> str:
        """The name of the source."""
        return self._source.name

    @property
    def usage(self) -> SourceUsage:
        """What the source asked of its hosts."""
        return usage_of(self._source)

    def __repr__(self) -> str:
        return f"CachedSource({self._source!r})"

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Raises
        ------
        RiskError
            Of the source, if something is missing and it does not give it; of the store. Where the source does not
            reach back so far, what is held is returned, and the ``history_start`` of its `FetchDetail` is the
            first of it; only with nothing held is that a `HistoryLimitError`.
        """
        span = step_span(step, self.name)
        first, last = as_utc(start, "start"), as_utc(end, "end")
        asset = canonical(text(asset, "asset"))
        now = as_utc(self._clock.now())
        stamps = Grid.of(first, last, span, now=now).stamps()
        key = (asset, step)
        not_there = self._not_there.get(key, stamps[:0])
        details, limit = [], None
        for low, high in _runs(self._missing(asset, step, stamps, span).difference(not_there), span):
            try:
                prices = self._source.fetch(asset, max(first, low), min(last, high), step=step)
            except HistoryLimitError as error:
                limit = error
                continue
            self._store.save_prices(prices, source=self.name, step=step)
            details.append(prices.attrs.get(DETAIL, FetchDetail()))
            missing = self._missing(asset, step, stamps[(stamps > low) & (stamps < high)], span)
            not_there = not_there.union(missing[missing <= now - _STILL_TO_COME])
        self._not_there[key] = not_there
        held = self._held(asset, step, first, last)
        if limit is not None and held.empty:
            raise limit
        detail = joined(details)
        if len(held) and (limit is not None or detail.history_start is not None):
            begins = held.index[0]  # the store may reach back further than the source
            detail = attrs.evolve(detail, history_start=begins if begins - first >= span else None)
        held.attrs[DETAIL] = detail
        return held

    def _held(self, asset: str, step: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.Series:
        return self._store.load_prices([asset], start, end, step=step, source=self.name)[asset].dropna()

    def _missing(self, asset: str, step: str, stamps: pd.DatetimeIndex, span: timedelta) -> pd.DatetimeIndex:
        """Return the stamps in whose bars, (stamp - span, stamp], the store has no sample."""
        if not len(stamps):
            return stamps
        held = self._held(asset, step, stamps[0] - span + _INSTANT, stamps[-1] + _INSTANT)
        return stamps.difference(pd.DatetimeIndex(held.index).ceil(span))


def _runs(missing: pd.DatetimeIndex, span: timedelta) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """Yield the intervals of the bars that are missing, oldest first."""
    breaks = np.flatnonzero(np.diff(missing.asi8) > _APART * (span // _INSTANT)) + 1
    for run in np.split(np.arange(len(missing)), breaks) if len(missing) else []:
        yield missing[run[0]] - span + _INSTANT, missing[run[-1]] + _INSTANT
