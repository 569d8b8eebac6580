"""Figures of the book itself, without any model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from tonsurance_risk.assets import STABLECOINS, canonical, check_symbols
from tonsurance_risk.model import Vault

LARGEST_LTV = 0.8
"""Coverage / capital at which the vault counts as full."""


@attrs.frozen
class PortfolioMetrics:
    """How much is covered, and how widely it is spread.

    Parameters
    ----------
    capital, coverage : float
        [USD]
    n_policies : int
        Policies in the vault.
    ltv : float
        coverage / capital.
    utilization : float
        ltv / 0.8.
    diversification : float
        Entropy of coverage by asset / ln(14, or the number of assets covered if that is more): 1 when coverage
        is even, 0 when all of it is on one asset, and 1 without policies.
    """

    capital: float
    coverage: float
    n_policies: int
    ltv: float
    utilization: float
    diversification: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return attrs.asdict(self)


def portfolio_metrics(vault: Vault) -> PortfolioMetrics:
    """Return the metrics of a vault.

    Raises
    ------
    UnknownAssetError
        If a policy names an asset that nobody knows.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> metrics = portfolio_metrics(Vault(1_000_000.0, [Policy("P1", "USDC", 400_000.0, 0.95, 0.5)]))
    >>> metrics.ltv, metrics.utilization, metrics.diversification
    (0.4, 0.5, 0.0)
    """
    check_symbols(vault)
    return PortfolioMetrics(
        capital=vault.capital,
        coverage=vault.coverage,
        n_policies=len(vault.policies),
        ltv=vault.ltv,
        utilization=vault.ltv / LARGEST_LTV,
        diversification=spread(coverage_by_asset(vault).values()),
    )


def coverage_by_asset(vault: Vault) -> dict[str, float]:
    """Return the coverage of each covered asset [USD], by symbol, sorted."""
    amounts: dict[str, list[float]] = {}
    for policy in vault.policies:
        amounts.setdefault(canonical(policy.asset), []).append(policy.coverage)
    return {asset: math.fsum(amounts[asset]) for asset in sorted(amounts)}


def spread(amounts: Iterable[float]) -> float:
    """Return the entropy of amounts > 0 over that of 14 equal ones, or of as many as there are; 1 for none."""
    listed = list(amounts)
    if not listed:
        return 1.0
    total = math.fsum(listed)
    entropy = math.fsum(-amount / total * math.log(amount / total) for amount in listed)
    return min(max(entropy / math.log(max(len(STABLECOINS), len(listed))), 0.0), 1.0)
