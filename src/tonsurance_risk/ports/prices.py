"""Where prices come from and where they are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

import attrs
import pandas as pd

from tonsurance_risk.errors import SourceError


@attrs.frozen
class WriteResult:
    """How many rows a write found new, changed, unchanged, and how many it kept out."""

    new: int
    changed: int
    unchanged: int
    rejected: int = 0

    def __add__(self, other: WriteResult) -> WriteResult:
        """Return both together."""
        return WriteResult(
            self.new + other.new,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.rejected + other.rejected,
        )


@runtime_checkable
class PriceSource(Protocol):
    """Gives prices of one asset at a time."""

    @property
    def name(self) -> str:
        """How the source is called in the store and in every report."""

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``.

        Parameters
        ----------
        asset : str
            A symbol, in any case.
        start, end : datetime
            tz-aware.
        step : {"1h", "1d"}
            The distance of two samples.

        Returns
        -------
        Series of float
            USD, strictly increasing UTC index, named by the symbol as `get_asset` spells it; empty when the
            source carries the asset but has nothing in the interval. A bar is stamped with its end, when its
            close is known.

        Raises
        ------
        UnknownAssetError
            If the source does not carry the asset; the message says what it looked for.
        GranularityError
            If the source does not have that step.
        PayloadError, InvalidPriceError
            If what the source gave cannot be read or cannot be a price.
        SourceUnavailableError
            If the source did not answer.
        """


@attrs.frozen(kw_only=True)
class SourceUsage:
    """What a source asked of its hosts.

    Parameters
    ----------
    requests : dict of int by status class
        Attempts that were answered ``2xx``, ``3xx``, ``4xx``, ``5xx``, or not at all: ``none``.
    credits : int
        What they cost.
    retry_wait_seconds : float
        Waited before attempts that were repetitions.
    circuit_open : bool
        Whether a host is left alone now.

    Examples
    --------
    >>> one = SourceUsage(requests={"2xx": 3}, credits=3, retry_wait_seconds=0.0, circuit_open=False)
    >>> (one + SourceUsage(requests={"2xx": 1, "none": 2}, credits=3, circuit_open=True)).requests
    {'2xx': 4, 'none': 2}
    """

    requests: dict[str, int] = attrs.field(factory=dict)
    credits: int = 0
    retry_wait_seconds: float = 0.0
    circuit_open: bool = False

    def __add__(self, other: SourceUsage) -> SourceUsage:
        """Return the sum of both."""
        return SourceUsage(
            requests=dict(Counter(self.requests) + Counter(other.requests)),
            credits=self.credits + other.credits,
            retry_wait_seconds=self.retry_wait_seconds + other.retry_wait_seconds,
            circuit_open=self.circuit_open or other.circuit_open,
        )

    def __sub__(self, earlier: SourceUsage) -> SourceUsage:
        """Return what came after an earlier look at the same source."""
        return SourceUsage(
            requests=dict(Counter(self.requests) - Counter(earlier.requests)),
            credits=self.credits - earlier.credits,
            retry_wait_seconds=self.retry_wait_seconds - earlier.retry_wait_seconds,
            circuit_open=self.circuit_open,
        )


@runtime_checkable
class UsageSource(Protocol):
    """A source that counts what it asks of its hosts."""

    @property
    def usage(self) -> SourceUsage:
        """Since it was opened."""


def usage_of(source: object) -> SourceUsage:
    """Return what a source counted, nothing where it does not count."""
    return source.usage if isinstance(source, UsageSource) else SourceUsage()


@runtime_checkable
class CreditedSource(Protocol):
    """A source whose calls a host counts by the month."""

    @property
    def monthly_credits(self) -> int | None:
        """How many there are; None: there is no limit."""

    def limit_credits(self, *, used: int, reserve: int) -> None:
        """Make no call that would leave less than `reserve` of the month's credits, of which `used` are gone."""


@runtime_checkable
class MeteredSource(PriceSource, Protocol):
    """A source whose calls are counted, and give only so much each."""

    @property
    def calls(self) -> int:
        """How many calls were made."""

    @property
    def calls_per_minute(self) -> float:
        """How many may be made in a minute."""

    @property
    def monthly_credits(self) -> int | None:
        """How many may be made in a month; None: there is no limit."""

    def longest_window(self, step: str) -> timedelta:
        """Return how much one call gives."""

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time that the plan reaches back to."""

    def check_ids(self, assets: Iterable[str]) -> Mapping[str, SourceError]:
        """Return the assets whose id the source does not carry, with why; one call."""


class PriceStore(Protocol):
    """Keeps prices by (asset, source, step, time), and what a later write changed."""

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store every price of a named Series or wide frame; NaN means nothing observed and is not stored.

        A price that differs from the stored one replaces it, and the old one is kept as a revision with the
        instants at which it was recorded and replaced. Invalid frames raise `InvalidPriceError` and store
        nothing.
        """

    def load_prices(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
        known_at: datetime | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame of the stored prices.

        Parameters
        ----------
        assets : iterable of str, optional
            Columns, in this order; one without prices is a column of NaN. None: all that have prices, sorted.
        start, end : datetime, optional
            ``[start, end)``.
        step : str
            Only samples of this step.
        source : str, optional
            Only samples of this source. None is accepted while the selection holds one source; with
            several a `ValueError` lists them.
        known_at : datetime, optional
            What the store held at that instant: prices recorded at or before it and not yet replaced.
        """

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources that have prices of this step, sorted."""

    def save_marks(self, name: str, values: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store what is known of stored prices beside themselves.

        Parameters
        ----------
        name : {"quality", "outlier", "volatility_1h", "volume"}
            Quality in [0, 1]; outlier 0 or 1; the standard deviation of log returns within the hour; volume.
            The store fills in "volatility_1h" itself where the step is 5 minutes or shorter.
        values : DataFrame
            Wide, as the prices are; NaN says nothing. One without a stored price counts as rejected.
        source, step : str
            Of the prices.

        Notes
        -----
        A price that changes later loses its marks: they were about the old one.
        """

    def load_marks(
        self,
        name: str,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame of one mark; arguments as in `load_prices`, only marked samples are there."""

    def save_rejects(self, rejects: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Keep samples that could not be used, by (asset, time, reason); nothing is thrown away silently.

        `rejects` has the columns asset, time, reason, raw (what was there, as text) and detail. Texts are cut to
        500 letters.
        """

    def load_rejects(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return the rejects in ``[start, end)`` by (time, asset, reason), in the form that they were saved."""
