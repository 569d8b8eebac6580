"""Figures of simulated losses, scenarios and contributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tonsurance_risk.core.sample import LossSample, histogram_range
from tonsurance_risk.core.stress import LARGE_SHARE_OF_CAPITAL, StressResult
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.plots.axes import (
    BLUE,
    ORANGE,
    SKY,
    VERMILION,
    axes_of,
    checked,
    labels,
    legend_above,
)
from tonsurance_risk.values import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = ((0.95, "--"), (0.99, ":"))
_MOST_POINTS = 1_000
"""Of a curve: more cannot be told apart, and make a file large."""


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
    checked(sample, "sample", LossSample)
    if sample.keep == "tail":
        raise InsufficientDataError(
            "the losses below the tail were not kept: simulate with keep='all', or draw the exceedance_curve",
            observed=len(sample.losses),
            required=sample.n,
        )
    axes = axes_of(ax, (7.0, 4.0))
    ends = histogram_range(sample.losses)
    axes.hist(sample.losses, bins, range=ends, weights=_shares(sample), color=SKY, edgecolor=BLUE, linewidth=0.5)
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
    legend_above(axes)
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
    checked(sample, "sample", LossSample)
    losses, place = np.unique(sample.losses, return_inverse=True)
    above = np.cumsum(np.bincount(place, _shares(sample))[::-1])[::-1]
    # Beyond the largest loss there is nothing, which a logarithm cannot show: the last step ends there.
    beyond = np.append(above[1:], above[-1])
    drawn = _thinned(losses)
    axes = axes_of(ax, (7.0, 4.0))
    axes.step(losses[drawn], beyond[drawn], where="post", color="black", label="probability of a larger loss")
    for (level, _), marker in zip(_LEVELS, "os", strict=True):
        estimate = sample.value_at_risk(level)
        ends = [estimate.value if end is None else end for end in (estimate.low, estimate.high)]
        label = f"value at risk {_percent(level)} and its 95 % interval"
        axes.plot(ends, [1.0 - level] * 2, color=VERMILION, linewidth=2.0)
        axes.plot(estimate.value, 1.0 - level, marker, color=VERMILION, linestyle="none", label=label)
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
    checked(result, "result", StressResult)
    losses = result.losses.sort_values(kind="stable")
    limit = LARGE_SHARE_OF_CAPITAL * result.capital
    axes = _bars(losses, (losses > limit).to_numpy(), ax)
    if losses.max() > limit / 2.0:
        axes.axvline(limit, color="black", linestyle="--", label=f"{_percent(LARGE_SHARE_OF_CAPITAL)} of capital")
        legend_above(axes)
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
    checked(parts, "parts", (pd.Series, LossSample))
    named = f"expected shortfall {_percent(level)}" if isinstance(parts, LossSample) else "sum"
    amounts = parts.contributions(level) if isinstance(parts, LossSample) else parts.astype(float)
    if amounts.empty or not np.isfinite(amounts.to_numpy()).all():
        raise ValueError(f"parts must hold at least one contribution, all finite, found {amounts.to_dict()}")
    ordered = amounts.sort_values(kind="stable")
    axes = _bars(ordered, (ordered < 0.0).to_numpy(), ax)
    axes.set_title(f"{named}: {_short(float(amounts.sum()))} USD")
    return _money(axes, "contribution [USD]")


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


def _bars(amounts: pd.Series, hatched: BoolArray, ax: Axes | None) -> Axes:
    """Draw horizontal bars with their amounts, the last on top."""
    axes = axes_of(ax, (7.0, 0.35 * len(amounts) + 1.4))
    rows = range(len(amounts))
    colours = np.where(hatched, ORANGE, SKY).tolist()
    bars = axes.barh(rows, amounts.to_numpy(), color=colours, edgecolor="black", linewidth=0.6)
    for bar, marked in zip(bars, hatched, strict=True):
        if marked:
            bar.set_hatch("///")
    axes.bar_label(bars, [_short(amount) for amount in amounts], padding=3, fontsize="small")
    axes.set_yticks(rows, labels(amounts.index), parse_math=False)
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


def _probability_axis(axes: Axes) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_percent)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("probability (log scale)")


def _money(axes: Axes, label: str) -> Axes:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(_short)
    return axes
