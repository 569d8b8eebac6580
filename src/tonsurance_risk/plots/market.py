"""Figures of prices, depegs and correlations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, own_peg
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.core.windows import rolling_correlation as rolling_table
from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.model import DepegEvent, FixedPeg, checked_events
from tonsurance_risk.plots.axes import (
    BLUE,
    GREEN,
    PURPLE,
    SKY,
    VERMILION,
    axes_of,
    checked,
    labels,
    legend_above,
    width_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OFF_PEG = {"below": (VERMILION, "", "discount"), "above": (SKY, "///", "premium")}
_LINE_COLOURS, _LINE_STYLES = ("black", BLUE, VERMILION, GREEN, PURPLE), ("-", "--", "-.", ":")
_INK = "0.05"
"""Dark text on a coloured cell: not black, which a page may show in the colour of its own text."""


def depeg_timeline(events: Iterable[DepegEvent], ax: Axes | None = None) -> Axes:
    """Draw when each asset was off its peg, a row an asset; a marker at each start grows with the severity.

    Parameters
    ----------
    events : iterable of DepegEvent
        In any order; may be empty.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.

    Returns
    -------
    Axes

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    """
    listed = sorted(checked_events(events), key=lambda event: event.start)
    assets = sorted({canonical(event.asset) for event in listed}, reverse=True)
    axes = axes_of(ax, (8.0, 0.4 * len(assets) + 1.6))
    axes.set_xlabel("time (UTC)")
    if not listed:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no depeg events", ha="center", va="center", transform=axes.transAxes)
        return axes
    from matplotlib.dates import date2num

    for direction, (colour, hatch, what) in _OFF_PEG.items():
        those = [event for event in listed if event.direction == direction]
        spans = [date2num([event.start, _end(event)]) for event in those]  # type: ignore[no-untyped-call]
        rows = [assets.index(canonical(event.asset)) for event in those]
        lengths = [last - first for first, last in spans]
        starts = [first for first, _ in spans]
        axes.barh(rows, lengths, 0.5, starts, color=colour, edgecolor="black", linewidth=0.4, hatch=hatch)
        if those:
            sizes = [20.0 + 600.0 * min(event.severity, 0.5) for event in those]
            marker = "v" if direction == "below" else "^"
            axes.scatter(
                starts,
                rows,
                sizes,
                colour,
                marker=marker,
                edgecolors="black",
                linewidths=0.6,
                label=what,
                zorder=3,
            )
    still = [event for event in listed if event.is_open]
    if still:
        ends = date2num([_end(event) for event in still])  # type: ignore[no-untyped-call]
        rows = [assets.index(canonical(event.asset)) for event in still]
        axes.scatter(ends, rows, 40.0, "black", marker=">", label="still open", zorder=4)
    axes.set_yticks(range(len(assets)), labels(assets, lines=1), parse_math=False)
    axes.set_ylim(-0.6, len(assets) - 0.4)
    axes.use_sticky_edges = False
    axes.margins(x=0.03)
    axes.grid(axis="x", alpha=0.3)
    legend_above(axes)
    return _dates(axes)


def price_with_events(
    prices: pd.Series | pd.DataFrame, events: Iterable[DepegEvent], ax: Axes | None = None
) -> Axes:
    """Draw prices with the depegs of their assets shaded, discounts plain and premiums hatched.

    Parameters
    ----------
    prices : Series, or DataFrame of shape (n_times, n_assets)
        [USD], UTC stamps; the line is broken where nothing was observed.
    events : iterable of DepegEvent
        Those of other assets, and those outside the prices, are left out.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.

    Returns
    -------
    Axes

    Raises
    ------
    InvalidPriceError
        If `prices` are not valid, or empty.
    SettingsError
        If matplotlib is not installed.

    Notes
    -----
    A dotted line is the peg of assets that all have the same fixed one.
    """
    frame = valid_prices(prices)
    if frame.empty:
        raise InvalidPriceError("prices must hold at least one sample, found none")
    axes = axes_of(ax, (9.0, 4.0))
    from matplotlib.dates import date2num

    # All stamps at once, in UTC: one by one they take longer than all the drawing.
    days = date2num(pd.DatetimeIndex(frame.index).tz_convert(None).to_numpy())  # type: ignore[no-untyped-call]
    for number, (asset, column) in enumerate(frame.items()):
        colour, style = _LINE_COLOURS[number % 5], _LINE_STYLES[number % 4]
        marker = "." if column.notna().sum() == 1 else None
        (label,) = labels([asset], lines=1)
        # matplotlib leaves out of legends what begins with an underscore.
        label = f" {label}" if label.startswith("_") else label
        axes.plot(
            days, column.to_numpy(), color=colour, linestyle=style, linewidth=1.0, marker=marker, label=label
        )
    pegs = {own_peg(str(asset)) for asset in frame.columns}
    peg = pegs.pop() if len(pegs) == 1 else None
    if isinstance(peg, FixedPeg):
        axes.axhline(peg.price, color="0.4", linestyle=(0, (1, 4)), label="peg")
    _shade(axes, events, {str(asset) for asset in frame.columns}, frame.index)
    axes.set_ylabel("price [USD]")
    legend_above(axes)
    return _dates(axes)


def correlation_heatmap(matrix: CorrelationMatrix, ax: Axes | None = None) -> Axes:
    """Draw a correlation matrix; pairs that take the default are hatched and have no number.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Its assets in their order.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.

    Returns
    -------
    Axes

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    """
    checked(matrix, "matrix", CorrelationMatrix)
    axes = axes_of(ax, (0.6 * len(matrix.assets) + 2.0, 0.6 * len(matrix.assets) + 1.0))
    n = len(matrix.assets)
    image = axes.imshow(matrix.values, vmin=-1.0, vmax=1.0, cmap="RdBu_r", interpolation="none")
    names = labels(matrix.assets, lines=1)
    axes.set_xticks(range(n), names, rotation=90, parse_math=False)
    axes.set_yticks(range(n), names, parse_math=False)
    for i, j in np.ndindex(n, n):
        if matrix.is_default[i, j]:
            axes.add_patch(_hatched(i, j))
        else:
            strong = abs(matrix.values[i, j]) > 0.6
            text = f"{matrix.values[i, j]:z.2f}"
            axes.text(j, i, text, ha="center", va="center", size="x-small", color="white" if strong else _INK)
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, label="correlation")
    window = f"{matrix.window_days} days" if matrix.window_days else "correlation"
    when = f" to {matrix.as_of:%Y-%m-%d}" if matrix.as_of is not None else ""
    hatch = "; hatched: too few observations" if matrix.is_default.any() else ""
    axes.set_title(f"{window}{when}, {matrix.method}{hatch}")
    return axes


def rolling_correlation(
    returns: pd.DataFrame,
    asset_1: str,
    asset_2: str,
    *,
    window: int = 90,
    every: timedelta = timedelta(days=7),
    events: Iterable[DepegEvent] = (),
    bootstrap: int = 999,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the correlation of a pair over a moving window, its 95 % interval, and depegs of the two shaded.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        Returns with UTC stamps, NaN where there is none.
    asset_1, asset_2, window, every, bootstrap, seed
        As in `tonsurance_risk.rolling_correlation`.
    events : iterable of DepegEvent
        Those of the two are shaded, discounts plain and premiums hatched.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.

    Returns
    -------
    Axes

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    InsufficientDataError, InvalidPriceError, ValueError
        As in `tonsurance_risk.rolling_correlation`.
    """
    table = rolling_table(returns, asset_1, asset_2, window=window, every=every, bootstrap=bootstrap, seed=seed)
    axes = axes_of(ax, (9.0, 4.0))
    # A stretch without estimates is a gap of the line, not a slope.
    shown = table.reindex(pd.date_range(table.index[0], table.index[-1], freq=every))
    axes.fill_between(shown.index, shown["low"], shown["high"], alpha=0.25, label="95 % interval")
    axes.plot(shown.index, shown["correlation"], marker="." if len(shown) == 1 else None, label="correlation")
    pair = (canonical(asset_1), canonical(asset_2))
    _shade(axes, events, pair, shown.index)
    axes.axhline(0.0, color="0.5", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("correlation of log returns")
    names = " and ".join(labels(pair, lines=1))
    axes.set_title(f"{names}, {window}-day window", parse_math=False)
    axes.legend(loc="lower left", fontsize="small")
    return axes


def _end(event: DepegEvent) -> pd.Timestamp:
    return event.recovered_at if event.recovered_at is not None else event.end + event.sample_span


def _shade(axes: Axes, events: Iterable[DepegEvent], assets: Collection[str], times: pd.Index) -> None:
    """Shade the events of assets that touch some times; the first of each direction is named in the legend."""
    from matplotlib.dates import date2num

    named = set()
    for event in checked_events(events):
        colour, hatch, what = _OFF_PEG[event.direction]
        if canonical(event.asset) in assets and event.start <= times[-1] and _end(event) >= times[0]:
            begin, end = date2num([event.start, _end(event)])  # type: ignore[no-untyped-call]
            label = f"_{what}" if what in named else what
            axes.axvspan(begin, end, facecolor=colour, edgecolor="0.3", hatch=hatch, alpha=0.3, label=label)
            named.add(what)


def _dates(axes: Axes) -> Axes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # Two dates an inch: more of them touch.
    most = min(max(int(2.0 * width_of(axes)), 3), 12)
    locator = AutoDateLocator(minticks=min(3, most), maxticks=most)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time (UTC)")
    return axes


def _hatched(i: int, j: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a patch of matplotlib
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.5, i - 0.5), 1.0, 1.0, facecolor="white", edgecolor="0.6", hatch="////", linewidth=0.0)
