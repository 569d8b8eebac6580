"""Checks of prices: nothing is deleted, samples are flagged or rejected with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import FLAG_OUTSIDE, NOT_COINS_ON_PEG, REJECT_ABOVE
from tonsurance_risk.core.common_mode import (
    FINDING,
    Action,
    Column,
    MoveLimits,
    check_moves,
    find_common_mode,
    not_rejected,
)
from tonsurance_risk.core.prices import peg_reference, readable_prices
from tonsurance_risk.model import PegLike
from tonsurance_risk.values import FloatArray, IntArray, as_utc, checked, iso, span, whole, within

DAY = timedelta(days=1)
MAD_TO_SIGMA = 1.482602218505602
"""1 / the upper quartile of the standard normal distribution."""
_CHECKS = {
    "not_finite": "every price is finite",
    "out_of_bounds": "every price lies in (0, 3 x peg]",
    "future": "no stamp lies after as_of",
    "spike": "no isolated spike",
    "common_mode": "no shift that most coins of the source share and that comes back",
    "far_from_peg": "every price lies within 0.50 to 1.50 of its peg",
    "flat": "no price stands still",
    "thin": "every price rests on trade",
    "stale": "the newest price is fresh",
    "lone_source": "a second source carries the asset",
    "doubled": "no stamp is doubled",
    "unordered": "stamps are in order",
}


_above_0 = checked(within, 0.0, open_low=True)


def _lasting(value: object, name: str) -> None:
    if not span(value, name):
        raise ValueError(f"{name} must be a datetime.timedelta > 0, found {value!r}")


def _range(value: object, name: str) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, found {value!r}")
    low, high = (within(end, name, 0.0) for end in value)
    if not low < high:
        raise ValueError(f"{name} must be two numbers, the lower one first, found {value!r}")


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
    common_floor : float
        Smallest common-mode shift, as a share of the local level: half of the 1 % from which a coin counts as
        off its peg, as a coin may have used up the other half before.
    common_tolerance : float
        By how much of it the coins of a common-mode print may differ from their median shift. In the prints of
        March 2020 and January 2021 the members lie within 0.254 of it, however much is known of what came
        after; the nearest other coin, DAI with a premium of its own on 2020-03-12, at 0.288 or more.
    common_return, common_return_daily : timedelta
        How long a common-mode print may last, below a step of a day and from it on. The longest of a vendor
        that is known lasted 21 hours, and two daily bars.
    common_off_peg : float
        A coin whose local level is this far off its peg on the side of the shift is flagged, not rejected: an
        event begins at 1 % by default, and such a coin has one of its own.
    max_age, max_age_daily : timedelta
        Age of the newest sample beyond which a series is stale, below a step of a day and from it on.
    flat_after, flat_after_daily : timedelta
        How long a price may stand still.
    thin_below : float
        Trade in 24 h [USD] below which a price is that of a thin book. In CoinMarketCap's daily bars up to
        December 2025 USDC, USDT, DAI, USDP, FRAX and BUSD never traded so little, GHO on 2.7 %, LUSD on 5.3 % and
        sUSD on 13 % of days, its close of 0.837 on 2020-02-14 (27,130 USD) among them.
    """

    reject_above: float = attrs.field(default=REJECT_ABOVE, validator=_above_0)
    flag_outside: tuple[float, float] = attrs.field(default=FLAG_OUTSIDE, validator=checked(_range))
    spike_sigmas: float = attrs.field(default=6.0, validator=_above_0)
    spike_floor: float = attrs.field(default=0.005, validator=_above_0)
    spike_reject: float = attrs.field(default=0.20, validator=_above_0)
    spike_window: int = attrs.field(default=25, validator=checked(whole, 1))
    common_floor: float = attrs.field(default=0.005, validator=_above_0)
    common_tolerance: float = attrs.field(default=0.27, validator=_above_0)
    common_return: timedelta = attrs.field(default=timedelta(hours=24), validator=checked(_lasting))
    common_return_daily: timedelta = attrs.field(default=timedelta(days=3), validator=checked(_lasting))
    common_off_peg: float = attrs.field(default=0.01, validator=_above_0)
    max_age: timedelta = attrs.field(default=timedelta(hours=24), validator=checked(_lasting))
    max_age_daily: timedelta = attrs.field(default=timedelta(hours=48), validator=checked(_lasting))
    flat_after: timedelta = attrs.field(default=timedelta(hours=24), validator=checked(_lasting))
    flat_after_daily: timedelta = attrs.field(default=timedelta(days=7), validator=checked(_lasting))
    thin_below: float = attrs.field(default=100_000.0, validator=checked(within, 0.0))

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
        Quality by asset: the share of samples without a finding, halved when stale, 0 without a usable one. What
        is wrong with the order of rows alone does not count.
    rules : mapping of str to str
        The checks that were made, and what each asks for.
    """

    flags: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    scores: pd.Series = attrs.field(eq=attrs.cmp_using(eq=pd.Series.equals))
    rules: Mapping[str, str] = attrs.field(repr=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check with its outcome."""
        found = self.flags.groupby("check")["asset"]
        counts, assets = found.size(), found.unique()
        return tuple(
            Check(name, False, f"{counts[name]} finding(s): {', '.join(sorted(assets[name]))}")
            if name in counts.index
            else Check(name, True, rule)
            for name, rule in self.rules.items()
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
        frame = _ordered(readable_prices(prices))[0].copy()
        rejected = self.flags[self.flags["action"] == "reject"]
        for asset, rows in rejected.groupby("asset"):
            if asset in frame.columns:
                frame.loc[frame.index.isin(rows["time"]), asset] = np.nan
        frame.attrs = dict(prices.attrs)
        return frame

    def sample_scores(self, prices: pd.Series | pd.DataFrame) -> pd.DataFrame:
        """Return the quality of every sample of `prices`: 1 without a finding, 0.5 flagged, 0 rejected.

        NaN where nothing was observed. Findings about a series, a stretch or the order of rows (stale, lone
        source, flat, doubled, unordered) do not count.
        """
        frame = _ordered(readable_prices(prices))[0]
        scores = frame.notna().astype(float).where(frame.notna())
        of_samples = self.flags[
            ~self.flags["check"].isin({"stale", "lone_source", "flat", "doubled", "unordered"})
        ]
        for action, score in (("flag", 0.5), ("reject", 0.0)):
            for asset, rows in of_samples[of_samples["action"] == action].groupby("asset"):
                if asset in scores.columns:
                    scores.loc[scores.index.isin(rows["time"]), asset] = score
        return scores

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


def check_prices(
    prices: pd.Series | pd.DataFrame,
    *,
    as_of: datetime,
    others: Sequence[pd.DataFrame] = (),
    rules: QualityRules = QualityRules(),
    peg: PegLike = None,
    volumes: pd.DataFrame | None = None,
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
    volumes : DataFrame of shape (n_volume_times, n_assets), optional
        What was traded in the 24 h up to each stamp, by asset [USD]; NaN and stamps without a price say nothing.
        Without it no sample is called thin.

    Returns
    -------
    QualityReport

    Raises
    ------
    InvalidPriceError
        If the times are naive or missing, or a price is text.
    ValueError
        If a volume is negative or infinite.

    Notes
    -----
    A spike is isolated when its neighbours, on both sides, are less than half as far from the local median.
    It is rejected when it is further than 20 % from that median and no other source shows half the move
    within a step of it; every other one is flagged, and so is a move of the last sample, as nobody can know
    yet. A move that lasts is never a spike.

    A common-mode print is a shift by nearly the same amount of at least two thirds of five or more coins, or
    of all of three or four from at least two reserve groups, that returns in time; `find_common_mode` says how
    it is found. Samples of its members are rejected, and only flagged as long as the return was not seen, or
    where another source that is not itself in common mode then shows half the move.

    Examples
    --------
    >>> index = pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC")
    >>> report = check_prices(pd.Series([1.0, 5.0, 1.0], index=index, name="USDC"), as_of=index[-1])
    >>> report.passed, report.flags.loc[0, ["check", "action"]].tolist()
    (False, ['out_of_bounds', 'reject'])
    """
    end = as_utc(as_of, "as_of")
    raw = readable_prices(prices)
    frame, index = _ordered(raw)
    step = typical_step(index[index <= end])
    columns = _columns(frame, index, end, rules, peg)
    vendor = prices.attrs.get("vendor")
    confirming = [
        _confirming(readable_prices(other, "others"), end, rules, peg)
        for other in others
        if vendor is None or other.attrs.get("vendor") != vendor
    ]
    check_moves(columns, index, confirming, _move_limits(step, rules), peg)
    findings = list(_order_findings(raw))
    scores: dict[str, float] = {}
    traded = None if volumes is None else _valid_volumes(volumes)
    for column in columns:
        _check_flat(column, step, rules)
        if traded is not None and column.asset in traded.columns:
            _check_thin(column, traded[column.asset], rules)
        stale = _check_age(column, end, step, rules)
        if not any(column.asset in other.columns and other[column.asset].notna().any() for other in confirming):
            column.findings.append(
                column.finding(pd.NaT, None, "lone_source", "flag", "no independent source carries it")
            )
        findings += column.findings
        scores[column.asset] = _score(column, stale)
    flags = pd.DataFrame(findings, columns=FINDING)
    flags["time"] = pd.to_datetime(flags["time"], utc=True)
    flags["price"] = flags["price"].astype(float)
    made = {name: rule for name, rule in _CHECKS.items() if name != "thin" or traded is not None}
    return QualityReport(flags, pd.Series(scores, name="quality", dtype=float), MappingProxyType(made))


def _ordered(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """Return the rows in order of time, of doubled stamps the last one, and their index."""
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        frame = frame[~frame.index.duplicated(keep="last")].sort_index()
    return frame, pd.DatetimeIndex(frame.index)


def _order_findings(raw: pd.DataFrame) -> Iterator[dict[str, Any]]:
    ticks = _ticks(raw.index)
    late = np.zeros(len(raw), dtype=bool)
    late[1:] = ticks[1:] < np.maximum.accumulate(ticks)[:-1]
    dropped = np.asarray(raw.index.duplicated(keep="last"))
    for where, check, detail in (
        (late, "unordered", "stamped before the row above it"),
        (dropped, "doubled", "a later row has the same stamp and is used"),
    ):
        times, part = raw.index[where], raw[where]
        for asset in raw.columns:
            for time, price in zip(times, part[asset].tolist(), strict=True):
                if not np.isnan(price):
                    yield dict(zip(FINDING, (asset, time, price, check, "flag", detail), strict=True))


def typical_step(index: pd.Index) -> timedelta:
    """Return the median difference of the stamps; an hour where there is none."""
    if len(index) < 2:
        return timedelta(hours=1)
    median = timedelta(seconds=float(np.median(np.diff(_ticks(index)))) / 1e9)
    return max(median, timedelta.resolution)


def _ticks(index: pd.Index) -> IntArray:
    return pd.DatetimeIndex(index).as_unit("ns").asi8


def _check_bounds(column: Column, end: pd.Timestamp, rules: QualityRules, peg: PegLike) -> None:
    values = column.values
    column.find(~np.isfinite(values), "not_finite", "reject", "not a number that a price can be")
    column.find(np.isfinite(values) & (values <= 0.0), "out_of_bounds", "reject", "not above 0")
    column.find(np.asarray(column.times > end), "future", "reject", f"stamped after {iso(end)}")
    if column.asset in NOT_COINS_ON_PEG:
        return
    ratio = _peg_ratio(column, peg)
    # Again after each finding: a rejected sample must not move the reference of an accruing coin.
    while (too_high := ratio > rules.reject_above).any():
        column.find(too_high, "out_of_bounds", "reject", f"above {rules.reject_above:g} x its peg")
        ratio = _peg_ratio(column, peg)
    low, high = rules.flag_outside
    far = ~column.rejected & ((ratio < low) | (ratio > high))
    column.find(far, "far_from_peg", "flag", f"outside {low:g} to {high:g} of its peg")


def _peg_ratio(column: Column, peg: PegLike) -> FloatArray:
    """Return price / peg reference of the samples not rejected so far, 1 elsewhere."""
    ratio = np.ones(len(column.values))
    kept = ~column.rejected
    if kept.any():
        values = column.values[kept]
        reference, _ = peg_reference(column.asset, column.times[kept], values, peg)
        ratio[kept] = values / reference
    return ratio


def _columns(
    frame: pd.DataFrame, index: pd.DatetimeIndex, end: pd.Timestamp, rules: QualityRules, peg: PegLike
) -> list[Column]:
    """Return the samples of every asset, those out of bounds rejected."""
    columns = []
    for asset in frame.columns:
        values = frame[asset].to_numpy()
        rows = np.flatnonzero(~np.isnan(values))
        none = np.zeros(len(rows), dtype=bool)
        column = Column(str(asset), rows, index[rows], values[rows], none, none.copy(), [])
        _check_bounds(column, end, rules, peg)
        columns.append(column)
    return columns


def _confirming(raw: pd.DataFrame, end: pd.Timestamp, rules: QualityRules, peg: PegLike) -> pd.DataFrame:
    """Return what another source shows: what can be a price, without the rows at which it is in common mode."""
    frame, index = _ordered(raw)
    columns = _columns(frame, index, end, rules, peg)
    _, in_mode = find_common_mode(columns, index, _move_limits(typical_step(index), rules))
    shown = pd.DataFrame(not_rejected(columns, len(index)), index=index, columns=frame.columns)
    return shown[~in_mode]


def _move_limits(step: timedelta, rules: QualityRules) -> MoveLimits:
    return MoveLimits(
        spike_mads=rules.spike_sigmas * MAD_TO_SIGMA,
        spike_floor=rules.spike_floor,
        spike_reject=rules.spike_reject,
        step=step,
        window=step * rules.spike_window,
        common_floor=rules.common_floor,
        common_tolerance=rules.common_tolerance,
        common_off_peg=rules.common_off_peg,
        common_return=rules.common_return_daily if step >= DAY else rules.common_return,
    )


def _check_flat(column: Column, step: timedelta, rules: QualityRules) -> None:
    kept = np.flatnonzero(~column.rejected)
    values, times = column.values[kept], column.times[kept]
    if len(values) < 2:
        return
    limit = rules.flat_after_daily if step >= DAY else rules.flat_after
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    last = np.append(first[1:], len(values)) - 1
    stands = np.asarray(times[last] - times[first]) >= np.timedelta64(limit)
    for begin, end in zip(first[stands].tolist(), last[stands].tolist(), strict=True):
        column.questionable[kept[begin : end + 1]] = True
        detail = f"unchanged until {iso(times[end])} ({end - begin + 1} samples)"
        column.findings.append(column.finding(times[begin], float(values[begin]), "flat", "flag", detail))


def _valid_volumes(volumes: pd.DataFrame) -> pd.DataFrame:
    frame = _ordered(readable_prices(volumes, "volumes"))[0]
    wrong = np.argwhere((frame < 0.0).to_numpy() | np.isinf(frame.to_numpy()))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"volumes must be finite and >= 0, found {float(frame.iloc[row, column])!r} "
            f"of {frame.columns[column]} at {iso(frame.index[row])}"
        )
    return frame


def _check_thin(column: Column, volumes: pd.Series, rules: QualityRules) -> None:
    traded = volumes.reindex(column.times).to_numpy()
    found: dict[int, tuple[Action, str]] = {
        k: ("flag", f"{traded[k]:,.0f} USD traded in 24 h, a thin book below {rules.thin_below:,.0f}")
        for k in np.flatnonzero(traded < rules.thin_below).tolist()
    }
    column.note(found, "thin")


def _check_age(column: Column, end: pd.Timestamp, step: timedelta, rules: QualityRules) -> bool:
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


def _score(column: Column, stale: bool) -> float:
    if not (~column.rejected).any():
        return 0.0
    return float((~column.questionable).mean()) * (0.5 if stale else 1.0)
