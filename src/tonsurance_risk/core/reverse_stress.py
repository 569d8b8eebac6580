"""Reverse stress test: the most likely move of prices for which the vault loses at least an amount."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pandas as pd
from scipy import special

from tonsurance_risk.assets import check_symbols
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.loss_model import LossModel, compile_model
from tonsurance_risk.core.nearest_loss import GAP, LOWEST_RATIO, Bitcoin, Coin, Found, Problem, nearest_loss
from tonsurance_risk.core.payoff import PayoutFunction
from tonsurance_risk.core.stress import stress_test
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.errors import ConvergenceError, UnreachableLossError
from tonsurance_risk.model import BTC, HIGHEST_RATIO, Scenario, Vault
from tonsurance_risk.values import FloatArray, whole, within

PEG = Scenario("peg", 1.0)
ROUNDING = 1e-12
"""A loss counts as reached up to this share of it: the payout of a whole coverage is a sum of floats."""
FARTHER = 10.0
"""Where prices cannot all fall together, shocks are sought up to so many times the largest that one coin needs."""


@attrs.frozen
class ReverseStress:
    """The most likely move of prices for which a vault loses at least an amount.

    Parameters
    ----------
    target : float
        The amount [USD].
    loss : float
        What the vault loses in `scenario`, by `stress_test`: at least the target, but for rounding [USD].
    distance : float
        Of the move from the start, in standard deviations (Mahalanobis distance of the log ratios).
    lower_bound : float
        No move that loses as much is nearer than this.
    boxes : int
        Parts of the space of moves that were looked at.
    plausibility : float
        Probability that the model's move is at least that far from the start, in any direction.
    density_ratio : float
        Density of the model's moves at this one over that at the start.
    assets : DataFrame by asset
        ratio (price over peg reference; of BTC 1 + its change), log_ratio (from the start), deviations (the log
        ratio in standard deviations of that asset), loss [USD].
    alone : DataFrame by asset
        What it takes when this asset alone moves: ratio, deviations, largest_loss of the vault [USD], and reason,
        which says why there is no ratio, or no deviations.
    unmoving : tuple of str
        Covered assets, or BTC, without volatility: they stay where they are.
    scenario : Scenario
        The move; a ratio above 10, which is the most that a scenario can state, is 10 in it.
    repair_distance : float
        How far the correlation matrix had to be moved to be positive semi-definite.
    """

    target: float
    loss: float
    distance: float
    lower_bound: float
    boxes: int
    plausibility: float
    density_ratio: float
    assets: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    alone: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    unmoving: tuple[str, ...]
    scenario: Scenario = attrs.field(repr=False)
    repair_distance: float

    @property
    def proven(self) -> bool:
        """Whether no move is nearer by more than 0.1 %; else it is the nearest one that was found."""
        return self.lower_bound >= self.distance * (1.0 - GAP)

    def to_frame(self) -> pd.DataFrame:
        """Return the table by asset."""
        return self.assets.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types, None for what does not exist."""
        plain = attrs.asdict(self, recurse=False, filter=attrs.filters.exclude("assets", "alone", "scenario"))
        return plain | {
            "unmoving": list(self.unmoving),
            "proven": self.proven,
            "assets": json_rows(self.assets.reset_index()),
            "alone": json_rows(self.alone.reset_index()),
            "scenario": self.scenario.to_dict(),
        }


def reverse_stress(
    vault: Vault,
    loss: float,
    *,
    volatility: Mapping[str, float] | pd.Series,
    correlation: CorrelationMatrix | pd.DataFrame | None = None,
    scenario: Scenario | None = None,
    most_boxes: int = 2_000,
) -> ReverseStress:
    """Return the most likely joint move of prices for which a vault loses at least an amount.

    Parameters
    ----------
    vault : Vault
    loss : float
        [USD], > 0.
    volatility : mapping or Series of float by symbol
        Standard deviation of each log ratio at the horizon, "BTC" allowed, as `simulate_losses` takes it; an asset
        that is missing does not move.
    correlation : CorrelationMatrix or DataFrame, optional
        Of the log ratios; None: independent.
    scenario : Scenario, optional
        Where moves start: its prices and change of BTC, with its volatility multiplier and correlation shift.
        None: everything on its peg.
    most_boxes : int
        How long to search for a proof, >= 1: some milliseconds each.

    Returns
    -------
    ReverseStress

    Raises
    ------
    UnreachableLossError
        If the vault cannot lose as much; the largest possible loss is said.
    ValueError, UnknownAssetError
        As `simulate_losses`.

    Notes
    -----
    Moves are those of `simulate_losses`: log ratios from the start are normal with covariance S C S, S the
    volatilities. Of all moves x that lose enough, the one with the smallest ``x' (S C S)^-1 x`` has the largest
    density; its root is the distance, and `plausibility` is the probability of chi-square with as many degrees of
    freedom as C has rank beyond its square. A singular C is no obstacle: the search is for the shortest shock y
    with x = S F y, F F' = C. In the literature of structural reliability the move is called the design point.

    Losses are flat beyond floors and above triggers, so the moves that lose enough are no convex set, and a local
    search from one start may end anywhere. The search here is global, see `nearest_loss`: when it ends, no move is
    nearer by more than 0.1 % (`proven`); after `most_boxes` it stops with the bound that it has. Another move may
    be as likely, or nearly so.

    BTC moves as in the simulation, where its mean and not its median is the start. Correlated coins without cover
    move as well, and are not in the result.

    References
    ----------
    A. M. Hasofer and N. C. Lind, "Exact and invariant second-moment code format", Journal of the Engineering
    Mechanics Division 100 (1974) 111-121, doi:10.1061/JMCEA3.0001848.

    T. Breuer, M. Jandacka, K. Rheinberger and M. Summer, "How to find plausible, severe, and useful stress
    scenarios", International Journal of Central Banking 5(3) (2009) 205-224.

    A. J. McNeil and A. D. Smith, "Multivariate stress scenarios and solvency", Insurance: Mathematics and
    Economics 50 (2012) 299-308, doi:10.1016/j.insmatheco.2011.12.005.

    Examples
    --------
    One coin alone has to lose half of the way to its floor; of two equal independent coins each a quarter:

    >>> from tonsurance_risk import Policy
    >>> one = Vault(1e6, [Policy("a", "USDC", 100_000.0, 0.9, 0.5)])
    >>> result = reverse_stress(one, 50_000.0, volatility={"USDC": 0.1})
    >>> round(result.scenario.prices["USDC"], 6), round(result.distance, 6), result.proven
    (0.7, 3.566749, True)
    >>> result.plausibility < 4e-4
    True
    """
    within(loss, "loss", 0.0, open_low=True)
    whole(most_boxes, "most_boxes", 1)
    start = attrs.evolve(PEG if scenario is None else scenario, probability=1.0, weight=1.0, is_active=True)
    check_symbols(vault, [start])
    model, repair_distance = compile_model(vault, [start], correlation, volatility)
    moves = _Moves.of(model)
    largest = moves.largest()
    attained = moves.largest_is_attained()
    rounding = ROUNDING * float(loss)
    needed = float(loss) - rounding
    if needed > largest or (needed >= largest - 2.0 * rounding and not attained):
        raise _unreachable(loss, largest, attained, moves.unmoving)
    found = _search(moves, needed, largest, most_boxes)
    if found.shock is None:
        raise _unreachable(loss, largest, attained, moves.unmoving, together=False)
    shock, reached = _reaching(moves, vault, found.shock, float(loss), needed)
    distance = float(np.linalg.norm(shock))
    rank = int(np.linalg.matrix_rank(moves.factor)) if len(shock) else 0
    return ReverseStress(
        target=float(loss),
        loss=stress_test(vault, [reached]).losses.iloc[0].item(),
        distance=distance,
        lower_bound=min(found.bound, distance),
        boxes=found.boxes,
        plausibility=float(special.chdtrc(rank, distance**2)) if rank else 1.0,
        density_ratio=math.exp(-(distance**2) / 2.0),
        assets=moves.table(shock),
        alone=moves.alone(needed),
        unmoving=moves.unmoving,
        scenario=reached,
        repair_distance=repair_distance,
    )


@attrs.frozen(eq=False)
class _Moves:
    """The compiled model of one scenario, exposures being coins and then BTC."""

    model: LossModel
    moving: tuple[int, ...]

    @classmethod
    def of(cls, model: LossModel) -> _Moves:
        # BTC that has lost everything cannot move.
        gone = model.btc_change[0] == -1.0
        return cls(model, tuple(e for e in model.moving if not (e == len(model.coins) and gone)))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.model.coins, BTC) if self.model.btc_value > 0.0 else self.model.coins

    @property
    def unmoving(self) -> tuple[str, ...]:
        return tuple(name for exposure, name in enumerate(self.names) if exposure not in self.moving)

    @property
    def factor(self) -> FloatArray:
        size = len(self.moving)
        return np.asarray(self.model.factors[0][:size, :size])

    @property
    def functions(self) -> list[PayoutFunction]:
        return [table.function for table in self.model.tables]

    @property
    def btc_moves(self) -> bool:
        return len(self.model.coins) in self.moving

    def coin(self, exposure: int) -> Coin:
        model = self.model
        return Coin(self.functions[exposure], float(model.levels[0, exposure]), float(model.sigma[0, exposure]))

    def bitcoin(self) -> Bitcoin:
        model = self.model
        return Bitcoin(model.btc_value, float(model.btc_change[0]), float(model.sigma[0, -1]))

    def problem(self, loss: float) -> Problem:
        model = self.model
        coins = [exposure for exposure in self.moving if exposure < len(model.coins)]
        still = sum(p for e, p in enumerate(model.level_payouts[0].tolist()) if e not in self.moving)
        needed = loss - still + (0.0 if self.btc_moves else model.btc_value * float(model.btc_change[0]))
        bitcoin = self.bitcoin() if self.btc_moves else None
        return Problem(tuple(map(self.coin, coins)), bitcoin, self.factor, needed, model.aggregate_limit - still)

    def largest(self) -> float:
        """Return what cannot be exceeded, were every price to fall on its own [USD]."""
        model = self.model
        paid = sum(
            function.values[0] if coin in self.moving else payout
            for coin, (function, payout) in enumerate(zip(self.functions, model.level_payouts[0], strict=True))
        )
        lost = 1.0 if self.btc_moves else -float(model.btc_change[0])
        return float(min(paid, model.aggregate_limit) + model.btc_value * lost)

    def largest_is_attained(self) -> bool:
        """Return whether prices above 0 are enough for it."""
        coins = [e for e in self.moving if e < len(self.model.coins)]
        paid = sum(f.values[0] for f in self.functions)
        return not self.btc_moves and (
            all(self.functions[e].knots[0] > 0.0 for e in coins) or paid > self.model.aggregate_limit
        )

    def ratios(self, shock: FloatArray) -> FloatArray:
        """Return the ratio of each exposure, of BTC 1 + its change."""
        model = self.model
        ratios = np.append(model.levels[0], 1.0 + model.btc_change[0])
        normals = self.factor @ shock
        for z, exposure in zip(normals.tolist(), self.moving, strict=True):
            if exposure < len(model.coins):
                ratios[exposure] = self.coin(exposure).ratio(z)
            else:
                ratios[exposure] = 1.0 - float(self.bitcoin()(z)) / model.btc_value
        return ratios[: len(self.names)]

    def table(self, shock: FloatArray) -> pd.DataFrame:
        model, ratios = self.model, self.ratios(shock)
        starts = np.append(model.levels[0], 1.0 + model.btc_change[0])[: len(ratios)]
        deviations = np.zeros(len(ratios))
        deviations[list(self.moving)] = self.factor @ shock
        paid = np.array([function(r) for function, r in zip(self.functions, ratios, strict=False)])
        paid *= min(1.0, model.aggregate_limit / max(paid.sum(), 1e-300)) if len(paid) else 1.0
        lost = [*paid, *(model.btc_value * (1.0 - ratios[len(paid) :]))]
        log_ratios = np.log(np.maximum(ratios, 1e-300) / np.where(starts > 0.0, starts, 1.0))
        log_ratios[[exposure for exposure in range(len(ratios)) if exposure not in self.moving]] = 0.0
        return pd.DataFrame(
            {"ratio": ratios, "log_ratio": log_ratios, "deviations": deviations, "loss": lost},
            index=pd.Index(self.names, name="asset"),
        )

    def alone(self, loss: float) -> pd.DataFrame:
        """Return what it takes of each exposure when all others stay."""
        rows = [self._coin_alone(loss, exposure) for exposure in range(len(self.model.coins))]
        if self.model.btc_value > 0.0:
            rows.append(self._btc_alone(loss))
        table = pd.DataFrame(rows, columns=["ratio", "deviations", "largest_loss", "reason"])
        numbers = dict.fromkeys(("ratio", "deviations", "largest_loss"), "Float64")
        return table.astype(numbers).set_axis(pd.Index(self.names, name="asset"))

    def _coin_alone(self, loss: float, exposure: int) -> tuple[float | None, float | None, float, str]:
        model, function = self.model, self.functions[exposure]
        others = float(model.level_payouts[0].sum() - model.level_payouts[0, exposure])
        btc = -model.btc_value * float(model.btc_change[0])
        largest = min(others + float(function.values[0]), model.aggregate_limit) + btc
        name, level = model.coins[exposure], float(model.levels[0, exposure])
        if loss <= float(model.level_losses()[0]):
            return level, 0.0, largest, ""
        ratio = _ratio_paying(function, loss - btc - others) if loss <= largest else None
        if ratio is None:
            floor = "floor" if function.knots[0] > 0.0 else "price of 0"
            return None, None, largest, f"even at the {floor} of {name} the vault loses only {largest:,.2f} USD"
        if exposure not in self.moving:
            return ratio, None, largest, f"{name} has no volatility: it does not move in the model"
        return ratio, float(self.coin(exposure).normal(ratio)), largest, ""

    def _btc_alone(self, loss: float) -> tuple[float | None, float | None, float, str]:
        model = self.model
        value, change, sigma = model.btc_value, float(model.btc_change[0]), float(model.sigma[0, -1])
        paid = min(float(model.level_payouts[0].sum()), model.aggregate_limit)
        if loss <= float(model.level_losses()[0]):
            return 1.0 + change, 0.0, paid + value, ""
        ratio = 1.0 - (loss - paid) / value
        if ratio <= 0.0:
            return None, None, paid + value, f"even without any {BTC} the vault loses only {paid + value:,.2f} USD"
        if not self.btc_moves:
            return ratio, None, paid + value, f"{BTC} has no volatility: it does not move in the model"
        return ratio, (math.log(ratio / (1.0 + change)) + sigma**2 / 2.0) / sigma, paid + value, ""


def _ratio_paying(function: PayoutFunction, amount: float) -> float | None:
    """Return the highest ratio > 0 at which at least an amount is paid; None where no price above 0 is enough."""
    reached = np.flatnonzero(function.values >= amount)
    if len(reached) == 0:
        return None
    k = int(reached[-1])
    ratio = float(function.knots[k])
    if k + 1 < len(function.knots) and function.slopes[k + 1] > 0.0:
        ratio = float(function.knots[k + 1] - (amount - function.values[k + 1]) / function.slopes[k + 1])
        while ratio > function.knots[k] and float(function(ratio)) < amount:
            ratio = math.nextafter(ratio, 0.0)
    return ratio if ratio > 0.0 else None


def _search(moves: _Moves, loss: float, largest: float, most_boxes: int) -> Found:
    """Return the shortest shock; starts are along each exposure, along all, and with all at the bottom."""
    problem = moves.problem(loss)
    size = len(moves.moving)
    if problem.losses(np.zeros((1, size)))[0] >= problem.needed:
        return Found(np.zeros(size), 0.0, 0)
    bottom = _bottom(moves, (largest - loss) / max(size, 1))
    starts = [np.asarray(np.linalg.lstsq(problem.factor, bottom)[0], dtype=np.float64)]
    if problem.losses(starts[0][None])[0] < problem.needed:
        starts = []
    weights = np.abs(bottom) / max(np.abs(bottom).max(), 1e-300)
    directions = [*-np.eye(size), -np.ones(size), -weights]
    for direction in directions:
        ray = direction @ problem.factor
        falling = problem.factor @ ray
        times = [b / f for b, f in zip(bottom.tolist(), falling.tolist(), strict=True) if f < -1e-9]
        if times:
            start = problem.along(ray, 0.0, max(times))
            starts += [] if start is None else [start]
    return nearest_loss(problem, starts, FARTHER * float(np.abs(bottom).max()), most_boxes)


def _bottom(moves: _Moves, slack: float) -> FloatArray:
    """Return normals at which no exposure can lose more than `slack` beyond what it loses, at most 0."""
    found = []
    for exposure in moves.moving:
        if exposure < len(moves.model.coins):
            coin = moves.coin(exposure)
            most = float(coin.function.values[0])
            ratio = _ratio_paying(coin.function, max(most - slack, 0.0)) or LOWEST_RATIO * coin.function.knots[-1]
            found.append(float(coin.normal(ratio)))
        else:
            bitcoin = moves.bitcoin()
            growth = min(slack / bitcoin.value, 1.0) / (1.0 + bitcoin.change)
            found.append((math.log(growth) + bitcoin.sigma**2 / 2.0) / bitcoin.sigma)
    return np.asarray(np.minimum(found, 0.0))


def _reaching(
    moves: _Moves, vault: Vault, shock: FloatArray, loss: float, needed: float
) -> tuple[FloatArray, Scenario]:
    """Return the shock, made longer by rounding errors until `stress_test` finds the loss, and its scenario."""
    for power in range(40):
        longer = shock * (1.0 + (2.0**power - 1.0) * np.finfo(float).eps)
        ratios = moves.ratios(longer)
        coins = len(moves.model.coins)
        # A scenario has no price above the highest trigger, and nothing is paid above that.
        prices = np.minimum(ratios[:coins], HIGHEST_RATIO).tolist()
        reached = Scenario(
            f"Reverse stress: {loss:,.0f} USD",
            0.0,
            prices=dict(zip(moves.model.coins, prices, strict=True)),
            btc_change=float(ratios[coins] - 1.0) if len(ratios) > coins else 0.0,
            kind="reverse_stress",
            source=f"the most likely move for which the vault loses at least {loss:,.2f} USD",
        )
        if stress_test(vault, [reached]).losses.iloc[0] >= needed:
            return longer, reached
    raise ConvergenceError(f"no move was found for which the vault loses {loss!r} USD to rounding", required=loss)


def _unreachable(
    loss: float, largest: float, attained: bool, unmoving: tuple[str, ...], together: bool = True
) -> UnreachableLossError:
    most = "at most" if attained else "less than"
    still = f" ({', '.join(unmoving)} cannot move: no volatility)" if unmoving else ""
    fall = "" if together else ", and its correlation does not let prices fall together as far as it takes"
    return UnreachableLossError(
        f"loss: the vault loses {most} {largest:,.2f} USD{still}{fall}; asked for {loss:,.2f}",
        observed=largest,
        required=loss,
    )
