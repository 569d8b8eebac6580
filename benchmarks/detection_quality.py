"""Print what detection finds: against a catalogue of known depegs on real prices, and in random markets.

Usage: python benchmarks/detection_quality.py [--prices FOLDER] [--catalogue CSV] [--seeds N] [--removed]

1. A row a file and coin: the known depegs (confidence high or medium) that lie in the span of the file, how many
   of them an event was found for, which are missed, and the extra events, without and with the price checks. An
   event matches a known depeg of the same coin and direction when they are at most a day apart. Many known
   depegs cannot be seen at the sampling of a file, and an extra event may well be real: the table counts, it does
   not judge. ``--removed`` lists the events that the checks remove or change.
2. Random markets, one a seed: six coins hourly over 60 days, AR(1) noise of 25 basis points (coefficient 0.9);
   coin 0 has one depeg of random depth (1 % to 15 %, at once, constant) and length (1 to 72 hours); all coins but
   coin 0 have one vendor print of the same size (1.5 % to 6 %, 1 to 20 hours). The threshold, 0.99, lies four
   standard deviations of the noise below the peg: "the noise" is that reach, 1 %, and "deeper than twice the
   noise" a depth above 2 %. Recall is the share of the depegs that an event of coin 0 overlaps; a false event is
   one that overlaps no depeg. Both use the default rule with one hour as the span of a sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import lfilter

import tonsurance_risk as tr

SHARED = Path(__file__).resolve().parents[2] / "shared"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PANELS = {"_1d.csv": DAY, "_1d_defillama.csv": DAY, "_1h.csv": HOUR}
SINGLE = {"_chainlink.csv": timedelta(0), "_dex.csv": timedelta(minutes=15)}
NOT_IN_USD = ("USDCUSDT", "USDEUSDT")
THRESHOLDS = (0.99, 0.98)
N_COINS, N_HOURS, SIGMA, PERSISTENCE = 6, 60 * 24, 0.0025, 0.9
TWICE_THE_NOISE = 0.02


def read(path: Path, span: timedelta) -> pd.Series:
    """Return the prices of a file, stamped with the end of the bar."""
    rows = pd.read_csv(path, usecols=["timestamp", "price"])
    return pd.Series(rows["price"].to_numpy(), index=pd.DatetimeIndex(pd.to_datetime(rows["timestamp"])) + span)


def frames(folder: Path) -> Iterable[tuple[str, pd.DataFrame, timedelta]]:
    """Yield name, wide frame and span of a sample: one frame a source."""
    for ending, span in PANELS.items():
        paths = {path.name.removesuffix(ending): path for path in sorted(folder.glob(f"*{ending}"))}
        columns = {asset: read(path, span) for asset, path in paths.items() if asset not in NOT_IN_USD}
        if columns:
            yield f"*{ending}", pd.DataFrame(columns), span
    for ending, span in SINGLE.items():
        for path in sorted(folder.glob(f"*{ending}")):
            yield path.name, read(path, span).to_frame(path.name.split("_")[0]), span


def catalogue(path: Path | None) -> pd.DataFrame:
    """Return asset, direction, first and last instant of the known depegs of high or medium confidence."""
    if path is None and hasattr(tr, "known_depegs"):
        records = tr.known_depegs()
        fields = ("asset", "start", "end", "min_price", "max_price", "confidence")
        rows = pd.DataFrame([{field: getattr(record, field) for field in fields} for record in records])
    else:
        rows = pd.read_csv(path or SHARED / "reference" / "depeg_events.csv")
        rows = rows.rename(columns={"start_utc": "start", "end_utc": "end"})
    known = []
    for row in rows[rows["confidence"].isin({"high", "medium"})].itertuples():
        first, last = span_of(row.start, row.end)
        for direction, is_known in (("below", row.min_price < 1.0), ("above", row.max_price > 1.0)):
            if is_known:
                known.append((row.asset, direction, first, last))
    return pd.DataFrame(known, columns=["asset", "direction", "first", "last"])


def span_of(start: object, end: object) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return first and last instant; a date is the whole day, a month its whole month."""
    bounds = [instants_of(start), instants_of(start if pd.isna(end) else end)]
    return bounds[0][0], bounds[1][1]


def instants_of(when: object) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first and last instant that a date, month or time stands for."""
    if not isinstance(when, str):
        time = pd.Timestamp(when)
        time = time.tz_localize("UTC") if time.tzinfo is None else time.tz_convert("UTC")
        return time, time + (DAY if time == time.normalize() else timedelta(0))
    if "T" in when:
        return pd.Timestamp(when), pd.Timestamp(when)
    period = pd.Period(when, freq="M" if len(when) == len("2023-03") else "D")
    return period.start_time.tz_localize("UTC"), period.end_time.tz_localize("UTC")


def matches(event: tr.DepegEvent, known: pd.DataFrame) -> pd.Series:
    """Return which known depegs an event matches: same coin and direction, at most a day apart."""
    same = (known["asset"] == event.asset) & (known["direction"] == event.direction)
    return same & (known["first"] <= event.end + DAY) & (known["last"] >= event.start - DAY)


def count(events: list[tr.DepegEvent], known: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many known depegs are found and missed, and how many events are extra."""
    hits = [matches(event, known) for event in events]
    found = np.logical_or.reduce(hits) if hits else np.zeros(len(known), dtype=bool)
    return int(found.sum()), int((~found).sum()), sum(not hit.any() for hit in hits)


def lost(raw: list[tr.DepegEvent], checked: list[tr.DepegEvent], known: pd.DataFrame) -> list[tr.DepegEvent]:
    """Return the raw events that match a known depeg and that no checked event overlaps."""
    return [
        event
        for event in raw
        if matches(event, known).any() and not any(overlaps(event, other) for other in checked)
    ]


def overlaps(event: tr.DepegEvent, other: tr.DepegEvent) -> bool:
    """Return whether two events are of one coin and direction and share a time."""
    same = (event.asset, event.direction) == (other.asset, other.direction)
    return same and event.start <= other.end and other.start <= event.end


def print_real(folder: Path, known: pd.DataFrame, show_removed: bool) -> None:
    """Print the table of the real prices."""
    print(f"{'file':<32}{'coin':<8}{'threshold':>9} | {'known':>5} | without checks      | with checks")
    print(f"{'':<49} | {'':>5} | found missed extra  | found missed extra  lost")
    total = np.zeros(8, dtype=int)
    for name, prices, span in frames(folder):
        usable = tr.check_prices(prices, as_of=prices.index[-1] + 4 * DAY).usable(prices)
        for asset in (column for column in prices.columns if column not in {"BTC", "ETH"}):
            observed = prices[asset].dropna()
            here = known[(known["asset"] == asset) & (known["last"] >= observed.index[0])
                         & (known["first"] <= observed.index[-1])]  # fmt: skip
            for threshold in THRESHOLDS:
                rule = {"threshold": threshold, "sample_span": span, "direction": "both"}
                raw, checked = tr.detect_depegs(observed, **rule), tr.detect_depegs(usable[asset], **rule)
                numbers = (len(here), *count(raw, here), *count(checked, here), len(lost(raw, checked, here)))
                total += numbers
                print_row(name, asset, f"{threshold:g}", numbers)
                if show_removed:
                    print_removed(raw, checked)
    print_row("all", "", "", tuple(total.tolist()))


def print_removed(raw: list[tr.DepegEvent], checked: list[tr.DepegEvent]) -> None:
    """Print the events that the checks removed, and those that they left shorter, longer or joined."""
    for event in raw:
        if event not in checked:
            what = "changed" if any(overlaps(event, other) for other in checked) else "removed"
            print(f"    {what}: {event.direction} {event.start} to {event.end}, severity {event.severity:.4f}")


def print_row(name: str, asset: str, threshold: str, numbers: tuple[int, ...]) -> None:
    """Print one row of the table."""
    n, *rest = numbers
    cells = "{:>5} {:>6} {:>5}  | {:>5} {:>6} {:>5} {:>5}".format(*rest)
    print(f"{name:<32}{asset:<8}{threshold:>9} | {n:>5} | {cells}")


def random_market(seed: int) -> tuple[pd.DataFrame, float, int, int]:
    """Return prices, and depth, first hour and hours of the depeg of coin 0."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((N_HOURS, N_COINS)) * np.sqrt(1.0 - PERSISTENCE**2)
    shocks[0] /= np.sqrt(1.0 - PERSISTENCE**2)
    prices = 1.0 + SIGMA * lfilter([1.0], [1.0, -PERSISTENCE], shocks, axis=0)
    hours = int(np.exp(rng.uniform(0.0, np.log(72.0))))
    first, depth = int(rng.integers(48, N_HOURS - 120)), float(rng.uniform(0.01, 0.15))
    prices[first : first + hours, 0] -= depth
    start, length = int(rng.integers(48, N_HOURS - 72)), int(rng.integers(1, 21))
    prices[start : start + length, 1:] -= rng.uniform(0.015, 0.06)
    index = pd.date_range("2024-01-01", periods=N_HOURS, freq="h", tz="UTC")
    return pd.DataFrame(prices, index=index, columns=[f"COIN{i}" for i in range(N_COINS)]), depth, first, hours


def print_random(n_seeds: int) -> None:
    """Print recall and false events of the random markets."""
    deep, shallow = [], []
    false = {"without": 0, "with": 0}
    for seed in range(n_seeds):
        prices, depth, first, hours = random_market(seed)
        begin, end = prices.index[first], prices.index[first + hours - 1]
        usable = tr.check_prices(prices, as_of=prices.index[-1]).usable(prices)
        found = {}
        for which, frame in (("without", prices), ("with", usable)):
            events = tr.detect_depegs(frame, sample_span=HOUR)
            true = [e.asset == "COIN0" and e.start <= end and e.end >= begin for e in events]
            found[which] = any(true)
            false[which] += len(events) - sum(true)
        (deep if depth > TWICE_THE_NOISE else shallow).append((found["without"], found["with"]))
    years = n_seeds * N_COINS * N_HOURS / (365 * 24)
    print(f"\n{n_seeds} random markets of {N_COINS} coins, {years:.0f} coin-years, threshold 0.99")
    for what, results in (("deeper than twice the noise (2 %)", deep), ("1 % to 2 % deep", shallow)):
        if results:
            without, with_checks = np.mean(results, axis=0)
            print(f"recall, {len(results)} depegs {what}: {without:.4f} without checks, {with_checks:.4f} with")
    print(
        "false events a coin-year: " + ", ".join(f"{n / years:.3f} {which} checks" for which, n in false.items())
    )


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description="What detection finds, with and without the checks.")
    parser.add_argument("--prices", type=Path, default=SHARED / "data" / "prices")
    parser.add_argument("--catalogue", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--removed", action="store_true")
    options = parser.parse_args()
    if options.prices.is_dir():
        print_real(options.prices, catalogue(options.catalogue), options.removed)
    else:
        print(f"no price files in {options.prices}: the table of real prices is left out")
    if options.seeds:
        print_random(options.seeds)


if __name__ == "__main__":
    main()
