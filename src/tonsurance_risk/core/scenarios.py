"""Scenarios: the five built-in ones, those calibrated from events, and their sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Literal, get_args

import attrs
import numpy as np

from tonsurance_risk.assets import STABLECOINS, canonical
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BTC, YEAR, DepegEvent, Scenario, checked_events
from tonsurance_risk.values import FloatArray, IntArray, iso, span, unique, whole, within

# Prices of a crisis in units of the peg reference. In the first column the lows of 10 to 14 March 2023: Chainlink
# rounds on Arbitrum (USDC, DAI, FRAX, USDT, BUSD) and CoinMarketCap daily candles (USDP, LUSD). All others are
# judgements by what backs the coin; docs/explanation/scenarios.md gives source and reason of each.
_CRISES = ("svb", "crypto crash", "regulatory", "multiple")
_CRISIS_PRICES = {
    #         svb      crypto crash  regulatory  multiple
    "USDC":   (0.88088, 0.98,        0.80,       0.75),
    "USDT":   (1.00000, 0.97,        0.85,       0.75),
    "DAI":    (0.88579, 0.96,        0.90,       0.80),
    "USDP":   (0.96233, 0.98,        0.85,       0.78),
    "FRAX":   (0.87712, 0.95,        0.88,       0.75),
    "BUSD":   (0.99828, 0.98,        0.80,       0.75),
    "USDe":   (0.97,    0.94,        0.90,       0.75),
    "sUSDe":  (0.96,    0.92,        0.89,       0.73),
    "USDY":   (0.97,    0.99,        0.83,       0.78),
    "PYUSD":  (0.96,    0.98,        0.82,       0.76),
    "GHO":    (0.93,    0.95,        0.92,       0.78),
    "LUSD":   (0.93071, 0.96,        0.95,       0.80),
    "crvUSD": (0.92,    0.95,        0.92,       0.77),
    "mkUSD":  (0.91,    0.92,        0.90,       0.72),
}  # fmt: skip


Prior = Literal["jeffreys"]


def builtin_scenarios() -> list[Scenario]:
    """Return the five scenarios that the library brings; their annual probabilities sum to 1.

    Examples
    --------
    >>> [scenario.name for scenario in builtin_scenarios()]
    ['Banking Crisis (SVB)', 'Crypto Crash', 'Regulatory Shutdown', 'Multiple Stablecoin Failure',
     'Normal Market Conditions']
    """
    prices = {
        crisis: {coin: row[column] for coin, row in _CRISIS_PRICES.items()}
        for column, crisis in enumerate(_CRISES)
    }
    judged = "probability, weight and prices: judgement of the model's authors, by what backs each coin"
    return [
        Scenario(
            "Banking Crisis (SVB)",
            0.20,
            prices=prices["svb"],
            btc_change=0.27,
            weight=1.5,
            kind="historical",
            severity_multiplier=3.5,
            correlation_shift=-0.3,
            volatility_multiplier=2.5,
            liquidity_impact=0.7,
            source=(
                "lows of 10 to 14 March 2023: Chainlink rounds on Arbitrum (USDC, USDT, DAI, FRAX, BUSD), "
                "CoinMarketCap daily candles (USDP, LUSD); other coins by what backs them"
            ),
        ),
        Scenario(
            "Crypto Crash",
            0.15,
            prices=prices["crypto crash"],
            btc_change=-0.50,
            weight=1.0,
            kind="stress_test",
            severity_multiplier=4.0,
            correlation_shift=0.5,
            volatility_multiplier=3.0,
            liquidity_impact=0.5,
            source=judged,
        ),
        Scenario(
            "Regulatory Shutdown",
            0.10,
            prices=prices["regulatory"],
            btc_change=-0.30,
            weight=0.8,
            kind="stress_test",
            severity_multiplier=5.0,
            correlation_shift=0.0,
            volatility_multiplier=2.0,
            liquidity_impact=0.9,
            source=judged,
        ),
        Scenario(
            "Multiple Stablecoin Failure",
            0.05,
            prices=prices["multiple"],
            btc_change=0.50,
            weight=2.0,
            kind="stress_test",
            severity_multiplier=8.0,
            correlation_shift=0.8,
            volatility_multiplier=4.0,
            liquidity_impact=0.95,
            source=judged,
        ),
        Scenario(
            "Normal Market Conditions",
            0.50,
            prices=dict.fromkeys(_CRISIS_PRICES, 1.0),
            weight=1.0,
            kind="historical",
            severity_multiplier=1.0,
            liquidity_impact=0.1,
            source="the year in which nothing happens",
        ),
    ]


def scenarios_from_events(
    events: Iterable[DepegEvent],
    *,
    observed_years: float | Mapping[str, float],
    horizon: timedelta = YEAR,
    episode_window: timedelta = timedelta(hours=72),
    prior: Prior | None = None,
) -> list[Scenario]:
    """Return a scenario a joint episode of the past, and one without any event.

    A joint episode is the events that start within `episode_window` of its first start; the asset of several
    takes the ratio furthest from 1 (``1 - severity`` below, ``1 + severity`` above).

    Parameters
    ----------
    events : iterable of DepegEvent
        In any order.
    observed_years : float, or mapping of float by asset
        How long each asset was observed [years], > 0.
    horizon : timedelta
        The time for which the probabilities hold.
    episode_window : timedelta
        How long after the first start an event still belongs to an episode.
    prior : {"jeffreys"}, optional
        Adds half an event of every coin, a scenario of that coin alone at the median ratio of all events, so that
        coins without an event have a rate as well. The coins are those of `observed_years`; where that is one
        number, the built-in ones and those of the events.

    Returns
    -------
    list of Scenario
        By start, then those of the prior by coin, the no-event scenario last; the probabilities sum to 1. Their
        weights are 1 and yours to change.

    Raises
    ------
    ValueError
        If an argument is outside what is accepted, two symbols of `observed_years` are one asset, or an asset of
        an event has no observed years.
    InsufficientDataError
        If there is a prior and no event, whose ratio it could take.

    Notes
    -----
    With T_e the longest observation of an episode's assets, its rate is r_e = 1 / T_e a year, R their sum and
    h = horizon / 365 days: P(none) = exp(-R h), and episode e has (1 - exp(-R h)) r_e / R: the probability
    that a Poisson process of rate R has an event, shared out by the rates.

    With the prior of Jeffreys for a Poisson rate, proportional to rate^(-1/2), k events in T years give a
    posterior of mean (k + 1/2) / T: the coin's own episodes, and a further rate of 0.5 / T.

    References
    ----------
    H. Jeffreys, "An invariant form for the prior probability in estimation problems", Proceedings of the Royal
    Society A 186 (1946) 453-461, doi:10.1098/rspa.1946.0056.
    """
    h = span(horizon, "horizon") / YEAR
    span(episode_window, "episode_window")
    if prior not in (None, *get_args(Prior)):
        raise ValueError(f"prior must be None or one of {list(get_args(Prior))}, found {prior!r}")
    if isinstance(observed_years, Mapping):
        unique(map(canonical, observed_years), "assets of observed_years")
        observed_years = {canonical(asset): years for asset, years in observed_years.items()}
    listed = [attrs.evolve(event, asset=canonical(event.asset)) for event in checked_events(events)]
    episodes = joint_episodes(listed, episode_window)
    rated = [
        (
            1.0 / max(_years(observed_years, event.asset, event) for event in episode),
            Scenario(
                f"Joint episode of {iso(episode[0].start)}: {', '.join(sorted({e.asset for e in episode}))}",
                0.0,
                prices=_extreme_ratios(episode),
                kind="historical",
                source=f"{len(episode)} detected event(s), {iso(episode[0].start)} to {iso(episode[-1].start)}",
            ),
        )
        for episode in episodes
    ]
    if prior is not None:
        rated += _half_events(episodes, observed_years)
    total = math.fsum(rate for rate, _ in rated)
    any_event = -math.expm1(-total * h)
    calm = Scenario(
        "No depeg event",
        math.exp(-total * h),
        kind="historical",
        source=f"{len(episodes)} joint episode(s) seen",
    )
    return [*(attrs.evolve(s, probability=any_event * rate / total) for rate, s in rated), calm]


def _half_events(
    episodes: Iterable[Iterable[DepegEvent]], observed_years: float | Mapping[str, float]
) -> list[tuple[float, Scenario]]:
    """Return rate and scenario of half an event of every coin, by symbol."""
    events = [event for episode in episodes for event in episode]
    if not events:
        raise InsufficientDataError(
            "prior='jeffreys' needs at least one event, whose ratio coins without events take; found none",
            observed=0,
            required=1,
        )
    ratio = float(np.median([_ratio(event) for event in events]))
    coins = (
        set(observed_years)
        if isinstance(observed_years, Mapping)
        else {asset.symbol for asset in STABLECOINS} | {event.asset for event in events}
    )
    return [
        (
            0.5 / _years(observed_years, coin),
            Scenario(
                f"Half an event of {coin}",
                0.0,
                prices={coin: ratio},
                source=f"Jeffreys prior: half an event in the years observed, at the median ratio of "
                f"{len(events)} event(s)",
            ),
        )
        for coin in sorted(coins - {BTC})
    ]


def sample_scenarios(scenarios: Sequence[Scenario], n: int, *, rng: np.random.Generator) -> IntArray:
    """Draw scenarios independently, in proportion to ``probability * weight`` over the active ones.

    Parameters
    ----------
    scenarios : sequence of Scenario
        Names unique, at least one active with a positive product.
    n : int
        How many, >= 1.
    rng : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of int of shape (n,)
        Positions in `scenarios` as passed.

    Examples
    --------
    >>> calm, crash = Scenario("calm", 0.9), Scenario("crash", 0.1)
    >>> sample_scenarios([calm, crash], 10_000, rng=np.random.default_rng(0)).mean().round(2)
    np.float64(0.1)
    """
    whole(n, "n", 1)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator, found {rng!r}")
    return indices_at(cumulated_shares(scenarios), rng.random(n))


def cumulated_shares(scenarios: Sequence[Scenario]) -> FloatArray:
    """Return the upper end of each scenario's part of [0, 1]; inactive ones have an empty part.

    Raises
    ------
    ValueError
        If there is no scenario, a name is doubled, or no active one has a positive probability and weight.
    """
    scenarios = checked_scenarios(scenarios)
    mass = np.array([s.probability * s.weight if s.is_active else 0.0 for s in scenarios])
    if not mass.sum() > 0.0:
        raise ValueError("scenarios: at least one active one must have probability > 0 and weight > 0, found none")
    cumulated = np.cumsum(mass / mass.max())
    cumulated /= cumulated[-1]
    # Exactly 1 from the last possible scenario on, so that no draw falls beyond it.
    cumulated[int(np.flatnonzero(mass)[-1]) :] = 1.0
    return cumulated


def checked_scenarios(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Return a list of scenarios; a `ValueError` when it is empty, holds something else or a doubled name."""
    if not isinstance(scenarios, Iterable):
        raise ValueError(f"scenarios must be a sequence of Scenario records, found {scenarios!r}")
    checked = list(scenarios)
    if not checked:
        raise ValueError("scenarios must hold at least one scenario, found none")
    for scenario in checked:
        if not isinstance(scenario, Scenario):
            raise ValueError(f"scenarios must hold Scenario records, found {scenario!r}")
    unique((scenario.name for scenario in checked), "scenario names")
    return checked


def indices_at(cumulated: FloatArray, points: FloatArray) -> IntArray:
    """Return the scenario whose part of [0, 1) holds each point."""
    return np.searchsorted(cumulated, points, side="right").astype(np.int64)


def scenario_levels(scenarios: Sequence[Scenario], assets: Sequence[str]) -> FloatArray:
    """Return each scenario's price of each asset in units of its peg reference, 1 where it names none.

    Returns
    -------
    ndarray of shape (n_scenarios, n_assets)

    Raises
    ------
    ValueError
        If a scenario prices one asset twice, in two spellings.
    """
    levels = np.ones((len(scenarios), len(assets)))
    for row, scenario in enumerate(scenarios):
        unique(map(canonical, scenario.prices), f"assets priced by scenario {scenario.name!r}")
        prices = {canonical(symbol): price for symbol, price in scenario.prices.items()}
        levels[row] = [prices.get(asset, 1.0) for asset in assets]
    return levels


def joint_episodes(events: Iterable[DepegEvent], window: timedelta) -> list[list[DepegEvent]]:
    """Return the events in joint episodes: those that start within `window` of the first start of theirs.

    Examples
    --------
    >>> joint_episodes([], timedelta(hours=72))
    []
    """
    episodes: list[list[DepegEvent]] = []
    for event in sorted(events, key=lambda event: (event.start, event.asset, event.direction)):
        if episodes and event.start - episodes[-1][0].start <= window:
            episodes[-1].append(event)
        else:
            episodes.append([event])
    return episodes


def _years(observed_years: float | Mapping[str, float], asset: str, event: DepegEvent | None = None) -> float:
    if not isinstance(observed_years, Mapping):
        return within(observed_years, "observed_years", 0.0, open_low=True)
    if event is not None and asset not in observed_years:
        raise InsufficientDataError(
            f"observed_years says nothing of {asset}, which has an event at {iso(event.start)}",
            asset=asset,
            time=event.start,
        )
    return within(observed_years[asset], f"observed_years[{asset!r}]", 0.0, open_low=True)


def _ratio(event: DepegEvent) -> float:
    return 1.0 - event.severity if event.direction == "below" else 1.0 + event.severity


def _extreme_ratios(episode: Iterable[DepegEvent]) -> dict[str, float]:
    # Of equal severities the discount is taken: it is the one that pays.
    worst: dict[str, DepegEvent] = {}
    for event in sorted(episode, key=lambda event: (-event.severity, event.direction != "below")):
        worst.setdefault(event.asset, event)
    return {asset: _ratio(event) for asset, event in sorted(worst.items())}
