"""Does a store hold what it should: its own rules, no gaps, and results that its prices still give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from tonsurance_risk.assessment import check_and_detect
from tonsurance_risk.core.quality import Check
from tonsurance_risk.core.windows import correlation_windows
from tonsurance_risk.errors import RiskError
from tonsurance_risk.model import DepegEvent, Peg
from tonsurance_risk.runner.desk import RETENTION
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.storage import SqlStore
from tonsurance_risk.storage.audit import broken_rules
from tonsurance_risk.values import iso

_NO_PEGS: Mapping[str, Peg] = MappingProxyType({})
SAMPLED_WINDOWS = (30, 90, 365)
TOLERANCE = 1e-9
"""How far a correlation computed again may be off: another order of sums, no more."""
_SHOWN = 5


def check_store(store: SqlStore, *, pegs: Mapping[str, Peg] = _NO_PEGS) -> list[Check]:
    """Return what a store was checked for, and what was found. Nothing is changed.

    Parameters
    ----------
    store : SqlStore
        One in a database.
    pegs : mapping of peg by symbol
        Of the vault's own coins.

    Returns
    -------
    list of Check
        The rules of the tables, row by row, whatever the database believes; then for each source and step the gaps
        between its samples, the newest correlations computed again, and the stored events against those found in
        the prices now.
    """
    broken = broken_rules(store.database)
    checks = [Check("rules of the tables", not broken, _listed(broken) or "every row keeps them")]
    for step in STEPS:
        for source in store.price_sources(step=step):
            prices = store.load_prices(source=source, step=step)
            where = f"of {source}, {step}"
            gaps = [gap for asset in prices.columns for gap in _gaps(store, prices[asset].dropna(), source, step)]
            checks.append(Check(f"gaps {where}", not gaps, _listed(gaps) or "none"))
            wrong = list(_wrong_correlations(store, source, step, pegs))
            checks.append(Check(f"correlations {where}", not wrong, _listed(wrong) or "as computed again"))
            changed = _changed_events(store, prices, source, step, pegs)
            checks.append(Check(f"events {where}", not changed, _listed(changed) or "as found again"))
    return checks


def _listed(findings: list[str]) -> str:
    more = f"; and {len(findings) - _SHOWN:,} more" if len(findings) > _SHOWN else ""
    return "; ".join(findings[:_SHOWN]) + more


def _gaps(store: SqlStore, observed: pd.Series, source: str, step: str) -> Iterator[str]:
    """Yield where samples of an asset are further apart than a step; what was archived is no gap."""
    archived = [(archive.start, archive.end) for archive in store.load_archives(source, step)]
    bar = pd.Timedelta(STEPS[step])
    times = pd.Series(observed.index)
    for place in np.flatnonzero(times.diff() > bar).tolist():
        first, last = times[place - 1] + bar, times[place]
        if not any(start <= first and last <= end for start, end in archived):
            yield f"{observed.name} lacks {int((last - first) / bar):,} from {iso(first)} to {iso(last)}"


def _wrong_correlations(store: SqlStore, source: str, step: str, pegs: Mapping[str, Peg]) -> Iterator[str]:
    for window in SAMPLED_WINDOWS:
        stored = store.load_correlations(window_days=window, source=source, step=step)
        if stored is None or stored.as_of is None:
            continue
        until = stored.as_of + pd.Timedelta(1, "us")
        since = stored.as_of - RETENTION
        prices = store.load_prices(list(stored.assets), since, until, source=source, step=step)
        others = other_prices(store, source, step, since, until)
        try:
            _, usable, _ = check_and_detect(
                prices.dropna(axis=1, how="all"), stored.as_of, STEPS[step], source, others, pegs
            )
            again = correlation_windows(usable, windows=(window,), as_of=stored.as_of)[window]
        except RiskError as error:
            yield f"{window} days cannot be computed again: {error}"
            continue
        for a, b, correlation in stored.pairs()[["asset_1", "asset_2", "correlation"]].itertuples(
            index=False, name=None
        ):
            computed = again.get(a, b) if {a, b} <= set(again.assets) else 0.0
            if abs(computed - correlation) > TOLERANCE:
                yield f"{window} days, {a} and {b}: {correlation:.6f}, now {computed:.6f}"


def _changed_events(
    store: SqlStore, prices: pd.DataFrame, source: str, step: str, pegs: Mapping[str, Peg]
) -> list[str]:
    """Return stored events of the rule of the daily job that the prices no longer show, and the other way round.

    Only those that lie wholly in the prices: of what was archived the events remain.
    """
    bar = STEPS[step]
    others = other_prices(store, source, step)
    _, _, found = check_and_detect(prices, prices.index[-1], bar, source, others, pegs)
    rules = {_rule(event) for event in found}
    stored = [
        event
        for event in store.load_events(list(prices.columns), start=prices.index[0], source=source)
        if event.sample_span == bar and (not rules or _rule(event) in rules)
    ]
    seen, kept = {_place(event) for event in found}, {_place(event) for event in stored}
    if not kept and not any(row.status == "done" for row in store.load_jobs(f"depeg_backfill {source} {step}")):
        return []  # nobody has looked for them yet
    return [f"{asset} from {iso(start)} is not in the prices" for asset, _, start, _ in sorted(kept - seen)] + [
        f"{asset} from {iso(start)} is not stored" for asset, _, start, _ in sorted(seen - kept)
    ]


def _rule(event: DepegEvent) -> tuple[object, ...]:
    return event.threshold, event.recovery, event.min_duration, event.max_gap, event.merge_within


def _place(event: DepegEvent) -> tuple[str, str, pd.Timestamp, pd.Timestamp]:
    return event.asset, event.direction, pd.Timestamp(event.start), pd.Timestamp(event.end)
