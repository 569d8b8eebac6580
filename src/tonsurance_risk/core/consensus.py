"""Several sources of one asset: their median, how far they agree, and who alone saw a depeg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.alignment import align_prices, positive_step, prices_at
from tonsurance_risk.core.prices import peg_reference, ticks_of, valid_prices
from tonsurance_risk.core.quality import QualityReport, check_prices
from tonsurance_risk.model import DepegEvent, PegLike
from tonsurance_risk.values import BoolArray, FloatArray, iso, span, within

_Table: TypeAlias = pd.DataFrame
_same_table = attrs.cmp_using(eq=pd.DataFrame.equals)

AGREEMENT = 0.005
"""Share of the price within which two sources agree: half of the deviation that opens an event by default."""


COPY_SHARE, COPY_SAMPLES = 0.99, 20
"""Two series are one when this share of at least so many common samples is equal to the last digit. Only samples
that moved count: venues that round to a cent agree nearly always, and differ in the depeg."""


@attrs.frozen
class ConsensusPrices:
    """Prices of several sources on one grid, and what came of them; all frames have the same rows and columns.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        Median over the sources that have a price [USD].
    sources : DataFrame of int
        How many independent sources have one.
    spread : DataFrame
        Highest less lowest [USD], NaN with fewer than two sources. The range, not the median absolute deviation:
        of two sources that is half of the range, of three it does not see the one that stands alone.
    confirmed : DataFrame of bool or None
        True where at least two sources agree, False where there are several and no two agree, None where there is
        one or none.
    by_source : mapping of str to DataFrame
        The prices of each source on the grid, by vendor; one without a name is called "source" and its position.
    agreement : float
        Share of the median within which two prices agree.
    """

    prices: _Table = attrs.field(eq=_same_table)
    sources: _Table = attrs.field(repr=False, eq=_same_table)
    spread: _Table = attrs.field(repr=False, eq=_same_table)
    confirmed: _Table = attrs.field(repr=False, eq=_same_table)
    by_source: Mapping[str, _Table] = attrs.field(repr=False, eq=False)
    agreement: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row a time and asset with at least one source: price, sources, spread, confirmed."""
        names = ("prices", "sources", "spread", "confirmed")
        columns = {name.removesuffix("s") if name == "prices" else name: getattr(self, name) for name in names}
        times, assets = self.prices.index, self.prices.columns
        index = pd.MultiIndex.from_product([times, assets], names=["time", "asset"])
        long = pd.DataFrame({name: frame.to_numpy().ravel() for name, frame in columns.items()}, index=index)
        return long[long["sources"] > 0].reset_index()

    def to_dict(self) -> dict[str, Any]:
        """Return `to_frame` in JSON types: a list of rows, ISO times, None for a missing spread."""
        rows = self.to_frame().to_dict(orient="records")
        for row in rows:
            row["time"] = iso(row["time"])
            row["spread"] = None if np.isnan(row["spread"]) else row["spread"]
        return {"agreement": self.agreement, "by_source": sorted(self.by_source), "prices": rows}


def consensus_prices(
    frames: Sequence[pd.DataFrame],
    *,
    freq: timedelta | str | None = None,
    tolerance: timedelta | None = None,
    agreement: float = AGREEMENT,
) -> ConsensusPrices:
    """Return the median price over independent sources, with their number, spread and agreement.

    Parameters
    ----------
    frames : sequence of DataFrame of shape (n_times, n_assets)
        A wide frame a source [USD]. It names its vendor in ``attrs["vendor"]``; one that does not counts as
        independent. Several of one vendor count once, with their median.
    freq : timedelta or str, optional
        Step of the grid, see `align_prices`. None: the stamps of all frames together.
    tolerance : timedelta, optional
        How long an observation holds; with zero only those at exactly a stamp of the grid count. When not given
        the step of the grid, and zero without `freq`.
    agreement : float
        Share of the median within which two prices agree, >= 0.

    Returns
    -------
    ConsensusPrices
        Rows in order of time, columns in order of appearance.

    Raises
    ------
    ValueError
        If there is no frame, or an argument is outside what is accepted.
    InvalidPriceError
        If a frame is not valid; it is named by its position.

    Notes
    -----
    The median of two sources is their mean, so two that disagree leave a price that neither showed: look at
    `confirmed` before trusting it. With four or more sources in two camps a price is confirmed, for two do agree,
    although the median may lie between the camps; `spread` says so. Vectorised over times, assets and sources.

    Examples
    --------
    >>> day = pd.DatetimeIndex(["2023-03-11"], tz="UTC")
    >>> frames = [pd.DataFrame({"USDC": [price]}, index=day) for price in (0.90, 0.901, 1.0)]
    >>> consensus = consensus_prices(frames)
    >>> consensus.prices.iloc[0, 0], consensus.sources.iloc[0, 0], consensus.confirmed.iloc[0, 0]
    (np.float64(0.901), np.int64(3), True)
    """
    hold = span(tolerance if tolerance is not None else _step_or_zero(freq), "tolerance")
    within(agreement, "agreement", 0.0)
    valid = _valid_frames(frames, "frames")
    if not valid:
        raise ValueError("frames must hold at least one DataFrame, found none")
    grids = valid if freq is None else [align_prices(frame, freq, tolerance=hold) for frame in valid]
    times = _union([frame.index for frame in grids])
    assets = list(dict.fromkeys(asset for frame in valid for asset in frame.columns))
    by_source = _by_source(valid, times, assets, hold)
    stack = np.stack([frame.to_numpy() for frame in by_source.values()])
    median, count, ordered = _median(stack)

    def table(values: NDArray[Any]) -> pd.DataFrame:
        return pd.DataFrame(values, index=times, columns=assets)

    return ConsensusPrices(
        prices=table(median),
        sources=table(count),
        spread=table(_range(ordered, count)),
        confirmed=table(_confirmed(ordered, count, agreement * median)),
        by_source=MappingProxyType(by_source),
        agreement=float(agreement),
    )


def confirm_events(
    events: Iterable[DepegEvent],
    others: Sequence[pd.DataFrame],
    *,
    step: timedelta | None = None,
    peg: PegLike = None,
) -> list[DepegEvent]:
    """Return the events of one source with what other sources say of them; none is dropped.

    Parameters
    ----------
    events : iterable of DepegEvent
        Each names its vendor in `source`.
    others : sequence of DataFrame
        Wide frames of other sources [USD]. One whose ``attrs["vendor"]`` is the vendor of an event says nothing of
        that event; one without a vendor counts as independent, so leave out the frame of the events unless it
        names its vendor.
    step : timedelta, optional
        How far before the start and after the end of an event another source may show it; when not given the
        time that one sample of the event stands for.
    peg : peg, float, Series, or mapping by symbol, optional
        As in `detect_depegs`.

    Returns
    -------
    list of DepegEvent
        In the order given. `confirmed` is True where another source deviates in the same direction by at least
        half of the severity; False where others have samples there and none does, and `local_to` is then the
        vendor of the event; None where no other source has a sample there.

    Raises
    ------
    ValueError
        If `events` hold something else, or `step` is not a timedelta >= 0.
    InvalidPriceError
        If a frame is not valid; it is named by its position.

    Examples
    --------
    >>> from tonsurance_risk.core.depeg import detect_depegs
    >>> hours = pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC")
    >>> own = pd.DataFrame({"DAI": [1.0, 0.9, 0.9, 1.0]}, index=hours)
    >>> other = pd.DataFrame({"DAI": [1.0, 1.0, 0.99, 1.0]}, index=hours)
    >>> own.attrs["vendor"] = "one venue"
    >>> [event] = confirm_events(detect_depegs(own), [own, other])
    >>> event.confirmed, event.local_to
    (False, 'one venue')
    """
    if step is not None:
        span(step, "step")
    listed = list(events)
    deviations = _Deviations(_valid_frames(others, "others"), peg)
    confirmed = []
    for event in listed:
        if not isinstance(event, DepegEvent):
            raise ValueError(f"events must hold DepegEvent records, found {event!r}")
        largest = list(deviations.during(event, event.sample_span if step is None else step))
        seen = any(deviation >= event.severity / 2.0 for deviation in largest) if largest else None
        confirmed.append(attrs.evolve(event, confirmed=seen, local_to=event.source if seen is False else None))
    return confirmed


def check_sources(
    prices: pd.DataFrame, others: Sequence[pd.DataFrame], *, as_of: datetime, peg: PegLike = None
) -> tuple[QualityReport, list[pd.DataFrame]]:
    """Check the prices of one source against others, and return what the others show without false prints.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        Wide frame of one source [USD].
    others : sequence of DataFrame
        Wide frames of other sources. Those that repeat `prices` are left out.
    as_of : datetime
        The instant at which the prices are looked at.
    peg : peg, float, Series, or mapping by symbol, optional
        As in `detect_depegs`.

    Returns
    -------
    quality : QualityReport
        Of `prices`, see `check_prices`.
    trusted : list of DataFrame
        The usable part of each other source, for `confirm_events`: a print must not confirm an event. What may be
        a common-mode print there is left out as well, with the sample on either side: nobody knows yet.
    """
    independent = [other for other in others if not is_copy(prices, other)]
    quality = check_prices(prices, as_of=as_of, others=independent, peg=peg)
    return quality, [_trusted(other, prices, as_of, peg) for other in independent]


def _trusted(other: pd.DataFrame, prices: pd.DataFrame, as_of: datetime, peg: PegLike) -> pd.DataFrame:
    report = check_prices(other, as_of=as_of, others=[prices], peg=peg)
    usable = report.usable(other)
    perhaps = report.flags[(report.flags["check"] == "common_mode") & (report.flags["action"] == "flag")]
    for asset, rows in perhaps.groupby("asset"):
        doubtful = usable.index.isin(rows["time"])
        doubtful[1:] |= doubtful[:-1].copy()
        doubtful[:-1] |= usable.index.isin(rows["time"])[1:]
        usable.loc[doubtful, asset] = np.nan
    return usable


def is_copy(prices: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Return whether a frame repeats another one, whatever its name: a copy confirms nothing.

    Parameters
    ----------
    prices, other : DataFrame of shape (n_times, n_assets)
        Valid wide frames [USD].

    Examples
    --------
    >>> hours = pd.date_range("2024-01-01", periods=30, freq="h", tz="UTC")
    >>> frame = pd.DataFrame({"DAI": np.linspace(0.99, 1.01, 30)}, index=hours)
    >>> is_copy(frame, frame.iloc[5:]), is_copy(frame, frame + 1e-6), is_copy(frame, frame.iloc[:5])
    (True, False, False)
    """
    own, theirs = prices.align(other, join="inner")
    moved = (own.notna() & theirs.notna() & ((own.diff() != 0.0) | (theirs.diff() != 0.0))).to_numpy()
    equal = (own == theirs).to_numpy() & moved
    return bool(moved.sum() >= COPY_SAMPLES and equal.sum() >= COPY_SHARE * moved.sum())


@attrs.frozen
class _Deviations:
    """How far the columns of several frames lie from the peg, computed once each."""

    frames: list[pd.DataFrame]
    peg: PegLike
    ratios: dict[tuple[int, str], tuple[pd.DatetimeIndex, FloatArray]] = attrs.field(factory=dict)

    def during(self, event: DepegEvent, step: timedelta) -> Iterator[float]:
        """Yield the largest deviation in the direction of the event of each other frame with samples then."""
        asset = canonical(event.asset)
        for position, frame in enumerate(self.frames):
            vendor = frame.attrs.get("vendor")
            if asset not in frame.columns or (vendor is not None and vendor == event.source):
                continue
            times, ratio = self._ratio(position, asset)
            ends = pd.DatetimeIndex([event.start - step, event.end + step])
            begin, end = ticks_of(ends, times).tolist()
            ticks = ticks_of(times, ends)
            first, last = np.searchsorted(ticks, begin, side="left"), np.searchsorted(ticks, end, side="right")
            if first < last:
                nearby = ratio[first:last]
                yield float(1.0 - nearby.min() if event.direction == "below" else nearby.max() - 1.0)

    def _ratio(self, position: int, asset: str) -> tuple[pd.DatetimeIndex, FloatArray]:
        if (position, asset) not in self.ratios:
            column = self.frames[position][asset].dropna()
            times, values = cast("pd.DatetimeIndex", column.index), column.to_numpy()
            reference, warming_up = peg_reference(asset, times, values, self.peg)
            known = np.ones(len(values), dtype=bool) if warming_up is None else ~warming_up
            self.ratios[position, asset] = times[known], (values / reference)[known]
        return self.ratios[position, asset]


def _valid_frames(frames: Any, argument: str) -> list[pd.DataFrame]:
    if isinstance(frames, (pd.DataFrame, pd.Series)) or not isinstance(frames, Iterable):
        raise ValueError(f"{argument} must be a list of DataFrames, found {type(frames).__name__}")
    valid = []
    for position, frame in enumerate(frames):
        checked = valid_prices(frame, f"{argument}[{position}]").copy(deep=False)
        checked.attrs = dict(frame.attrs)
        valid.append(checked)
    return valid


def _step_or_zero(freq: timedelta | str | None) -> timedelta:
    return timedelta(0) if freq is None else positive_step(freq)


def _union(indexes: Sequence[pd.Index]) -> pd.DatetimeIndex:
    times = np.unique(np.concatenate([cast("pd.DatetimeIndex", index).as_unit("ns").asi8 for index in indexes]))
    return pd.DatetimeIndex(times, tz="UTC")


def _by_source(
    frames: Sequence[pd.DataFrame], times: pd.DatetimeIndex, assets: list[str], tolerance: timedelta
) -> dict[str, pd.DataFrame]:
    """Return a frame a vendor on the grid, the median of its own where it has several."""
    groups: dict[str, list[pd.DataFrame]] = {}
    named = {str(frame.attrs["vendor"]) for frame in frames if frame.attrs.get("vendor") is not None}
    for position, frame in enumerate(frames):
        vendor = frame.attrs.get("vendor")
        name = f"source {position}" if vendor is None else str(vendor)
        while vendor is None and name in named:
            name += "'"
        groups.setdefault(name, []).append(prices_at(frame, times, tolerance=tolerance).reindex(columns=assets))
    return {
        name: own[0]
        if len(own) == 1
        else pd.DataFrame(_median(np.stack([frame.to_numpy() for frame in own]))[0], index=times, columns=assets)
        for name, own in groups.items()
    }


def _median(stack: FloatArray) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Return the median over the first axis without NaN, how many there are, and the stack in order, NaN last."""
    ordered = np.sort(stack, axis=0)
    count = np.sum(~np.isnan(stack), axis=0)
    low = _nth(ordered, np.maximum(count - 1, 0) // 2)
    high = _nth(ordered, np.minimum(count // 2, len(stack) - 1))
    # Half of the difference, so that two equal prices give exactly that price.
    return low + (high - low) / 2.0, count, ordered


def _nth(ordered: FloatArray, position: NDArray[np.int64]) -> FloatArray:
    return np.asarray(np.take_along_axis(ordered, position[np.newaxis], axis=0)[0])


def _range(ordered: FloatArray, count: NDArray[np.int64]) -> FloatArray:
    highest = _nth(ordered, np.maximum(count - 1, 0))
    return np.where(count >= 2, highest - ordered[0], np.nan)


def _confirmed(ordered: FloatArray, count: NDArray[np.int64], within_usd: FloatArray) -> NDArray[np.object_]:
    # The closest two of several numbers are neighbours in their order; a difference with NaN is not small.
    agree: BoolArray = np.any(np.diff(ordered, axis=0) <= within_usd, axis=0)
    marks = np.full(count.shape, None, dtype=object)
    several = count >= 2
    marks[several] = agree[several]
    return marks
