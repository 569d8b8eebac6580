"""Statistics of depeg events: how often, how deep, how long, and which came together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

import attrs
import pandas as pd
from scipy import special

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.measures import exact_level
from tonsurance_risk.core.scenarios import joint_episodes
from tonsurance_risk.core.tables import json_value
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import DepegEvent, checked_events
from tonsurance_risk.values import iso, span, unique, whole, within

_Groups: TypeAlias = dict[tuple[str, ...], list[DepegEvent]]

_DURATIONS = ("mean_duration", "longest_duration", "mean_recovery_time")
_COLUMNS = {
    "observed_years": "float64",
    "count": "int64",
    "rate": "float64",
    "rate_low": "float64",
    "rate_high": "float64",
    "mean_severity": "Float64",
    "worst_severity": "Float64",
    "mean_duration": "object",
    "longest_duration": "object",
    "n_recovered": "int64",
    "mean_recovery_time": "object",
    "last_event": "object",
}


@attrs.frozen
class DepegStatistics:
    """Statistics of depeg events, by asset and by joint episode.

    Parameters
    ----------
    by_asset : DataFrame
        A row an asset (the index), the columns of `depeg_statistics`.
    by_direction : DataFrame
        The same by asset and direction, a row a pair that has events.
    episodes : DataFrame
        A row a joint episode in order of start: start, assets (a tuple, sorted), worst_severity, n_events.
    level : float
        Of the intervals of the rates.
    episode_window : timedelta
        How long after the first start an event still belonged to an episode.
    """

    by_asset: pd.DataFrame = attrs.field(eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    by_direction: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    episodes: pd.DataFrame = attrs.field(repr=False, eq=attrs.cmp_using(eq=pd.DataFrame.equals))
    level: float
    episode_window: timedelta

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types: lists of rows, ISO times, durations in seconds, None for missing."""
        return {
            "level": self.level,
            "episode_window_seconds": self.episode_window.total_seconds(),
            "by_asset": _json_rows(self.by_asset.reset_index()),
            "by_direction": _json_rows(self.by_direction.reset_index()),
            "episodes": _json_rows(self.episodes),
        }


def depeg_statistics(
    events: Iterable[DepegEvent],
    *,
    observed: float | Mapping[str, float],
    level: float = 0.95,
    episode_window: timedelta = timedelta(hours=72),
) -> DepegStatistics:
    """Return how often assets left their peg, how deep, for how long, and which did so together.

    Parameters
    ----------
    events : iterable of DepegEvent
        Of one source and one rule, in any order: an event seen by two sources counts twice.
    observed : float, or mapping of float by asset
        How long each asset was observed [years of 365 days], > 0. An asset of the mapping that has no event is
        in the result, with a rate of 0 and its upper bound.
    level : float
        Of the intervals of the rates, in (0, 1).
    episode_window : timedelta
        How long after the first start an event still belongs to a joint episode.

    Returns
    -------
    DepegStatistics
        Its tables by asset have the columns observed_years, count, rate, rate_low, rate_high [1 / year],
        mean_severity, worst_severity [fraction of the peg], mean_duration, longest_duration, n_recovered (how
        many events came back to the peg in the data), mean_recovery_time (over these), last_event (its start).
        What nothing is known of is None, or pandas.NA in a column of numbers. An event that did not recover
        counts with the duration seen so far, so that the mean is too short then.

    Raises
    ------
    ValueError
        If an argument is outside what is accepted, or two symbols of `observed` are one asset.
    InsufficientDataError
        If `observed` is a mapping without an asset that has events.

    Notes
    -----
    For k events in T years the interval at level 1 - a is that of Garwood, which holds at least with the level,
    whatever the rate of a Poisson process: from q(a / 2; k) / T, 0 for k = 0, to q(1 - a / 2; k + 1) / T, where
    q(p; s) is the p-quantile of the gamma distribution of shape s and scale 1, half of the quantile of chi-square
    with 2 s degrees of freedom. It takes events as independent; events in one episode are not, and the interval
    of an asset whose events cluster is too narrow.

    References
    ----------
    F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936) 437-442,
    doi:10.1093/biomet/28.3-4.437.

    Examples
    --------
    >>> statistics = depeg_statistics([], observed={"USDC": 2.0})
    >>> statistics.by_asset.loc["USDC", ["count", "rate", "rate_low", "rate_high"]].astype(float).round(3).tolist()
    [0.0, 0.0, 0.0, 1.844]
    """
    exact_level(level)
    span(episode_window, "episode_window")
    listed = checked_events(events)
    years = years_by_asset(observed, listed)
    by_asset: _Groups = {(asset,): [] for asset in sorted(years)}
    by_direction: _Groups = {}
    for event in sorted(listed, key=lambda event: (canonical(event.asset), event.direction)):
        asset = canonical(event.asset)
        by_asset[asset,].append(event)
        by_direction.setdefault((asset, event.direction), []).append(event)
    return DepegStatistics(
        by_asset=_table(by_asset, ["asset"], years, level),
        by_direction=_table(by_direction, ["asset", "direction"], years, level),
        episodes=_episode_table(joint_episodes(listed, episode_window)),
        level=float(level),
        episode_window=episode_window,
    )


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval for the mean of a Poisson variable that was seen as `count`.

    Parameters
    ----------
    count : int
        At least 0.
    level : float
        In (0, 1).

    Notes
    -----
    See `depeg_statistics`.

    Examples
    --------
    >>> [round(end, 4) for end in poisson_interval(4)]
    [1.0899, 10.2416]
    """
    whole(count, "count", 0)
    beyond = float((1 - exact_level(level)) / 2)
    low = float(special.gammaincinv(count, beyond)) if count else 0.0
    return low, float(special.gammainccinv(count + 1, beyond))


def binomial_interval(count: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of Clopper and Pearson for the probability of what happened `count` times of n.

    Parameters
    ----------
    count, n : int
        ``0 <= count <= n``, n at least 1.
    level : float
        In (0, 1).

    References
    ----------
    C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934) 404-413, doi:10.1093/biomet/26.4.404.

    Examples
    --------
    >>> [round(end, 4) for end in binomial_interval(1, 3)]
    [0.0084, 0.9057]
    """
    whole(count, "count", 0, whole(n, "n", 1))
    beyond = float((1 - exact_level(level)) / 2)
    low = float(special.betaincinv(count, n - count + 1, beyond)) if count else 0.0
    high = float(special.betainccinv(count + 1, n - count, beyond)) if count < n else 1.0
    return low, high


def years_by_asset(observed: float | Mapping[str, float], events: Sequence[DepegEvent]) -> dict[str, float]:
    """Return how long each asset was observed [years]; see `depeg_statistics`."""
    if not isinstance(observed, Mapping):
        years = within(observed, "observed", 0.0, open_low=True)
        return {canonical(event.asset): years for event in events}
    unique(map(canonical, observed), "assets of observed")
    by_asset = {
        canonical(asset): within(years, f"observed[{asset!r}]", 0.0, open_low=True)
        for asset, years in observed.items()
    }
    for event in events:
        if canonical(event.asset) not in by_asset:
            raise InsufficientDataError(
                f"observed says nothing of {event.asset}, which has an event at {iso(event.start)}",
                asset=event.asset,
                time=event.start,
                required=event.asset,
            )
    return by_asset


def _table(groups: _Groups, names: list[str], years: Mapping[str, float], level: float) -> pd.DataFrame:
    """Return a row a group; a group is named by its asset first."""
    rows = [_row(events, years[key[0]], level) for key, events in groups.items()]
    # Column by column, so that pandas does not turn None into NaN or NaT.
    columns = {
        name: pd.Series([row[name] for row in rows], dtype=kind, index=_index(groups, names))
        for name, kind in _COLUMNS.items()
    }
    return pd.DataFrame(columns, index=_index(groups, names))


def _index(groups: _Groups, names: list[str]) -> pd.Index:
    if len(names) == 1:
        return pd.Index([key[0] for key in groups], name=names[0], dtype=object)
    return pd.MultiIndex.from_tuples(list(groups), names=names)


def _row(events: Sequence[DepegEvent], years: float, level: float) -> dict[str, Any]:
    n = len(events)
    low, high = poisson_interval(n, level)
    severities = [event.severity for event in events]
    durations = [event.duration for event in events]
    recoveries = [event.recovery_time for event in events if event.recovery_time is not None]
    return {
        "observed_years": years,
        "count": n,
        "rate": n / years,
        "rate_low": low / years,
        "rate_high": high / years,
        "mean_severity": math.fsum(severities) / n if n else pd.NA,
        "worst_severity": max(severities, default=pd.NA),
        "mean_duration": _mean(durations),
        "longest_duration": max(durations, default=None),
        "n_recovered": len(recoveries),
        "mean_recovery_time": _mean(recoveries),
        "last_event": max((event.start for event in events), default=None),
    }


def _mean(durations: Sequence[timedelta]) -> timedelta | None:
    return sum(durations, timedelta(0)) / len(durations) if durations else None


def _episode_table(episodes: Sequence[Sequence[DepegEvent]]) -> pd.DataFrame:
    assets = [tuple(sorted({canonical(event.asset) for event in episode})) for episode in episodes]
    return pd.DataFrame(
        {
            "start": pd.DatetimeIndex([episode[0].start for episode in episodes], dtype="datetime64[us, UTC]"),
            "assets": pd.Series(assets, dtype=object),
            "worst_severity": [max(event.severity for event in episode) for episode in episodes],
            "n_events": [len(episode) for episode in episodes],
        }
    ).astype({"worst_severity": float, "n_events": int})


def _json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.to_dict(orient="records")
    return [dict(_json_item(str(name), value) for name, value in row.items()) for row in rows]


def _json_item(name: str, value: Any) -> tuple[str, Any]:
    if name in _DURATIONS:
        return f"{name}_seconds", None if value is None else value.total_seconds()
    return name, json_value(value)
