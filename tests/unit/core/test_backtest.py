"""Backtests of value at risk and expected shortfall, against published tables and plain loops."""

from __future__ import annotations

import json
import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import tonsurance_risk as tr
from oracle.plain_backtest import (
    BASEL_TABLE_2,
    KUPIEC_NOT_REJECTED,
    plain_binomial,
    plain_independence,
    plain_kupiec,
    plain_z2,
)

LEVEL = 0.975


def backtest(hits, level, **options):
    """Backtest losses of 2 where there is a hit against a value at risk of 1."""
    return tr.backtest_var(2.0 * np.asarray(hits, dtype=float), np.ones(len(hits)), level, **options)


def spread(n, x):
    """Return n days, x of them exceptions, evenly spread."""
    hits = np.zeros(n, dtype=bool)
    hits[np.linspace(0, n - 1, x).astype(int)] = True
    return hits


def chain(n00, n01, n10, n11):
    """Return states with these transitions, from 0; n01 = n10."""
    assert n01 == n10
    hits = [0]
    for k in range(n01):
        hits += [1] * (1 + (n11 if k == 0 else 0)) + [0]
    return np.array(hits + [0] * (n00), dtype=bool)


class TestPublished:
    @pytest.mark.parametrize(
        ("p", "n", "bounds"),
        [(p, n, bounds) for p, row in KUPIEC_NOT_REJECTED.items() for n, bounds in row.items()],
    )
    def test_kupiec(self, p, n, bounds):
        """Just inside the published region not rejected, at its bounds rejected.

        The published region of p = 0.01, T = 255 is N < 7; the statistic of no exception at all, 5.13, is beyond
        3.84 though, so its lower end is not compared.
        """
        low, high = bounds
        level = float(1 - Fraction(str(p)))

        def rejected(x):
            return backtest(spread(n, x), level, n_simulations=100).unconditional_coverage.p_value <= 0.05

        assert rejected(high)
        assert not rejected(high - 1)
        assert low is None or (rejected(low) and not rejected(low + 1))

    @pytest.mark.parametrize(("x", "zone", "plus", "percent"), BASEL_TABLE_2)
    def test_the_traffic_light(self, x, zone, plus, percent):
        """Zones, plus factors and cumulative probabilities of 250 days at 99 %."""
        light = backtest(spread(250, x), 0.99, n_simulations=100).traffic_light

        assert (zone, plus, 5, 10) == (light.zone, light.plus_factor, light.yellow_from, light.red_from)
        assert percent == pytest.approx(100 * light.cumulative_probability, abs=0.0051)

    def test_the_errors_of_the_traffic_light(self):
        """Basel Committee (1996), table 1: of a right model 10.8 % have 5 or more; at 98 % coverage 43.9 % have fewer."""
        row = backtest(spread(250, 3), 0.99).power.loc["traffic_light"]

        assert (0.108, 0.439) == (round(row["size"], 3), round(1.0 - row["power"], 3))

    def test_christoffersen(self):
        """The worked example of the Risk Management Toolbox, help of `varbacktest.cc` and `tl`: 1043 days at 95 %."""
        result = backtest(chain(932, 53, 53, 4), 0.95)

        assert [[932, 53], [53, 4]] == result.transitions.tolist()
        assert (1043, 57) == (result.n, result.n_exceptions)
        found = [result.unconditional_coverage, result.independence, result.conditional_coverage]
        assert [0.46147, 0.25866, 0.72013] == [round(test.statistic, 5) for test in found]
        assert [0.49694, 0.61104, 0.69763] == [round(test.p_value, 5) for test in found]
        assert (0.77913, "green") == (
            round(result.traffic_light.cumulative_probability, 5),
            result.traffic_light.zone,
        )
        assert result.traffic_light.plus_factor is None


class TestVar:
    @given(st.lists(st.booleans(), min_size=1, max_size=60), st.sampled_from([0.5, 0.75, 0.9, 0.95, 0.99]))
    def test_statistics_are_those_of_plain_loops(self, hits, level):
        """Whatever cells are empty; what has no information says so."""
        result = backtest(hits, level, n_simulations=100)

        p = float(1 - Fraction(str(level)))
        kupiec, independence = plain_kupiec(hits, p), plain_independence(hits)
        assert kupiec == pytest.approx(result.unconditional_coverage.statistic, abs=1e-9)
        assert stats.chi2.sf(kupiec, 1) == pytest.approx(result.unconditional_coverage.p_value, abs=1e-6)
        if independence is None:
            assert result.independence.statistic is result.independence.p_value is None
            assert "no observation" in result.independence.note
            assert result.conditional_coverage.statistic is None
        else:
            assert independence == pytest.approx(result.independence.statistic, abs=1e-9)
            assert kupiec + independence == pytest.approx(result.conditional_coverage.statistic, abs=1e-9)
            assert 2 == result.conditional_coverage.degrees_of_freedom
        assert stats.binomtest(sum(hits), len(hits), p).pvalue == result.binomial_p_value
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["n_exceptions"] == sum(hits)
        assert 5 == len(result.to_frame())

    def test_an_exception_is_a_loss_beyond(self):
        """A loss of exactly the value at risk is none."""
        result = tr.backtest_var([1.0, 1.0 + 1e-12, -5.0, 3.0], [1.0, 1.0, 1.0, 2.0], 0.9)

        assert [False, True, False, True] == result.exceptions.tolist()
        assert 0.4 == result.expected_exceptions

    @pytest.mark.parametrize(("n", "level"), [(60, 0.95), (250, 0.99)])
    def test_exact_powers(self, n, level):
        """Sums over all numbers of exceptions, with exact probabilities and rules asked one by one."""
        result = backtest(spread(n, 1), level, n_simulations=100)

        p = 1 - Fraction(str(level))
        rejected = {"unconditional_coverage": [], "binomial": [], "traffic_light": []}
        null = plain_binomial(n, p)
        for x in range(n + 1):
            one = plain_kupiec([True] * x + [False] * (n - x), float(p))
            rejected["unconditional_coverage"].append(stats.chi2.sf(one, 1) <= 0.05)
            rejected["binomial"].append(stats.binomtest(x, n, float(p)).pvalue <= 0.05)
            rejected["traffic_light"].append(sum(null[: x + 1]) >= 0.95)
        for test, rejects in rejected.items():
            for column, rate in (("size", p), ("power", 2 * p)):
                weights = plain_binomial(n, rate)
                expected = sum(weight for weight, out in zip(weights, rejects, strict=True) if out)
                assert expected == pytest.approx(result.power.loc[test, column], rel=1e-9), (test, column)

    def test_simulated_powers(self):
        """A chain simulated step by step, 2,000 times: within 4 standard errors of both (by chance once in 5,000)."""
        n, p, rho = 100, 0.05, 0.25
        power = backtest(spread(n, 5), 0.95).power

        rng = np.random.default_rng(7)
        counts = np.zeros(3)
        for _ in range(2000):
            states = {}
            for case, (rate, correlation) in enumerate([(p, 0.0), (p, rho), (2 * p, rho)]):
                hits = [rng.random() < rate]
                for _ in range(n - 1):
                    hits.append(
                        rng.random() < (rate + correlation * (1 - rate) if hits[-1] else rate * (1 - correlation))
                    )
                states[case] = hits
            for case, hits in states.items():
                ratio = plain_independence(hits)
                if ratio is not None:
                    joint = case == 2
                    total = ratio + (plain_kupiec(hits, p) if joint else 0.0)
                    counts[case] += stats.chi2.sf(total, 2 if joint else 1) <= 0.05
        shares = counts / 2000
        found = [
            power.loc["independence", "size"],
            power.loc["independence", "power"],
            power.loc["conditional_coverage", "power"],
        ]
        errors = np.sqrt(np.array(found) * (1 - np.array(found)) * (1 / 2000 + 1 / 4000))
        assert (np.abs(shares - found) < 4 * errors).all(), (shares, found)
        assert (power["standard_error"] < 0.01).all()

    def test_the_same_seed_gives_the_same_powers(self):
        """And another one others; statistics do not depend on it."""
        hits = spread(250, 4)

        assert backtest(hits, 0.99, seed=1) == backtest(hits, 0.99, seed=1)
        assert not backtest(hits, 0.99, seed=1).power.equals(backtest(hits, 0.99, seed=2).power)
        assert pickle.loads(pickle.dumps(backtest(hits, 0.99))) == backtest(hits, 0.99)

    def test_series_are_aligned_by_their_index(self):
        """Another order, other stamps or another length are refused; equal indexes are taken."""
        index = pd.date_range("2024-01-01", periods=3, freq="D", tz="UTC")
        losses, var = pd.Series([0.0, 2.0, 0.0], index), pd.Series(1.0, index)

        assert 1 == tr.backtest_var(losses, var, 0.9).n_exceptions
        with pytest.raises(
            ValueError, match="losses and var must have the same index, .* differ first at position 0"
        ):
            tr.backtest_var(losses, var.iloc[::-1], 0.9)
        with pytest.raises(ValueError, match="3 and 2 rows"):
            tr.backtest_var(losses, var.iloc[:2], 0.9)
        with pytest.raises(ValueError, match="index of losses must be strictly increasing"):
            tr.backtest_var(losses.iloc[::-1], var.iloc[::-1], 0.9)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([], [], 0.99), "losses must hold at least one"),
            (([1.0], 1.0, 0.99), "var must be numbers: 'float' object is not iterable"),
            (([1.0], [1.0, 2.0], 0.99), r"var must be as many as losses \(1\), found 2"),
            (([1.0], [np.nan], 0.99), "must be finite"),
            (([1.0], [1.0], 99), "did you mean 0.99"),
        ],
    )
    def test_refusals(self, arguments, message):
        """Named."""
        with pytest.raises(ValueError, match=message):
            tr.backtest_var(*arguments)


def normal(n):
    """Return value at risk and expected shortfall of n standard normal losses, and their law."""
    quantile = stats.norm.ppf(LEVEL)
    return (
        np.full(n, quantile),
        np.full(n, stats.norm.pdf(quantile) / (1 - LEVEL)),
        lambda rng: rng.standard_normal(n),
    )


def student(n, degrees):
    """Return the same of Student t losses."""
    quantile = stats.t.ppf(LEVEL, degrees)
    mean = stats.t.pdf(quantile, degrees) / (1 - LEVEL) * (degrees + quantile**2) / (degrees - 1)
    return np.full(n, quantile), np.full(n, mean), lambda rng: rng.standard_t(degrees, n)


class TestExpectedShortfall:
    @pytest.mark.parametrize(
        ("law", "size", "published", "tolerance"),
        [
            # Acerbi and Szekely (2014): -0.70 at 5 % for 250 days, nearly whatever the tail.
            (normal(250), 0.05, 0.70, 0.03),
            (student(250, 10), 0.05, 0.70, 0.04),
            # Risk Management Toolbox, help of `unconditionalNormal` and `unconditionalT` (3 degrees of freedom):
            # 1966 days at 97.5 %, interpolated in its tables.
            (normal(1966), 0.01, 0.34639, 0.02),
            (student(1966, 3), 0.01, 0.42986, 0.03),
        ],
    )
    def test_critical_values_are_the_published_ones(self, law, size, published, tolerance):
        """Within 3 standard errors of a quantile of 4,999 simulations, sign adapted; the seed is fixed."""
        var, shortfall, simulate = law

        result = tr.backtest_expected_shortfall(np.zeros(len(var)), var, shortfall, LEVEL, simulate=simulate)

        assert published == pytest.approx(result.critical_values[size], abs=tolerance)
        assert "" == result.note
        assert (-1.0, 1.0) == (result.statistic, result.p_value)

    @given(st.integers(0, 2**32), st.integers(1, 300))
    def test_the_statistic_is_minus_z2(self, seed, n):
        """For any series of value at risk and expected shortfall."""
        rng = np.random.default_rng(seed)
        var = rng.uniform(-1.0, 1.0, n)
        shortfall = np.maximum(var, 0.01) + rng.uniform(0.0, 2.0, n)
        losses = rng.normal(0.0, 2.0, n)

        result = tr.backtest_expected_shortfall(
            losses, var, shortfall, 0.9, simulate=lambda _rng: losses, n_replications=99
        )

        assert -plain_z2(losses, var, shortfall, 0.9) == pytest.approx(result.statistic, abs=1e-9)
        # Every simulation is the sample: all are at least as large.
        assert 1.0 == result.p_value

    def test_p_value_critical_value_and_rejection_agree(self):
        """(k + 1) / (R + 1), counted by hand; rejected exactly where it is beyond the critical value."""
        var, shortfall, simulate = normal(250)
        for scale in (0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0):
            losses = scale * np.random.default_rng(3).standard_normal(250)
            result = tr.backtest_expected_shortfall(
                losses, var, shortfall, LEVEL, simulate=simulate, n_replications=999
            )

            assert (1 + np.sum(result.null >= result.statistic)) / 1000 == result.p_value
            assert result.rejected == (result.statistic > result.critical_values[0.05])
            assert (result.p_value <= 0.01) == result.to_frame().loc[0.01, "rejected"]

    def test_the_size_is_what_is_said(self):
        """Of 400 right models 20 are rejected on average; 3 standard errors are 13 (by chance once in 300)."""
        var, shortfall, simulate = normal(100)
        rng = np.random.default_rng(11)

        rejected = sum(
            tr.backtest_expected_shortfall(
                rng.standard_normal(100), var, shortfall, LEVEL, simulate=simulate, n_replications=99, seed=k
            ).rejected
            for k in range(400)
        )

        assert 7 <= rejected <= 33

    def test_the_power_is_that_of_larger_losses(self):
        """Samples scaled by 1.2, tested one by one: within 4 standard errors."""
        var, shortfall, simulate = normal(250)
        result = tr.backtest_expected_shortfall(np.zeros(250), var, shortfall, LEVEL, simulate=simulate)
        rng = np.random.default_rng(5)

        found = np.mean(
            [
                -plain_z2(1.2 * rng.standard_normal(250), var, shortfall, LEVEL) > result.critical_values[0.05]
                for _ in range(1000)
            ]
        )

        assert "every loss is 20% larger" == result.alternative
        assert found == pytest.approx(result.power, abs=4 * np.sqrt(0.25 / 1000))
        assert 0.2 < result.power < 0.8
        assert 0.0 < result.power_error < 0.01

    def test_a_law_that_does_not_fit_is_noted(self):
        """Losses twice as large, and a book with an atom at its value at risk."""
        var, shortfall, _ = normal(250)
        wide = tr.backtest_expected_shortfall(
            np.zeros(250),
            var,
            shortfall,
            LEVEL,
            simulate=lambda rng: 2.0 * rng.standard_normal(250),
            n_replications=499,
        )
        atom = tr.backtest_expected_shortfall(
            np.zeros(250), np.ones(250), np.full(250, 1.2), 0.9, n_replications=499,
            simulate=lambda rng: rng.choice([0.0, 1.0, 2.0], 250, p=[0.5, 0.48, 0.02]),
        )  # fmt: skip

        assert "not of the law" in wide.note
        assert "is -0.66" in atom.note or "is -0.67" in atom.note

    def test_records(self):
        """JSON, equality, pickling, the same seed the same."""
        var, shortfall, simulate = normal(50)
        one, two = (
            tr.backtest_expected_shortfall(
                np.ones(50), var, shortfall, LEVEL, simulate=simulate, n_replications=199
            )
            for _ in range(2)
        )

        assert one == two == pickle.loads(pickle.dumps(one))
        document = json.loads(json.dumps(one.to_dict(), allow_nan=False))
        assert one.critical_values[0.05] == document["critical_values"]["0.05"]
        assert 199 == document["n_replications"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"expected_shortfall": np.ones(50)}, "expected_shortfall must be > 0 and at least var, found 1 at position 0"),
            ({"expected_shortfall": np.zeros(50), "var": np.zeros(50)}, "expected_shortfall must be > 0"),
            ({"simulate": lambda rng: rng.standard_normal(49)}, r"simulate must return 50 finite losses, found the shape \(49,\)"),
            ({"simulate": lambda rng: np.full(50, np.nan)}, "simulate must return 50 finite"),
            ({"simulate": lambda rng: ["x"] * 50}, "simulate must return 50 losses"),
            ({"n_replications": 50}, "n_replications must be a whole number >= 99"),
            ({"excess": 0.0}, "excess"),
            ({"losses": [1.0]}, "var must be as many as losses"),
            ({"level": 97.5}, "did you mean 0.975"),
        ],
    )  # fmt: skip
    def test_refusals(self, change, message):
        """Named."""
        var, shortfall, simulate = normal(50)
        given_ = {
            "losses": np.zeros(50),
            "var": var,
            "expected_shortfall": shortfall,
            "level": LEVEL,
            "simulate": simulate,
        }

        with pytest.raises(ValueError, match=message):
            tr.backtest_expected_shortfall(**(given_ | change))


@pytest.mark.parametrize(("n", "level"), [(5, 0.99), (50, 0.999), (1, 0.99999)])
def test_a_record_without_exceptions_is_green(n, level):
    """However few days: the cumulative probability of none is beyond 95 % there, but nothing was seen."""
    result = tr.backtest_var(np.zeros(n), np.ones(n), level)

    assert "green" == result.traffic_light.zone
    assert 1 <= result.traffic_light.yellow_from <= result.traffic_light.red_from
    assert not result.to_frame().loc["traffic_light", "rejected"]


def test_a_level_of_any_kind_is_kept_as_a_float():
    """So that a record has a form in JSON."""
    var, shortfall = np.ones(4), np.full(4, 2.0)
    results = (
        tr.backtest_var(np.zeros(4), var, np.float32(0.75)),
        tr.backtest_expected_shortfall(
            np.zeros(4), var, shortfall, np.float32(0.75), simulate=lambda rng: rng.normal(size=4)
        ),
    )

    for result in results:
        assert float is type(result.level)
        json.dumps(result.to_dict())
