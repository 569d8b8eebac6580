"""What a correlation rests on: a few days, the depegs, or a mode that all coins share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.association import pearson
from tonsurance_risk.core.bootstrap import correlation_of_moments, pair_columns, resample_correlations
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.prices import ticks_of
from tonsurance_risk.core.statistics import checked_events
from tonsurance_risk.core.windows import MOST_RESAMPLES, correlation_matrix, timed_returns
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BoolArray, DepegEvent, FloatArray, IntArray, whole, within

_PAIRS_AT_ONCE = 64


@attrs.frozen(kw_only=True)
class CorrelationSensitivity:
    """How far correlations move when a few days, or the depegs, are left out.

    Parameters
    ----------
    pairs : DataFrame
        A row a pair that was estimated, see `correlation_sensitivity`.
    common_mode_share, common_mode_low, common_mode_high : float
        The share of the first principal component in the variance of standardised returns, with its 95 % interval.
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
        rows = self.pairs.to_dict("records")
        for row in rows:
            row["influential_days"] = [day.date().isoformat() for day in row["influential_days"]]
            row |= {str(name): None for name, value in row.items() if value is pd.NA}
        return {
            "common_mode_share": {
                "value": self.common_mode_share,
                "low": self.common_mode_low,
                "high": self.common_mode_high,
                "method": "expanded percentiles of a block bootstrap",
                "n_resamples": self.n_resamples,
                "seed": self.seed,
            },
            "n_days": self.n_days,
            "threshold": self.threshold,
            "pairs": rows,
        }


def correlation_sensitivity(
    returns: pd.DataFrame,
    *,
    events: Iterable[DepegEvent] = (),
    n_days: int = 5,
    threshold: float = 0.8,
    min_observations: int = 20,
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
    bootstrap, seed : int
        Resamples for the interval of the common mode, and their seed.

    Returns
    -------
    CorrelationSensitivity
        Its `pairs` have asset_1, asset_2, correlation, observations, without_influential (the value without the
        days in influential_days), without_depegs, depeg_rows (how many rows that leaves out), common_mode (what
        the first principal component alone gives this pair), rests_on_few_days (an alert that the days alone
        carry). NA stands where too few rows remain.

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
    n_days, seed = whole(n_days, "n_days", 1), whole(seed, "seed", 0)
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
    removed, days = _influential_days(values, times, i, j, table["correlation"].to_numpy(), n_days)
    during = _during_depegs(listed, times, matrix.assets)
    without, without_depegs, depeg_rows = [], [], []
    for row, (a, b) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
        both = ~np.isnan(values[:, a]) & ~np.isnan(values[:, b])
        off_peg = during[:, a] | during[:, b]
        without.append(_remaining(values[:, [a, b]], both & ~removed[:, row], min_observations))
        without_depegs.append(_remaining(values[:, [a, b]], both & ~off_peg, min_observations))
        depeg_rows.append(int((both & off_peg).sum()))
    strength, vector = _first_component(matrix)
    low, high = _common_mode_interval(values, matrix, bootstrap, seed)
    table = table.assign(
        without_influential=pd.array(without, dtype="Float64"),
        influential_days=pd.Series(days, index=table.index, dtype=object),
        without_depegs=pd.array(without_depegs, dtype="Float64"),
        depeg_rows=depeg_rows,
        common_mode=strength * vector[i] * vector[j],
        rests_on_few_days=[
            r >= alert and (rest is not pd.NA and cast("float", rest) < alert)
            for r, rest in zip(table["correlation"].tolist(), without, strict=True)
        ],
    )
    return CorrelationSensitivity(
        pairs=table.reset_index(drop=True).astype({"without_influential": object, "without_depegs": object}),
        common_mode_share=strength / len(matrix.assets),
        common_mode_low=low,
        common_mode_high=high,
        n_days=n_days,
        threshold=alert,
        n_resamples=bootstrap,
        seed=seed,
    )


def _influential_days(
    values: FloatArray, times: pd.DatetimeIndex, i: IntArray, j: IntArray, r: FloatArray, n_days: int
) -> tuple[BoolArray, list[tuple[pd.Timestamp, ...]]]:
    """Return which rows lie in the days that carry each pair, and the days in order of their removal."""
    day = times.normalize()
    first_of_day = np.append(True, np.diff(day.asi8) > 0)
    begins, number = np.flatnonzero(first_of_day), np.cumsum(first_of_day) - 1
    chunks = [slice(k, k + _PAIRS_AT_ONCE) for k in range(0, len(i), _PAIRS_AT_ONCE)]
    by_day = (np.add.reduceat(pair_columns(values, i[some], j[some]), begins, axis=0) for some in chunks)
    chosen = np.hstack(
        [_carrying(sums, np.sign(r[some]), n_days) for sums, some in zip(by_day, chunks, strict=True)]
    )
    removed = np.zeros((len(values), len(i)), dtype=bool)
    for one_each in chosen:
        removed |= number[:, None] == one_each
    stamps = day[begins]
    return removed, [tuple(stamps[k] for k in column if k >= 0) for column in chosen.T.tolist()]


def _carrying(by_day: FloatArray, sign: FloatArray, n_days: int) -> IntArray:
    """Return the positions of the days that carry each pair, one after the other; -1 where none is left."""
    total = by_day.sum(axis=0)
    gone = np.zeros((len(by_day), by_day.shape[2]), dtype=bool)
    columns = np.arange(by_day.shape[2])
    chosen = np.full((n_days, len(columns)), -1)
    for step in range(n_days):
        left = sign * correlation_of_moments(total - by_day)
        left[gone | np.isnan(left) | (by_day[:, 0] == 0.0)] = np.inf
        day = left.argmin(axis=0)
        found = np.isfinite(left[day, columns])
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


def _remaining(pair: FloatArray, rows: BoolArray, min_observations: int) -> Any:
    if rows.sum() < min_observations:
        return pd.NA
    r = pearson(pair[rows, 0], pair[rows, 1])
    return pd.NA if np.isnan(r) else r


def _first_component(matrix: CorrelationMatrix) -> tuple[float, FloatArray]:
    eigenvalues, vectors = np.linalg.eigh(matrix.nearest_psd()[0].values)
    return float(eigenvalues[-1]), vectors[:, -1]


def _common_mode_interval(
    values: FloatArray, matrix: CorrelationMatrix, n_resamples: int, seed: int
) -> tuple[float, float]:
    resampled = resample_correlations(
        values, matrix.values, ~matrix.is_default, n_resamples=n_resamples, seed=seed
    )
    shares = np.linalg.eigvalsh(resampled.matrices())[:, -1] / len(matrix.assets)
    low, high = resampled.interval(shares, shares)
    return float(low), float(high)
