"""What lies behind a change of the value at risk, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def causes(drivers: Mapping[str, Any]) -> dict[str, str]:
    """Return what differs between two runs, a line a part of the explanation, none without.

    Parameters
    ----------
    drivers : mapping
        As a report document has them in ``var_explanation``.

    Examples
    --------
    >>> causes({"sampling_noise": {"n": {"before": 10_000, "after": 20_000}, "seed": {"before": 0, "after": 0}}})
    {'sampling_noise': 'n 10,000, now 20,000'}
    >>> causes({"correlations": [{"asset_1": "DAI", "asset_2": "USDC", "before": 0.0812, "after": 0.0834}]})
    {'correlations': 'correlation of DAI and USDC 0.081, now 0.083'}
    """
    lines = {part: "; ".join(_WORDS[part](found)) for part, found in drivers.items()}
    return {part: line for part, line in lines.items() if line}


def _of_vault(found: Mapping[str, Any]) -> Iterator[str]:
    for name, what in (("capital", "capital"), ("btc_value", "BTC"), ("coverage", "coverage")):
        if change := found[f"{name}_change_usd"]:
            yield f"{what} {change:+,.0f} USD"
    limit = found["aggregate_limit_usd"]
    if limit["before"] != limit["after"]:
        yield f"aggregate limit {_amount(limit['before'])}, now {_amount(limit['after'])}"
    for name in ("added", "removed", "changed"):
        if count := found[f"policies_{name}"]:
            yield f"{count:,} {'policy' if count == 1 else 'policies'} {name}"
    if found["coverage_by_asset"]:
        by_asset = (f"{one['asset']} {one['change_usd']:+,.0f} USD" for one in found["coverage_by_asset"])
        yield f"coverage by asset: {', '.join(by_asset)}"


def _of_volatility(found: list[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        yield f"volatility of {one['asset']} {_told_apart(one['before'], one['after'], '.3g')}"


def _of_correlations(found: list[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        figures = _told_apart(one["before"], one["after"], ".2f")
        yield f"correlation of {one['asset_1']} and {one['asset_2']} {figures}"


def _of_scenarios(found: list[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        shares = _told_apart(one["share_before"], one["share_after"], ".2%")
        fields = f" ({', '.join(one['changed'])} changed)" if one["changed"] else ""
        yield f"share of {one['scenario']} {shares}{fields}"


def _of_sampling(found: Mapping[str, Any]) -> Iterator[str]:
    for name, both in found.items():
        if both["before"] != both["after"]:
            yield f"{name} {_plain(both['before'])}, now {_plain(both['after'])}"


def _told_apart(before: float | None, after: float | None, form: str) -> str:
    """Return two figures, with as many more digits as it takes to see that they differ, six at most."""
    digits, kind = int(form[1:-1]), form[-1]
    for more in range(7):
        shown = ["none" if value is None else f"{value:.{digits + more}{kind}}" for value in (before, after)]
        if shown[0] != shown[1] or before == after:
            break
    return ", now ".join(shown)


def _amount(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f} USD"


def _plain(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


_WORDS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "vault": _of_vault,
    "prices_and_volatility": _of_volatility,
    "correlations": _of_correlations,
    "scenarios": _of_scenarios,
    "sampling_noise": _of_sampling,
}
