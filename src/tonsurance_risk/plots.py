"""Figures for analysts. Every function takes ``ax=None`` and returns the matplotlib Axes.

They need the extra `report`, and import nothing of it before they are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.statistics import checked_events
from tonsurance_risk.core.windows import rolling_correlation as rolling_table
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import DepegEvent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OFF_PEG = {"below": "tab:red", "above": "tab:green"}


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
    image = axes.imshow(matrix.values, vmin=-1.0, vmax=1.0, cmap="RdBu_r")
    axes.set_xticks(range(n), matrix.assets, rotation=90)
    axes.set_yticks(range(n), matrix.assets)
    for i, j in np.ndindex(n, n):
        if matrix.is_default[i, j]:
            axes.add_patch(_hatched(i, j))
        else:
            strong = abs(matrix.values[i, j]) > 0.6
            text = f"{matrix.values[i, j]:.2f}"
            axes.text(j, i, text, ha="center", va="center", size="x-small", color="white" if strong else "black")
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
        Those of the two are shaded, discounts red and premiums green.
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
    from matplotlib.dates import date2num

    # A stretch without estimates is a gap of the line, not a slope.
    shown = table.reindex(pd.date_range(table.index[0], table.index[-1], freq=every))
    axes.fill_between(shown.index, shown["low"], shown["high"], alpha=0.25, label="95 % interval")
    axes.plot(shown.index, shown["correlation"], marker="." if len(shown) == 1 else None, label="correlation")
    pair = {canonical(asset_1), canonical(asset_2)}
    named = set()
    for event in checked_events(events):
        end = event.recovered_at if event.recovered_at is not None else event.end + event.sample_span
        if canonical(event.asset) in pair and event.start <= shown.index[-1] and end >= shown.index[0]:
            what = "discount" if event.direction == "below" else "premium"
            label = f"_{what}" if what in named else what
            begin, last = date2num([event.start, end])  # type: ignore[no-untyped-call]
            axes.axvspan(begin, last, color=_OFF_PEG[event.direction], alpha=0.15, label=label)
            named.add(what)
    axes.axhline(0.0, color="0.5", linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("correlation of log returns")
    axes.set_title(f"{canonical(asset_1)} and {canonical(asset_2)}, {window}-day window")
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


def _hatched(i: int, j: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a patch of matplotlib
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.5, i - 0.5), 1.0, 1.0, facecolor="white", edgecolor="0.6", hatch="////", linewidth=0.0)
