"""What differs between the inputs of two runs, in short: the causes behind a change of their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import attrs

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.portfolio import coverage_by_asset
from tonsurance_risk.core.sample import LossSample
from tonsurance_risk.core.scenarios import cumulated_shares
from tonsurance_risk.model import BTC, Scenario, Vault

MOST_NAMED = 5
"""How many assets, pairs or scenarios are named; the largest changes come first."""


def run_changes(before: LossSample, after: LossSample) -> dict[str, Any]:
    """Return what differs between the inputs of two runs, by part of an explanation, in JSON types.

    Returns
    -------
    dict
        ``vault``: changes of capital, BTC and coverage [USD], numbers of policies added, removed and changed,
        the assets whose coverage changed most. ``prices_and_volatility``: assets by the ratio of their sigmas.
        ``correlations``: pairs of simulated assets by the difference. ``scenarios``: those added, removed or
        changed, by the difference of their shares after weighting, and which fields. ``sampling_noise``: n, seed
        and sampling. Lists hold at most 5; None stands for what was not there.
    """
    simulated = sorted({*before.model.coins, *after.model.coins, BTC})
    first, then = before.inputs, after.inputs
    return {
        "vault": _vault_changes(first.vault, then.vault),
        "prices_and_volatility": _volatility_changes(first.volatility, then.volatility),
        "correlations": _correlation_changes(first.correlation, then.correlation, simulated),
        "scenarios": _scenario_changes(first.scenarios, then.scenarios),
        "sampling_noise": {
            name: {"before": getattr(before, name), "after": getattr(after, name)}
            for name in ("n", "seed", "sampling")
        },
    }


def _vault_changes(before: Vault, after: Vault) -> dict[str, Any]:
    old, new = ({policy.policy_id: policy for policy in vault.policies} for vault in (before, after))
    covered, now = coverage_by_asset(before), coverage_by_asset(after)
    by_asset = [
        {"asset": asset, "change_usd": now.get(asset, 0.0) - covered.get(asset, 0.0)}
        for asset in sorted({*covered, *now})
    ]
    return {
        "capital_change_usd": after.capital - before.capital,
        "btc_value_change_usd": after.btc_value - before.btc_value,
        "coverage_change_usd": after.coverage - before.coverage,
        "aggregate_limit_usd": {"before": before.aggregate_limit, "after": after.aggregate_limit},
        "policies_added": len(new.keys() - old.keys()),
        "policies_removed": len(old.keys() - new.keys()),
        "policies_changed": sum(new[policy_id] != old[policy_id] for policy_id in new.keys() & old.keys()),
        "coverage_by_asset": _largest(by_asset, lambda row: abs(row["change_usd"])),
    }


def _volatility_changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[dict[str, Any]]:
    rows = [
        {"asset": asset, "before": before.get(asset), "after": after.get(asset)}
        for asset in sorted({*before, *after})
    ]
    return _largest(rows, lambda row: _log_ratio(row["before"], row["after"]))


def _log_ratio(before: float | None, after: float | None) -> float:
    """Return |ln(after / before)|, infinite where one of them is missing or 0 and the other is not."""
    if before == after:
        return 0.0
    return abs(math.log(after / before)) if before and after else math.inf


def _correlation_changes(
    before: CorrelationMatrix | None, after: CorrelationMatrix | None, assets: Sequence[str]
) -> list[dict[str, Any]]:
    rows = [
        {"asset_1": one, "asset_2": other, "before": _pair(before, one, other), "after": _pair(after, one, other)}
        for one, other in combinations(assets, 2)
    ]
    # A pair that a matrix does not have is simulated as independent.
    return _largest(rows, lambda row: abs((row["after"] or 0.0) - (row["before"] or 0.0)))


def _pair(matrix: CorrelationMatrix | None, one: str, other: str) -> float | None:
    if matrix is None or not {one, other} <= set(matrix.assets):
        return None
    return matrix.get(one, other)


def _scenario_changes(before: Sequence[Scenario], after: Sequence[Scenario]) -> list[dict[str, Any]]:
    old, new = _shares(before), _shares(after)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([*new, *old]):
        was, now = old.get(name), new.get(name)
        if was != now:
            rows.append(
                {
                    "scenario": name,
                    "share_before": was and was[1],
                    "share_after": now and now[1],
                    "changed": _different_fields(was[0], now[0]) if was and now else [],
                }
            )
    rows.sort(key=lambda row: -abs((row["share_after"] or 0.0) - (row["share_before"] or 0.0)))
    return rows[:MOST_NAMED]


def _shares(scenarios: Sequence[Scenario]) -> dict[str, tuple[Scenario, float]]:
    """Return each scenario with its probability after weighting."""
    ends = cumulated_shares(scenarios).tolist()
    return {
        scenario.name: (scenario, end - start)
        for scenario, start, end in zip(scenarios, [0.0, *ends], ends, strict=False)
    }


def _different_fields(before: Scenario, after: Scenario) -> list[str]:
    return [
        field.name for field in attrs.fields(Scenario) if getattr(before, field.name) != getattr(after, field.name)
    ]


def _largest(rows: list[dict[str, Any]], size: Callable[[dict[str, Any]], float]) -> list[dict[str, Any]]:
    """Return the rows that changed, the largest first, at most `MOST_NAMED`."""
    return sorted((row for row in rows if size(row) > 0.0), key=size, reverse=True)[:MOST_NAMED]
