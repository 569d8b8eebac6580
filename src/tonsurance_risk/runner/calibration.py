"""Scenarios calibrated from stored events, and what they predicted against what a vault would have paid."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import cast

import attrs
import pandas as pd

from tonsurance_risk.core.fingerprint import content_hash
from tonsurance_risk.core.replay import replayed_loss
from tonsurance_risk.core.scenarios import builtin_scenarios, joint_episodes, scenarios_from_events
from tonsurance_risk.core.stress import stress_test
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import YEAR, Scenario, Vault
from tonsurance_risk.ports import Clock, ScenarioBacktest, Store, SystemClock
from tonsurance_risk.sources.steps import STEPS

_log = logging.getLogger(__name__)

EPISODE_WINDOW = timedelta(hours=72)


def stored_scenarios(store: Store) -> list[Scenario]:
    """Return the stored scenarios; the built-in ones are put there once and never over an analyst's edit."""
    stored = store.load_scenarios()
    if not stored:
        # Another run may have put them there, and an analyst changed them, since they were looked for.
        store.save_scenarios(builtin_scenarios(), only_new=True)
        stored = store.load_scenarios()
    return stored


def calibrate_scenarios(store: Store, *, source: str, step: str, active: bool = False) -> list[Scenario]:
    """Derive scenarios from the stored events of a source, store them with what they come from, and return them.

    They come beside the stored ones, the built-in ones at least.

    Parameters
    ----------
    store : Store
    source, step : str
        Of the prices in which the events were found.
    active : bool
        Whether simulations use them from now on, beside the scenarios that are stored already.

    Raises
    ------
    InsufficientDataError
        If there are no prices of that source and step.

    Notes
    -----
    A rate is a number of events by the time under observation, so events count from the first price of their coin
    that is in the store: those whose prices were archived do not.
    """
    prices = store.load_prices(source=source, step=step)
    if prices.empty:
        raise InsufficientDataError(f"no {step} prices of {source} are stored", observed=0, required=1)
    observed = {str(asset): column.dropna() for asset, column in prices.items()}
    years = {asset: _years(column) for asset, column in observed.items()}
    found = [
        event for event in store.load_events(list(observed), source=source) if event.sample_span == STEPS[step]
    ]
    events = [event for event in found if event.start >= observed[event.asset].index[0]]
    if len(events) < len(found):
        _log.warning(
            "%d of %d depegs of %s are left out: they are older than the prices in the store",
            len(found) - len(events),
            len(found),
            source,
        )
    derived = scenarios_from_events(events, observed_years=cast("Mapping[str, float]", years))
    scenarios = [
        attrs.evolve(scenario, is_active=active, source=f"{scenario.source}; {step} prices of {source}")
        for scenario in derived
    ]
    episodes = joint_episodes(events, EPISODE_WINDOW)
    # The last scenario is that of no event.
    origins = {scenario.name: episode for scenario, episode in zip(scenarios, episodes, strict=False)}
    stored_scenarios(store)
    store.save_scenarios(scenarios, events=origins)
    return scenarios


def _years(observed: pd.Series) -> float:
    return float((observed.index[-1] - observed.index[0]) / YEAR) or 1.0 / 365.0


def calibrated_scenarios(store: Store, source: str) -> list[tuple[Scenario, pd.DataFrame]]:
    """Return the stored scenarios that rest on events of a source, each with those events."""
    found = []
    for scenario in store.load_scenarios():
        events = store.load_scenario_events(scenario.name)
        events = events[events["source"] == source]
        if not events.empty:
            found.append((scenario, events))
    return found


def backtest_scenarios(
    store: Store,
    vault: Vault,
    *,
    source: str,
    step: str,
    clock: Clock = SystemClock(),  # noqa: B008 - no state
) -> list[ScenarioBacktest]:
    """Compare the loss of each calibrated scenario with that of the prices of its episode, and store both.

    Parameters
    ----------
    store : Store
    vault : Vault
    source, step : str
        Of the prices that are replayed.
    clock : Clock
        Tells when.

    Returns
    -------
    list of ScenarioBacktest
        Of the scenarios that have events of this source, without those whose coins have no price in the store
        at the time, for example because they were archived.

    Notes
    -----
    Predicted: the loss of the scenario's levels, without shocks. Actual: each policy pays for the lowest ratio
    that its asset had from the first start to the last end of the episode, and Bitcoin moves as it did. The two
    differ by what a scenario leaves out: coins that moved without an event, and Bitcoin.
    """
    # All of them: the reference of an accruing peg comes from the prices before the event.
    prices = store.load_prices(source=source, step=step)
    found = []
    for scenario, events in calibrated_scenarios(store, source):
        start, end = events["start"].min(), events["end"].max()
        seen = prices.reindex(columns=events["asset"].unique()).loc[start:end]
        if seen.isna().all().any():
            continue
        predicted = stress_test(vault, [attrs.evolve(scenario, is_active=True)]).losses.iloc[0]
        found.append(
            ScenarioBacktest(
                scenario=scenario.name,
                vault_sha256=content_hash(vault.to_dict()),
                start=start,
                end=end,
                predicted_loss=float(predicted),
                actual_loss=replayed_loss(vault, prices, start, end),
                evaluated_at=pd.Timestamp(clock.now()),
            )
        )
    store.save_backtests(found, source=source, step=step)
    return found
