"""Correlated Monte Carlo of the vault's loss; the model itself is in `loss_model`.

Simulations come in blocks of fixed size, each with a stream of its own, so that the losses do not depend on
who computes which block, and any block can be drawn again alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from typing import Any, get_args

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.intervals import (
    Strata,
    loss_probability,
    mean_estimate,
    quantile_estimate,
    shortfall_estimate,
)
from tonsurance_risk.core.loss_model import LossModel, Sampling, compile_model
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.measures import value_at_risk as _value_at_risk
from tonsurance_risk.model import (
    BTC,
    Estimate,
    FloatArray,
    Scenario,
    Vault,
    finite,
    whole,
    within,
)

BLOCK = 4096
"""Simulations a block. Fixed: another size gives other losses for the same seed."""
BLOCKS_PER_TASK = 16
MOST_SIMULATIONS = 1_000_000_000
"""Losses and scenario index of this many take 12 GB."""
DEFAULT_SIMULATIONS = 10_000
PRECISION_CAP = 10_000_000
PRECISION_LEVEL = 0.99


@attrs.frozen
class LossSample:
    """Simulated losses of a vault, with the measures of them.

    Parameters
    ----------
    losses : ndarray of shape (n,)
        [USD], positive = loss.
    scenario : ndarray of int of shape (n,)
        Position of each simulation's scenario in the list as passed.
    weights : None
        Every simulation counts alike.
    n, seed : int
        How many, and from which seed.
    sampling : {"plain", "stratified"}
        How scenarios were drawn.
    converged : bool, optional
        Whether the asked precision was reached; None for a fixed n.
    repair_distance : float
        How far the correlation matrix had to be moved to be positive semi-definite (Frobenius norm).
    """

    losses: FloatArray = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    scenario: NDArray[np.int32] = attrs.field(repr=False, eq=attrs.cmp_using(eq=np.array_equal))
    weights: FloatArray | None
    n: int
    seed: int
    sampling: Sampling
    converged: bool | None
    repair_distance: float
    model: LossModel = attrs.field(repr=False, eq=False)

    def value_at_risk(self, level: float) -> Estimate:
        """Return the value at risk [USD]; its interval is made of order statistics."""
        return quantile_estimate(self.losses, level, self._strata)

    def expected_shortfall(self, level: float) -> Estimate:
        """Return the expected shortfall [USD]; its interval comes from the influence function."""
        return shortfall_estimate(self.losses, level, self._strata)

    def expected_loss(self) -> Estimate:
        """Return the mean loss [USD]."""
        return mean_estimate(self.losses, self._strata)

    def probability_of_ruin(self, capital: float) -> Estimate:
        """Return the probability that the loss exceeds `capital` [USD]."""
        return loss_probability(self.losses, finite(capital, "capital"), self._strata)

    @property
    def worst(self) -> float:
        """The largest loss [USD]."""
        return float(self.losses.max())

    @property
    def best(self) -> float:
        """The smallest loss [USD], negative for a gain."""
        return float(self.losses.min())

    def by_scenario(self) -> pd.DataFrame:
        """Return a table by scenario name: simulations, share, expected_loss, worst [USD].

        A scenario that was never drawn has no expected and no worst loss (`pandas.NA`).
        """
        count = len(self.model.scenario_names)
        groups = pd.Series(self.losses).groupby(self.scenario)
        table = pd.DataFrame(
            {
                "simulations": np.bincount(self.scenario, minlength=count),
                "expected_loss": groups.mean().reindex(range(count)).astype("Float64"),
                "worst": groups.max().reindex(range(count)).astype("Float64"),
            }
        )
        table.insert(1, "share", table["simulations"] / self.n)
        return table.set_axis(pd.Index(self.model.scenario_names, name="scenario"))

    def contributions(self, level: float) -> pd.Series:
        """Return what each asset contributes to the expected shortfall [USD], BTC included.

        Euler's allocation: the mean of the asset's amount over the worst ``1 - level`` share of the losses,
        losses at the boundary all with the same part of their weight. The blocks of the tail are drawn again.
        The sum is the expected shortfall.

        References
        ----------
        D. Tasche, "Capital allocation to business units and sub-portfolios: the Euler principle", 2007,
        arXiv:0708.2542, section 4.
        """
        quantile = _value_at_risk(self.losses, level)
        tail = float(self.n * (1 - exact_level(level)))
        above = self.losses > quantile
        at = self.losses == quantile
        share = above + at * ((tail - above.sum()) / at.sum())
        total = np.zeros(len(self.model.coins) + 1)
        for block, size in _blocks(self.n):
            inside = share[block * BLOCK : block * BLOCK + size]
            if inside.any():
                total += self.model.amounts(block, size)[1] @ inside
        return pd.Series(total / tail, index=[*self.model.coins, BTC], name="contribution")

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in JSON types: how it was made, and the measures at 95 % and 99 %."""
        return {
            "n": self.n,
            "seed": self.seed,
            "sampling": self.sampling,
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
    def _strata(self) -> Strata:
        sizes = None if self.sampling == "plain" else tuple(size for _, size in _blocks(self.n))
        return Strata(self.scenario, self.model.cumulated, self.model.level_losses(), sizes)


def simulate_losses(
    vault: Vault,
    scenarios: Sequence[Scenario],
    *,
    correlation: CorrelationMatrix | pd.DataFrame | None = None,
    volatility: Mapping[str, float] | pd.Series | None = None,
    n: int | None = None,
    precision: float | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    sampling: Sampling = "stratified",
) -> LossSample:
    """Simulate the loss of a vault over the horizon of the scenarios' probabilities.

    Parameters
    ----------
    vault : Vault
        Policies and BTC.
    scenarios : sequence of Scenario
        Drawn in proportion to ``probability * weight`` over the active ones.
    correlation : CorrelationMatrix or square DataFrame by symbol, optional
        Of the shocks; None is the identity, and an asset missing from it is independent. One that is not
        positive semi-definite is repaired, see `LossSample.repair_distance`.
    volatility : mapping or Series of float by symbol, optional
        sigma: standard deviation of the log ratio around its scenario level at the horizon, BTC allowed;
        missing = 0.
    n : int, optional
        How many; 10,000 when neither n nor precision is given.
    precision : float, optional
        Go on, looking at 1, 2, 4, 8, ... blocks, until the half-width of the 95 % interval of the 99 % value
        at risk is at most this share of its absolute value; n is then the most (10,000,000 when not given).
    seed : int
        Same seed, same losses, whatever the executor.
    executor : concurrent.futures.Executor, optional
        Where blocks are computed; here when None.
    sampling : {"stratified", "plain"}
        "plain" draws scenarios independently. "stratified" allocates them systematically within each block, with a
        random start: each expected count is exactly n p, and the noise of counts is gone.

    Returns
    -------
    LossSample

    Raises
    ------
    ValueError
        If an argument is outside what is accepted.
    UnknownAssetError
        If a policy or scenario names an asset that nobody knows.

    Notes
    -----
    See the module for the model. Time O(n (assets^2 + log policies)); memory 12 bytes a simulation.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])
    >>> sample = simulate_losses(vault, [Scenario("run", 0.25, prices={"USDC": 0.5}), Scenario("calm", 0.75)])
    >>> sample.expected_loss().value, sample.value_at_risk(0.99).value
    (12500.0, 50000.0)
    """
    if sampling not in get_args(Sampling):
        raise ValueError(f"sampling must be one of {list(get_args(Sampling))}, found {sampling!r}")
    if executor is not None and not isinstance(executor, Executor):
        raise ValueError(f"executor must be a concurrent.futures.Executor, found {executor!r}")
    if n is not None:
        n = whole(n, "n", 1, MOST_SIMULATIONS)
    if precision is not None:
        within(precision, "precision", 0.0, open_low=True)
    seed = whole(seed, "seed", 0)
    model, repair_distance = compile_model(
        vault, scenarios, correlation, {} if volatility is None else volatility, seed, sampling
    )

    def sample_of(parts: Sequence[_Part], converged: bool | None) -> LossSample:
        losses = np.concatenate([losses for losses, _ in parts])
        scenario = np.concatenate([scenario for _, scenario in parts])
        losses.setflags(write=False)
        scenario.setflags(write=False)
        return LossSample(losses, scenario, None, len(losses), seed, sampling, converged, repair_distance, model)

    if precision is None:
        return sample_of(_drawn(model, 0, n or DEFAULT_SIMULATIONS, executor), None)
    cap = n or PRECISION_CAP
    parts: list[_Part] = []
    done, target = 0, min(BLOCK, cap)
    while True:
        parts += _drawn(model, done, target, executor)
        done = target
        sample = sample_of(parts, None)
        converged = _narrow_enough(sample.value_at_risk(PRECISION_LEVEL), precision)
        if converged or done == cap:
            return attrs.evolve(sample, converged=converged)
        parts = [(sample.losses, sample.scenario)]
        target = min(2 * done, cap)


def adaptive_simulation_count(volatility: float, base: int = 10_000) -> int:
    """Return how many simulations a market of that volatility deserves.

    Parameters
    ----------
    volatility : float
        Fraction, >= 0.
    base : int
        The count below a volatility of 0.02; 1.5 times as many below 0.05, twice below 0.10, else three times.

    Examples
    --------
    >>> [adaptive_simulation_count(v) for v in (0.01, 0.02, 0.05, 0.10)]
    [10000, 15000, 20000, 30000]
    """
    sigma = within(volatility, "volatility", 0.0)
    base = whole(base, "base", 1)
    for bound, factor in ((0.02, Fraction(1)), (0.05, Fraction(3, 2)), (0.10, Fraction(2))):
        if sigma < bound:
            return math.ceil(base * factor)
    return 3 * base


_Part = tuple[FloatArray, NDArray[np.int32]]


def _blocks(n: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (block, size) of the simulations from `start`, the beginning of a block, up to n."""
    for first in range(start, n, BLOCK):
        yield first // BLOCK, min(BLOCK, n - first)


def _drawn(model: LossModel, start: int, n: int, executor: Executor | None) -> list[_Part]:
    blocks = list(_blocks(n, start))
    tasks = [blocks[i : i + BLOCKS_PER_TASK] for i in range(0, len(blocks), BLOCKS_PER_TASK)]
    if executor is None:
        return [_draw(model, task) for task in tasks]
    return [future.result() for future in [executor.submit(_draw, model, task) for task in tasks]]


def _draw(model: LossModel, blocks: Sequence[tuple[int, int]]) -> _Part:
    losses = np.empty(sum(size for _, size in blocks))
    scenario = np.empty(len(losses), dtype=np.int32)
    at = 0
    for block, size in blocks:
        scenario[at : at + size], amounts = model.amounts(block, size)
        losses[at : at + size] = amounts.sum(axis=0)
        at += size
    return losses, scenario


def _narrow_enough(estimate: Estimate, precision: float) -> bool:
    if estimate.low is None or estimate.high is None:
        return False
    half_width = (estimate.high - estimate.low) / 2.0
    return half_width == 0.0 or half_width <= precision * abs(estimate.value)
