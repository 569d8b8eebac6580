"""What one more policy changes: its table, and what a sample with it may be asked."""

from __future__ import annotations

import attrs
import pytest

import tonsurance_risk as tr

RUN, CALM = tr.Scenario("run", 0.25, prices={"USDC": 0.5}), tr.Scenario("calm", 0.75)
VAULT = tr.Vault(1e6, [tr.Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])


def test_near_levels_have_rows_of_their_own():
    """Also where six digits are the same."""
    sample = tr.simulate_losses(VAULT, [RUN, CALM], n=1000)

    effect = tr.marginal_risk(sample, tr.Policy("P2", "USDC", 1e4, 0.75, 0.25), levels=[0.99, 0.99, 0.9900000001])

    assert [
        "expected_loss", "value_at_risk 0.99", "expected_shortfall 0.99",
        "value_at_risk 0.9900000001", "expected_shortfall 0.9900000001",
    ] == effect.to_frame().index.tolist()  # fmt: skip


SIGMA = {"USDC": 0.05, "DAI": 0.05, "BTC": 0.5}
BOOK = tr.Vault(
    1e6,
    [tr.Policy("P1", "USDC", 1e5, 0.95, 0.6), tr.Policy("P3", "DAI", 5e4, 0.95, 0.6)],
    btc_value=2e4,
    aggregate_limit=3e5,
)
SCENARIOS = [
    tr.Scenario("run", 0.1, prices={"USDC": 0.7, "DAI": 0.9}, btc_change=-0.2),
    tr.Scenario("rare", 1e-5, prices={"USDC": 0.5}),
    tr.Scenario("calm", 0.89),
]


def both(policy, **options):
    """Return the sample with the policy added, and that of the vault which has it."""
    options = {"volatility": SIGMA, "n": 4096} | options
    whole = attrs.evolve(BOOK, policies=[*BOOK.policies, policy])
    added = tr.marginal_risk(tr.simulate_losses(BOOK, SCENARIOS, **options), policy).after
    return added, tr.simulate_losses(whole, SCENARIOS, **options)


def near(estimate):
    """Return the numbers of an estimate, to what payout tables may be off."""
    return pytest.approx([estimate.value, estimate.low, estimate.high, estimate.standard_error], rel=1e-4, abs=1.0)


NEW = tr.Policy("P2", "USDC", 4e5, 0.95, 0.6)


class TestTheSampleWithThePolicy:
    """Its measures are those of the vault that has it."""

    @pytest.mark.parametrize("kind", ["plain", "stratified", "antithetic"])
    @pytest.mark.parametrize("volatility", [SIGMA, SIGMA | {"USDC": 0.0}])
    def test_intervals(self, kind, volatility):
        """A stratum that was never drawn is taken at what its levels cost with the policy."""
        added, whole = both(NEW, volatility=volatility, sampling=kind)

        for level in (0.9, 0.95, 0.99):
            for name in ("value_at_risk", "expected_shortfall"):
                one, other = getattr(added, name)(level), getattr(whole, name)(level)
                assert [one.value, one.low, one.high, one.standard_error] == near(other), (name, level)
        one, other = added.probability_of_ruin(2e5), whole.probability_of_ruin(2e5)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-4)
        one, other = added.expected_loss(), whole.expected_loss()
        assert [one.value, one.low, one.high, one.standard_error] == near(other)
        assert added._design.level_losses == pytest.approx(whole._design.level_losses)
        assert added._design.largest_shocked == pytest.approx(whole._design.largest_shocked)

    def test_strata_of_importance_sampling(self):
        """Their centres cost what they cost with the policy."""
        added, _ = both(NEW, sampling="importance")
        without = tr.simulate_losses(BOOK, SCENARIOS, volatility=SIGMA, n=4096, sampling="importance")

        assert (added._design.level_losses >= without._design.level_losses).all()
        assert added._design.level_losses.max() > without._design.level_losses.max() + 5e4

    @pytest.mark.parametrize("volatility", [SIGMA, SIGMA | {"USDC": 0.0}, {}])
    def test_contributions(self, volatility):
        """By policy the new one has its own, and the sum is the expected shortfall."""
        added, whole = both(NEW, volatility=volatility)
        shortfall = added.expected_shortfall(0.95).value

        for by in ("asset", "policy", "scenario"):
            found = added.contributions(0.95, by)
            assert found.to_dict() == pytest.approx(whole.contributions(0.95, by).to_dict(), rel=1e-4, abs=1.0)
            assert shortfall == pytest.approx(found.sum(), rel=1e-9)
        estimates = added.contribution_estimates(0.95)
        assert added.contributions(0.95).to_dict() == pytest.approx(
            {asset: estimate.value for asset, estimate in estimates.items()}
        )

    def test_a_coin_that_was_not_covered(self):
        """Has its contribution too."""
        policy = tr.Policy("P2", "GHO", 4e5, 0.98, 0.6)

        added, _ = both(policy, volatility=SIGMA | {"GHO": 0.1})

        found = added.contributions(0.95)
        assert ["DAI", "USDC", "GHO", "BTC"] == found.index.tolist()
        by_policy = added.contributions(0.95, "policy")
        assert [found[coin] for coin in ("USDC", "DAI", "GHO")] == pytest.approx(
            by_policy[["P1", "P3", "P2"]].tolist()
        )
        assert found["GHO"] > 0.0
        assert added.expected_shortfall(0.95).value == pytest.approx(found.sum(), rel=1e-9)

    def test_refusals(self):
        """What would draw it again without its policy, or with other draws."""
        added, whole = both(NEW, n=500)
        message = "is of a book with policy 'P2' added: simulate that vault instead"

        for ask in (
            lambda: tr.marginal_risk(added, attrs.evolve(NEW, policy_id="P4")),
            lambda: tr.explain_change(whole, added),
            lambda: tr.explain_change(added, whole),
        ):
            with pytest.raises(ValueError, match=message):
                ask()
