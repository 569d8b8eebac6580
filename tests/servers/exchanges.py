"""A server that answers as Binance, Kraken, Coinbase and DefiLlama are documented to.

Prices are a function of market and time alone: see `close`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import attrs
import orjson

from servers.faults import Behaviour, Request, Server, plain, serving

NOW = datetime(2025, 6, 1, 9, 30, 20, tzinfo=UTC)
HOUR, DAY = 3600, 86400
SPANS = {"1h": HOUR, "1d": DAY}
BINANCE = ("USDCUSDT", "DAIUSDT", "BTCUSDT", "USDPUSDT")
KRAKEN = {
    "USDTUSD": "USDTZUSD",
    "USDCUSD": "USDCUSD",
    "DAIUSD": "DAIUSD",
    "XBTUSD": "XXBTZUSD",
    "ETHUSD": "XETHZUSD",
}
COINBASE = ("USDT-USD", "DAI-USD", "BTC-USD")
LLAMA = ("coingecko:tether", "coingecko:usd-coin", "coingecko:dai")
LISTED = int(datetime(2023, 1, 1, tzinfo=UTC).timestamp())


def close(market: str, opened: int) -> str:
    """Return the close of the bar that opened then, as an exchange writes it."""
    x = math.sin(opened * 12.9898e-4 + sum(map(ord, market)) * 78.233) * 43758.5453
    return f"{0.995 + 0.01 * (x - math.floor(x)):.8f}"


class World:
    """One time for both sides, which runs by sleeping alone."""

    def __init__(self, now: datetime = NOW) -> None:
        self.start = now
        self.waits: list[float] = []

    def clock(self) -> float:
        return sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=sum(self.waits))

    def http(self, **options: object) -> dict[str, object]:
        """Return the options of an `HttpClient` that lives in this world."""
        return {"clock": self.clock, "sleep": self.sleep, "uniform": lambda low, high: high, "timeout": 1e9,
                "deadline": 1e9} | options  # fmt: skip


@attrs.define
class Exchanges:
    """The other side. `first` holds behaviours that come before proper answers; `holes` opens without a row."""

    now: Callable[[], datetime]
    first: list[Behaviour] = attrs.field(factory=list)
    holes: frozenset[int] = frozenset()
    unit: int = 1000
    confidence: float = 0.99
    unknown_pairs: frozenset[str] = frozenset()

    def answer(self, request: Request) -> Behaviour:
        """Answer one request."""
        if self.first:
            return self.first.pop(0)
        for pattern, respond in (
            (r"/api/v3/klines", self._klines),
            (r"/api/v3/ticker/price", self._binance_ticker),
            (r"/0/public/OHLC", self._ohlc),
            (r"/0/public/Ticker", self._kraken_ticker),
            (r"/products/([^/]+)/candles", self._candles),
            (r"/products/([^/]+)/ticker", self._coinbase_ticker),
            (r"/chart/(.+)", self._chart),
            (r"/prices/(first|current)/(.+)", self._price),
            (r"/stablecoins", self._stablecoins),
            (r"/stablecoincharts/all", self._supply),
            (r"/v2/historicalChainTvl/(.+)", self._tvl),
        ):
            found = re.fullmatch(pattern, request.path)
            if found:
                return respond(request.query, *found.groups())
        return plain("<html>no such path</html>", 404, "text/html")

    def _seconds(self) -> int:
        return int(self.now().timestamp())

    def _opens(self, low: int, high: int, span: int) -> list[int]:
        """Return the opens of the bars between, the running one included, none before the listing."""
        low = max(-(-low // span) * span, LISTED)
        return [at for at in range(low, min(high, self._seconds()) + 1, span) if at not in self.holes]

    def _klines(self, query: dict[str, str]) -> Behaviour:
        symbol, span = query["symbol"], SPANS[query["interval"]]
        if symbol not in BINANCE:
            return plain(b'{"code":-1121,"msg":"Invalid symbol."}', 400)
        opens = self._opens(int(query["startTime"]) // 1000, int(query["endTime"]) // 1000, span)
        rows = [
            [at * self.unit, "1.0", "1.1", "0.9", close(symbol, at), "9.0", (at + span) * self.unit - 1, "9", 3, "4", "4", "0"]
            for at in opens[: min(int(query.get("limit", "500")), 1000)]
        ]  # fmt: skip
        return json(rows, x_mbx_used_weight_1m="2")

    def _binance_ticker(self, query: dict[str, str]) -> Behaviour:
        symbol = query["symbol"]
        if symbol not in BINANCE:
            return plain(b'{"code":-1121,"msg":"Invalid symbol."}', 400)
        return json({"symbol": symbol, "price": close(symbol, 0)})

    def _ohlc(self, query: dict[str, str]) -> Behaviour:
        pair, span = query["pair"], int(query["interval"]) * 60
        if pair not in KRAKEN or pair in self.unknown_pairs:
            return json({"error": ["EQuery:Unknown asset pair"]})
        opens = self._opens(LISTED, 2**40, span)[-720:]
        rows = [
            [at, "1.0", "1.1", "0.9", close(pair, at), "1.0", "120.5", 321]
            for at in opens
            if at > int(query.get("since", "0"))
        ]
        return json({"error": [], "result": {KRAKEN[pair]: rows, "last": opens[-2]}})

    def _kraken_ticker(self, query: dict[str, str]) -> Behaviour:
        pairs = query["pair"].split(",")
        if any(pair not in KRAKEN or pair in self.unknown_pairs for pair in pairs):
            return json({"error": ["EQuery:Unknown asset pair"]})
        return json({"error": [], "result": {KRAKEN[pair]: {"c": [close(pair, 0), "12.5"]} for pair in pairs}})

    def _candles(self, query: dict[str, str], product: str) -> Behaviour:
        if product not in COINBASE:
            return plain(b'{"message":"NotFound"}', 404)
        span = int(query["granularity"])
        low, high = (int(datetime.fromisoformat(query[name]).timestamp()) for name in ("start", "end"))
        if (high - low) // span + 1 > 300:
            return plain(b'{"message":"granularity too small for the requested time range"}', 400)
        opens = self._opens(low - 2 * span, high, span)  # some precede the start, as documented
        rows = [[at, 0.9, 1.1, 1.0, float(close(product, at)), 5.5] for at in reversed(opens)]
        return json(rows)

    def _coinbase_ticker(self, _query: dict[str, str], product: str) -> Behaviour:
        if product not in COINBASE:
            return plain(b'{"message":"NotFound"}', 404)
        return json(
            {"trade_id": 1, "price": close(product, 0), "size": "1", "time": "2025-06-01T09:30:11.123456Z"}
        )

    def _chart(self, query: dict[str, str], coin: str) -> Behaviour:
        span = SPANS[query["period"]]
        prices = []
        for number in range(min(int(query["span"]), 500)):
            at = int(query["start"]) + number * span
            if LISTED <= at <= self._seconds() and at not in self.holes:
                prices.append({"timestamp": at + (at // span * 5) % 15 - 7, "price": float(close(coin, at))})
        coins = {coin: {"symbol": "X", "confidence": self.confidence, "prices": prices}} if prices else {}
        return json({"coins": coins if coin in LLAMA else {}})

    def _price(self, _query: dict[str, str], which: str, coin: str) -> Behaviour:
        at = LISTED if which == "first" else self._seconds() - 40
        fields = {"symbol": "X", "price": float(close(coin, 0)), "timestamp": at, "confidence": self.confidence}
        return json({"coins": {coin: fields} if coin in LLAMA else {}})

    def _stablecoins(self, _query: dict[str, str]) -> Behaviour:
        assets = [
            {"id": "1", "symbol": "USDT", "gecko_id": "tether", "circulating": {"peggedUSD": 0.5e9}, "price": 0.5},
            {
                "id": "2",
                "symbol": "USDC",
                "gecko_id": "usd-coin",
                "circulating": {"peggedUSD": 1.0},
                "price": None,
            },
            {"id": "77", "symbol": "OLD", "gecko_id": None, "deadFrom": 3},
        ]
        return json({"peggedAssets": assets, "chains": []})

    def _supply(self, query: dict[str, str]) -> Behaviour:
        if query["stablecoin"] not in ("1", "2"):
            return plain("no such stablecoin", 404, "text/plain")
        rows = [
            {
                "date": str(at),
                "totalCirculating": {"peggedUSD": supply(query["stablecoin"], at)},
                "totalCirculatingUSD": {"peggedUSD": supply(query["stablecoin"], at)},  # as if the price were 1
            }
            for at in self._opens(LISTED, 2**40, DAY)
        ]
        return json(rows)

    def _tvl(self, _query: dict[str, str], chain: str) -> Behaviour:
        if chain != "Ethereum":
            return plain("Chain not found", 404, "text/plain")
        rows = [{"date": at, "tvl": supply(chain, at)} for at in self._opens(LISTED, 2**40, DAY)]
        rows[-1]["date"] = self._seconds()  # the last one is of the moment
        return json(rows)


def supply(of: str, at: int) -> float:
    """Return how much there is at the end of the day that begins then."""
    return 1e9 * float(close(of, at))


def json(value: object, **headers: str) -> Behaviour:
    """Answer with JSON."""
    return plain(orjson.dumps(value), **headers)


@contextmanager
def exchanges(world: World | None = None, **options: object) -> Iterator[tuple[Server, Exchanges, World]]:
    """Serve all of them on one port."""
    world = world or World()
    other = Exchanges(now=world.now, **options)
    with serving(other.answer) as server:
        yield server, other, world
