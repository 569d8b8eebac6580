"""Several sources as one: the first that answers, or the median of all that do."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import attrs
import pandas as pd

from tonsurance_risk.assets import canonical
from tonsurance_risk.core.consensus import AGREEMENT, ConsensusPrices, consensus_prices
from tonsurance_risk.errors import RiskError, SettingsError, SourceUnavailableError, UnknownAssetError
from tonsurance_risk.ports import PriceSource, SourceUsage, usage_of
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, joined
from tonsurance_risk.sources.steps import between, step_span
from tonsurance_risk.sources.vendors import vendor_of
from tonsurance_risk.values import as_utc, text, unique

MOST_ANSWERS = 10_000
"""How many answers are kept; older ones are forgotten."""

_log = logging.getLogger(__name__)
_Asked: TypeAlias = tuple[str, pd.Timestamp, pd.Timestamp, str]


@attrs.frozen(kw_only=True)
class Answer:
    """Who answered a fetch.

    Parameters
    ----------
    asset, start, end, step
        What was asked for.
    sources : tuple of str
        The names of those whose prices are in the answer.
    failed : mapping of str to str
        The error of each source that was asked in vain, by its name.
    """

    asset: str
    start: pd.Timestamp
    end: pd.Timestamp
    step: str
    sources: tuple[str, ...]
    failed: Mapping[str, str]


class _Several:
    """Sources that are asked for the same thing, and what became of it."""

    def __init__(self, sources: Sequence[PriceSource], kind: str) -> None:
        self.sources = tuple(sources)
        if not self.sources:
            raise ValueError("sources must hold at least one PriceSource, found none")
        names = [source.name for source in self.sources]
        unique(names, "sources")
        self.name = f"{kind}({', '.join(names)})"
        self.answers: deque[Answer] = deque(maxlen=MOST_ANSWERS)

    def __repr__(self) -> str:
        return self.name

    @property
    def usage(self) -> SourceUsage:
        """What was asked of the hosts of those that count it."""
        return sum(map(usage_of, self.sources), start=SourceUsage())

    def _answers_to(
        self, asked: _Asked, failures: dict[str, RiskError]
    ) -> Iterator[tuple[PriceSource, pd.Series]]:
        """Ask one source after the other; the errors of those that do not answer go into `failures`."""
        asset, start, end, step = asked
        for source in self.sources:
            try:
                prices = source.fetch(asset, start, end, step=step)
            except SettingsError:
                raise
            except RiskError as error:
                failures[source.name] = error
            else:
                yield source, prices

    def _note(
        self,
        asked: _Asked,
        answered: Sequence[str],
        failures: Mapping[str, RiskError],
    ) -> None:
        asset, start, end, step = asked
        failed = {name: f"{type(error).__name__}: {error}" for name, error in failures.items()}
        for name, message in failed.items():
            _log.warning("%s: %s did not give %s: %s", self.name, name, asset, message)
        self.answers.append(
            Answer(asset=asset, start=start, end=end, step=step, sources=tuple(answered), failed=failed)
        )
        if not answered:
            raise _nobody(asset, failures)


def _asked(asset: str, start: datetime, end: datetime, step: str, name: str) -> _Asked:
    step_span(step, name)
    return canonical(text(asset, "asset")), as_utc(start, "start"), as_utc(end, "end"), step


def _nobody(asset: str, failures: Mapping[str, RiskError]) -> RiskError:
    """Return one error for all: of their kind if it is one, where those who do not know the asset do not count."""
    kinds = {type(error) for error in failures.values()}
    if len(kinds) > 1:
        kinds -= {UnknownAssetError}
    kind = kinds.pop() if len(kinds) == 1 else SourceUnavailableError
    waits = [error.retry_after for error in failures.values() if error.retry_after is not None]
    said = "; ".join(f"{name}: {type(error).__name__}: {error}" for name, error in failures.items())
    return kind(
        f"no source gave {asset}: {said}",
        asset=asset,
        observed=tuple(failures),
        retry_after=min(waits, default=None),
    )


class FallbackSource(_Several):
    """The prices of the first source that gives them.

    Parameters
    ----------
    sources : sequence of PriceSource
        In the order in which they are asked. The next one is asked where one has an error other than a
        `SettingsError`, and where its history begins later than what is asked for; if no other one's begins
        earlier, its part is returned.

    Attributes
    ----------
    answers : deque of Answer
        Who answered each fetch, and why others did not. The prices themselves name their vendor in
        ``attrs["vendor"]``.

    Raises
    ------
    ValueError
        If there is no source, or two have one name.

    Notes
    -----
    In a store the prices have the name of this source, whoever gave them.

    Examples
    --------
    >>> from tonsurance_risk.sources import SampleSource
    >>> source = FallbackSource([SampleSource()])
    >>> days = pd.date_range("2024-03-01", periods=2, tz="UTC")
    >>> source.fetch("DAI", *days, step="1d").attrs["vendor"], source.answers[-1].sources
    ('sample (simulated)', ('sample (simulated)',))
    """

    def __init__(self, sources: Sequence[PriceSource]) -> None:
        super().__init__(sources, "fallback")

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the prices of `asset` that became known in ``[start, end)``; see `PriceSource.fetch`.

        Raises
        ------
        RiskError
            If no source gives them: of the kind of their errors if that is one, else a `SourceUnavailableError`.
        """
        asked = _asked(asset, start, end, step, self.name)
        failures: dict[str, RiskError] = {}
        best: tuple[pd.Series, PriceSource] | None = None
        for source, prices in self._answers_to(asked, failures):
            if best is None or _begins(prices, asked[1]) < _begins(best[0], asked[1]):
                best = prices, source
            if _begins(prices, asked[1]) == asked[1]:
                break
        self._note(asked, [] if best is None else [best[1].name], failures)
        assert best is not None  # noqa: S101 (_note raises)
        found = best[0].copy()
        found.attrs["vendor"] = vendor_of(best[1].name)
        return found


def _begins(prices: pd.Series, start: pd.Timestamp) -> pd.Timestamp:
    return prices.attrs.get(DETAIL, FetchDetail()).history_start or start


class ConsensusSource(_Several):
    """The median of the prices of several sources.

    Parameters
    ----------
    sources : sequence of PriceSource
        All are asked; those with an error other than a `SettingsError` are left out. Several of one vendor count
        once, see `consensus_prices`.
    agreement : float
        Share of the median within which two prices agree.

    Attributes
    ----------
    answers : deque of Answer
        Whose prices are in each fetch, and why others are not.

    Raises
    ------
    ValueError
        If there is no source, or two have one name.

    Examples
    --------
    >>> from tonsurance_risk.sources import SampleSource
    >>> source = ConsensusSource([SampleSource()])
    >>> days = pd.date_range("2024-03-01", periods=3, tz="UTC")
    >>> consensus = source.compare("DAI", days[0], days[2], step="1d")
    >>> consensus.sources["DAI"].tolist(), consensus.confirmed["DAI"].tolist()
    ([1, 1], [None, None])
    """

    def __init__(self, sources: Sequence[PriceSource], *, agreement: float = AGREEMENT) -> None:
        super().__init__(sources, "consensus")
        self._agreement = agreement

    def fetch(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> pd.Series:
        """Return the median prices of `asset` in ``[start, end)``; see `PriceSource.fetch` and `compare`."""
        compared, detail = self._compare(asset, start, end, step)
        prices = compared.prices[canonical(asset)].dropna()
        found = between(prices.set_axis(pd.DatetimeIndex(prices.index).as_unit("us")), start, end)
        found.attrs[DETAIL] = detail
        return found

    def compare(self, asset: str, start: datetime, end: datetime, *, step: str = "1h") -> ConsensusPrices:
        """Return the median with its spread, the number of sources, and whether they agree.

        Parameters
        ----------
        asset, start, end, step
            As `fetch`.

        Returns
        -------
        ConsensusPrices
            On the grid of the step; a price holds for its own bar, not longer.

        Raises
        ------
        RiskError
            If no source gives prices, as `FallbackSource.fetch`.
        """
        return self._compare(asset, start, end, step)[0]

    def _compare(
        self, asset: str, start: datetime, end: datetime, step: str
    ) -> tuple[ConsensusPrices, FetchDetail]:
        """Return the comparison, and what the sources left out; it begins where the first of them does."""
        asked = _asked(asset, start, end, step, self.name)
        frames: dict[str, pd.DataFrame] = {}
        details: list[FetchDetail] = []
        failures: dict[str, RiskError] = {}
        for source, prices in self._answers_to(asked, failures):
            frame = prices.to_frame()
            frame.attrs = {"vendor": vendor_of(source.name)}
            frames[source.name] = frame
            details.append(prices.attrs.get(DETAIL, FetchDetail()))
        self._note(asked, list(frames), failures)
        span = step_span(step, self.name)
        hold = span - timedelta(microseconds=1)
        compared = consensus_prices(list(frames.values()), freq=span, tolerance=hold, agreement=self._agreement)
        starts = [one.history_start for one in details]
        begins = None if None in starts else min(filter(None, starts), default=None)
        return compared, attrs.evolve(joined(details), history_start=begins)
