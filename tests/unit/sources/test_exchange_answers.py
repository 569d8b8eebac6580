"""Answers of exchanges and DefiLlama: what is read, what is rejected, and what is refused as a whole."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tonsurance_risk.errors import (
    GranularityError,
    PayloadError,
    RateLimitedError,
    SourceBlockedError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources import binance, coinbase, kraken
from tonsurance_risk.sources import defillama_answers as defillama
from tonsurance_risk.sources.detail import DETAIL

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "binance"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded answers in {RECORDED}")

HOUR = timedelta(hours=1)
OPEN = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp())
NOW = pd.Timestamp("2025-03-02", tz="UTC")


def kline(opened, price="0.9998", unit=1000, span=3600):
    return [opened * unit, "1", "1", "1", price, "9", (opened + span) * unit - 1, "9", 1, "4", "4", "0"]


def klines(*rows, span=HOUR, now=NOW):
    return binance.parse_klines(json.dumps(rows).encode(), span, now=now)


def candles(*rows, span=HOUR, now=NOW):
    return coinbase.parse_candles(json.dumps(rows).encode(), span, now=now)


def candle(opened, price=0.9998):
    return [opened, 0.0, 9.0, 1.0, price, 5.5]


def ohlc(*rows, key="USDTZUSD", last=2**33, pair="USDTUSD", now=NOW):
    body = {"error": [], "result": {key: list(rows), "last": last}}
    return kraken.parse_ohlc(json.dumps(body).encode(), pair, HOUR, now=now)


def bar(opened, price="0.9998"):
    return [opened, "1", "1", "1", price, "1", "9", 3]


def chart(*points, confidence=0.99, coin="coingecko:dai", now=NOW):
    rows = [{"timestamp": time, "price": price} for time, price in points]
    body = json.dumps({"coins": {coin: {"confidence": confidence, "prices": rows}}}).encode()
    parsed = defillama.parse_chart(body, coin)
    return defillama.on_grid(parsed, timedelta(minutes=10), HOUR, now=now)


def stamped(series):
    return {time.isoformat(): price for time, price in series.items()}


class TestRecordedAnswersOfBinance:
    """The oracle reads the same bytes by hand."""

    @recorded
    def test_klines_of_the_fall_of_luna(self):
        """All 500 bars of 5 minutes, each at its end, to the last digit."""
        body = (RECORDED / "LUNAUSDT_5m_klines.json").read_bytes()
        rows = json.loads(body)
        expected = {datetime.fromtimestamp((row[6] + 1) / 1000, UTC).isoformat(): float(row[4]) for row in rows}

        series = binance.parse_klines(body, timedelta(minutes=5), now=pd.Timestamp("2022-06-01", tz="UTC"))

        assert expected == stamped(series)
        assert 500 == len(series)
        assert series.attrs[DETAIL].rejects == ()

    @recorded
    def test_a_day_of_minutes_of_usdc(self):
        """The public dump has the columns of the answer."""
        text = (RECORDED / "USDCUSDT-1m-2023-03-12.csv").read_text()
        rows = [[int(row[0]), *row[1:6], int(row[6]), *row[7:]] for row in csv.reader(io.StringIO(text))]
        expected = {datetime.fromtimestamp((row[6] + 1) / 1000, UTC).isoformat(): float(row[4]) for row in rows}

        series = klines(*rows, span=timedelta(minutes=1))

        assert expected == stamped(series)
        assert 1440 == len(series)

    @recorded
    def test_asked_for_hours_and_given_minutes(self):
        """Another step than asked for is never stored as the one asked for."""
        body = (RECORDED / "LUNAUSDT_5m_klines.json").read_bytes()

        with pytest.raises(GranularityError, match="a bar of 300000 ms, asked for 3600000"):
            binance.parse_klines(body, HOUR, now=NOW)


VENUES = [
    pytest.param(klines, kline, id="binance"),
    pytest.param(lambda *rows, **kw: candles(*reversed(rows), **kw), candle, id="coinbase"),
    pytest.param(ohlc, bar, id="kraken"),
]


@pytest.mark.parametrize(("parse", "row"), VENUES)
class TestBars:
    """What the three have in common, oldest bar first."""

    def test_a_close_is_stamped_with_the_end_of_its_bar(self, parse, row):
        series = parse(row(OPEN), row(OPEN + 3600, type(row(0)[4])(0.97)))

        assert {"2025-03-01T01:00:00+00:00": 0.9998, "2025-03-01T02:00:00+00:00": 0.97} == stamped(series)

    def test_no_rows_are_no_samples(self, parse, row):
        series = parse()

        assert series.empty
        assert "UTC" == str(series.index.tz)

    @pytest.mark.fault("F053")
    @pytest.mark.parametrize(("seconds", "kept"), [(-1, 1), (0, 1), (59, 1), (60, 2), (7200, 2)])
    def test_the_running_bar_is_left_out(self, parse, row, seconds, kept):
        """Until a minute after its end, as the clocks of two machines differ."""
        now = pd.Timestamp(OPEN + 7200 + seconds, unit="s", tz="UTC")

        series = parse(row(OPEN), row(OPEN + 3600), now=now)

        assert kept == len(series)
        assert 2 - kept == series.attrs[DETAIL].now_points

    @pytest.mark.fault("F037")
    @pytest.mark.parametrize("factor", [1e-3, 1e3, 1e6])
    def test_stamps_of_another_unit_refuse_the_whole_answer(self, parse, row, factor):
        rows = [row(OPEN), row(OPEN + 3600)]
        for each in rows:
            each[0] = int(each[0] * factor)

        with pytest.raises((PayloadError, GranularityError)):
            parse(*rows)

    @pytest.mark.fault("F038")
    def test_stamps_in_the_future_are_rejected(self, parse, row):
        series = parse(row(OPEN), row(OPEN + 5 * 86400))

        assert 1 == len(series)
        assert ["future_stamp"] == [reject.reason for reject in series.attrs[DETAIL].rejects]

    @pytest.mark.fault("F033")
    def test_zero_is_rejected_and_no_depeg(self, parse, row):
        kind = type(row(0)[4])
        series = parse(row(OPEN), row(OPEN + 3600, "0.00000000" if kind is str else 0.0), row(OPEN + 7200))

        assert [0.9998, 0.9998] == series.tolist()
        [reject] = series.attrs[DETAIL].rejects
        assert ("not_positive", pd.Timestamp(OPEN + 7200, unit="s", tz="UTC")) == (reject.reason, reject.time)

    @pytest.mark.fault("F040")
    def test_the_same_row_twice_is_one(self, parse, row):
        series = parse(row(OPEN), row(OPEN), row(OPEN + 3600))

        assert 2 == len(series)
        assert () == series.attrs[DETAIL].rejects

    @pytest.mark.fault("F041")
    def test_the_last_of_two_at_one_stamp_holds(self, parse, row):
        kind = type(row(0)[4])
        series = parse(row(OPEN, kind(0.97)), row(OPEN, kind(0.98)))

        assert [0.98] == series.tolist()
        assert [("doubled_stamp", "0.97")] == [
            (reject.reason, reject.raw) for reject in series.attrs[DETAIL].rejects
        ]

    @pytest.mark.fault("F045")
    def test_days_for_hours_are_refused(self, parse, row):
        rows = [row(OPEN - day * 86400) for day in (3, 2, 1, 0)]
        if parse is klines:
            rows = [kline(OPEN - day * 86400, span=86400) for day in (3, 2, 1, 0)]

        with pytest.raises(GranularityError, match=r"1 day, 0:00:00|a bar of 86400000 ms"):
            parse(*rows)

    @pytest.mark.fault("F045")
    def test_minutes_for_hours_are_refused(self, parse, row):
        with pytest.raises(GranularityError):
            parse(row(OPEN), row(OPEN + 300), row(OPEN + 600))

    @pytest.mark.fault("F046")
    def test_a_hole_stays_a_hole(self, parse, row):
        series = parse(row(OPEN), row(OPEN + 3600), row(OPEN + 5 * 3600))

        assert 3 == len(series)

    @pytest.mark.fault("F023")
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda row: row[:4], id="too short"),
            pytest.param(lambda row: [None, *row[1:]], id="no time"),
            pytest.param(lambda row: [str(row[0]), *row[1:]], id="time as text"),
            pytest.param(lambda row: [True, *row[1:]], id="time as truth"),
            pytest.param(lambda row: [*row[:4], None, *row[5:]], id="no close"),
            pytest.param(lambda row: [*row[:4], [], *row[5:]], id="close as a list"),
            pytest.param(lambda row: {"time": row[0]}, id="an object"),
        ],
    )
    def test_another_shape_is_refused(self, parse, row, change):
        with pytest.raises(PayloadError, match="must be"):
            parse(row(OPEN), change(row(OPEN + 3600)))

    @pytest.mark.fault("F024")
    def test_numbers_as_text_and_text_as_numbers(self, parse, row):
        """Each exchange writes prices in one of the two ways; the other one is another interface."""
        other = 0.9998 if isinstance(row(0)[4], str) else "0.9998"

        with pytest.raises(PayloadError, match=r"closes\[0\] must be"):
            parse(row(OPEN, other))


@pytest.mark.fault("F024")
@pytest.mark.parametrize(
    "text", ["nan", "inf", "1e5", "-1", "+1", " 1", "1_0", "0x1", "", ".5", "1.", "٣", "9" * 400]
)
def test_only_plain_decimals_are_prices(text):
    with pytest.raises(PayloadError, match="must be a text such as"):
        klines(kline(OPEN, text))


def test_binance_in_microseconds():
    """By the header that nobody sends, and in the dumps since 2025."""
    series = klines(kline(OPEN, unit=1_000_000), kline(OPEN + 3600, unit=1_000_000))

    assert ["2025-03-01T01:00:00+00:00", "2025-03-01T02:00:00+00:00"] == list(stamped(series))


@pytest.mark.fault("F037")
def test_binance_in_both_units_at_once():
    with pytest.raises((PayloadError, GranularityError)):
        klines(kline(OPEN), kline(OPEN + 3600, unit=1_000_000))


def test_coinbase_has_the_low_and_the_high_first():
    """A row in the usual order, with the open as the second, is seen where the close is beyond its high."""
    with pytest.raises(PayloadError, match=r"\[time, low, high, open, close, volume\]"):
        candles([OPEN, 1.0, 0.98, 0.9, 0.97, 5.5])


@pytest.mark.fault("F025")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[[NaN]]",
        b"[Infinity]",
        b"[1e400]",
        b"[" + b"9" * 5000 + b"]",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"\xff\xfe",
        b'{"coins": {"coingecko:dai": ' + b'{"a":' * 5000 + b"}" * 5002,
        b"<html>",
        b"null",
        b"{}",
        b"[[]]",
        b"[null]",
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize(
    "parse",
    [
        pytest.param(partial(binance.parse_klines, span=HOUR, now=NOW), id="klines"),
        pytest.param(partial(binance.parse_ticker, symbol="USDCUSDT"), id="binance ticker"),
        pytest.param(partial(coinbase.parse_candles, span=HOUR, now=NOW), id="candles"),
        pytest.param(coinbase.parse_ticker, id="coinbase ticker"),
        pytest.param(partial(kraken.parse_ohlc, pair="USDTUSD", span=HOUR, now=NOW), id="ohlc"),
        pytest.param(partial(kraken.parse_ticker, pairs=["USDTUSD"], now=NOW), id="kraken ticker"),
        pytest.param(partial(defillama.parse_chart, coin="coingecko:dai"), id="chart"),
        pytest.param(partial(defillama.parse_first, coin="coingecko:dai"), id="first"),
        pytest.param(partial(defillama.parse_price, coin="coingecko:dai"), id="price"),
        pytest.param(defillama.parse_stablecoin_ids, id="ids"),
        pytest.param(partial(defillama.parse_supply, now=NOW), id="supply"),
        pytest.param(partial(defillama.parse_chain_tvl, now=NOW), id="tvl"),
    ],
)
def test_what_is_no_answer_is_a_payload_error(parse, body):
    with pytest.raises(PayloadError):
        parse(body)


class TestKraken:
    """Its envelope, its keys, its errors under HTTP 200."""

    @pytest.mark.fault("F027")
    @pytest.mark.parametrize(
        ("pair", "key"),
        [("USDTUSD", "USDTZUSD"), ("XBTUSD", "XXBTZUSD"), ("ETHUSD", "XETHZUSD"), ("DAIUSD", "DAIUSD")],
    )
    def test_an_answer_under_another_key(self, pair, key):
        assert [0.9998] == ohlc(bar(OPEN), key=key, pair=pair).tolist()

    @pytest.mark.fault("F028")
    @pytest.mark.parametrize("key", ["USDCUSD", "TUSD", "TUSDUSD", "USDTEUR", "ZUSD", ""])
    def test_an_answer_of_another_pair_is_refused(self, key):
        with pytest.raises(PayloadError, match="asked for USDTUSD"):
            ohlc(bar(OPEN), key=key)

    @pytest.mark.fault("F053")
    def test_only_up_to_the_last_finished_bar(self):
        """Whatever this machine's clock says."""
        series = ohlc(bar(OPEN), bar(OPEN + 3600), bar(OPEN + 7200), last=OPEN + 3600)

        assert 2 == len(series)

    @pytest.mark.fault("F017")
    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            ("EQuery:Unknown asset pair", UnknownAssetError),
            ("EAPI:Rate limit exceeded", RateLimitedError),
            ("EGeneral:Too many requests", RateLimitedError),
            ("EService:Throttled: soon", RateLimitedError),
            ("EService:Unavailable", SourceUnavailableError),
            ("EService:Busy", SourceUnavailableError),
            ("EGeneral:Invalid arguments", PayloadError),
            ("E\x00Nothing that is known", PayloadError),
        ],
    )
    def test_errors_under_http_200(self, said, kind):
        with pytest.raises(kind) as caught:
            kraken.parse_result(json.dumps({"error": [said]}).encode(), now=NOW)

        assert type(caught.value) is kind

    @pytest.mark.fault("F017")
    def test_throttled_until_a_time(self):
        until = int(NOW.timestamp()) + 42
        with pytest.raises(RateLimitedError) as caught:
            kraken.parse_result(json.dumps({"error": [f"EService:Throttled: {until}"]}).encode(), now=NOW)

        assert 42.0 == caught.value.retry_after

    @pytest.mark.fault("F028")
    def test_a_ticker_without_the_pair(self):
        body = b'{"error": [], "result": {"USDCUSD": {"c": ["1.0", "2"]}}}'
        with pytest.raises(PayloadError, match="asked for USDTUSD"):
            kraken.parse_ticker(body, ["USDTUSD"], now=NOW)


class TestErrorsOfBinance:
    """Their type decides what the client does."""

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (400, b'{"code":-1121,"msg":"Invalid symbol."}', UnknownAssetError),
            (400, b'{"code":-1100,"msg":"Illegal characters."}', PayloadError),
            (429, b'{"code":-1003,"msg":"Too many requests."}', RateLimitedError),
            (429, b"", RateLimitedError),
            (403, b"<html>", SourceBlockedError),
            pytest.param(
                451, b'{"code":0,"msg":"restricted location"}', SourceBlockedError, marks=pytest.mark.fault("F012")
            ),
            (502, b"<html>", SourceUnavailableError),
            (500, b'{"code":-1000,"msg":"unknown"}', SourceUnavailableError),
        ],
    )
    def test_by_code_and_by_status(self, status, body, kind):
        assert type(binance.explain(status, body, {})) is kind

    @pytest.mark.parametrize(("given", "wait"), [("120", 120.0), (None, 259_200.0), ("soon", 259_200.0)])
    def test_a_ban_is_waited_out(self, given, wait):
        """Without a time it is the longest: going on makes it longer."""
        error = binance.explain(418, b"", {} if given is None else {"retry-after": given})

        assert isinstance(error, RateLimitedError)
        assert wait == error.retry_after

    @pytest.mark.fault("F028")
    def test_a_ticker_of_another_symbol(self):
        with pytest.raises(PayloadError, match="asked for USDCUSDT"):
            binance.parse_ticker(b'{"symbol": "DAIUSDT", "price": "1.0"}', "USDCUSDT")


class TestDefiLlama:
    """Points beside the grid, confidence, supplies."""

    def test_points_wander_on_both_sides(self):
        series = chart((OPEN - 7, 0.97), (OPEN + 3607, 0.98), (OPEN + 7200, 0.99))

        assert [0.97, 0.98, 0.99] == series.tolist()
        assert [0, 1, 2] == series.index.hour.tolist()

    def test_the_nearest_of_several_holds(self):
        assert [0.98] == chart((OPEN - 300, 0.97), (OPEN + 20, 0.98), (OPEN + 400, 0.99)).tolist()

    @pytest.mark.fault("F046")
    def test_far_from_the_grid_is_no_sample(self):
        assert [0.98] == chart((OPEN, 0.98), (OPEN + 3600 + 700, 0.99)).tolist()

    @pytest.mark.fault("F032")
    def test_null_is_rejected(self):
        series = chart((OPEN, None), (OPEN + 3600, 0.99))

        assert [0.99] == series.tolist()
        assert ["null_price"] == [reject.reason for reject in series.attrs[DETAIL].rejects]

    def test_prices_of_low_confidence_are_rejected(self):
        series = chart((OPEN, 0.98), (OPEN + 3600, 0.99), confidence=0.4)

        assert series.empty
        assert ["low_confidence"] * 2 == [reject.reason for reject in series.attrs[DETAIL].rejects]

    def test_a_coin_that_is_not_there(self):
        """Left out of the answer without a word."""
        assert defillama.parse_chart(b'{"coins": {}}', "coingecko:dai") is None

    @pytest.mark.fault("F028")
    def test_another_coin_is_not_that_coin(self):
        body = b'{"coins": {"coingecko:usd-coin": {"prices": []}}}'
        assert defillama.parse_chart(body, "coingecko:dai") is None

    @pytest.mark.fault("F052")
    def test_the_total_in_dollars_is_never_read(self):
        """There a price that is missing is 1."""
        row = {
            "date": str(OPEN - 86400),
            "totalCirculating": {"peggedUSD": 5e9},
            "totalCirculatingUSD": {"peggedUSD": 1},
        }
        series = defillama.parse_supply(json.dumps([row]).encode(), now=NOW)

        assert {"2025-03-01T00:00:00+00:00": 5e9} == stamped(series)

    def test_a_day_without_an_amount(self):
        rows = [
            {"date": OPEN - 86400, "totalCirculating": {}},
            {"date": str(OPEN - 2 * 86400), "totalCirculating": {"peggedUSD": 7}},
        ]
        series = defillama.parse_supply(json.dumps(rows).encode(), now=NOW)

        assert [7.0] == series.tolist()

    def test_two_pegs_are_refused(self):
        row = {"date": OPEN, "totalCirculating": {"peggedUSD": 1, "peggedEUR": 2}}
        with pytest.raises(PayloadError, match="one peg"):
            defillama.parse_supply(json.dumps([row]).encode(), now=NOW)
