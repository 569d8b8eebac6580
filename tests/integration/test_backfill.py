"""Backfills through a server that goes wrong, and daily jobs that fetch only what is missing."""

from __future__ import annotations

import logging
import re
import sqlite3
from contextlib import closing
from datetime import timedelta

import pandas as pd
import pytest

import tonsurance_risk as tr
from servers.coingecko import IDS, TRANSIENT
from servers.worlds import KEY, NOW, FastWorld, World, market, source_of
from tonsurance_risk.errors import LockHeldError, SettingsError, SourceUnavailableError
from tonsurance_risk.runner.backfill import plan_backfill, run_backfill
from tonsurance_risk.runner.daily import run_daily
from tonsurance_risk.runner.maintenance import archive_prices
from tonsurance_risk.sources.rate_limit import HostLimits

ASSETS = tuple(IDS)
TWO_YEARS = pd.Timestamp("2023-06-02", tz="UTC")
END = pd.Timestamp("2025-06-01 01:00", tz="UTC")
STEP = {"source": "coingecko", "step": "1h"}


def digest(store):
    """Return all that a store knows of prices and what was none, in order."""
    return (
        store.load_prices(**STEP).to_csv(),
        store.load_rejects(**STEP).drop(columns=["recorded_at"], errors="ignore").to_csv(),
    )


def filled(store, tier="pro", start=TWO_YEARS, assets=None, seed=None, timeout=2.0, **options):
    """Fill a store from a server; return the result, the server and the source."""
    chance = {} if seed is None else {"probability": 0.1, "seed": seed}
    world = FastWorld({"keyless": 40.0, "demo": 40.0, "pro": 20.0}[tier])
    serving, _ = market(world, tier=tier, key=KEY, **{"calls_per_minute": TIER_LIMITS[tier]} | chance | options)
    # A busy machine is slow in fast time.
    with serving as (server, host), source_of(server, world, tier, timeout=timeout, deadline=3000.0) as source:
        result = run_backfill(store, source, assets, start=start, clock=world)
    return result, server, host


TIER_LIMITS = {"keyless": 5, "demo": 30, "pro": 250}


@pytest.fixture(scope="module")
def clean():
    """What a backfill without faults ends with."""
    with tr.open_store("memory://") as store:
        result, _, _ = filled(store)
        return result, digest(store)


def test_without_faults(clean):
    """Two years of 14 assets and BTC, with as many calls as were planned."""
    result, (prices, _) = clean

    assert (15, 136, 136) == (len(result.fetched), result.plan.calls, result.calls)
    assert {730 * 24 + 1} == set(result.fetched.values())
    assert not result.needs_attention
    assert "1.2345" not in re.split(r"[,\n]", prices)  # the point of the call


@pytest.mark.fault("F005")
@pytest.mark.fault("F006")
@pytest.mark.fault("F014")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_faults(clean, seed):
    """A tenth of the answers go wrong, in 15 ways: the end is the same, within budget and limit."""
    undisturbed, stored = clean
    with tr.open_store("memory://") as store:
        result, server, host = filled(store, seed=seed)

        assert stored == digest(store)
    assert {} == result.failed
    assert undisturbed.fetched == result.fetched
    assert len(host.faults) >= 8
    assert len(set(host.faults)) >= 6
    # A busy machine may take an answer for late, or two calls for one too many.
    assert result.plan.calls + len(host.faults) <= result.calls == len(server.seen)
    assert result.calls <= 1.25 * result.plan.calls
    assert host.most_in_a_minute <= 250


@pytest.mark.fault("F009")
@pytest.mark.parametrize("tier", ["keyless", "demo"])
@pytest.mark.parametrize("seed", [None, 3])
def test_on_the_free_plans(tier, seed):
    """364 days are there, the rest is named, and it needs attention."""
    assets = ASSETS[:3]
    with tr.open_store("memory://") as store:
        result, _, host = filled(store, tier, assets=assets, seed=seed, history_days=365)
        prices = store.load_prices(**STEP)
    reached = pd.Timestamp("2024-06-02 01:00", tz="UTC")

    assert {} == result.failed
    assert dict.fromkeys(assets, TWO_YEARS) == {asset: low for asset, (low, _) in result.out_of_history.items()}
    assert all(reached <= high <= reached + timedelta(hours=1) for _, high in result.out_of_history.values())
    assert result.needs_attention
    # The limit of calls makes it last: an hour that was within the plan at first may be out of it at the end.
    assert all(364 * 24 - 1 <= prices[asset].notna().sum() <= 364 * 24 for asset in assets)
    # In fast time a call of a busy machine may be half a minute on its way; `test_http_client` has the exact limit.
    assert host.most_in_a_minute <= 2 * TIER_LIMITS[tier]


def test_what_is_there_is_not_asked_for_again(clean):
    """Nothing at all the second time; a gap the third time, in one call of its length."""
    with tr.open_store("memory://") as store:
        filled(store, assets=["DAI", "USDC"])
        again, server, _ = filled(store, assets=["DAI", "USDC"])
        assert ([], 0) == (server.seen, again.calls)
        assert {} == again.plan.windows


@pytest.mark.fault("F092")
def test_rows_that_were_deleted(tmp_path):
    """Are found, and come back, and nothing else is fetched."""
    path = tmp_path / "risk.db"
    with tr.open_store(f"sqlite:///{path}") as store:
        filled(store, assets=["DAI", "USDC"], start=END - timedelta(days=200))
        before = digest(store)
    low, high = (int(pd.Timestamp(t, tz="UTC").timestamp() * 1e6) for t in ("2025-03-01", "2025-03-04"))
    with closing(sqlite3.connect(path)) as connection, connection:
        gone = connection.execute(
            "delete from price_history where asset = 'DAI' and time >= ? and time < ?", (low, high)
        ).rowcount
    with tr.open_store(f"sqlite:///{path}") as store:
        result, server, _ = filled(store, assets=["DAI", "USDC"], start=END - timedelta(days=200))

        assert before == digest(store)
    assert 72 == gone == result.fetched["DAI"]
    assert ["DAI"] == list(result.plan.windows)
    assert 2 == len(server.seen)  # the list of coins, and one window


@pytest.mark.fault("F046")
@pytest.mark.fault("F056")
def test_what_is_not_there_is_remembered():
    """A coin that was listed later, and points without a price, are not asked for forever."""
    listed = {IDS["GHO"]: int((NOW - timedelta(days=100)).timestamp() * 1000)}
    with tr.open_store("memory://") as store:
        first, _, _ = filled(store, assets=["GHO", "DAI"], listed=listed, nulls=0.01)
        rejects = store.load_rejects(**STEP)
        again, _server, _ = filled(store, assets=["GHO", "DAI"], listed=listed, nulls=0.01)

    assert not first.needs_attention
    recent = [low for windows in again.plan.windows.values() for low, _ in windows]
    assert all(low >= END - timedelta(days=8) for low in recent)
    assert {"not_in_source", "null_price"} == set(rejects["reason"])
    nulls = rejects[rejects["reason"] == "null_price"]
    assert 100 < len(nulls) < 350


@pytest.mark.fault("F046")
def test_what_was_empty_by_mistake_comes_back():
    """A month later it is asked for again: an answer without prices may have been an outage."""
    serving, world = market(tier="pro", key=KEY, calls_per_minute=250)
    start = END - timedelta(days=60)
    with serving as (server, host), source_of(server, world, "pro") as source, tr.open_store("memory://") as store:
        host.corrected = lambda _coin, _low, _high: {"prices": [], "total_volumes": []}
        run_backfill(store, source, ["DAI"], start=start, end=END, clock=world)
        host.corrected = None
        soon = plan_backfill(store, source, ["DAI"], start=start, end=END, clock=world)
        world.sleep(31 * 86400.0)
        result = run_backfill(store, source, ["DAI"], start=start, end=END, clock=world)

    assert END - timedelta(days=8) <= soon.windows["DAI"][0][0]
    assert 60 * 24 == result.fetched["DAI"]


def test_archived_prices_are_no_gap(tmp_path):
    """They are in their files."""
    start = END - timedelta(days=200)
    with tr.open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store:
        filled(store, assets=["DAI"], start=start)
        archive_prices(store, tmp_path / "archive", before=pd.Timestamp("2025-03-01", tz="UTC"))
        held = store.load_prices(**STEP)
        _again, server, _ = filled(store, assets=["DAI"], start=start)

        assert held.equals(store.load_prices(**STEP))
    assert pd.Timestamp("2025-03-01", tz="UTC") == held.index[0]
    assert [] == server.seen


@pytest.mark.fault("F013")
@pytest.mark.fault("F050")
@pytest.mark.fault("F101")
def test_one_bad_asset_stops_no_other():
    """One that is gone, and one whose every call fails."""
    with tr.open_store("memory://") as store:
        result, _, _ = filled(
            store,
            start=END - timedelta(days=100),
            unknown=frozenset({IDS["mkUSD"]}),
            failing=frozenset({IDS["GHO"]}),
        )
    assert ["mkUSD"] == list(result.not_carried)
    assert "UnknownAssetError" in result.not_carried["mkUSD"]
    assert ["GHO"] == list(result.failed)
    assert "HTTP 500" in result.failed["GHO"]
    assert 13 == len(result.fetched)
    assert result.needs_attention


def test_all_bad():
    """Is the first error."""
    with tr.open_store("memory://") as store, pytest.raises(SourceUnavailableError):
        filled(
            store,
            assets=["DAI", "GHO"],
            failing=frozenset({IDS["GHO"], IDS["DAI"]}),
            start=END - timedelta(days=9),
        )


@pytest.mark.fault("F008")
def test_a_key_that_is_refused_stops_all():
    """There is nothing to try with other assets."""
    serving, world = market(tier="pro", key="another")
    with (
        serving as (server, _host),
        source_of(server, world, "pro") as source,
        tr.open_store("memory://") as store,
    ):
        with pytest.raises(SettingsError):
            run_backfill(store, source, start=TWO_YEARS, clock=world)

        assert 1 == len(server.seen)


@pytest.mark.fault("F029")
def test_credits_that_are_used_up():
    """What was paid for is stored; the rest is done next month: 450 are kept for the daily job in June."""
    limits = HostLimits(calls_per_minute=240, burst=10, monthly_credits=500)
    serving, world = market(tier="pro", key=KEY, calls_per_minute=250)
    with serving as (server, _host), source_of(server, world, "pro", limits=limits) as source:
        with tr.open_store("memory://") as store:
            result = run_backfill(store, source, start=TWO_YEARS, clock=world)
            assert 50 == len(server.seen) == result.calls
            assert any("50 of 500 credits" in message for message in result.failed.values())
            rest = plan_backfill(store, source, start=TWO_YEARS, end=END)
        assert 135 - 49 == rest.calls - 1


@pytest.mark.fault("F029")
def test_a_backfill_keeps_credits_for_the_daily_job():
    """What earlier runs used counts, and a call a day and asset is left: 15 of each of the 30 days of June."""
    limits = HostLimits(calls_per_minute=240, burst=10, monthly_credits=540)
    serving, world = market(FastWorld(20.0), tier="pro", key=KEY, calls_per_minute=250)
    job = ("depeg_backfill coingecko 1h", NOW)
    with (
        serving as (server, _host),
        source_of(server, world, "pro", limits=limits, timeout=20.0, deadline=3000.0) as source,
        tr.open_store("memory://", clock=world) as store,
    ):
        store.begin_job(*job)
        store.end_job(*job, details={"source_usage": {"credits": 40}})
        result = run_backfill(store, source, start=TWO_YEARS, clock=world)
        [row] = [row for row in store.load_jobs() if row.job == "backfill coingecko 1h"]

    assert 540 - 40 - 15 * 30 == len(server.seen) == result.calls
    assert row.details["source_usage"]["credits"] == result.calls
    assert any("are kept for the daily job" in message for message in result.failed.values())


@pytest.mark.fault("F093")
def test_one_at_a_time():
    """The second is turned away."""
    with (
        tr.open_store("memory://") as store,
        store.lock("backfill coingecko 1h", NOW.replace(hour=0, minute=0, second=0)),
        pytest.raises(LockHeldError),
    ):
        filled(store)


def test_a_plan_asks_for_nothing():
    """Calls, credits and minutes; what the plan does not reach."""
    serving, world = market()
    with serving as (server, _host), source_of(server, world) as source, tr.open_store("memory://") as store:
        plan = plan_backfill(store, source, start=TWO_YEARS, end=END)

        assert [] == server.seen
    document = plan.to_dict()
    assert (15 * 5 + 1, 15 * 5 + 1, 76 / 4) == (document["calls"], document["credits"], document["minutes"])
    assert 15 == len(document["out_of_history"])


@pytest.mark.parametrize("arguments", [{"step": "5m"}, {"start": END}, {"start": END + timedelta(days=9)}])
def test_a_plan_that_cannot_be(arguments):
    """Is refused."""
    with tr.open_store("memory://") as store, pytest.raises(SettingsError):
        plan_backfill(store, tr.sources.SampleSource(), **{"start": TWO_YEARS, "end": END} | arguments)


def test_a_source_that_counts_no_calls():
    """Is asked for each gap as a whole."""
    source = tr.sources.SampleSource()
    start = source.last - timedelta(days=300)
    with tr.open_store("memory://") as store:
        result = run_backfill(store, source, ["DAI"], start=start, end=source.last)
        again = run_backfill(store, source, ["DAI"], start=start, end=source.last)

    assert (300 * 24, None) == (result.fetched["DAI"], result.calls)
    assert {} == again.fetched


@pytest.mark.fault("F113")
def test_nothing_of_the_key_is_kept(tmp_path, caplog, capfd):
    """Neither in the database, nor in logs at their most talkative, nor in the result."""
    caplog.set_level(logging.DEBUG)
    with tr.open_store(f"sqlite:///{tmp_path / 'risk.db'}") as store:
        result, server, _ = filled(store, seed=5, start=END - timedelta(days=100), assets=["DAI", "USDC", "GHO"])
    printed = capfd.readouterr()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert all(KEY == request.headers["x-cg-pro-api-key"] for request in server.seen)
    assert KEY not in str(result.to_dict()) + caplog.text + printed.out + printed.err
    assert KEY.encode() not in kept
    assert not any(KEY in request.target for request in server.seen)


class TestDaily:
    """What the daily job asks a source for."""

    BOOK = tr.Vault(1e6, [tr.Policy("1", "USDC", 1e5, 0.95, 0.5)])

    def run(self, store, world, server, day, tier="pro", step="1d"):
        with source_of(server, world, tier) as source:
            return run_daily(store, source, self.BOOK, as_of=day, step=step, n=500, clock=world)

    @pytest.mark.fault("F030")
    @pytest.mark.fault("F048")
    @pytest.mark.parametrize("step", ["1d", pytest.param("1h", marks=pytest.mark.slow)])
    def test_only_what_is_missing_and_a_week(self, step):
        """And the end is that of a full fetch; a day that the source corrects is corrected, with its revision."""
        day = pd.Timestamp("2025-05-30", tz="UTC")
        serving, world = market(tier="pro", key=KEY, calls_per_minute=250)
        with serving as (server, host), tr.open_store("memory://") as store, tr.open_store("memory://") as full:
            self.run(store, world, server, day, step=step)
            first = len(server.seen)
            known_at = pd.Timestamp.now(tz="UTC")
            original = host.chart
            at = day - timedelta(days=3)
            last = int(at.timestamp() * 1000)
            place = {"source": "coingecko", "step": step}

            def corrected(coin, low, high):
                found = original(coin, low, high)
                if coin == "dai":
                    found["prices"] = [[t, 0.5 if last - 3_600_000 < t <= last else p] for t, p in found["prices"]]
                return found

            host.corrected = corrected
            second = self.run(store, world, server, day + timedelta(days=1), step=step)
            asked = len(server.seen) - first
            full_result = self.run(full, world, server, day + timedelta(days=1), step=step)
            held, whole = store.load_prices(**place), full.load_prices(**place)
            before = store.load_prices(["DAI"], **place, known_at=known_at)

        assert (15 if step == "1d" else 15 * 9, 15) == (first, asked)
        assert {9 if step == "1d" else 8 * 24 + 1} == set(second.fetched.values())
        assert 0.5 == held.loc[at, "DAI"] != before.loc[at, "DAI"]
        pd.testing.assert_frame_equal(whole, held.loc[whole.index[0] :])
        assert second.document["var_analysis"] == full_result.document["var_analysis"]

    @pytest.mark.fault("F092")
    def test_a_gap_within_the_two_years(self):
        """Is filled on the way."""
        day = pd.Timestamp("2025-05-30", tz="UTC")
        serving, world = market(tier="pro", key=KEY, calls_per_minute=250)
        with serving as (server, _host), tr.open_store("memory://") as full, tr.open_store("memory://") as store:
            self.run(full, world, server, day)
            place = {"source": "coingecko", "step": "1d"}
            whole = full.load_prices(**place)
            torn = whole.copy()
            torn.loc["2024-01-10":"2024-02-10", "USDT"] = float("nan")
            store.save_prices(torn, **place)
            result = self.run(store, world, server, day)

            assert {"USDT"} == {asset for asset, count in result.fetched.items() if count > 8}
            pd.testing.assert_frame_equal(whole, store.load_prices(**place))

    @pytest.mark.fault("F049")
    def test_a_coin_that_is_gone(self):
        """One that had prices fails; one that never had is not carried."""
        day = pd.Timestamp("2025-05-30", tz="UTC")
        serving, world = market(tier="pro", key=KEY, calls_per_minute=250)
        with serving as (server, host), tr.open_store("memory://") as store:
            host.unknown = frozenset({IDS["mkUSD"]})
            self.run(store, world, server, day)
            host.unknown = frozenset({IDS["mkUSD"], IDS["GHO"]})
            result = self.run(store, world, server, day + timedelta(days=1))

        assert ("mkUSD",) == result.not_carried
        assert ["GHO"] == list(result.failed)

    def test_on_a_free_plan(self):
        """A year counts, and the result says so."""
        day = pd.Timestamp("2025-05-30", tz="UTC")
        serving, world = market(calls_per_minute=5, history_days=365)
        with serving as (server, _host), tr.open_store("memory://") as store:
            result = self.run(store, world, server, day, "keyless")

        assert 15 == len(server.seen)
        assert pd.Timestamp("2024-06-02", tz="UTC") < result.history_start <= pd.Timestamp("2024-06-03", tz="UTC")


def test_every_fault_is_one():
    """Of those that the server knows, each alone, one call is got over."""
    for name in TRANSIENT:
        serving, world = market(probability=0.0)
        with serving as (server, host), source_of(server, world, timeout=0.25) as source:
            host.probability, host.broken = 1.0, (name,)
            answers = []
            draw = host.random.random
            host.random.random = lambda draw=draw, answers=answers: (
                answers.append(1) or (0.0 if len(answers) == 1 else 1.0)
            )
            prices = source.fetch("DAI", NOW - timedelta(days=20), NOW - timedelta(days=10))

        assert [name] == host.faults
        assert 240 == len(prices)


def test_the_world_runs():
    """The clock of these tests moves by sleeping."""
    world = World()
    world.sleep(100.0)

    assert 100.0 <= world.clock() < 110.0
