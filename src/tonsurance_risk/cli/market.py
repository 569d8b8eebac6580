"""The commands about prices: backfill, detect, correlate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import TimeRemainingColumn

from tonsurance_risk.cli import options
from tonsurance_risk.cli.exit_codes import ATTENTION, DONE
from tonsurance_risk.cli.parts import opened, opened_source, print_json, progress_bar, settings_of
from tonsurance_risk.core.windows import LONGEST_WINDOW
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import MOST_SEED
from tonsurance_risk.ports import SystemClock
from tonsurance_risk.redaction import one_line
from tonsurance_risk.reporting.correlations import print_correlations, save_correlations
from tonsurance_risk.reporting.events import print_events, save_events
from tonsurance_risk.reporting.files import table_path
from tonsurance_risk.runner.backfill import (
    backfill_end,
    describe_backfill,
    describe_plan,
    plan_backfill,
    run_backfill,
)
from tonsurance_risk.runner.dependence import correlate_prices
from tonsurance_risk.runner.detection import (
    DetectionRule,
    GatheredPrices,
    detect_events,
    prices_from_file,
    prices_from_source,
    prices_from_store,
)
from tonsurance_risk.settings import SourceSettings
from tonsurance_risk.sources.registry import stored_name
from tonsurance_risk.storage import open_store


class Side(StrEnum):
    """Which deviations are looked for."""

    BELOW = "below"
    ABOVE = "above"
    BOTH = "both"


def backfill(
    start_date: Annotated[str, typer.Option(help="First date, UTC: 2020-01-01.")],
    assets: Annotated[
        str | None, typer.Option(help="Symbols with commas between; the 14 stablecoins and BTC when not given.")
    ] = None,
    config: options.Config = None,
    db: options.Db = None,
    source: Annotated[
        str | None,
        typer.Option(
            help=f"Of the settings; coingecko where these name none, the tier by its key. {options.SOURCES}"
        ),
    ] = None,
    interval: Annotated[
        options.Interval | None, typer.Option(help="Step of the price samples.  [default: 1h]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, ask for nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan or the result as JSON.")] = False,
    log_json: options.LogJson = False,
) -> int:
    """Fetch the prices of years that the store lacks; go on where an earlier run ended."""
    start, wanted = options.instant(start_date, "--start-date"), options.symbols(assets)
    step = None if interval is None else interval.value
    settings = settings_of(config, log_json=log_json, db=db, source=source, interval=step)
    # The simulated market of the default has nothing that a store could lack for long.
    spec = settings.source.spec if settings.source != SourceSettings() or source is not None else "coingecko"
    end = backfill_end(SystemClock().now())
    with opened_source(spec) as prices, open_store(settings.store.url) as store:
        if dry_run:
            plan = plan_backfill(store, prices, wanted, start=start, end=end, step=settings.interval)
            if as_json:
                print_json(plan.to_dict())
            else:
                typer.echo(describe_plan(plan))
            return ATTENTION if plan.out_of_history else DONE
        with progress_bar("planning", TimeRemainingColumn()) as progress:
            result = run_backfill(
                store, prices, wanted, start=start, end=end, step=settings.interval, progress=progress
            )
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo(describe_plan(result.plan))
        typer.echo("\n".join(map(one_line, describe_backfill(result))))
    return ATTENTION if result.needs_attention else DONE


_Place = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help=f"A folder of prices, a file ASSET_1h.csv or ASSET_1d.csv, or a source. {options.SOURCES}",
    ),
]
_PlaceOrName = Annotated[
    str | None,
    typer.Option(help="The same as SOURCE; with --db the name of the source in the store.  [default: sample]"),
]
_StoreToRead = Annotated[str | None, typer.Option(help="URL of a store to read from: sqlite:///FILE.")]
_IntervalOrName = Annotated[
    options.Interval | None, typer.Option(help="Step of the price samples; of a file by its name.  [default: 1h]")
]
_Threshold = Annotated[float, typer.Option(help="An event opens beyond this share of the peg.")]
_Recovery = Annotated[float | None, typer.Option(help="And ends at this one; the threshold when not given.")]
_MinDuration = Annotated[str, typer.Option(help="Shorter events are left out: 30m, 1h, 2d.")]
_MaxGap = Annotated[str | None, typer.Option(help="Samples further apart end an event; no limit when not given.")]
_MergeWithin = Annotated[str, typer.Option(help="An event that starts so soon joins the one before.")]
_Direction = Annotated[Side, typer.Option(help="Discounts, premiums, or both.")]
_Checks = Annotated[
    bool, typer.Option("--checks/--no-checks", help="Leave out samples that the price checks reject.")
]
_EventsFile = Annotated[Path | None, typer.Option(help="File to write the events to, .csv or .json.")]


def detect(
    place: _Place = None,
    source: _PlaceOrName = None,
    db: _StoreToRead = None,
    interval: _IntervalOrName = None,
    assets: options.Assets = None,
    threshold: _Threshold = 0.99,
    recovery: _Recovery = None,
    min_duration: _MinDuration = "1h",
    max_gap: _MaxGap = None,
    merge_within: _MergeWithin = "0h",
    direction: _Direction = Side.BELOW,
    checks: _Checks = True,
    out: _EventsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON.")] = False,
) -> int:
    """Find depegs in a folder, a file or the store, print them and write them to a file."""
    rule = DetectionRule(
        threshold=threshold,
        recovery=recovery,
        min_duration=options.duration(min_duration, "--min-duration"),
        max_gap=None if max_gap is None else options.duration(max_gap, "--max-gap"),
        merge_within=options.duration(merge_within, "--merge-within"),
        direction=direction.value,
    )
    target = None if out is None else table_path(out)
    result = detect_events(_gathered(place, source, db, interval, assets), rule, checks=checks)
    _show(result.to_dict(), target, save_events, print_events, as_json=as_json)
    return ATTENTION if result.needs_attention else DONE


_PairsFile = Annotated[Path | None, typer.Option(help="File to write to: .csv for the pairs, .json for all.")]


def correlate(
    place: _Place = None,
    source: _PlaceOrName = None,
    db: _StoreToRead = None,
    interval: _IntervalOrName = None,
    assets: options.Assets = None,
    windows: Annotated[str, typer.Option(help="Look-back windows in days, with commas between.")] = "30,90,365",
    as_of: Annotated[
        str | None, typer.Option(help="Date (00:00 UTC of it) or full instant; the last price when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of all resamples.")] = 0,
    out: _PairsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Show how coins move together, and what each number rests on."""
    days = _days(windows)
    end = None if as_of is None else options.instant(as_of, "--as-of")
    target = None if out is None else table_path(out)
    result = correlate_prices(_gathered(place, source, db, interval, assets), windows=days, as_of=end, seed=seed)
    _show(result.to_dict(), target, save_correlations, print_correlations, as_json=as_json)
    return ATTENTION if result.needs_attention else DONE


def _show(
    document: Mapping[str, Any],
    target: Path | None,
    save: Callable[[Mapping[str, Any], Path], Path],
    show: Callable[[Mapping[str, Any], Console], None],
    *,
    as_json: bool,
) -> None:
    written = None if target is None else save(document, target)
    if as_json:
        print_json(document)
        return
    console = Console()
    show(document, console)
    if written is not None:
        console.print(f"written: {written}", markup=False, highlight=False, soft_wrap=True)


def _days(given: str) -> list[int]:
    found = re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", given.replace(" ", ""), re.ASCII)
    if found is None or any(int(days) > LONGEST_WINDOW for days in found[0].split(",")):
        raise SettingsError(
            f"--windows must be numbers of days from 1 to {LONGEST_WINDOW:,} with commas between, found {given!r}",
            observed=given,
        )
    return list(dict.fromkeys(int(days) for days in found[0].split(",")))


def _gathered(
    place: str | None, source: str | None, db: str | None, interval: options.Interval | None, assets: str | None
) -> GatheredPrices:
    step, wanted = (interval or options.Interval.HOUR).value, options.symbols(assets)
    if db is not None:
        if place is not None:
            raise SettingsError(f"with --db prices come from the store, leave out {place!r}", observed=place)
        if source is None:
            raise SettingsError("with --db give --source too, the name of the source in the store")
        with opened(db) as store:
            return prices_from_store(store, step, stored_name(source), wanted)
    if place is not None and source is not None:
        raise SettingsError(f"give SOURCE or --source, found both {place!r} and {source!r}", observed=source)
    name = place or source or "sample"
    if Path(name).is_dir():
        name = f"csv:{name}"
    if not name.startswith("csv:") and (name.endswith(".csv") or Path(name).is_file()):
        return prices_from_file(name, interval and interval.value, wanted)
    with opened_source(name) as prices:
        return prices_from_source(prices, step, wanted)
