"""The daily job: prices of one logical date in, its report out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assessment import assess, checked_events
from tonsurance_risk.assets import STABLECOINS, check_symbols, own_pegs
from tonsurance_risk.core.fingerprint import content_hash
from tonsurance_risk.core.scenarios import builtin_scenarios
from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.errors import HistoryLimitError, RiskError, SettingsError, StorageError, UnknownAssetError
from tonsurance_risk.model import BTC, MOST_SEED, Scenario, Vault, as_utc, iso, whole
from tonsurance_risk.ports import Clock, MeteredSource, PriceSource, Store, SystemClock
from tonsurance_risk.report import RiskReport
from tonsurance_risk.reporting.files import save_report, writable_folder
from tonsurance_risk.runner.gaps import Window, held_times, known_windows, save_fetched, windows_to_update
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.version import __version__

RETENTION = timedelta(days=730)
"""How far back the job asks for prices."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of them are done, and how many there are."""


@attrs.frozen(kw_only=True)
class RunResult:
    """What a run did.

    Parameters
    ----------
    as_of : Timestamp
        The logical date.
    document : dict
        The report, as `RiskReport.to_dict` gives it.
    report_path : Path or None
        Where it was written.
    fetched : dict of int by asset
        Samples that the source gave.
    not_carried : tuple of str
        Assets that the source does not have.
    failed : dict of str by asset
        Assets that it has and could not give, with the error.
    history_start : Timestamp or None
        Where the plan of the source begins, if that is later than two years back.
    already_done : bool
        Whether the date had been done with the same vault, scenarios and settings; nothing was computed then.
    """

    as_of: pd.Timestamp
    document: dict[str, Any] = attrs.field(repr=False)
    report_path: Path | None
    fetched: dict[str, int] = attrs.field(factory=dict)
    not_carried: tuple[str, ...] = ()
    failed: dict[str, str] = attrs.field(factory=dict)
    history_start: pd.Timestamp | None = None
    already_done: bool = False

    @property
    def needs_attention(self) -> bool:
        """Whether an asset failed or an alert is critical, in a run that did something."""
        critical = any(alert["severity"] == "critical" for alert in self.document["risk_alerts"])
        return not self.already_done and (critical or bool(self.failed))


def run_daily(
    store: Store,
    source: PriceSource,
    vault: Vault,
    *,
    as_of: datetime,
    step: str = "1h",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    n: int | None = None,
    clock: Clock | None = None,
    progress: Progress = lambda _what, _done, _total: None,
) -> RunResult:
    """Fetch and store prices, record depegs, assess the vault, and store and write the report.

    Parameters
    ----------
    store : Store
        Where prices and results are kept.
    source : PriceSource
        Asked for every stablecoin, the vault's own coins and BTC: for what the store lacks of two years, and for
        the last 7 days that it has, once more.
    vault : Vault
        The book.
    as_of : datetime
        The logical date. Prices up to it count, whatever the clock says.
    step : {"1h", "1d"}
        Distance of two samples.
    out : path, optional
        Folder for the report file; none is written without it.
    seed, n
        As in `assess`.
    clock : Clock, optional
        Gives `generated_at`; the machine's when not given.
    progress : callable
        Told about each asset and stage.

    Returns
    -------
    RunResult
        A date that was done before with the same vault, scenarios and settings is not done again: its report
        is given back, and written again where the file is missing.

    Raises
    ------
    SettingsError
        If the step is unknown, the folder cannot be written to, or the source carries none of the assets.
    LockHeldError
        If another run is at work on the same date, source and step.
    RiskError
        If no asset could be fetched, or the assessment is not possible. One bad asset does not stop the others.
    """
    end = as_utc(as_of, "as_of")
    if step not in STEPS:
        raise SettingsError(f"step must be one of {list(STEPS)}, found {step!r}", observed=step)
    whole(seed, "seed", 0, MOST_SEED)
    if n is not None:
        whole(n, "n", 1, MOST_SIMULATIONS)
    folder = None if out is None else writable_folder(out)
    check_symbols(vault)
    job = f"daily {source.name} {step}"
    with store.lock(job, end) as lock:
        scenarios = _scenarios(store)
        settings = _settings_hash(vault, scenarios, source.name, step, seed, n)
        done = _done_before(store, end, source.name, step, settings)
        if done is not None:
            return RunResult(as_of=end, document=done, report_path=_written(done, folder), already_done=True)
        store.begin_job(job, end)
        try:
            assets = list(dict.fromkeys([*(asset.symbol for asset in (*STABLECOINS, *vault.assets)), BTC]))
            now = as_utc((clock or SystemClock()).now(), "the clock")
            fetched, not_carried, failed = _fetch(store, source, assets, end, step, now, progress)
            progress("assessing", 0, 1)
            since, until = end - RETENTION, end + timedelta(microseconds=1)
            report = assess(
                store.load_prices(assets, since, until, step=step, source=source.name),
                vault,
                as_of=end,
                scenarios=scenarios,
                history=store.load_snapshots(end=end, source=source.name, step=step),
                step=step,
                generated_at=(clock or SystemClock()).now(),
                seed=seed,
                n=n,
                source=source.name,
                others=other_prices(store, source.name, step, since, until),
            )
            document = report.to_dict()
            document["inputs"]["settings_sha256"] = settings
            document["data_quality"]["failed_to_fetch"] = failed
            lock.verify()
            _record(store, report, document, assets, step)
            progress("assessing", 1, 1)
            written = _written(document, folder)
        except Exception as error:
            store.end_job(job, end, error=f"{type(error).__name__}: {error}")
            raise
        store.end_job(job, end)
    return RunResult(
        as_of=end,
        document=document,
        report_path=written,
        fetched=fetched,
        not_carried=not_carried,
        failed=failed,
        history_start=_history_start(source, step, end - RETENTION),
    )


def _history_start(source: PriceSource, step: str, since: pd.Timestamp) -> pd.Timestamp | None:
    reached = source.earliest(step) if isinstance(source, MeteredSource) else since
    return reached if reached > since else None


def _scenarios(store: Store) -> list[Scenario]:
    """Return the stored scenarios; the built-in ones are put there once and never over an analyst's edit."""
    stored = store.load_scenarios()
    if not stored:
        # Another run may have put them there, and an analyst changed them, since they were looked for.
        store.save_scenarios(builtin_scenarios(), only_new=True)
        stored = store.load_scenarios()
    return stored


def _settings_hash(
    vault: Vault, scenarios: Sequence[Scenario], source: str, step: str, seed: int, n: int | None
) -> str:
    return content_hash(
        {
            "vault": vault.to_dict(),
            "scenarios": [scenario.to_dict() for scenario in scenarios],
            "source": source,
            "step": step,
            "seed": seed,
            "n": n,
            "software_version": __version__,
        }
    )


def _done_before(store: Store, end: pd.Timestamp, source: str, step: str, settings: str) -> dict[str, Any] | None:
    for document in store.load_reports(end, end + timedelta(microseconds=1), source=source, step=step):
        # A date on which an asset failed is not done: the asset may be there now.
        if document["inputs"]["settings_sha256"] == settings and not document["data_quality"]["failed_to_fetch"]:
            return document
    return None


def _written(document: Mapping[str, Any], folder: Path | None) -> Path | None:
    return None if folder is None else save_report(document, folder)


def _fetch(
    store: Store,
    source: PriceSource,
    assets: Sequence[str],
    end: pd.Timestamp,
    step: str,
    now: pd.Timestamp,
    progress: Progress,
) -> tuple[dict[str, int], tuple[str, ...], dict[str, str]]:
    """Fetch and store each asset on its own, so that a bad one stops no other."""
    fetched: dict[str, int] = {}
    not_carried: list[str] = []
    errors: dict[str, Exception] = {}
    known = known_windows(store, source.name, step, now)
    for number, asset in enumerate(assets):
        progress(f"fetching {asset}", number, len(assets))
        try:
            windows = windows_to_update(store, source, asset, end - RETENTION, end, step, known)
            fetched[asset] = sum(_fetch_windows(store, source, asset, windows, end, step, now))
        except (StorageError, SettingsError):
            raise  # concerns the run, not the asset
        except UnknownAssetError as error:
            if len(held_times(store, source.name, asset, end - RETENTION, end, step)):
                errors[asset] = error  # it was there
            else:
                not_carried.append(asset)
        except Exception as error:
            errors[asset] = error
    progress("fetching", len(assets), len(assets))
    if not fetched and errors:
        first, *_ = errors.values()
        raise first if isinstance(first, RiskError) else RiskError(f"no asset could be fetched: {first!r}")
    if not fetched:
        raise SettingsError(
            f"{source.name} carries none of {', '.join(assets)} at the step {step}", observed=source.name
        )
    return fetched, tuple(not_carried), {asset: f"{type(e).__name__}: {e}" for asset, e in errors.items()}


def _fetch_windows(
    store: Store,
    source: PriceSource,
    asset: str,
    windows: Sequence[Window],
    end: pd.Timestamp,
    step: str,
    now: pd.Timestamp,
) -> Iterator[int]:
    """Fetch and store windows, the newest first, up to where history ends; give the samples of each."""
    for number, window in enumerate(reversed(windows)):
        try:
            prices = source.fetch(asset, *window, step=step).loc[:end]
        except HistoryLimitError:
            if number == 0:
                raise
            return
        save_fetched(store, source, asset, (window[0], min(window[1], end)), prices, step, now)
        yield len(prices)


def _record(
    store: Store, report: RiskReport, document: Mapping[str, Any], assets: Sequence[str], step: str
) -> None:
    """Store what was computed; the report comes last, so that it stands only on results that are there.

    Events are found again in all prices of the store: in the window of the report alone a long event would begin
    anew every day.
    """
    place = {"source": report.source, "step": step}
    everything = store.load_prices(assets, step=step, source=report.source)
    everything = everything.dropna(axis=1, how="all")
    pegs = own_pegs(report.vault)
    others = other_prices(store, report.source, step)
    _, _, events = checked_events(everything, everything.index[-1], report.step, report.source, others, pegs)
    store.save_events(events)
    matrices = report.dependence.correlations.values()
    store.save_correlations([matrix for matrix in matrices if matrix is not None], **place)
    store.save_run_inputs(report.run_inputs())
    _record_quality(store, report, step)
    snapshot = pd.DataFrame(
        {
            "var_95": [document["var_analysis"]["var_95"]["value"]],
            "capital": [report.metrics.capital],
            "coverage": [report.metrics.coverage],
        },
        index=pd.DatetimeIndex([report.as_of]),
    )
    store.save_snapshots(snapshot, **place)
    store.save_reports([document], **place)


def _record_quality(store: Store, report: RiskReport, step: str) -> None:
    """Mark the prices with findings, and those whose finding is gone; keep what was rejected."""
    place = {"source": report.source, "step": step}
    scores = report.quality.sample_scores(report.prices)
    assets, since = list(scores.columns), scores.index[0]
    marked = store.load_marks("quality", assets, since, source=report.source, step=step)
    before = marked.reindex_like(scores)
    quality = scores.where((scores < 1.0) | before.notna())
    store.save_marks("quality", quality, **place)
    store.save_marks("outlier", (quality == 0.0).astype(float).where(quality.notna()), **place)
    flags = report.quality.flags
    rejected = flags[flags["action"] == "reject"]
    rejects = rejected[["asset", "time", "detail"]].assign(
        reason=rejected["check"], raw=rejected["price"].map(str)
    )
    store.save_rejects(rejects, **place)


def describe(result: RunResult) -> str:
    """Return one line on what the run did with its assets."""
    if result.already_done:
        return f"{iso(result.as_of)} was done before with the same vault, scenarios and settings"
    parts = [f"{len(result.fetched)} assets fetched, {sum(result.fetched.values()):,} samples"]
    if result.not_carried:
        parts.append(f"not carried by the source: {', '.join(result.not_carried)}")
    if result.history_start is not None:
        parts.append(f"the plan of the source reaches back to {iso(result.history_start)}")
    parts += [f"{asset} failed: {message}" for asset, message in result.failed.items()]
    return "; ".join(parts)
