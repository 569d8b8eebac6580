"""Prices of CoinGecko's API v3: charts of single coins, last prices, and a check of ids."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical, find_asset
from tonsurance_risk.errors import HistoryLimitError, RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.ports import Clock
from tonsurance_risk.sources.coingecko_answers import (
    on_grid,
    parse_coins_list,
    parse_error,
    parse_market_chart,
    parse_simple_price,
)
from tonsurance_risk.sources.coingecko_plans import FREE_HISTORY, TIERS, key_of
from tonsurance_risk.sources.detail import DETAIL, joined
from tonsurance_risk.sources.http_source import HttpSource, LastPrice, Question, last_price_table
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.steps import step_span
from tonsurance_risk.values import iso

_SMALLER_HISTORIES = (timedelta(days=729), FREE_HISTORY, timedelta(days=363))
"""What is tried where the host says that a plan does not reach back so far; a day less for clocks that differ."""

_FIRST_HOUR = timedelta(hours=1)  # holds the point of the first sample of a history
_OVERLAP = timedelta(days=1)
_CACHED = timedelta(hours=12)  # an answer may be so old


@attrs.frozen
class _Shape:
    """How charts of a step are asked for, so that they come in that step: the host chooses it by the length.

    Up to 1 day gives 5 minutes or hours, up to 90 days hours, more days.
    """

    longest: timedelta
    shortest: timedelta
    begins: pd.Timestamp


_SHAPES = {
    "1h": _Shape(timedelta(days=89), timedelta(days=2), pd.Timestamp("2018-01-30", tz="UTC")),
    "1d": _Shape(timedelta(days=1800), timedelta(days=92), pd.Timestamp("2013-04-28", tz="UTC")),
}


class CoinGeckoSource(HttpSource):
    """Prices in USD of CoinGecko, averages over many markets.

    Parameters
    ----------
    tier : {"keyless", "demo", "pro"}
        Host, header, limits and history, together.
    api_key : str, optional
        For "demo" and "pro"; from the environment variable of the tier when not given. Sent in a header only.
    base_url, clock, http
        As `HttpSource`.
    limits : HostLimits, optional
        Of a larger plan.
    ids : mapping of str by symbol, optional
        CoinGecko ids of your own coins: symbols are not unique there.
    environment : mapping of str, optional
        Where keys are looked for; that of the process when not given.

    Attributes
    ----------
    name : str
        ``coingecko``, whatever the tier: it is the same price.
    client, calls_per_minute, monthly_credits
        As `HttpSource`.

    Raises
    ------
    SettingsError
        If the tier is unknown, or its key is missing, empty, or cannot be a header. No call is made.

    Notes
    -----
    Charts have points a few seconds or minutes off the hour. The sample of 14:00 is the last point after 13:00 and
    at or before 14:00, so that a price is never stamped before it was known. See `on_grid`.

    Examples
    --------
    >>> CoinGeckoSource(tier="demo", environment={})
    Traceback (most recent call last):
    tonsurance_risk.errors.SettingsError: the tier 'demo' needs a key: set COINGECKO_DEMO_API_KEY
    """

    name = "coingecko"

    def __init__(
        self,
        *,
        tier: str = "keyless",
        api_key: str | None = None,
        base_url: str | None = None,
        limits: HostLimits | None = None,
        ids: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        if tier not in TIERS:
            raise SettingsError(f"the tier must be one of {', '.join(TIERS)}, found {tier!r}", observed=tier)
        plan = TIERS[tier]
        key = key_of(tier, api_key, os.environ if environment is None else environment)
        self.tier = tier
        self.host = plan.base_url
        self.limits = limits or plan.limits
        self.ids = {canonical(asset): coin for asset, coin in (ids or {}).items()}
        self._history = plan.history
        options: dict[str, Any] = {"explain": partial(parse_error, tier=tier)}
        if plan.header is not None and key is not None:
            options |= {"headers": {plan.header: key}, "secrets": (key,)}
        # dict() refuses a doubled option: other headers would take the place of the key.
        super().__init__(base_url=base_url, clock=clock, http=dict(**options, **(http or {})))

    def __repr__(self) -> str:
        return f"CoinGeckoSource(tier={self.tier!r})"

    def limit_credits(self, *, used: int, reserve: int) -> None:
        """Make no call that would leave less than `reserve` of the month's credits, of which `used` are gone."""
        self.client.limit_credits(used=used, reserve=reserve)

    def longest_window(self, step: str) -> timedelta:
        """Return how much one call gives."""
        step_span(step, self.name)
        return _SHAPES[step].longest - _OVERLAP

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time of which the plan has a sample, as far as is known."""
        span = step_span(step, self.name)
        begins = _SHAPES[step].begins
        return begins if self._history is None else max(begins, (self._now() - self._history).ceil(span))

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Parameters
        ----------
        asset : str
            A built-in symbol in any case, or a symbol in `ids`.
        start, end : datetime
            tz-aware. What lies in the future is empty.
        step : {"1h", "1d"}
            "1d" is the price at 00:00 UTC.

        Returns
        -------
        Series of float
            [USD]. What was left out is in ``attrs["detail"]``, a `FetchDetail`; its ``history_start`` is not None
            where the plan does not reach back to `start`.

        Raises
        ------
        UnknownAssetError
            If the asset has no CoinGecko id, or the host does not know it.
        HistoryLimitError
            If the plan does not reach back to any of it.
        GranularityError
            If `step` is another one, or the answer has another.
        SettingsError
            If the key is not accepted.
        SourceError
            As `HttpClient.get`.
        """
        frame = self.fetch_market(asset, start, end, step=step)
        prices = frame["price"].rename(canonical(asset))
        prices.attrs = dict(frame.attrs)
        return prices

    def fetch_market(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.DataFrame:
        """Return price and volume of the 24 hours before [USD], columns price and volume; else as `fetch`."""
        asked = self._question(asset, start, end, step)
        coin = self._id_of(asked.asset)
        reached = self.earliest(step)
        if asked.start < asked.end <= reached:
            raise HistoryLimitError(
                f"{self.name} ({self.tier}) reaches back to {iso(reached)}, and {asset} was asked for "
                f"from {iso(asked.start)} to {iso(asked.end)}",
                asset=asset,
                observed=asked.start,
                required=reached,
            )
        # The newest window comes first: where the host ends the history, no older one is asked for.
        bounds = _windows(
            max(asked.start, reached), min(asked.end, asked.now + asked.span), self.longest_window(step)
        )
        frames: list[pd.DataFrame] = []
        try:
            for low, high in reversed(bounds):
                if high <= self.earliest(step):
                    break  # learned on the way
                frames.append(self._window(coin, attrs.evolve(asked, start=low, end=high)))
        except RiskError as error:
            error.asset = error.asset or asked.asset
            if not (isinstance(error, HistoryLimitError) and frames):
                raise
            reached = bounds[-len(frames)][0]
        frames.reverse()
        reached = max(reached, self.earliest(step))  # the host may have said so on the way
        return _together(frames, history_start=reached if asked.start < reached else None)

    def last_prices(self, assets: Iterable[str]) -> pd.DataFrame:
        """Return the last price of assets, in one call; see `HttpSource.last_prices`."""
        coins, failed = self._ids_of(assets)
        answer = self.client.get("simple/price", _last_of(coins.values()), parse_simple_price) if coins else {}
        received = self._now()
        found: dict[str, LastPrice] = {}
        for asset, coin in coins.items():
            if coin not in answer:
                failed[asset] = _no_price(asset, coin)
                continue
            price, updated = answer[coin]
            found[asset] = LastPrice(
                price=price, time=updated or received, stamped_by="source" if updated else "receipt"
            )
        return last_price_table(found, failed)

    def check_ids(self, assets: Iterable[str]) -> dict[str, UnknownAssetError]:
        """Return the assets whose id the host does not list, each with an error that names near ids.

        One call, of a megabyte or two. A coin that was listed once and is not any more is here too.
        """
        listed = self.client.get("coins/list", None, parse_coins_list)
        named = list(assets)
        coins, _ = self._ids_of(named)
        return {
            asset: _not_listed(asset, coins.get(asset, ""), listed)
            for asset in map(canonical, named)
            if coins.get(asset) not in listed
        }

    def _id_of(self, asset: str) -> str:
        known = find_asset(asset)
        coin = self.ids.get(asset) or (known.coingecko_id if known else None)
        if coin is None:
            raise UnknownAssetError(
                f"{self.name} is asked by id, and no id of {asset} is known: symbols are not unique there; give "
                f"ids={{{asset!r}: ...}}",
                asset=asset,
                observed=asset,
            )
        return coin

    def _window(self, coin: str, asked: Question) -> pd.DataFrame:
        """Return the samples of a window that one call gives."""
        shape = _SHAPES[asked.step]
        last = min(asked.end, asked.now)
        first = min(asked.start - _OVERLAP, last - shape.shortest)
        try:
            return self._chart(coin, first, last, asked, self._history)
        except HistoryLimitError:
            for history in _SMALLER_HISTORIES:
                if first < asked.now - history < last:
                    try:
                        frame = self._chart(coin, first, last, asked, history)
                    except HistoryLimitError:
                        continue
                    self._history = history
                    return frame
            raise

    def _chart(
        self, coin: str, first: pd.Timestamp, last: pd.Timestamp, asked: Question, history: timedelta | None
    ) -> pd.DataFrame:
        """Return the samples of a window from a chart of ``[first, last]``, or of what `history` has of it."""
        if history is not None and first < asked.now - history - _FIRST_HOUR:
            first = asked.now - history - _FIRST_HOUR
            last = min(asked.now, max(last, first + _SHAPES[asked.step].shortest))
        # Whole seconds, inside what is allowed.
        low, high = -int(-first.timestamp() // 1), int(last.timestamp())
        chart = self.client.get(
            f"coins/{coin}/market_chart/range",
            {"vs_currency": "usd", "from": low, "to": high, "precision": "full"},
            parse_market_chart,
        )
        return on_grid(
            chart,
            span=asked.span,
            start=asked.start,
            end=asked.end,
            asked_from=pd.Timestamp(low, unit="s", tz="UTC"),
            asked_to=pd.Timestamp(high, unit="s", tz="UTC"),
            now=asked.now,
            live=last >= asked.now - _CACHED,
        )


def source_from_environment(tier: str | None, environment: Mapping[str, str] | None = None) -> CoinGeckoSource:
    """Return the source that the environment describes.

    Parameters
    ----------
    tier : str or None
        None: the one whose key is set, "pro" before "demo", else "keyless".
    environment : mapping of str, optional
        ``COINGECKO_PRO_API_KEY``, ``COINGECKO_DEMO_API_KEY``; ``COINGECKO_CALLS_PER_MINUTE`` of a larger plan;
        ``COINGECKO_BASE_URL`` of a gateway. That of the process when not given.

    Raises
    ------
    SettingsError
        If one of them cannot be used.

    Examples
    --------
    >>> source_from_environment(None, {"COINGECKO_DEMO_API_KEY": "CG-1"}).tier
    'demo'
    """
    variables = os.environ if environment is None else environment
    with_key = (name for name in ("pro", "demo") if TIERS[name].variable in variables)
    chosen = tier or next(with_key, "keyless")
    limits = None
    given = variables.get("COINGECKO_CALLS_PER_MINUTE")
    if given is not None and chosen in TIERS:
        if re.fullmatch(r"[1-9]\d{0,5}", given, re.ASCII) is None:
            raise SettingsError(f"COINGECKO_CALLS_PER_MINUTE must be a whole number from 1, found {given!r}")
        calls = int(given)
        limits = attrs.evolve(TIERS[chosen].limits, calls_per_minute=calls, burst=1 + calls // 25)
    return CoinGeckoSource(
        tier=chosen, base_url=variables.get("COINGECKO_BASE_URL"), limits=limits, environment=variables
    )


def _windows(
    start: pd.Timestamp, end: pd.Timestamp, longest: timedelta
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return ``[start, end)`` in pieces of at most `longest`, oldest first."""
    windows = []
    while start < end:
        following = min(start + longest, end)
        windows.append((start, following))
        start = following
    return windows


def _together(frames: list[pd.DataFrame], *, history_start: pd.Timestamp | None) -> pd.DataFrame:
    details = [frame.attrs.pop(DETAIL) for frame in frames]
    if frames:
        whole = pd.concat(frames)
    else:
        whole = pd.DataFrame(
            {"price": [], "volume": []}, pd.DatetimeIndex([], tz="UTC").as_unit("us"), dtype=float
        )
    whole.attrs[DETAIL] = attrs.evolve(joined(details), history_start=history_start)
    return whole


def _last_of(coins: Iterable[str]) -> dict[str, str | int | float]:
    return {
        "ids": ",".join(dict.fromkeys(coins)),
        "vs_currencies": "usd",
        "include_last_updated_at": "true",
        "precision": "full",
    }


def _no_price(asset: str, coin: str) -> UnknownAssetError:
    return UnknownAssetError(f"coingecko has no price of {asset}, looked for {coin!r}", asset=asset, observed=coin)


def _not_listed(asset: str, coin: str, listed: Mapping[str, str]) -> UnknownAssetError:
    same_symbol = [other for other, symbol in listed.items() if symbol.casefold() == asset.casefold()]
    near = list(dict.fromkeys((*same_symbol, *difflib.get_close_matches(coin, listed, n=5, cutoff=0.7))))[:10]
    hint = f"; near: {', '.join(near)}" if near else ""
    named = f"has no coin with the id {coin!r}" if coin else "is asked by id, and none is known"
    return UnknownAssetError(f"{asset}: coingecko {named}{hint}", asset=asset, observed=coin, required=tuple(near))
