"""Plots: what they draw and on which axes; they are looked at as data, and drawn for real."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.dates import date2num

import tonsurance_risk as tr

mpl.use("Agg")
NAMES = ["DAI", "USDC", "GHO"]


@pytest.fixture(autouse=True)
def _closed():
    """Close what was opened."""
    yield
    pyplot.close("all")


@pytest.fixture
def returns():
    """Return 300 days of returns; GHO starts late."""
    index = pd.date_range("2023-01-01", periods=300, freq="D", tz="UTC")
    values = pd.DataFrame(np.random.default_rng(0).normal(0, 1e-3, (300, 3)), index=index, columns=NAMES)
    values.iloc[:290, 2] = np.nan
    return values


def test_the_heatmap_marks_defaults(returns):
    """Numbers on the estimates, hatches without a number on the rest, symbols on both axes."""
    matrix = tr.correlation_windows(returns=returns, windows=(90,))[90]

    ax = tr.plots.correlation_heatmap(matrix)

    ax.figure.canvas.draw()
    hatched = {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)) for p in ax.patches if p.get_hatch()}
    assert {(0, 2), (1, 2), (2, 0), (2, 1)} == hatched
    numbers = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert {(0, 0), (1, 1), (2, 2), (0, 1), (1, 0)} == set(numbers)
    assert f"{matrix.values[0, 1]:.2f}" == numbers[0, 1]
    assert (
        NAMES
        == [label.get_text() for label in ax.get_xticklabels()]
        == [label.get_text() for label in ax.get_yticklabels()]
    )
    assert "90 days to 2023-10-27, pearson; hatched: too few observations" == ax.get_title()
    assert (-1.0, 1.0) == ax.images[0].get_clim()


def test_they_draw_where_they_are_told(returns):
    """On the axes that are given, which they return; without, on a new figure each."""
    matrix = tr.correlation_matrix(returns[NAMES[:2]])
    _, (left, right) = pyplot.subplots(1, 2)

    assert tr.plots.correlation_heatmap(matrix, ax=left) is left
    assert tr.plots.rolling_correlation(returns, "DAI", "USDC", bootstrap=0, ax=right) is right
    assert tr.plots.correlation_heatmap(matrix).figure is not left.figure
    assert "correlation, pearson" == left.get_title()


def test_the_rolling_correlation_shows_interval_gaps_and_depegs(returns):
    """The line is the table, broken where there is none; only the depegs of the two are shaded."""
    returns.iloc[100:190, 0] = 0.0
    prices = np.exp(returns.fillna(0.0).cumsum() * 0.01)
    prices.iloc[20:25, 0] *= 0.9
    prices.iloc[230:232, 1] *= 1.1
    prices.iloc[50:60, 2] *= 0.9
    events = tr.detect_depegs(prices, direction="both", sample_span=timedelta(days=1))

    ax = tr.plots.rolling_correlation(returns, "dai", "usdc", window=30, events=events, bootstrap=99)

    ax.figure.canvas.draw()
    table = tr.rolling_correlation(returns, "DAI", "USDC", window=30, bootstrap=99)
    drawn = pd.Series(ax.lines[0].get_ydata(), index=ax.lines[0].get_xdata())
    assert drawn.isna().any()
    np.testing.assert_array_equal(drawn.dropna(), table["correlation"])
    spans = [(patch.get_x(), patch.get_width()) for patch in ax.patches]
    expected = [
        (date2num(e.start), (e.recovered_at - e.start) / timedelta(days=1)) for e in events if e.asset != "GHO"
    ]
    np.testing.assert_allclose(sorted(spans), sorted(expected))
    assert ["95 % interval", "correlation", "discount", "premium"] == [
        text.get_text() for text in ax.get_legend().get_texts()
    ]
    assert "DAI and USDC, 30-day window" == ax.get_title()


@pytest.mark.fault("F148")
def test_without_matplotlib_there_is_a_hint():
    """The library imports, and the first plot says what to install."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import pandas as pd, tonsurance_risk as tr\n"
        "matrix = tr.correlation_matrix(pd.DataFrame({'DAI': [1.0, 2.0], 'USDC': [1.0, 3.0]}))\n"
        "tr.plots.correlation_heatmap(matrix)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "SettingsError: plots need matplotlib: install the extra with pip install" in done.stderr
