"""Checks of prices: nothing is deleted, samples are flagged or rejected with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import FLAG_OUTSIDE, NOT_COINS_ON_PEG, REJECT_ABOVE
from tonsurance_risk.core.prices import peg_reference, readable_prices
from tonsurance_risk.model import BoolArray, FloatArray, IntArray, PegLike, as_utc, iso

DAY = timedelta(days=1)
MAD_TO_SIGMA = 1.482602218505602
"""1 / the upper quartile of the standard normal distribution."""
Action = Literal["reject", "flag"]
_COLUMNS = ["asset", "time", "price", "check", "action", "detail"]
_CHECKS = {
    "not_finite": "every price is finite",
    "out_of_bounds": "every price lies in (0, 3 x peg]",
    "future": "no stamp lies after as_of",
    "spike": "no isolated spike",
    "far_from_peg": "every price lies within 0.50 to 1.50 of its peg",
    "flat": "no price stands still",
    "stale": "the newest price is fresh",
    "lone_source": "a second source carries the asset",
    "doubled": "no stamp is doubled",
    "unordered": "stamps are in order",
}


@attrs.frozen(kw_only=True)
class QualityRules:
    """The limits of the checks.

    Parameters
    ----------
    reject_above : float
        Multiple of the peg above which a price is rejected.
    flag_outside : tuple of float
        Multiples of the peg outside which it is flagged.
    spike_sigmas, spike_floor : float
        A sample is a spike when it is further from the local median than this many robust standard deviations
        (1.4826 x the local median absolute deviation) and than this share of the median.
    spike_reject : float
        Share of the local median beyond which an isolated spike is rejected.
    spike_window : int
        Width of the window of the local median, in steps.
    max_age, max_age_daily : timedelta
        Age of the newest sample beyond which a series is stale, below a step of a day and from it on.
    flat_after, flat_after_daily : timedelta
        How long a price may stand still.
    """

    reject_above: float = REJECT_ABOVE
    flag_outside: tuple[float, float] = FLAG_OUTSIDE
    spike_sigmas: float = 6.0
    spike_floor: float = 0.005
    spike_reject: float = 0.20
    spike_window: int = 25
    max_age: timedelta = timedelta(hours=24)
    max_age_daily: timedelta = timedelta(hours=48)
    flat_after: timedelta = timedelta(hours=24)
    flat_after_daily: timedelta = timedelta(days=7)

    def accepted_age(self, step: timedelta) -> timedelta:
        """Return how old the newest sample of a series of that step may be."""
        return self.max_age_daily if step >= DAY else self.max_age


@attrs.frozen
class Check:
    """One kind of check over all assets: whether it found nothing, and what it found."""

    name: str
    passed: bool
    message: str


@attrs.frozen
class QualityReport:
    """What the checks found in one wide frame.

    Parameters
    ----------
    flags : DataFrame
        A row a finding: asset, time, price, check, action ("reject" or "flag"), detail. Stale, lone-source and
        flat findings have one row an asset or stretch.
    scores : Series
        Quality by asset: the share of samples without a finding, halved when stale, 0 without a usable one.
    """

    flags: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    scores: pd.Series = attrs.field(eq=attrs.cmp_using(eq=pd.Series.equals))

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check with its outcome."""
        found = self.flags.groupby("check")["asset"]
        counts, assets = found.size(), found.unique()
        return tuple(
            Check(name, False, f"{counts[name]} finding(s): {', '.join(sorted(assets[name]))}")
            if name in counts.index
            else Check(name, True, rule)
            for name, rule in _CHECKS.items()
        )

    @property
    def passed(self) -> bool:
        """Whether nothing was rejected and no series is stale."""
        return not ((self.flags["action"] == "reject") | (self.flags["check"] == "stale")).any()

    @property
    def stale(self) -> list[str]:
        """The assets whose newest sample is too old, or that have none."""
        return sorted(self.flags.loc[self.flags["check"] == "stale", "asset"])

    def usable(self, prices: pd.Series | pd.DataFrame) -> pd.DataFrame:
        """Return `prices` as a valid wide frame, in order, rejected samples as NaN.

        Of doubled stamps the last row is kept.
        """
        frame = _ordered(readable_prices(prices)).copy()
        rejected = self.flags[self.flags["action"] == "reject"]
        for asset, rows in rejected.groupby("asset"):
            if asset in frame.columns:
                frame.loc[frame.index.isin(rows["time"]), asset] = np.nan
        frame.attrs = dict(prices.attrs)
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in JSON types: the outcome, and a line for each asset, check and action."""
        groups = self.flags.groupby(["asset", "check", "action"], sort=True)
        return {
            "passed": self.passed,
            "scores": {str(asset): float(score) for asset, score in self.scores.items()},
            "checks": [attrs.asdict(check) for check in self.checks],
            "findings": [
                {
                    "asset": asset,
                    "check": check,
                    "action": action,
                    "count": len(rows),
                    "first": None if pd.isna(rows["time"].iloc[0]) else iso(rows["time"].min()),
                    "last": None if pd.isna(rows["time"].iloc[0]) else iso(rows["time"].max()),
                    "detail": rows["detail"].iloc[-1],
                }
                for (asset, check, action), rows in groups
            ],
        }


@attrs.define
class _Column:
    """One asset during the checks: its samples in order, and what was found so far."""

    asset: str
    times: pd.DatetimeIndex
    values: FloatArray
    rejected: BoolArray
    questionable: BoolArray
    findings: list[dict[str, Any]]

    def find(self, where: BoolArray, check: str, action: Action, detail: str | Sequence[str]) -> None:
        """Note a finding at each sample of `where`."""
        at = np.flatnonzero(where)
        details = [detail] * len(at) if isinstance(detail, str) else detail
        self.questionable[at] = True
        if action == "reject":
            self.rejected[at] = True
        self.findings += [
            self.finding(self.times[i], float(self.values[i]), check, action, text)
            for i, text in zip(at.tolist(), details, strict=True)
        ]

    def finding(self, time: Any, price: float | None, check: str, action: Action, detail: str) -> dict[str, Any]:
        """Return one row of the table of findings."""
        return dict(zip(_COLUMNS, (self.asset, time, price, check, action, detail), strict=True))


def check_prices(
    prices: pd.Series | pd.DataFrame,
    *,
    as_of: datetime,
    others: Sequence[pd.DataFrame] = (),
    rules: QualityRules = QualityRules(),
    peg: PegLike = None,
) -> QualityReport:
    """Check the prices of one source.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        [USD]; unordered, doubled, infinite and non-positive input is accepted here, and here alone. A frame names
        its vendor in ``attrs["vendor"]``.
    as_of : datetime
        The instant at which the prices are looked at.
    others : sequence of DataFrame
        Frames of other sources. One of the same vendor confirms nothing.
    rules : QualityRules
        Limits.
    peg : peg, float, Series, or mapping by symbol, optional
        The references when they are not the assets' own.

    Returns
    -------
    QualityReport

    Raises
    ------
    InvalidPriceError
        If the times are naive or missing, or a price is text.

    Notes
    -----
    A spike is isolated when its neighbours, on both sides, are less than half as far from the local median.
    It is rejected when it is further than 20 % from that median and no other source shows half the move
    within a step of it; every other one is flagged, and so is a move of the last sample, as nobody can know
    yet. A move that lasts is never a spike.

    Examples
    --------
    >>> index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    >>> report = check_prices(pd.Series([1.0, 5.0, 1.0], index=index, name="USDC"), as_of=index[-1])
    >>> report.passed, report.flags.loc[0, ["check", "action"]].tolist()
    (False, ['out_of_bounds', 'reject'])
    """
    end = as_utc(as_of, "as_of")
    raw = readable_prices(prices)
    frame = _ordered(raw)
    vendor = prices.attrs.get("vendor")
    independent = [
        _ordered(readable_prices(other, "others"))
        for other in others
        if vendor is None or other.attrs.get("vendor") != vendor
    ]
    step = typical_step(frame.index)
    findings = list(_order_findings(raw))
    scores: dict[str, float] = {}
    for asset in frame.columns:
        observed = ~np.isnan(frame[asset].to_numpy())
        column = _Column(
            str(asset),
            frame.index[observed],
            frame[asset].to_numpy()[observed],
            np.zeros(int(observed.sum()), dtype=bool),
            np.zeros(int(observed.sum()), dtype=bool),
            [],
        )
        confirming = [other[asset].dropna() for other in independent if asset in other.columns]
        _check_bounds(column, end, rules, peg)
        _check_spikes(column, step, confirming, rules)
        _check_flat(column, step, rules)
        stale = _check_age(column, end, step, rules)
        if not any(len(other) for other in confirming):
            column.findings.append(
                column.finding(pd.NaT, None, "lone_source", "flag", "no independent source carries it")
            )
        findings += column.findings
        scores[str(asset)] = _score(column, stale)
    flags = pd.DataFrame(findings, columns=_COLUMNS)
    flags["time"] = pd.to_datetime(flags["time"], utc=True)
    flags["price"] = flags["price"].astype(float)
    return QualityReport(flags, pd.Series(scores, name="quality", dtype=float))


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in order of time, of doubled stamps the last one."""
    if frame.index.is_monotonic_increasing and frame.index.is_unique:
        return frame
    return frame[~frame.index.duplicated(keep="last")].sort_index()


def _order_findings(raw: pd.DataFrame) -> Iterator[dict[str, Any]]:
    ticks = _ticks(raw.index)
    late = np.zeros(len(raw), dtype=bool)
    late[1:] = ticks[1:] < np.maximum.accumulate(ticks)[:-1]
    dropped = np.asarray(raw.index.duplicated(keep="last"))
    for where, check, detail in (
        (late, "unordered", "stamped before the row above it"),
        (dropped, "doubled", "a later row has the same stamp and is used"),
    ):
        for row in np.flatnonzero(where).tolist():
            for asset, price in raw.iloc[row].dropna().items():
                yield dict(zip(_COLUMNS, (asset, raw.index[row], price, check, "flag", detail), strict=True))


def typical_step(index: pd.Index) -> timedelta:
    """Return the median difference of the stamps; an hour where there is none."""
    if len(index) < 2:
        return timedelta(hours=1)
    return timedelta(seconds=float(np.median(np.diff(_ticks(index)))) / 1e9)


def _ticks(index: pd.Index) -> IntArray:
    return pd.DatetimeIndex(index).as_unit("ns").asi8


def _check_bounds(column: _Column, end: pd.Timestamp, rules: QualityRules, peg: PegLike) -> None:
    values = column.values
    column.find(~np.isfinite(values), "not_finite", "reject", "not a number that a price can be")
    column.find(np.isfinite(values) & (values <= 0.0), "out_of_bounds", "reject", "not above 0")
    column.find(np.asarray(column.times > end), "future", "reject", f"stamped after {iso(end)}")
    if column.asset in NOT_COINS_ON_PEG:
        return
    ratio = _peg_ratio(column, peg)
    too_high = ratio > rules.reject_above
    column.find(too_high & ~column.rejected, "out_of_bounds", "reject", f"above {rules.reject_above:g} x its peg")
    low, high = rules.flag_outside
    far = ~column.rejected & ((ratio < low) | (ratio > high))
    column.find(far, "far_from_peg", "flag", f"outside {low:g} to {high:g} of its peg")


def _peg_ratio(column: _Column, peg: PegLike) -> FloatArray:
    """Return price / peg reference of the samples not rejected so far, 1 elsewhere."""
    ratio = np.ones(len(column.values))
    kept = ~column.rejected
    if kept.any():
        values = column.values[kept]
        reference, _ = peg_reference(column.asset, column.times[kept], values, peg)
        ratio[kept] = values / reference
    return ratio


def _check_spikes(column: _Column, step: timedelta, confirming: Sequence[pd.Series], rules: QualityRules) -> None:
    kept = np.flatnonzero(~column.rejected)
    if len(kept) < 3:
        return
    series = pd.Series(column.values[kept], index=column.times[kept])
    window = step * rules.spike_window
    median = series.rolling(window, center=True).median().to_numpy()
    values = series.to_numpy()
    away = values - median
    size = np.abs(away)
    spread = pd.Series(size, index=series.index).rolling(window, center=True).median().to_numpy()
    candidate = (size > rules.spike_sigmas * MAD_TO_SIGMA * spread) & (size > rules.spike_floor * median)

    # The move of a neighbour counts against the median of the candidate.
    near = np.diff(_ticks(series.index)) <= window.total_seconds() * 1e9 / 2.0
    back_before, back_after = np.zeros(len(values), dtype=bool), np.zeros(len(values), dtype=bool)
    back_before[1:] = near & (np.abs(values[:-1] - median[1:]) < size[1:] / 2.0)
    back_after[:-1] = near & (np.abs(values[1:] - median[:-1]) < size[:-1] / 2.0)
    isolated = candidate & back_before & back_after
    unknown = candidate & back_before
    unknown[:-1] = False

    for k in np.flatnonzero(isolated | unknown).tolist():
        share = float(away[k] / median[k])
        confirmed = any(_shows_half(other, series.index[k], step, median[k], away[k]) for other in confirming)
        reject = bool(isolated[k]) and abs(share) > rules.spike_reject and not confirmed
        detail = f"{share:+.2%} from the local median {median[k]:.6g}"
        if confirmed:
            detail += ", shown by another source"
        elif not isolated[k]:
            detail += ", the last sample: not known whether it lasts"
        where = np.zeros(len(column.values), dtype=bool)
        where[kept[k]] = True
        column.find(where, "spike", "reject" if reject else "flag", detail)


def _shows_half(other: pd.Series, time: pd.Timestamp, step: timedelta, median: float, away: float) -> bool:
    nearby = other.loc[time - step : time + step].to_numpy()
    return bool(((nearby - median) * np.sign(away) >= abs(away) / 2.0).any())


def _check_flat(column: _Column, step: timedelta, rules: QualityRules) -> None:
    values = column.values
    if len(values) < 2:
        return
    limit = rules.flat_after_daily if step >= DAY else rules.flat_after
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    last = np.append(first[1:], len(values)) - 1
    stands = np.asarray(column.times[last] - column.times[first]) >= np.timedelta64(limit)
    for begin, end in zip(first[stands].tolist(), last[stands].tolist(), strict=True):
        column.questionable[begin : end + 1] = True
        detail = f"unchanged until {iso(column.times[end])} ({end - begin + 1} samples)"
        column.findings.append(column.finding(column.times[begin], float(values[begin]), "flat", "flag", detail))


def _check_age(column: _Column, end: pd.Timestamp, step: timedelta, rules: QualityRules) -> bool:
    usable = np.flatnonzero(~column.rejected)
    if not len(usable):
        column.findings.append(column.finding(pd.NaT, None, "stale", "flag", "no usable sample"))
        return True
    limit = rules.accepted_age(step)
    newest = column.times[usable[-1]]
    if end - newest <= limit:
        return False
    hour = timedelta(hours=1)
    detail = f"newest sample is {(end - newest) / hour:.1f} h old, accepted are {limit / hour:g} h"
    column.findings.append(column.finding(newest, float(column.values[usable[-1]]), "stale", "flag", detail))
    return True


def _score(column: _Column, stale: bool) -> float:
    if not (~column.rejected).any():
        return 0.0
    return float((~column.questionable).mean()) * (0.5 if stale else 1.0)
