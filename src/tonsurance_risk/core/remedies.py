"""What would clear an alert: the smallest changes of the book that bring a figure back within its bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.payoff import payout_functions
from tonsurance_risk.core.portfolio import coverage_by_asset, spread
from tonsurance_risk.core.scenarios import scenario_levels
from tonsurance_risk.model import Scenario, Vault
from tonsurance_risk.values import finite

ROUNDING = 1e-13
"""By so much of what it is taken of an amount is made larger, so that rounding does not leave it short."""
NEW_COINS = 4
"""Even cover on so many coins of 14 has a diversification of ln 4 / ln 14 = 0.53; on three it has 0.42."""


@attrs.frozen(kw_only=True)
class Remedy:
    """A change of a vault [USD], to be added to what it has: negative amounts cut.

    Parameters
    ----------
    capital_usd, btc_value_usd, aggregate_limit_usd : float
        Of the vault.
    coverage_usd : dict of float by asset
        Of all policies on the asset, in proportion to their coverage.
    """

    capital_usd: float = 0.0
    btc_value_usd: float = 0.0
    aggregate_limit_usd: float = 0.0
    coverage_usd: Mapping[str, float] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return attrs.asdict(self)


@attrs.frozen
class Clearing:
    """Where the figure that a rule looks at has to be for its alert not to fire.

    Parameters
    ----------
    subject : str
        Asset or pair; empty where it is about the book.
    quantity : str
        What is measured.
    relation : {"below", "at_most", "at_least"}
    bound : float
        In the unit of the quantity.
    """

    subject: str
    quantity: str
    relation: Literal["below", "at_most", "at_least"]
    bound: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return attrs.asdict(self)


def apply_remedy(vault: Vault, remedy: Remedy) -> Vault:
    """Return the vault after a remedy.

    Parameters
    ----------
    vault : Vault
        The book as it is.
    remedy : Remedy
        Of a recommendation about it. Policies whose coverage is cut to nothing are gone.

    Raises
    ------
    ValueError
        If it changes the coverage of an asset that has none, or a limit where there is none; or cuts more than
        there is.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)])
    >>> smaller = apply_remedy(vault, Remedy(capital_usd=50_000.0, coverage_usd={"USDC": -25_000.0}))
    >>> smaller.capital, smaller.coverage
    (1050000.0, 75000.0)
    """
    if not isinstance(remedy, Remedy):
        raise ValueError(f"remedy must be a Remedy, found {type(remedy).__name__}")
    covered = coverage_by_asset(vault)
    unknown = sorted(set(remedy.coverage_usd) - set(covered))
    if unknown:
        raise ValueError(
            f"coverage_usd must be of covered assets, {', '.join(covered)}; found {', '.join(unknown)}"
        )
    for asset, change in remedy.coverage_usd.items():
        if not finite(change, f"coverage_usd of {asset}") >= -covered[asset] * (1.0 + 1e-9):
            raise ValueError(f"coverage_usd of {asset} must be at least {-covered[asset]:g}, found {change!r}")
    if remedy.aggregate_limit_usd and vault.aggregate_limit is None:
        raise ValueError(
            f"aggregate_limit_usd of a vault without a limit must be 0, found {remedy.aggregate_limit_usd}"
        )
    kept = {asset: 1.0 + remedy.coverage_usd.get(asset, 0.0) / amount for asset, amount in covered.items()}
    return attrs.evolve(
        vault,
        capital=vault.capital + remedy.capital_usd,
        btc_value=vault.btc_value + remedy.btc_value_usd,
        aggregate_limit=None
        if vault.aggregate_limit is None
        else vault.aggregate_limit + remedy.aggregate_limit_usd,
        policies=[
            attrs.evolve(policy, coverage=policy.coverage * kept[canonical(policy.asset)])
            for policy in vault.policies
            if kept[canonical(policy.asset)] > 0.0
        ],
    )


def without_cover(vault: Vault, assets: Iterable[str]) -> Remedy:
    """Return the remedy that takes away all policies on assets."""
    covered = coverage_by_asset(vault)
    return Remedy(coverage_usd={asset: -covered[asset] for asset in assets if asset in covered})


def scaled(vault: Vault, factor: float) -> Remedy:
    """Return the remedy that multiplies every loss of the vault: coverage, BTC and the aggregate limit."""
    return Remedy(
        btc_value_usd=vault.btc_value * (factor - 1.0),
        aggregate_limit_usd=(vault.aggregate_limit or 0.0) * (factor - 1.0),
        coverage_usd={asset: amount * (factor - 1.0) for asset, amount in coverage_by_asset(vault).items()},
    )


def for_ltv(vault: Vault, below: float) -> tuple[Remedy, Remedy]:
    """Return the least capital, and the least cut of all coverage alike, for an LTV below a bound, in dollars."""
    more = _above(vault.coverage / below - vault.capital, vault.coverage / below)
    less = min(_above(vault.coverage - below * vault.capital, vault.coverage), vault.coverage)
    return Remedy(capital_usd=more), Remedy(coverage_usd=scaled(vault, 1.0 - less / vault.coverage).coverage_usd)


def for_worst_stress(vault: Vault, scenarios: Sequence[Scenario], share: float) -> tuple[Remedy, ...]:
    """Return the changes by which no active scenario loses more than a share of capital, in whole dollars.

    The least capital; and the least cut of coverage on one asset, or in proportion on all where one is not enough.
    Where Bitcoin alone loses more, no cut of coverage helps.
    """
    active = [scenario for scenario in scenarios if scenario.is_active]
    functions = payout_functions(vault)
    levels = scenario_levels(active, list(functions))
    paid = np.array([function(levels[:, coin]) for coin, function in enumerate(functions.values())])
    paid = paid.reshape(len(functions), len(active)).T
    on_btc = -vault.btc_value * np.array([scenario.btc_change for scenario in active])
    total = paid.sum(axis=1)
    limited = total if vault.aggregate_limit is None else np.minimum(total, vault.aggregate_limit)
    worst = float((limited + on_btc).max())
    capital = Remedy(capital_usd=_at_least(worst / share - vault.capital, worst / share))
    room = share * vault.capital - on_btc
    beyond = limited > room
    if (room[beyond] < 0.0).any():
        return (capital,)
    excess = (total - room)[beyond]
    covered = coverage_by_asset(vault)
    with np.errstate(divide="ignore"):
        shares = (excess[:, None] / paid[beyond]).max(axis=0)
    alone = {
        asset: covered[asset] * part for asset, part in zip(covered, shares.tolist(), strict=True) if part <= 1.0
    }
    if alone:
        asset = min(alone, key=lambda coin: alone[coin])
        cut = min(_at_least(alone[asset], vault.coverage), covered[asset])
        return capital, Remedy(coverage_usd={asset: -cut})
    part = min(float((excess / total[beyond]).max()) * (1.0 + ROUNDING), 1.0)
    return capital, Remedy(coverage_usd=scaled(vault, 1.0 - part).coverage_usd)


def for_diversification(vault: Vault, at_least: float) -> Remedy | None:
    """Return the least cut of the largest coverages to one amount by which cover is spread widely enough.

    None where it is on too few coins for that, see `new_cover`.

    Notes
    -----
    Lower caps make the shares more even, in the sense of majorization, and so their entropy larger [1]_. The
    largest cap that is low enough is found by bisection.

    References
    ----------
    .. [1] A. W. Marshall, I. Olkin and B. C. Arnold, "Inequalities: Theory of Majorization and Its Applications",
       2nd ed., Springer 2011, doi:10.1007/978-0-387-68276-1, chapter 3.
    """
    covered = coverage_by_asset(vault)

    def wide_enough(cap: float) -> bool:
        return spread([min(amount, cap) for amount in covered.values()]) >= at_least

    lowest, highest = min(covered.values()), max(covered.values())
    if not wide_enough(lowest):
        return None
    cap = _bisected(wide_enough, good=lowest, bad=highest)
    cap = max(cap - highest * ROUNDING, cap / 2.0)
    return Remedy(coverage_usd={asset: cap - amount for asset, amount in covered.items() if amount > cap})


def new_cover(vault: Vault, at_least: float) -> float:
    """Return the least cover [USD, whole] which, on each of 4 coins that have none, spreads all widely enough.

    Notes
    -----
    Entropy is concave in the share of the new cover and ends, where there is nothing else, at ln 4: once it is
    large enough it stays so.
    """
    covered = list(coverage_by_asset(vault).values())

    def wide_enough(amount: float) -> bool:
        return spread([*covered, *[amount] * NEW_COINS]) >= at_least

    # All there is, on each of four more coins, makes five even parts at least: 0.61 of ln 14, more than is asked.
    amount = _bisected(wide_enough, good=math.fsum(covered), bad=0.0)
    return _at_least(amount, amount)


def _bisected(condition: Callable[[float], bool], *, good: float, bad: float) -> float:
    """Return a number that meets a monotone condition and is next to one that does not, to rounding."""
    while abs(good - bad) > ROUNDING * max(abs(good), abs(bad)):
        middle = (good + bad) / 2.0
        if condition(middle):
            good = middle
        else:
            bad = middle
    return good


def _at_least(amount: float, of: float) -> float:
    """Return the smallest whole number of dollars that is not less, also after rounding of what it is taken of."""
    return float(math.ceil(amount + of * ROUNDING))


def _above(amount: float, of: float) -> float:
    """Return the smallest whole number of dollars that is more, also after rounding of what it is taken of."""
    return float(math.floor(amount + of * ROUNDING)) + 1.0
