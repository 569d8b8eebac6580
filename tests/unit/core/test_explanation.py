"""Why the value at risk changed: closed forms, every order replaced one by one, and what must always hold."""

from __future__ import annotations

import json
import math

import attrs
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tonsurance_risk as tr
from oracle.plain_explanation import plain_parts, plain_shortfall, plain_var
from tonsurance_risk.core import explanation
from tonsurance_risk.core.explanation import PARTS

RUN = tr.Scenario("run", 0.2, prices={"USDC": 0.5})
CALM = tr.Scenario("calm", 0.8)


def vault(coverage=100_000.0, capital=1e6, **options):
    """Return a vault that pays half its coverage of USDC at a price of 0.5."""
    return tr.Vault(capital, [tr.Policy("P1", "USDC", coverage, 0.75, 0.25)], **options)


def values(change):
    """Return the parts of a measure as plain numbers."""
    return {part: estimate.value for part, estimate in change.parts.items()}


def only(part, amount):
    """Return parts of which one has everything."""
    return dict.fromkeys(PARTS, 0.0) | {part: amount}


class TestClosedForms:
    """Nothing moves by chance: the losses are those of the scenarios, and VaR 95 is the loss of the run."""

    @pytest.mark.parametrize(
        ("book", "scenarios", "part", "change"),
        [
            (vault(120_000.0), (RUN, CALM), "vault", 10_000.0),
            (vault(aggregate_limit=30_000.0), (RUN, CALM), "vault", -20_000.0),
            (vault(), (attrs.evolve(RUN, prices={"USDC": 0.6}), CALM), "scenarios", -20_000.0),
            (vault(), (attrs.evolve(RUN, probability=0.01), CALM), "scenarios", -50_000.0),
            (vault(), (attrs.evolve(RUN, weight=0.01), CALM), "scenarios", -50_000.0),
            (vault(capital=2e6), (RUN, CALM), "vault", 0.0),
        ],
    )
    def test_one_input(self, book, scenarios, part, change):
        """All of the change is its part; capital has no part in a loss."""
        explained = tr.explain_change(
            tr.simulate_losses(vault(), [RUN, CALM]), tr.simulate_losses(book, scenarios)
        )

        assert only(part, change) == pytest.approx(values(explained.measures["var_95"]), abs=1e-9)
        assert 2 == explained.n_runs

    def test_two_inputs_that_multiply(self):
        """Coverage a pays the share p: the parts are (a' - a)(p + p') / 2 and (p' - p)(a + a') / 2."""
        worse = attrs.evolve(RUN, prices={"USDC": 0.3})
        explained = tr.explain_change(
            tr.simulate_losses(vault(), [RUN, CALM]), tr.simulate_losses(vault(160_000.0), [worse, CALM])
        )

        for measure in ("var_95", "var_99", "cvar_95", "cvar_99"):
            found = values(explained.measures[measure])
            assert 60_000 * (0.5 + 0.9) / 2 == pytest.approx(found["vault"])
            assert 0.4 * (100_000 + 160_000) / 2 == pytest.approx(found["scenarios"])
            assert 0.0 == found["correlations"] == found["prices_and_volatility"] == found["sampling_noise"]

    def test_bitcoin_and_its_volatility(self):
        """A lognormal has a known quantile: each part within 4 standard errors of the closed form."""

        def quantile(value, sigma):
            return value * (1.0 - math.exp(-sigma * stats.norm.ppf(0.95) - sigma**2 / 2.0))

        def sample(value, sigma):
            return tr.simulate_losses(
                tr.Vault(1e6, [], btc_value=value), [CALM], volatility={"BTC": sigma}, n=30_000
            )

        change = tr.explain_change(sample(1e5, 0.1), sample(2e5, 0.3)).measures["var_95"]

        q = {(b, s): quantile(b, s) for b in (1e5, 2e5) for s in (0.1, 0.3)}
        exact = {
            "vault": (q[2e5, 0.1] - q[1e5, 0.1] + q[2e5, 0.3] - q[1e5, 0.3]) / 2.0,
            "prices_and_volatility": (q[1e5, 0.3] - q[1e5, 0.1] + q[2e5, 0.3] - q[2e5, 0.1]) / 2.0,
        }
        for part, expected in exact.items():
            estimate = change.parts[part]
            assert abs(estimate.value - expected) < 4.0 * estimate.standard_error
            assert estimate.standard_error < 0.02 * expected

    def test_correlation_of_two_normal_losses(self):
        """Payouts that are linear where prices are: the loss is nearly normal with variance c^2 s^2 (2 + 2 rho)."""
        c, s = 1e5, 0.001
        book = tr.Vault(1e6, [tr.Policy(coin, coin, c, 2.0, 1e-9) for coin in ("USDC", "DAI")])

        def sample(rho):
            matrix = pd.DataFrame([[1.0, rho], [rho, 1.0]], index=["USDC", "DAI"], columns=["USDC", "DAI"])
            return tr.simulate_losses(book, [CALM], correlation=matrix, volatility={"USDC": s, "DAI": s}, n=30_000)

        change = tr.explain_change(sample(0.1), sample(0.9)).measures["var_99"]

        root = math.sqrt(2.0 + 2.0 * 0.9) - math.sqrt(2.0 + 2.0 * 0.1)
        expected = stats.norm.ppf(0.99) * c / 2.0 * s * root
        assert abs(change.parts["correlations"].value - expected) < 4.0 * change.change.standard_error
        assert change.parts["correlations"] == change.change
        assert change.change.standard_error < 0.1 * expected

    def test_noise_alone(self):
        """Another seed and n: all of the change is noise, and 0 is within 3 standard errors of it."""
        book = tr.Vault(1e6, [], btc_value=1e5)
        first, then = (
            tr.simulate_losses(book, [CALM], volatility={"BTC": 0.1}, n=n, seed=seed)
            for n, seed in ((5_000, 0), (8_000, 1))
        )
        explained = tr.explain_change(first, then)

        change = explained.measures["var_95"]
        assert only("sampling_noise", change.after - change.before) == values(change)
        assert change.parts["sampling_noise"].value != 0.0
        assert abs(change.parts["sampling_noise"].value) < 3.0 * change.parts["sampling_noise"].standard_error
        assert {"n": {"before": 5_000, "after": 8_000}, "seed": {"before": 0, "after": 1}} == {
            name: explained.drivers["sampling_noise"][name] for name in ("n", "seed")
        }


COINS = ("USDC", "DAI", "USDT")
AMOUNTS = st.sampled_from([1e4, 5e4, 1.3e5])
BOOKS = st.builds(
    lambda covered, btc: tr.Vault(
        1e6, [tr.Policy(coin, coin, amount, 0.98, 0.6) for coin, amount in covered.items()], btc_value=btc
    ),
    st.dictionaries(st.sampled_from(COINS), AMOUNTS, min_size=1),
    st.sampled_from([0.0, 2e4]),
)
SIGMAS = st.sampled_from([0.0, 0.01, 0.05])


def matrix_of(rho):
    """Return a matrix of the coins and Bitcoin with one correlation."""
    names = [*COINS, "BTC"]
    return pd.DataFrame(rho + (1.0 - rho) * np.eye(4), index=names, columns=names)


INPUTS = st.fixed_dictionaries(
    {
        "vault": BOOKS,
        "prices_and_volatility": st.fixed_dictionaries(dict.fromkeys((*COINS, "BTC"), SIGMAS)),
        "correlations": st.sampled_from([0.0, 0.4, 0.9]).map(matrix_of),
        "scenarios": st.sampled_from([0.02, 0.3]).map(
            lambda p: (attrs.evolve(RUN, probability=p, correlation_shift=0.2), CALM)
        ),
        "sampling_noise": st.tuples(st.sampled_from([400, 700]), st.integers(0, 2)),
    }
)


def simulated(inputs):
    """Return the run of such inputs."""
    n, seed = inputs["sampling_noise"]
    return tr.simulate_losses(
        inputs["vault"],
        inputs["scenarios"],
        correlation=inputs["correlations"],
        volatility=inputs["prices_and_volatility"],
        n=n,
        seed=seed,
    )


class TestLaws:
    @settings(max_examples=25)
    @given(INPUTS, INPUTS)
    def test_parts_are_the_mean_over_all_orders(self, before, after):
        """120 orders, one by one; and they sum to the change exactly."""
        explained = tr.explain_change(simulated(before), simulated(after), levels=[0.9])

        for name, measure in (("var_90", plain_var), ("cvar_90", plain_shortfall)):
            found = explained.measures[name]
            expected = plain_parts(
                before, after, lambda inputs, m=measure: m(simulated(inputs).losses.tolist(), 0.9)
            )
            assert expected == pytest.approx(values(found), rel=1e-9, abs=1e-6)
            assert math.fsum(values(found).values()) == found.change.value
            assert found.after - found.before == pytest.approx(found.change.value, rel=1e-12, abs=1e-9)

    @settings(max_examples=25)
    @given(INPUTS, st.sets(st.sampled_from(PARTS)), INPUTS)
    def test_what_did_not_change_has_no_part(self, before, changed, other):
        """Exactly 0, without error; equal inputs change nothing."""
        after = before | {part: other[part] for part in changed}
        explained = tr.explain_change(simulated(before), simulated(after))

        for change in explained.measures.values():
            for part in set(PARTS) - changed:
                estimate = change.parts[part]
                assert 0.0 == estimate.value
                assert estimate.standard_error in (0.0, None)

    @settings(max_examples=25)
    @given(INPUTS, INPUTS)
    def test_the_way_back_is_the_opposite(self, before, after):
        """Every order backwards is an order too."""
        there = tr.explain_change(simulated(before), simulated(after)).measures
        back = tr.explain_change(simulated(after), simulated(before)).measures

        for name, change in there.items():
            opposite = {part: -value for part, value in values(back[name]).items()}
            assert values(change) == pytest.approx(opposite, rel=1e-9, abs=1e-6)


def test_standard_errors_are_those_of_other_seeds():
    """Over 100 seeds the deviation of each part is within a third of what was said on average.

    A standard deviation of 100 has a standard error of 7 %, the mean of 100 errors from 32 groups one of 1 %.
    """

    def sample(book, sigma, rho, seed):
        return tr.simulate_losses(
            book,
            [attrs.evolve(RUN, prices={"USDC": 0.8}), CALM],
            correlation=matrix_of(rho),
            volatility=dict.fromkeys(COINS, sigma) | {"BTC": 0.1},
            n=4_000,
            seed=seed,
        )

    def book(amount):
        return tr.Vault(1e6, [tr.Policy(coin, coin, amount, 1.1, 0.6) for coin in COINS], btc_value=5e4)

    found = [
        tr.explain_change(sample(book(1e5), 0.02, 0.2, seed), sample(book(1.2e5), 0.03, 0.6, seed)).measures
        for seed in range(100)
    ]
    for measure in ("var_95", "cvar_95", "cvar_99"):
        for part in ("vault", "prices_and_volatility", "correlations"):
            estimates = [one[measure].parts[part] for one in found]
            observed = np.std([estimate.value for estimate in estimates], ddof=1)
            stated = math.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates]))
            assert observed == pytest.approx(stated, rel=1 / 3), (measure, part)


def test_what_changed_is_named():
    """Policies, coverage, volatilities, pairs and scenarios, the largest first, and nothing that stayed."""
    old = tr.Vault(1e6, [tr.Policy(c, c, 1e5, 0.9, 0.5) for c in COINS], btc_value=1e4)
    new = tr.Vault(
        1.5e6,
        [tr.Policy("USDC", "USDC", 1.5e5, 0.9, 0.5), tr.Policy("DAI", "DAI", 1e5, 0.9, 0.5), tr.Policy("N", "GHO", 2e5, 0.9, 0.5)],
        btc_value=2e4,
    )  # fmt: skip
    matrix = matrix_of(0.3)
    moved = matrix.copy()
    moved.loc["USDC", "DAI"] = moved.loc["DAI", "USDC"] = 0.9
    first = tr.simulate_losses(
        old, [RUN, CALM], correlation=matrix, volatility={"USDC": 0.01, "DAI": 0.01, "BTC": 0.1}, n=500
    )
    then = tr.simulate_losses(
        new,
        [attrs.evolve(RUN, probability=0.6), CALM, tr.Scenario("new", 0.6)],
        correlation=moved,
        volatility={"USDC": 0.011, "DAI": 0.05, "BTC": 0.1, "GHO": 0.02},
        n=500,
    )

    drivers = tr.explain_change(first, then).drivers

    assert drivers["vault"] == {
        "capital_change_usd": 5e5,
        "btc_value_change_usd": 1e4,
        "coverage_change_usd": 1.5e5,
        "aggregate_limit_usd": {"before": None, "after": None},
        "policies_added": 1,
        "policies_removed": 1,
        "policies_changed": 1,
        "coverage_by_asset": [
            {"asset": "GHO", "change_usd": 2e5},
            {"asset": "USDT", "change_usd": -1e5},
            {"asset": "USDC", "change_usd": 5e4},
        ],
    }
    assert drivers["prices_and_volatility"] == [
        {"asset": "GHO", "before": None, "after": 0.02},
        {"asset": "DAI", "before": 0.01, "after": 0.05},
        {"asset": "USDC", "before": 0.01, "after": 0.011},
    ]
    assert drivers["correlations"] == [{"asset_1": "DAI", "asset_2": "USDC", "before": 0.3, "after": 0.9}]
    assert [(row["scenario"], row["changed"]) for row in drivers["scenarios"]] == [
        ("calm", []),
        ("new", []),
        ("run", ["probability"]),
    ]
    assert [0.8, None, 0.2] == pytest.approx([row["share_before"] for row in drivers["scenarios"]])
    assert [0.4, 0.3, 0.3] == pytest.approx([row["share_after"] for row in drivers["scenarios"]])


def test_a_new_coin_of_ones_own_belongs_to_the_vault():
    """With its volatility and in scenarios that the old book does not know."""
    new = tr.Vault(
        1e6, [tr.Policy("P1", "USDC", 1e5, 0.75, 0.25), tr.Policy("P2", "EURX", 1e5, 1.1, 0.25)], assets=["EURX"]
    )
    fall = attrs.evolve(RUN, prices={"USDC": 0.5, "EURX": 0.6})
    first = tr.simulate_losses(vault(), [RUN, CALM], volatility={"USDC": 0.01})
    then = tr.simulate_losses(new, [fall, CALM], volatility={"USDC": 0.01, "EURX": 0.02})

    found = values(tr.explain_change(first, then).measures["var_95"])

    assert 0.0 == found["prices_and_volatility"]
    assert found["vault"] > 0.0
    assert found["scenarios"] > 0.0


def test_few_simulations_have_no_interval():
    """Of 500 simulations 5 lie beyond 99 %."""
    explained = tr.explain_change(
        tr.simulate_losses(vault(), [RUN, CALM], n=500), tr.simulate_losses(vault(2e5), [RUN, CALM], n=500)
    )

    estimate = explained.measures["var_99"].parts["vault"]
    assert (None, None, None) == (estimate.low, estimate.high, estimate.standard_error)
    assert "only 5 losses are expected beyond the level" in estimate.note
    assert explained.measures["var_95"].parts["vault"].low is not None


def test_ten_losses_beyond_a_level_are_ten():
    """And not 9.999999999999998, as floats have 10 % of 100."""
    explained = tr.explain_change(
        tr.simulate_losses(vault(), [RUN, CALM], n=100),
        tr.simulate_losses(vault(2e5), [RUN, CALM], n=100),
        levels=[0.9],
    )

    assert explained.measures["var_90"].parts["vault"].low is not None


def test_spelling_of_a_volatility_is_no_change():
    """A sample has it under the symbol of the coin."""
    lower, upper = (
        tr.simulate_losses(vault(), [RUN, CALM], n=500, volatility={symbol: 0.02}) for symbol in ("usdc", "USDC")
    )

    change = tr.explain_change(lower, upper).measures["var_95"]

    assert {"USDC": 0.02} == lower.inputs.volatility
    assert {0.0} == set(values(change).values())


def test_as_table_and_document():
    """A row a measure and part, and JSON without NaN."""
    explained = tr.explain_change(
        tr.simulate_losses(vault(), [RUN, CALM], n=500), tr.simulate_losses(vault(2e5), [RUN, CALM], n=500)
    )

    table = explained.to_frame()
    assert [*PARTS, "change"] == list(table.loc["var_99"].index)
    assert 50_000.0 == table.loc[("var_95", "change"), "value"] == table.loc[("var_95", "vault"), "low"]
    assert table.loc["var_99", "low"].isna().all()
    document = json.loads(json.dumps(explained.to_dict(), allow_nan=False))
    assert ("shapley", 2) == (document["method"], document["n_runs"])
    assert 50_000.0 == document["measures"]["var_95"]["parts"]["vault"]["value"]


def test_the_section_of_a_report():
    """Says since when, and what the earlier report published of each measure; without one it says why."""
    before, after = (tr.simulate_losses(vault(coverage), [RUN, CALM], n=500) for coverage in (1e5, 2e5))
    run = explanation.EarlierRun(
        as_of=pd.Timestamp("2024-06-29 02:00", tz="UTC"),
        run_inputs_sha256="ab12",
        sample=before,
        published={"var_95": 49_999.0},
    )

    section = explanation.explained(run, after)["var_explanation"]

    assert "2024-06-29T02:00:00Z" == section["since"]
    assert 100_000.0 == section["measures"]["var_95"]["after"]
    assert (49_999.0, None) == tuple(
        section["measures"][name]["published_before"] for name in ("var_95", "var_99")
    )
    assert {
        "as_of": "2024-06-29T02:00:00Z",
        "run_inputs_sha256": "ab12",
        "published": {"var_95": 49_999.0},
    } == run.to_dict()
    assert {
        "var_explanation": None,
        "var_explanation_reason": "there is no earlier report with its inputs",
    } == explanation.explained(None, after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"before": 1.0}, "before must be a LossSample, found float"),
        ({"after": tr.simulate_losses(vault(), [CALM], n=64, sampling="sobol")}, "after must be of one of the sampl.*sobol"),
        ({"after": tr.simulate_losses(vault(), [CALM], n=64, keep="tail")}, "after must hold all losses.*tail"),
        ({"levels": []}, "levels must be"),
        ({"levels": 0.95}, "levels must be"),
        ({"levels": [95]}, "level"),
    ],
)  # fmt: skip
def test_wrong_arguments(arguments, message):
    """Named, with what is accepted."""
    sample = tr.simulate_losses(vault(), [RUN, CALM], n=100)

    with pytest.raises(ValueError, match=message):
        tr.explain_change(**{"before": sample, "after": sample} | arguments)
