"""Whatever a host answers: a valid result or a typed error, and never another exception."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import tracemalloc
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.errors import RiskError
from tonsurance_risk.sources import binance, coinbase, kraken
from tonsurance_risk.sources import defillama_answers as defillama

pytestmark = pytest.mark.no_cover  # not of core

HOUR = timedelta(hours=1)
NOW = pd.Timestamp("2025-03-02", tz="UTC")
COIN = "coingecko:dai"
OPEN = 1_740_787_200


def llama_samples(body):
    points = defillama.parse_chart(body, COIN)
    return None if points is None else defillama.on_grid(points, timedelta(minutes=10), HOUR, now=NOW)


PARSERS = {
    "klines": partial(binance.parse_klines, span=HOUR, now=NOW),
    "binance ticker": partial(binance.parse_ticker, symbol="USDCUSDT"),
    "candles": partial(coinbase.parse_candles, span=HOUR, now=NOW),
    "coinbase ticker": coinbase.parse_ticker,
    "ohlc": partial(kraken.parse_ohlc, pair="USDTUSD", span=HOUR, now=NOW),
    "kraken ticker": partial(kraken.parse_ticker, pairs=["USDTUSD"], now=NOW),
    "chart": llama_samples,
    "first": partial(defillama.parse_first, coin=COIN),
    "price": partial(defillama.parse_price, coin=COIN),
    "ids": defillama.parse_stablecoin_ids,
    "supply": partial(defillama.parse_supply, now=NOW),
    "tvl": partial(defillama.parse_chain_tvl, now=NOW),
}

numbers = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [0, -1, 0.0, -0.0, 1, 0.9998, 1e308, 5e-324, OPEN, OPEN * 1000, OPEN * 10**6, OPEN + 3600, 2**63, 2**64]
    )
)
texts = st.text(max_size=8) | st.sampled_from(
    ["0.9998", "1", "0", "-1", "nan", "1e5", "2025-03-01T00:00:00Z", "2025-03-01", "99999-01-01T00:00Z", str(OPEN), "9" * 300,
     "EService:Throttled: 1740787200", "EQuery:Unknown asset pair", "USDCUSDT", "٣"]
)  # fmt: skip
names = st.sampled_from(
    ["error", "result", "last", "USDTZUSD", "USDTUSD", "c", "symbol", "price", "time", "coins", COIN, "prices", "timestamp",
     "confidence", "peggedAssets", "id", "gecko_id", "date", "totalCirculating", "peggedUSD", "tvl"]
) | st.text(max_size=4)  # fmt: skip
trees = st.recursive(
    numbers | texts,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(names, inner, max_size=4),
    max_leaves=30,
)


def spoiled(proper):
    """Return a strategy of an answer as it should be, with one or two places exchanged for anything."""

    def places(value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            yield from places(inner, (*path, key))

    @st.composite
    def draw(draw_one):
        tree = json.loads(json.dumps(proper))
        for _ in range(draw_one(st.integers(0, 2))):
            path = draw_one(st.sampled_from(list(places(tree))))
            if not path:
                return draw_one(trees)
            holder = tree
            for key in path[:-1]:
                holder = holder[key]
            if draw_one(st.booleans()):
                holder[path[-1]] = draw_one(trees)
            else:
                del holder[path[-1]]
        return tree

    return draw()


def hours(make):
    return [make(OPEN + hour * 3600) for hour in range(-30, -20)]


PROPER = {
    "klines": hours(lambda at: [at * 1000, "1", "1", "1", "0.9998", "9", (at + 3600) * 1000 - 1, "9", 1, "4", "4", "0"]),
    "binance ticker": {"symbol": "USDCUSDT", "price": "0.9998"},
    "candles": hours(lambda at: [at, 0.9, 1.1, 1.0, 0.9998, 5.5])[::-1],
    "coinbase ticker": {"price": "0.9998", "time": "2025-03-01T00:00:00.5Z"},
    "ohlc": {"error": [], "result": {"USDTZUSD": hours(lambda at: [at, "1", "1", "1", "0.9998", "1", "9", 3]), "last": OPEN}},
    "kraken ticker": {"error": [], "result": {"USDTZUSD": {"c": ["0.9998", "12.5"]}}},
    "chart": {"coins": {COIN: {"confidence": 0.99, "prices": hours(lambda at: {"timestamp": at + 7, "price": 0.9998})}}},
    "first": {"coins": {COIN: {"price": 1.0, "timestamp": OPEN}}},
    "price": {"coins": {COIN: {"price": 1.0, "timestamp": OPEN, "confidence": 0.99}}},
    "ids": {"peggedAssets": [{"id": "1", "gecko_id": "tether"}, {"id": "2", "gecko_id": None}]},
    "supply": [{"date": str(OPEN - day * 86400), "totalCirculating": {"peggedUSD": 5e9}} for day in range(9, 1, -1)],
    "tvl": [{"date": OPEN - day * 86400, "tvl": 5e9} for day in range(9, 1, -1)],
}  # fmt: skip


def check(name, body):
    """Parse, and look at what comes."""
    try:
        result = PARSERS[name](body)
    except RiskError as error:
        said = str(error)
    else:
        said = None
    if said is not None:
        assert 0 < len(said) < 3000, "an error says something and does not repeat the answer"
        return None
    if isinstance(result, pd.Series):
        assert result.dtype == np.float64
        valid_prices(result.rename("DAI"))
        assert (result.index <= NOW).all()
    return result


@pytest.mark.parametrize("name", PARSERS)
def test_a_proper_answer_is_read(name):
    """So that the laws below are not about refusals alone."""
    result = check(name, json.dumps(PROPER[name]).encode())

    assert result is not None
    if isinstance(result, pd.Series):
        assert len(result) in (8, 10)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150)
@given(tree=st.data())
def test_an_answer_spoiled_in_one_place(name, tree):
    """Anything in the place of any part, or nothing."""
    check(name, json.dumps(tree.draw(spoiled(PROPER[name]))).encode())


@pytest.mark.parametrize("name", PARSERS)
@given(tree=trees)
def test_any_json(name, tree):
    """Of the words that these interfaces use."""
    check(name, json.dumps(tree).encode())


@pytest.mark.parametrize("name", PARSERS)
@given(body=st.binary(max_size=60))
@example(body=b"\xef\xbb\xbf[]")
def test_any_bytes(name, body):
    """Not even JSON."""
    check(name, body)


def one_body(content: bytes) -> None:
    """Try every parser on a body; what is neither a typed error nor a valid result raises."""
    for name in PARSERS:
        check(name, content)


@pytest.mark.fault("F025")
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + b"[1,2,3,4,5,6,7]," * 100_000 + b"1]",
        b"[[" + b"9" * 1_000_000 + b"]]",
        b'{"error":["' + b"E" * 4_000_000 + b'"]}',
        b'{"error":[' + b'"E",' * 400_000 + b'"E"]}',
        b'{"coins":{"' + b"a" * 4_000_000 + b'":1}}',
        b'[{"date":"' + b"9" * 4_000_000 + b'","totalCirculating":{}}]',
        b"<" * 4_000_000,
    ],
    ids=["deep", "long-list", "digits", "long-error", "many-errors", "long-name", "long-date", "page"],
)
def test_monsters_are_quick_and_small(content):
    """Seconds and megabytes for twelve parsers, and short messages."""
    begun = time.process_time()
    one_body(content)
    took = time.process_time() - begun
    tracemalloc.start()
    one_body(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert took < 10.0  # on a busy machine
    assert peak < 64 << 20


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="the package atheris is not installed")
def test_fuzzing_that_follows_the_code(tmp_path):
    """A minute of atheris, which looks for bodies that reach new lines."""
    driver = Path(__file__).parents[1] / "fuzz" / "exchange_answers.py"

    done = subprocess.run(
        [sys.executable, str(driver), "-max_total_time=60", "-max_len=400", f"-artifact_prefix={tmp_path}/"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-3000:]
