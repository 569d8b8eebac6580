"""The whole tree of errors.

In brackets the built-in error that each also is:

    RiskError
    ├── DataError
    │   ├── InvalidPriceError        (ValueError)      a price, stamp or frame that cannot be right
    │   ├── InsufficientDataError    (ValueError)      fewer observations than the number needs
    │   ├── StaleDataError           (ValueError)      the newest observation is too old
    │   └── GranularityError         (ValueError)      the data come in another step than asked for
    ├── ModelError
    │   ├── NotPositiveDefiniteError (ValueError)      a matrix that no correlation can have
    │   ├── ConvergenceError         (ArithmeticError) an iteration that did not arrive
    │   ├── UnreachableLossError     (ValueError)      no move of prices loses as much
    │   └── WorkerLostError          (RuntimeError)    an executor did not return what it was given
    ├── SourceError
    │   ├── SourceUnavailableError   (ConnectionError) the source did not answer
    │   ├── RateLimitedError         (ConnectionError) the source asks to wait; see ``retry_after``
    │   │   └── CreditsUsedUpError                     no more calls this month
    │   ├── SourceBlockedError       (PermissionError) the source does not serve us from here
    │   ├── HistoryLimitError        (ValueError)      the source does not reach back that far
    │   ├── PayloadError             (ValueError)      the answer cannot be read
    │   └── UnknownAssetError        (LookupError)     nobody knows this symbol
    ├── StorageError
    │   ├── SchemaVersionError       (RuntimeError)    the database is older or newer than the code
    │   ├── StoreBusyError           (TimeoutError)    another process holds the database
    │   ├── StoreUnavailableError    (ConnectionError) the database does not answer or takes no writes
    │   ├── StoreCorruptError        (ValueError)      the file is not a sound database
    │   └── LockHeldError            (RuntimeError)    another run holds the lock
    │       └── LockLostError                          ours was lost on the way, and another run may hold it
    ├── SinkError
    │   ├── AlertRefusedError        (ValueError)      a receiver does not take the alert; again would not help
    │   └── AlertUndeliveredError    (ConnectionError) the receiver did not take it now; see ``retry_after``
    ├── SettingsError                (ValueError)      a setting that cannot be used
    └── ClockSuspectError            (RuntimeError)    the clock of the machine cannot be right

The message says what, where and what is accepted; the facts are attributes as well.
A plainly wrong argument (a level of 95, a negative weight) is a `ValueError` that names the argument.
"""

from __future__ import annotations

from datetime import datetime


class RiskError(Exception):
    """Base of all errors of this library.

    Parameters
    ----------
    message : str
        What happened, where, and what is accepted.
    asset : str, optional
        The symbol concerned.
    time : datetime, optional
        The instant concerned.
    observed, required : object, optional
        What was found and what is needed.
    retry_after : float, optional
        Seconds after which trying again makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        asset: str | None = None,
        time: datetime | None = None,
        observed: object = None,
        required: object = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.asset = asset
        self.time = time
        self.observed = observed
        self.required = required
        self.retry_after = retry_after


class DataError(RiskError):
    """The data do not allow what was asked."""


class InvalidPriceError(DataError, ValueError):
    """A price, time stamp or price frame is not valid."""


class InsufficientDataError(DataError, ValueError):
    """There are fewer observations than the number needs."""


class StaleDataError(DataError, ValueError):
    """The newest observation is too old."""


class GranularityError(DataError, ValueError):
    """The data come in another step than the one asked for."""


class ModelError(RiskError):
    """A model cannot be built or solved."""


class NotPositiveDefiniteError(ModelError, ValueError):
    """A matrix is not a correlation matrix, even after repair."""


class ConvergenceError(ModelError, ArithmeticError):
    """An iteration did not converge."""


class UnreachableLossError(ModelError, ValueError):
    """No move of prices loses as much; `observed` is what cannot be exceeded."""


class WorkerLostError(ModelError, RuntimeError):
    """An executor did not return what it was given to compute."""


class SourceError(RiskError):
    """A price source cannot give what was asked."""


class SourceUnavailableError(SourceError, ConnectionError):
    """The source did not answer."""


class RateLimitedError(SourceError, ConnectionError):
    """The source asks to wait."""


class CreditsUsedUpError(RateLimitedError):
    """The calls that the plan grants are used up; waiting for minutes does not help."""


class SourceBlockedError(SourceError, PermissionError):
    """The source does not serve us from here: a firewall, a region, a redirect elsewhere. Not tried again."""


class HistoryLimitError(SourceError, ValueError):
    """The source does not reach back that far."""


class PayloadError(SourceError, ValueError):
    """The answer or file of a source cannot be read."""


class UnknownAssetError(SourceError, LookupError):
    """Nobody knows this symbol."""


class StorageError(RiskError):
    """The store cannot do what was asked."""


class SchemaVersionError(StorageError, RuntimeError):
    """The database has another schema than this version of the library."""


class StoreBusyError(StorageError, TimeoutError):
    """Another process holds the database."""


class StoreUnavailableError(StorageError, ConnectionError):
    """The database does not answer, does not let us in, or takes no writes."""


class StoreCorruptError(StorageError, ValueError):
    """The file is not a sound database."""


class LockHeldError(StorageError, RuntimeError):
    """Another run holds the lock."""


class LockLostError(LockHeldError):
    """Our lock was lost on the way, and another run may hold it."""


class SinkError(RiskError):
    """An alert did not arrive."""


class AlertRefusedError(SinkError, ValueError):
    """The receiver does not take this alert, or is not one that alerts may be sent to; do not repeat it."""


class AlertUndeliveredError(SinkError, ConnectionError):
    """The receiver did not take the alert now; repeat it later, not before `retry_after` [s] where it is known."""


class SettingsError(RiskError, ValueError):
    """A setting cannot be used."""


class ClockSuspectError(RiskError, RuntimeError):
    """The clock of the machine cannot be right."""
