"""How often 95 % intervals hold the truth: 1,000 repetitions of n = 10,000 for each kind of sampling."""

from __future__ import annotations

import math

import pytest
from scipy import integrate, optimize, stats

import tonsurance_risk as tr

KINDS = ["plain", "stratified", "antithetic", "sobol", "importance"]
LEVELS = (0.95, 0.99)
REPETITIONS = 1000
SIGMA = 0.04


class Continuous:
    """One wide cover, two scenarios: the loss is continuous at both levels, and its tail a sum of two normals."""

    vault = tr.Vault(1e7, [tr.Policy("P", "USDC", 1e6, 0.98, 0.5)])
    scenarios = [tr.Scenario("calm", 0.8), tr.Scenario("dip", 0.2, prices={"USDC": 0.95})]
    volatility = {"USDC": SIGMA}

    def share_above(self, loss):
        """P(L > loss), by the price at which the loss is paid."""
        ratio = 0.98 - loss / 1e6 * 0.48
        return sum(p * stats.norm.cdf(math.log(ratio / level) / SIGMA) for p, level in ((0.8, 1.0), (0.2, 0.95)))

    def truth(self):
        """VaR by root finding, expected shortfall by quadrature of the tail."""
        truth = {}
        for level in LEVELS:
            quantile = optimize.brentq(lambda x, level=level: self.share_above(x) - (1 - level), 1.0, 9.9e5)
            excess, _ = integrate.quad(self.share_above, quantile, 1e6)
            truth["VaR", level], truth["ES", level] = quantile, quantile + excess / (1 - level)
        truth["mean", 0.0] = integrate.quad(self.share_above, 0.0, 1e6, limit=200)[0]
        truth["ruin", 2e5] = self.share_above(2e5)
        return truth


class Discrete:
    """Nothing moves: four losses with known probabilities, VaR 95 inside an atom, VaR 99 at the very end of one."""

    vault = tr.Vault(1e7, [tr.Policy("P", "USDC", 1e6, 1.0, 0.5)])
    scenarios = [
        tr.Scenario("calm", 0.90),
        tr.Scenario("small", 0.06, prices={"USDC": 0.95}),
        tr.Scenario("large", 0.03, prices={"USDC": 0.80}),
        tr.Scenario("all", 0.01, prices={"USDC": 0.40}),
    ]
    volatility = {}

    def truth(self):
        """By hand: losses 0, 100,000, 400,000 and 1,000,000."""
        es_95 = (0.01 * 1e6 + 0.03 * 4e5 + 0.01 * 1e5) / 0.05
        return {
            ("VaR", 0.95): 1e5,
            ("ES", 0.95): es_95,
            ("VaR", 0.99): 4e5,
            ("ES", 0.99): 1e6,
            ("mean", 0.0): 0.06 * 1e5 + 0.03 * 4e5 + 0.01 * 1e6,
            ("ruin", 5e5): 0.01,
        }


class Saturated:
    """Shocks, and 4 % of the losses are the whole coverage: VaR 99 and its shortfall are that atom."""

    vault = tr.Vault(1e7, [tr.Policy("P", "USDC", 1e6, 0.98, 0.9)])
    scenarios = [
        tr.Scenario("calm", 0.90),
        tr.Scenario("dip", 0.06, prices={"USDC": 0.94}),
        tr.Scenario("crash", 0.04, prices={"USDC": 0.70}),
    ]
    volatility = {"USDC": 0.01}

    def truth(self):
        """VaR 95 is the loss that the dip passes with probability 1/6, since the calm never comes that far."""

        def share_above(loss):
            ratio = 0.98 - loss / 1e6 * 0.08
            return 0.06 * stats.norm.cdf(math.log(ratio / 0.94) / 0.01) + 0.9 * stats.norm.cdf(
                math.log(ratio) / 0.01
            )

        quantile = optimize.brentq(lambda x: share_above(x) - 0.01, 1.0, 1e6 - 1.0)
        # Above 1,000,000 there is nothing: the crash and the part of the others beyond the floor are the atom.
        beyond, _ = integrate.quad(share_above, quantile, 1e6)
        es_95 = quantile + (beyond + 0.04 * (1e6 - quantile)) / 0.05
        return {
            ("VaR", 0.95): quantile,
            ("ES", 0.95): es_95,
            ("VaR", 0.99): 1e6,
            ("ES", 0.99): 1e6,
            ("mean", 0.0): integrate.quad(share_above, 0.0, 1e6, limit=200)[0] + 0.04 * 1e6,
            ("ruin", 9.9e5): share_above(9.9e5) + 0.04,
        }


class Sparse(Continuous):
    """Only shocks: 2 % of the losses are not 0, so that VaR 95 is the atom, and few are beyond it."""

    vault = tr.Vault(1e7, [tr.Policy("P", "USDC", 1e6, 0.96, 0.9)])
    scenarios = [tr.Scenario("calm", 1.0)]
    volatility = {"USDC": 0.02}

    def share_above(self, loss):
        """P(L > loss), by the price at which the loss is paid."""
        return stats.norm.cdf(math.log(0.96 - loss / 1e6 * 0.06) / 0.02)

    def truth(self):
        """VaR 95 is 0; the others as for the continuous book."""
        mean = integrate.quad(self.share_above, 0.0, 1e6)[0]
        quantile = optimize.brentq(lambda x: self.share_above(x) - 0.01, 1.0, 9.9e5)
        return {
            ("VaR", 0.95): 0.0,
            ("ES", 0.95): mean / 0.05,
            ("VaR", 0.99): quantile,
            ("ES", 0.99): quantile + integrate.quad(self.share_above, quantile, 1e6)[0] / 0.01,
            ("mean", 0.0): mean,
            ("ruin", 5e5): self.share_above(5e5),
        }


def estimated(sample, name, argument):
    """Return the estimate of a measure."""
    return {
        "VaR": sample.value_at_risk,
        "ES": sample.expected_shortfall,
        "ruin": sample.probability_of_ruin,
        "mean": lambda _: sample.expected_loss(),
    }[name](argument)


@pytest.mark.slow
@pytest.mark.parametrize("book", [Continuous(), Discrete(), Saturated(), Sparse()], ids=lambda b: type(b).__name__)
def test_intervals_cover_the_truth(book, capsys):
    """In 93 to 97 % of 1,000 repetitions where the loss is continuous, in at least 93 % at atoms.

    The standard error of a coverage of 95 % in 1,000 repetitions is 0.7 %: 93 and 97 are 2.9 of them away, so that
    sound intervals fail one of the 20 figures of a table in 1 of 13 seeds; seeds are fixed. At the atoms of
    `Saturated` and `Sparse`, measures may cover more; so may the probability of ruin, whose interval is exact.
    The normal interval of a mean of which 2 % is not 0 covers less: 91 % are asked of it. On `Sparse` the intervals of
    Sobol points, from 16 replicates with 20 losses each, cover 93.1 and 93.4 % in 4,000 repetitions: with those seeds
    that are here 2.2 standard errors less.
    """
    truth = book.truth()
    table = {}
    for kind in KINDS:
        hits = dict.fromkeys(truth, 0)
        for seed in range(REPETITIONS):
            sample = tr.simulate_losses(
                book.vault, book.scenarios, volatility=book.volatility, n=10_000, seed=seed, sampling=kind
            )
            for key, true in truth.items():
                estimate, slack = estimated(sample, *key), 1e-9 * true
                hits[key] += estimate.low - slack <= true <= estimate.high + slack
        table[kind] = {key: count / REPETITIONS for key, count in hits.items()}
    with capsys.disabled():
        print(f"\n{type(book).__name__}: coverage of 95 % intervals, n = 10,000, {REPETITIONS} repetitions")
        print("            " + "".join(f"{name} {argument:g}".rjust(14) for name, argument in truth))
        for kind, row in table.items():
            print(f"{kind:12}" + "".join(f"{share:14.3f}" for share in row.values()))

    for kind, row in table.items():
        for (name, argument), share in row.items():
            two_sided = isinstance(book, Continuous) and not isinstance(book, Sparse) and name in ("VaR", "ES")
            lowest = 0.91 if name == "mean" else 0.92 if (kind, type(book)) == ("sobol", Sparse) else 0.93
            assert lowest <= share <= (0.97 if two_sided else 1.0), (kind, name, argument)
