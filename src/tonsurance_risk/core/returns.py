"""Log returns of price frames."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.errors import InsufficientDataError


def log_returns(prices: pd.Series | pd.DataFrame) -> pd.DataFrame:
    """Return the log returns between consecutive rows.

    Parameters
    ----------
    prices : Series or DataFrame of shape (n_times, n_assets)
        [USD]; NaN where nothing was observed.

    Returns
    -------
    DataFrame of shape (n_times - 1, n_assets)
        ``ln(P_t / P_{t-1})``, stamped with t; NaN next to a NaN. Gaps are not bridged.

    Raises
    ------
    InsufficientDataError
        With fewer than two rows.
    InvalidPriceError
        If `prices` are not valid.

    Examples
    --------
    >>> index = pd.date_range("2024-01-01", periods=3, freq="D", tz="UTC")
    >>> log_returns(pd.Series([1.0, 0.99, 1.0], index=index, name="USDC"))["USDC"].round(6).tolist()
    [-0.01005, 0.01005]
    """
    frame = valid_prices(prices)
    if len(frame) < 2:
        raise InsufficientDataError(
            f"log returns need at least 2 rows of prices, found {len(frame)}", observed=len(frame), required=2
        )
    values = frame.to_numpy()
    before, after = values[:-1], values[1:]
    # The quotient of two prices can leave the range of floats; the difference of their logs cannot.
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        quotient = after / before
        returns = np.log(quotient)
    extreme = (quotient < np.finfo(float).tiny) | (quotient == np.inf)
    returns[extreme] = np.log(after[extreme]) - np.log(before[extreme])
    return pd.DataFrame(returns, index=frame.index[1:], columns=frame.columns)
