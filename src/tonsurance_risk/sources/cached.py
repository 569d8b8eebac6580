"""A source behind a store: what is held is not asked for again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta

import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.model import as_utc, text
from tonsurance_risk.ports import Clock, PriceSource, PriceStore, SystemClock
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, joined
from tonsurance_risk.sources.samples import Grid
from tonsurance_risk.sources.steps import step_span

_APART = 24
"""Holes with fewer held samples between them are asked for together: a call more costs more than so many rows."""
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
        self._not_there: set[tuple[str, str, pd.Timestamp]] = set()

    @property
    def name(self) -> str:
        """The name of the source."""
        return self._source.name

    def __repr__(self) -> str:
        return f"CachedSource({self._source!r})"

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Raises
        ------
        RiskError
            Of the source, if something is missing and it does not give it; of the store.
        """
        span = step_span(step, self.name)
        first, last = as_utc(start, "start"), as_utc(end, "end")
        asset = canonical(text(asset, "asset"))
        now = as_utc(self._clock.now())
        grid = Grid.of(first, last, span, now=now)
        details: list[FetchDetail] = []
        for low, high in list(self._holes(asset, step, grid, first, last)):
            prices = self._source.fetch(asset, low, high, step=step)
            self._store.save_prices(prices, source=self.name, step=step)
            details.append(prices.attrs.get(DETAIL, FetchDetail()))
        held = self._held(asset, first, last, step)
        stamps = set(pd.DatetimeIndex(held.index).ceil(span))
        self._not_there.update(
            (asset, step, stamp)
            for stamp in grid.stamps()
            if stamp not in stamps and stamp <= now - _STILL_TO_COME
        )
        held.attrs[DETAIL] = joined(details)
        return held

    def _held(self, asset: str, start: pd.Timestamp, end: pd.Timestamp, step: str) -> pd.Series:
        frame = self._store.load_prices([asset], start, end, step=step, source=self.name)
        return frame[asset].dropna()

    def _holes(
        self, asset: str, step: str, grid: Grid, start: pd.Timestamp, end: pd.Timestamp
    ) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
        """Yield the intervals that the store has no samples of, oldest first."""
        held = set(pd.DatetimeIndex(self._held(asset, start, end, step).index).ceil(grid.span))
        missing = [
            stamp for stamp in grid.stamps() if stamp not in held and (asset, step, stamp) not in self._not_there
        ]
        instant = timedelta(microseconds=1)
        ends = [(one, other) for one, other in itertools.pairwise(missing) if other - one > _APART * grid.span]
        for low, high in zip(
            [*missing[:1], *(other for _, other in ends)], [*(one for one, _ in ends), *missing[-1:]], strict=True
        ):
            # The bar of a stamp is (stamp - span, stamp].
            yield max(start, low - grid.span + instant), min(end, high + instant)
