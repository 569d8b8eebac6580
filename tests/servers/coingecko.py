"""A server that answers as CoinGecko is documented to: plans, steps, limits, quirks, and faults by chance.

Prices are a function of coin and time alone, so that every run sees the same market.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import orjson

from servers import faults
from servers.faults import Behaviour, Request, Server, plain
from tonsurance_risk.assets import STABLECOINS

IDS = {asset.symbol: asset.coingecko_id for asset in STABLECOINS} | {"BTC": "bitcoin"}
HOUR, DAY = 3_600_000, 86_400_000

TRANSIENT: Mapping[str, Callable[[bytes], Behaviour]] = {
    "429 with a wait": lambda _body: limited(retry_after="7"),
    "429 without": lambda _body: limited(),
    "500": lambda _body: plain("oops", 500, "text/plain"),
    "502 as a page": lambda _body: faults.html(502),
    "503": lambda _body: plain("", 503, retry_after="3"),
    "504": lambda _body: plain("", 504),
    "408": lambda _body: plain("", 408),
    "a page": lambda _body: faults.html(200),
    "empty": lambda _body: plain(b""),
    "reset": lambda _body: faults.reset(),
    "truncated": faults.truncated,
    "silently truncated": faults.silently_truncated,
    "cut gzip": faults.cut_gzip,
    "hangs": lambda _body: faults.hang(),
    "drips": lambda _body: faults.drip(),
}
"""Faults that a second try gets over, by name."""


def limited(**headers: str) -> Behaviour:
    """Refuse for too many calls."""
    return plain(orjson.dumps({"status": {"error_code": 429, "error_message": "too many"}}), 429, **headers)


def refused(status: int, code: int, message: str) -> Behaviour:
    """Refuse with a code, in the shape in which that code was seen."""
    wrapped = {"status": {"error_code": code, "error_message": message}}
    body = {
        10012: {"error": wrapped},
        10010: {"error_code": code, "status": {"error_message": message}},
        10011: {"error_code": code, "status": {"error_message": message}},
    }.get(code, wrapped)
    return plain(orjson.dumps(body), status)


@attrs.define
class CoinGecko:
    """The other side: what it knows, grants, and how often it goes wrong.

    `listed` has the first instant of a coin in milliseconds; `broken` the faults to come by chance; `nulls` a share
    of points without a price.
    """

    tier: str = "keyless"
    key: str | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    calls_per_minute: float = 30.0
    history_days: int | None = None
    probability: float = 0.0
    broken: Sequence[str] = tuple(TRANSIENT)
    seed: int = 0
    nulls: float = 0.0
    listed: Mapping[str, int] = attrs.field(factory=dict)
    unknown: frozenset[str] = frozenset()
    failing: frozenset[str] = frozenset()
    corrected: Callable[[str, int, int], dict[str, list[list[float | None]]]] | None = None
    recent: deque[datetime] = attrs.field(factory=deque)
    most_in_a_minute: int = 0
    faults: list[str] = attrs.field(factory=list)
    random: random.Random = attrs.field(
        default=attrs.Factory(lambda self: random.Random(self.seed), takes_self=True)
    )

    def answer(self, request: Request) -> Behaviour:
        """Answer one request."""
        path = request.path.removeprefix("/api/v3")
        refusal = self._limit() or self._refused_key(request)
        if refusal is not None:
            return refusal
        found = re.fullmatch(r"/coins/([a-z0-9-]+)/market_chart(/range)?", path)
        if path == "/coins/list":
            coins = [{"id": coin, "symbol": symbol.lower(), "name": symbol} for symbol, coin in IDS.items()]
            coins += [{"id": "binance-peg-busd", "symbol": "busd", "name": "Binance-Peg BUSD"}]
            body = orjson.dumps([coin for coin in coins if coin["id"] not in self.unknown])
        elif path == "/simple/price":
            body = self._last(request.query)
        elif found:
            coin = found[1]
            if coin in self.unknown or coin not in IDS.values():
                return plain(b'{"error":"coin not found"}', 404)
            if coin in self.failing:
                return plain("oops", 500)
            low, high = self._interval(request.query)
            if self.history_days is not None and low < self._now() - self.history_days * DAY:
                return refused(401, 10012, "Your request exceeds the allowed time range.")
            body = orjson.dumps((self.corrected or self.chart)(coin, low, high))
        else:
            return plain(b'{"error":"Incorrect path. Please check https://www.coingecko.com/api/"}', 404)
        if self.random.random() < self.probability:
            name = self.random.choice(self.broken)
            self.faults.append(name)
            return TRANSIENT[name](body)
        return faults.zipped(body) if "gzip" in request.headers.get("accept-encoding", "") else plain(body)

    def chart(self, coin: str, low: int, high: int) -> dict[str, list[list[float | None]]]:
        """Return points of ``[low, high]`` milliseconds, in the step that the length decides."""
        now = self._now()
        length = high - low
        live = high >= now - HOUR
        if length > 90 * DAY:
            stamps = np.arange(-(-low // DAY) * DAY, min(high, now) + 1, DAY)
        elif length <= DAY and live:
            stamps = np.arange(-(-low // 300_000) * 300_000, min(high, now) + 1, 300_000)
        else:
            hours = np.arange(low // HOUR * HOUR, high + 1, HOUR)
            stamps = hours + 1 + (unlike(coin, hours) * 240_000).astype(np.int64)
        stamps = stamps[(stamps >= max(low, self.listed.get(coin, 0))) & (stamps <= min(high, now))]
        points = list(map(list, zip(stamps.tolist(), price(coin, stamps).tolist(), strict=True)))
        volumes = list(map(list, zip(stamps.tolist(), (unlike(coin, stamps) * 1e9).tolist(), strict=True)))
        for place in np.flatnonzero(unlike(coin + "null", stamps) < self.nulls):
            points[place][1] = None
        if live and points:
            late = int(now - self.random.randrange(1, 1_800_000))
            if late > points[-1][0]:  # a cached answer
                points.append([late, 1.2345])
        return {
            "prices": points,
            "market_caps": [[t, None] for t, _ in points[:-1]],
            "total_volumes": volumes[:-1],
        }

    def _now(self) -> int:
        return int(self.now().timestamp() * 1000)

    def _interval(self, query: Mapping[str, str]) -> tuple[int, int]:
        if "days" in query:
            return self._now() - int(query["days"]) * DAY, self._now()
        return int(query["from"]) * 1000, int(query["to"]) * 1000

    def _last(self, query: Mapping[str, str]) -> bytes:
        seconds = self._now() // 1000
        wanted = [coin for coin in query["ids"].split(",") if coin in IDS.values() and coin not in self.unknown]
        return orjson.dumps({
            coin: {"usd": float(price(coin, np.array([seconds * 1000]))[0]), "last_updated_at": seconds} for coin in wanted
        })  # fmt: skip

    def _limit(self) -> Behaviour | None:
        now = self.now()
        while self.recent and self.recent[0] <= now - timedelta(minutes=1):
            self.recent.popleft()
        self.recent.append(now)
        self.most_in_a_minute = max(self.most_in_a_minute, len(self.recent))
        return limited(retry_after="60") if len(self.recent) > self.calls_per_minute else None

    def _refused_key(self, request: Request) -> Behaviour | None:
        demo, pro = (request.headers.get(f"x-cg-{plan}-api-key") for plan in ("demo", "pro"))
        if self.tier == "pro" and demo is not None:
            return refused(400, 10011, "please change your root URL from pro-api.coingecko.com")
        if self.tier != "pro" and pro is not None:
            return refused(400, 10010, "please change your root URL from api.coingecko.com")
        given = pro if self.tier == "pro" else demo
        if (self.tier == "pro" or given is not None) and given != self.key:
            return refused(401, 10002, f"API Key Missing: {given}")
        return None


def unlike(coin: str, stamps: np.ndarray) -> np.ndarray:
    """Return numbers in [0, 1) that look random and depend on coin and stamp alone."""
    x = np.sin(stamps / 1000.0 * 12.9898 + sum(map(ord, coin)) * 78.233) * 43758.5453
    return x - np.floor(x)


def price(coin: str, stamps: np.ndarray) -> np.ndarray:
    """Return the price [USD] at instants in milliseconds."""
    level = 60_000.0 if coin == "bitcoin" else 1.0
    wave = 0.002 * np.sin(stamps / DAY + len(coin)) + 0.001 * (unlike(coin, stamps) - 0.5)
    return level * (1.0 + wave * (20.0 if coin == "bitcoin" else 1.0))


@contextmanager
def coingecko(**options: object) -> Iterator[tuple[Server, CoinGecko]]:
    """Serve until the block ends; the base URL is ``server.url + "/api/v3"``."""
    host = CoinGecko(**options)
    with faults.serving(host.answer) as server:
        yield server, host
