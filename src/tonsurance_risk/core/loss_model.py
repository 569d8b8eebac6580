"""The model of the vault's loss, compiled to arrays: what it loses, given a scenario and normals.

One simulation draws a scenario s and shocks x ~ N(0, C_s); then, for coin i,
``ratio_i = P_si exp(sigma_i m_s x_i)``; BTC returns
``(1 + b_s) exp(sigma m_s x - (sigma m_s)^2 / 2) - 1``; and the loss is the sum of the payouts minus the
BTC value times the BTC return.

How scenarios and normals are drawn is the business of `sampling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import attrs
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tonsurance_risk.assets import canonical, check_known, check_symbols
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.payoff import PayoutFunction, PayoutTable, Workspace, payout_functions
from tonsurance_risk.core.psd import lower_factor
from tonsurance_risk.core.scenarios import checked_scenarios, cumulated_shares, scenario_levels
from tonsurance_risk.model import BTC, Policy, Scenario, Vault
from tonsurance_risk.values import BoolArray, FloatArray, IntArray, read_only, unique, within

LARGEST_SHOCK = 50.0
"""Largest sigma_i m_s: beyond it exp() of a common draw leaves the range of a float."""
LARGEST_AMOUNT = 1e150
"""The most that a vault may lose [USD], and one over it the least: variances are sums of squares of losses."""
RARE_DEVIATIONS = 1.0
"""A coin this many standard deviations above its highest trigger is rarely paid on, in 1 of 6 simulations: looking
up only those is faster, and gives the same payouts."""
TABLE_DEVIATIONS = 6.0
"""How many standard deviations below the scenarios' levels the table of a coin reaches."""


@attrs.frozen(eq=False)
class Segments:
    """Runs of simulations of one scenario, in the order of a block.

    Parameters
    ----------
    scenario : ndarray of int of shape (n_runs,)
    lengths : ndarray of int of shape (n_runs,)
        May be 0.
    """

    scenario: IntArray
    lengths: IntArray

    def spread(self, by_scenario: FloatArray) -> FloatArray:
        """Return the value of each simulation's scenario, shape (size,)."""
        return np.repeat(by_scenario[self.scenario], self.lengths)

    def fill(self, out: NDArray[Any], by_scenario: NDArray[Any]) -> None:
        """Write the value of each simulation's scenario to `out`."""
        for scenario, run in self:
            out[run] = by_scenario[scenario]

    def merged(self, by_scenario: BoolArray) -> Iterator[tuple[bool, slice]]:
        """Yield the longest stretches over which a property of scenarios is the same."""
        drawn = np.flatnonzero(self.lengths)
        values, ends = by_scenario[self.scenario[drawn]], np.cumsum(self.lengths)[drawn]
        last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(drawn) - 1)
        first = 0
        for value, end in zip(values[last].tolist(), ends[last].tolist(), strict=True):
            yield value, slice(first, end)
            first = end

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Yield the scenario and the simulations of every run that is not empty."""
        ends = np.cumsum(self.lengths)
        for scenario, first, end in zip(
            self.scenario.tolist(), (ends - self.lengths).tolist(), ends.tolist(), strict=True
        ):
            if end > first:
                yield scenario, slice(first, end)


@attrs.frozen(eq=False)
class LossModel:
    """A vault, scenarios, correlation and volatility as arrays; the exposures are its coins, then BTC.

    Parameters
    ----------
    scenario_names : tuple of str
        In the order as passed.
    cumulated : ndarray of shape (n_scenarios,)
        Upper ends of the scenarios' shares of probability.
    coins : tuple of str
        The covered coins.
    tables : tuple of PayoutTable
        By coin.
    levels, level_payouts : ndarray of shape (n_scenarios, n_coins)
        Prices of the scenarios [units of the peg reference], and what policies pay there [USD].
    btc_value : float
        [USD]
    btc_change : ndarray of shape (n_scenarios,)
        Mean return of BTC.
    aggregate_limit : float
        The most that all policies are paid together [USD]; infinite where there is no limit.
    sigma : ndarray of shape (n_scenarios, n_coins + 1)
        ``sigma_i m_s``.
    moving : tuple of int
        Exposures with a volatility, in the order of their normals.
    factors : ndarray of shape (n_scenarios, n_moving, n_moving)
        Lower factors of the correlation in each scenario.
    rarely_paid : ndarray of bool of shape (n_scenarios, n_coins)
        Where the ratio of a coin hardly ever falls below its highest trigger.
    added : tuple of int and Policy, optional
        A policy beside the book, which is not tabulated, after the position of its coin.
    """

    scenario_names: tuple[str, ...]
    cumulated: FloatArray
    coins: tuple[str, ...]
    tables: tuple[PayoutTable, ...]
    levels: FloatArray
    level_payouts: FloatArray
    btc_value: float
    btc_change: FloatArray
    aggregate_limit: float
    sigma: FloatArray
    moving: tuple[int, ...]
    factors: FloatArray
    rarely_paid: BoolArray
    added: tuple[int, Policy] | None = None

    @property
    def shares(self) -> FloatArray:
        """Probability of each scenario after weighting, shape (n_scenarios,)."""
        return np.diff(self.cumulated, prepend=0.0)

    @property
    def quiet(self) -> BoolArray:
        """Whether nothing moves in a scenario: its loss is exactly that at its levels."""
        return np.logical_not(self.sigma.any(axis=1))

    def level_losses(self) -> FloatArray:
        """Return the loss at the levels of each scenario, without shocks, shape (n_scenarios,) [USD]."""
        payouts = np.minimum(self._at_levels().sum(axis=1), self.aggregate_limit)
        return np.asarray(payouts - self.btc_value * self.btc_change)

    def largest_shocked(self) -> float:
        """Return the largest loss that shocks can bring about [USD], -inf where nothing moves."""
        moves = self.sigma > 0.0
        most = np.array([table.function.values[0] for table in self.tables])
        if self.added is not None:
            most[self.added[0]] += self.added[1].coverage
        payouts = np.where(moves[:, :-1], most, self._at_levels()).sum(axis=1)
        lost = np.where(moves[:, -1], 1.0, -self.btc_change) * self.btc_value
        largest = np.minimum(payouts, self.aggregate_limit) + lost
        return float(largest.max(initial=-math.inf, where=np.logical_not(self.quiet) & (self.shares > 0.0)))

    def _at_levels(self) -> FloatArray:
        """Return `level_payouts`, with those of the policy beside the book."""
        if self.added is None:
            return self.level_payouts
        coin, policy = self.added
        payouts = self.level_payouts.copy()
        payouts[:, coin] += policy.payout(self.levels[:, coin])
        return payouts

    def position_maps(self) -> FloatArray:
        """Return the affine maps from normals to positions, shape (n_scenarios, n_moving, n_moving + 1).

        The row of a coin gives the position in its table, that of BTC the exponent of its growth; the last
        column is what is added.
        """
        maps = np.empty((len(self.levels), len(self.moving), len(self.moving) + 1))
        for row, exposure in enumerate(self.moving):
            scaled = self.sigma[:, exposure, None] * self.factors[:, row]
            if exposure == len(self.coins):
                maps[:, row, :-1] = scaled
                maps[:, row, -1] = -(self.sigma[:, exposure] ** 2) / 2.0
            else:
                table = self.tables[exposure]
                maps[:, row, :-1] = -scaled / table.step
                maps[:, row, -1] = (table.top - np.log(self.levels[:, exposure])) / table.step
        return maps

    def losses(self, positions: FloatArray, segments: Segments, work: Workspace) -> FloatArray:
        """Return the loss of each simulation of a block, a view into `work`, shape (size,) [USD].

        `positions` are overwritten.
        """
        added = self._added_payouts(positions, segments)
        still = [coin for coin in range(len(self.coins)) if coin not in self.moving]
        losses = work.losses[: positions.shape[1]]
        segments.fill(losses, self.level_payouts[:, still].sum(axis=1))
        for row, exposure in enumerate(self.moving):
            if exposure < len(self.coins):
                self._add_payouts(losses, exposure, positions[row], segments, work)
        self._overwrite_quiet(losses, self.level_payouts.sum(axis=1), segments)
        if self.added is not None:
            losses += added
        if self.aggregate_limit < math.inf:
            np.minimum(losses, self.aggregate_limit, out=losses)
        if self.btc_value > 0.0:
            losses += self._btc_losses(positions, segments)
        return losses

    def amounts(self, positions: FloatArray, segments: Segments, work: Workspace) -> tuple[FloatArray, FloatArray]:
        """Return what each exposure loses in each simulation, and what share the aggregate limit leaves.

        Payouts by coin, cut pro rata, and last the loss on BTC, negative for a gain, of shape
        (n_coins + 1, size) [USD]: their sum is the loss to rounding. `positions` are overwritten.
        """
        added = self._added_payouts(positions, segments)
        amounts = np.zeros((len(self.coins) + 1, positions.shape[1]))
        for coin in range(len(self.coins)):
            if coin in self.moving:
                amounts[coin] = self.tables[coin].payouts(positions[self.moving.index(coin)], work)
            else:
                amounts[coin] = segments.spread(self.level_payouts[:, coin])
            self._overwrite_quiet(amounts[coin], self.level_payouts[:, coin], segments)
        if self.added is not None:
            amounts[self.added[0]] += added
        paid = self.aggregate_limit / np.maximum(amounts[:-1].sum(axis=0), min(self.aggregate_limit, 1.0))
        np.minimum(paid, 1.0, out=paid)
        amounts[:-1] *= paid
        if self.btc_value > 0.0:
            amounts[-1] = self._btc_losses(positions, segments)
        return amounts, paid

    def ratios(self, coin: int, positions: FloatArray, segments: Segments) -> FloatArray:
        """Return the peg ratio of a coin in each simulation, shape (size,); `positions` are left alone."""
        if coin not in self.moving:
            return segments.spread(self.levels[:, coin])
        ratios = self.tables[coin].ratio(positions[self.moving.index(coin)])
        self._overwrite_quiet(ratios, self.levels[:, coin], segments)
        return ratios

    def _added_payouts(self, positions: FloatArray, segments: Segments) -> FloatArray | float:
        if self.added is None:
            return 0.0
        coin, policy = self.added
        return np.asarray(policy.payout(self.ratios(coin, positions, segments)))

    def _add_payouts(
        self, losses: FloatArray, coin: int, position: FloatArray, segments: Segments, work: Workspace
    ) -> None:
        """Add the payouts on a coin; where few simulations reach a trigger, only theirs are looked up."""
        table = self.tables[coin]
        for rare, run in segments.merged(self.rarely_paid[:, coin]):
            if rare:
                paid = np.flatnonzero(position[run] > 0.0)
                if len(paid):
                    losses[run][paid] += table.payouts(position[run][paid], work)
            else:
                losses[run] += table.payouts(position[run], work)

    def _btc_losses(self, positions: FloatArray, segments: Segments) -> FloatArray:
        """Return ``-btc_value ((1 + b_s) exp(e) - 1)``, e being the exponent of the growth."""
        if len(self.coins) not in self.moving:
            return segments.spread(-self.btc_value * self.btc_change)
        growth = positions[self.moving.index(len(self.coins))]
        np.exp(growth, out=growth)
        scale = -self.btc_value * (1.0 + self.btc_change)
        for scenario, run in segments:
            growth[run] *= scale[scenario]
        growth += self.btc_value
        self._overwrite_quiet(growth, -self.btc_value * self.btc_change, segments)
        return np.asarray(growth)

    def _overwrite_quiet(self, values: FloatArray, exact: FloatArray, segments: Segments) -> None:
        quiet = self.quiet
        if quiet.any():
            for scenario, simulations in segments:
                if quiet[scenario]:
                    values[simulations] = exact[scenario]


def compile_model(
    vault: Vault,
    scenarios: Sequence[Scenario],
    correlation: CorrelationMatrix | pd.DataFrame | None,
    volatility: Mapping[str, float] | pd.Series | None,
    also: str | None = None,
) -> tuple[LossModel, float]:
    """Return the model, and how far the correlation matrix had to be moved to be positive semi-definite.

    `also` is a coin that the model shall have although nothing is covered on it; its normal then comes after all
    others, so that those of the others are what they are without it.
    """
    listed = checked_scenarios(scenarios)
    check_symbols(vault, listed)
    amount = vault.coverage + vault.btc_value
    if amount > 0.0 and not 1.0 / LARGEST_AMOUNT <= amount <= LARGEST_AMOUNT:
        raise ValueError(
            f"coverage and btc_value of the vault must add up to 0 or to {1.0 / LARGEST_AMOUNT:g} to "
            f"{LARGEST_AMOUNT:g} USD, found {amount:g}: their squares would leave the range of floats"
        )
    functions = payout_functions(vault)
    covered = {*functions, BTC}
    if also is not None:
        functions.setdefault(also, PayoutFunction.of_nothing())
    exposures = [*functions, BTC]
    sigma = _sigma({} if volatility is None else volatility, exposures, vault)
    if vault.btc_value == 0.0:
        sigma[-1] = 0.0
    scaled = np.outer([scenario.volatility_multiplier for scenario in listed], sigma)
    if scaled.max() > LARGEST_SHOCK:
        s, i = np.unravel_index(int(np.argmax(scaled)), scaled.shape)
        raise ValueError(
            f"volatility of {exposures[int(i)]} times the volatility_multiplier of scenario "
            f"{listed[int(s)].name!r} must be at most {LARGEST_SHOCK:g}, found {scaled[s, i]:g}"
        )
    moving = sorted(np.flatnonzero(sigma).tolist(), key=lambda exposure: exposures[exposure] not in covered)
    base, repair_distance = _base_correlation(correlation, [exposures[i] for i in moving])
    factors = {shift: lower_factor(_shifted(base, shift)) for shift in {s.correlation_shift for s in listed}}
    levels = scenario_levels(listed, list(functions))
    lowest = (np.log(levels) - TABLE_DEVIATIONS * scaled[:, :-1]).min(axis=0)
    highest = np.log([function.knots[-1] for function in functions.values()])
    payouts = [function(levels[:, coin]) for coin, function in enumerate(functions.values())]
    model = LossModel(
        scenario_names=tuple(scenario.name for scenario in listed),
        cumulated=read_only(cumulated_shares(listed)),
        coins=tuple(functions),
        tables=tuple(
            function.tabulated(bottom)
            for function, bottom in zip(functions.values(), lowest.tolist(), strict=True)
        ),
        levels=read_only(levels),
        level_payouts=read_only(np.reshape(payouts, (len(functions), len(listed))).T),
        btc_value=vault.btc_value,
        btc_change=read_only([scenario.btc_change for scenario in listed], np.float64),
        aggregate_limit=math.inf if vault.aggregate_limit is None else vault.aggregate_limit,
        sigma=read_only(scaled),
        moving=tuple(moving),
        factors=read_only([factors[scenario.correlation_shift] for scenario in listed]),
        rarely_paid=np.log(levels) - RARE_DEVIATIONS * scaled[:, :-1] >= highest,
    )
    return model, repair_distance


def _sigma(volatility: Mapping[str, float] | pd.Series, exposures: Sequence[str], vault: Vault) -> FloatArray:
    given = cast("Mapping[str, float]", volatility.to_dict() if isinstance(volatility, pd.Series) else volatility)
    if not isinstance(given, Mapping) or not all(isinstance(symbol, str) for symbol in given):
        raise ValueError(f"volatility must be a mapping or Series of numbers by symbol, found {volatility!r}")
    unique(map(canonical, given), "symbols of volatility")
    # One that is misspelt would leave its coin without shocks.
    check_known(given, vault, "symbol of volatility")
    checked = {canonical(symbol): within(value, f"volatility[{symbol!r}]", 0.0) for symbol, value in given.items()}
    return np.array([checked.get(symbol, 0.0) for symbol in exposures])


def _base_correlation(
    correlation: CorrelationMatrix | pd.DataFrame | None, symbols: Sequence[str]
) -> tuple[FloatArray, float]:
    """Return the correlation of `symbols`, independent where the matrix has none, and the repair distance."""
    base = np.eye(len(symbols))
    if correlation is None:
        return base, 0.0
    matrix = (
        correlation if isinstance(correlation, CorrelationMatrix) else CorrelationMatrix.from_frame(correlation)
    )
    repaired, distance = matrix.nearest_psd()
    known = [i for i, symbol in enumerate(symbols) if symbol in repaired.assets]
    base[np.ix_(known, known)] = repaired.select([symbols[i] for i in known]).values
    return base, distance


def _shifted(base: FloatArray, shift: float) -> FloatArray:
    """Return the correlations moved towards 1 (shift > 0) or towards 0 (shift < 0); a PSD matrix stays one."""
    moved = base + shift * (1.0 - base) if shift >= 0.0 else base * (1.0 + shift)
    np.fill_diagonal(moved, 1.0)
    return moved
