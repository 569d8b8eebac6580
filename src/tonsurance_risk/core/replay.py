"""Replay of a past event on today's book: what it would be paid, and because of which price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import canonical, check_symbols, own_pegs
from tonsurance_risk.core.prices import peg_reference, valid_prices
from tonsurance_risk.core.stress import stress_test
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.model import BTC, DepegEvent, Peg, Scenario, Vault, checked_events
from tonsurance_risk.values import iso

_COLUMNS = ("asset", "paid", "ratio", "price", "time", "event_start", "cause")


@attrs.frozen
class EventReplay:
    """What a book would pay if a past event came again.

    Parameters
    ----------
    start, end : Timestamp
        From the first start to the last end of the events.
    policies : DataFrame by policy_id
        asset, paid [USD], ratio (price over peg reference), price [USD] and time of the lowest sample,
        event_start, and cause: "event", "price" (the asset was below its trigger without an event), or "none"
        (nothing is paid). What is not known is missing.
    btc_change : float
        Of Bitcoin from the first to the last price of that time, fraction; 0 without prices of it.
    btc_value, capital : float
        Of the vault [USD].
    predicted_loss : float, optional
        That of the scenario at its levels [USD], where one was given.
    """

    start: pd.Timestamp
    end: pd.Timestamp
    policies: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    btc_change: float
    btc_value: float
    capital: float
    predicted_loss: float | None

    @property
    def loss(self) -> float:
        """What is paid, less the gain on Bitcoin [USD]."""
        return float(self.policies["paid"].sum() - self.btc_value * self.btc_change)

    @property
    def by_asset(self) -> pd.Series:
        """Loss by asset, sorted, Bitcoin last [USD]."""
        losses = self.policies.groupby("asset")["paid"].sum().rename("loss")
        losses.loc[BTC] = -self.btc_value * self.btc_change
        return losses

    def to_frame(self) -> pd.DataFrame:
        """Return the table by policy."""
        return self.policies.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types, None for what is not known."""
        return {
            "start": iso(self.start),
            "end": iso(self.end),
            "loss": self.loss,
            "share_of_capital": self.loss / self.capital,
            "predicted_loss": self.predicted_loss,
            "btc_change": self.btc_change,
            "by_asset": {str(asset): float(loss) for asset, loss in self.by_asset.items()},
            "policies": json_rows(self.policies.reset_index()),
        }


@attrs.frozen
class _Extreme:
    ratio: float
    price: float
    time: pd.Timestamp | None


def replay_event(
    events: DepegEvent | Iterable[DepegEvent],
    vault: Vault,
    *,
    prices: pd.DataFrame | pd.Series | None = None,
    scenario: Scenario | None = None,
) -> EventReplay:
    """Return what a book would pay if a past event, or a joint episode of several, came again.

    Parameters
    ----------
    events : DepegEvent, or iterable of DepegEvent
        At least one; they may be of coins that the book does not cover.
    vault : Vault
        The book as it is today.
    prices : DataFrame of shape (n_times, n_assets), or Series, optional
        [USD], UTC stamps, BTC among them where its move shall count. From the first start to the last end of the
        events; earlier ones, which are used for the reference of an accruing peg alone, are welcome.
    scenario : Scenario, optional
        What the model said of such an event; its loss is `predicted_loss`.

    Returns
    -------
    EventReplay

    Raises
    ------
    ValueError
        If there is no event, or an argument is of another kind.
    InvalidPriceError
        If `prices` are not valid.
    UnknownAssetError
        If a policy or the scenario names an asset that nobody knows.

    Notes
    -----
    Each policy pays for the lowest ratio that its asset had from the first start to the last end, also where that
    was no event; without prices of an asset in that time, for the extreme of its deepest discount, whose time is
    then not known. The sum is cut pro rata to the aggregate limit. Lows that came at different times are added: it
    is what a book of covers that pay for the low would pay, not what it would lose on any one day.

    Examples
    --------
    >>> from tonsurance_risk import Policy, detect_depegs
    >>> index = pd.date_range("2023-03-10", periods=5, freq="h", tz="UTC")
    >>> prices = pd.Series([1.0, 0.95, 0.88, 0.97, 1.0], index=index, name="USDC")
    >>> vault = Vault(1_000_000.0, [Policy("P1", "USDC", 100_000.0, 0.98, 0.78)])
    >>> replay = replay_event(detect_depegs(prices), vault, prices=prices)
    >>> print(replay.policies[["asset", "paid", "price", "time", "cause"]].to_string())
              asset     paid  price                      time  cause
    policy_id
    P1         USDC  50000.0   0.88 2023-03-10 02:00:00+00:00  event
    """
    listed = checked_events([events] if isinstance(events, DepegEvent) else events)
    if not listed:
        raise ValueError("events must hold at least one event, found none")
    check_symbols(vault)
    start, end = min(event.start for event in listed), max(event.end for event in listed)
    seen = None if prices is None else valid_prices(prices)
    predicted = (
        None
        if scenario is None
        else float(stress_test(vault, [attrs.evolve(scenario, is_active=True)]).losses.iloc[0])
    )
    return EventReplay(
        start=start,
        end=end,
        policies=_payouts(vault, listed, {} if seen is None else _lowest(vault, seen, start, end)),
        btc_change=0.0 if seen is None else _btc_change(seen, start, end),
        btc_value=vault.btc_value,
        capital=vault.capital,
        predicted_loss=predicted,
    )


def replayed_loss(vault: Vault, prices: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> float:
    """Return what a vault loses over the prices of some time [USD]; see `replay_event`."""
    return float(
        _payouts(vault, [], _lowest(vault, prices, start, end))["paid"].sum()
        - vault.btc_value * _btc_change(prices, start, end)
    )


def _payouts(vault: Vault, events: Iterable[DepegEvent], lowest: Mapping[str, _Extreme]) -> pd.DataFrame:
    deepest: dict[str, DepegEvent] = {}
    for discount in sorted(events, key=lambda event: -event.severity):
        if discount.direction == "below":
            deepest.setdefault(canonical(discount.asset), discount)
    rows = []
    for policy in vault.policies:
        asset = canonical(policy.asset)
        event = deepest.get(asset)
        low = lowest.get(asset)
        if low is None and event is not None:
            low = _Extreme(1.0 - event.severity, event.min_price, None)
        paid = 0.0 if low is None else float(policy.payout(low.ratio))
        cause = "none" if paid == 0.0 else "price" if event is None else "event"
        rows.append(
            (
                asset,
                paid,
                *((None, None, None) if low is None else (low.ratio, low.price, low.time)),
                None if event is None else event.start,
                cause,
            )
        )
    index = pd.Index([policy.policy_id for policy in vault.policies], name="policy_id")
    table = pd.DataFrame(rows, columns=list(_COLUMNS), index=index)
    numbers = {"paid": "float64", "ratio": "Float64", "price": "Float64"}
    times = {column: pd.to_datetime(table[column], utc=True) for column in ("time", "event_start")}
    table = table.assign(**times).astype(numbers)
    total = table["paid"].sum()
    if vault.aggregate_limit is not None and total > vault.aggregate_limit:
        table["paid"] *= vault.aggregate_limit / total
    return table


def _lowest(vault: Vault, prices: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> dict[str, _Extreme]:
    """Return the lowest ratio of each asset that has a price in the time, samples of a warming-up peg left out."""
    pegs: dict[str, Peg] = own_pegs(vault)
    found = {}
    for asset in prices.columns:
        observed = prices[asset].dropna().loc[:end]
        if asset == BTC or observed.empty:
            continue
        values = observed.to_numpy(dtype=float)
        reference, warming_up = peg_reference(str(asset), cast("pd.DatetimeIndex", observed.index), values, pegs)
        inside = np.asarray(observed.index >= start)
        if warming_up is not None:
            inside &= ~warming_up
        if inside.any():
            ratios = np.where(inside, values / reference, np.inf)
            at = int(np.argmin(ratios))
            found[str(asset)] = _Extreme(float(ratios[at]), float(values[at]), observed.index[at])
    return found


def _btc_change(prices: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> float:
    bitcoin = prices[BTC].dropna().loc[start:end] if BTC in prices.columns else pd.Series(dtype=float)
    return 0.0 if bitcoin.empty else float(bitcoin.iloc[-1] / bitcoin.iloc[0] - 1.0)
