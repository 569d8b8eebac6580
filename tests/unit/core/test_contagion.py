"""Contagion: levels and directions, depegs at the same time, clusters, the lower tail."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import tonsurance_risk as tr
from oracle.dependence import plain_co_depegs, plain_tail
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import DepegEvent

T0 = pd.Timestamp("2024-01-01", tz="UTC")
HOUR = timedelta(hours=1)


def matrix(values, names):
    """Return a matrix."""
    return tr.CorrelationMatrix.from_frame(pd.DataFrame(values, index=names, columns=names, dtype=float))


def event(asset, start, hours, direction="below"):
    """Return an event of so many hours, each sample one hour."""
    return DepegEvent(
        asset=asset, direction=direction, start=T0 + start * HOUR, end=T0 + (start + hours - 1) * HOUR,
        recovered_at=T0 + (start + hours) * HOUR, min_price=0.97, max_price=0.98, severity=0.03, n_observations=hours,
        threshold=0.99, recovery=0.99, min_duration=HOUR, max_gap=None, merge_within=0 * HOUR, sample_span=HOUR,
        peg_reference=1.0,
    )  # fmt: skip


def test_pairs_by_risk_level_have_a_direction():
    """Those that move against each other are as strong; BTC and weak pairs are left out."""
    names = ["BTC", "DAI", "USDC", "USDT"]
    values = [[1, 0.99, 0.9, 0.8], [0.99, 1, 0.75, -0.95], [0.9, 0.75, 1, -0.6999], [0.8, -0.95, -0.6999, 1]]

    table = tr.pairs_by_risk_level(matrix(values, names))

    assert [("DAI", "USDT", "opposite", "CRITICAL"), ("DAI", "USDC", "together", "ELEVATED")] == list(
        table[["asset_1", "asset_2", "direction", "risk_level"]].itertuples(index=False, name=None)
    )


def test_contagion_pairs_show_the_bootstrap_where_there_is_one():
    """Fisher's interval otherwise."""
    x = np.random.default_rng(0).standard_t(3, 100)
    returns = pd.DataFrame({"DAI": x, "USDC": x + 0.1 * np.random.default_rng(1).normal(size=100)})
    with_bootstrap = tr.correlation_matrix(returns, bootstrap=99)

    pair = tr.contagion_pairs(with_bootstrap).iloc[0]

    assert (with_bootstrap.bootstrap.low[0, 1], with_bootstrap.bootstrap.high[0, 1]) == (pair["low"], pair["high"])
    plain = tr.contagion_pairs(tr.correlation_matrix(returns)).iloc[0]
    assert plain["low"] != pair["low"]
    with pytest.raises(ValueError, match="must be a CorrelationMatrix, found DataFrame"):
        tr.contagion_pairs(returns)


class TestCoDepegs:
    """How often two coins are off peg together."""

    def test_one_episode_of_each_kind(self):
        """Together, opposite, and one alone."""
        events = [
            event("USDC", 0, 5), event("DAI", 3, 5),
            event("USDC", 500, 5), event("DAI", 502, 1, "above"),
            event("USDC", 1000, 5), event("DAI", 1010, 5),
        ]  # fmt: skip

        [row] = tr.co_depegs(events, observed={"usdc": 2.0, "DAI": 4.0}).to_dict("records")

        assert ("DAI", "USDC", 3, 1, 1) == (
            row["asset_1"], row["asset_2"], row["n_episodes"], row["n_together"], row["n_opposite"],
        )  # fmt: skip
        assert 0.5 == row["rate_together"]
        low, high = scipy.stats.chi2.ppf([0.025, 0.975], [2, 4]) / 2 / 2.0
        assert (low, high) == pytest.approx((row["rate_together_low"], row["rate_together_high"]), rel=1e-9)
        beta = scipy.stats.beta.ppf([0.025, 0.975], [1, 2], [3, 2])
        assert (1 / 3, *beta) == pytest.approx(
            (row["share_opposite"], row["share_opposite_low"], row["share_opposite_high"]), rel=1e-9
        )

    @pytest.mark.fault("F131")
    def test_coins_without_events_have_upper_bounds(self):
        """3.69 / years; of no episode there is no share."""
        row = tr.co_depegs([], observed={"USDC": 2.0, "DAI": 1.0}).iloc[0]

        assert (0, 0.0) == (row["n_episodes"], row["rate_together"])
        assert 3.688879454 == pytest.approx(row["rate_together_high"], rel=1e-9)
        assert row["share_together"] is pd.NA

    def test_one_coin_has_no_pair(self):
        """The table has its columns."""
        pair = tr.co_depegs([], observed={"USDC": 2.0, "DAI": 1.0})

        assert pair.columns.tolist() == tr.co_depegs([], observed={"USDC": 2.0}).columns.tolist()

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["DAI", "USDC", "GHO"]),
                st.integers(0, 400),
                st.integers(1, 90),
                st.sampled_from(["below", "above"]),
            ),
            max_size=25,
        ),
        st.sampled_from([0, 24, 72]),
    )
    @settings(max_examples=100)
    def test_counts_equal_the_plain_ones(self, listed, window):
        """Of every pair, in any order of events."""
        events = [event(*each) for each in listed]
        observed = {"DAI": 1.0, "USDC": 1.0, "GHO": 1.0}

        table = tr.co_depegs(events, observed=observed, episode_window=window * HOUR)

        for one, other in itertools.combinations(sorted(observed), 2):
            spans = {asset: [each[1:] for each in listed if each[0] == asset] for asset in (one, other)}
            row = table[(table["asset_1"] == one) & (table["asset_2"] == other)].iloc[0]
            assert plain_co_depegs(spans[one], spans[other], window) == (
                row["n_episodes"], row["n_together"], row["n_opposite"],
            )  # fmt: skip

    def test_a_long_depeg_is_met_by_a_late_one(self):
        """Although their starts are far apart; a bar that only touches another one is none at the same time."""
        long, late, next_bar = event("FRAX", 0, 1000), event("USDC", 200, 10), event("DAI", 1000, 5)

        table = tr.co_depegs([long, late, next_bar], observed=1.0).set_index(["asset_1", "asset_2"])

        assert (2, 1) == tuple(table.loc[("FRAX", "USDC"), ["n_episodes", "n_together"]])
        assert 0 == table.loc[("DAI", "FRAX"), "n_together"]

    def test_only_the_common_time_counts(self):
        """Of coins that were never listed at once there is no rate."""
        day = timedelta(days=1)
        observed = {
            "BUSD": (T0, T0 + 500 * day),
            "usdc": (T0 + 135 * day, T0 + 900 * day),
            "PYUSD": (T0 + 600 * day, T0 + 900 * day),
        }
        starts = [("BUSD", 10), ("BUSD", 24 * 200), ("USDC", 24 * 200 + 2), ("USDC", 24 * 700)]

        table = tr.co_depegs([event(coin, hour, 5) for coin, hour in starts], observed=observed)

        table = table.set_index(["asset_1", "asset_2"])
        row = table.loc[("BUSD", "USDC")]
        assert (1.0, 1, 1) == (row["observed_years"], row["n_episodes"], row["n_together"])
        assert (0.0, 0) == tuple(table.loc[("BUSD", "PYUSD"), ["observed_years", "n_together"]])
        assert table.loc[("BUSD", "PYUSD"), "rate_together"] is pd.NA
        for wrong, message in (((T0, T0), "must end after it begins"), (2.0, "must be two times like the others")):
            with pytest.raises(ValueError, match=message):
                tr.co_depegs([], observed=observed | {"DAI": wrong})
        with pytest.raises(InsufficientDataError, match="observed says nothing of GHO"):
            tr.co_depegs([event("GHO", 0, 1)], observed=observed)

    def test_wrong_arguments(self):
        """Named."""
        with pytest.raises(InsufficientDataError, match="observed says nothing of DAI"):
            tr.co_depegs([event("DAI", 0, 1)], observed={"USDC": 1.0})
        with pytest.raises(ValueError, match="must hold DepegEvent records"):
            tr.co_depegs([1], observed=1.0)
        with pytest.raises(ValueError, match="episode_window"):
            tr.co_depegs([], observed=1.0, episode_window=-HOUR)
        assert tr.co_depegs([], observed=1.0).empty


class TestClusters:
    """Groups of coins."""

    NAMES = ("USDT", "USDC", "DAI", "FRAX")
    VALUES = ((1, 0.1, 0.0, 0.2), (0.1, 1, 0.95, 0.8), (0.0, 0.95, 1, 0.7), (0.2, 0.8, 0.7, 1))

    @pytest.mark.parametrize(
        ("threshold", "expected"),
        [
            (0.99, [("DAI",), ("FRAX",), ("USDC",), ("USDT",)]),
            (0.9, [("DAI", "USDC"), ("FRAX",), ("USDT",)]),
            (0.7, [("DAI", "FRAX", "USDC"), ("USDT",)]),
            (-1.0, [("DAI", "FRAX", "USDC", "USDT")]),
        ],
    )
    def test_merged_up_to_a_correlation(self, threshold, expected):
        """Average linkage: FRAX is at 0.748 from the other two."""
        assert expected == tr.coin_clusters(matrix(self.VALUES, self.NAMES), threshold=threshold)

    def test_the_order_of_assets_does_not_matter(self):
        """Nor do few assets."""
        whole = matrix(self.VALUES, self.NAMES)
        for order in itertools.permutations(self.NAMES):
            assert tr.coin_clusters(whole) == tr.coin_clusters(whole.select(order))
        assert [("DAI",)] == tr.coin_clusters(whole.select(["DAI"]))
        assert [] == tr.coin_clusters(whole.select([]))
        with pytest.raises(ValueError, match="must be a CorrelationMatrix, found int"):
            tr.coin_clusters(3)


class TestTail:
    """The worst returns at once."""

    @given(st.integers(20, 200), st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 0.3]), st.booleans())
    @settings(max_examples=80)
    def test_counts_equal_the_plain_ones(self, n, seed, share, ties):
        """Ties beyond the tail are left out of it; too few are no estimate."""
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(n, 2)) + rng.normal(size=(n, 1))
        values = np.round(values, 1) if ties else values

        table = tr.tail_dependence(pd.DataFrame(values, columns=["USDC", "DAI"]), share=share)

        joint, in_tail = plain_tail(values[:, 0].tolist(), values[:, 1].tolist(), share)
        smallest = min(plain_tail(x.tolist(), x.tolist(), share)[0] for x in values.T)
        assert (smallest < 5) == table.empty
        if not table.empty:
            row = table.iloc[0]
            assert ("DAI", "USDC", n, in_tail, joint) == (
                row["asset_1"], row["asset_2"], row["observations"], row["n_tail"], row["n_joint"],
            )  # fmt: skip
            assert 0.0 <= row["low"] <= row["tail_dependence"] <= row["high"] <= 1.0

    def test_independent_rows_have_the_exact_binomial_interval(self):
        """Where blocks vary no more than independent rows do."""
        rng = np.random.default_rng(3)
        table = tr.tail_dependence(pd.DataFrame(rng.normal(size=(2000, 2)), columns=["DAI", "USDC"]))

        row = table.iloc[0]
        exact = scipy.stats.binomtest(int(row["n_joint"]), 100).proportion_ci(0.95, method="exact")
        assert row["low"] <= exact.low + 1e-9
        assert row["high"] >= exact.high - 1e-9
        assert row["low"] <= 0.05 <= row["high"]

    def test_clustered_tails_are_wider(self):
        """Every row ten times over is worth no more than once."""
        rng = np.random.default_rng(4)
        once = rng.normal(size=(400, 2)) + rng.normal(size=(400, 1))
        often = np.repeat(once, 10, axis=0) + 1e-9 * rng.normal(size=(4000, 2))
        widths = []
        for values in (once, often):
            row = tr.tail_dependence(pd.DataFrame(values, columns=["DAI", "USDC"])).iloc[0]
            widths.append(row["high"] - row["low"])

        assert widths[1] > 0.8 * widths[0]

    def test_gaps_few_rows_and_wrong_arguments(self):
        """Pairs that cannot be estimated are left out."""
        rng = np.random.default_rng(5)
        returns = pd.DataFrame(rng.normal(size=(200, 3)), columns=["DAI", "USDC", "GHO"])
        returns.loc[100:, "GHO"] = np.nan

        table = tr.tail_dependence(returns, share=0.05, min_observations=101)

        assert [("DAI", "USDC")] == list(zip(table["asset_1"], table["asset_2"], strict=True))
        assert json.loads(table.to_json())
        for share in (0.0, 0.51, float("nan")):
            with pytest.raises(ValueError, match="share must be"):
                tr.tail_dependence(returns, share=share)
