"""The plans of CoinGecko: where each is asked, with which key, and what it grants."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import attrs

from tonsurance_risk.errors import SettingsError
from tonsurance_risk.sources.rate_limit import HostLimits

_PUBLIC = "https://api.coingecko.com/api/v3"
_PRO = "https://pro-api.coingecko.com/api/v3"

FREE_HISTORY = timedelta(days=364)
"""The free plans reach back 365 days, counted by the host's clock to the second."""


@attrs.frozen(kw_only=True)
class Tier:
    """A plan: where it is asked, with which header, and what it grants.

    Parameters
    ----------
    base_url : str
    header, variable : str or None
        Of the key: in the request and in the environment; None: there is no key.
    limits : HostLimits
        A little below what is documented.
    history : timedelta or None
        How far it reaches back; None: to the beginning, or to where the host says.
    """

    base_url: str
    header: str | None = None
    variable: str | None = None
    limits: HostLimits
    history: timedelta | None = None


TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "keyless": Tier(base_url=_PUBLIC, limits=HostLimits(calls_per_minute=4), history=FREE_HISTORY),
        "demo": Tier(
            base_url=_PUBLIC,
            header="x-cg-demo-api-key",
            variable="COINGECKO_DEMO_API_KEY",
            limits=HostLimits(calls_per_minute=25, burst=4, monthly_credits=10_000),
            history=FREE_HISTORY,
        ),
        "pro": Tier(
            base_url=_PRO,
            header="x-cg-pro-api-key",
            variable="COINGECKO_PRO_API_KEY",
            limits=HostLimits(calls_per_minute=240, burst=10, monthly_credits=100_000),
        ),
    }
)
"""Plans by name; "pro" has the limits of the smallest paid one."""


def key_of(tier: str, given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the key of a plan, None where it has none; a `SettingsError` if one is missing, empty or too many."""
    plan = TIERS[tier]
    if plan.header is None or plan.variable is None:
        if given is not None:
            raise SettingsError(f"the tier {tier!r} has no key; give a tier that has one")
        return None
    key = environment.get(plan.variable) if given is None else given
    if key is None:
        raise SettingsError(f"the tier {tier!r} needs a key: set {plan.variable}", required=plan.variable)
    if not key:
        raise SettingsError(f"the key of the tier {tier!r} is empty: set {plan.variable}", required=plan.variable)
    return key
