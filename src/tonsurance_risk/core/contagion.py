"""Which coins fall together: correlated pairs, depegs at the same time, clusters, and the lower tail."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import numpy as np
import pandas as pd
import scipy
from scipy import special

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.association import pairs_of
from tonsurance_risk.core.correlation import RISK_LEVELS, CorrelationMatrix
from tonsurance_risk.core.scenarios import joint_episodes
from tonsurance_risk.core.statistics import binomial_interval, poisson_interval, years_by_asset
from tonsurance_risk.core.windows import return_values
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BTC, YEAR, DepegEvent, checked_events
from tonsurance_risk.values import BoolArray, as_utc, iso, span, unique, whole, within

_WAYS = ("together", "opposite")
TAIL_SHARE = 0.05
LEAST_IN_TAIL = 5
"""So many rows of each series must lie in its tail."""


def contagion_pairs(matrix: CorrelationMatrix, threshold: float = 0.8) -> pd.DataFrame:
    """Return the pairs of coins whose correlation is at least `threshold`, strongest first.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Coins, and BTC perhaps.
    threshold : float
        In [-1, 1].

    Returns
    -------
    DataFrame
        The columns of `CorrelationMatrix.pairs`, with the bootstrap intervals where the matrix has them. BTC and
        default pairs are left out.

    Raises
    ------
    ValueError
        If the threshold is not in [-1, 1].

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.85], [0.85, 1.0]], index=["DAI", "USDC"], columns=["DAI", "USDC"])
    >>> contagion_pairs(CorrelationMatrix.from_frame(table))[["asset_1", "asset_2", "risk_level"]].values.tolist()
    [['DAI', 'USDC', 'HIGH']]
    """
    bound = within(threshold, "threshold", -1.0, 1.0)
    pairs = _estimated_pairs(matrix)
    kept = pairs[pairs["correlation"] >= bound]
    return kept.sort_values("correlation", ascending=False, kind="stable").reset_index(drop=True)


def pairs_by_risk_level(matrix: CorrelationMatrix) -> pd.DataFrame:
    """Return the pairs of coins that move together, or against each other, by the strength of the correlation.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Coins, and BTC perhaps.

    Returns
    -------
    DataFrame
        The columns of `CorrelationMatrix.pairs` and direction: "together", or "opposite" for a negative
        correlation, where one coin is a refuge from the other. `risk_level` is that of the absolute value here.
        Pairs below 0.7, default ones and BTC are left out; the strongest come first.

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, -0.85], [-0.85, 1.0]], index=["USDC", "USDT"], columns=["USDC", "USDT"])
    >>> pairs_by_risk_level(CorrelationMatrix.from_frame(table))[["direction", "risk_level"]].values.tolist()
    [['opposite', 'HIGH']]
    """
    pairs = _estimated_pairs(matrix)
    strength = pairs["correlation"].abs()
    levels = np.select(
        [strength >= bound for bound, _ in RISK_LEVELS], [name for _, name in RISK_LEVELS], "NORMAL"
    )
    direction = np.where(pairs["correlation"] < 0.0, "opposite", "together")
    table: pd.DataFrame = pairs.assign(risk_level=levels.tolist(), direction=direction.tolist())
    table = table[table["risk_level"] != "NORMAL"]
    return table.sort_values("correlation", key=np.abs, ascending=False, kind="stable").reset_index(drop=True)


def co_depegs(
    events: Iterable[DepegEvent],
    *,
    observed: float | Mapping[str, float] | Mapping[str, tuple[datetime, datetime]],
    episode_window: timedelta = timedelta(hours=72),
) -> pd.DataFrame:
    """Return how often two coins are off peg together, and in opposite directions at once.

    Parameters
    ----------
    events : iterable of DepegEvent
        Of one source and one rule, in both directions, in any order.
    observed : float, or mapping by asset of float or of (first, last) times
        How long each asset was observed [years of 365 days], > 0; of a pair the shorter counts. Better, from when
        to when: then only the time in which both were counts, and only events that start in it.
    episode_window : timedelta
        Events of the two that start so soon after the first are one episode of theirs.

    Returns
    -------
    DataFrame
        A row a pair, ``asset_1 < asset_2`` by code point: observed_years, n_episodes (of either), n_together and
        n_opposite (in which one leaves its peg while the other is off it, in the same direction or in the other),
        their rates [1 / year] with exact 95 % Poisson intervals (rate_together, rate_together_low,
        rate_together_high, and so on; NA for a pair never observed at once), and their shares of the episodes with
        exact 95 % binomial intervals (share_together, and so on; NA without an episode). Pairs of assets without
        events are there if `observed` is a mapping.

    Raises
    ------
    ValueError
        If an argument is outside what is accepted.
    InsufficientDataError
        If `observed` is a mapping without an asset that has events.

    Notes
    -----
    A coin is off its peg from the start of an event to its end and the span of a sample after it, without that
    last instant. One episode counts at most once in each direction. Episodes are taken as independent.

    References
    ----------
    F. Garwood, Biometrika 28 (1936) 437-442, for the rates; C. J. Clopper, E. S. Pearson, Biometrika 26 (1934)
    404-413, for the shares.
    """
    span(episode_window, "episode_window")
    listed = checked_events(events)
    spans = _spans(observed)
    years = years_by_asset(cast("float", observed), listed) if spans is None else {}
    by_asset: dict[str, list[DepegEvent]] = {asset: [] for asset in sorted(years if spans is None else spans)}
    for event in listed:
        asset = canonical(event.asset)
        if asset not in by_asset:
            raise InsufficientDataError(f"observed says nothing of {asset}, which has events", asset=asset)
        by_asset[asset].append(event)
    rows = []
    for one, other in itertools.combinations(by_asset, 2):
        events_of = {one: by_asset[one], other: by_asset[other]}
        both = events_of[one] + events_of[other]
        if spans is None:
            common: float = min(years[one], years[other])
        else:
            first, last = max(spans[one][0], spans[other][0]), min(spans[one][1], spans[other][1])
            common = max((last - first).total_seconds() / YEAR.total_seconds(), 0.0)
            both = [event for event in both if first <= event.start <= last]
        episodes = joint_episodes(both, episode_window)
        ways = [_ways(episode, {one: events_of[other], other: events_of[one]}) for episode in episodes]
        row: dict[str, object] = {"asset_1": one, "asset_2": other, "observed_years": common}
        row["n_episodes"] = len(episodes)
        counts = {way: sum(way in found for found in ways) for way in _WAYS}
        row |= {f"n_{way}": count for way, count in counts.items()}
        for way, count in counts.items():
            row |= _rate(way, count, common) | _share(way, count, len(episodes))
        rows.append(row)
    names = ["asset_1", "asset_2", "observed_years", "n_episodes", *(f"n_{way}" for way in _WAYS)]
    estimates = (name for way in _WAYS for name in _rate(way, 0, 0.0) | _share(way, 0, 0))
    return pd.DataFrame(rows, columns=[*names, *estimates])


def coin_clusters(matrix: CorrelationMatrix, *, threshold: float = 0.7) -> list[tuple[str, ...]]:
    """Return groups of coins that move together, by hierarchical clustering.

    Parameters
    ----------
    matrix : CorrelationMatrix
        Default pairs count with their default.
    threshold : float
        In [-1, 1]: groups are merged as long as the average distance of their members is at most that of this
        correlation.

    Returns
    -------
    list of tuple of str
        The largest group first; coins in order, a coin alone is a group of one.

    Notes
    -----
    Average linkage of the distance ``sqrt(2 (1 - r))``.

    References
    ----------
    R. N. Mantegna, "Hierarchical structure in financial markets", European Physical Journal B 11 (1999) 193-197,
    doi:10.1007/s100510050929, equation 2.

    Examples
    --------
    >>> names = ["DAI", "USDC", "USDT"]
    >>> table = pd.DataFrame([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1.0]], index=names, columns=names)
    >>> coin_clusters(CorrelationMatrix.from_frame(table))
    [('DAI', 'USDC'), ('USDT',)]
    """
    within(threshold, "threshold", -1.0, 1.0)
    ordered = _checked(matrix).select(sorted(matrix.assets))
    if len(ordered.assets) < 2:
        return [(asset,) for asset in ordered.assets]
    distance = scipy.spatial.distance.squareform(np.sqrt(2.0 * (1.0 - ordered.values)), checks=False)
    tree = scipy.cluster.hierarchy.linkage(distance, method="average")
    labels = scipy.cluster.hierarchy.fcluster(
        tree, math.sqrt(2.0 * (1.0 - threshold)) + 1e-12, criterion="distance"
    )
    groups: dict[int, list[str]] = {}
    for asset, label in zip(ordered.assets, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(asset)
    return sorted(map(tuple, groups.values()), key=lambda group: (-len(group), group))


def tail_dependence(
    returns: pd.DataFrame, *, share: float = TAIL_SHARE, min_observations: int = 20
) -> pd.DataFrame:
    """Return how often two coins have their worst returns in the same rows.

    Parameters
    ----------
    returns : DataFrame of shape (n_times, n_assets)
        NaN where there is none, in order of time.
    share : float
        The tail: the lowest share of each series over the common rows, in (0, 0.5].
    min_observations : int
        Pairs with fewer common rows are left out.

    Returns
    -------
    DataFrame
        A row a pair, ``asset_1 < asset_2`` by code point: observations, n_tail (mean of the two numbers of rows in
        a tail), n_joint (rows in both), tail_dependence, low and high (95 %), independent (what independence would
        give). A pair of which one series has fewer than 5 rows in its tail, because ties are left out of it, is
        left out.

    Raises
    ------
    InvalidPriceError
        If a return is text or infinite.
    ValueError
        If an option is outside what is accepted.

    Notes
    -----
    The estimate is n_joint / n_tail, the empirical lower-tail copula at `share` over it; its limit for a small
    share is the coefficient of lower-tail dependence. The interval is exact binomial with an effective number of
    rows in the tail: that number over the design effect, the variance of block sums of n^(1/3) rows over that of
    independent rows, at least 1.

    References
    ----------
    R. Schmidt, U. Stadtmueller, "Non-parametric estimation of tail dependence", Scandinavian Journal of Statistics
    33 (2006) 307-335, doi:10.1111/j.1467-9469.2005.00483.x. E. L. Korn, B. I. Graubard, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24
    (1998) 193-201.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=400)
    >>> table = tail_dependence(pd.DataFrame({"DAI": x, "USDC": x**3, "USDT": -x}))
    >>> table[["asset_1", "asset_2", "n_joint", "tail_dependence"]].values.tolist()
    [['DAI', 'USDC', 20, 1.0], ['DAI', 'USDT', 0, 0.0], ['USDC', 'USDT', 0, 0.0]]
    """
    tail = within(share, "share", 0.0, 0.5, open_low=True)
    whole(min_observations, "min_observations", 2)
    values, assets = return_values(returns)
    order = np.argsort(np.array(assets, dtype=object))
    rows = []
    for i, j in pairs_of(len(assets)):
        one, other = int(order[i]), int(order[j])
        both = ~np.isnan(values[:, one]) & ~np.isnan(values[:, other])
        n = int(both.sum())
        if n < min_observations:
            continue
        in_tail_one, in_tail_other = (
            scipy.stats.rankdata(values[both, k], method="max") <= math.floor(n * tail + 1e-9)
            for k in (one, other)
        )
        if min(in_tail_one.sum(), in_tail_other.sum()) < LEAST_IN_TAIL:
            continue
        rows.append(
            {
                "asset_1": assets[one],
                "asset_2": assets[other],
                **_tail_row(in_tail_one, in_tail_other),
                "independent": tail,
            }
        )
    names = ["asset_1", "asset_2", "observations", "n_tail", "n_joint", "tail_dependence", "low", "high"]
    return pd.DataFrame(rows, columns=[*names, "independent"])


def _checked(matrix: CorrelationMatrix) -> CorrelationMatrix:
    if not isinstance(matrix, CorrelationMatrix):
        raise ValueError(f"matrix must be a CorrelationMatrix, found {type(matrix).__name__}")
    return matrix


def _estimated_pairs(matrix: CorrelationMatrix) -> pd.DataFrame:
    pairs = _checked(matrix).pairs(interval=matrix.best_interval)
    return pairs[~pairs["is_default"] & (pairs["asset_1"] != BTC) & (pairs["asset_2"] != BTC)]


def _spans(observed: object) -> dict[str, tuple[pd.Timestamp, pd.Timestamp]] | None:
    """Return from when to when each asset was observed, None where only the years are known."""
    if not isinstance(observed, Mapping) or not any(isinstance(value, tuple) for value in observed.values()):
        return None
    unique(map(canonical, observed), "assets of observed")
    spans = {}
    for asset, value in observed.items():
        if not isinstance(value, tuple) or len(value) != 2:
            raise ValueError(f"observed[{asset!r}] must be two times like the others, found {value!r}")
        first, last = (as_utc(time, f"observed[{asset!r}]") for time in value)
        if last <= first:
            raise ValueError(f"observed[{asset!r}] must end after it begins, found {iso(first)} to {iso(last)}")
        spans[canonical(asset)] = (first, last)
    return spans


def _ways(episode: Sequence[DepegEvent], opposite: Mapping[str, Sequence[DepegEvent]]) -> set[str]:
    """Return in which ways an event of an episode begins while the other coin is off its peg.

    `opposite` has the events of the other coin, by coin.
    """
    return {
        "together" if event.direction == other.direction else "opposite"
        for event in episode
        for other in opposite[canonical(event.asset)]
        if other.start <= event.start and (event.start <= other.end or event.start < other.end + other.sample_span)
    }


def _rate(way: str, count: int, years: float) -> dict[str, object]:
    names = (f"rate_{way}", f"rate_{way}_low", f"rate_{way}_high")
    if not years > 0.0:
        return dict.fromkeys(names, pd.NA)
    low, high = poisson_interval(count)
    return dict(zip(names, (count / years, low / years, high / years), strict=True))


def _share(way: str, count: int, n_episodes: int) -> dict[str, object]:
    names = (f"share_{way}", f"share_{way}_low", f"share_{way}_high")
    if not n_episodes:
        return dict.fromkeys(names, pd.NA)
    return dict(zip(names, (count / n_episodes, *binomial_interval(count, n_episodes)), strict=True))


def _tail_row(in_tail_one: BoolArray, in_tail_other: BoolArray) -> dict[str, object]:
    n, joint = len(in_tail_one), in_tail_one & in_tail_other
    in_tail = (in_tail_one.astype(float) + in_tail_other) / 2.0
    n_joint, n_tail = int(joint.sum()), float(in_tail.sum())
    estimate = n_joint / n_tail
    if 0.0 < estimate < 1.0:
        away, independent = joint - estimate * in_tail, n_tail * estimate * (1.0 - estimate)
    else:
        away, independent = in_tail - n_tail / n, n_tail * (1.0 - n_tail / n)
    length = math.ceil(n ** (1.0 / 3.0))
    reached = np.cumsum(np.concatenate([[0.0], away, away[: length - 1]]))
    blocks = reached[length:] - reached[:-length]
    effect = max(1.0, float(np.sum(blocks**2)) / length / independent)
    k, m = n_joint / effect, n_tail / effect
    return {
        "observations": n,
        "n_tail": n_tail,
        "n_joint": n_joint,
        "tail_dependence": min(estimate, 1.0),
        "low": float(special.betaincinv(k, m - k + 1.0, 0.025)) if n_joint else 0.0,
        "high": float(special.betaincinv(k + 1.0, m - k, 0.975)) if estimate < 1.0 else 1.0,
    }
