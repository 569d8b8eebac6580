"""Plots: what they draw and on which axes; they are looked at as data, and drawn for real."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import timedelta
from itertools import pairwise

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


class TestLosses:
    """Of simulated losses; what is drawn is compared with sums over the sample."""

    @staticmethod
    def simulated(**options):
        """Simulate losses of two coins and BTC; most are 0 or a gain."""
        vault = tr.Vault(
            1e6, [tr.Policy("a", "USDC", 4e5, 0.95, 0.7), tr.Policy("b", "DAI", 3e5, 0.95, 0.7)], btc_value=5e4
        )
        volatility = {"USDC": 0.05, "DAI": 0.05, "BTC": 0.2}
        scenarios = [tr.Scenario("calm", 0.9), tr.Scenario("run", 0.1, prices={"USDC": 0.85})]
        return tr.simulate_losses(vault, scenarios, volatility=volatility, **{"n": 20_000, **options})

    @pytest.mark.parametrize("sampling", ["stratified", "importance"])
    def test_the_distribution(self, sampling):
        """Heights are sums of weights over n; lines are the measures; the probability is a logarithm."""
        sample = self.simulated(sampling=sampling)

        ax = tr.plots.loss_distribution(sample, bins=40)

        weights = np.ones(sample.n) if sample.weights is None else sample.weights
        width = (sample.worst - sample.best) / 40
        for bar in ax.patches:
            inside = (sample.losses >= bar.get_x() - 1e-9 * width) & (sample.losses < bar.get_x() + width)
            assert bar.get_height() == pytest.approx(
                weights[inside].sum() / sample.n, rel=0.01, abs=3.0 / sample.n
            )
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(weights.sum() / sample.n)
        assert [
            sample.value_at_risk(0.95).value,
            sample.value_at_risk(0.99).value,
            sample.expected_shortfall(0.99).value,
        ] == [line.get_xdata()[0] for line in ax.lines]
        assert ["value at risk 95 %", "value at risk 99 %", "expected shortfall 99 %"] == [
            text.get_text() for text in ax.get_legend().get_texts()
        ]
        assert 3 == len({line.get_linestyle() for line in ax.lines})
        assert ("log", "loss [USD]", "probability (log scale)", "20,000 simulations") == (
            ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel(), ax.get_title(),
        )  # fmt: skip

    def test_a_distribution_without_its_body_is_refused(self):
        """Only the tail is there."""
        with pytest.raises(
            tr.InsufficientDataError, match="simulate with keep='all', or draw the exceedance_curve"
        ):
            tr.plots.loss_distribution(self.simulated(keep="tail"))

    @pytest.mark.parametrize(
        ("sampling", "keep", "n"),
        [
            ("stratified", "all", 20_000),
            ("plain", "all", 300),
            ("importance", "all", 20_000),
            ("plain", "tail", 40_000),
        ],
    )
    def test_the_exceedance_curve(self, sampling, keep, n):
        """At each loss that is drawn the curve is the share of larger ones, counted; the largest ends it."""
        sample = self.simulated(sampling=sampling, keep=keep, n=n)
        weights = np.ones(len(sample.losses)) if sample.weights is None else sample.weights

        ax = tr.plots.exceedance_curve(sample)

        x, y = ax.lines[0].get_data()
        assert 200 < len(x) <= 1000
        assert (x[0], x[-1]) == (sample.losses.min(), sample.losses.max())
        larger = [weights[sample.losses > loss].sum() / sample.n for loss in x[:-1]]
        np.testing.assert_allclose(y[:-1], larger, rtol=1e-9)
        largest = weights[sample.losses == sample.losses.max()].sum() / sample.n
        assert y[-1] == pytest.approx(largest)
        assert ("steps-post", "log") == (ax.lines[0].get_drawstyle(), ax.get_yscale())
        assert ax.get_title() == f"{n:,} simulations" + (", tail only" if keep == "tail" else "")
        estimate = sample.value_at_risk(0.99)
        low = estimate.value if estimate.low is None else estimate.low
        assert (low, pytest.approx(0.01)) == (ax.lines[3].get_xdata()[0], ax.lines[3].get_ydata()[0])
        assert ([estimate.value], "s") == (list(ax.lines[4].get_xdata()), ax.lines[4].get_marker())

    def test_contributions(self):
        """Bars in order, negative ones hatched, their sum in the title; of a sample those to its expected shortfall."""
        parts = pd.Series({"USDC": 5e5, "BTC": -1e5, "DAI": 2e5})

        ax = tr.plots.contributions(parts)

        assert [-1e5, 2e5, 5e5] == [bar.get_width() for bar in ax.patches]
        assert ["///", None, None] == [bar.get_hatch() for bar in ax.patches]
        assert ["BTC", "DAI", "USDC"] == [label.get_text() for label in ax.get_yticklabels()]
        assert ["-100k", "200k", "500k"] == [text.get_text() for text in ax.texts]
        assert ("sum: 600k USD", "contribution [USD]") == (ax.get_title(), ax.get_xlabel())
        sample = self.simulated()
        of_sample = tr.plots.contributions(sample, level=0.975)
        assert sorted(sample.contributions(0.975)) == [bar.get_width() for bar in of_sample.patches]
        assert of_sample.get_title().startswith("expected shortfall 97.5 %: ")

    def test_stress(self):
        """Bars in order of loss; those above half of the capital hatched and right of the line."""
        scenarios = [
            tr.Scenario(name, 0.1, prices={"USDC": price}) for name, price in (("b", 0.7), ("a", 0.95), ("c", 0.8))
        ]
        result = tr.stress_test(tr.Vault(1e6, [tr.Policy("p", "USDC", 8e5, 0.95, 0.7)]), scenarios)

        ax = tr.plots.stress(result)

        assert ["a", "c", "b"] == [label.get_text() for label in ax.get_yticklabels()]
        assert [0.0, 4.8e5, 8e5] == pytest.approx([bar.get_width() for bar in ax.patches])
        assert [None, None, "///"] == [bar.get_hatch() for bar in ax.patches]
        assert 5e5 == ax.lines[-1].get_xdata()[0]
        assert ["50 % of capital"] == [text.get_text() for text in ax.get_legend().get_texts()]
        assert "loss [USD]" == ax.get_xlabel()


@pytest.fixture
def depegs():
    """Return hourly prices of two coins, and their depegs: a discount, a premium, and one that is open."""
    index = pd.date_range("2023-03-01", periods=500, freq="h", tz="UTC")
    prices = pd.DataFrame(1.0, index=index, columns=["USDC", "DAI"])
    prices.iloc[100:150, 0] = 0.9
    prices.iloc[200:210, 1] = 1.04
    prices.iloc[480:, 1] = 0.95
    prices.iloc[300:320, 0] = np.nan
    return prices, tr.detect_depegs(prices, direction="both", sample_span=timedelta(hours=1))


class TestEvents:
    """Of depegs in time."""

    def test_the_timeline(self, depegs):
        """A bar an event from start to end on the row of its asset; open ones are marked."""
        _, events = depegs
        assert 3 == len(events)

        ax = tr.plots.depeg_timeline(reversed(events))

        assert ["USDC", "DAI"] == [label.get_text() for label in ax.get_yticklabels()]
        rows = {"USDC": 0, "DAI": 1}
        drawn = [(bar.get_x(), bar.get_width(), round(bar.get_y() + 0.25)) for bar in ax.patches]
        expected = []
        for event in events:
            end = event.recovered_at or event.end + timedelta(hours=1)
            expected.append((date2num(event.start), (end - event.start) / timedelta(days=1), rows[event.asset]))
        np.testing.assert_allclose(sorted(drawn), sorted(expected))
        hatches = {bar.get_hatch() for bar in ax.patches if round(bar.get_y() + 0.25) == 0}
        assert hatches == {""}
        assert 1 == sum(bar.get_hatch() == "///" for bar in ax.patches)
        below, above, still = ax.collections
        assert ["discount", "premium", "still open"] == [text.get_text() for text in ax.get_legend().get_texts()]
        assert below.get_sizes()[0] > above.get_sizes()[0]  # 10 % against 4 %
        assert still.get_offsets()[0].tolist() == [date2num(events[1].end + timedelta(hours=1)), 1.0]
        assert "time (UTC)" == ax.get_xlabel()

    def test_a_timeline_of_nothing(self):
        """Says so."""
        ax = tr.plots.depeg_timeline([])

        assert ["no depeg events"] == [text.get_text() for text in ax.texts]

    def test_prices_with_events(self, depegs):
        """The line is the prices, broken where there is none; only depegs of the asset are shaded."""
        prices, events = depegs

        ax = tr.plots.price_with_events(prices["USDC"], events)

        np.testing.assert_array_equal(ax.lines[0].get_ydata(), prices["USDC"])
        (span,) = ax.patches
        (usdc,) = [event for event in events if event.asset == "USDC"]
        assert (span.get_x(), span.get_width()) == pytest.approx((date2num(usdc.start), 50 / 24))
        assert ["USDC", "peg", "discount"] == [text.get_text() for text in ax.get_legend().get_texts()]
        assert ("price [USD]", "time (UTC)") == (ax.get_ylabel(), ax.get_xlabel())
        both = tr.plots.price_with_events(prices, events)
        assert ["USDC", "DAI", "peg", "premium", "discount"] == [
            text.get_text() for text in both.get_legend().get_texts()
        ]
        assert 3 == len(both.patches)
        assert both.lines[0].get_linestyle() != both.lines[1].get_linestyle()

    def test_events_outside_the_prices_and_pegs_that_move(self, depegs):
        """No shade beyond the data; a coin that accrues has no line of its peg."""
        prices, events = depegs

        early = tr.plots.price_with_events(prices["USDC"].iloc[:50], events)
        accruing = tr.plots.price_with_events(prices["USDC"].rename("sUSDe"), [])

        assert 0 == len(early.patches)
        assert ["sUSDe"] == [text.get_text() for text in accruing.get_legend().get_texts()]


def test_they_take_what_they_say_and_leave_settings_alone(depegs):
    """Wrong kinds are refused; given axes are returned; no figure is made, and no setting of matplotlib changed."""
    prices, events = depegs
    sample = TestLosses.simulated(n=1000)
    result = tr.stress_test(sample.inputs.vault, sample.inputs.scenarios)
    before = dict(mpl.rcParams)
    _, axes = pyplot.subplots(2, 3)
    drawn = [
        tr.plots.loss_distribution(sample, axes[0, 0]),
        tr.plots.exceedance_curve(sample, axes[0, 1]),
        tr.plots.stress(result, axes[0, 2]),
        tr.plots.contributions(sample, axes[1, 0]),
        tr.plots.depeg_timeline(events, axes[1, 1]),
        tr.plots.price_with_events(prices, events, axes[1, 2]),
    ]

    assert drawn == list(axes.ravel())
    assert 1 == len(pyplot.get_fignums())
    axes[0, 0].figure.canvas.draw()
    assert before == dict(mpl.rcParams)
    for draw, what in (
        (tr.plots.loss_distribution, "sample must be a LossSample, found list"),
        (tr.plots.exceedance_curve, "sample must be a LossSample, found list"),
        (tr.plots.stress, "result must be a StressResult, found list"),
        (tr.plots.contributions, "parts must be a Series or LossSample, found list"),
        (tr.plots.depeg_timeline, "events must hold DepegEvent records"),
    ):
        with pytest.raises(ValueError, match=what):
            draw([1.0])
    with pytest.raises(ValueError, match="parts must hold at least one contribution, all finite"):
        tr.plots.contributions(pd.Series({"USDC": np.nan}))
    with pytest.raises(tr.InvalidPriceError, match="prices must hold at least one sample"):
        tr.plots.price_with_events(prices.iloc[:0], [])


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


@pytest.mark.parametrize(
    "name", ["$\\frac{1}{0}$ and $x", "_hidden", "\u202eCDSU", "a\nb", "x" * 10_000, "\u4e2d"]
)
def test_names_are_shown_as_they_are(name, returns):
    """No formula, nothing that turns or breaks the line, and never so long that the axes are gone."""
    frame = returns[["DAI", "USDC"]].rename(columns={"DAI": name})
    prices = np.exp(frame.cumsum())
    prices.iloc[20:25, 0] *= 0.9
    events = tr.detect_depegs(prices, sample_span=timedelta(days=1))
    figures = [
        tr.plots.contributions(pd.Series({name: 1.0, "USDC": 2.0})),
        tr.plots.depeg_timeline(events),
        tr.plots.correlation_heatmap(tr.correlation_matrix(frame)),
        tr.plots.price_with_events(prices, events),
        tr.plots.rolling_correlation(frame, name, "USDC", bootstrap=0),
    ]

    for ax in figures:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            ax.figure.canvas.draw()
        width = ax.get_window_extent().width / ax.figure.bbox.width
        assert width > 0.4 or ax.images
        texts = [text.get_text() for text in ax.figure.findobj(mpl.text.Text)]
        assert all(text.replace("\n", "").isprintable() for text in texts)
    written = name if name.isprintable() else name.encode("unicode_escape").decode()
    assert written[:17] == figures[0].get_yticklabels()[0].get_text().replace("\n", " ")[:17]


def test_legends_and_dates_fit_narrow_axes(returns):
    """On axes of a phone no two dates touch, and the legend is not wider than the figure."""
    from matplotlib.figure import Figure

    prices = np.exp(returns[["DAI"]].cumsum())
    prices.iloc[20:25] *= 0.9
    figure = Figure(figsize=(4.0, 2.3), layout="constrained")
    ax = tr.plots.price_with_events(prices, tr.detect_depegs(prices), figure.add_subplot())

    figure.canvas.draw()
    dates = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    assert len(dates) >= 3
    assert all(one.x1 < other.x0 for one, other in pairwise(dates))
    assert ax.get_legend().get_window_extent().x1 <= figure.bbox.x1
