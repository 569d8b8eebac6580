"""Whatever a host sends: a typed error or a valid result, never another exception, in bounded time and memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonsurance_risk.errors import RiskError
from tonsurance_risk.sources.coingecko_answers import (
    MarketChart,
    on_grid,
    parse_coins_list,
    parse_error,
    parse_market_chart,
    parse_simple_price,
)
from tonsurance_risk.sources.retries import parse_retry_after

pytestmark = pytest.mark.no_cover  # not of core

T0 = 1735689600000
NAMES = st.sampled_from(
    ["prices", "total_volumes", "market_caps", "error", "status", "error_code", "error_message", "usd", "id", "symbol",
     "last_updated_at", "dai"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(T0 - 10**9, T0 + 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)
POINTS = st.lists(st.lists(LEAVES, min_size=1, max_size=3) | LEAVES, max_size=6)
CHARTS = st.fixed_dictionaries({"prices": POINTS}, optional={"total_volumes": POINTS})
GOOD_POINTS = st.lists(
    st.tuples(st.integers(T0 - 10**9, T0 + 10**9), st.none() | st.floats(-1.0, 10.0)).map(list), max_size=30
)
GOOD_CHARTS = st.fixed_dictionaries({"prices": GOOD_POINTS, "total_volumes": GOOD_POINTS})


SEEDS = (
    b'{"prices":[[1735689600000,1],[1735693200001,null],[1735693200001,0.5]],"total_volumes":[[1735689600000,9.5]]}',
    b'{"dai":{"usd":0.9998,"last_updated_at":1735689600},"old":{}}',
    b'[{"id":"dai","symbol":"dai"}]',
    b'{"error":{"status":{"error_code":10012,"error_message":"past 365 days"}}}',
    b'{"status":{"error_code":429,"error_message":"too many"}}',
    b'{"error_code":10011,"status":{"error_message":"another host"}}',
    b'{"error":"coin not found"}',
)
"""What fuzzing starts from."""


def one_body(content: bytes) -> None:
    """Try every parser on a body; what is not a typed error or a valid result raises."""
    try:
        chart = parse_market_chart(content)
    except RiskError:
        pass
    else:
        check_chart(chart)
    for parse in (parse_simple_price, parse_coins_list):
        with suppress(RiskError):
            parse(content)
    for status in (200, 400, 401, 404, 429, 500):
        assert isinstance(parse_error(status, content, {}), RiskError)


def check_chart(chart: MarketChart) -> None:
    """What holds for every chart, and for what comes of it."""
    assert np.all(np.diff(chart.times) > 0)
    assert np.all((chart.prices > 0.0) & np.isfinite(chart.prices))
    assert len(chart.times) == len(chart.prices) == len(chart.volumes)
    start, end = pd.Timestamp("2024-12-25", tz="UTC"), pd.Timestamp("2025-01-08", tz="UTC")
    now = pd.Timestamp("2025-01-05 12:34:56", tz="UTC")
    hour = pd.Timedelta(hours=1)
    try:
        frame = on_grid(
            chart,
            span=hour.to_pytimedelta(),
            start=start,
            end=end,
            asked_from=start,
            asked_to=now,
            now=now,
            live=True,
        )
    except RiskError:
        return
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    points = pd.Series(chart.prices, pd.to_datetime(chart.times, unit="ms", utc=True))
    points = points[points.index <= now + pd.Timedelta(minutes=2)]
    if len(points) and points.index[-1] != points.index[-1].floor(hour):
        points = points.iloc[:-1]  # the point of the call
    for time_of_sample, price in frame["price"].items():
        assert start <= time_of_sample < end
        assert time_of_sample <= now
        # Causal: a price that was there in the hour up to the stamp.
        assert price == points[(points.index > time_of_sample - hour) & (points.index <= time_of_sample)].iloc[-1]


@pytest.mark.fault("F025")
@pytest.mark.fault("F023")
@given(TREES | CHARTS | GOOD_CHARTS)
def test_every_tree(tree):
    """Of JSON, near what is expected and far from it."""
    one_body(orjson.dumps(tree))


@pytest.mark.fault("F019")
@given(st.binary(max_size=60))
def test_every_body(content):
    """Of bytes."""
    one_body(content)


@given(GOOD_CHARTS, st.data())
def test_every_cut(chart, data):
    """Of a chart; and one byte of it that is another."""
    content = orjson.dumps(chart)
    at = data.draw(st.integers(0, len(content) - 1))
    one_body(content[:at])
    one_body(content[:at] + bytes([data.draw(st.integers(0, 255))]) + content[at + 1 :])


@pytest.mark.fault("F025")
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"prices":' * 100_000,
        b'{"prices":[[' + b"9" * 5_000 + b",1]]}",
        b'{"prices":[[1735689600000,' + b"9" * 5_000 + b"]]}",
        b'{"prices":[[1735689600000,1e400]]}',
        b'{"prices":[[1735689600000,-Infinity]]}',
        b'{"prices":[[NaN,1]]}',
        b'{"' + b"a" * 4_000_000 + b'":1}',
        b'{"prices":[' + b"[1735689600000,null]," * 20_000 + b"[1735689600000,1]]}",
        b"<" * 4_000_000,
        b'{"error":"' + b"\\u001b[31m" * 100_000 + b'"}',
    ],
    ids=["deep-list", "deep-object", "digits-in-time", "digits-in-price", "beyond-float", "infinity", "nan", "long-name",
         "same-stamp", "page", "long-error"],
)  # fmt: skip
def test_monsters_are_quick_and_small(content):
    """Seconds, and memory within bounds, however it is built."""
    begun = time.process_time()
    one_body(content)
    took = time.process_time() - begun
    tracemalloc.start()
    one_body(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took < 5.0  # for nine parsers, on a busy machine
    assert peak < 64 << 20


@pytest.mark.fault("F007")
@given(
    st.text(max_size=30) | st.integers().map(str) | st.datetimes().map(lambda t: t.strftime("%a, %d %b %Y GMT")),
    st.text(max_size=30),
)
def test_every_wait_that_is_asked_for(value, date):
    """Positive seconds or nothing."""
    wait = parse_retry_after(value, date)

    assert wait is None or wait >= 0.0


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="the package atheris is not installed")
def test_fuzzing_that_follows_the_code(tmp_path):
    """A minute of atheris, which looks for bodies that reach new lines."""
    driver = Path(__file__).parents[1] / "fuzz" / "answers.py"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)

    done = subprocess.run(
        [sys.executable, str(driver), str(corpus), "-max_total_time=60", "-max_len=400", f"-artifact_prefix={tmp_path}/"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-3000:]
