"""Answers of CoinGecko, recorded and made up, to points and errors."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.errors import (
    GranularityError,
    HistoryLimitError,
    PayloadError,
    RateLimitedError,
    SettingsError,
    SourceBlockedError,
    SourceUnavailableError,
    UnknownAssetError,
)
from tonsurance_risk.sources.coingecko_answers import (
    on_grid,
    parse_coins_list,
    parse_error,
    parse_market_chart,
    parse_simple_price,
)
from tonsurance_risk.sources.detail import DETAIL, FetchDetail, Reject

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "coingecko"
needs_recorded = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded answers are not beside the checkout"
)
T0 = 1735689600000  # 2025-01-01
HOUR = 3_600_000


def body(prices, **others):
    """Return a chart as bytes."""
    return json.dumps({"prices": prices, "market_caps": [], "total_volumes": [], **others}).encode()


def at(text):
    """Return an instant."""
    return pd.Timestamp(text, tz="UTC")


def gridded(
    prices, start="2025-01-01", end="2025-01-02", now="2025-02-01", *, span=timedelta(hours=1), live=False
):
    """Return the samples of a chart."""
    chart = parse_market_chart(body(prices))
    return on_grid(
        chart,
        span=span,
        start=at(start),
        end=at(end),
        asked_from=at(start),
        asked_to=at(end),
        now=at(now),
        live=live,
    )


class TestRecorded:
    """Oracle: json.loads and nothing else."""

    @needs_recorded
    @pytest.mark.parametrize("coin", ["bitcoin", "ethereum", "usd-coin"])
    def test_points(self, coin):
        """Each of them, exactly."""
        content = (RECORDED / f"market_chart_{coin}_usd_1825d.json").read_bytes()
        document = json.loads(content)

        chart = parse_market_chart(content)

        assert 1827 == len(chart.times)
        assert document["prices"] == [
            list(point) for point in zip(chart.times.tolist(), chart.prices.tolist(), strict=True)
        ]
        assert document["total_volumes"] == [
            list(p) for p in zip(chart.times.tolist(), chart.volumes.tolist(), strict=True)
        ]
        assert ((), 0) == (chart.rejects, chart.unmatched)

    @needs_recorded
    @pytest.mark.fault("F043")
    @pytest.mark.fault("F044")
    @pytest.mark.parametrize("coin", ["bitcoin", "ethereum", "usd-coin"])
    def test_the_point_of_the_call_is_no_day(self, coin):
        """1826 midnights and the moment of the call."""
        content = (RECORDED / f"market_chart_{coin}_usd_1825d.json").read_bytes()
        points = json.loads(content)["prices"]
        now = pd.Timestamp(points[-1][0], unit="ms", tz="UTC") + timedelta(seconds=30)
        samples = on_grid(
            parse_market_chart(content), span=timedelta(days=1), start=at("2018-01-01"), end=at("2030-01-01"),
            asked_from=at("2018-01-01"), asked_to=now, now=now, live=True,
        )  # fmt: skip

        assert points[:-1] == [[int(t.timestamp() * 1000), p] for t, p in samples["price"].items()]
        assert 1 == samples.attrs[DETAIL].now_points

    @needs_recorded
    @pytest.mark.parametrize(
        ("file", "status", "error"),
        [
            pytest.param(
                "http400_10011_demo_key_on_pro_host.json", 400, SettingsError, marks=pytest.mark.fault("F010")
            ),
            pytest.param("http401_10012_time_range.json", 401, HistoryLimitError, marks=pytest.mark.fault("F009")),
            pytest.param("http404_coin_not_found.json", 404, UnknownAssetError, marks=pytest.mark.fault("F013")),
            ("http429_rate_limit.json", 429, RateLimitedError),
        ],
    )
    def test_errors(self, file, status, error):
        """By their code, and by it alone when they come with 200."""
        content = (RECORDED / "errors" / file).read_bytes()

        assert error is type(parse_error(status, content, {}))
        with pytest.raises(error):
            parse_market_chart(content)
        with pytest.raises(error):
            parse_simple_price(content)
        with pytest.raises(error):
            parse_coins_list(content)


class TestErrors:
    """Five shapes."""

    @pytest.mark.fault("F008")
    @pytest.mark.fault("F010")
    @pytest.mark.fault("F017")
    @pytest.mark.parametrize(
        ("code", "error"),
        [(10002, SettingsError), (10005, SettingsError), (10010, SettingsError), (10011, SettingsError), (401, SettingsError),
         (10012, HistoryLimitError), (403, SourceBlockedError), (1020, SourceBlockedError), (429, RateLimitedError),
         (500, PayloadError), (12345, PayloadError)],
    )  # fmt: skip
    @pytest.mark.parametrize("shape", range(4))
    def test_codes(self, code, error, shape):
        """In each shape that carries one, also with status 200."""
        inner = {"error_code": code, "error_message": "what happened"}
        shapes = [{"error": {"status": inner}}, {"status": inner},
                  {"error_code": code, "status": {"error_message": "what happened"}}, {"error": inner}]  # fmt: skip
        content = json.dumps(shapes[shape]).encode()
        said = parse_error(200, content, {}, tier="demo")

        assert error is type(said)
        assert "what happened" in str(said)
        assert error is not SettingsError or "'demo'" in str(said)
        with pytest.raises(error):
            parse_market_chart(content)

    @pytest.mark.fault("F011")
    @pytest.mark.parametrize(
        ("status", "content", "error"),
        [
            (403, b"<html>Attention Required! | Cloudflare</html>", SourceBlockedError),
            (503, b"", SourceUnavailableError),
            (429, b"<html>", RateLimitedError),
            (401, b'{"error":"unauthorized"}', SettingsError),
            (400, b'{"error":"Missing parameter vs_currencies"}', PayloadError),
            (404, b'{"error":"Incorrect path"}', UnknownAssetError),
            (500, b'{"status":{"error_code":500,"error_message":"x"}}', SourceUnavailableError),
            (404, b"[" * 100_000, UnknownAssetError),
        ],
    )
    def test_status_where_there_is_no_code(self, status, content, error):
        """Also of a page, of nothing, and of a text."""
        assert error is type(parse_error(status, content, {}))


class TestBadBodies:
    """One typed error, and it says where."""

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"<html>", "<html>", marks=pytest.mark.fault("F015")),
            pytest.param(b"", "empty body", marks=pytest.mark.fault("F016")),
            pytest.param(b"{}", "no prices", marks=pytest.mark.fault("F016")),
            pytest.param(b"[]", "no prices", marks=pytest.mark.fault("F016")),
            pytest.param(b'{"Prices": []}', "no prices", marks=pytest.mark.fault("F023")),
            pytest.param(b'{"prices": null}', "prices must be a list", marks=pytest.mark.fault("F023")),
            pytest.param(b'{"prices": {}}', "prices must be a list", marks=pytest.mark.fault("F023")),
            pytest.param(b'{"prices": [[1735689600000, "1.0"]]}', r"prices\[0\]\[1\]", marks=pytest.mark.fault("F024")),
            pytest.param(b'{"prices": [["1735689600000", 1]]}', r"prices\[0\]\[0\]", marks=pytest.mark.fault("F024")),
            (b'{"prices": [[1735689600000, true]]}', r"prices\[0\]\[1\]"),
            (b'{"prices": [[1735689600000, 1, 2]]}', r"prices\[0\] must be"),
            (b'{"prices": [[1735689600000, 1], 5]}', r"prices\[1\] must be"),
            (b'{"prices": [], "total_volumes": 3}', "total_volumes must be a list"),
            pytest.param(b'{"prices": [[1735689600, 1.0]]}', "unit", marks=pytest.mark.fault("F037")),
            pytest.param(b'{"prices": [[1735689600000000, 1.0]]}', "unit", marks=pytest.mark.fault("F037")),
            pytest.param(b'{"prices": [[1735689600000, NaN]]}', "not JSON", marks=pytest.mark.fault("F025")),
            pytest.param(b'{"prices": [[1735689600000, Infinity]]}', "not JSON", marks=pytest.mark.fault("F025")),
            pytest.param(b'{"prices": [[1735689600000, 1e400]]}', "not JSON", marks=pytest.mark.fault("F025")),
            pytest.param(b'{"prices": [[' + b"9" * 5000 + b", 1]]}", "not JSON", marks=pytest.mark.fault("F025")),
            pytest.param(b'{"prices": ' + b"[" * 100_000, "not JSON", marks=pytest.mark.fault("F025")),
            pytest.param(b'{"prices": "\xff"}', "not JSON", marks=pytest.mark.fault("F019")),
        ],
    )  # fmt: skip
    def test_charts(self, content, message):
        """Nothing comes of it."""
        with pytest.raises(PayloadError, match=message) as error:
            parse_market_chart(content)
        assert len(str(error.value)) < 700

    @pytest.mark.fault("F019")
    def test_a_byte_order_mark(self):
        """Is accepted."""
        assert [1.0] == parse_market_chart(b"\xef\xbb\xbf" + body([[T0, 1]])).prices.tolist()

    @pytest.mark.parametrize(
        "content",
        [b"[]", b'{"dai": 1}', b'{"dai": {"usd": "1"}}', b'{"dai": {"usd": 0}}', b'{"dai": {"usd": true}}',
         b'{"dai": {"usd": 1, "last_updated_at": 1735689600000}}', b'{"dai": {"usd": 1, "last_updated_at": "now"}}'],
    )  # fmt: skip
    def test_last_prices(self, content):
        """Milliseconds are refused where seconds belong."""
        with pytest.raises(PayloadError):
            parse_simple_price(content)

    @pytest.mark.parametrize("content", [b"[]", b"{}", b"[1]", b'[{"id": "a"}]', b'[{"id": 1, "symbol": "a"}]'])
    def test_lists_of_coins(self, content):
        """Nothing comes of it."""
        with pytest.raises(PayloadError):
            parse_coins_list(content)


class TestPoints:
    """What is left out, counted."""

    @pytest.mark.fault("F032")
    def test_a_null_price(self):
        """The others stay."""
        chart = parse_market_chart(body([[T0, 1], [T0 + HOUR, None], [T0 + 2 * HOUR, 1.5]]))

        assert [1.0, 1.5] == chart.prices.tolist()
        assert [(at("2025-01-01 01:00"), "null_price", "null")] == [
            (r.time, r.reason, r.raw) for r in chart.rejects
        ]

    @pytest.mark.fault("F033")
    @pytest.mark.parametrize("price", [0, -1, -0.0, -1e300])
    def test_a_price_that_is_not_positive(self, price):
        """Is no depeg to zero."""
        chart = parse_market_chart(body([[T0, 1], [T0 + HOUR, price]]))

        assert [1.0] == chart.prices.tolist()
        assert ["not_positive"] == [reject.reason for reject in chart.rejects]

    @pytest.mark.fault("F040")
    @pytest.mark.fault("F041")
    def test_a_doubled_stamp(self):
        """The last counts; one that differs is kept aside, an equal one is the same."""
        chart = parse_market_chart(body([[T0, 1], [T0, 1], [T0 + HOUR, 0.9], [T0 + HOUR, 0.8], [T0 + HOUR, 0.7]]))

        assert [1.0, 0.7] == chart.prices.tolist()
        assert [("doubled_stamp", "0.9"), ("doubled_stamp", "0.8")] == [(r.reason, r.raw) for r in chart.rejects]

    def test_they_are_not_copied_with_every_column(self):
        """Pandas copies what is in `attrs`; tens of thousands of rejects would take a second each time."""
        frame = pd.DataFrame({"price": [1.0]})
        frame.attrs[DETAIL] = FetchDetail(
            rejects=(Reject(time=at("2025-01-01"), reason="null_price", raw="null"),)
        )

        assert frame.attrs[DETAIL] is frame["price"].attrs[DETAIL]

    def test_order(self):
        """Is that of the stamps."""
        chart = parse_market_chart(body([[T0 + HOUR, 2], [T0, 1]], total_volumes=[[T0, 10], [T0 + HOUR, 20]]))

        assert [1.0, 2.0] == chart.prices.tolist()
        assert [10.0, 20.0] == chart.volumes.tolist()

    @pytest.mark.fault("F042")
    def test_arrays_of_different_length(self):
        """Are joined by stamp, never by place."""
        prices = [[T0, 1], [T0 + HOUR, 2], [T0 + 2 * HOUR, 3]]
        chart = parse_market_chart(
            body(prices, total_volumes=[[T0 + HOUR, 20], [T0 + 2 * HOUR, None], [T0 + 9 * HOUR, 9]])
        )

        np.testing.assert_array_equal([np.nan, 20.0, np.nan], chart.volumes)
        assert 2 == chart.unmatched


class TestGrid:
    """A sample is stamped when it is known, or later; never before."""

    def test_a_point_belongs_to_the_next_hour(self):
        """One on the hour to its own."""
        samples = gridded(
            [[T0, 1.0], [T0 + HOUR + 45_000, 1.1], [T0 + 2 * HOUR + 1, 1.2], [T0 + 4 * HOUR - 1, 1.3]]
        )

        assert {"00:00": 1.0, "02:00": 1.1, "03:00": 1.2, "04:00": 1.3} == {
            f"{time:%H:%M}": price for time, price in samples["price"].items()
        }

    def test_the_last_point_of_an_hour_counts(self):
        """It is the one that is known at the end."""
        samples = gridded(
            [[T0 + 1000, 1.0], [T0 + HOUR - 2000, 1.1], [T0 + HOUR + 5000, 1.2], [T0 + 3 * HOUR, 1.3]]
        )

        assert [1.1, 1.2, 1.3] == samples["price"].tolist()

    @pytest.mark.fault("F043")
    @pytest.mark.fault("F053")
    def test_the_point_of_the_call(self):
        """Is left out, however late the answer was made; a point on the grid is not one."""
        regular = [[T0 + k * HOUR + 30_000, 1.0] for k in range(10)]
        now = "2025-01-01 10:40"
        late = gridded([*regular, [T0 + 9 * HOUR + 1_500_000, 2.0]], now=now, live=True)
        on_time = gridded([*regular, [T0 + 10 * HOUR + 2_399_000, 2.0]], now=now, live=True)
        daily = gridded(
            [[T0, 1.0], [T0 + 24 * HOUR, 1.1]],
            end="2025-01-03",
            now="2025-01-02 00:20",
            live=True,
            span=timedelta(days=1),
        )

        assert {1.0} == set(late["price"]) == set(on_time["price"])
        assert at("2025-01-01 10:00") == late.index[-1] == on_time.index[-1]
        assert 1 == late.attrs[DETAIL].now_points == on_time.attrs[DETAIL].now_points
        assert [1.0, 1.1] == daily["price"].tolist()

    @pytest.mark.fault("F038")
    def test_stamps_in_the_future(self):
        """Two minutes are the clocks; more is rejected."""
        samples = gridded([[T0, 1.0], [T0 + HOUR, 1.1], [T0 + 2 * HOUR, 1.2]], now="2025-01-01 00:59:30")

        assert [1.0] == samples["price"].tolist()
        assert [("future_stamp", "1.2")] == [(r.reason, r.raw) for r in samples.attrs[DETAIL].rejects]

    @pytest.mark.fault("F039")
    def test_stamps_that_were_not_asked_for(self):
        """Are cut off and counted."""
        samples = gridded([[T0 - HOUR, 0.9], [T0, 1.0], [T0 + HOUR, 1.1], [T0 + 25 * HOUR, 1.2]])

        assert [1.0, 1.1] == samples["price"].tolist()
        assert 2 == samples.attrs[DETAIL].outside

    @pytest.mark.fault("F045")
    @pytest.mark.parametrize("minutes", [5, 30, 120, 1440])
    def test_another_step(self, minutes):
        """Nothing is stored under the wrong one."""
        with pytest.raises(GranularityError, match="1:00:00 apart"):
            gridded([[T0 + k * minutes * 60_000, 1.0] for k in range(3)], end="2025-02-01")

    @pytest.mark.fault("F046")
    @pytest.mark.fault("F055")
    def test_gaps_stay_and_leap_days_are_days(self):
        """Nothing is filled."""
        days = pd.DatetimeIndex(["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01", "2024-03-04"], tz="UTC")
        points = [[int(day.timestamp() * 1000), 1.0] for day in days]
        samples = gridded(points, "2024-01-01", "2024-04-01", span=timedelta(days=1))

        assert list(days) == list(samples.index)

    @pytest.mark.fault("F056")
    @pytest.mark.fault("F057")
    @pytest.mark.parametrize("n", [0, 1, 24])
    def test_few_points_and_flat_ones(self, n):
        """Are no error."""
        assert [1.0] * n == gridded([[T0 + k * HOUR, 1] for k in range(n)])["price"].tolist()


@pytest.mark.fault("F051")
def test_symbols_are_not_unique():
    """Ids are."""
    listed = parse_coins_list(b'[{"id":"a","symbol":"x","name":"A"},{"id":"b","symbol":"x","name":"B"}]')

    assert {"a": "x", "b": "x"} == listed
