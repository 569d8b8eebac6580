"""The charts of a report: each a function of `tonsurance_risk.plots`, with what it shows in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk import plots
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.portfolio import coverage_by_asset
from tonsurance_risk.core.stress import LARGE_SHARE_OF_CAPITAL
from tonsurance_risk.model import BTC, DepegEvent
from tonsurance_risk.redaction import one_line
from tonsurance_risk.report import RiskReport
from tonsurance_risk.reporting.svg import FINE_PRINT, inline_svg, page_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 4.0
"""Of a chart [inch]: letters of 10 points are 12 pixels high on a phone."""
MOST_BARS = 16
MOST_ASSETS = 20
MOST_PRICES = 8
_LONGEST_NAME = 40
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"
"""Letters between them have a direction of their own (Unicode Standard Annex 9)."""
_LEVEL = 0.99


@attrs.frozen(kw_only=True)
class Chart:
    """A chart for the page.

    Parameters
    ----------
    name : str
        Begins the ids of its elements.
    title, words : str
        What it is, and what it shows, for those who do not see it; plain text.
    svg : str
        The drawing, as an element of HTML.
    """

    name: str
    title: str
    words: str
    svg: str = attrs.field(repr=False)


def report_charts(report: RiskReport, contributions: Mapping[str, float]) -> dict[str, Chart]:
    """Return the charts of a report by name, prices of several coins one by one.

    Parameters
    ----------
    report : RiskReport
    contributions : mapping of float by asset
        To expected shortfall 99 % [USD].
    """
    with page_style():
        return {chart.name: chart for chart in _charts(report, contributions)}


def _charts(report: RiskReport, contributions: Mapping[str, float]) -> Iterator[Chart]:
    yield _losses(report)
    yield _exceedance(report)
    yield _stress(report)
    yield _contributions(pd.Series(contributions, dtype=float))
    yield _correlations(report)
    yield _timeline(report)
    yield from _prices(report)


def _chart(
    name: str,
    title: str,
    words: str,
    draw: Callable[[Axes], object],
    *,
    height: float,
) -> Chart:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    draw(figure.add_subplot())
    svg = inline_svg(figure, name, f"{name}-words")
    return Chart(name=name, title=_kept_together(title), words=_kept_together(words), svg=svg)


def _losses(report: RiskReport) -> Chart:
    losses = report.sample.losses
    words = (
        f"{_percent(float(np.mean(losses > 0.0)), 1)} of {report.sample.n:,} simulations lose money; losses reach "
        f"from {_usd(report.sample.best)} to {_usd(report.sample.worst)}. Lines mark value at risk 95 % "
        f"({_usd(report.sample.value_at_risk(0.95).value)}) and 99 % "
        f"({_usd(report.sample.value_at_risk(_LEVEL).value)}), and expected shortfall 99 % "
        f"({_usd(report.sample.expected_shortfall(_LEVEL).value)})."
    )
    return _chart(
        "losses", "Loss distribution", words, lambda ax: plots.loss_distribution(report.sample, ax), height=3.6
    )


def _exceedance(report: RiskReport) -> Chart:
    half, rare = (report.sample.value_at_risk(level).value for level in (0.5, 0.999))
    words = (
        f"The probability that the loss is larger than an amount: larger than {_usd(half)} in half of the "
        f"simulations, larger than {_usd(rare)} in one of a thousand, and never larger than "
        f"{_usd(report.sample.worst)}. Dots mark value at risk 95 % and 99 %, with lines for their 95 % intervals."
    )
    return _chart(
        "exceedance", "Exceedance curve", words, lambda ax: plots.exceedance_curve(report.sample, ax), height=3.4
    )


def _stress(report: RiskReport) -> Chart:
    result = report.stress
    largest = result.losses.sort_values(ascending=False, kind="stable").iloc[:MOST_BARS]
    words = (
        f"{_cut(result.worst_scenario)} loses most, {_usd(result.worst_loss)}, "
        f"{_percent(result.worst_loss / result.capital, 1)} of capital; {len(result.above_threshold)} of "
        f"{len(result.losses)} scenarios lose more than "
        f"{_percent(LARGE_SHARE_OF_CAPITAL, 0)} of it{_only(largest, result.losses, 'scenarios', 'loss')}."
    )
    shown = attrs.evolve(result, losses=largest)
    return _chart(
        "stress", "Stress test", words, lambda ax: plots.stress(shown, ax), height=0.4 * len(largest) + 1.2
    )


def _contributions(parts: pd.Series) -> Chart:
    order = parts.abs().sort_values(ascending=False, kind="stable").index
    largest = parts[order[:MOST_BARS]]
    named = ", ".join(f"{_cut(asset)} {_usd(amount)}" for asset, amount in largest.iloc[:3].items())
    words = (
        f"Expected shortfall 99 % is {_usd(float(parts.sum()))}, the sum of what the assets contribute; most: "
        f"{named}{_only(largest, parts, 'assets', 'contribution')}."
    )
    return _chart(
        "contributions",
        "Contributions to expected shortfall 99 %",
        words,
        lambda ax: plots.contributions(largest, ax).set_title(""),
        height=0.37 * len(largest) + 0.9,
    )


def _correlations(report: RiskReport) -> Chart:
    matrix = _most_covered(report)
    pairs = matrix.pairs(interval=matrix.best_interval)
    known = pairs[~pairs["is_default"]]
    strongest = "No pair has enough observations."
    if not known.empty:
        pair = max(known.to_dict("records"), key=lambda pair: abs(pair["correlation"]))
        strongest = (
            f"The strongest pair is {_cut(pair['asset_1'])} and {_cut(pair['asset_2'])}, "
            f"{pair['correlation']:.2f} (95 % interval {pair['low']:.2f} to {pair['high']:.2f})."
        )
    words = (
        f"Correlations of log returns of {len(matrix.assets)} assets over {report.shock_window} days, those of "
        f"the simulation's shocks. {strongest} {len(pairs) - len(known)} of {len(pairs)} pairs are hatched: they "
        f"have too few observations and take the default"
        f"{_only(matrix.assets, report.shock_matrix.assets, 'assets', 'coverage')}."
    )
    names = 0.07 * min(max(map(len, matrix.assets)), 18)  # inch
    cell = min((_WIDTH - names - 0.3) / len(matrix.assets), 0.5)
    return _chart(
        "correlations",
        "Correlations",
        words,
        lambda ax: _heatmap(matrix, ax, cell),
        height=cell * len(matrix.assets) + names + 1.2,
    )


def _heatmap(matrix: CorrelationMatrix, ax: Axes, cell: float) -> None:
    """Draw it as high as wide: names as large as the rows, numbers as the cells [inch], the colour bar below."""
    plots.correlation_heatmap(matrix, ax)
    ax.set_title(ax.get_title(), size=8.0)
    ax.tick_params(labelsize=min(8.0, 0.7 * 72.0 * cell))
    for number in ax.texts:
        number.set(size=min(8.0, 0.33 * 72.0 * cell), gid=FINE_PRINT)
    (image,) = ax.images
    if image.colorbar is not None:
        image.colorbar.remove()
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=40.0)
    bar.set_label("correlation", size=8.0)
    bar.ax.tick_params(labelsize=8.0)


def _most_covered(report: RiskReport) -> CorrelationMatrix:
    matrix = report.shock_matrix
    covered = coverage_by_asset(report.vault)
    order = sorted(matrix.assets, key=lambda asset: (asset != BTC, -covered.get(asset, 0.0)))
    kept = set(order[:MOST_ASSETS])
    return matrix.select([asset for asset in matrix.assets if asset in kept])


def _timeline(report: RiskReport) -> Chart:
    worst = _worst_of_each(report.events)
    kept = list(worst)[:MOST_ASSETS]
    events = [event for event in report.events if event.asset in kept]
    still = sum(event.is_open for event in report.events)
    words = f"No depeg events from {report.prices.index[0]:%Y-%m-%d} to {report.as_of:%Y-%m-%d}."
    if worst:
        asset, event = next(iter(worst.items()))
        below = sum(event.direction == "below" for event in report.events)
        words = (
            f"{len(report.events)} depeg events of {len(worst)} coins from {report.prices.index[0]:%Y-%m-%d} to "
            f"{report.as_of:%Y-%m-%d}, {below} below the peg and {len(report.events) - below} above it; {still} "
            f"still open. The most severe: {_cut(asset)}, {_percent(event.severity, 1)} {event.direction} its "
            f"peg, from {event.start:%Y-%m-%d}{_only(kept, worst, 'coins', 'severity')}."
        )
    return _chart(
        "timeline",
        "Depeg timeline",
        words,
        lambda ax: plots.depeg_timeline(events, ax),
        height=0.28 * max(len(kept), 1) + 1.3,
    )


def _prices(report: RiskReport) -> Iterator[Chart]:
    """Yield the prices of the coins with the most severe events."""
    usable = report.quality.usable(report.prices)
    for number, asset in enumerate(list(_worst_of_each(report.events))[:MOST_PRICES]):
        events = [event for event in report.events if event.asset == asset]
        yield _price(usable[asset], events, f"price-{number}")


def _price(column: pd.Series, events: list[DepegEvent], name: str) -> Chart:
    known, worst = column.dropna(), max(events, key=lambda event: event.severity)
    words = (
        f"From {known.min():.4f} to {known.max():.4f} USD, at last {known.iloc[-1]:.4f} USD; {len(events)} "
        f"event{'s' if len(events) > 1 else ''}, the most severe {_percent(worst.severity, 1)} {worst.direction} "
        f"the peg."
    )
    return _chart(
        name,
        f"Price of {_cut(column.name)}",
        words,
        lambda ax: plots.price_with_events(column, events, ax),
        height=2.3,
    )


def _worst_of_each(events: Iterable[DepegEvent]) -> dict[str, DepegEvent]:
    """Return the most severe event of each coin, the most severe of all first."""
    worst: dict[str, DepegEvent] = {}
    for event in sorted(events, key=lambda event: (-event.severity, event.asset, event.start)):
        worst.setdefault(event.asset, event)
    return worst


def _only(shown: Sized, of: Sized, what: str, by: str) -> str:
    """Return a remark where not all are drawn."""
    drawn, there = len(shown), len(of)
    return "" if drawn == there else f"; drawn are the {drawn} {what} of {there} with the largest {by}"


def _cut(name: object) -> str:
    """Return a name for running text: not so long that it hides the rest, nor turning the letters after it."""
    text = one_line(str(name)[: _LONGEST_NAME + 1])
    shown = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
    return f"{_ISOLATE}{shown}{_END_OF_ISOLATE}"


def _kept_together(text: str) -> str:
    """Return text in which no line breaks between a number and its unit."""
    return re.sub(r"(?<=\d) (?=%|USD)", "\N{NO-BREAK SPACE}", text)


def _usd(amount: float) -> str:
    return f"{amount:,.0f} USD"


def _percent(share: float, digits: int) -> str:
    return f"{100.0 * share:,.{digits}f} %"
