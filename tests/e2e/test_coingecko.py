"""The commands that fetch from CoinGecko, in real processes, against a server on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

import tonsurance_risk as tr
from servers.coingecko import IDS, coingecko

KEY = "CG-CANARY-5b20"
COMMAND = [sys.executable, "-W", "error", "-c", "from tonsurance_risk.cli import main; main()"]
STEP = {"source": "coingecko", "step": "1h"}


def day(days_ago):
    """Return a date, as an argument."""
    return f"{datetime.now(UTC) - timedelta(days=days_ago):%Y-%m-%d}"


def environment(server, tier="pro", key=KEY, **more):
    """Return what a process sees."""
    keys = {"pro": {"COINGECKO_PRO_API_KEY": key}, "demo": {"COINGECKO_DEMO_API_KEY": key}, "keyless": {}}[tier]
    own = {name: value for name, value in os.environ.items() if not name.startswith("COINGECKO")}
    where = {
        "COINGECKO_BASE_URL": f"{server.url}/api/v3",
        "COINGECKO_CALLS_PER_MINUTE": "600000",
        "COLUMNS": "200",
    }
    return own | where | keys | more


def command(folder, server, *arguments, expect=0, **options):
    """Run a command in a folder; the exit code must be as expected."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env=environment(server, **options),
    )  # fmt: skip
    assert expect == done.returncode, done.stdout + done.stderr
    return done


def serving(tier="pro", **options):
    """Return a server of today without a limit of calls."""
    return coingecko(tier=tier, key=KEY, calls_per_minute=1e9, **options)


def prices(path):
    """Return what a database holds."""
    with tr.open_store(f"sqlite:///{path}") as store:
        return store.load_prices(**STEP), store.load_rejects(**STEP)


def everything(folder, *done):
    """Return all that processes printed and left."""
    printed = "".join(process.stdout + process.stderr for process in done)
    return printed.encode() + b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.fault("F113")
@pytest.mark.fault("F009")
def test_backfill(tmp_path):
    """Plan, run, run again; the key is nowhere but in headers."""
    arguments = ("backfill", "--start-date", day(100), "--assets", "DAI,usdc")
    with serving() as (server, _):
        plan = command(tmp_path, server, *arguments, "--dry-run")
        assert [] == server.seen
        done = command(tmp_path, server, *arguments)
        calls = len(server.seen)
        again = command(tmp_path, server, *arguments, "--json")
        assert calls == len(server.seen) == 5
        assert {KEY} == {request.headers["x-cg-pro-api-key"] for request in server.seen}
        assert not any(KEY in request.target for request in server.seen)
    frame, _ = prices(tmp_path / "tonsurance_risk.db")

    assert "5 calls, 5 credits of 100,000 a month" in plan.stdout
    assert "2 assets fetched, 4,802 samples in 5 calls" in done.stdout
    assert ({}, 0) == (json.loads(again.stdout)["fetched"], json.loads(again.stdout)["calls"])
    assert (2401, ["DAI", "USDC"]) == (len(frame), list(frame.columns))
    assert KEY.encode() not in everything(tmp_path, plan, done, again)


@pytest.mark.fault("F009")
@pytest.mark.parametrize("tier", ["keyless", "demo"])
def test_backfill_on_a_free_plan(tmp_path, tier):
    """Needs attention, and names what is out of it: all but 364 days, in whole hours."""
    reached = pd.Timestamp.now(UTC).floor("h") - timedelta(days=364)
    with serving(tier, history_days=365) as (server, _):
        done = command(
            tmp_path, server, "backfill", "--start-date", day(730), "--assets", "DAI", tier=tier, expect=1
        )
    frame, _ = prices(tmp_path / "tonsurance_risk.db")

    left_out = re.search(
        rf"out of the plan's history: DAI from {day(730)}T00:00:00Z to (\S+)$", done.stdout, re.MULTILINE
    )
    # The hour may end while the command runs.
    assert reached <= pd.Timestamp(left_out[1]) <= reached + timedelta(hours=2)
    assert frame.index[0] == pd.Timestamp(left_out[1])
    assert 364 * 24 - 24 <= len(frame) <= 364 * 24


@pytest.mark.fault("F013")
def test_backfill_with_a_bad_asset(tmp_path):
    """Needs attention; the other is there."""
    with serving(unknown=frozenset({IDS["GHO"]})) as (server, _):
        done = command(tmp_path, server, "backfill", "--start-date", day(9), "--assets", "DAI,GHO", expect=1)
    frame, _ = prices(tmp_path / "tonsurance_risk.db")

    assert "GHO is not carried: UnknownAssetError" in done.stdout
    assert ["DAI"] == list(frame.columns)


@pytest.mark.fault("F008")
@pytest.mark.fault("F010")
@pytest.mark.fault("F134")
@pytest.mark.parametrize(
    ("tier", "key", "arguments", "message"),
    [
        ("pro", "wrong", ["--start-date", "2025-01-01"], "10002"),
        ("demo", KEY, ["--start-date", "2025-01-01"], "10011"),
        ("pro", "", ["--start-date", "2025-01-01"], "is empty"),
        ("keyless", "", ["--start-date", "2025-01-01", "--source", "coingecko:pro"], "set COINGECKO_PRO_API_KEY"),
        ("pro", KEY, ["--start-date", "2025-01-01", "--source", "coingecko:gold"], "'gold'"),
        ("pro", KEY, ["--start-date", "2025-13-01"], "--start-date must be a date"),
        ("pro", KEY, ["--start-date", "2199-01-01"], "must be before the end"),
        ("pro", KEY, ["--start-date", "2025-01-01", "--assets", "NONE"], "unknown asset"),
    ],
)
def test_wrong_settings(tmp_path, tier, key, arguments, message):
    """End with 3."""
    with serving() as (server, _):
        done = command(tmp_path, server, "backfill", *arguments, tier=tier, key=key, expect=3)

        assert len(server.seen) <= 1
    assert message in done.stderr
    assert KEY.encode() not in everything(tmp_path, done)


@pytest.mark.slow
@pytest.mark.fault("F067")
def test_backfill_killed_at_any_moment(tmp_path):
    """And started again until it ends: the store is that of an undisturbed run, and no window is paid for twice."""
    arguments = ["backfill", "--start-date", day(200), "--assets", "DAI,USDC,GHO,BTC"]
    with serving() as (server, _):
        command(tmp_path, server, *arguments, "--db", "sqlite:///clean.db")
        undisturbed = len(server.seen)
        kills = 0
        for more in (1, 2, 3, 4, 2, 1):
            process = subprocess.Popen(
                [*COMMAND, *arguments, "--db", "sqlite:///killed.db"], cwd=tmp_path, env=environment(server),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            target = len(server.seen) + more
            while process.poll() is None and len(server.seen) < target:
                time.sleep(0.001)
            time.sleep(0.004 * more)
            kills += process.poll() is None
            process.kill()
            process.wait()
        command(tmp_path, server, *arguments, "--db", "sqlite:///killed.db")
        calls = len(server.seen) - undisturbed
    clean, killed = (prices(tmp_path / name) for name in ("clean.db", "killed.db"))

    assert kills >= 4
    assert clean[0].equals(killed[0])
    assert clean[1].equals(killed[1])
    # A list of coins a start, and the four windows at most that were on their way when it was killed.
    assert calls <= undisturbed + kills * (1 + 4) + 2


def test_the_other_commands(tmp_path):
    """Fetch for themselves, and read what was stored under its name."""
    with serving() as (server, _):
        first = command(
            tmp_path, server, "daily", "--source", "coingecko", "--interval", "1d", "--n", "500", "--json"
        )
        seen = len(server.seen)
        found = command(
            tmp_path,
            server,
            "detect",
            "--source",
            "coingecko:pro",
            "--interval",
            "1d",
            "--assets",
            "DAI",
            "--json",
        )
        assert seen < len(server.seen)
        seen = len(server.seen)
        stored = command(
            tmp_path, server, "correlate", "--db", "sqlite:///tonsurance_risk.db", "--source", "coingecko:pro",
            "--interval", "1d", "--windows", "30", "--json",
        )  # fmt: skip
        fetched = command(
            tmp_path, server, "correlate", "--source", "coingecko", "--interval", "1d", "--assets", "DAI,USDC", "--windows",
            "30", "--json",
        )  # fmt: skip
        assert seen < len(server.seen)
    report = json.loads(first.stdout)

    assert {"DAI", "BTC"} <= set(report["inputs"]["assets"])
    assert [] == json.loads(found.stdout)["events"]
    assert json.loads(stored.stdout)
    assert json.loads(fetched.stdout)
    assert KEY.encode() not in everything(tmp_path, first, found, stored, fetched)
