"""The assessment: prices and a vault in, a risk report out. Pure: no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import NOT_COINS_ON_PEG, canonical, check_symbols, own_pegs
from tonsurance_risk.core.alert_memory import OpenAlert, remember
from tonsurance_risk.core.alerts import Findings, risk_alerts
from tonsurance_risk.core.comparison import (
    TREND,
    computed_or_reason,
    historical_comparison,
    relative_change,
    valid_history,
)
from tonsurance_risk.core.consensus import check_sources, confirm_events
from tonsurance_risk.core.depeg import detect_depegs
from tonsurance_risk.core.dependence import Dependence, assess_dependence
from tonsurance_risk.core.explanation import EarlierRun, explained
from tonsurance_risk.core.portfolio import portfolio_metrics
from tonsurance_risk.core.prices import peg_of, peg_reference, valid_index, valid_prices
from tonsurance_risk.core.quality import QualityReport, QualityRules, typical_step
from tonsurance_risk.core.recommendations import recommendations
from tonsurance_risk.core.scenarios import builtin_scenarios
from tonsurance_risk.core.simulation import MOST_SIMULATIONS, adaptive_simulation_count, simulate_losses
from tonsurance_risk.core.stress import stress_test
from tonsurance_risk.core.volatility import estimate_volatility
from tonsurance_risk.errors import GranularityError, InsufficientDataError
from tonsurance_risk.model import BTC, YEAR, AccruingPeg, DepegEvent, Peg, Scenario, Vault
from tonsurance_risk.report import RiskReport
from tonsurance_risk.values import as_utc, iso, text, whole

STEP_FACTOR = 1.5
"""How far the median distance of stamps may be from the stated step."""
SHOCK_WINDOW = 90
FALLBACK_VOLATILITY = 0.007
"""Sigma of a covered coin that has none of its own: the largest robust standard deviation of the log price of ten
coins, events left in to be on the safe side (LUSD 0.0070; the median of the ten is 0.0009). CoinMarketCap daily
closes up to December 2024: from May 2021, PYUSD, GHO and crvUSD from their listing in 2023."""
FALLBACK_BTC_VOLATILITY = 0.103
"""Standard deviation of the 10-day log return of BTC: Yahoo Finance daily closes, 2019-01 to 2026-02."""


def assess(
    prices: pd.DataFrame,
    vault: Vault,
    *,
    as_of: datetime,
    scenarios: Sequence[Scenario] | None = None,
    history: pd.DataFrame | None = None,
    step: timedelta | str,
    generated_at: datetime,
    seed: int = 0,
    n: int | None = None,
    source: str = "not named",
    others: Sequence[pd.DataFrame] = (),
    open_alerts: Iterable[OpenAlert] = (),
    before: EarlierRun | None = None,
) -> RiskReport:
    """Assess the risk of a vault from prices known at `as_of`.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        [USD]; later rows are ignored. Checked, and rejected samples are left out.
    vault : Vault
        The book.
    as_of : datetime
        The instant that the report describes.
    scenarios : sequence of Scenario, optional
        The built-in ones when not given.
    history : DataFrame, optional
        Snapshots by UTC time: var_95, capital, coverage [USD].
    step : timedelta or str
        What one sample stands for: a timedelta, or "1h", "1d", "15min" for example.
    generated_at : datetime
        When the report is made; nothing else in the report depends on it.
    seed : int
        Of the simulation.
    n : int, optional
        Simulations; when not given `adaptive_simulation_count` of the largest volatility of a covered coin.
    source : str
        Name of the price source, for the report.
    others : sequence of DataFrame
        Wide frames of other sources [USD], each named in ``attrs["vendor"]``. They confirm prints and events; one
        that repeats `prices` to the last digit confirms nothing.
    open_alerts : iterable of OpenAlert
        Those open after the report before this one.
    before : EarlierRun, optional
        The run of that report, to explain what changed since.

    Returns
    -------
    RiskReport

    Raises
    ------
    InsufficientDataError
        If there are no prices, or no window of 90 days or longer holds two rows.
    InvalidPriceError
        If `prices` are not valid.
    GranularityError
        If the median distance of the stamps is more than 1.5 times `step`, or less than a part in 1.5 of it.
    UnknownAssetError
        If a policy or scenario names an asset that nobody knows.

    Notes
    -----
    Depegs are looked for in both directions, but of coins with an `AccruingPeg` only below: after a long discount
    their recovered price stands above the lowered reference. Shocks are correlated as the log returns of the last
    90 days are; every correlation of the report has a block-bootstrap interval. A covered coin without enough
    prices is simulated with a volatility of 0.007, BTC with 0.103.
    """
    end, made = as_utc(as_of, "as_of"), as_utc(generated_at, "generated_at")
    text(source, "source")
    if n is not None:
        whole(n, "n", 1, MOST_SIMULATIONS)
    listed = tuple(builtin_scenarios() if scenarios is None else scenarios)
    open_before = tuple(open_alerts)
    check_symbols(vault, listed)
    past = valid_history(history, end)

    pegs = own_pegs(vault)
    known = _known(prices, end)
    if known.empty:
        raise InsufficientDataError(f"no prices at or before {iso(end)}", time=end, observed=0, required=1)
    bar = _step_of(step, known.index)
    elsewhere = tuple(_named(other, end) for other in others)
    quality, usable, events = check_and_detect(known, end, bar, source, elsewhere, pegs)
    dependence = assess_dependence(usable, events, as_of=end, step=bar, seed=seed)
    shock_window = _shock_window(dependence)
    covered = sorted({canonical(policy.asset) for policy in vault.policies})
    volatility, fallbacks = _volatility(usable.loc[end - YEAR :], events, vault, covered, pegs)
    without_prices = tuple(
        asset for asset in volatility if asset not in usable.columns or usable[asset].isna().all()
    )

    largest = max((volatility[asset] for asset in covered), default=0.0)
    sample = simulate_losses(
        vault,
        listed,
        correlation=dependence.correlations[shock_window],
        volatility=volatility,
        n=n or adaptive_simulation_count(largest),
        seed=seed,
    )
    stress, metrics = stress_test(vault, listed), portfolio_metrics(vault)
    contagion = dependence.contagion(shock_window)
    var_95 = sample.value_at_risk(0.95).value
    var_trend = computed_or_reason("var_trend_30d", lambda: relative_change(past, "var_95", var_95, end, TREND))
    open_events = [event for event in events if event.is_open]
    findings = Findings(
        vault=vault,
        scenarios=listed,
        metrics=metrics,
        stress=stress,
        var_95=var_95,
        var_trend_30d=var_trend["var_trend_30d"],
        contagion=contagion,
        open_events=open_events,
        ratios={event.asset: _newest_ratio(usable[event.asset], pegs) for event in open_events},
        without_prices=without_prices,
        ages=_ages(usable, quality, end, bar),
    )
    alerts = risk_alerts(findings)
    memory, changes = remember(open_before, alerts, end)
    return RiskReport(
        as_of=end,
        generated_at=made,
        step=bar,
        source=source,
        prices=known,
        others=elsewhere,
        quality=quality,
        events=events,
        dependence=dependence,
        shock_window=shock_window,
        volatility=volatility,
        fallbacks=fallbacks,
        without_prices=without_prices,
        vault=vault,
        scenarios=listed,
        metrics=metrics,
        stress=stress,
        sample=sample,
        var_trend=var_trend,
        comparison=historical_comparison(
            history=past,
            as_of=end,
            var_95=var_95,
            capital=vault.capital,
            events=events,
            dependence=dependence,
        ),
        explanation=explained(before, sample),
        contagion=contagion,
        alerts=tuple(alerts),
        recommendations=tuple(recommendations(alerts, findings)),
        history=past,
        before=before,
        open_before=open_before,
        open_alerts=memory,
        alert_changes=changes,
    )


def _step_of(step: timedelta | str, index: pd.Index) -> timedelta:
    """Return the step as a duration; the stamps must not be much closer or further apart than it says."""
    if isinstance(step, timedelta) and not pd.isna(step) and step > timedelta(0):
        bar = step
    elif isinstance(step, str) and (match := re.fullmatch(r"([1-9]\d*)(min|h|d)", step)):
        bar = (
            int(match[1])
            * {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[match[2]]
        )
    else:
        raise ValueError(f"step must be a timedelta > 0 or a string such as '1h', '1d' or '15min', found {step!r}")
    if len(index) > 2:
        spacing = typical_step(index)
        if not bar / STEP_FACTOR <= spacing <= bar * STEP_FACTOR:
            raise GranularityError(
                f"step is {step!r}, but the stamps of prices are {spacing} apart (median)",
                observed=spacing,
                required=bar,
            )
    return bar


def check_and_detect(
    prices: pd.DataFrame,
    as_of: datetime,
    bar: timedelta,
    source: str,
    others: Sequence[pd.DataFrame],
    pegs: Mapping[str, Peg],
) -> tuple[QualityReport, pd.DataFrame, tuple[DepegEvent, ...]]:
    """Return what the checks found, the usable prices, and the depegs in them with what other sources say.

    Parameters
    ----------
    prices : DataFrame
        Valid wide frame of one source [USD].
    as_of : datetime
        The instant at which the prices are looked at.
    bar : timedelta
        What one sample stands for.
    source : str
        Named in the events.
    others : sequence of DataFrame
        Valid wide frames of other sources, named in ``attrs["vendor"]``.
    pegs : mapping of peg by symbol
        Of the vault's own coins.

    Returns
    -------
    quality : QualityReport
    usable : DataFrame
        Without the samples that were rejected.
    events : tuple of DepegEvent
        In both directions, of a coin with an `AccruingPeg` only below; ordered by (asset, start).
    """
    quality, trusted = check_sources(prices, others, as_of=as_of, peg=pegs)
    usable = quality.usable(prices)
    coins = [asset for asset in usable.columns if asset not in NOT_COINS_ON_PEG]
    accruing = [asset for asset in coins if isinstance(peg_of(asset, pegs), AccruingPeg)]
    fixed = [asset for asset in coins if asset not in accruing]
    found = detect_depegs(usable[fixed], sample_span=bar, direction="both", peg=pegs)
    found += detect_depegs(usable[accruing], sample_span=bar, direction="below", peg=pegs)
    named = [attrs.evolve(event, source=source) for event in found]
    events = confirm_events(sorted(named, key=lambda event: (event.asset, event.start)), trusted, peg=pegs)
    return quality, usable, tuple(events)


def _named(prices: pd.DataFrame, end: pd.Timestamp) -> pd.DataFrame:
    """Return the valid prices of another source up to `end`."""
    known = _known(prices, end, "others")
    known.attrs["vendor"] = text(prices.attrs.get("vendor"), 'attrs["vendor"] of others')
    return known


def _known(prices: pd.DataFrame, end: pd.Timestamp, argument: str = "prices") -> pd.DataFrame:
    """Return the valid prices up to `end`; later rows are not even looked at."""
    if not isinstance(prices, pd.DataFrame):
        raise ValueError(f"{argument} must be a wide DataFrame, found {type(prices).__name__}")
    index = valid_index(prices.index, argument)
    return valid_prices(prices[index <= end], argument).dropna(axis=1, how="all").dropna(axis=0, how="all")


def _shock_window(dependence: Dependence) -> int:
    for window in sorted(dependence.correlations):
        if window >= SHOCK_WINDOW and dependence.correlations[window] is not None:
            return window
    reasons = [dependence.reasons.get(f"correlation_{window}", "") for window in dependence.correlations]
    raise InsufficientDataError(
        f"no correlation for the shocks at {iso(dependence.as_of)}: {'; '.join(filter(None, reasons))}",
        time=dependence.as_of,
    )


def _volatility(
    recent: pd.DataFrame,
    events: Iterable[DepegEvent],
    vault: Vault,
    covered: Sequence[str],
    pegs: Mapping[str, Peg],
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return sigma of every simulated asset, and those for which it had to be assumed."""
    estimated = estimate_volatility(recent, events, peg=pegs)
    fallback = dict.fromkeys(covered, FALLBACK_VOLATILITY)
    if vault.btc_value > 0.0:
        fallback[BTC] = FALLBACK_BTC_VOLATILITY
    return (
        {asset: estimated.get(asset, assumed) for asset, assumed in fallback.items()},
        tuple(asset for asset in fallback if asset not in estimated),
    )


def _newest_ratio(column: pd.Series, pegs: Mapping[str, Peg]) -> float:
    observed = column.dropna()
    values = observed.to_numpy()
    reference, _ = peg_reference(str(column.name), cast("pd.DatetimeIndex", observed.index), values, pegs)
    return float(values[-1] / np.broadcast_to(reference, values.shape)[-1])


def _ages(
    usable: pd.DataFrame, quality: QualityReport, end: pd.Timestamp, bar: timedelta
) -> dict[str, tuple[float, float]]:
    """Return the age of the newest price and what is accepted [hours], of assets that are stale."""
    accepted = QualityRules().accepted_age(bar) / timedelta(hours=1)
    return {
        asset: ((end - usable[asset].dropna().index[-1]) / timedelta(hours=1), accepted)
        for asset in quality.stale
        if usable[asset].notna().any()
    }
