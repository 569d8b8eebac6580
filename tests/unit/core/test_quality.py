"""Price checks: what is rejected, what is flagged, and that nothing real is lost."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tonsurance_risk as tr
from tonsurance_risk.errors import InvalidPriceError

START = pd.Timestamp("2024-01-01", tz="UTC")


def calm(n=100, freq="h", name="USDC", seed=0):
    """Return a series with 5 bp of noise."""
    index = pd.date_range(START, periods=n, freq=freq)
    return pd.Series(1.0 + np.random.default_rng(seed).normal(0, 5e-4, n), index=index, name=name)


def findings(report, *checks):
    """Return (check, action, time) of the findings, without the lone-source rows."""
    rows = report.flags[report.flags["check"] != "lone_source"]
    return [(row.check, row.action) for row in rows.itertuples() if not checks or row.check in checks]


def check(prices, **options):
    """Check as of the last stamp."""
    return tr.check_prices(prices, as_of=options.pop("as_of", prices.index.max()), **options)


def test_a_false_print_does_not_pass():
    """The third test of the mission: 1.00 5.00 1.00."""
    prices = pd.Series([1.0, 5.0, 1.0], index=pd.date_range(START, periods=3, freq="h"), name="USDC")

    report = check(prices)

    assert not report.passed
    assert [("out_of_bounds", "reject")] == findings(report)
    assert np.isnan(report.usable(prices)["USDC"].iloc[1])


@pytest.mark.parametrize(
    "rules",
    [
        {"reject_above": 0.0},
        {"flag_outside": (1.5, 0.5)},
        {"flag_outside": (-0.5, 1.5)},
        {"flag_outside": (0.5, 1.0, 1.5)},
        {"flag_outside": 0.5},
        {"spike_sigmas": float("nan")},
        {"spike_floor": "1 %"},
        {"spike_reject": -0.2},
        {"spike_window": 2.5},
        {"spike_window": 0},
        {"common_floor": 0.0},
        {"common_tolerance": -1.0},
        {"common_off_peg": 0.0},
        {"common_return": timedelta(0)},
        {"common_return_daily": 3},
        {"max_age": timedelta(hours=-1)},
        {"max_age_daily": None},
        {"flat_after": timedelta(0)},
        {"flat_after_daily": timedelta(0)},
        {"thin_below": -1.0},
    ],
)
def test_rules_refuse(rules):
    """With the name of the limit."""
    with pytest.raises(ValueError, match=f"{next(iter(rules))} must be "):
        tr.QualityRules(**rules)


def test_calm_prices_pass():
    """Only that no other source carries them is noted."""
    prices = calm()

    report = check(prices)

    assert report.passed
    assert [] == findings(report)
    assert 1.0 == report.scores["USDC"]
    pd.testing.assert_series_equal(prices, report.usable(prices)["USDC"], check_freq=False)
    assert {item.name for item in report.checks if not item.passed} == {"lone_source"}


@pytest.mark.fault("F033")
@pytest.mark.fault("F034")
@pytest.mark.fault("F035")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.inf, ("not_finite", "reject")),
        (-np.inf, ("not_finite", "reject")),
        (0.0, ("out_of_bounds", "reject")),
        (-1.0, ("out_of_bounds", "reject")),
        (99.98, ("out_of_bounds", "reject")),
        (3.0001, ("out_of_bounds", "reject")),
        (0.62, ("spike", "reject")),
        (1.35, ("spike", "reject")),
        (0.97, ("spike", "flag")),
        (1.03, ("spike", "flag")),
    ],
)
def test_one_bad_sample(value, expected):
    """Rejected or flagged, with its price and time."""
    prices = calm()
    prices.iloc[50] = value

    report = check(prices)

    assert expected in findings(report)
    row = report.flags[report.flags["check"] == expected[0]].iloc[0]
    assert ("USDC", prices.index[50], value) == (row["asset"], row["time"], row["price"])
    assert (expected[1] == "reject") == bool(np.isnan(report.usable(prices)["USDC"].iloc[50]))
    assert 0.99 == report.scores["USDC"]


@pytest.mark.fault("F036")
@pytest.mark.parametrize("depth", [0.03, 0.12, 0.30, 0.49])
@pytest.mark.parametrize("hours", [2, 3, 12, 60])
def test_a_move_that_lasts_is_never_a_spike(depth, hours):
    """A real depeg passes untouched, however deep."""
    prices = calm(200)
    prices.iloc[100 : 100 + hours] -= depth

    report = check(prices)

    assert report.passed
    assert 1 == len(tr.detect_depegs(report.usable(prices)))


def test_a_collapse_to_nothing_is_flagged_not_rejected():
    """Below half the peg for good."""
    prices = calm(200)
    prices.iloc[100:] *= 0.02

    report = check(prices)

    assert report.passed
    assert {("far_from_peg", "flag")} == set(findings(report))


def test_the_last_move_is_flagged_until_a_later_sample_is_back():
    """Nobody can know yet."""
    prices = calm()
    prices.iloc[-1] = 0.7

    assert [("spike", "flag")] == findings(check(prices))
    back = pd.concat([prices, calm(101).iloc[-1:]])
    assert [("spike", "reject")] == findings(check(back))


def test_another_source_that_shows_half_the_move_confirms_a_spike():
    """Unless it is of the same vendor."""
    prices, other, silent = calm(), calm(seed=1), calm(seed=2)
    prices.iloc[50], other.iloc[50] = 0.7, 0.84
    prices.attrs["vendor"] = "feed A"
    frames = {"half": other.to_frame(), "silent": silent.to_frame()}

    assert [("spike", "flag")] == findings(check(prices, others=[frames["half"]]))
    assert [("spike", "reject")] == findings(check(prices, others=[frames["silent"]]))
    frames["half"].attrs["vendor"] = "feed A"
    assert [("spike", "reject")] == findings(check(prices, others=[frames["half"]]))
    assert "lone_source" not in check(prices, others=[frames["silent"]]).flags["check"].tolist()


def test_the_usdc_close_of_march_2023_looks_like_a_spike_and_stays():
    """0.9715 in a calm daily series is 2.8 % off, flagged, never rejected."""
    prices = calm(60, freq="D")
    prices.iloc[30] = 0.9715

    report = check(prices)

    assert [("spike", "flag")] == findings(report)
    assert 1 == len(tr.detect_depegs(report.usable(prices), sample_span=timedelta(days=1)))


@pytest.mark.fault("F038")
def test_future_stamps_are_rejected():
    """After as_of."""
    prices = calm()

    report = check(prices, as_of=prices.index[-3])

    assert [("future", "reject")] * 2 == findings(report)


@pytest.mark.fault("F041")
def test_doubled_and_unordered_stamps_are_flagged_and_the_last_row_is_kept():
    """The dropped one is never rejected, the kept one is checked."""
    prices = calm()
    messy = pd.concat([prices.iloc[:50], prices.iloc[60:], prices.iloc[50:60], prices.iloc[10:11] * 0 + 0.7])

    report = check(messy)
    usable = report.usable(messy)

    assert ("unordered", "flag") in findings(report)
    assert ("doubled", "flag") in findings(report)
    assert [("spike", "reject")] == findings(report, "spike", "out_of_bounds")
    assert len(prices) == len(usable)
    assert usable.index.is_monotonic_increasing
    assert np.isnan(usable["USDC"].iloc[10])


@pytest.mark.fault("F047")
def test_a_price_that_stands_still_is_flagged_once():
    """One row a stretch, with its length."""
    prices = calm()
    prices.iloc[20:60] = 1.0001

    report = check(prices)

    assert [("flat", "flag")] == findings(report)
    assert "(40 samples)" in report.flags.loc[report.flags["check"] == "flat", "detail"].iloc[0]


@pytest.mark.parametrize(("freq", "hours"), [("h", 24), ("D", 48)])
def test_stale_series_do_not_pass(freq, hours):
    """24 h, and 48 h for a step of a day."""
    prices = calm(freq=freq)
    limit = prices.index[-1] + timedelta(hours=hours)

    assert check(prices, as_of=limit).passed
    late = check(prices, as_of=limit + timedelta(seconds=1))
    assert not late.passed
    assert ["USDC"] == late.stale
    assert 0.5 == late.scores["USDC"]


def test_an_asset_without_usable_samples_scores_zero():
    """All rejected, or none there."""
    prices = pd.DataFrame({"USDC": calm(), "DAI": np.nan, "GHO": -1.0})

    report = check(prices)

    assert [1.0, 0.0, 0.0] == report.scores[["USDC", "DAI", "GHO"]].tolist()
    assert ["DAI", "GHO"] == report.stale


@pytest.mark.fault("F057")
def test_a_constant_price_is_flat_and_nothing_else():
    """No division by its spread of zero."""
    prices = pd.DataFrame(1.0, index=calm().index, columns=["USDC", "USDT", "DAI", "USDP", "GHO"])

    report = check(prices)

    assert [("flat", "flag")] * 5 == findings(report)
    assert report.passed


@pytest.mark.fault("F032")
def test_a_missing_price_is_no_sample():
    """It is not rejected, nothing is put in its place, and the others stand."""
    prices = calm()
    prices.iloc[50] = np.nan

    report = check(prices)

    assert [] == findings(report)
    assert 1.0 == report.scores["USDC"]
    pd.testing.assert_series_equal(prices, report.usable(prices)["USDC"], check_freq=False)


@pytest.mark.fault("F033")
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_price_of_zero_is_no_depeg(value):
    """However long it lasts."""
    prices = calm()
    prices.iloc[50:60] = value

    report = check(prices)

    assert [("out_of_bounds", "reject")] * 10 == findings(report)
    assert [] == tr.detect_depegs(report.usable(prices))


@pytest.mark.fault("F040")
def test_the_same_row_twice_is_one_sample():
    """Flagged, not rejected."""
    prices = calm()
    doubled = pd.concat([prices, prices.iloc[[30]]]).sort_index(kind="stable")

    report = check(doubled)

    assert [("doubled", "flag")] == findings(report)
    assert report.passed
    pd.testing.assert_series_equal(prices, report.usable(doubled)["USDC"], check_freq=False)


@pytest.mark.fault("F041")
def test_the_dropped_row_of_a_doubled_stamp_is_never_rejected():
    """Even when it could not be a price: the kept one counts."""
    prices = calm()
    wrong = prices.iloc[[30]] * 0.0 - 5.0
    doubled = pd.concat([prices.iloc[:30], wrong, prices.iloc[30:]])

    report = check(doubled)

    assert [("doubled", "flag")] == findings(report)
    assert -5.0 == report.flags.loc[report.flags["check"] == "doubled", "price"].iloc[0]


@pytest.mark.fault("F046")
def test_a_gap_is_not_filled():
    """Rows that are not there stay away."""
    prices = calm().drop(calm().index[40:60])

    usable = check(prices).usable(prices)

    assert prices.index.tolist() == usable.index.tolist()


def test_a_rejected_sample_does_not_move_the_reference_of_an_accruing_coin():
    """A slip in the first hours, and one before a gap of a year."""
    rng = np.random.default_rng(1)
    first = pd.date_range(START, periods=48, freq="h")
    index = first.append(first + timedelta(days=400))
    prices = pd.Series(1.1 + rng.normal(0, 1e-4, 96), index=index, name="sUSDe")
    prices.iloc[[0, 47]] = [110.0, 9.0]

    assert [("out_of_bounds", "reject")] * 2 == findings(check(prices))


def test_a_coin_that_accrues_is_measured_against_its_median_for_24_hours():
    """One slip among the first samples is one finding."""
    prices = calm(name="USDY") * 1.08
    prices.iloc[2] = 0.5

    assert [("far_from_peg", "flag"), ("spike", "reject")] == findings(check(prices))


def test_garbage_of_another_source_confirms_nothing():
    """Its own decimal slip at the same time."""
    prices, other = calm(), calm(seed=1)
    prices.iloc[50], other.iloc[50] = 1.5, 99.98

    assert [("spike", "reject")] == findings(check(prices, others=[other.to_frame()]))


def test_a_source_in_common_mode_confirms_no_spike():
    """A print of the other vendor is no second opinion."""
    coins = ["USDC", "USDT", "DAI", "USDP", "GHO"]
    other = pd.concat([calm(name=coin, seed=i) for i, coin in enumerate(coins)], axis=1)
    other.iloc[50] *= 0.7
    prices = calm()
    prices.iloc[50] = 0.7

    assert [("spike", "reject")] == findings(check(prices, others=[other.iloc[:, :3] * 1.0, other]))


def test_the_quality_of_a_sample():
    """1, 0.5 flagged, 0 rejected; nothing where nothing was observed."""
    prices = calm()
    prices.iloc[[10, 20, 30]] = [np.nan, 0.97, -1.0]

    scores = check(prices).sample_scores(prices)["USDC"]

    assert np.isnan(scores.iloc[10])
    assert [1.0, 0.5, 0.0] == scores.iloc[[11, 20, 30]].tolist()
    assert 97.5 == scores.sum()


def test_btc_has_no_bounds():
    """And a coin that accrues is measured against its own reference."""
    rng = np.random.default_rng(0)
    index = pd.date_range(START, periods=200, freq="h")
    prices = pd.DataFrame(
        {"BTC": 4e4 * np.exp(rng.normal(0, 1e-3, 200)), "sUSDe": 3.5 + rng.normal(0, 1e-3, 200)}, index=index
    )

    assert check(prices).passed


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (calm().tz_localize(None), "naive"),
        (calm().astype(object).where(calm().index != START, "text"), "must be a number"),
    ],
)
def test_what_cannot_even_be_checked(prices, message):
    """Naive times and text."""
    with pytest.raises(InvalidPriceError, match=message):
        tr.check_prices(prices, as_of=START)


@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.9, 1.1)),
        min_size=1,
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_usable_is_always_valid_and_nothing_is_deleted(values, random):
    """Whatever the values and their order: one row a stamp, rejected samples NaN, the others as they were."""
    hours = [random.randrange(30) for _ in values]
    index = START + pd.to_timedelta(hours, unit="h")
    prices = pd.Series(values, index=index, name="USDC")

    report = tr.check_prices(prices, as_of=START + timedelta(days=1))
    usable = report.usable(prices)

    tr.detect_depegs(usable)
    last = prices[~prices.index.duplicated(keep="last")].sort_index()
    assert last.index.tolist() == usable.index.tolist()
    kept = usable["USDC"].notna().to_numpy()
    assert (last.to_numpy()[kept] == usable["USDC"].to_numpy()[kept]).all()
    rejected = set(report.flags.loc[report.flags["action"] == "reject", "time"])
    assert {time for time, price in last.items() if not np.isnan(price)} - set(usable.index[kept]) == rejected
    assert 0.0 <= report.scores["USDC"] <= 1.0


def test_a_sample_of_a_thin_book_is_flagged():
    """What is traded at exactly the limit, unknown volumes and coins without any are not."""
    prices = calm(5)
    volumes = pd.DataFrame({"usdc": [100_000.0, 99_999.0, 0.0, np.nan]}, index=prices.index[:4])

    report = check(prices.to_frame().assign(DAI=1.0 + np.arange(5) / 1e4), volumes=volumes)

    thin = report.flags[report.flags["check"] == "thin"]
    assert [("USDC", prices.index[1], "flag"), ("USDC", prices.index[2], "flag")] == list(
        zip(thin["asset"], thin["time"], thin["action"], strict=True)
    )
    assert "99,999 USD traded in 24 h" in thin["detail"].iloc[0]
    assert report.passed
    assert {"USDC": 0.6, "DAI": 1.0} == report.scores.to_dict()
    assert [1.0, 0.5, 0.5, 1.0, 1.0] == report.sample_scores(prices)["USDC"].tolist()


@pytest.mark.parametrize("volume", [-1.0, np.inf])
def test_a_volume_that_cannot_be_is_refused(volume):
    """With coin and time."""
    prices = calm(3)
    volumes = pd.DataFrame({"USDC": [1e6, volume, 1e6]}, index=prices.index)

    with pytest.raises(ValueError, match=r"volumes must be finite and >= 0.* of USDC at 2024-01-01T01:00:00Z"):
        check(prices, volumes=volumes)


@pytest.mark.fault("F049")
def test_a_series_that_stops_is_stale_and_says_when():
    """A coin that was delisted."""
    prices = calm(50).to_frame().join(calm(200, name="DAI", seed=1), how="outer")

    report = check(prices)

    assert ["USDC"] == report.stale
    detail = report.flags.loc[report.flags["check"] == "stale"].iloc[0]
    assert (prices["USDC"].last_valid_index(), "newest sample is 150.0 h old, accepted are 24 h") == (
        detail["time"], detail["detail"],
    )  # fmt: skip


@pytest.mark.fault("F056")
def test_an_asset_younger_than_the_frame_is_no_fault():
    """Its first sample is where it starts."""
    prices = calm(200).to_frame().join(calm(200, name="GHO", seed=1).iloc[150:], how="outer")

    assert [] == findings(check(prices))
    assert 1.0 == check(prices).scores["GHO"]


def test_later_rows_only_lie_in_the_future():
    """Whatever they hold, all other findings are those of the rows up to as_of; the step is theirs too."""
    rng = np.random.default_rng(0)
    for seed in range(40):
        prices = calm(60, seed=seed).to_frame().join(calm(60, name="DAI", seed=seed + 100))
        prices.iloc[rng.integers(0, 60, 4), 0] += rng.normal(0, 0.1, 4)
        prices.iloc[30:, 1] = 1.0
        as_of = prices.index[30]

        whole, known = (check(frame, as_of=as_of).flags for frame in (prices, prices[prices.index <= as_of]))

        pd.testing.assert_frame_equal(
            whole[whole["check"] != "future"].reset_index(drop=True), known, check_dtype=False
        )
    daily = calm(30, freq="D")
    later = pd.concat([daily, calm(100).set_axis(daily.index[-1] + timedelta(hours=1) * np.arange(40, 140))])
    assert [] == check(later, as_of=daily.index[-1] + timedelta(hours=30)).stale


def test_without_volumes_nothing_is_said_of_thin_books():
    """A check that was not made has not passed."""
    prices = calm(5)

    assert "thin" not in {item.name for item in check(prices).checks}
    volumes = pd.DataFrame({"USDC": 1e6}, index=prices.index)
    assert "thin" in {item.name for item in check(prices, volumes=volumes).checks if item.passed}


def test_scores_agree_on_rows_out_of_order():
    """The sample itself is sound."""
    prices = calm(4).iloc[[0, 2, 1, 3]]

    report = check(prices)

    assert [("unordered", "flag")] == findings(report)
    assert 1.0 == report.scores["USDC"]
    assert (report.sample_scores(prices)["USDC"] == 1.0).all()


def test_a_report_applies_to_some_of_its_coins():
    """To a frame without the coin that was rejected: nothing changes, and every score is that of the others."""
    both = pd.concat([calm(), calm(name="DAI", seed=1)], axis=1)
    both.iloc[50, 1] = 0.2
    report = tr.check_prices(both, as_of=both.index[-1])
    assert {"DAI"} == set(report.flags.loc[report.flags["action"] == "reject", "asset"])

    pd.testing.assert_frame_equal(both[["USDC"]], report.usable(both[["USDC"]]), check_freq=False)
    pd.testing.assert_frame_equal(
        report.sample_scores(both)[["USDC"]], report.sample_scores(both[["USDC"]]), check_freq=False
    )
    assert 0.0 == report.sample_scores(both).iloc[50, 1]


def test_the_document_has_a_line_for_each_asset_check_and_action():
    """How many findings, from when to when; a coin without a sample has none to name."""
    prices = pd.concat([calm(), calm(name="DAI", seed=1)], axis=1).assign(GHO=np.nan)
    prices.iloc[[40, 60], 1] = 9.0

    document = json.loads(json.dumps(tr.check_prices(prices, as_of=prices.index[-1]).to_dict(), allow_nan=False))

    assert not document["passed"]
    assert 1.0 == document["scores"]["USDC"] > document["scores"]["DAI"] > 0.0 == document["scores"]["GHO"]
    lines = {(line["asset"], line["check"], line["action"]): line for line in document["findings"]}
    assert len(lines) == len(document["findings"])
    rejected = lines["DAI", "out_of_bounds", "reject"]
    assert (2, "2024-01-02T16:00:00Z", "2024-01-03T12:00:00Z") == tuple(
        rejected[name] for name in ("count", "first", "last")
    )
    assert "above 3 x its peg" == rejected["detail"]
    stale = next(line for key, line in lines.items() if key[:2] == ("GHO", "stale"))
    assert (1, None, None) == (stale["count"], stale["first"], stale["last"])
    failed = {check["name"] for check in document["checks"] if not check["passed"]}
    assert {"out_of_bounds", "stale"} <= failed
