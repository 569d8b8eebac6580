"""The first two jobs of a day: prices and their depegs, and how the coins move together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tonsurance_risk.assessment import check_and_detect
from tonsurance_risk.assets import own_pegs
from tonsurance_risk.core.consensus import check_sources
from tonsurance_risk.core.dependence import stored_correlations
from tonsurance_risk.errors import (
    HistoryLimitError,
    InsufficientDataError,
    RiskError,
    SettingsError,
    StorageError,
    UnknownAssetError,
)
from tonsurance_risk.model import DepegEvent
from tonsurance_risk.ports import JobLock, MeteredSource, PriceSource, Store, WriteResult
from tonsurance_risk.runner.desk import INSTANT, RETENTION, Desk
from tonsurance_risk.runner.gaps import Window, held_times, known_windows, save_fetched, windows_to_update
from tonsurance_risk.runner.jobs import Outcome
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.runner.usage import limit_credits, rows_written
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import as_utc, iso


def update_depegs(desk: Desk, date: pd.Timestamp, lock: JobLock) -> Outcome:
    """Fetch what is missing of two years and the last 7 days again, and find the depegs in all prices."""
    now = as_utc(desk.clock.now(), "the clock")
    limit_credits(desk.store, desk.source, now)
    fetched, written, not_carried, failed = _fetch(desk, date, now)
    found = _events(desk)
    lock.verify()
    events = desk.store.save_events(found)
    history_start = _history_start(desk.source, desk.step, date - RETENTION)
    details: dict[str, Any] = {
        "fetched": fetched,
        "not_carried": list(not_carried),
        "failed": failed,
        "history_start": None if history_start is None else iso(history_start),
        **rows_written(price_history=written, historical_depegs=events),
    }
    message = f"{sum(fetched.values()):,} samples of {len(fetched)} assets; {events.new} depegs are new"
    return Outcome(rows=sum(fetched.values()), message=message, needs_attention=bool(failed), details=details)


def update_correlations(desk: Desk, date: pd.Timestamp, lock: JobLock) -> Outcome:
    """Store the correlations of 30, 90 and 365 days of the checked prices."""
    since, until = date - RETENTION, date + INSTANT
    prices = desk.store.load_prices(desk.assets, since, until, **desk.place).dropna(axis=1, how="all")
    if prices.empty:
        raise InsufficientDataError(f"no prices at or before {iso(date)}", time=date, observed=0, required=1)
    others = other_prices(desk.store, desk.source.name, desk.step, since, until)
    quality, _ = check_sources(prices, others, as_of=date, peg=own_pegs(desk.vault))
    matrices, reasons = stored_correlations(quality.usable(prices), as_of=date, seed=desk.seed)
    lock.verify()
    written = desk.store.save_correlations([one for one in matrices.values() if one is not None], **desk.place)
    windows = [f"{days} days" for days, matrix in matrices.items() if matrix is not None]
    message = f"correlations of {', '.join(windows) or 'no window'}; {written.new + written.changed:,} are new"
    details = reasons | rows_written(asset_correlations=written)
    return Outcome(rows=written.new + written.changed, message=message, details=details)


def _events(desk: Desk) -> tuple[DepegEvent, ...]:
    """Find the depegs in all prices of the store: in two years alone a long one would begin anew every day."""
    prices = desk.store.load_prices(desk.assets, **desk.place).dropna(axis=1, how="all")
    if prices.empty:
        return ()
    others = other_prices(desk.store, desk.source.name, desk.step)
    name, pegs = desk.source.name, own_pegs(desk.vault)
    return check_and_detect(prices, prices.index[-1], STEPS[desk.step], name, others, pegs)[2]


def _history_start(source: PriceSource, step: str, since: pd.Timestamp) -> pd.Timestamp | None:
    reached = source.earliest(step) if isinstance(source, MeteredSource) else since
    return reached if reached > since else None


def _fetch(
    desk: Desk, end: pd.Timestamp, now: pd.Timestamp
) -> tuple[dict[str, int], WriteResult, tuple[str, ...], dict[str, str]]:
    """Fetch and store each asset on its own, so that a bad one stops no other."""
    store, source, assets, step = desk.store, desk.source, desk.assets, desk.step
    fetched: dict[str, int] = {}
    not_carried: list[str] = []
    errors: dict[str, Exception] = {}
    written = WriteResult(0, 0, 0)
    known = known_windows(store, source.name, step, now)
    for number, asset in enumerate(assets):
        desk.progress(f"fetching {asset}", number, len(assets))
        try:
            windows = windows_to_update(store, source, asset, end - RETENTION, end, step, known)
            samples = 0
            for count, result in _fetch_windows(store, source, asset, windows, end, step, now):
                samples += count
                written += result
            fetched[asset] = samples
        except (StorageError, SettingsError):
            raise  # concerns the run, not the asset
        except UnknownAssetError as error:
            if len(held_times(store, source.name, asset, end - RETENTION, end, step)):
                errors[asset] = error  # it was there
            else:
                not_carried.append(asset)
        except Exception as error:
            errors[asset] = error
    desk.progress("fetching", len(assets), len(assets))
    if not fetched and errors:
        first, *_ = errors.values()
        raise first if isinstance(first, RiskError) else RiskError(f"no asset could be fetched: {first!r}")
    if not fetched:
        raise SettingsError(
            f"{source.name} carries none of {', '.join(assets)} at the step {step}", observed=source.name
        )
    return fetched, written, tuple(not_carried), {asset: f"{type(e).__name__}: {e}" for asset, e in errors.items()}


def _fetch_windows(
    store: Store,
    source: PriceSource,
    asset: str,
    windows: Sequence[Window],
    end: pd.Timestamp,
    step: str,
    now: pd.Timestamp,
) -> Iterator[tuple[int, WriteResult]]:
    """Fetch and store windows, the newest first, up to where history ends; give samples and rows of each."""
    for number, window in enumerate(reversed(windows)):
        try:
            prices = source.fetch(asset, *window, step=step).loc[:end]
        except HistoryLimitError:
            if number == 0:
                raise
            return
        written = save_fetched(store, source, asset, (window[0], min(window[1], end)), prices, step, now)
        yield len(prices), written
