"""Figures for analysts. Every function takes ``ax=None`` and returns the matplotlib Axes.

They need the extra `report`, and import nothing of it before they are called. Colours are those of Okabe and Ito,
which colour-blind readers can tell apart; hatches, line styles and markers say the same in black print. Names come
from users: they are shown as they are written, never as formulas, and long ones are cut.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, own_peg
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.core.sample import LossSample
from tonsurance_risk.core.statistics import checked_events
from tonsurance_risk.core.stress import LARGE_SHARE_OF_CAPITAL, StressResult
from tonsurance_risk.core.windows import rolling_correlation as rolling_table
from tonsurance_risk.errors import InsufficientDataError, InvalidPriceError, SettingsError
from tonsurance_risk.model import BoolArray, DepegEvent, FixedPeg, FloatArray, IntArray
from tonsurance_risk.redaction import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _VERMILION, _SKY, _GREEN, _PURPLE = (
    "#0072B2",
    "#E69F00",
    "#D55E00",
    "#56B4E9",
    "#009E73",
    "#CC79A7",
)
_OFF_PEG = {"below": (_VERMILION, "", "discount"), "above": (_SKY, "///", "premium")}
_LINE_COLOURS, _LINE_STYLES = ("black", _BLUE, _VERMILION, _GREEN, _PURPLE), ("-", "--", "-.", ":")
_LEVELS = ((0.95, "--"), (0.99, ":"))
_MOST_POINTS = 1_000
"""Of a curve: more cannot be told apart, and make a file large."""
_LABEL_WIDTH = 18
"""Letters in a line of a name."""
_INK = "0.05"
"""Dark text on a coloured cell: not black, which a page may show in the colour of its own text."""


def loss_distribution(sample: LossSample, ax: Axes | None = None, *, bins: int = 60) -> Axes:
    """Draw the probability of the losses in each of many intervals, with value at risk and expected shortfall.

    Parameters
    ----------
    sample : LossSample
        With all losses; weighted ones count with their weights.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.
    bins : int
        Intervals of equal width from the smallest to the largest loss.

    Returns
    -------
    Axes

    Raises
    ------
    InsufficientDataError
        If only the tail was kept.
    SettingsError
        If matplotlib is not installed.

    Notes
    -----
    The probability is on a logarithmic axis: most simulations lose nothing, and the tail would not be seen.
    """
    _checked(sample, "sample", LossSample)
    if sample.keep == "tail":
        raise InsufficientDataError(
            "the losses below the tail were not kept: simulate with keep='all', or draw the exceedance_curve",
            observed=len(sample.losses),
            required=sample.n,
        )
    axes = _axes(ax, (7.0, 4.0))
    axes.hist(sample.losses, bins, weights=_shares(sample), color=_SKY, edgecolor=_BLUE, linewidth=0.5)
    _probability_axis(axes)
    for level, style in _LEVELS:
        axes.axvline(
            sample.value_at_risk(level).value,
            color="black",
            linestyle=style,
            label=f"value at risk {_percent(level)}",
        )
    level = _LEVELS[-1][0]
    shortfall = sample.expected_shortfall(level).value
    axes.axvline(shortfall, color="black", linestyle="-.", label=f"expected shortfall {_percent(level)}")
    axes.set_title(f"{sample.n:,} simulations")
    _legend_above(axes)
    return _money(axes, "loss [USD]")


def exceedance_curve(sample: LossSample, ax: Axes | None = None) -> Axes:
    """Draw the probability that the loss is larger than x, with value at risk and its 95 % interval.

    Parameters
    ----------
    sample : LossSample
        Weighted losses count with their weights; where only the tail was kept, the curve begins there.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.

    Returns
    -------
    Axes

    Raises
    ------
    SettingsError
        If matplotlib is not installed.

    Notes
    -----
    Of more than 1,000 distinct losses at most 1,000 are drawn, half of them evenly spaced in the loss and half in
    the logarithm of their rank from above.
    """
    _checked(sample, "sample", LossSample)
    losses, place = np.unique(sample.losses, return_inverse=True)
    above = np.cumsum(np.bincount(place, _shares(sample))[::-1])[::-1]
    # Beyond the largest loss there is nothing, which a logarithm cannot show: the last step ends there.
    beyond = np.append(above[1:], above[-1])
    drawn = _thinned(losses)
    axes = _axes(ax, (7.0, 4.0))
    axes.step(losses[drawn], beyond[drawn], where="post", color="black", label="probability of a larger loss")
    for (level, _), marker in zip(_LEVELS, "os", strict=True):
        estimate = sample.value_at_risk(level)
        ends = [estimate.value if end is None else end for end in (estimate.low, estimate.high)]
        label = f"value at risk {_percent(level)} and its 95 % interval"
        axes.plot(ends, [1.0 - level] * 2, color=_VERMILION, linewidth=2.0)
        axes.plot(estimate.value, 1.0 - level, marker, color=_VERMILION, linestyle="none", label=label)
    _probability_axis(axes)
    axes.set_title(f"{sample.n:,} simulations" + (", tail only" if sample.keep == "tail" else ""))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return _money(axes, "loss [USD]")


def stress(result: StressResult, ax: Axes | None = None) -> Axes:
    """Draw the loss of each scenario, the largest on top; those above half of the capital are hatched.

    Parameters
    ----------
    result : StressResult
        Of `stress_test`.
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
    _checked(result, "result", StressResult)
    losses = result.losses.sort_values(kind="stable")
    limit = LARGE_SHARE_OF_CAPITAL * result.capital
    axes = _bars(losses, (losses > limit).to_numpy(), ax)
    if losses.max() > limit / 2.0:
        axes.axvline(limit, color="black", linestyle="--", label=f"{_percent(LARGE_SHARE_OF_CAPITAL)} of capital")
        _legend_above(axes)
    return _money(axes, "loss [USD]")


def contributions(parts: pd.Series | LossSample, ax: Axes | None = None, *, level: float = 0.99) -> Axes:
    """Draw what each part contributes to the expected shortfall; negative contributions are hatched.

    Parameters
    ----------
    parts : Series or LossSample
        Contributions by part [USD], as `LossSample.contributions` returns them; of a sample those by asset.
    ax : Axes, optional
        Where to draw; a new figure of pyplot when not given.
    level : float
        Of the expected shortfall, where a sample is given.

    Returns
    -------
    Axes

    Raises
    ------
    SettingsError
        If matplotlib is not installed.
    """
    _checked(parts, "parts", (pd.Series, LossSample))
    named = f"expected shortfall {_percent(level)}" if isinstance(parts, LossSample) else "sum"
    amounts = parts.contributions(level) if isinstance(parts, LossSample) else parts.astype(float)
    if amounts.empty or not np.isfinite(amounts.to_numpy()).all():
        raise ValueError(f"parts must hold at least one contribution, all finite, found {amounts.to_dict()}")
    ordered = amounts.sort_values(kind="stable")
    axes = _bars(ordered, (ordered < 0.0).to_numpy(), ax)
    axes.set_title(f"{named}: {_short(float(amounts.sum()))} USD")
    return _money(axes, "contribution [USD]")


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
    axes = _axes(ax, (8.0, 0.4 * len(assets) + 1.6))
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
    axes.set_yticks(range(len(assets)), _labels(assets, lines=1), parse_math=False)
    axes.set_ylim(-0.6, len(assets) - 0.4)
    axes.use_sticky_edges = False
    axes.margins(x=0.03)
    axes.grid(axis="x", alpha=0.3)
    _legend_above(axes)
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
    axes = _axes(ax, (9.0, 4.0))
    from matplotlib.dates import date2num

    # All stamps at once, in UTC: one by one they take longer than all the drawing.
    days = date2num(pd.DatetimeIndex(frame.index).tz_convert(None).to_numpy())  # type: ignore[no-untyped-call]
    for number, (asset, column) in enumerate(frame.items()):
        colour, style = _LINE_COLOURS[number % 5], _LINE_STYLES[number % 4]
        marker = "." if column.notna().sum() == 1 else None
        (label,) = _labels([asset], lines=1)
        # matplotlib leaves out of legends what begins with an underscore.
        label = f" {label}" if label.startswith("_") else label
        axes.plot(
            days, column.to_numpy(), color=colour, linestyle=style, linewidth=1.0, marker=marker, label=label
        )
    pegs = {own_peg(str(asset)) for asset in frame.columns}
    peg = pegs.pop() if len(pegs) == 1 else None
    if isinstance(peg, FixedPeg):
        axes.axhline(peg.price, color="0.4", linestyle=(0, (1, 4)), label="peg")
    named = {str(asset) for asset in frame.columns}
    _shade(
        axes, (e for e in checked_events(events) if canonical(e.asset) in named), frame.index[0], frame.index[-1]
    )
    axes.set_ylabel("price [USD]")
    _legend_above(axes)
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
    if not isinstance(matrix, CorrelationMatrix):
        raise ValueError(f"matrix must be a CorrelationMatrix, found {type(matrix).__name__}")
    axes = _axes(ax, (0.6 * len(matrix.assets) + 2.0, 0.6 * len(matrix.assets) + 1.0))
    n = len(matrix.assets)
    image = axes.imshow(matrix.values, vmin=-1.0, vmax=1.0, cmap="RdBu_r", interpolation="none")
    names = _labels(matrix.assets, lines=1)
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
    axes = _axes(ax, (9.0, 4.0))
    # A stretch without estimates is a gap of the line, not a slope.
    shown = table.reindex(pd.date_range(table.index[0], table.index[-1], freq=every))
    axes.fill_between(shown.index, shown["low"], shown["high"], alpha=0.25, label="95 % interval")
    axes.plot(shown.index, shown["correlation"], marker="." if len(shown) == 1 else None, label="correlation")
    pair = {canonical(asset_1), canonical(asset_2)}
    those = (event for event in checked_events(events) if canonical(event.asset) in pair)
    _shade(axes, those, shown.index[0], shown.index[-1])
    axes.axhline(0.0, color="0.5", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("correlation of log returns")
    names = " and ".join(_labels([canonical(asset_1), canonical(asset_2)], lines=1))
    axes.set_title(f"{names}, {window}-day window", parse_math=False)
    axes.legend(loc="lower left", fontsize="small")
    return axes


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise SettingsError(
            "plots need matplotlib: install the extra with pip install 'tonsurance-risk[report]'"
        ) from error
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _checked(value: object, name: str, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        accepted = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise ValueError(f"{name} must be a {accepted}, found {type(value).__name__}")


def _shares(sample: LossSample) -> FloatArray:
    """Return the probability of each loss of a sample."""
    weights = np.ones(len(sample.losses)) if sample.weights is None else sample.weights
    return np.asarray(weights / sample.n)


def _thinned(losses: FloatArray) -> IntArray:
    """Return positions of at most 1,000 of some increasing losses, the first and the last among them."""
    if len(losses) <= _MOST_POINTS:
        return np.arange(len(losses))
    ranks = np.round(np.geomspace(1.0, len(losses), _MOST_POINTS // 2)).astype(int)
    even = np.searchsorted(losses, np.linspace(losses[0], losses[-1], _MOST_POINTS // 2))
    return np.union1d(len(losses) - ranks, even)


def _end(event: DepegEvent) -> pd.Timestamp:
    return event.recovered_at if event.recovered_at is not None else event.end + event.sample_span


def _shade(axes: Axes, events: Iterable[DepegEvent], first: pd.Timestamp, last: pd.Timestamp) -> None:
    """Shade the events that touch a time; the first of each direction is named in the legend."""
    from matplotlib.dates import date2num

    named = set()
    for event in events:
        colour, hatch, what = _OFF_PEG[event.direction]
        if event.start <= last and _end(event) >= first:
            begin, end = date2num([event.start, _end(event)])  # type: ignore[no-untyped-call]
            label = f"_{what}" if what in named else what
            axes.axvspan(begin, end, facecolor=colour, edgecolor="0.3", hatch=hatch, alpha=0.3, label=label)
            named.add(what)


def _bars(amounts: pd.Series, hatched: BoolArray, ax: Axes | None) -> Axes:
    """Draw horizontal bars with their amounts, the last on top."""
    axes = _axes(ax, (7.0, 0.35 * len(amounts) + 1.4))
    rows = range(len(amounts))
    colours = np.where(hatched, _ORANGE, _SKY).tolist()
    bars = axes.barh(rows, amounts.to_numpy(), color=colours, edgecolor="black", linewidth=0.6)
    for bar, marked in zip(bars, hatched, strict=True):
        if marked:
            bar.set_hatch("///")
    axes.bar_label(bars, [_short(amount) for amount in amounts], padding=3, fontsize="small")
    axes.set_yticks(rows, _labels(amounts.index), parse_math=False)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.margins(x=0.15)
    return axes


def _short(amount: float, _position: object = None) -> str:
    """Return an amount with three digits and a letter for its thousands.

    Examples
    --------
    >>> [_short(amount) for amount in (0.0, 12.5, -1_500.0, 2_340_000.0, 999_999.0, 1e12)]
    ['0', '12.5', '-1.5k', '2.34M', '1M', '1000B']
    """
    size, letter = next(
        ((size, letter) for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if abs(amount) >= 0.9995 * size),
        (1.0, ""),
    )
    return f"{float(f'{amount / size:.3g}'):.12g}{letter}"


def _percent(share: float, _position: object = None) -> str:
    return f"{100.0 * share:.6g} %"


def _labels(names: Iterable[object], *, lines: int = 2) -> list[str]:
    r"""Return names for a chart: in at most one line or two, the rest cut, nothing invisible in them.

    Examples
    --------
    >>> _labels(["USDC", "Multiple Stablecoin Failure", "x" * 10_000])
    ['USDC', 'Multiple\nStablecoin Failure', 'xxxxxxxxxxxxxxxxxx\nxxxxxxxxxxxxxxxxx…']
    """
    labels = []
    for name in names:
        # The first letters are enough: to wrap all of a very long name takes long.
        wrapped = textwrap.wrap(one_line(str(name)[: 4 * _LABEL_WIDTH]), _LABEL_WIDTH)
        if len(wrapped) > lines:
            wrapped[lines - 1 :] = [f"{wrapped[lines - 1][: _LABEL_WIDTH - 1]}…"]
        labels.append("\n".join(wrapped))
    return labels


def _probability_axis(axes: Axes) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_percent)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("probability (log scale)")


def _legend_above(axes: Axes) -> None:
    """Put the legend between the title and the axes, in as many columns as fit; names in it are no formulas."""
    handles, labels = axes.get_legend_handles_labels()
    column = 0.5 + 0.075 * max(len(line) for label in labels for line in label.splitlines())  # inch
    columns = min(max(int(_width(axes) / column), 1), len(labels))
    legend = axes.legend(
        handles,
        labels,
        fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        frameon=False,
    )
    for entry in legend.get_texts():
        entry.set_parse_math(False)
    rows = -(-len(labels) // columns)
    axes.set_title(axes.get_title(), pad=8.0 + 14.0 * rows)


def _width(axes: Axes) -> float:
    """Return the width of axes [inch] before any layout."""
    return float(axes.bbox.width / axes.figure.dpi) if axes.figure is not None else 0.0


def _money(axes: Axes, label: str) -> Axes:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(_short)
    return axes


def _dates(axes: Axes) -> Axes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    # Two dates an inch: more of them touch.
    most = min(max(int(2.0 * _width(axes)), 3), 12)
    locator = AutoDateLocator(minticks=min(3, most), maxticks=most)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time (UTC)")
    return axes


def _hatched(i: int, j: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a patch of matplotlib
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.5, i - 0.5), 1.0, 1.0, facecolor="white", edgecolor="0.6", hatch="////", linewidth=0.0)
