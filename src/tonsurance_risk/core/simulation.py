"""Correlated Monte Carlo of the vault's loss.

The model is in `loss_model`, how it is drawn in `sampling`, and what is estimated from the losses in `sample`.
Simulations come in blocks of fixed size, each with a stream of its own, so that the losses do not depend on
who computes which block, and any block can be drawn again alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from functools import partial
from typing import Any, get_args

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.engine import Job, Task, simulated, tasks
from tonsurance_risk.core.execution import in_order
from tonsurance_risk.core.importance import DEFENSIVE, loss_directions, rotations, tilt_for
from tonsurance_risk.core.loss_model import LossModel, compile_model
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.sample import Inputs, Keep, LossSample, kept_count
from tonsurance_risk.core.sampling import BLOCK, MOST_POINTS, Plan, Sampling
from tonsurance_risk.core.scenarios import checked_scenarios
from tonsurance_risk.core.tally import Part, TailCollector, Tally, sum_of
from tonsurance_risk.model import Estimate, Scenario, Vault
from tonsurance_risk.values import whole, within

MOST_SIMULATIONS = 1_000_000_000
"""Losses and scenario index of this many take 12 GB: the most with keep="all"."""
MOST_IN_TAIL = 100_000_000_000
"""A tenth of them is kept with keep="tail", 10 bytes each."""
DEFAULT_SIMULATIONS = 10_000
PRECISION_CAP = 10_000_000
PRECISION_LEVEL = 0.99

__all__ = ["BLOCK", "MOST_SIMULATIONS", "LossSample", "adaptive_simulation_count", "simulate_losses"]


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
    keep: Keep = "all",
    tail_level: float = 0.999,
) -> LossSample:
    """Simulate the loss of a vault over the horizon of the scenarios' probabilities.

    Parameters
    ----------
    vault : Vault
        Policies and BTC.
    scenarios : sequence of Scenario
        Drawn in proportion to ``probability * weight`` over the active ones.
    correlation : CorrelationMatrix or square DataFrame by symbol, optional
        Of the shocks. None is the identity, and an asset missing from it has the correlation 0 with all others;
        a scenario's `correlation_shift` then moves every correlation, these zeros too. One that is not positive
        semi-definite is repaired, see `LossSample.repair_distance`.
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
        Where blocks are computed; None: threads of this process, one a processor.
    sampling : {"stratified", "plain", "antithetic", "sobol", "importance"}
        "plain" draws scenarios independently. "stratified" allocates them systematically within each block,
        with a random start: each expected count is exactly n p, and the noise of counts is gone. "antithetic"
        is stratified, and draws shocks in pairs x and -x; n is rounded up to an even number. "sobol" takes 16
        scrambled replicates of Sobol points; n is rounded up to 16 times a power of two. "importance" draws
        what is beyond `tail_level` more often and weights it, as a pilot run says.
    keep : {"all", "tail"}
        "tail" keeps only the losses that measures at levels from 0.9 on need, and moments.
    tail_level : float
        What "importance" aims at; levels from ``1 - 10 (1 - tail_level)`` on gain.

    Returns
    -------
    LossSample

    Raises
    ------
    ValueError
        If an argument is outside what is accepted.
    UnknownAssetError
        If a policy or scenario names an asset that nobody knows.
    WorkerLostError
        If the executor did not return a task.

    Notes
    -----
    A simulation draws a scenario s and shocks x ~ N(0, C_s). With its prices P, `volatility_multiplier` m and
    `btc_change` b coin i has the ratio P_i exp(sigma_i m x_i), BTC returns
    (1 + b) exp(sigma m x - (sigma m)^2 / 2) - 1, and the loss is the sum of the payouts minus the BTC value times
    the BTC return. C_s are the correlations moved by the `correlation_shift` of s.

    Normals are float32, everything else is float64; payouts are within 1e-6 of the coverage on each asset, and
    exact where nothing moves. Time O(n assets^2), whatever the number of policies; memory 12 bytes a simulation,
    or about 1 with ``keep="tail"``.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])
    >>> sample = simulate_losses(vault, [Scenario("run", 0.25, prices={"USDC": 0.5}), Scenario("calm", 0.75)])
    >>> sample.expected_loss().value, sample.value_at_risk(0.99).value
    (12500.0, 50000.0)
    """
    _check_choice(sampling, "sampling", get_args(Sampling))
    _check_choice(keep, "keep", get_args(Keep))
    most = MOST_SIMULATIONS if keep == "all" else MOST_IN_TAIL
    if sampling == "sobol":
        most = min(most, MOST_POINTS)
    if n is not None:
        n = whole(n, "n", 1, most)
    if precision is not None:
        within(precision, "precision", 0.0, open_low=True)
    seed = whole(seed, "seed", 0)
    exact_level(tail_level)
    scenarios = checked_scenarios(scenarios)
    if isinstance(correlation, pd.DataFrame):
        correlation = CorrelationMatrix.from_frame(correlation)
    model, repair_distance = compile_model(vault, scenarios, correlation, volatility)
    sigma = (
        {}
        if volatility is None
        else {canonical(str(symbol)): float(value) for symbol, value in volatility.items()}
    )
    inputs = Inputs(vault, tuple(scenarios), correlation, sigma)
    run = Run(
        Job(model, _plan(model, sampling, seed, tail_level)),
        inputs,
        repair_distance,
        keep,
        float(tail_level) if sampling == "importance" else None,
        executor,
    )
    n = n or (DEFAULT_SIMULATIONS if precision is None else PRECISION_CAP)
    if (rounded := run.job.plan.rounded(n)) > most:
        raise ValueError(f"n must be at most {most:,} once rounded up for {sampling!r}, found {n:,}: {rounded:,}")
    return run.sample(n) if precision is None else run.until(precision, n)


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


@attrs.frozen(eq=False)
class Run:
    """One simulation under way: what is drawn, what is kept, and where it is computed."""

    job: Job
    inputs: Inputs
    repair_distance: float
    keep: Keep
    tail_level: float | None
    executor: Executor | None

    def sample(self, n: int) -> LossSample:
        """Return n simulations."""
        n = self.job.plan.rounded(n)
        return self._all(n, None) if self.keep == "all" else self._tail(n, self._collector(n), [])

    def until(self, precision: float, cap: int) -> LossSample:
        """Double the blocks until the interval is narrow enough; the cap is looked at too."""
        cap = self.job.plan.rounded(cap)
        n, sample = min(BLOCK, cap), None
        collector, tallies = self._collector(cap), list[Tally]()
        while True:
            sample = self._all(n, sample) if self.keep == "all" else self._tail(n, collector, tallies)
            converged = _narrow_enough(sample.value_at_risk(PRECISION_LEVEL), precision)
            if converged or n == cap:
                return attrs.evolve(sample, converged=converged)
            n = min(2 * n, cap)

    def _collector(self, n: int) -> TailCollector:
        return TailCollector(kept_count(n, 1.0 if self.job.plan.tilt is None else 1.0 / DEFENSIVE))

    def _all(self, n: int, before: LossSample | None) -> LossSample:
        """Return the first n simulations, given fewer of them or none."""
        done = 0 if before is None else before.n
        tallies = [] if before is None else [before.tally]
        losses, stratum = np.empty(n), np.empty(n, dtype=np.int32)
        weights = None if self.job.plan.tilt is None else np.empty(n)
        if before is not None:
            losses[:done], stratum[:done] = before.losses, before.stratum
            if weights is not None and before.weights is not None:
                weights[:done] = before.weights
        out = (losses, stratum, weights) if self.executor is None else None
        for part in self._parts(Task(blocks, out=out) for blocks in tasks(n, done)):
            if out is None:
                here = slice(part.first, part.first + len(part.losses))
                losses[here], stratum[here] = part.losses, part.stratum
                if weights is not None and part.weights is not None:
                    weights[here] = part.weights
            tallies += part.tallies
        return self._finished(Part(0, losses, stratum, weights, None, (sum_of(tallies),)), -math.inf, n)

    def _tail(self, n: int, collector: TailCollector, tallies: list[Tally]) -> LossSample:
        """Return the tail of the first n simulations; `collector` and `tallies` know some already, and learn."""
        # The cut is that of when a task is submitted: it sends no more than what is above it by then.
        blocks = tasks(n, sum(tally.n for tally in tallies))
        for part in self._parts(Task(some, collector.cut) for some in blocks):
            collector.add(part)
            tallies += part.tallies
        tallies[:] = [sum_of(tallies)]
        kept = collector.finished()
        return self._finished(attrs.evolve(kept, tallies=tuple(tallies)), collector.cut, collector.reach)

    def _parts(self, work: Iterable[Task]) -> Iterator[Part]:
        return in_order(partial(simulated, self.job), work, self.executor)

    def _finished(self, part: Part, cut: float, reach: int) -> LossSample:
        plan = self.job.plan
        scenario = part.stratum if plan.tilt is None else plan.scenario[part.stratum].astype(np.int32)
        for array in (part.losses, part.stratum, part.weights, part.index, scenario):
            if array is not None:
                array.setflags(write=False)
        [tally] = part.tallies
        return LossSample(
            losses=part.losses,
            scenario=scenario,
            weights=part.weights,
            n=tally.n,
            seed=plan.seed,
            sampling=plan.sampling,
            converged=None,
            repair_distance=self.repair_distance,
            keep=self.keep,
            tail_level=self.tail_level,
            model=self.job.model,
            plan=plan,
            inputs=self.inputs,
            tally=tally,
            stratum=part.stratum,
            index=part.index,
            cut=cut,
            reach=reach,
        )


def _plan(model: LossModel, sampling: Sampling, seed: int, tail_level: float) -> Plan:
    if sampling == "sobol":
        return Plan.of(model, sampling, seed, turned=rotations(loss_directions(model, seed)))
    tilt = tilt_for(model, seed, tail_level) if sampling == "importance" else None
    return Plan.of(model, sampling, seed, tilt)


def _check_choice(value: Any, name: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {list(accepted)}, found {value!r}")


def _narrow_enough(estimate: Estimate, precision: float) -> bool:
    if estimate.low is None or estimate.high is None:
        return False
    half_width = (estimate.high - estimate.low) / 2.0
    return half_width == 0.0 or half_width <= precision * abs(estimate.value)
