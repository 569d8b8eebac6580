"""What every job works with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

import attrs

from tonsurance_risk.assets import STABLECOINS, check_symbols
from tonsurance_risk.core.simulation import MOST_SIMULATIONS
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.model import BTC, MOST_SEED, Vault
from tonsurance_risk.ports import Clock, PriceSource, Store, SystemClock
from tonsurance_risk.reporting.html import check_html
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import whole

RETENTION = timedelta(days=730)
"""How far back jobs look; older prices may be archived."""
INSTANT = timedelta(microseconds=1)
"""From an instant to the end of an interval that holds it alone."""


class Place(TypedDict):
    """What the prices and results of a desk are stored under."""

    source: str
    step: str


def watched_assets(vault: Vault) -> list[str]:
    """Return every stablecoin, the vault's own coins, and BTC."""
    return list(dict.fromkeys([*(asset.symbol for asset in (*STABLECOINS, *vault.assets)), BTC]))


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of them are done, and how many there are."""


@attrs.frozen(kw_only=True)
class Desk:
    """The parts that jobs are done with.

    Parameters
    ----------
    store, source, vault
        Where results are kept, where prices come from, and the book.
    step : {"1h", "1d"}
        Distance of two samples.
    out : Path, optional
        Folder for report files; none are written without it.
    html : bool
        Whether each report is a page as well.
    archive : Path, optional
        Folder for old prices; without it they stay in the store.
    seed, n
        As in `assess`.
    clock : Clock
        Tells when something is made.
    progress : callable
        Told about each asset and stage.

    Raises
    ------
    SettingsError
        If the step is unknown, or pages are wanted and what they need is not installed.
    UnknownAssetError
        If the vault names an asset that nobody knows.
    """

    store: Store
    source: PriceSource
    vault: Vault
    step: str = "1h"
    out: Path | None = None
    html: bool = False
    archive: Path | None = None
    seed: int = 0
    n: int | None = None
    clock: Clock = attrs.field(factory=SystemClock)
    progress: Progress = attrs.field(default=lambda _what, _done, _total: None, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.step not in STEPS:
            raise SettingsError(f"step must be one of {list(STEPS)}, found {self.step!r}", observed=self.step)
        whole(self.seed, "seed", 0, MOST_SEED)
        if self.n is not None:
            whole(self.n, "n", 1, MOST_SIMULATIONS)
        check_symbols(self.vault)
        if self.html:
            check_html()

    @property
    def place(self) -> Place:
        """What the prices and results are stored under."""
        return {"source": self.source.name, "step": self.step}

    @property
    def assets(self) -> list[str]:
        """Every stablecoin, the vault's own coins, and BTC."""
        return watched_assets(self.vault)

    def ledger_name(self, job: str) -> str:
        """Return what a job is called in the ledger: one source and step do not answer for another."""
        return f"{job} {self.source.name} {self.step}"
