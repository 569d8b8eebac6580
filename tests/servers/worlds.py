"""A CoinGecko source, the server that it asks, and one time for both."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from servers.coingecko import coingecko
from tonsurance_risk.sources.coingecko import CoinGeckoSource

KEY = "CG-CANARY-77e1"
NOW = datetime(2025, 6, 1, 0, 50, 13, tzinfo=UTC)


class World:
    """One time for both sides: it runs by itself, and by sleeping."""

    def __init__(self):
        self.begun = time.monotonic()
        self.slept = 0.0
        self._lock = threading.Lock()

    def clock(self):
        return time.monotonic() - self.begun + self.slept

    def sleep(self, seconds):
        until = self.clock() + seconds
        with self._lock:  # those who wait at once wait for the longest, not for the sum
            self.slept += max(0.0, until - self.clock())

    def now(self):
        return NOW + timedelta(seconds=self.clock())


class FastWorld(World):
    """A time that runs faster, for threads: who waits less wakes first."""

    def __init__(self, times=50.0):
        super().__init__()
        self.times = times

    def clock(self):
        return (time.monotonic() - self.begun) * self.times

    def sleep(self, seconds):
        time.sleep(seconds / self.times)


def source_of(server, world, tier="keyless", *, api_key=None, timeout=5.0, deadline=300.0, **options):
    http = {"clock": world.clock, "sleep": world.sleep, "timeout": timeout, "deadline": deadline}
    return CoinGeckoSource(
        tier=tier, api_key=KEY if tier != "keyless" and api_key is None else api_key, base_url=server.url + "/api/v3",
        clock=world, environment={}, http=http, **options,
    )  # fmt: skip


def market(world=None, **options):
    """Return a server of that time."""
    world = world or World()
    return coingecko(now=world.now, **options), world
