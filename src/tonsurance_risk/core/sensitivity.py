"""What a correlation rests on: a few days, the depegs, or a mode that all coins share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.association import CONSTANT_RANGE, pearson
from tonsurance_risk.core.bootstrap import correlation_of_moments, pair_columns
from tonsurance_risk.core.first_component import common_mode
from tonsurance_risk.core.prices import ticks_of
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.core.windows import MOST_RESAMPLES, correlation_matrix, timed_returns
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import MOST_SEED, DepegEvent, checked_events
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, span, whole, within

_PAIRS_AT_ONCE = 64
_ORDINARY_SAMPLES = 39
_STILL = "a series does not move on the other rows"


@attrs.frozen(kw_only=True)
class CorrelationSensitivity:
    """How far correlations move when a few days, or the depegs, are left out.

    Parameters
    ----------
    pairs : DataFrame
        A row a pair that was estimated, see `correlation_sensitivity`.
    common_mode_share, common_mode_low, common_mode_high : float
        The share of the first principal component in the variance of standardised returns, corrected for the bias
        that a largest eigenvalue has, with its 95 % interval.
    n_days, n_resamples, seed : int
        Days left out of each pair; resamples of the interval, and their seed.
    threshold : float
        From which correlation a pair raises an alert.
    """

    pairs: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    common_mode_share: float
    common_mode_low: float
    common_mode_high: float
    n_days: int
    threshold: float
    n_resamples: int
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """Return `pairs`."""
        return self.pairs.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types: dates as text, None for what cannot be computed."""
        return self.summary() | {"pairs": json_rows(self.pairs)}

    def summary(self) -> dict[str, Any]:
        """Return what is not of one pair, in JSON types."""
        return {
            "common_mode_share": {
                "value": self.common_mode_share,
                "low": self.common_mode_low,
                "high": self.common_mode_high,
                "method": "block bootstrap without bias, basic interval",
                "n_resamples": self.n_resamples,
                "seed": self.seed,
            },
            "n_days": self.n_days,
            "threshold": self.threshold,
        }


def correlation_sensitivity(
    returns: pd.DataFrame,
    *,
    events: Iterable[DepegEvent] = (),
    n_days: int = 5,
    threshold: float = 0.8,
    min_observations: int = 20,
    sample_span: timedelta = timedelta(0),
    bootstrap: int = 999,
    seed: int = 0,
) -> CorrelationSensitivity:
    """Return each correlation without its most influential days and without depegs, and the mode that all share.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        Returns with UTC stamps, NaN where there is none.
    events : iterable of DepegEvent
        Detected depegs, whose rows are left out in `without_depegs`.
    n_days : int
        How many UTC days to leave out, at least 1.
    threshold : float
        From which correlation a pair raises an alert.
    min_observations : int
        As in `correlation_matrix`; so many rows must also remain.
    sample_span : timedelta
        The time that one sample stands for and at whose end it is stamped: a daily bar of 12 March that is known,
        and stamped, at 00:00 of the 13th is one of the 12th.
    bootstrap, seed : int
        Resamples for the interval of the common mode, and their seed.

    Returns
    -------
    CorrelationSensitivity
        Its `pairs` have asset_1, asset_2, correlation, observations, without_influential (the value without the
        days in influential_days), without_depegs, depeg_rows (how many rows that leaves out), common_mode (what
        the first principal component alone gives this pair), rests_on_few_days (an alert that the days alone
        carry, see Notes). NA stands where a value cannot be computed, with the reason in
        without_influential_reason and without_depegs_reason.

    Raises
    ------
    InsufficientDataError
        With fewer than two rows, or if no pair can be estimated.
    InvalidPriceError
        If the stamps are not increasing UTC times, or a return is text or infinite.
    ValueError
        If an option is outside what is accepted.

    Notes
    -----
    The days that carry a correlation are found one after the other: the one whose removal moves what is left
    furthest towards zero, and beyond. All at once would miss outliers that hide each other; all subsets are too
    many.

    Of 29 or 89 days of normal returns the five best ones carry a good part too. So an alert rests on few days only
    if less is left than of each of 39 normal samples of the same correlation and days: of ordinary samples at most
    one in 40 is said to. Where a series does not move on any other day, the days carry all.

    The rows of a depeg of either coin are those from its start to its recovery, both included: they hold the
    returns into and out of it.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=100, tz="UTC")
    >>> rng = np.random.default_rng(1)
    >>> returns = pd.DataFrame(rng.normal(0, 1e-3, (100, 2)), index=days, columns=["DAI", "USDC"])
    >>> returns.iloc[40] -= 0.1
    >>> returns.iloc[41] += 0.1
    >>> pair = correlation_sensitivity(returns, n_days=2).pairs.iloc[0]
    >>> [round(float(pair[name]), 2) for name in ("correlation", "without_influential")], pair["rests_on_few_days"]
    ([1.0, -0.16], np.True_)
    """
    n_days, seed = whole(n_days, "n_days", 1), whole(seed, "seed", 0, MOST_SEED)
    alert = within(threshold, "threshold", -1.0, 1.0)
    bootstrap = whole(bootstrap, "bootstrap", 1, MOST_RESAMPLES)
    listed = checked_events(events)
    frame = timed_returns(returns)
    frame = frame[sorted(frame.columns)]
    matrix = correlation_matrix(frame, min_observations=min_observations)
    table = matrix.pairs()
    table = table.loc[~table["is_default"], ["asset_1", "asset_2", "correlation", "observations"]]
    if table.empty:
        raise InsufficientDataError(
            f"no pair of returns has {min_observations} common rows in which both move",
            observed=0,
            required=min_observations,
        )
    i, j = (np.array([matrix.assets.index(name) for name in table[side]]) for side in ("asset_1", "asset_2"))
    values, times = frame.to_numpy(), cast("pd.DatetimeIndex", frame.index)
    days = _Days.of(times - span(sample_span, "sample_span"))
    r = table["correlation"].to_numpy()
    chosen = _influential(values, days, i, j, np.sign(r), n_days)
    removed = np.logical_or.reduce([days.number[:, None] == one_each for one_each in chosen])
    off_peg = _during_depegs(listed, times, matrix.assets)
    without = _left(values, i, j, removed, min_observations)
    without_depegs = _left(values, i, j, off_peg[:, i] | off_peg[:, j], min_observations)
    common = ~np.isnan(values[:, i]) & ~np.isnan(values[:, j])
    estimated = np.unique(np.concatenate([i, j]))
    mode = common_mode(
        values[:, estimated],
        matrix.select([matrix.assets[k] for k in estimated]),
        n_resamples=bootstrap,
        seed=seed,
    )
    ordinary = _Ordinary(days.begins, len(values), n_days)
    columns = {
        "without_influential": [rest for rest, _ in without],
        "without_influential_reason": [why for _, why in without],
        "influential_days": [tuple(days.stamps[k] for k in column if k >= 0) for column in chosen.T.tolist()],
        "without_depegs": [rest for rest, _ in without_depegs],
        "without_depegs_reason": [why for _, why in without_depegs],
        "depeg_rows": (common & (off_peg[:, i] | off_peg[:, j])).sum(axis=0),
        "common_mode": mode.reproduced[np.searchsorted(estimated, i), np.searchsorted(estimated, j)],
        "rests_on_few_days": [
            value >= alert and (why == _STILL if rest is pd.NA else rest < min(alert, ordinary.least_left(value)))
            for value, (rest, why) in zip(r.tolist(), without, strict=True)
        ],
    }
    numbers = ("depeg_rows", "common_mode", "rests_on_few_days")
    for name, column in columns.items():
        table[name] = pd.Series(column, index=table.index, dtype=None if name in numbers else object)
    return CorrelationSensitivity(
        pairs=table.reset_index(drop=True),
        common_mode_share=mode.share,
        common_mode_low=mode.low,
        common_mode_high=mode.high,
        n_days=n_days,
        threshold=alert,
        n_resamples=bootstrap,
        seed=seed,
    )


@attrs.frozen(eq=False)
class _Days:
    """The days of rows: where each begins, the number of the day of each row, and its stamp."""

    begins: IntArray
    number: IntArray
    stamps: pd.DatetimeIndex

    @classmethod
    def of(cls, times: pd.DatetimeIndex) -> _Days:
        day = times.normalize()
        first_of_day = np.append(True, np.diff(day.asi8) > 0)
        begins = np.flatnonzero(first_of_day)
        return cls(begins, np.cumsum(first_of_day) - 1, day[begins])


@attrs.define
class _Ordinary:
    """What ordinary returns keep of a correlation when the days that carry it are left out."""

    begins: IntArray
    n_rows: int
    n_days: int
    known: dict[float, float] = attrs.field(factory=dict)

    def least_left(self, r: float) -> float:
        """Return the least of 39 samples of normal returns with that correlation, rounded to a hundredth."""
        rho = round(r, 2)
        if rho not in self.known:
            rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence(0, spawn_key=(int(100 * rho),))))
            drawn = rng.standard_normal((self.n_rows, 2 * _ORDINARY_SAMPLES))
            one, other = np.arange(_ORDINARY_SAMPLES), np.arange(_ORDINARY_SAMPLES, 2 * _ORDINARY_SAMPLES)
            drawn[:, other] = rho * drawn[:, one] + math.sqrt(1.0 - rho**2) * drawn[:, other]
            by_day = np.add.reduceat(pair_columns(drawn, one, other), self.begins, axis=0)
            chosen = _carrying(by_day, np.ones(_ORDINARY_SAMPLES), self.n_days)
            gone = np.zeros_like(by_day[:, 0], dtype=bool)
            np.put_along_axis(gone, chosen, True, axis=0)
            left = np.where(gone[:, None], 0.0, by_day).sum(axis=0)
            self.known[rho] = float(np.nanmin(correlation_of_moments(left[None])))
        return self.known[rho]


def _influential(
    values: FloatArray, days: _Days, i: IntArray, j: IntArray, sign: FloatArray, n_days: int
) -> IntArray:
    """Return the numbers of the days that carry each pair, shape (n_days, n_pairs); -1 where none is left."""
    moves = _moving_days(values, days)
    chosen = []
    for first in range(0, len(i), _PAIRS_AT_ONCE):
        some = slice(first, first + _PAIRS_AT_ONCE)
        by_day = np.add.reduceat(pair_columns(values, i[some], j[some]), days.begins, axis=0)
        found = _carrying(by_day, sign[some], n_days)
        for side in (i[some], j[some]):
            # A series that moves on so few days is still without them, whatever one day less shows.
            few = moves[:, side] & (by_day[:, 0] > 0.0)
            for pair in np.flatnonzero(few.sum(axis=0) <= n_days).tolist():
                carrying = np.flatnonzero(few[:, pair])
                found[:, pair] = -1
                found[: len(carrying), pair] = carrying
        chosen.append(found)
    return np.hstack(chosen)


def _moving_days(values: FloatArray, days: _Days) -> BoolArray:
    """Return on which days each series is away from where it mostly is, shape (n_days, n_assets)."""
    away = np.zeros(values.shape, dtype=bool)
    for asset in np.flatnonzero(~np.isnan(values).all(axis=0)).tolist():
        series = values[:, asset]
        away[:, asset] = np.abs(series - np.nanmedian(series)) > CONSTANT_RANGE
    return np.asarray(np.logical_or.reduceat(away, days.begins, axis=0))


def _carrying(by_day: FloatArray, sign: FloatArray, n_days: int) -> IntArray:
    """Return the positions of the days that carry each pair, one after the other; -1 where none is left.

    A day without which a series does not move carries everything; after it there is nothing left to carry.
    """
    total = by_day.sum(axis=0)
    gone = np.zeros((len(by_day), by_day.shape[2]), dtype=bool)
    columns = np.arange(by_day.shape[2])
    chosen = np.full((n_days, len(columns)), -1)
    for step in range(n_days):
        moves = ~np.isnan(correlation_of_moments(total[None])[0])
        left = sign * correlation_of_moments(total - by_day)
        left[np.isnan(left)] = -np.inf
        left[gone | (by_day[:, 0] == 0.0)] = np.inf
        day = left.argmin(axis=0)
        found = moves & (left[day, columns] < np.inf)
        chosen[step, found] = day[found]
        gone[day[found], columns[found]] = True
        total = total - np.where(found, by_day[day, :, columns].T, 0.0)
    return chosen


def _during_depegs(events: Iterable[DepegEvent], times: pd.DatetimeIndex, assets: tuple[str, ...]) -> BoolArray:
    during = np.zeros((len(times), len(assets)), dtype=bool)
    for event in events:
        asset = canonical(event.asset)
        if asset in assets:
            last = event.end if event.recovered_at is None else event.recovered_at
            ends = pd.DatetimeIndex([event.start, last])
            (begin, end), ticks = ticks_of(ends, times).tolist(), ticks_of(times, ends)
            during[(ticks >= begin) & (ticks <= end), assets.index(asset)] = True
    return during


def _left(
    values: FloatArray, i: IntArray, j: IntArray, removed: BoolArray, min_observations: int
) -> list[tuple[Any, str | None]]:
    """Return what is left of each correlation without some rows, or NA and why there is no number."""
    left: list[tuple[Any, str | None]] = []
    for pair, (one, other) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        x, y = values[~removed[:, pair]][:, [one, other]].T
        both = ~np.isnan(x) & ~np.isnan(y)
        x, y = x[both], y[both]
        if len(x) >= 2 and min(np.ptp(x), np.ptp(y)) <= CONSTANT_RANGE:
            left.append((pd.NA, _STILL))
        elif len(x) < min_observations:
            left.append((pd.NA, f"{len(x)} rows are left, {min_observations} are needed"))
        else:
            left.append((pearson(x, y), None))
    return left
