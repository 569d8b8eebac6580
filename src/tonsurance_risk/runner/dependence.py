"""How the coins of some prices move together, for the command `correlate`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import pandas as pd

from tonsurance_risk.assessment import check_and_detect
from tonsurance_risk.core.dependence import WINDOWS, Dependence, assess_dependence
from tonsurance_risk.core.quality import QualityReport
from tonsurance_risk.errors import SettingsError
from tonsurance_risk.runner.detection import GatheredPrices
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.values import iso


@attrs.frozen(kw_only=True)
class CorrelationResult:
    """How the coins of some prices move together, with the prices it comes from.

    Parameters
    ----------
    prices : GatheredPrices
        What was looked at.
    dependence : Dependence
        What was found.
    quality : QualityReport
        What the checks found.
    """

    prices: GatheredPrices
    dependence: Dependence
    quality: QualityReport = attrs.field(repr=False)

    @property
    def needs_attention(self) -> bool:
        """Whether an asset that the source carries failed."""
        return bool(self.prices.failed)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the prices in JSON types."""
        rejected = self.quality.flags["action"] == "reject"
        return {
            "source": self.prices.source,
            "step": self.prices.step,
            "assets": list(self.prices.assets),
            "rejected_samples": int((rejected & self.quality.flags["asset"].isin(self.prices.assets)).sum()),
            "failed": self.prices.failed,
            "not_read": self.prices.not_read,
            **self.dependence.to_dict(),
        }


def correlate_prices(
    prices: GatheredPrices, *, windows: Sequence[int] = WINDOWS, as_of: datetime | None = None, seed: int = 0
) -> CorrelationResult:
    """Return how coins move together: checked prices, depegs found in them, and `assess_dependence`.

    Parameters
    ----------
    prices : GatheredPrices
        As `runner.detection` gathers them.
    windows : sequence of int
        Days.
    as_of : datetime, optional
        The last stamp when not given; later prices are ignored.
    seed : int
        Of all resamples.

    Raises
    ------
    SettingsError
        If there are no prices at or before `as_of`.
    """
    frame = prices.frame if as_of is None else prices.frame.loc[: pd.Timestamp(as_of)]
    if frame.empty:
        when = iso(pd.Timestamp(as_of)) if as_of is not None else "any time"
        raise SettingsError(f"{prices.source} has no prices at or before {when}", observed=as_of)
    end, step = frame.index[-1] if as_of is None else pd.Timestamp(as_of), STEPS[prices.step]
    others = [other.loc[:end] for other in prices.others]
    quality, usable, events = check_and_detect(frame, end, step, prices.source, others, {})
    asked = list(prices.assets)
    dependence = assess_dependence(
        usable[asked], [e for e in events if e.asset in asked], as_of=end, step=step, windows=windows, seed=seed
    )
    return CorrelationResult(prices=prices, dependence=dependence, quality=quality)
