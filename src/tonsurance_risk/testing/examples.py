"""What the contracts of stores are tried with: small frames, events, matrices, and a clock that can be set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import DepegEvent

HOUR = timedelta(hours=1)
NOON = pd.Timestamp("2023-03-11 12:00", tz="UTC")
KEY = {"source": "feed", "step": "1h"}


class SetClock:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.time: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return what it is set to."""
        return self.time

    def forward(self) -> None:
        """Set it forward by an hour."""
        self.time += HOUR


def hours(*prices: float, start: pd.Timestamp = NOON, name: str = "USDC") -> pd.Series:
    return pd.Series(prices, pd.date_range(start, periods=len(prices), freq="h"), name=name, dtype=float)


def frame(values: dict[str, list[float]], start: pd.Timestamp = NOON) -> pd.DataFrame:
    index = pd.date_range(start, periods=len(next(iter(values.values()))), freq="h")
    return pd.DataFrame(values, index=index, dtype=float)


def same(loaded: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected.set_axis(expected.index.as_unit("us"))
    pd.testing.assert_frame_equal(
        loaded, expected, check_freq=False, check_exact=True, check_index_type=False, check_column_type=False
    )


def event(asset: str = "USDC", start: pd.Timestamp = NOON, samples: int = 3, **changes) -> DepegEvent:
    fields = {
        "asset": asset,
        "direction": "below",
        "start": start,
        "end": start + (samples - 1) * HOUR,
        "recovered_at": start + samples * HOUR,
        "min_price": 0.88,
        "max_price": 0.97,
        "severity": 0.12,
        "n_observations": samples,
        "source": "feed",
        "threshold": 0.02,
        "recovery": 0.005,
        "min_duration": HOUR,
        "max_gap": 6 * HOUR,
        "merge_within": timedelta(0),
        "sample_span": HOUR,
        "peg_reference": 1.0,
    }
    return DepegEvent(**fields | changes)


def matrix(*assets: str, as_of: pd.Timestamp = NOON, window_days: int = 30, r: float = 0.5) -> CorrelationMatrix:
    n = len(assets)
    values = np.full((n, n), r)
    np.fill_diagonal(values, 1.0)
    place = np.arange(n)
    observations = 100 + np.add.outer(place, place)
    is_default = np.add.outer(place, place) == 1
    return CorrelationMatrix(assets, values, observations, is_default, window_days, as_of)


def snapshots(values: list[float], start: pd.Timestamp = NOON) -> pd.DataFrame:
    index = pd.date_range(start, periods=len(values), freq="D")
    return pd.DataFrame(
        {"var_95": values, "capital": [100.0] * len(values), "coverage": [50.0] * len(values)},
        index=index,
        dtype=float,
    )


times = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.timezones()).map(  # noqa: DTZ001
    lambda time: pd.Timestamp(time.astimezone(UTC))
)
spans = st.timedeltas(timedelta(0), timedelta(days=4000))
numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
own_names = names.map(lambda name: f"x{name}")


@st.composite
def events(draw: st.DrawFn) -> DepegEvent:
    start = draw(times)
    end = start + draw(spans)
    return DepegEvent(
        asset=draw(own_names),
        direction=draw(st.sampled_from(["below", "above"])),
        start=start,
        end=end,
        recovered_at=draw(st.none() | spans.map(lambda span: end + span)),
        min_price=draw(numbers),
        max_price=draw(numbers),
        severity=draw(numbers),
        n_observations=draw(st.integers(0, 2**63 - 1)),
        cut_by_gap=draw(st.booleans()),
        source=draw(st.none() | names),
        confirmed=draw(st.none() | st.booleans()),
        local_to=draw(st.none() | names),
        threshold=draw(numbers),
        recovery=draw(numbers),
        min_duration=draw(spans),
        max_gap=draw(st.none() | spans),
        merge_within=draw(spans),
        sample_span=draw(spans),
        peg_reference=draw(numbers),
    )
