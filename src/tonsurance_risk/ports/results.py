"""Where results are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

import attrs
import pandas as pd

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent, Scenario
from tonsurance_risk.ports.prices import WriteResult


@attrs.frozen(kw_only=True)
class ScenarioBacktest:
    """What a scenario said that an event would cost a vault, and what the vault paid.

    Parameters
    ----------
    scenario : str
        Its name.
    vault_sha256 : str
        Of the vault's canonical JSON.
    start, end : Timestamp
        Of the event that was replayed.
    predicted_loss, actual_loss : float
        [USD]
    evaluated_at : Timestamp
        When it was computed; two that differ in it alone are the same.
    """

    scenario: str
    vault_sha256: str
    start: pd.Timestamp
    end: pd.Timestamp
    predicted_loss: float
    actual_loss: float
    evaluated_at: pd.Timestamp


class ResultStore(Protocol):
    """Keeps what was computed: events, correlations, scenarios, reports, snapshots, inputs of runs."""

    def save_events(self, events: Iterable[DepegEvent]) -> WriteResult:
        """Store events by (asset, direction, source, rule, start).

        An event replaces the stored one of the same key (an open one that has since recovered), and the
        stored ones of the same asset, direction, source and rule that it overlaps: the same stretch seen
        in fewer data. Those replaced count as changed.
        """

    def load_events(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
    ) -> list[DepegEvent]:
        """Return events that start in ``[start, end)``, ordered by (asset, start), equal to those saved."""

    def save_correlations(self, matrices: Iterable[CorrelationMatrix], *, source: str, step: str) -> WriteResult:
        """Store the pairs of matrices by (source, step, window_days, as_of); counts are of pairs.

        Bootstrap intervals are stored with them. A matrix without `as_of` or `window_days`, or of another method
        than "pearson", is a `ValueError`.
        """

    def load_correlations(
        self, *, window_days: int, source: str, step: str, as_of: datetime | None = None
    ) -> CorrelationMatrix | None:
        """Return the newest matrix of a window, at or before `as_of`; None when there is none."""

    def save_scenarios(
        self,
        scenarios: Iterable[Scenario],
        *,
        only_new: bool = False,
        events: Mapping[str, Iterable[DepegEvent]] | None = None,
    ) -> WriteResult:
        """Store scenarios by name; one of the same name is replaced in its place.

        Parameters
        ----------
        scenarios : iterable of Scenario
            Stored one after another.
        only_new : bool
            Whether a name that is there keeps what it has, an analyst's edit for example.
        events : mapping of iterable of DepegEvent by name, optional
            What scenarios that are stored here were calibrated from; replaces what was kept of them before.
        """

    def load_scenario_events(self, name: str) -> pd.DataFrame:
        """Return what a scenario was calibrated from: asset, direction, start, end, source, severity."""

    def save_backtests(self, backtests: Iterable[ScenarioBacktest], *, source: str, step: str) -> WriteResult:
        """Store predicted against actual losses by (source, step, scenario, vault).

        A scenario that is not stored is a `LookupError`.
        """

    def load_backtests(self, *, source: str, step: str) -> list[ScenarioBacktest]:
        """Return predicted against actual losses by (start, scenario)."""

    def load_scenarios(self, *, min_probability: float = 0.0) -> list[Scenario]:
        """Return the scenarios of at least that probability, in the order in which they were first saved."""

    def save_reports(
        self, documents: Iterable[Mapping[str, Any]], *, source: str, step: str, job: str | None = None
    ) -> WriteResult:
        """Store report documents by (source, step, document["as_of"]), and their alerts with them.

        Parameters
        ----------
        documents : iterable of mapping
            What ``document["alert_changes"]`` says is in the outbox once the report is stored, not before. A
            report written again takes back what it no longer says, unless it was delivered to somebody.
        source, step : str
            Of the prices.
        job : str, optional
            One that began for the date of each document. The ledger says that it is done once the documents are
            stored, not before; one that did not begin is a `LookupError`, and nothing is stored.
        """

    def load_reports(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str | None = None,
        step: str | None = None,
        last: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the report documents with ``as_of`` in ``[start, end)``, oldest first; only the `last` newest."""

    def save_snapshots(self, snapshots: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store a table indexed by UTC instant, columns var_95, capital, coverage [USD]."""

    def load_snapshots(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return the snapshots in ``[start, end)``, oldest first, in the form that `save_snapshots` takes."""

    def save_run_inputs(self, document: Mapping[str, Any]) -> str:
        """Store the inputs of a run once and return their content hash.

        The hash is the SHA-256 in hex of the document as JSON with sorted keys and no spaces.
        """

    def load_run_inputs(self, content_hash: str) -> dict[str, Any]:
        """Return the inputs of that hash; an unknown hash is a `LookupError`."""
