"""Stress test: what the vault loses at the levels of each scenario, without shocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import check_symbols
from tonsurance_risk.core.payoff import payout_functions
from tonsurance_risk.core.scenarios import checked_scenarios, scenario_levels
from tonsurance_risk.model import Scenario, Vault
from tonsurance_risk.values import read_only_series

LARGE_SHARE_OF_CAPITAL = 0.5


@attrs.frozen
class StressResult:
    """Losses by scenario.

    Parameters
    ----------
    losses : Series
        Loss by scenario name [USD], in the order of the scenarios; read-only.
    capital : float
        Of the vault [USD].
    """

    losses: pd.Series = attrs.field(converter=read_only_series, eq=attrs.cmp_using(eq=pd.Series.equals))
    capital: float

    @property
    def worst_scenario(self) -> str:
        """Name of the scenario that loses most."""
        return str(self.losses.index[int(np.argmax(self.losses.to_numpy()))])

    @property
    def worst_loss(self) -> float:
        """Largest loss [USD]."""
        return float(self.losses.max())

    @property
    def average_loss(self) -> float:
        """Plain mean over the scenarios [USD]: probabilities do not count."""
        return float(self.losses.mean())

    @property
    def above_threshold(self) -> pd.Series:
        """The losses above 50 % of capital, by scenario name [USD]."""
        return self.losses[self.losses > LARGE_SHARE_OF_CAPITAL * self.capital]

    def to_frame(self) -> pd.DataFrame:
        """Return a table by scenario: loss [USD] and share_of_capital."""
        return pd.DataFrame({"loss": self.losses, "share_of_capital": self.losses / self.capital})

    def to_dict(self) -> dict[str, Any]:
        """Return the losses and what follows from them in JSON types."""
        return {
            "losses": {str(name): float(loss) for name, loss in self.losses.items()},
            "worst_scenario": self.worst_scenario,
            "worst_loss": self.worst_loss,
            "average_loss": self.average_loss,
            "above_threshold": [str(name) for name in self.above_threshold.index],
        }


def stress_test(vault: Vault, scenarios: Sequence[Scenario]) -> StressResult:
    """Return what the vault loses in each active scenario, at its levels and BTC change, without shocks.

    Parameters
    ----------
    vault : Vault
        Policies and BTC.
    scenarios : sequence of Scenario
        Inactive ones are left out; at least one is active.

    Raises
    ------
    ValueError
        If no scenario is active or a name is doubled.
    UnknownAssetError
        If a policy or scenario names an asset that nobody knows.

    Notes
    -----
    loss = sum of payouts at the scenario's prices, at most the aggregate limit, - btc_value * btc_change.

    Examples
    --------
    >>> from tonsurance_risk import Policy
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.75, 0.25)], btc_value=10_000.0)
    >>> stress_test(vault, [Scenario("run", 0.1, prices={"USDC": 0.5}, btc_change=-0.5)]).losses.to_dict()
    {'run': 55000.0}
    """
    listed = checked_scenarios(scenarios)
    active = [scenario for scenario in listed if scenario.is_active]
    if not active:
        raise ValueError("scenarios: at least one must be active, found none")
    check_symbols(vault, listed)
    payouts = payout_functions(vault)
    levels = scenario_levels(active, list(payouts))
    paid = np.zeros(len(active))
    for column, payout in enumerate(payouts.values()):
        paid += payout(levels[:, column])
    if vault.aggregate_limit is not None:
        paid = np.minimum(paid, vault.aggregate_limit)
    losses = paid - vault.btc_value * np.array([scenario.btc_change for scenario in active])
    names = pd.Index([scenario.name for scenario in active], name="scenario")
    return StressResult(pd.Series(losses, index=names, name="loss"), vault.capital)
