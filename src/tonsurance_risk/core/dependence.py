"""How coins move together at one instant: every window, what its numbers rest on, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

import attrs
import pandas as pd

from tonsurance_risk.assets import NOT_COINS_ON_PEG
from tonsurance_risk.core.contagion import (
    co_depegs,
    coin_clusters,
    contagion_pairs,
    pairs_by_risk_level,
    tail_dependence,
)
from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.core.regimes import RegimeChange, correlation_regime_change
from tonsurance_risk.core.returns import log_returns
from tonsurance_risk.core.sensitivity import CorrelationSensitivity, correlation_sensitivity
from tonsurance_risk.core.tables import json_rows
from tonsurance_risk.core.windows import correlation_windows
from tonsurance_risk.errors import InsufficientDataError
from tonsurance_risk.model import BTC, YEAR, DepegEvent
from tonsurance_risk.values import as_utc, iso

WINDOWS = (30, 90, 365)
RESAMPLES = 999
"""Of every interval."""

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Dependence:
    """How the coins of one source move together.

    Parameters
    ----------
    as_of : Timestamp
        The instant.
    correlations : dict of int to CorrelationMatrix or None
        Of coins and BTC by window [days], with block-bootstrap intervals; None where there are not enough rows.
    sensitivities : dict of int to CorrelationSensitivity or None
        Of the coins by window.
    regime_change : RegimeChange or None
        The shortest window against the rest of the longest.
    co_depegs : DataFrame
        As `co_depegs` returns it, in all the data.
    tail_dependence : DataFrame or None
        As `tail_dependence` returns it, in the longest window.
    reasons : dict of str
        Why something is None: by "correlation_30" for a window of 30 days, "sensitivity_30", "regime_change",
        "tail_dependence".
    """

    as_of: pd.Timestamp
    correlations: dict[int, CorrelationMatrix | None] = attrs.field(repr=False)
    sensitivities: dict[int, CorrelationSensitivity | None] = attrs.field(repr=False)
    regime_change: RegimeChange | None
    co_depegs: pd.DataFrame = attrs.field(repr=False)
    tail_dependence: pd.DataFrame | None = attrs.field(repr=False)
    reasons: dict[str, str]

    def contagion(self, days: int) -> pd.DataFrame:
        """Return `contagion_pairs` of a window, and which of them rest on a few days.

        The columns beyond those of the pairs are without_influential, influential_days, without_depegs and
        rests_on_few_days.
        """
        matrix = self.correlations[days]
        pairs = contagion_pairs(matrix) if matrix is not None else pd.DataFrame()
        return _with_sensitivity(pairs, self.sensitivities[days])

    def to_dict(self) -> dict[str, Any]:
        """Return everything in JSON types; None where a number cannot be computed, with the reason beside it."""
        document = {
            "as_of": iso(self.as_of),
            "correlations": self._windows_to_dict(),
            "regime_change": None if self.regime_change is None else self.regime_change.to_dict(),
            "co_depegs": json_rows(self.co_depegs),
            "tail_dependence": None if self.tail_dependence is None else json_rows(self.tail_dependence),
        }
        for name in ("regime_change", "tail_dependence"):
            if name in self.reasons:
                document[f"{name}_reason"] = self.reasons[name]
        return document

    def _windows_to_dict(self) -> dict[str, Any]:
        section: dict[str, Any] = {}
        for days, matrix in self.correlations.items():
            if matrix is None:
                section |= {f"{days}": None, f"{days}_reason": self.reasons[f"correlation_{days}"]}
                continue
            coins = matrix.select([asset for asset in matrix.assets if asset != BTC])
            sensitivity = self.sensitivities[days]
            document = coins.to_dict() | {
                "pairs": json_rows(_with_sensitivity(coins.pairs(interval=coins.best_interval), sensitivity)),
                "strong_pairs": json_rows(pairs_by_risk_level(coins)),
                "clusters": [list(group) for group in coin_clusters(coins)],
            }
            document |= {"common_mode_share": None} if sensitivity is None else sensitivity.summary()
            if sensitivity is None:
                document["common_mode_share_reason"] = self.reasons[f"sensitivity_{days}"]
            section[f"{days}"] = document
        return section


def assess_dependence(
    prices: pd.DataFrame,
    events: Iterable[DepegEvent],
    *,
    as_of: datetime,
    step: timedelta,
    windows: Sequence[int] = WINDOWS,
    seed: int = 0,
) -> Dependence:
    """Return how coins move together, as far as the data say.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        Usable prices [USD]; rows later than `as_of` are ignored.
    events : iterable of DepegEvent
        Found in them, in both directions.
    as_of : datetime
        The instant.
    step : timedelta
        What one sample stands for, > 0.
    windows : sequence of int
        Days, at least one.
    seed : int
        Of all resamples.

    Returns
    -------
    Dependence
        What cannot be computed is None there, with the reason.

    Raises
    ------
    InvalidPriceError
        If `prices` are not valid.

    Examples
    --------
    >>> days = pd.date_range("2024-01-01", periods=60, tz="UTC")
    >>> rng = np.random.default_rng(0)
    >>> prices = pd.DataFrame(np.exp(rng.normal(0, 1e-3, (60, 2))), index=days, columns=["DAI", "USDC"])
    >>> found = assess_dependence(prices, [], as_of=days[-1], step=timedelta(days=1), windows=(30, 90))
    >>> found.correlations[30].observations.tolist(), found.reasons
    ([[29, 29], [29, 29]], {})
    """
    end = as_utc(as_of, "as_of")
    known = prices.loc[:end]
    listed = [event for event in events if event.start <= end]
    coins = known[[asset for asset in known.columns if asset not in NOT_COINS_ON_PEG]]
    correlations, reasons = stored_correlations(known, as_of=end, windows=windows, seed=seed)

    def or_none(name: str, compute: Callable[[], _T]) -> _T | None:
        try:
            return compute()
        except InsufficientDataError as error:
            reasons[name] = str(error)
            return None

    def returns(days: int) -> pd.DataFrame:
        return log_returns(coins[coins.index > end - timedelta(days=days)])

    def sensitivity(days: int) -> CorrelationSensitivity:
        return correlation_sensitivity(
            returns(days), events=listed, sample_span=step, bootstrap=RESAMPLES, seed=seed
        )

    shortest, longest = min(windows), max(windows)
    baseline = max(longest, YEAR.days) - shortest or shortest
    sensitivities: dict[int, CorrelationSensitivity | None] = {}
    for days in windows:
        sensitivities[days] = or_none(f"sensitivity_{days}", partial(sensitivity, days))
    change = partial(correlation_regime_change, recent=shortest, baseline=baseline, as_of=end, seed=seed)
    observed = {str(asset): cast("pd.DatetimeIndex", column.dropna().index) for asset, column in coins.items()}
    spans = {asset: (times[0], times[-1] + step) for asset, times in observed.items() if len(times)}
    return Dependence(
        as_of=end,
        correlations=correlations,
        sensitivities=sensitivities,
        regime_change=or_none("regime_change", lambda: change(log_returns(coins))),
        co_depegs=co_depegs(listed, observed=spans),
        tail_dependence=or_none("tail_dependence", lambda: tail_dependence(returns(longest))),
        reasons=reasons,
    )


def stored_correlations(
    prices: pd.DataFrame, *, as_of: datetime, windows: Sequence[int] = WINDOWS, seed: int = 0
) -> tuple[dict[int, CorrelationMatrix | None], dict[str, str]]:
    """Return the matrix of coins and BTC over each window, with bootstrap intervals, and why one is None.

    Parameters
    ----------
    prices : DataFrame of shape (n_times, n_assets)
        Usable prices [USD]; rows later than `as_of` are ignored.
    as_of, windows, seed
        As in `assess_dependence`.

    Returns
    -------
    dict of CorrelationMatrix or None by window
    dict of str
        By ``correlation_DAYS``.
    """
    end = as_utc(as_of, "as_of")
    factors = prices.loc[:end, [asset for asset in prices if asset == BTC or asset not in NOT_COINS_ON_PEG]]
    matrices: dict[int, CorrelationMatrix | None] = {}
    reasons = {}
    for days in windows:
        try:
            of_window = correlation_windows(factors, windows=(days,), as_of=end, bootstrap=RESAMPLES, seed=seed)
            matrices[days] = of_window[days]
        except InsufficientDataError as error:
            matrices[days] = None
            reasons[f"correlation_{days}"] = str(error)
    return matrices, reasons


def _with_sensitivity(pairs: pd.DataFrame, sensitivity: CorrelationSensitivity | None) -> pd.DataFrame:
    if sensitivity is None or pairs.empty:
        return pairs
    extra = sensitivity.pairs.drop(columns=["correlation", "observations"])
    return pairs.merge(extra, on=["asset_1", "asset_2"], how="left")
