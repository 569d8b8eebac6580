"""What the library needs from the outside, as small protocols. An adapter implements one or several.

Contracts that hold for every method: times are tz-aware UTC (a naive one is refused with
`InvalidPriceError`, another zone is converted), intervals are ``[start, end)``, a write is all or nothing and
may be repeated without effect, and only errors of `tonsurance_risk.errors` (or a `ValueError` for a plainly
wrong argument) come out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

import attrs
import pandas as pd

from tonsurance_risk.core.alerts import SEVERITIES, Severity
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.errors import SourceError
from tonsurance_risk.model import DepegEvent, Scenario, as_utc


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the present instant, UTC."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the present instant, UTC."""
        return datetime.now(UTC)


@attrs.frozen
class WriteResult:
    """How many rows a write found new, changed, unchanged, and how many it kept out."""

    new: int
    changed: int
    unchanged: int
    rejected: int = 0

    def __add__(self, other: WriteResult) -> WriteResult:
        """Return both together."""
        return WriteResult(
            self.new + other.new,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.rejected + other.rejected,
        )


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


JobEnd = Literal["done", "failed", "interrupted", "abandoned"]
"""How a run ended; one that was abandoned did not say so, its process was gone."""


@attrs.frozen(kw_only=True)
class JobStatus:
    """What is known of a job and logical date.

    Parameters
    ----------
    job : str
    logical_date : Timestamp
    status : {"running", "done", "failed", "interrupted", "abandoned"}
        Of the last attempt.
    attempts : int
        So far.
    started_at, ended_at : Timestamp
        Of the last attempt; None while it runs.
    host : str
        Where it ran.
    forced : bool
        Whether it ran although it was done.
    rows : int or None
        How many it wrote, new or changed.
    message : str
        What it did, or what went wrong.
    details : dict
        What else it found, in JSON types.
    """

    job: str
    logical_date: pd.Timestamp
    status: Literal["running"] | JobEnd
    attempts: int
    started_at: pd.Timestamp
    ended_at: pd.Timestamp | None
    host: str
    forced: bool
    rows: int | None
    message: str
    details: dict[str, Any]


@attrs.frozen(kw_only=True)
class StoredAlert:
    """What is to be said of an alert of a stored report.

    Parameters
    ----------
    source, step, as_of
        Of the report.
    key : str
        Of the alert, the same from report to report.
    action : {"trigger", "resolve"}
    severity : {"critical", "high", "medium", "low"}
    message : str
    """

    source: str
    step: str
    as_of: pd.Timestamp
    key: str
    action: Literal["trigger", "resolve"]
    severity: Literal["critical", "high", "medium", "low"]
    message: str


LONGEST_KEY = 255
"""Of an `AlertMessage`; what PagerDuty takes."""


def _as_of(time: datetime) -> pd.Timestamp:
    return as_utc(time, "as_of")


@attrs.frozen(kw_only=True)
class AlertMessage:
    """What an alert sink sends: that something needs attention, or no longer does.

    Parameters
    ----------
    key : str
        Names the matter, the same as long as it lasts: ``risk_report:USDC:depeg``, without date or value. 1 to 255
        printable characters. Receivers join messages of one key.
    action : {"trigger", "resolve"}
        Whether it needs attention, or no longer does.
    severity : {"critical", "high", "medium", "low"}
        How urgent.
    summary : str
        What happened, for people. A sink makes one line of it and cuts what its receiver does not take.
    as_of : datetime
        The instant that it is about.
    source : str
        Where it comes from, for people: a host or job.
    details : dict
        Values that JSON has.

    Raises
    ------
    ValueError
        If a field cannot be used.

    Examples
    --------
    >>> AlertMessage(
    ...     key="risk_report:USDC:depeg",
    ...     action="trigger",
    ...     severity="critical",
    ...     summary="USDC is 12 % below its peg",
    ...     as_of=datetime(2023, 3, 11, tzinfo=UTC),
    ...     source="daily",
    ...     details={"ratio": 0.88},
    ... ).key
    'risk_report:USDC:depeg'
    """

    key: str = attrs.field()
    action: Literal["trigger", "resolve"] = attrs.field(validator=attrs.validators.in_(("trigger", "resolve")))
    severity: Severity = attrs.field(validator=attrs.validators.in_(SEVERITIES))
    summary: str = attrs.field(validator=attrs.validators.instance_of(str))
    as_of: pd.Timestamp = attrs.field(converter=_as_of)
    source: str = attrs.field(
        validator=attrs.validators.and_(attrs.validators.instance_of(str), attrs.validators.min_len(1))
    )
    details: dict[str, Any] = attrs.field(factory=dict)

    @key.validator
    def _check_key(self, _attribute: object, key: str) -> None:
        if not (isinstance(key, str) and 1 <= len(key) <= LONGEST_KEY and key.isprintable()):
            raise ValueError(f"key must be text of 1 to {LONGEST_KEY} printable characters, found {key!r}")

    @details.validator
    def _check_details(self, _attribute: object, details: object) -> None:
        try:
            json.dumps(details, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"details must be values that JSON has: {error}") from error
        if not isinstance(details, dict):
            raise ValueError(f"details must be a dict, found {type(details).__name__}")


class AlertSink(Protocol):
    """Sends alerts to people or to what wakes them. A message may be sent again under its key."""

    @property
    def name(self) -> str:
        """How logs and the outbox call it; holds no secret."""

    def send(self, message: AlertMessage) -> None:
        """Hand a message over; it has arrived when this returns.

        Raises
        ------
        AlertRefusedError
            If the receiver does not take it; sending it again would not help.
        AlertUndeliveredError
            If it may be taken later.
        """


@runtime_checkable
class PriceSource(Protocol):
    """Gives prices of one asset at a time."""

    @property
    def name(self) -> str:
        """How the source is called in the store and in every report."""

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``.

        Parameters
        ----------
        asset : str
            A symbol, in any case.
        start, end : datetime
            tz-aware.
        step : {"1h", "1d"}
            The distance of two samples.

        Returns
        -------
        Series of float
            USD, strictly increasing UTC index, named by the symbol as `get_asset` spells it; empty when the
            source carries the asset but has nothing in the interval. A bar is stamped with its end, when its
            close is known.

        Raises
        ------
        UnknownAssetError
            If the source does not carry the asset; the message says what it looked for.
        GranularityError
            If the source does not have that step.
        PayloadError, InvalidPriceError
            If what the source gave cannot be read or cannot be a price.
        SourceUnavailableError
            If the source did not answer.
        """


@attrs.frozen(kw_only=True)
class SourceUsage:
    """What a source asked of its hosts.

    Parameters
    ----------
    requests : dict of int by status class
        Attempts that were answered ``2xx``, ``3xx``, ``4xx``, ``5xx``, or not at all: ``none``.
    credits : int
        What they cost.
    retry_wait_seconds : float
        Waited before attempts that were repetitions.
    circuit_open : bool
        Whether a host is left alone now.

    Examples
    --------
    >>> one = SourceUsage(requests={"2xx": 3}, credits=3, retry_wait_seconds=0.0, circuit_open=False)
    >>> (one + SourceUsage(requests={"2xx": 1, "none": 2}, credits=3, circuit_open=True)).requests
    {'2xx': 4, 'none': 2}
    """

    requests: dict[str, int] = attrs.field(factory=dict)
    credits: int = 0
    retry_wait_seconds: float = 0.0
    circuit_open: bool = False

    def __add__(self, other: SourceUsage) -> SourceUsage:
        """Return the sum of both."""
        return SourceUsage(
            requests=dict(Counter(self.requests) + Counter(other.requests)),
            credits=self.credits + other.credits,
            retry_wait_seconds=self.retry_wait_seconds + other.retry_wait_seconds,
            circuit_open=self.circuit_open or other.circuit_open,
        )

    def __sub__(self, earlier: SourceUsage) -> SourceUsage:
        """Return what came after an earlier look at the same source."""
        return SourceUsage(
            requests=dict(Counter(self.requests) - Counter(earlier.requests)),
            credits=self.credits - earlier.credits,
            retry_wait_seconds=self.retry_wait_seconds - earlier.retry_wait_seconds,
            circuit_open=self.circuit_open,
        )


@runtime_checkable
class UsageSource(Protocol):
    """A source that counts what it asks of its hosts."""

    @property
    def usage(self) -> SourceUsage:
        """Since it was opened."""


def usage_of(source: object) -> SourceUsage:
    """Return what a source counted, nothing where it does not count."""
    return source.usage if isinstance(source, UsageSource) else SourceUsage()


@runtime_checkable
class CreditedSource(Protocol):
    """A source whose calls a host counts by the month."""

    @property
    def monthly_credits(self) -> int | None:
        """How many there are; None: there is no limit."""

    def limit_credits(self, *, used: int, reserve: int) -> None:
        """Make no call that would leave less than `reserve` of the month's credits, of which `used` are gone."""


@runtime_checkable
class MeteredSource(PriceSource, Protocol):
    """A source whose calls are counted, and give only so much each."""

    @property
    def calls(self) -> int:
        """How many calls were made."""

    @property
    def calls_per_minute(self) -> float:
        """How many may be made in a minute."""

    @property
    def monthly_credits(self) -> int | None:
        """How many may be made in a month; None: there is no limit."""

    def longest_window(self, step: str) -> timedelta:
        """Return how much one call gives."""

    def earliest(self, step: str) -> pd.Timestamp:
        """Return the first time that the plan reaches back to."""

    def check_ids(self, assets: Iterable[str]) -> Mapping[str, SourceError]:
        """Return the assets whose id the source does not carry, with why; one call."""


class PriceStore(Protocol):
    """Keeps prices by (asset, source, step, time), and what a later write changed."""

    def save_prices(self, prices: pd.Series | pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store every price of a named Series or wide frame; NaN means nothing observed and is not stored.

        A price that differs from the stored one replaces it, and the old one is kept as a revision with the
        instants at which it was recorded and replaced. Invalid frames raise `InvalidPriceError` and store
        nothing.
        """

    def load_prices(
        self,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
        known_at: datetime | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame of the stored prices.

        Parameters
        ----------
        assets : iterable of str, optional
            Columns, in this order; one without prices is a column of NaN. None: all that have prices, sorted.
        start, end : datetime, optional
            ``[start, end)``.
        step : str
            Only samples of this step.
        source : str, optional
            Only samples of this source. None is accepted while the selection holds one source; with
            several a `ValueError` lists them.
        known_at : datetime, optional
            What the store held at that instant: prices recorded at or before it and not yet replaced.
        """

    def price_sources(self, *, step: str = "1h") -> list[str]:
        """Return the sources that have prices of this step, sorted."""

    def save_marks(self, name: str, values: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Store what is known of stored prices beside themselves.

        Parameters
        ----------
        name : {"quality", "outlier", "volatility_1h", "volume"}
            Quality in [0, 1]; outlier 0 or 1; the standard deviation of log returns within the hour; volume.
            The store fills in "volatility_1h" itself where the step is 5 minutes or shorter.
        values : DataFrame
            Wide, as the prices are; NaN says nothing. One without a stored price counts as rejected.
        source, step : str
            Of the prices.

        Notes
        -----
        A price that changes later loses its marks: they were about the old one.
        """

    def load_marks(
        self,
        name: str,
        assets: Iterable[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        step: str = "1h",
        source: str | None = None,
    ) -> pd.DataFrame:
        """Return a wide frame of one mark; arguments as in `load_prices`, only marked samples are there."""

    def save_rejects(self, rejects: pd.DataFrame, *, source: str, step: str) -> WriteResult:
        """Keep samples that could not be used, by (asset, time, reason); nothing is thrown away silently.

        `rejects` has the columns asset, time, reason, raw (what was there, as text) and detail. Texts are cut to
        500 letters.
        """

    def load_rejects(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        source: str,
        step: str,
    ) -> pd.DataFrame:
        """Return the rejects in ``[start, end)`` by (time, asset, reason), in the form that they were saved."""


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


class Ledger(Protocol):
    """Knows which job ran for which logical date, and lets one at a time run."""

    def begin_job(self, job: str, logical_date: datetime, *, host: str = "", forced: bool = False) -> JobStatus:
        """Write down that a job begins, for the first time or again, and return its row."""

    def end_job(
        self,
        job: str,
        logical_date: datetime,
        *,
        status: JobEnd = "done",
        rows: int | None = None,
        message: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> JobStatus:
        """Write down how a job that had begun ended, and return its row; the message is cut to 500 letters.

        One that did not begin is a `LookupError`.
        """

    def load_jobs(
        self, job: str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[JobStatus]:
        """Return the rows of logical dates in ``[start, end)`` by (logical_date, job)."""

    def lock(self, job: str, logical_date: datetime) -> AbstractContextManager[JobLock]:
        """Hold the lock of a job and date for a block; a `LockHeldError` at once where another run has it.

        It is free again when the block ends, and when the process dies.
        """


class JobLock(Protocol):
    """A lock that is held."""

    def verify(self) -> None:
        """Raise a `LockLostError` if the lock was lost; call it before what must not be done twice."""


class Outbox(Protocol):
    """What is to be said of the alerts of reports, and to whom it was said."""

    def load_alerts(self, *, waiting_for: str | None = None) -> list[StoredAlert]:
        """Return alerts by (as_of, source, step, place in the report); of a sink only what it has not got yet."""

    def mark_delivered(self, alerts: Iterable[StoredAlert], *, sink: str) -> int:
        """Write down that a sink got alerts now, and return how many it had not got before."""


class Store(PriceStore, ResultStore, Ledger, Outbox, Protocol):
    """All that the runner keeps, in one place; a context manager that closes on leaving."""

    def close(self) -> None:
        """Release files and connections; may be called again."""

    def __enter__(self) -> Self:
        """Return the store."""

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store."""
