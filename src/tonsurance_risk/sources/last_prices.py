"""The newest price of an asset, and whose clock says when it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs
import pandas as pd

from tonsurance_risk.errors import RiskError


@attrs.frozen(kw_only=True)
class LastPrice:
    """The newest price that a source has of an asset.

    Parameters
    ----------
    price : float
        [USD]
    time : Timestamp
        When it was, UTC.
    stamped_by : {"source", "receipt"}
        The source said when, or it did not and this is when its answer came: the price may be older.
    """

    price: float
    time: pd.Timestamp
    stamped_by: Literal["source", "receipt"]


LastPrices: TypeAlias = Mapping[str, LastPrice | RiskError]
"""What ``last_prices(assets)`` of a source returns: for each asset asked for, by its symbol as `get_asset` spells
it, its price or the error that concerns it alone. What concerns the source is raised."""
