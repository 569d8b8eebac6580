"""What came with a series of prices: what was left out, and why."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pandas as pd

DETAIL = "detail"
"""Where a series of a source has its `FetchDetail`: ``prices.attrs[DETAIL]``."""


@attrs.frozen(kw_only=True)
class Reject:
    """A sample that cannot be used.

    Parameters
    ----------
    time : Timestamp
        Its stamp.
    reason : str
        One word: null_price, not_positive, doubled_stamp, future_stamp or low_confidence.
    raw : str
        What was there.
    """

    time: pd.Timestamp
    reason: str
    raw: str


@attrs.frozen(kw_only=True)
class FetchDetail:
    """What a source left out of a series.

    Parameters
    ----------
    rejects : tuple of Reject
        In the order of time.
    now_points : int
        Points of the moment of the call, which are no samples.
    outside : int
        Points beyond what was asked for.
    unmatched : int
        Stamps with one of two that belong together: price and volume, or price in a coin and that coin's price.
    history_start : Timestamp or None
        Where the plan's history begins, if that is later than what was asked for.
    """

    rejects: tuple[Reject, ...] = ()
    now_points: int = 0
    outside: int = 0
    unmatched: int = 0
    history_start: pd.Timestamp | None = None

    def __deepcopy__(self, _memo: dict[int, object]) -> FetchDetail:
        """Return itself, of which nothing can change: pandas copies ``attrs`` with every column that is taken."""
        return self


def joined(details: Iterable[FetchDetail]) -> FetchDetail:
    """Return the sum of the details of windows, oldest first."""
    parts = list(details)
    return FetchDetail(
        rejects=tuple(reject for part in parts for reject in part.rejects),
        now_points=sum(part.now_points for part in parts),
        outside=sum(part.outside for part in parts),
        unmatched=sum(part.unmatched for part in parts),
        history_start=next((part.history_start for part in parts if part.history_start is not None), None),
    )


def rejects_of(prices: pd.Series) -> pd.DataFrame:
    """Return the rejects of a series in the form that `PriceStore.save_rejects` takes; none where it has none.

    Examples
    --------
    >>> rejects_of(pd.Series(name="DAI", dtype=float)).columns.tolist()
    ['asset', 'time', 'reason', 'raw', 'detail']
    """
    detail = prices.attrs.get(DETAIL, FetchDetail())
    rows = [
        (prices.name, reject.time, reject.reason, reject.raw, "not stored as a price") for reject in detail.rejects
    ]
    return pd.DataFrame(rows, columns=["asset", "time", "reason", "raw", "detail"])
