"""The catalogue of known depegs: complete, sourced, sane, and in the wheel."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import attrs
import pandas as pd
import pytest

from tonsurance_risk.inputs import KnownDepeg, known_depegs

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "reference" / "depeg_events.csv"


def the_one(asset: str, venue: str, start: str) -> KnownDepeg:
    """Return the only row of an asset, venue and start."""
    time = pd.Timestamp(start, tz="UTC")
    [found] = [d for d in known_depegs() if (d.asset, d.venue, d.start) == (asset, venue, time)]
    return found


def test_how_many():
    """At least 50 distinct starts, all of high or medium confidence."""
    depegs = known_depegs()

    assert len({(d.asset, d.start.date()) for d in depegs}) >= 50
    assert {"high": 66, "medium": 52} == Counter(d.confidence for d in depegs)


def test_every_row_is_sourced_and_none_is_doubled():
    """A link a row; the fields of two rows are never all equal."""
    depegs = known_depegs()

    assert all("https://" in d.source for d in depegs)
    assert len(depegs) == len(set(depegs))
    assert all(field == field.strip() for d in depegs for field in (d.asset, d.venue, d.cause, d.source))


def test_prices_are_sane():
    """Lows below the peg and highs above it, where there are any."""
    depegs = known_depegs()

    assert all(0.0 < d.min_price < 1.0 for d in depegs if d.min_price is not None)
    assert all(1.0 < d.max_price < 1.3 for d in depegs if d.max_price is not None)
    assert ["IRON", "PYUSD"] == [d.asset for d in depegs if d.min_price is None and d.max_price is None]


def test_times_are_utc_and_in_order():
    """Ends come after starts, rows by asset and start."""
    depegs = known_depegs()

    assert all(str(d.start.tz) == "UTC" for d in depegs)
    assert all(d.end > d.start for d in depegs if d.end is not None and d.end_precision == "second")
    assert all((d.end is None) == (d.end_precision is None) for d in depegs)
    assert sorted((d.asset, d.start) for d in depegs) == [(d.asset, d.start) for d in depegs]


def test_a_row_in_full():
    """USDC on the weekend of Silicon Valley Bank, as Chainlink saw it."""
    svb = the_one("USDC", "Chainlink (Arbitrum)", "2023-03-11T01:54:03")

    assert pd.Timestamp("2023-03-13T15:43:24Z") == svb.end
    assert (0.88088, None, "below", "high") == (svb.min_price, svb.max_price, svb.direction, svb.confidence)
    assert ("second", "second") == (svb.start_precision, svb.end_precision)
    assert "Silicon Valley Bank" in svb.cause


@pytest.mark.parametrize(
    ("asset", "venue", "start", "precision", "direction"),
    [
        ("USDC", "Chainlink (Arbitrum)", "2022-05-11T12:47:52", "second", "above"),
        ("DAI", "Kraken", "2020-03-12", "day", "above"),
        ("LUSD", "CoinMarketCap aggregate", "2021-05-19", "day", "below"),  # a low and a high
        ("IRON", "", "2021-06-16", "day", "below"),  # neither
        ("YU (Yala)", "market price as reported", "2025-11-01", "month", "below"),
    ],
)
def test_direction_and_precision(asset, venue, start, precision, direction):
    """A premium has a high and no low; a month begins on its first day."""
    depeg = the_one(asset, venue, start)

    assert (precision, direction) == (depeg.start_precision, depeg.direction)


def test_to_dict_keeps_the_precision_and_is_json():
    """A month stays a month."""
    document = the_one("YU (Yala)", "market price as reported", "2025-11-01").to_dict()

    assert ("2025-11", None, "below") == (document["start"], document["end"], document["direction"])
    assert json.loads(json.dumps(document)) == document


def test_the_catalogue_cannot_be_changed():
    """Neither a record nor, through the list, the next answer."""
    depegs = known_depegs()
    first = depegs.pop(0)

    assert first == known_depegs()[0]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        first.asset = "other"


@pytest.mark.skipif(not SHARED.is_file(), reason="the shared reference is not beside the checkout")
def test_it_says_what_the_reference_says():
    """Every row of high or medium confidence, cell by cell; no other one."""
    with SHARED.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["confidence"] != "low"]

    documents = [d.to_dict() for d in known_depegs()]

    def cell(value, number=float):
        return number(value) if value else None

    assert Counter(
        (
            r["asset"], r["start_utc"], cell(r["end_utc"], str), cell(r["min_price"]), cell(r["max_price"]),
            r["venue_or_index"], r["cause"], r["source"], r["confidence"],
        )
        for r in rows
    ) == Counter(
        (
            d["asset"], d["start"], d["end"], d["min_price"], d["max_price"],
            d["venue"], d["cause"], d["source"], d["confidence"],
        )
        for d in documents
    )  # fmt: skip


@pytest.mark.slow
def test_the_wheel_holds_the_catalogue(tmp_path):
    """Built as a user's pip builds it; the build tool must be there already."""
    pytest.importorskip("hatchling")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")

    with zipfile.ZipFile(wheel) as archive:
        content = archive.read("tonsurance_risk/catalogue/known_depegs.csv").decode()

    assert len(known_depegs()) + 1 == len(content.splitlines())
