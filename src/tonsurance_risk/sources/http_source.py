"""What sources that are asked over HTTP have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, Self

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.errors import RiskError, UnknownAssetError
from tonsurance_risk.ports import Clock, SourceUsage, SystemClock
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.steps import step_span
from tonsurance_risk.values import as_utc, text


@attrs.frozen(kw_only=True)
class LastPrice:
    """The newest price that a source has of an asset.

    Parameters
    ----------
    price : float
        [USD]
    time : Timestamp
        When it was, UTC.
    stamped_by : {"source", "receipt"}
        The source said when, or it did not and this is when its answer came: the price may be older.
    """

    price: float
    time: pd.Timestamp
    stamped_by: Literal["source", "receipt"]


@attrs.frozen
class Question:
    """What `fetch` was asked, checked."""

    asset: str
    start: pd.Timestamp
    end: pd.Timestamp
    step: str
    span: timedelta
    now: pd.Timestamp


class HttpSource:
    """A client of one host, a clock, and what a `MeteredSource` says of itself; to build on.

    Parameters
    ----------
    base_url : str, optional
        Another way to the host, a gateway for example.
    clock : Clock, optional
        Tells the time; the machine's when not given.
    http : mapping, optional
        Options of the `HttpClient`: transport, clock, sleep, timeout, ...

    Attributes
    ----------
    name : str
        Of the source.
    host : str
        Its base URL.
    limits : HostLimits
        What it grants to an address or a key.
    ids : mapping of str
        How the host calls an asset, by symbol.
    rows : int
        How many bars one call gives.
    opened : Timestamp
        There are no prices before.
    client : HttpClient
        Counts calls and credits.
    calls_per_minute, monthly_credits : float, int or None
        That are made at most.
    """

    name: str
    host: str
    limits: HostLimits
    ids: Mapping[str, str] = MappingProxyType({})
    rows: int
    opened: pd.Timestamp

    def __init__(
        self,
        *,
        base_url: str | None = None,
        clock: Clock | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        options: dict[str, Any] = {"limits": self.limits, **(http or {})}
        self.client = HttpClient(base_url or self.host, **options)
        self.calls_per_minute: float = options["limits"].calls_per_minute
        self.monthly_credits: int | None = options["limits"].monthly_credits
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.client!r})"

    @property
    def calls(self) -> int:
        """Attempts that were sent."""
        return self.client.calls

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the host."""
        return self.client.usage

    def longest_window(self, step: str) -> timedelta:
        """Return how much one call gives."""
        return self.rows * step_span(step, self.name)

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time of which there may be a sample."""
        step_span(step, self.name)
        return self.opened

    def check_ids(self, assets: Iterable[str]) -> dict[str, UnknownAssetError]:
        """Return the assets of which no id is known, each with its error; without a call."""
        return self._ids_of(assets)[1]

    def last_prices(self, assets: Iterable[str]) -> pd.DataFrame:
        """Return the newest price of assets.

        Parameters
        ----------
        assets : iterable of str
            Symbols, in any case.

        Returns
        -------
        DataFrame
            By symbol: price [USD], time, and stamped_by, "source" or "receipt" (of the answer, where the source
            does not say when the price was). An asset without a price is not there, and its error is in
            ``attrs["failed"]``.

        Raises
        ------
        SourceError
            What concerns the source, not one asset.
        """
        found: dict[str, LastPrice] = {}
        failed: dict[str, RiskError] = {}
        for asset in map(canonical, assets):
            try:
                found[asset] = self._last_price(asset)
            except UnknownAssetError as error:
                failed[asset] = error
        return last_price_table(found, failed)

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def _id_of(self, asset: str) -> str:
        """Return how the host calls an asset; an `UnknownAssetError` where it does not have it."""
        if asset not in self.ids:
            raise UnknownAssetError(
                f"{self.name} is not known to have {asset} against dollars; it has {', '.join(self.ids)}",
                asset=asset,
                observed=asset,
                required=tuple(self.ids),
            )
        return self.ids[asset]

    def _ids_of(self, assets: Iterable[str]) -> tuple[dict[str, str], dict[str, UnknownAssetError]]:
        """Return the ids of those that have one, and the errors of the others, by symbol."""
        ids, problems = {}, {}
        for asset in map(canonical, assets):
            try:
                ids[asset] = self._id_of(asset)
            except UnknownAssetError as error:
                problems[asset] = error
        return ids, problems

    def _last_price(self, asset: str) -> LastPrice:
        raise NotImplementedError

    def _now(self) -> pd.Timestamp:
        return as_utc(self._clock.now(), "the clock")

    def _question(self, asset: str, start: datetime, end: datetime, step: str) -> Question:
        span = step_span(step, self.name)
        first, last = as_utc(start, "start"), as_utc(end, "end")
        return Question(canonical(text(asset, "asset")), first, last, step, span, self._now())


def last_price_table(found: Mapping[str, LastPrice], failed: Mapping[str, RiskError]) -> pd.DataFrame:
    """Return last prices in the form of `HttpSource.last_prices`."""
    table = pd.DataFrame(
        [attrs.astuple(price) for price in found.values()],
        index=list(found),
        columns=["price", "time", "stamped_by"],
    )
    table.attrs["failed"] = dict(failed)
    return table
