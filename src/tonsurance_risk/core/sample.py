"""Simulated losses of a vault, with the measures of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial, reduce
from operator import add
from typing import Any, Literal, get_args

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.core.contributions import CoinPolicies, TailSums, tail_sums
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.engine import Job, tasks
from tonsurance_risk.core.execution import in_order
from tonsurance_risk.core.intervals import (
    contribution_estimate,
    exactly_nothing,
    loss_probability,
    mean_estimate,
    quantile_estimate,
    shortfall_estimate,
)
from tonsurance_risk.core.loss_model import LossModel
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.payoff import policies_by_asset
from tonsurance_risk.core.sampling import BLOCK, Plan, Sampling
from tonsurance_risk.core.tally import Tally
from tonsurance_risk.core.variance import Design, Tail
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BTC, Estimate, Scenario, Vault
from tonsurance_risk.values import FloatArray, IntArray, finite, within

Keep = Literal["all", "tail"]
Part = Literal["asset", "policy", "scenario"]

TAIL_MARGIN = 6.0
"""How many binomial standard deviations beyond a level its interval may need; it needs 2 in a plain sample."""
KEPT_LEVEL = 0.9
"""With keep="tail" the losses beyond this level are kept."""


@attrs.frozen(eq=False)
class Inputs:
    """What a sample was simulated from."""

    vault: Vault
    scenarios: tuple[Scenario, ...]
    correlation: CorrelationMatrix | None
    volatility: Mapping[str, float]


@attrs.frozen
class LossSample:
    """Simulated losses of a vault, with the measures of them.

    Parameters
    ----------
    losses : ndarray of shape (n,)
        [USD], positive = loss. With ``keep="tail"`` only the largest, shape (k,).
    scenario : ndarray of int of the same shape
        Position of each simulation's scenario in the list as passed.
    weights : ndarray of the same shape, optional
        Likelihood ratios of importance sampling, with expectation 1; None: every simulation counts alike.
    n, seed : int
        How many, and from which seed.
    sampling : {"stratified", "plain", "antithetic", "sobol", "importance"}
        How scenarios and shocks were drawn.
    converged : bool, optional
        Whether the asked precision was reached; None for a fixed n.
    repair_distance : float
        How far the correlation matrix had to be moved to be positive semi-definite (Frobenius norm).
    keep : {"all", "tail"}
        Which losses are there.
    tail_level : float, optional
        What importance sampling aimed at; None for other kinds.
    """

    losses: FloatArray = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    scenario: NDArray[Any] = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    weights: FloatArray | None = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    n: int
    seed: int
    sampling: Sampling
    converged: bool | None
    repair_distance: float
    keep: Keep
    tail_level: float | None
    model: LossModel = attrs.field(repr=False, eq=False)
    plan: Plan = attrs.field(repr=False, eq=False)
    inputs: Inputs = attrs.field(repr=False, eq=False)
    tally: Tally = attrs.field(repr=False, eq=False)
    stratum: NDArray[Any] = attrs.field(repr=False, eq=False)
    index: IntArray | None = attrs.field(repr=False, eq=False)
    cut: float = attrs.field(repr=False, eq=False)
    reach: int = attrs.field(repr=False, eq=False)

    def value_at_risk(self, level: float) -> Estimate:
        """Return the value at risk [USD]; its interval is made of order statistics."""
        return self._named(self._measured(partial(quantile_estimate, level=level, design=self._design), level))

    def expected_shortfall(self, level: float) -> Estimate:
        """Return the expected shortfall [USD]; its interval comes from the influence function."""
        return self._named(self._measured(partial(shortfall_estimate, level=level, design=self._design), level))

    def expected_loss(self) -> Estimate:
        """Return the mean loss [USD]."""
        return self._named(mean_estimate(self.tally, self._design))

    def probability_of_ruin(self, capital: float) -> Estimate:
        """Return the probability that the loss exceeds `capital` [USD]."""
        return self._named(loss_probability(self._tail(None), finite(capital, "capital"), self._design))

    @property
    def worst(self) -> float:
        """The largest loss [USD]."""
        return float(self.tally.worst.max())

    @property
    def best(self) -> float:
        """The smallest loss [USD], negative for a gain."""
        return float(self.tally.best.min())

    def by_scenario(self) -> pd.DataFrame:
        """Return a table by scenario name: simulations, share, expected_loss, worst [USD].

        The share is that of the weights: importance sampling draws some scenarios more often than they happen.
        A scenario that was never drawn has no expected and no worst loss (`pandas.NA`).
        """
        scenario, count = self.plan.scenario, len(self.model.scenario_names)

        def summed(by_stratum: NDArray[Any]) -> FloatArray:
            return np.bincount(scenario, by_stratum, minlength=count).astype(np.float64)

        simulations = summed(self.tally.simulations)
        drawn = simulations > 0.0
        total, weight = summed(self.tally.total * self.plan.unit), summed(self.tally.weight)
        worst = np.full(count, -math.inf)
        np.maximum.at(worst, scenario, self.tally.worst)
        table = pd.DataFrame(
            {
                "simulations": simulations.astype(np.int64),
                "share": weight / self.n,
                "expected_loss": pd.Series(total / np.where(drawn, weight, 1.0), dtype="Float64").where(drawn),
                "worst": pd.Series(worst, dtype="Float64").where(drawn),
            }
        )
        return table.set_axis(pd.Index(self.model.scenario_names, name="scenario"))

    def contributions(self, level: float, by: Part = "asset", *, executor: Executor | None = None) -> pd.Series:
        """Return what each part contributes to the expected shortfall [USD]; the sum is the expected shortfall.

        Parameters
        ----------
        level : float
            In (0, 1).
        by : {"asset", "policy", "scenario"}
            By asset or policy BTC is the last part. The payouts of the policies on one asset are scaled (by what
            its table is off, at most 1e-6 of coverage) to sum to the asset's.
        executor : concurrent.futures.Executor, optional
            Where blocks are computed; None: threads of this process.

        Notes
        -----
        Euler's allocation, see `contributions`. All blocks are drawn again.
        """
        if by not in get_args(Part):
            raise ValueError(f"by must be one of {list(get_args(Part))}, found {by!r}")
        quantile = self.value_at_risk(level).value
        needed = float(self.n * (1 - exact_level(level)))
        vault, coins = self.inputs.vault, len(self.model.coins)
        books = _books(vault, self.model.coins) if by == "policy" else []
        sums = self._tail_sums(quantile, books, executor)
        exposures = sums.mean(sums.exposures, needed)
        if by == "asset":
            return pd.Series(exposures, index=[*self.model.coins, BTC], name="contribution")
        if by == "scenario":
            return pd.Series(
                sums.mean(sums.scenarios, needed),
                index=pd.Index(self.model.scenario_names, name="scenario"),
                name="contribution",
            )
        policies = sums.mean(sums.policies, needed)
        for coin, book in enumerate(books):
            total = policies[book.rows].sum()
            policies[book.rows] *= exposures[coin] / total if total > 0.0 else 0.0
        names = [policy.policy_id for policy in vault.policies]
        return pd.Series(np.append(policies, exposures[coins]), index=[*names, BTC], name="contribution")

    def contribution_estimates(self, level: float, *, executor: Executor | None = None) -> dict[str, Estimate]:
        """Return the contributions by asset, BTC last, with their intervals [USD].

        Parameters
        ----------
        level : float
            In (0, 1).
        executor : concurrent.futures.Executor, optional
            As in `contributions`.

        Returns
        -------
        dict of Estimate by asset
            The values are those of ``contributions(level)``. An asset has no interval where the expected shortfall
            has none, or where fewer than 10 losses of the tail have a part of it.

        Notes
        -----
        The interval is normal, with the influence function of `contribution_variances`. It takes the simulations
        for independent draws: what stratified sampling and Sobol points gain is not in it.
        """
        shortfall, quantile = self.expected_shortfall(level), self.value_at_risk(level).value
        tail = self.losses[self.losses >= quantile]
        place = math.ceil(math.sqrt(len(tail))) - 1
        sums = self._tail_sums(quantile, [], executor, near=float(np.partition(tail, place)[place]))
        needed = float(self.n * (1 - exact_level(level)))
        values = sums.mean(sums.exposures, needed)
        errors = np.sqrt(sums.contribution_variances(needed, self.n))
        assets = [*self.model.coins, BTC]
        return {
            asset: self._named(
                contribution_estimate(float(value), float(error), int(count), shortfall)
                if asset != BTC or self.inputs.vault.btc_value > 0.0
                else exactly_nothing("the vault holds none")
            )
            for asset, value, error, count in zip(assets, values, errors, sums.counts, strict=True)
        }

    def convergence(self, level: float = 0.99) -> pd.DataFrame:
        """Return how the value at risk settled: a row for 1, 2, 4, 8, ... blocks, and for all n.

        Returns
        -------
        DataFrame by n, with value, low, high [USD]; an end that n cannot support is missing (`pandas.NA`).

        Raises
        ------
        InsufficientDataError
            If only the tail was kept.
        """
        if self.keep == "tail":
            raise InsufficientDataError("the losses of the first blocks were not kept: simulate with keep='all'")
        looks = [BLOCK << k for k in range(self.n.bit_length()) if BLOCK << k < self.n]
        estimates = [*(self._first(n).value_at_risk(level) for n in looks), self.value_at_risk(level)]
        return pd.DataFrame(
            [(estimate.value, estimate.low, estimate.high) for estimate in estimates],
            columns=["value", "low", "high"],
            index=pd.Index([*looks, self.n], name="n"),
            dtype="Float64",
        )

    def suggested_n(self, error: float, level: float = 0.99) -> int:
        """Return how many simulations bring the interval of the value at risk to +- `error` of its value.

        Parameters
        ----------
        error : float
            Half-width over value, > 0.
        level : float
            In (0, 1).

        Notes
        -----
        The half-width falls with the square root of n; with Sobol points it falls faster, and less may do.
        """
        within(error, "error", 0.0, open_low=True)
        estimate = self.value_at_risk(level)
        if estimate.low is None or estimate.high is None or estimate.value == 0.0:
            raise InsufficientDataError(
                f"the error of the value at risk at {level!r} is not known from {self.n:,} simulations "
                f"({estimate.note or 'it is 0'})",
                observed=self.n,
            )
        half = (estimate.high - estimate.low) / 2.0
        return max(math.ceil(self.n * (half / (error * abs(estimate.value))) ** 2), 1)

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in JSON types: how it was made, and the measures at 95 % and 99 %."""
        return {
            "n": self.n,
            "seed": self.seed,
            "sampling": self.sampling,
            "tail_level": self.tail_level,
            "keep": self.keep,
            "converged": self.converged,
            "repair_distance": self.repair_distance,
            "expected_loss": self.expected_loss().to_dict(),
            "var_95": self.value_at_risk(0.95).to_dict(),
            "var_99": self.value_at_risk(0.99).to_dict(),
            "cvar_95": self.expected_shortfall(0.95).to_dict(),
            "cvar_99": self.expected_shortfall(0.99).to_dict(),
            "worst": self.worst,
            "best": self.best,
        }

    @property
    def _design(self) -> Design:
        losses, weights = self.plan.centres(self.model)
        return Design(
            self.sampling,
            self.n,
            self.tally.units.astype(np.float64),
            self.plan.cumulated,
            losses,
            weights,
            self.model.largest_shocked(),
        )

    def _tail(self, level: float | None) -> Tail:
        """Return the losses that estimates at a level look at; None: all that are there."""
        if self.keep == "tail":
            return Tail(self.losses, self.stratum, self.index, self.weights, self.n, self.cut, self.reach)
        if level is None:
            return Tail.above(self.losses, self.stratum, self.weights)
        share = float(1 - exact_level(level))
        count = math.ceil(self.n * share + TAIL_MARGIN * math.sqrt(self.n * share * (1.0 - share)))
        return Tail.above(self.losses, self.stratum, self.weights, count)

    def _named(self, estimate: Estimate) -> Estimate:
        return attrs.evolve(estimate, n=self.n, seed=self.seed)

    def _measured(self, measure: Callable[[Tail], Estimate], level: float) -> Estimate:
        tail = self._tail(level)
        try:
            return measure(tail)
        except InsufficientDataError:
            if self.keep == "tail":
                raise
            return measure(self._tail(None))

    def _first(self, n: int) -> LossSample:
        """Return the sample of the first n simulations, whole blocks."""
        units = np.bincount(self.stratum[:n], minlength=len(self.plan.cumulated)) // self.plan.unit
        return attrs.evolve(
            self,
            losses=self.losses[:n],
            scenario=self.scenario[:n],
            weights=None if self.weights is None else self.weights[:n],
            stratum=self.stratum[:n],
            n=n,
            reach=n,
            tally=attrs.evolve(self.tally, units=units),
        )

    def _tail_sums(
        self, quantile: float, books: Sequence[CoinPolicies], executor: Executor | None, near: float = -math.inf
    ) -> TailSums:
        compute = partial(tail_sums, Job(self.model, self.plan), quantile=quantile, policies=books, near=near)
        return reduce(add, in_order(compute, tasks(self.n), executor))


def refuse_added(sample: LossSample, name: str) -> None:
    """Raise a `ValueError` for a sample with a policy added: another run of its vault has not quite its draws."""
    if sample.model.added is not None:
        raise ValueError(
            f"{name} is of a book with policy {sample.model.added[1].policy_id!r} added: "
            "simulate that vault instead"
        )


def histogram_range(losses: FloatArray) -> tuple[float, float]:
    """Return the ends of a histogram: those of the losses, or around them where they differ by rounding alone.

    Between such losses is no room for bins.
    """
    low, high = float(losses.min()), float(losses.max())
    rounding = 1e-9 * max(abs(low), abs(high))
    around = max(0.5, rounding) if high - low <= rounding else 0.0
    return low - around, high + around


def kept_count(n: int, largest_weight: float = 1.0) -> int:
    """Return how many losses keep="tail" keeps of n: those beyond 0.9, and as far as their interval may reach.

    Weighted ones are kept until their weights add up to as many, and a share of them varies more.
    """
    share = 1.0 - KEPT_LEVEL
    return min(math.ceil(n * share + TAIL_MARGIN * math.sqrt(largest_weight * n * share * KEPT_LEVEL)) + 1, n)


def _books(vault: Vault, coins: Sequence[str]) -> list[CoinPolicies]:
    columns, rows_of = vault.columns, policies_by_asset(vault)
    return [
        CoinPolicies(rows, columns.coverage[rows], columns.trigger[rows], columns.floor[rows])
        for rows in (rows_of[coin] for coin in coins)
    ]
