"""DefiLlama: prices, circulating supply of stablecoins and value locked on chains, without a key.

Its ``coingecko:*`` prices are CoinGecko's: they confirm nothing that CoinGecko shows, and the name of the source
says so.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pandas as pd

from tonsurance_risk.assets import canonical, find_asset
from tonsurance_risk.errors import UnknownAssetError
from tonsurance_risk.ports import Clock, SourceUsage
from tonsurance_risk.sources.defillama_answers import (
    on_grid,
    parse_chain_tvl,
    parse_chart,
    parse_first,
    parse_price,
    parse_stablecoin_ids,
    parse_supply,
)
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.http_source import HttpSource, LastPrice
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.samples import Grid, join_pages
from tonsurance_risk.values import as_utc, text

_NEAR: Mapping[str, timedelta] = {"1h": timedelta(minutes=10), "1d": timedelta(minutes=30)}
"""How far a point may lie from its stamp on the grid, on either side."""

_T = TypeVar("_T")


class DefiLlamaSource(HttpSource):
    """Prices of CoinGecko by way of DefiLlama; supplies and value locked of its own.

    Parameters
    ----------
    base_url : str, optional
        One host in the place of the three, a gateway for example.
    clock, http
        As `HttpSource`.

    Examples
    --------
    >>> DefiLlamaSource().name
    'coingecko via defillama'
    """

    name = "coingecko via defillama"
    host = "https://coins.llama.fi"
    limits = HostLimits(calls_per_minute=60)  # none is documented
    rows = 500
    opened = pd.Timestamp("2013-04-28", tz="UTC")  # the first day of CoinGecko

    def __init__(
        self,
        *,
        base_url: str | None = None,
        clock: Clock | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(base_url=base_url, clock=clock, http=http)
        options: dict[str, Any] = {"limits": self.limits, **(http or {})}
        self._stablecoins = HttpClient(base_url or "https://stablecoins.llama.fi", **options)
        self._asking_first = threading.Lock()
        self._firsts: dict[str, pd.Timestamp] = {}
        self._chains = HttpClient(base_url or "https://api.llama.fi", **options)

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the three hosts."""
        return self.client.usage + self._stablecoins.usage + self._chains.usage

    def close(self) -> None:
        """Close all connections."""
        for client in (self.client, self._stablecoins, self._chains):
            client.close()

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` in ``[start, end)``; see `PriceSource.fetch`.

        A sample is the price nearest to its stamp, within 10 minutes (of a day 30), before or after it.

        Notes
        -----
        One call for the first price of all, and one for each 500 samples.
        """
        asked = self._question(asset, start, end, step)
        coin = self._id_of(asked.asset)
        first = self._first(asked.asset, coin)
        pages = []
        grid = Grid.of(max(asked.start, first), asked.end, asked.span, now=asked.now)
        for window in grid.windows(self.rows):
            question: dict[str, str | int | float] = {
                "start": int(window.first.timestamp()),
                "span": len(window),
                "period": step,
                "searchWidth": int(_NEAR[step].total_seconds()),
            }
            points = self.client.get(f"chart/{coin}", question, functools.partial(parse_chart, coin=coin))
            if points is not None:
                pages.append(on_grid(points, _NEAR[step], asked.span, now=asked.now))
        return join_pages(pages, asked.asset, asked.start, asked.end)

    def _id_of(self, asset: str) -> str:
        known = find_asset(asset)
        if known is None:
            raise UnknownAssetError(
                f"DefiLlama is asked by CoinGecko's id, and none is known of {asset!r}", asset=asset
            )
        return f"coingecko:{known.coingecko_id}"

    def _first(self, asset: str, coin: str) -> pd.Timestamp:
        """Return the time of the first price, asked for once."""
        with self._asking_first:
            if coin not in self._firsts:
                first = self.client.get(f"prices/first/{coin}", None, functools.partial(parse_first, coin=coin))
                if first is None:
                    raise _not_carried(asset, coin)
                self._firsts[coin] = first
        return self._firsts[coin]

    def _last_price(self, asset: str) -> LastPrice:
        coin = self._id_of(asset)
        price = self.client.get(f"prices/current/{coin}", None, functools.partial(parse_price, coin=coin))
        if price is None:
            raise _not_carried(asset, coin)
        return price

    def fetch_supply(self, asset: str, start: datetime, end: datetime) -> pd.Series:
        """Return how many coins of `asset` were in circulation at the end of each day.

        Parameters
        ----------
        asset : str
            A built-in stablecoin, in any case.
        start, end : datetime
            tz-aware, ``[start, end)``.

        Returns
        -------
        Series of float
            [coins], UTC, named by the symbol. DefiLlama fills holes with the day before: a stretch that stands
            still may be none.

        Raises
        ------
        UnknownAssetError
            If DefiLlama has no such stablecoin.
        RiskError
            As `fetch`.
        """
        since, until = as_utc(start, "start"), as_utc(end, "end")
        asset = canonical(text(asset, "asset"))
        coin = self._id_of(asset)
        ids = self._stablecoins.get("stablecoins", None, parse_stablecoin_ids)
        number_there = ids.get(coin.removeprefix("coingecko:"))
        if number_there is None:
            raise _not_carried(asset, coin)
        supply = self._stablecoins.get(
            "stablecoincharts/all", {"stablecoin": number_there}, self._at_present(parse_supply)
        )
        return join_pages([supply], asset, since, until)

    def fetch_chain_tvl(self, chain: str, start: datetime, end: datetime) -> pd.Series:
        """Return the value locked in a chain's protocols at the end of each day.

        Parameters
        ----------
        chain : str
            As DefiLlama spells it, ``Ethereum`` for example.
        start, end : datetime
            tz-aware, ``[start, end)``.

        Returns
        -------
        Series of float
            [USD], UTC, named by the chain; liquid staking and what is counted twice are left out.

        Raises
        ------
        ValueError
            If `chain` is not a name.
        RiskError
            As `fetch`.
        """
        since, until = as_utc(start, "start"), as_utc(end, "end")
        if not text(chain, "chain").replace(" ", "").replace("-", "").isalnum():
            raise ValueError(f"chain must be a name of letters and digits, found {chain!r}")
        values = self._chains.get(f"v2/historicalChainTvl/{chain}", None, self._at_present(parse_chain_tvl))
        return join_pages([values], chain, since, until)

    def _at_present(self, parse: Callable[..., _T]) -> Callable[[bytes], _T]:
        return functools.partial(parse, now=self._now())


def _not_carried(asset: str, coin: str) -> UnknownAssetError:
    return UnknownAssetError(f"DefiLlama does not have {asset}, looked for {coin}", asset=asset, observed=coin)
