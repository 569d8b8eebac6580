"""Depegs in prices from a folder, a file, the simulated market or the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import attrs
import pandas as pd

from tonsurance_risk.assets import NOT_COINS_ON_PEG, STABLECOINS, canonical, find_asset, own_peg
from tonsurance_risk.core.consensus import check_sources, confirm_events
from tonsurance_risk.core.depeg import detect_depegs
from tonsurance_risk.errors import RiskError, SettingsError, SourceUnavailableError, UnknownAssetError
from tonsurance_risk.model import AccruingPeg, DepegEvent, Direction
from tonsurance_risk.ports import PriceSource, Store
from tonsurance_risk.runner.prices import other_prices
from tonsurance_risk.sources.csv_files import CsvSource, parse_price_csv, why_not_read
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import iso

_EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 2, tzinfo=UTC))
"""Before the first and after the last stamp that a file may have."""


@attrs.frozen(kw_only=True)
class DetectionRule:
    """What counts as an event; the fields and defaults are those of `detect_depegs`."""

    threshold: float = 0.99
    recovery: float | None = None
    min_duration: timedelta = timedelta(hours=1)
    max_gap: timedelta | None = None
    merge_within: timedelta = timedelta(0)
    direction: Literal["below", "above", "both"] = "below"

    def __attrs_post_init__(self) -> None:
        # Without prices nothing but the rule is looked at.
        try:
            detect_depegs(pd.DataFrame(), **attrs.asdict(self))
        except ValueError as error:
            raise SettingsError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in JSON types, durations in seconds."""
        return {
            "threshold": self.threshold,
            "recovery": self.recovery,
            "min_duration_seconds": self.min_duration.total_seconds(),
            "max_gap_seconds": None if self.max_gap is None else self.max_gap.total_seconds(),
            "merge_within_seconds": self.merge_within.total_seconds(),
            "direction": self.direction,
        }


@attrs.frozen(kw_only=True)
class GatheredPrices:
    """Prices to search, and what could not be had.

    Parameters
    ----------
    frame : DataFrame of shape (n_times, n_assets)
        [USD]; the vendor is the source. Coins that were not asked for are there for the checks, which compare
        the coins of one source.
    assets : tuple of str
        Those to search, at least one, each with prices.
    source, step : str
        Where they come from, and the length of their bars.
    others : tuple of DataFrame
        What other sources show, each named by its vendor.
    failed : dict of str by asset
        Assets that the source has and could not give, with the error.
    not_read : dict of str by file
        Files left out because of their name, with the reason.
    """

    frame: pd.DataFrame = attrs.field(repr=False)
    assets: tuple[str, ...]
    source: str
    step: str
    others: tuple[pd.DataFrame, ...] = attrs.field(default=(), repr=False)
    failed: dict[str, str] = attrs.field(factory=dict)
    not_read: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class DetectionResult:
    """The events in some prices, with the rule and the prices they come from.

    Parameters
    ----------
    prices : GatheredPrices
        What was searched.
    rule : DetectionRule
        What counted as an event.
    rejected : int or None
        How many samples the checks kept out; None: nothing was checked.
    events : tuple of DepegEvent
        Ordered by (asset, start).
    """

    prices: GatheredPrices
    rule: DetectionRule
    rejected: int | None
    events: tuple[DepegEvent, ...]

    @property
    def needs_attention(self) -> bool:
        """Whether an asset that the source carries failed."""
        return bool(self.prices.failed)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the prices in JSON types."""
        observed = {asset: self.prices.frame[asset].dropna().index for asset in self.prices.assets}
        return {
            "source": self.prices.source,
            "step": self.prices.step,
            "rule": self.rule.to_dict(),
            "rejected_samples": self.rejected,
            "other_sources": [other.attrs["vendor"] for other in self.prices.others],
            "assets": {
                asset: {"samples": len(times), "first": iso(times[0]), "last": iso(times[-1])}
                for asset, times in observed.items()
            },
            "failed": self.prices.failed,
            "not_read": self.prices.not_read,
            "events": [event.to_dict() for event in self.events],
        }


def detect_events(prices: GatheredPrices, rule: DetectionRule, *, checks: bool = True) -> DetectionResult:
    """Return the depegs in some prices, each bar standing for its length.

    Parameters
    ----------
    prices : GatheredPrices
        As one of the functions here gathers them.
    rule : DetectionRule
        With the direction "both" coins with an `AccruingPeg` are searched for discounts only, as in the report.
    checks : bool
        Whether samples that `check_prices` rejects are left out.
    """
    usable, rejected, elsewhere = prices.frame, None, list(prices.others)
    if checks:
        quality, elsewhere = check_sources(prices.frame, prices.others, as_of=prices.frame.index[-1])
        usable = quality.usable(prices.frame)
        rejected = int(((quality.flags["action"] == "reject") & quality.flags["asset"].isin(prices.assets)).sum())
    accruing = [asset for asset in prices.assets if isinstance(own_peg(asset), AccruingPeg)]
    directions: dict[str, Direction] = dict.fromkeys(accruing, "below") if rule.direction == "both" else {}
    options = attrs.asdict(rule)
    events = [
        event
        for asset in prices.assets
        for event in detect_depegs(
            usable[[asset]],
            sample_span=STEPS[prices.step],
            **(options | {"direction": directions.get(asset, rule.direction)}),
        )
    ]
    ordered = sorted(events, key=lambda event: (event.asset, event.start))
    confirmed = tuple(confirm_events(ordered, elsewhere))
    return DetectionResult(prices=prices, rule=rule, rejected=rejected, events=confirmed)


def prices_from_source(source: PriceSource, step: str, assets: Sequence[str] | None = None) -> GatheredPrices:
    """Return all prices of a source.

    Parameters
    ----------
    source : PriceSource
        Asked for each asset on its own, so that a bad one stops no other.
    step : {"1h", "1d"}
        Length of the bars.
    assets : sequence of str, optional
        Those asked for, all of which the source must carry. None: in a folder every coin that has a file,
        elsewhere every built-in coin that the source carries.

    Raises
    ------
    UnknownAssetError
        If the source does not carry one of `assets`.
    SettingsError
        If it carries no coin at all, or one of `assets` has no peg.
    RiskError
        If every asset failed: the error of the first.
    """
    wanted = _with_peg(assets)
    carried, not_read = [coin.symbol for coin in STABLECOINS], dict[str, str]()
    if isinstance(source, CsvSource):
        carried, not_read = _coins_of_folder(source.folder, step, wanted)
    columns: dict[str, pd.Series] = {}
    failures: dict[str, Exception] = {}
    for asset in dict.fromkeys((*(wanted or ()), *carried)):
        try:
            columns[asset] = source.fetch(asset, *_EVER, step=step)
        except UnknownAssetError:
            if wanted is not None and asset in wanted:
                raise
        except Exception as error:
            if wanted is None or asset in wanted:
                failures[asset] = error
    if failures and not any(wanted is None or asset in wanted for asset in columns):
        first, *_ = failures.values()
        raise first if isinstance(first, RiskError) else RiskError(f"no asset could be read: {first!r}")
    return _gathered(columns, source.name, step, wanted=wanted, failures=failures, not_read=not_read)


def prices_from_file(
    path: str | os.PathLike[str], step: str | None = None, assets: Sequence[str] | None = None
) -> GatheredPrices:
    """Return the prices in one file ``<ASSET>_1h.csv`` or ``<ASSET>_1d.csv``, of the form that `CsvSource` reads.

    Parameters
    ----------
    path : path
        Its name says the asset and the step.
    step : {"1h", "1d"}, optional
        Only a file of this step is accepted.
    assets : sequence of str, optional
        Only a file of one of these is accepted.

    Raises
    ------
    SettingsError
        If the file is missing or its name says something else, with the reason.
    SourceUnavailableError, PayloadError, InvalidPriceError, GranularityError
        If it cannot be read, as `CsvSource.fetch`.
    """
    file = Path(path)
    if not file.is_file():
        raise SettingsError(f"there is no file {str(file)!r}", observed=str(file))
    wanted = step or next((part for part in file.stem.split("_")[1:] if part in STEPS), "1h")
    reason = _refusal(file.stem, wanted) if file.suffix == ".csv" else f"its name ends with {file.suffix!r}"
    if reason:
        accepted = f"<ASSET>_{step}.csv" if step else "<ASSET>_1h.csv or <ASSET>_1d.csv"
        raise SettingsError(f"{file.name} is not read: {reason}; accepted is {accepted}", observed=file.name)
    asset = canonical(file.stem.removesuffix(f"_{wanted}"))
    _with_peg([asset])
    if assets is not None and asset not in map(canonical, assets):
        raise SettingsError(f"{file.name} holds {asset}, not {', '.join(assets)}", observed=asset)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(f"{file} cannot be read: {error}", asset=asset) from error
    prices = parse_price_csv(content, asset, wanted, str(file))
    return _gathered({asset: prices}, f"csv:{file.name}", wanted)


def prices_from_store(store: Store, step: str, source: str, assets: Sequence[str] | None = None) -> GatheredPrices:
    """Return all prices of one source in a store.

    Parameters
    ----------
    store : Store
        Where the prices are.
    step : {"1h", "1d"}
        Only samples of this step.
    source : str
        Only samples of this source.
    assets : sequence of str, optional
        Those asked for; all when not given.

    Raises
    ------
    SettingsError
        If there are no such prices.
    UnknownAssetError
        If one of `assets` has none.
    """
    wanted = _with_peg(assets)
    frame = store.load_prices(step=step, source=source)
    columns = {str(asset): frame[asset].dropna() for asset in frame.columns if asset not in NOT_COINS_ON_PEG}
    for asset in wanted or ():
        if asset not in columns:
            held = ", ".join(columns) or "none"
            raise UnknownAssetError(
                f"the store has no {step} prices of {asset} from {source!r}; it has: {held}", asset=asset
            )
    return attrs.evolve(
        _gathered(columns, source, step, wanted=wanted), others=tuple(other_prices(store, source, step))
    )


def _gathered(
    columns: Mapping[str, pd.Series],
    source: str,
    step: str,
    *,
    wanted: Sequence[str] | None = None,
    failures: Mapping[str, Exception] = MappingProxyType({}),
    not_read: Mapping[str, str] = MappingProxyType({}),
) -> GatheredPrices:
    observed = {asset: prices for asset, prices in columns.items() if len(prices)}
    searched = tuple(asset for asset in observed if wanted is None or asset in wanted)
    if not searched:
        hint = "".join(f"; {name} is not read: {reason}" for name, reason in not_read.items())
        raise SettingsError(f"{source} carries no {step} prices of a coin with a peg{hint}", observed=source)
    frame = pd.concat(observed, axis=1, sort=True)
    frame.attrs["vendor"] = source
    return GatheredPrices(
        frame=frame,
        assets=searched,
        source=source,
        step=step,
        failed={asset: f"{type(error).__name__}: {error}" for asset, error in failures.items()},
        not_read=dict(not_read),
    )


def _with_peg(assets: Iterable[str] | None) -> list[str] | None:
    if assets is None:
        return None
    wanted = list(dict.fromkeys(map(canonical, assets)))
    for asset in wanted:
        if asset in NOT_COINS_ON_PEG:
            raise SettingsError(f"{asset} has no peg, so it has no depegs", observed=asset)
    return wanted


def _coins_of_folder(folder: Path, step: str, wanted: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Return the coins that have a file of that step, and files of no step that look near, with the reason."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".csv")
    except OSError as error:
        raise SourceUnavailableError(f"the folder {folder} cannot be read: {error}") from error
    reasons = {path: _refusal(path.stem, step) for path in files}
    coins = [canonical(path.stem.removesuffix(f"_{step}")) for path, reason in reasons.items() if reason is None]
    near = tuple(asset.casefold() for asset in wanted) if wanted else ""
    not_read = {
        path.name: reason
        for path, reason in reasons.items()
        if reason and all(_refusal(path.stem, other) for other in STEPS) and path.stem.casefold().startswith(near)
    }
    return [coin for coin in dict.fromkeys(coins) if coin not in NOT_COINS_ON_PEG], not_read


def _refusal(stem: str, step: str) -> str | None:
    """Return why a file of that name is not read as the prices of a coin; None when it is."""
    base = stem.partition("_")[0]
    for length in range(1, len(base)):
        if find_asset(base[:length]) and find_asset(base[length:]):
            return why_not_read(stem, canonical(base[:length]), step)
    if stem.endswith(f"_{step}") and stem != f"_{step}":
        return None
    return why_not_read(stem, canonical(base), step)
