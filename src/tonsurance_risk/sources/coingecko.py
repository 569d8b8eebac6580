"""Prices of CoinGecko's API v3: charts of single coins, last prices, and a check of ids."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical, find_asset
from tonsurance_risk.errors import HistoryLimitError, RiskError, SettingsError, UnknownAssetError
from tonsurance_risk.ports import Clock, SourceUsage, SystemClock
from tonsurance_risk.sources.coingecko_answers import (
    on_grid,
    parse_coins_list,
    parse_error,
    parse_market_chart,
    parse_simple_price,
)
from tonsurance_risk.sources.detail import DETAIL, joined
from tonsurance_risk.sources.http import HttpClient
from tonsurance_risk.sources.rate_limit import HostLimits
from tonsurance_risk.sources.steps import step_span
from tonsurance_risk.values import as_utc, iso, text

_PUBLIC = "https://api.coingecko.com/api/v3"
_PRO = "https://pro-api.coingecko.com/api/v3"

FREE_HISTORY = timedelta(days=364)
"""The free plans reach back 365 days, counted by the host's clock to the second."""
_SMALLER_HISTORIES = (timedelta(days=729), FREE_HISTORY, timedelta(days=363))
"""What is tried where the host says that a plan does not reach back so far; a day less for clocks that differ."""

_FIRST_HOUR = timedelta(hours=1)  # holds the point of the first sample of a history
_OVERLAP = timedelta(days=1)
_CACHED = timedelta(hours=12)  # an answer may be so old


@attrs.frozen(kw_only=True)
class Tier:
    """A plan: where it is asked, with which header, and what it grants.

    Parameters
    ----------
    base_url : str
    header, variable : str or None
        Of the key: in the request and in the environment; None: there is no key.
    limits : HostLimits
        A little below what is documented.
    history : timedelta or None
        How far it reaches back; None: to the beginning, or to where the host says.
    """

    base_url: str
    header: str | None = None
    variable: str | None = None
    limits: HostLimits
    history: timedelta | None = None


TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "keyless": Tier(base_url=_PUBLIC, limits=HostLimits(calls_per_minute=4), history=FREE_HISTORY),
        "demo": Tier(
            base_url=_PUBLIC,
            header="x-cg-demo-api-key",
            variable="COINGECKO_DEMO_API_KEY",
            limits=HostLimits(calls_per_minute=25, burst=4, monthly_credits=10_000),
            history=FREE_HISTORY,
        ),
        "pro": Tier(
            base_url=_PRO,
            header="x-cg-pro-api-key",
            variable="COINGECKO_PRO_API_KEY",
            limits=HostLimits(calls_per_minute=240, burst=10, monthly_credits=100_000),
        ),
    }
)
"""Plans by name; "pro" has the limits of the smallest paid one."""


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


class CoinGeckoSource:
    """Prices in USD of CoinGecko, averages over many markets.

    Parameters
    ----------
    tier : {"keyless", "demo", "pro"}
        Host, header, limits and history, together.
    api_key : str, optional
        For "demo" and "pro"; from the environment variable of the tier when not given. Sent in a header only.
    base_url : str, optional
        Another way to the host, a gateway for example.
    limits : HostLimits, optional
        Of a larger plan.
    ids : mapping of str by symbol, optional
        CoinGecko ids of your own coins: symbols are not unique there.
    clock : Clock, optional
        Tells the time; the machine's when not given.
    environment : mapping of str, optional
        Where keys are looked for; that of the process when not given.
    http : mapping, optional
        Options of the `HttpClient`: transport, clock, sleep, timeout, ...

    Attributes
    ----------
    name : str
        ``coingecko``, whatever the tier: it is the same price.
    client : HttpClient
        Counts calls and credits.
    calls_per_minute, monthly_credits : float, int or None
        What is granted.

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
        key = _key(tier, plan, api_key, os.environ if environment is None else environment)
        self.tier = tier
        granted = limits or plan.limits
        self.calls_per_minute = granted.calls_per_minute
        self.monthly_credits = granted.monthly_credits
        self.client = HttpClient(
            base_url or plan.base_url,
            limits=granted,
            explain=partial(parse_error, tier=tier),
            headers={} if plan.header is None or key is None else {plan.header: key},
            secrets=() if key is None else (key,),
            **(http or {}),
        )
        self._ids = dict(ids or {})
        self._clock = clock or SystemClock()
        self._history = plan.history

    def __repr__(self) -> str:
        return f"CoinGeckoSource(tier={self.tier!r})"

    @property
    def calls(self) -> int:
        """Attempts that were sent."""
        return self.client.calls

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the host."""
        return self.client.usage

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
        span = step_span(step, self.name)
        coin = self._coin(text(asset, "asset"))
        first, last, now = as_utc(start, "start"), as_utc(end, "end"), self._now()
        reached = self.earliest(step)
        if last <= reached and first < last:
            raise HistoryLimitError(
                f"{self.name} ({self.tier}) reaches back to {iso(reached)}, and {asset} was asked for "
                f"from {iso(first)} to {iso(last)}",
                asset=asset,
                observed=first,
                required=reached,
            )
        # The newest window comes first: where the host ends the history, no older one is asked for.
        bounds = _windows(max(first, reached), last, now + span, self.longest_window(step))
        frames: list[pd.DataFrame] = []
        try:
            for low, high in reversed(bounds):
                if high <= self.earliest(step):
                    break  # learned on the way
                frames.append(self._window(coin, low, high, step, now))
        except RiskError as error:
            error.asset = error.asset or canonical(asset)
            if not (isinstance(error, HistoryLimitError) and frames):
                raise
            reached = bounds[-len(frames)][0]
        frames.reverse()
        reached = max(reached, self.earliest(step))  # the host may have said so on the way
        return _together(frames, history_start=reached if first < reached else None)

    def last_prices(self, assets: Iterable[str]) -> pd.DataFrame:
        """Return the last price of assets, in one call.

        Returns
        -------
        DataFrame
            By symbol: price [USD] and time, when it was updated (None where it does not say); assets without a
            price are not there.
        """
        coins = {self._coin(asset): canonical(asset) for asset in assets}
        found = self.client.get(
            "simple/price",
            {
                "ids": ",".join(coins),
                "vs_currencies": "usd",
                "include_last_updated_at": "true",
                "precision": "full",
            },
            parse_simple_price,
        )
        rows = {coins[coin]: values for coin, values in found.items() if coin in coins}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["price", "time"])

    def check_ids(self, assets: Iterable[str]) -> dict[str, UnknownAssetError]:
        """Return the assets whose id the host does not list, each with an error that names near ids.

        One call, of a megabyte or two. A coin that was listed once and is not any more is here too.
        """
        listed = self.client.get("coins/list", None, parse_coins_list)
        problems = {}
        for asset in assets:
            try:
                coin = self._coin(asset)
            except UnknownAssetError:
                coin = ""
            if coin not in listed:
                problems[canonical(asset)] = _not_listed(asset, coin, listed)
        return problems

    def close(self) -> None:
        """Close all connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _now(self) -> pd.Timestamp:
        return as_utc(self._clock.now(), "the clock")

    def _coin(self, asset: str) -> str:
        known = find_asset(asset)
        coin = self._ids.get(asset) or (known.coingecko_id if known else None)
        if coin is None:
            raise UnknownAssetError(
                f"{self.name} is asked by id, and no id of {asset} is known: symbols are not unique there; give "
                f"ids={{{asset!r}: ...}}",
                asset=asset,
                observed=asset,
            )
        return coin

    def _window(
        self, coin: str, start: pd.Timestamp, end: pd.Timestamp, step: str, now: pd.Timestamp
    ) -> pd.DataFrame:
        """Return the samples of a window that one call gives."""
        shape = _SHAPES[step]
        asked_to = min(end, now)
        asked_from = min(start - _OVERLAP, asked_to - shape.shortest)
        try:
            return self._asked(coin, asked_from, asked_to, start, end, step, now, self._history)
        except HistoryLimitError:
            for history in _SMALLER_HISTORIES:
                if asked_from < now - history < asked_to:
                    try:
                        frame = self._asked(coin, asked_from, asked_to, start, end, step, now, history)
                    except HistoryLimitError:
                        continue
                    self._history = history
                    return frame
            raise

    def _asked(
        self,
        coin: str,
        asked_from: pd.Timestamp,
        asked_to: pd.Timestamp,
        start: pd.Timestamp,
        end: pd.Timestamp,
        step: str,
        now: pd.Timestamp,
        history: timedelta | None,
    ) -> pd.DataFrame:
        if history is not None and asked_from < now - history - _FIRST_HOUR:
            asked_from = now - history - _FIRST_HOUR
            asked_to = min(now, max(asked_to, asked_from + _SHAPES[step].shortest))
        # Whole seconds, inside what is allowed.
        low, high = -int(-asked_from.timestamp() // 1), int(asked_to.timestamp())
        chart = self.client.get(
            f"coins/{coin}/market_chart/range",
            {"vs_currency": "usd", "from": low, "to": high, "precision": "full"},
            parse_market_chart,
        )
        return on_grid(
            chart,
            span=step_span(step, self.name),
            start=start,
            end=end,
            asked_from=pd.Timestamp(low, unit="s", tz="UTC"),
            asked_to=pd.Timestamp(high, unit="s", tz="UTC"),
            now=now,
            live=asked_to >= now - _CACHED,
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


def _key(tier: str, plan: Tier, given: str | None, environment: Mapping[str, str]) -> str | None:
    if plan.header is None or plan.variable is None:
        if given is not None:
            raise SettingsError(f"the tier {tier!r} has no key; give a tier that has one")
        return None
    key = environment.get(plan.variable) if given is None else given
    if key is None:
        raise SettingsError(f"the tier {tier!r} needs a key: set {plan.variable}", required=plan.variable)
    if not key:
        raise SettingsError(f"the key of the tier {tier!r} is empty: set {plan.variable}", required=plan.variable)
    return key


def _windows(
    start: pd.Timestamp, end: pd.Timestamp, limit: pd.Timestamp, longest: timedelta
) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Return ``[start, min(end, limit))`` in pieces of at most `longest`, oldest first."""
    end = min(end, limit)
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


def _not_listed(asset: str, coin: str, listed: Mapping[str, str]) -> UnknownAssetError:
    same_symbol = [other for other, symbol in listed.items() if symbol.casefold() == asset.casefold()]
    near = list(dict.fromkeys((*same_symbol, *difflib.get_close_matches(coin, listed, n=5, cutoff=0.7))))[:10]
    hint = f"; near: {', '.join(near)}" if near else ""
    named = f"has no coin with the id {coin!r}" if coin else "is asked by id, and none is known"
    return UnknownAssetError(
        f"{asset}: coingecko {named}{hint}", asset=canonical(asset), observed=coin, required=tuple(near)
    )
