"""The nouns that several modules share, as frozen records. Read this first.

Prices of policies and scenarios are in units of the peg reference (1.0 = on peg), money is USD, losses are
positive, rates and probabilities are fractions, and every time is UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.errors import InvalidPriceError
from tonsurance_risk.values import FloatArray, IntArray, checked, iso, plain, read_only, text, unique, within

Direction: TypeAlias = Literal["below", "above"]

YEAR = timedelta(days=365)
"""The horizon of the built-in probabilities, and the year of every rate."""

BTC = "BTC"
HIGHEST_RATIO = 10.0
"""Of a trigger or a scenario price to the peg reference: what is above it is a percentage or another unit."""
MOST_SEED = 2**63 - 1
"""What a database can keep."""


@attrs.frozen
class FixedPeg:
    """A peg to a constant price [USD].

    Examples
    --------
    >>> FixedPeg(1.0)
    FixedPeg(price=1.0)
    """

    price: float = attrs.field(converter=plain, validator=checked(within, 0.0, open_low=True))


@attrs.frozen(kw_only=True)
class AccruingPeg:
    """A peg to a value that accrues: the reference follows the price, but only so fast.

    With s the previous sample, dt = (t - s) / 365 days and the reference ref_s:

        ref_t = min(max(price_t, ref_s (1 - fall)^dt), ref_s (1 + rise)^dt)

    Parameters
    ----------
    rise, fall : float
        The most that the reference rises and falls in a year, fractions.
    start : float, optional
        The reference [USD] at the first sample, which is then tested like any other. Without it the
        samples before first + 24 h give the reference as their median and belong to no event.

    Notes
    -----
    What a lasting loss looks like: the reference falls at most 10 % a year, so a discount of 3 % is absorbed
    after about (-ln 0.97 / -ln 0.9) * 365, some 100 days, sooner where the value grows; the event then ends
    although nothing recovered. After a long discount the recovered price stands above the lowered reference
    for days to weeks (the reference rises at most 50 % a year), which looks like a premium. `assess`
    therefore looks only for discounts of such coins.
    """

    rise: float = attrs.field(default=0.50, converter=plain, validator=checked(within, 0.0))
    fall: float = attrs.field(default=0.10, converter=plain, validator=checked(within, 0.0, 1.0))
    start: float | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(plain),
        validator=attrs.validators.optional(checked(within, 0.0, open_low=True)),
    )


Peg: TypeAlias = FixedPeg | AccruingPeg
AnyPeg: TypeAlias = Peg | float | pd.Series
PegLike: TypeAlias = AnyPeg | Mapping[str, AnyPeg] | None
"""What `peg=` accepts: a peg, a positive price, a Series of references, or a mapping of these by symbol."""


@attrs.frozen
class Asset:
    """A coin: its symbol, name, CoinGecko id and peg (None: no peg, never detected on)."""

    symbol: str = attrs.field(validator=checked(text))
    name: str = attrs.field(
        default=attrs.Factory(lambda self: self.symbol, takes_self=True), validator=checked(text)
    )
    coingecko_id: str | None = attrs.field(default=None, validator=attrs.validators.optional(checked(text)))
    peg: Peg | None = attrs.field(
        default=FixedPeg(1.0),
        validator=attrs.validators.instance_of((FixedPeg, AccruingPeg, type(None))),
    )


@attrs.frozen(kw_only=True)
class DepegEvent:
    """One maximal stretch off the peg, with the rule that found it.

    `start` is the first sample of the event, `end` the last before the recovering one and `recovered_at` the
    recovering one (None: open at the end of the data, or cut by a gap). `severity` is the largest 1 - ratio
    (below) or ratio - 1 (above), `peg_reference` the reference [USD] at the first such sample.
    """

    asset: str
    direction: Direction
    start: pd.Timestamp
    end: pd.Timestamp
    recovered_at: pd.Timestamp | None
    min_price: float
    max_price: float
    severity: float
    n_observations: int
    cut_by_gap: bool = False
    source: str | None = None
    confirmed: bool | None = None
    local_to: str | None = None
    threshold: float
    recovery: float
    min_duration: timedelta
    max_gap: timedelta | None
    merge_within: timedelta
    sample_span: timedelta
    peg_reference: float

    @property
    def duration(self) -> timedelta:
        """From start to end, plus the time that one sample stands for."""
        return cast("timedelta", self.end - self.start) + self.sample_span

    @property
    def recovery_time(self) -> timedelta | None:
        """From start to the recovering sample, None where there is none."""
        return None if self.recovered_at is None else cast("timedelta", self.recovered_at - self.start)

    @property
    def is_open(self) -> bool:
        """Whether the event still runs at the end of the data."""
        return self.recovered_at is None and not self.cut_by_gap

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and properties in JSON types: ISO times, durations in seconds."""
        document: dict[str, Any] = {}
        values = attrs.asdict(self, recurse=False) | {
            "duration": self.duration,
            "recovery_time": self.recovery_time,
            "is_open": self.is_open,
        }
        for name, value in values.items():
            if isinstance(value, timedelta):
                document[f"{name}_seconds"] = value.total_seconds()
            elif name in ("max_gap", "recovery_time"):
                document[f"{name}_seconds"] = None
            else:
                document[name] = iso(value) if isinstance(value, datetime) else value
        return document


def checked_events(events: Iterable[DepegEvent]) -> list[DepegEvent]:
    """Return the events as a list; a `ValueError` when one is something else."""
    listed = list(events)
    for event in listed:
        if not isinstance(event, DepegEvent):
            raise ValueError(f"events must hold DepegEvent records, found {event!r}")
    return listed


def _ratio(value: object, name: str) -> float:
    number = within(value, name, 0.0, open_low=True)
    if number > HIGHEST_RATIO:
        raise ValueError(
            f"{name} must be in units of the peg reference, such as 0.97 for 97 %, and at most {HIGHEST_RATIO:g}, "
            f"found {value!r}"
        )
    return number


def _scenario_prices(prices: Mapping[str, float]) -> Mapping[str, float]:
    if not isinstance(prices, Mapping):
        raise ValueError(f"prices must be a mapping of numbers by symbol, found {prices!r}")
    checked: dict[str, float] = {}
    for symbol, price in prices.items():
        text(symbol, "a symbol in scenario prices")
        try:
            checked[symbol] = _ratio(price, f"prices[{symbol!r}]")
        except ValueError as error:
            raise InvalidPriceError(f"scenario {error}", asset=symbol, observed=price) from error
    return MappingProxyType(checked)


@attrs.frozen
class Scenario:
    """A named joint state of the market: the worst of each coin within the horizon.

    Parameters
    ----------
    name : str
        Unique within a list of scenarios.
    probability : float
        Within the horizon, fraction; sampled in proportion to ``probability * weight``.
    prices : mapping of str to float
        Price by symbol in units of the peg reference; a coin that is missing stays at 1.
    btc_change : float
        Mean change of BTC, fraction, at least -1.
    weight : float
        The analyst's weight, 1 = as probable as stated.
    kind : str
        For example "historical", "stress_test" or "synthetic".
    severity_multiplier, liquidity_impact : float
        Carried for the report; no formula uses them.
    correlation_shift : float
        k in [-1, 1]: every correlation rho becomes rho + k (1 - rho), or rho (1 + k) for k < 0.
    volatility_multiplier : float
        Multiplies every volatility.
    source : str
        Where prices and probability come from.
    is_active : bool
        Whether the scenario is sampled.
    """

    name: str = attrs.field(validator=checked(text))
    probability: float = attrs.field(converter=plain, validator=checked(within, 0.0, 1.0))
    prices: Mapping[str, float] = attrs.field(factory=dict, converter=_scenario_prices, kw_only=True)
    btc_change: float = attrs.field(default=0.0, converter=plain, validator=checked(within, -1.0), kw_only=True)
    weight: float = attrs.field(default=1.0, converter=plain, validator=checked(within, 0.0), kw_only=True)
    kind: str = attrs.field(default="synthetic", validator=checked(text), kw_only=True)
    severity_multiplier: float = attrs.field(
        default=1.0, converter=plain, validator=checked(within, 0.0), kw_only=True
    )
    correlation_shift: float = attrs.field(
        default=0.0, converter=plain, validator=checked(within, -1.0, 1.0), kw_only=True
    )
    volatility_multiplier: float = attrs.field(
        default=1.0, converter=plain, validator=checked(within, 0.0), kw_only=True
    )
    liquidity_impact: float = attrs.field(
        default=0.0, converter=plain, validator=checked(within, 0.0), kw_only=True
    )
    source: str = attrs.field(default="", validator=attrs.validators.instance_of(str), kw_only=True)
    is_active: bool = attrs.field(default=True, validator=attrs.validators.instance_of(bool), kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON types; ``Scenario(**scenario.to_dict())`` is equal."""
        return attrs.asdict(self) | {"prices": dict(self.prices)}

    def __reduce__(self) -> tuple[Callable[[], Scenario], tuple[()]]:
        # The read-only view of the prices can be neither pickled nor copied.
        return partial(Scenario, **self.to_dict()), ()


@attrs.frozen
class Policy:
    """A parametric cover: nothing above the trigger, all of it at the floor, linear in between.

    Parameters
    ----------
    policy_id, asset : str
        Its id, unique in a vault, and the symbol of the coin covered.
    coverage : float
        The most that it pays [USD], > 0.
    trigger_price, floor_price : float
        In units of the peg reference, 0.97 rather than 97; 10 >= trigger > floor >= 0.

    Examples
    --------
    >>> Policy("P1", "USDC", 100_000.0, trigger_price=0.95, floor_price=0.70).payout([1.0, 0.9, 0.5]).round()
    array([     0.,  20000., 100000.])
    """

    policy_id: str = attrs.field(validator=checked(text))
    asset: str = attrs.field(validator=checked(text))
    coverage: float = attrs.field(converter=plain, validator=checked(within, 0.0, open_low=True))
    trigger_price: float = attrs.field(converter=plain, validator=checked(_ratio))
    floor_price: float = attrs.field(converter=plain, validator=checked(within, 0.0))

    def __attrs_post_init__(self) -> None:
        if not self.trigger_price > self.floor_price:
            raise ValueError(
                f"policy {self.policy_id!r}: trigger_price must be above floor_price, "
                f"found trigger {self.trigger_price!r} and floor {self.floor_price!r}"
            )

    def payout(self, ratio: Any) -> Any:
        """Return ``coverage * clip((trigger - ratio) / (trigger - floor), 0, 1)`` [USD].

        Parameters
        ----------
        ratio : float or array
            Price in units of the peg reference.

        Returns
        -------
        float, or ndarray of the shape of `ratio`
        """
        share = np.clip(
            (self.trigger_price - np.asarray(ratio, dtype=float)) / (self.trigger_price - self.floor_price),
            0.0,
            1.0,
        )
        paid = self.coverage * share
        return float(paid) if np.ndim(paid) == 0 else paid


def _policies(policies: Iterable[Policy]) -> tuple[Policy, ...]:
    if not isinstance(policies, Iterable):
        raise ValueError(f"policies must be several Policy records, such as a list, found {policies!r}")
    listed = tuple(policies)
    for policy in listed:
        if not isinstance(policy, Policy):
            raise ValueError(
                f"policies must be Policy records, found {policy!r}; a table becomes a vault by Vault.from_frame"
            )
    return listed


@attrs.frozen(eq=False)
class PolicyColumns:
    """The policies of a vault as columns, so that no calculation walks over records.

    Parameters
    ----------
    symbols : tuple of str
        The covered symbols as spelled, in the order of their first policy.
    first : ndarray of int of shape (n_symbols,)
        Position of the first policy of each.
    symbol : ndarray of int of shape (n_policies,)
        Position in `symbols` of each policy's asset.
    coverage, trigger, floor : ndarray of shape (n_policies,)
        [USD], and units of the peg reference.
    """

    symbols: tuple[str, ...]
    first: IntArray
    symbol: IntArray
    coverage: FloatArray
    trigger: FloatArray
    floor: FloatArray

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> PolicyColumns:
        """Return the columns of policies."""
        listed = list(policies)
        place: dict[str, int] = {}
        symbol = [place.setdefault(policy.asset, len(place)) for policy in listed]
        return cls(
            tuple(place),
            read_only([symbol.index(i) for i in range(len(place))], np.int64),
            read_only(symbol, np.int64),
            read_only([policy.coverage for policy in listed], np.float64),
            read_only([policy.trigger_price for policy in listed], np.float64),
            read_only([policy.floor_price for policy in listed], np.float64),
        )


def own_assets(assets: Iterable[Asset | str]) -> tuple[Asset, ...]:
    """Return coins of your own as records; a `ValueError` when they are not several."""
    if isinstance(assets, str) or not isinstance(assets, Iterable):
        raise ValueError(f"assets must be several Asset records or symbols, such as a list, found {assets!r}")
    return tuple(asset if isinstance(asset, Asset) else Asset(asset) for asset in assets)


@attrs.frozen
class Vault:
    """Capital and the policies that it backs.

    Parameters
    ----------
    capital : float
        [USD], > 0.
    policies : iterable of Policy
        May be empty; ids are unique.
    btc_value : float
        Value of the BTC that the vault holds [USD], >= 0; part of its risk, not of its capital.
    assets : iterable of Asset or str
        Coins of your own that policies and scenarios may name beside the built-in ones.
    aggregate_limit : float, optional
        The most that all policies together are paid [USD], > 0; beyond it every payout is cut pro rata.

    Notes
    -----
    `columns` are the policies as arrays.
    """

    capital: float = attrs.field(converter=plain, validator=checked(within, 0.0, open_low=True))
    policies: tuple[Policy, ...] = attrs.field(converter=_policies)
    btc_value: float = attrs.field(default=0.0, converter=plain, validator=checked(within, 0.0), kw_only=True)
    assets: tuple[Asset, ...] = attrs.field(default=(), converter=own_assets, kw_only=True)
    aggregate_limit: float | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(plain),
        validator=attrs.validators.optional(checked(within, 0.0, open_low=True)),
        kw_only=True,
    )
    columns: PolicyColumns = attrs.field(
        default=attrs.Factory(lambda self: PolicyColumns.of(self.policies), takes_self=True),
        init=False,
        repr=False,
        eq=False,
    )

    def __attrs_post_init__(self) -> None:
        unique((policy.policy_id for policy in self.policies), "policy ids")
        unique((asset.symbol for asset in self.assets), "symbols of vault assets")
        if any(asset.symbol.casefold() == BTC.casefold() for asset in self.assets):
            raise ValueError(f"assets of a vault must be coins of your own, found {BTC}, which has no peg")

    @property
    def coverage(self) -> float:
        """Sum of the coverage of all policies [USD]."""
        return math.fsum(self.columns.coverage)

    @property
    def ltv(self) -> float:
        """Coverage / capital."""
        return self.coverage / self.capital

    @classmethod
    def from_frame(
        cls,
        df: pd.DataFrame,
        *,
        capital: float,
        btc_value: float = 0.0,
        assets: Iterable[Asset | str] = (),
        aggregate_limit: float | None = None,
    ) -> Vault:
        """Build a vault from a table with a row a policy.

        Parameters
        ----------
        df : DataFrame
            Columns policy_id, asset, coverage, trigger_price, floor_price.
        capital, btc_value : float
            [USD].
        assets : iterable of Asset or str
            Coins of your own.
        aggregate_limit : float, optional
            The most that all policies together are paid [USD].

        Raises
        ------
        ValueError
            If a column is missing or doubled, or a row is not a valid policy; the row is named.
        """
        if not isinstance(df, pd.DataFrame):
            raise ValueError(f"df must be a DataFrame with a row a policy, found {type(df).__name__}")
        names = [field.name for field in attrs.fields(Policy)]
        missing = [name for name in names if name not in df.columns]
        if missing:
            raise ValueError(f"the table of policies must have the columns {names}, missing {missing}")
        unique((name for name in df.columns if name in names), "columns of the table of policies")
        policies = []
        rows = zip(*(df[name].tolist() for name in names), strict=True)
        for number, (policy_id, asset, coverage, trigger, floor) in enumerate(rows):
            try:
                name = "" if pd.isna(policy_id) else str(policy_id)
                policies.append(Policy(name, asset, coverage, trigger, floor))
            except ValueError as error:
                raise ValueError(f"row {number} of the table of policies: {error}") from error
        return cls(capital, policies, btc_value=btc_value, assets=assets, aggregate_limit=aggregate_limit)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row a policy, as `from_frame` takes it."""
        names = [field.name for field in attrs.fields(Policy)]
        return pd.DataFrame(
            {name: [getattr(policy, name) for policy in self.policies] for name in names}, columns=names
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the vault in the JSON form that `read_vault` reads.

        `assets` are only coins of your own; `aggregate_limit` is there only where the vault has one.
        """
        document = {
            "capital": self.capital,
            "btc_value": self.btc_value,
            "policies": [attrs.asdict(policy) for policy in self.policies],
            "assets": [attrs.asdict(asset) for asset in self.assets],
        }
        return document if self.aggregate_limit is None else document | {"aggregate_limit": self.aggregate_limit}


@attrs.frozen
class Estimate:
    """An estimate with its 95 % interval.

    `low` or `high` is None where the sample cannot support that end, and `standard_error` where it has none;
    `note` then says why. `method` is how the interval is made, `n` from how many simulations, and `seed` theirs.
    """

    value: float
    low: float | None
    high: float | None
    standard_error: float | None
    note: str = ""
    method: str = attrs.field(default="", kw_only=True)
    n: int | None = attrs.field(default=None, kw_only=True)
    seed: int | None = attrs.field(default=None, kw_only=True)
    confidence: float = attrs.field(default=0.95, init=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return attrs.asdict(self)
