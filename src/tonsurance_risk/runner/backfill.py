"""Years of prices into the store: what is missing is planned, then fetched window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import datetime
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assets import STABLECOINS, get_asset
from tonsurance_risk.errors import HistoryLimitError, RiskError, SettingsError, SourceError, UnknownAssetError
from tonsurance_risk.model import BTC
from tonsurance_risk.ports import (
    Clock,
    MeteredSource,
    PriceSource,
    PriceStore,
    Store,
    SystemClock,
    WriteResult,
)
from tonsurance_risk.runner.desk import Progress
from tonsurance_risk.runner.gaps import (
    Window,
    held_times,
    known_windows,
    missing_times,
    save_fetched,
    windows_over,
)
from tonsurance_risk.runner.jobs import Outcome
from tonsurance_risk.runner.runs import recorded
from tonsurance_risk.runner.usage import limit_credits, rows_written
from tonsurance_risk.sources.detail import DETAIL, FetchDetail
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import as_utc, iso

_WORKERS = 4  # the answer of one call is waited for while others are on their way


@attrs.frozen(kw_only=True)
class BackfillPlan:
    """What the store lacks and how it is asked for.

    Parameters
    ----------
    source, step : str
    start, end : Timestamp
        Prices of ``[start, end)`` are wanted.
    windows : dict of tuple of windows by asset
        Each is a call; the newest first.
    out_of_history : dict of window by asset
        What is missing and lies before what the plan of the source reaches.
    calls : int
        Without repetitions.
    calls_per_minute : float or None
        None: the source does not count calls.
    monthly_credits : int or None
    """

    source: str
    step: str
    start: pd.Timestamp
    end: pd.Timestamp
    windows: dict[str, tuple[Window, ...]]
    out_of_history: dict[str, Window]
    calls: int
    calls_per_minute: float | None
    monthly_credits: int | None

    @property
    def minutes(self) -> float | None:
        """What the calls take at the rate limit; None without one."""
        return None if self.calls_per_minute is None else self.calls / self.calls_per_minute

    def to_dict(self) -> dict[str, Any]:
        """Return the plan for JSON."""
        return {
            "source": self.source,
            "step": self.step,
            "start": iso(self.start),
            "end": iso(self.end),
            "calls": self.calls,
            "credits": self.calls,
            "monthly_credits": self.monthly_credits,
            "minutes": self.minutes,
            "windows": {asset: [_texts(window) for window in windows] for asset, windows in self.windows.items()},
            "out_of_history": {asset: _texts(window) for asset, window in self.out_of_history.items()},
        }


@attrs.frozen(kw_only=True)
class BackfillResult:
    """What a backfill did.

    Parameters
    ----------
    plan : BackfillPlan
    fetched : dict of int by asset
        Samples that the source gave.
    written : WriteResult
        What the store made of them.
    not_carried : dict of str by asset
        Assets that the source does not have, and of which the store has no prices of it, with the error.
    failed : dict of str by asset
        Others that did not come, with the error; what came before it is stored.
    out_of_history : dict of window by asset
        What the plan of the source does not reach back to.
    calls : int or None
        Made by the source, repetitions included; None where it does not count them.
    note : str
        What else was noticed; empty: nothing.
    """

    plan: BackfillPlan
    fetched: dict[str, int]
    written: WriteResult
    not_carried: dict[str, str]
    failed: dict[str, str]
    out_of_history: dict[str, Window]
    calls: int | None
    note: str = ""

    @property
    def needs_attention(self) -> bool:
        """Whether something that was asked for is not there."""
        return bool(self.failed or self.not_carried or self.out_of_history)

    def outcome(self) -> Outcome:
        """Return what the ledger is told."""
        return Outcome(
            rows=self.written.new + self.written.changed,
            message="; ".join(describe_backfill(self)),
            needs_attention=bool(self.failed),
            details={"failed": self.failed} | rows_written(price_history=self.written),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "plan": self.plan.to_dict(),
            "fetched": self.fetched,
            "written": attrs.asdict(self.written),
            "not_carried": self.not_carried,
            "failed": self.failed,
            "out_of_history": {asset: _texts(window) for asset, window in self.out_of_history.items()},
            "calls": self.calls,
            "note": self.note,
        }


def plan_backfill(
    store: PriceStore,
    source: PriceSource,
    assets: Sequence[str] | None = None,
    *,
    start: datetime,
    end: datetime,
    step: str = "1h",
    clock: Clock | None = None,
) -> BackfillPlan:
    """Return what to ask a source for; nothing is asked.

    Parameters
    ----------
    store : PriceStore
        What it has, has archived, or was told to be nowhere is not asked for.
    source : PriceSource
        A `MeteredSource` is asked in windows of the length that one call gives.
    assets : sequence of str, optional
        Symbols; the 14 stablecoins and BTC when not given.
    start, end : datetime
        tz-aware; prices of ``[start, end)``.
    step : {"1h", "1d"}
    clock : Clock, optional
        The machine's when not given.

    Raises
    ------
    SettingsError
        If the step is unknown or the interval is empty.
    UnknownAssetError
        If an asset is not built in.
    """
    if step not in STEPS:
        raise SettingsError(f"step must be one of {list(STEPS)}, found {step!r}", observed=step)
    first, last, span = as_utc(start, "start"), as_utc(end, "end"), STEPS[step]
    if not first < last:
        raise SettingsError(f"the start {iso(first)} must be before the end {iso(last)}", observed=first)
    symbols = [asset.symbol for asset in STABLECOINS] + [BTC] if assets is None else assets
    metered = source if isinstance(source, MeteredSource) else None
    longest = None if metered is None else metered.longest_window(step)
    reached = first if metered is None else max(first, metered.earliest(step))
    known = known_windows(store, source.name, step, as_utc((clock or SystemClock()).now(), "the clock"))
    windows: dict[str, tuple[Window, ...]] = {}
    beyond: dict[str, Window] = {}
    for asset in dict.fromkeys(get_asset(symbol).symbol for symbol in symbols):
        held = held_times(store, source.name, asset, first, last, step)
        covered = (*known[""], *known.get(asset, ()))
        out = missing_times(held, first, min(reached, last), span, covered)
        if len(out):
            (beyond[asset],) = windows_over(out, span, None)
        if reached < last:
            missing = missing_times(held, reached, last, span, covered)
            windows[asset] = tuple(reversed(windows_over(missing, span, longest)))
    windows = {asset: parts for asset, parts in windows.items() if parts}
    return BackfillPlan(
        source=source.name,
        step=step,
        start=first,
        end=last,
        windows=windows,
        out_of_history=beyond,
        # One more looks whether the ids are still the same.
        calls=sum(map(len, windows.values())) + int(metered is not None and bool(windows)),
        calls_per_minute=None if metered is None else metered.calls_per_minute,
        monthly_credits=None if metered is None else metered.monthly_credits,
    )


def backfill_end(now: datetime) -> pd.Timestamp:
    """Return where a backfill ends: after 00:00 UTC of today. Yesterday is final, today is the daily job's."""
    return as_utc(now, "now").normalize() + STEPS["1h"]


def run_backfill(
    store: Store,
    source: PriceSource,
    assets: Sequence[str] | None = None,
    *,
    start: datetime,
    end: datetime | None = None,
    step: str = "1h",
    clock: Clock | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> BackfillResult:
    """Fetch what the store lacks, and store each window as soon as it is there.

    Parameters
    ----------
    store : Store
    source : PriceSource
    assets, start, step
        As in `plan_backfill`.
    end : datetime, optional
        `backfill_end` of the clock when not given.
    clock : Clock, optional
        The machine's when not given.
    progress : callable
        Told about each window.

    Returns
    -------
    BackfillResult
        One bad asset stops no other. A run that was interrupted is completed by the next one.

    Raises
    ------
    SettingsError
        As `plan_backfill`, and if the source does not accept the key.
    LockHeldError
        If another run is at it.
    RiskError
        The first, if every asset failed.
    """
    watch = clock or SystemClock()
    today = as_utc(watch.now(), "the clock").normalize()
    until = backfill_end(watch.now()) if end is None else end
    name = f"backfill {source.name} {step}"
    results: list[BackfillResult] = []

    def work() -> Outcome:
        result = fill_gaps(
            store, source, assets, start=start, end=until, step=step, clock=watch, progress=progress
        )
        results.append(result)
        return result.outcome()

    with store.lock(name, today):
        recorded(store, source, name, today, work)
    return results[0]


def fill_gaps(
    store: Store,
    source: PriceSource,
    assets: Sequence[str] | None,
    *,
    start: datetime,
    end: datetime,
    step: str,
    clock: Clock,
    progress: Progress,
) -> BackfillResult:
    """Fetch and store what is missing, without lock or ledger; see `run_backfill`."""
    now = as_utc(clock.now(), "the clock")
    plan = plan_backfill(store, source, assets, start=start, end=end, step=step, clock=clock)
    limit_credits(store, source, now, kept_for=(*(asset.symbol for asset in STABLECOINS), BTC))
    metered = source if isinstance(source, MeteredSource) else None
    calls = 0 if metered is None else metered.calls
    errors: dict[str, Exception] = {}
    note = ""
    if metered is not None and plan.windows:
        try:
            errors.update(metered.check_ids(plan.windows))
        except SourceError as error:
            note = f"ids could not be checked: {error}"
    fetched, written, beyond = _fetch_all(store, source, plan, errors, now, progress)
    if errors and not fetched:
        first, *_ = errors.values()
        raise first if isinstance(first, RiskError) else RiskError(f"no asset could be fetched: {first!r}")
    said = {asset: f"{type(error).__name__}: {error}" for asset, error in errors.items()}
    not_carried = {
        asset: said[asset]
        for asset, error in errors.items()
        if isinstance(error, UnknownAssetError)
        and not len(held_times(store, source.name, asset, plan.start, plan.end, step))
    }
    return BackfillResult(
        plan=plan,
        fetched=fetched,
        written=written,
        not_carried=not_carried,
        failed={asset: message for asset, message in said.items() if asset not in not_carried},
        out_of_history=beyond,
        calls=None if metered is None else metered.calls - calls,
        note=note,
    )


def _fetch_all(
    store: Store,
    source: PriceSource,
    plan: BackfillPlan,
    errors: dict[str, Exception],
    now: pd.Timestamp,
    progress: Progress,
) -> tuple[dict[str, int], WriteResult, dict[str, Window]]:
    """Fetch and store all windows; add to `errors`. Return samples, what was written, and what is out of reach."""
    total = sum(map(len, plan.windows.values()))
    fetched: dict[str, int] = {}
    written = WriteResult(0, 0, 0)
    beyond = dict(plan.out_of_history)
    done = 0
    progress("fetching", done, total)
    for asset, window, answer in _answers(source, plan, errors):
        done += 1
        progress(f"fetched {asset}", done, total)
        if isinstance(answer, pd.Series):
            written += save_fetched(store, source, asset, window, answer, plan.step, now)
            fetched[asset] = fetched.get(asset, 0) + len(answer)
            reached = answer.attrs.get(DETAIL, FetchDetail()).history_start
            if reached is not None and reached > window[0] and reached < window[1]:
                beyond[asset] = _spanned((window[0], reached), beyond.get(asset))
        elif isinstance(answer, HistoryLimitError):
            beyond[asset] = _spanned(window, beyond.get(asset))
        elif answer is not None:
            errors.setdefault(asset, answer)
    return fetched, written, beyond


def _answers(
    source: PriceSource, plan: BackfillPlan, errors: Mapping[str, Exception]
) -> Iterator[tuple[str, Window, pd.Series | Exception | None]]:
    """Give what the source says to each window, as it comes; None: not asked, for the asset has failed.

    What concerns all assets, a key that is refused for example, is raised.
    """
    ended: set[str] = set()  # older windows come later, and are beyond the history too

    def fetch(asset: str, window: Window) -> pd.Series | Exception | None:
        if asset in errors:
            return None
        if asset in ended:
            return HistoryLimitError("beyond the history of the plan", asset=asset)
        try:
            return source.fetch(asset, *window, step=plan.step)
        except SettingsError:
            raise
        except HistoryLimitError as error:
            ended.add(asset)
            return error
        except Exception as error:
            return error

    workers = _WORKERS if isinstance(source, MeteredSource) else 1
    with ThreadPoolExecutor(workers, thread_name_prefix="backfill") as pool:
        asked: dict[Future[pd.Series | Exception | None], tuple[str, Window]] = {
            pool.submit(fetch, asset, window): (asset, window)
            for asset, windows in plan.windows.items()
            for window in windows
        }
        try:
            for future in as_completed(asked):
                asset, window = asked.pop(future)
                yield asset, window, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _spanned(window: Window, other: Window | None) -> Window:
    return window if other is None else (min(window[0], other[0]), max(window[1], other[1]))


def _texts(window: Window) -> list[str]:
    return [iso(time) for time in window]


def describe_plan(plan: BackfillPlan) -> str:
    """Return one line on what a backfill would do."""
    windows = sum(map(len, plan.windows.values()))
    parts = [f"{plan.source} {plan.step} from {iso(plan.start)} to {iso(plan.end)}: {windows:,} windows of "
             f"{len(plan.windows)} assets are missing"]  # fmt: skip
    if plan.calls_per_minute is not None:
        credits_text = "" if plan.monthly_credits is None else f" of {plan.monthly_credits:,} a month"
        parts.append(f"{plan.calls:,} calls, {plan.calls:,} credits{credits_text}, {plan.minutes:.1f} minutes")
    return "; ".join((*parts, *_beyond(plan.out_of_history)))


def describe_backfill(result: BackfillResult) -> list[str]:
    """Return lines on what a backfill did."""
    calls = "" if result.calls is None else f" in {result.calls:,} calls"
    lines = [f"{len(result.fetched)} assets fetched, {sum(result.fetched.values()):,} samples{calls}"]
    lines += [f"{asset} is not carried: {message}" for asset, message in result.not_carried.items()]
    if result.note:
        lines.append(result.note)
    lines += [f"{asset} failed: {message}" for asset, message in result.failed.items()]
    return lines + _beyond(result.out_of_history)


def _beyond(windows: Mapping[str, Window]) -> list[str]:
    return [
        f"out of the plan's history: {asset} from {iso(low)} to {iso(high)}"
        for asset, (low, high) in windows.items()
    ]
