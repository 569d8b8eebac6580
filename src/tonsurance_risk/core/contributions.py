"""Who contributes what to the expected shortfall: assets, policies, scenarios.

Euler's allocation: the mean of a part's amount over the worst ``1 - level`` share of the losses, losses at the
boundary all with the same part of their weight.

References
----------
D. Tasche, "Capital allocation to business units and sub-portfolios: the Euler principle", 2007, arXiv:0708.2542,
section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from tonsurance_risk.core.engine import Blocks, Job, drawn
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.values import BoolArray, FloatArray, IntArray


@attrs.frozen(eq=False)
class CoinPolicies:
    """The policies on one coin: their positions in the vault, and what they pay."""

    rows: IntArray
    coverage: FloatArray
    trigger: FloatArray
    floor: FloatArray

    def sums(self, ratios: FloatArray, shares: FloatArray) -> FloatArray:
        """Return the payout of each policy summed over simulations with shares, shape (n_policies,) [USD].

        With W and R the sums of shares and of shares times ratio up to a ratio, a policy gives
        ``coverage / (trigger - floor) * (trigger (W_t - W_f) - (R_t - R_f)) + coverage W_f``.
        """
        order = np.argsort(ratios)
        ordered = ratios[order]
        weight = np.append(0.0, np.cumsum(shares[order]))
        moment = np.append(0.0, np.cumsum(shares[order] * ordered))
        below = np.searchsorted(ordered, self.trigger)
        full = np.searchsorted(ordered, self.floor, side="right")
        partly = self.trigger * (weight[below] - weight[full]) - (moment[below] - moment[full])
        return np.asarray(self.coverage * (partly / (self.trigger - self.floor) + weight[full]))


@attrs.frozen(eq=False)
class TailSums:
    """Sums over simulations beyond a quantile and over those at it, first axis: (beyond, at).

    Parameters
    ----------
    weight : ndarray of shape (2,)
        Of the simulations.
    exposures : ndarray of shape (2, n_coins + 1)
        Amounts by coin, and BTC last [USD].
    scenarios : ndarray of shape (2, n_scenarios)
        Losses by scenario [USD].
    policies : ndarray of shape (2, n_policies)
        Payouts by policy [USD]; empty where they were not asked for.
    squares : ndarray of shape (2, 3, n_coins + 1)
        Squared weights, times 1, times the amount, times its square.
    counts : ndarray of shape (n_coins + 1,)
        How many simulations have an amount that is not 0.
    near : ndarray of shape (n_coins + 2,)
        Amounts of the simulations whose loss is close to the quantile [USD], and last their weight.
    """

    weight: FloatArray
    exposures: FloatArray
    scenarios: FloatArray
    policies: FloatArray
    squares: FloatArray
    counts: FloatArray
    near: FloatArray

    def __add__(self, other: TailSums) -> TailSums:
        """Return the sums over the simulations of both."""
        return TailSums(
            self.weight + other.weight,
            self.exposures + other.exposures,
            self.scenarios + other.scenarios,
            self.policies + other.policies,
            self.squares + other.squares,
            self.counts + other.counts,
            self.near + other.near,
        )

    def mean(self, sums: FloatArray, needed: float) -> FloatArray:
        """Return the mean over a tail of weight `needed`: all beyond, and of those at it what is missing."""
        part = (needed - self.weight[0]) / self.weight[1]
        return np.asarray((sums[0] + part * sums[1]) / needed)

    def contribution_variances(self, needed: float, n: int) -> FloatArray:
        """Return the variances of the contributions of n independent draws, shape (n_coins + 1,) [USD^2].

        With q the quantile, b the part of the losses at it that counts and m the mean amount given a loss of q,
        the influence function of ``E[X (1(L > q) + b 1(L = q))] / (1 - level)`` is
        ``(X - m) (1(L > q) + b 1(L = q)) / (1 - level)`` up to a constant: the error of q moves weight to or from
        losses near q, whose amount is m. Summed over all parts it is that of the expected shortfall, with m = q.
        """
        part = (needed - self.weight[0]) / self.weight[1]
        centre = self.near[:-1] / self.near[-1]
        share = np.array([1.0, part])
        plain, amount, squared = np.einsum("i,ijk->jk", share**2, self.squares)
        second = squared - 2.0 * centre * amount + centre**2 * plain
        first = share @ (self.exposures - centre * self.weight[:, np.newaxis])
        return np.asarray(np.maximum(second - first**2 / n, 0.0) / needed**2)


def tail_sums(
    job: Job, blocks: Blocks, quantile: float, policies: Sequence[CoinPolicies], near: float
) -> TailSums:
    """Return the sums of blocks; `policies` by coin, or none of them.

    Losses up to `near` are close to the quantile; -inf leaves out what only `contribution_variances` needs.
    """
    model = job.model
    n_policies = sum(len(coin.rows) for coin in policies)
    total = TailSums(
        np.zeros(2),
        np.zeros((2, len(model.coins) + 1)),
        np.zeros((2, len(model.levels))),
        np.zeros((2, n_policies)),
        np.zeros((2, 3, len(model.coins) + 1)),
        np.zeros(len(model.coins) + 1),
        np.zeros(len(model.coins) + 2),
    )
    work = Workspace.of(max(size for _, size in blocks))
    for block in drawn(job, blocks, keep_positions=True):
        draw, losses = block.draw, block.losses
        if not (losses >= quantile).any():
            continue
        tail = np.flatnonzero(losses >= quantile)
        weights = np.ones(len(tail)) if draw.weights is None else draw.weights[tail]
        shares = np.stack([(losses[tail] > quantile) * weights, (losses[tail] == quantile) * weights])
        ratios = [model.ratios(coin, draw.positions, draw.segments)[tail] for coin in range(len(policies))]
        amounts, paid = model.amounts(draw.positions, draw.segments, work)
        scenario = np.repeat(draw.segments.scenario, draw.segments.lengths)[tail]
        total.weight[:] += shares.sum(axis=1)
        total.exposures[:] += np.einsum("ij,kj->ik", shares, amounts[:, tail])
        if near > -np.inf:
            _add_squares(total, shares, amounts[:, tail], losses[tail] <= near)
        for side, share in enumerate(shares):
            total.scenarios[side] += np.bincount(scenario, share * losses[tail], minlength=len(model.levels))
            for book, ratio in zip(policies, ratios, strict=True):
                total.policies[side, book.rows] += book.sums(ratio, share * paid[tail])
    return total


def _add_squares(total: TailSums, shares: FloatArray, amounts: FloatArray, close: BoolArray) -> None:
    for power in range(3):
        total.squares[:, power] += np.einsum("ij,kj->ik", shares**2, amounts**power)
    total.counts[:] += np.count_nonzero(amounts, axis=1)
    weight = shares.sum(axis=0) * close
    total.near[:-1] += amounts @ weight
    total.near[-1] += weight.sum()
