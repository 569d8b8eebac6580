"""Answers of CoinGecko's API v3 to records and errors. Pure.

Shapes and codes: ``docs.coingecko.com``, read 2026-06, and answers recorded by others; requests have seconds,
charts milliseconds, ``last_updated_at`` seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.errors import (
    GranularityError,
    HistoryLimitError,
    PayloadError,
    RateLimitedError,
    RiskError,
    SettingsError,
    SourceBlockedError,
    UnknownAssetError,
)
from tonsurance_risk.sources.answers import listed, mapped, numbers, whole_numbers
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, Reject
from tonsurance_risk.sources.http_errors import excerpt, explain_status
from tonsurance_risk.sources.json_body import parse_json
from tonsurance_risk.sources.samples import CLOCKS_DIFFER, stamps
from tonsurance_risk.sources.steps import other_distance
from tonsurance_risk.values import FloatArray, IntArray

_SETTINGS_CODES = frozenset({401, 10002, 10005, 10010, 10011})
_BLOCKED_CODES = frozenset({403, 1020})
_HISTORY_CODE = 10012


@attrs.frozen(kw_only=True, eq=False)
class MarketChart:
    """The points of a chart, as they were given.

    Parameters
    ----------
    times : ndarray of int, shape (n,)
        Milliseconds since 1970-01-01 UTC, strictly increasing.
    prices : ndarray of shape (n,)
        [USD], positive.
    volumes : ndarray of shape (n,)
        Of the 24 hours before [USD]; NaN where there is none for the stamp.
    rejects : tuple of Reject
        Points without a usable price.
    unmatched : int
        Stamps that have a price or a volume, not both.
    """

    times: IntArray
    prices: FloatArray
    volumes: FloatArray
    rejects: tuple[Reject, ...]
    unmatched: int


def parse_market_chart(body: bytes) -> MarketChart:
    """Return the points of an answer of ``market_chart`` or ``market_chart/range``.

    Parameters
    ----------
    body : bytes
        ``prices`` and ``total_volumes`` are lists of ``[milliseconds, number or null]``; joined by stamp, for
        their lengths may differ.

    Raises
    ------
    PayloadError
        If the body is something else, naming the first place that is, or a stamp is not in 2009 to 2099 when read
        as milliseconds.
    RiskError
        As `parse_error`, if it is an error in spite of its status.

    Examples
    --------
    >>> chart = parse_market_chart(b'{"prices": [[1735689600000, 0.9997], [1735693200000, null]]}')
    >>> chart.prices.tolist(), [reject.reason for reject in chart.rejects]
    ([0.9997], ['null_price'])
    """
    document = parse_json(body)
    if not isinstance(document, dict) or "prices" not in document:
        raise _no_success(document, body, "prices")
    times, prices = _columns(document["prices"], "prices")
    volume_times, volumes = _columns(document.get("total_volumes", []), "total_volumes")
    usable = prices > 0.0
    bad = [
        (time, *(("null_price", "null") if price != price else ("not_positive", repr(price))))
        for time, price in zip(times[~usable].tolist(), prices[~usable].tolist(), strict=True)
    ]
    times, prices, doubled = _last_of_each(times[usable], prices[usable])
    bad += [(time, "doubled_stamp", repr(price)) for time, price in doubled]
    volume_times, volumes, _ = _last_of_each(volume_times, volumes)
    common, in_prices, in_volumes = np.intersect1d(times, volume_times, assume_unique=True, return_indices=True)
    matched = np.full(len(times), np.nan)
    matched[in_prices] = volumes[in_volumes]
    return MarketChart(
        times=times,
        prices=prices,
        volumes=matched,
        rejects=_rejects(bad),
        unmatched=len(times) + len(volume_times) - 2 * len(common) if len(volume_times) else 0,
    )


def _rejects(bad: list[tuple[int, str, str]]) -> tuple[Reject, ...]:
    bad.sort(key=lambda row: row[0])
    times = pd.to_datetime([row[0] for row in bad], unit="ms", utc=True)
    return tuple(
        Reject(time=time, reason=reason, raw=raw) for time, (_, reason, raw) in zip(times, bad, strict=True)
    )


def _columns(rows: Any, path: str) -> tuple[IntArray, FloatArray]:
    if not listed(rows, path):
        return np.empty(0, dtype=np.int64), np.empty(0)
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {2}:
        place = next(at for at, row in enumerate(rows) if not isinstance(row, list) or len(row) != 2)
        raise PayloadError(f"{path}[{place}] must be [milliseconds, number], found {str(rows[place])[:100]}")
    # Not zip(*rows): its hundred thousand iterators wake the garbage collector, which takes longer than all else.
    milliseconds, values = ([row[column] for row in rows] for column in (0, 1))
    _check_kinds(milliseconds, {int}, f"{path}[{{}}][0] must be whole milliseconds")
    _check_kinds(values, {int, float, type(None)}, f"{path}[{{}}][1] must be a number or null")
    return stamps(milliseconds, "ms", path).asi8 // 1000, np.array(values, dtype=float)


def _check_kinds(cells: list[Any], accepted: set[type], rule: str) -> None:
    if not set(map(type, cells)) <= accepted:
        place = next(at for at, cell in enumerate(cells) if type(cell) not in accepted)
        raise PayloadError(f"{rule.format(place)}, found {str(cells[place])[:100]!r}", observed=place)


def _last_of_each(times: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray, list[tuple[int, float]]]:
    """Return the rows in the order of time, the last of those of one stamp, and the others that differ from it."""
    if np.all(np.diff(times) > 0):
        return times, values, []
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    last = np.append(np.diff(times) > 0, True)
    kept = values[last][np.cumsum(last) - last]
    differ = ~last & (values != kept)
    return times[last], values[last], list(zip(times[differ].tolist(), values[differ].tolist(), strict=True))


def on_grid(
    chart: MarketChart,
    *,
    span: timedelta,
    start: pd.Timestamp,
    end: pd.Timestamp,
    asked_from: pd.Timestamp,
    asked_to: pd.Timestamp,
    now: pd.Timestamp,
    live: bool,
) -> pd.DataFrame:
    """Return price and volume on the grid of multiples of `span` since 1970.

    The sample at a time of the grid is the last point after the time before it and at or before itself: what was
    known at its stamp, never a later price. A point at 13:00:45 is the sample of 14:00; one at 00:00:00.000 is
    that of 00:00.

    Parameters
    ----------
    chart : MarketChart
        Points from a little before `start` on.
    span : timedelta
        Distance of two samples.
    start, end : Timestamp
        Samples of ``[start, end)`` and at or before `now` are returned.
    asked_from, asked_to : Timestamp
        Of the request; points beyond are counted.
    now : Timestamp
        Of the request. A sample whose time has not come is not final, and left out.
    live : bool
        Whether the answer reaches to the present, so that its last point, unless it is on the grid, is that of the
        moment at which the host made it: a running one, left out.

    Returns
    -------
    DataFrame
        Columns price, volume; `FetchDetail` in its attrs.

    Raises
    ------
    GranularityError
        If the median distance of two points or more is beyond 1.5 spans or below 1 / 1.5.
    """
    times = pd.DatetimeIndex(pd.to_datetime(chart.times, unit="ms", utc=True)).as_unit("us")
    future = times > now + CLOCKS_DIFFER
    grid = times.ceil(span)
    running = np.zeros(len(times), dtype=bool)
    came = np.flatnonzero(~future)
    if live and came.size and times[came[-1]] != grid[came[-1]]:
        running[came[-1]] = True
    used = ~(future | running)
    _check_spacing(times[used], span)
    frame = pd.DataFrame({"price": chart.prices[used], "volume": chart.volumes[used]}, index=grid[used])
    frame = frame[~frame.index.duplicated(keep="last")]
    frame = frame[(frame.index >= start) & (frame.index < end) & (frame.index <= now)]
    early = [
        Reject(time=time, reason="future_stamp", raw=repr(float(price)))
        for time, price in zip(times[future], chart.prices[future], strict=True)
    ]
    frame.attrs[DETAIL] = FetchDetail(
        rejects=(*(reject for reject in chart.rejects if reject.time > start - span), *early),
        now_points=int(running.sum()),
        outside=int(((times < asked_from) | (times > asked_to)).sum()),
        unmatched=chart.unmatched,
    )
    return frame


def _check_spacing(times: pd.DatetimeIndex, span: timedelta) -> None:
    median = other_distance(times, span) if len(times) >= 2 else None
    if median is not None:
        raise GranularityError(
            f"points must be {span} apart, found a median of {median}", observed=median, required=span
        )


def parse_simple_price(body: bytes) -> dict[str, tuple[float, pd.Timestamp | None]]:
    """Return price [USD] and time of the last update by coin, of an answer of ``simple/price``.

    A coin that is unknown or has no price is not there.

    Raises
    ------
    PayloadError, RiskError
        As `parse_market_chart`.

    Examples
    --------
    >>> parse_simple_price(b'{"dai": {"usd": 0.9998, "last_updated_at": 1735689600}, "old": {}}')
    {'dai': (0.9998, Timestamp('2025-01-01 00:00:00+0000', tz='UTC'))}
    """
    document = parse_json(body)
    if not isinstance(document, dict) or _code_and_message(document) is not None:
        raise _no_success(document, body, "prices by coin")
    prices: dict[str, tuple[float, pd.Timestamp | None]] = {}
    for coin, fields in document.items():
        where = coin[:100]
        price, updated = mapped(fields, where).get("usd"), fields.get("last_updated_at")
        if price is None:
            continue
        [price] = numbers([price], f"{where}.usd")
        if not price > 0:
            raise PayloadError(f"{where}.usd must be > 0, found {price}", observed=price)
        seconds = whole_numbers([] if updated is None else [updated], f"{where}.last_updated_at")
        prices[coin] = (float(price), next(iter(stamps(seconds, "s", where)), None))
    return prices


def parse_coins_list(body: bytes) -> dict[str, str]:
    """Return the symbol by id of an answer of ``coins/list``; symbols are not unique, ids are.

    Raises
    ------
    PayloadError, RiskError
        As `parse_market_chart`.

    Examples
    --------
    >>> parse_coins_list(b'[{"id": "usd-coin", "symbol": "usdc", "name": "USDC"}]')
    {'usd-coin': 'usdc'}
    """
    document = parse_json(body)
    if not isinstance(document, list) or not document:
        raise _no_success(document, body, "a list of coins")
    symbols: dict[str, str] = {}
    for place, coin in enumerate(document):
        match coin:
            case {"id": str(identity), "symbol": str(symbol)}:
                symbols[identity] = symbol
            case _:
                raise PayloadError(f"[{place}] must have the texts id and symbol, found {str(coin)[:100]}")
    return symbols


def parse_error(status: int, body: bytes, headers: Mapping[str, str], *, tier: str = "keyless") -> RiskError:
    """Return the error that an answer stands for, by its code in any of five shapes, or by its status.

    Parameters
    ----------
    status : int
        HTTP status.
    body : bytes
        An object with ``error_code`` and ``error_message`` under ``error.status``, ``status``, or itself and
        ``status``; or ``{"error": text}``; or no JSON.
    headers : mapping
        Not looked at.
    tier : str
        The plan, for messages about keys.

    Examples
    --------
    >>> parse_error(401, b'{"error": {"status": {"error_code": 10012, "error_message": "past 365 days"}}}', {})
    HistoryLimitError('past 365 days (code 10012)')
    """
    try:
        found = _code_and_message(parse_json(body))
    except PayloadError:
        found = None
    return explain_status(status, body, headers) if found is None else _error(*found, status, tier)


def _error(code: int | None, said: str, status: int, tier: str) -> RiskError:
    message = f"{said[:500]} (code {code or status})"
    if code == _HISTORY_CODE:
        return HistoryLimitError(message, observed=code)
    if code in _SETTINGS_CODES:
        return SettingsError(f"{message}; the key or the plan {tier!r} is not the right one", observed=code)
    if code in _BLOCKED_CODES:
        return SourceBlockedError(message, observed=code)
    if code == 429:
        return RateLimitedError(message, observed=code)
    if code == 404 or "coin not found" in said.casefold():
        return UnknownAssetError(message, observed=code)
    if status == 200:
        return PayloadError(message, observed=code)
    return explain_status(status, said.encode("utf-8", "replace"), {})


def _code_and_message(document: Any) -> tuple[int | None, str] | None:
    """Return code and message of an object that is an error; None for another."""
    if not isinstance(document, dict):
        return None
    error, status = document.get("error"), document.get("status")
    if isinstance(error, str):
        return None, error
    holders: Iterable[Any] = (error.get("status") if isinstance(error, dict) else None, error, status, document)
    objects = [holder for holder in holders if isinstance(holder, dict)]
    code = next((holder["error_code"] for holder in objects if isinstance(holder.get("error_code"), int)), None)
    said = next(
        (holder["error_message"] for holder in objects if isinstance(holder.get("error_message"), str)), None
    )
    return None if code is None and said is None else (code, said or "no message")


def _no_success(document: Any, body: bytes, wanted: str) -> RiskError:
    found = _code_and_message(document)
    if found is not None:
        return _error(*found, 200, "?")
    return PayloadError(f"the answer has no {wanted}: {excerpt(body)}", required=wanted)
