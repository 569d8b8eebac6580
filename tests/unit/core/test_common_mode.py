"""Common mode: what most coins of one source share and give back is the source's, not the coins'."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import tonsurance_risk as tr

START = pd.Timestamp("2024-01-01", tz="UTC")
FIVE = ("USDC", "USDT", "DAI", "USDP", "GHO")
AT = 100


def market(coins=FIVE, n=200, freq="h", seed=0):
    """Return coins with 5 bp of noise of their own."""
    index = pd.date_range(START, periods=n, freq=freq)
    noise = np.random.default_rng(seed).normal(0, 5e-4, (n, len(coins)))
    return pd.DataFrame(1.0 + noise, index=index, columns=list(coins))


def shifted(prices, shifts, hours=1, at=AT):
    """Return `prices` with a shift by coin from row `at` on."""
    moved = prices.copy()
    for coin, shift in shifts.items():
        moved.iloc[at : at + hours, moved.columns.get_loc(coin)] *= 1.0 + shift
    return moved


def common(report, action=None):
    """Return (asset, time) of the common-mode findings."""
    rows = report.flags[report.flags["check"] == "common_mode"]
    return {(row.asset, row.time) for row in rows.itertuples() if action in (None, row.action)}


def check(prices, **options):
    """Check as of the last stamp."""
    return tr.check_prices(prices, as_of=options.pop("as_of", prices.index.max()), **options)


def cells(prices, coins, hours=1, at=AT):
    """Return the (asset, time) of a print."""
    return {(coin, time) for coin in coins for time in prices.index[at : at + hours]}


@pytest.mark.parametrize("shift", [-0.03, 0.045, -0.012, 0.15])
@pytest.mark.parametrize("hours", [1, 2, 7, 23])
def test_a_shift_of_all_coins_that_returns_is_rejected(shift, hours):
    """Nothing else is, and no event is left."""
    prices = shifted(market(), dict.fromkeys(FIVE, shift), hours)

    report = check(prices)

    assert cells(prices, FIVE, hours) == common(report, "reject") == common(report)
    assert not report.passed
    assert [] == tr.detect_depegs(report.usable(prices), direction="both", sample_span=timedelta(hours=1))
    assert "common_mode" in {item.name for item in report.checks if not item.passed}
    assert (1.0 - hours / 200 == report.scores).all()


@pytest.mark.parametrize(
    ("n", "members", "expected"),
    [
        (3, 3, True),
        (3, 2, False),
        (4, 4, True),
        (4, 3, False),
        (5, 4, True),
        (5, 3, False),
        (6, 4, True),
        (6, 3, False),
        (7, 5, True),
        (7, 4, False),
        (9, 6, True),
        (9, 5, False),
        (2, 2, False),
    ],
)
def test_how_many_are_enough(n, members, expected):
    """Two thirds of five or more as integers, all of three or four. Only members are rejected."""
    coins = [f"COIN{i}" for i in range(n)]
    prices = shifted(market(coins), dict.fromkeys(coins[:members], -0.03))

    assert (cells(prices, coins[:members]) if expected else set()) == common(check(prices), "reject")


@pytest.mark.parametrize(
    ("coins", "expected"),
    [
        (("BUSD", "USDP", "PYUSD"), False),
        (("USDC", "DAI", "FRAX"), False),
        (("USDC", "DAI", "USDT"), True),
        (("BUSD", "USDP", "PYUSD", "LUSD"), True),
        (("BUSD", "USDP", "own1"), True),
    ],
)
def test_three_or_four_need_two_reserve_groups(coins, expected):
    """Coins of one reserve can fall together for a reason of their own."""
    prices = shifted(market(coins), dict.fromkeys(coins, -0.03), 5)

    assert expected == bool(common(check(prices), "reject"))


def test_five_of_one_group_are_enough():
    """The groups matter only where so few coins are that they can be one group by chance."""
    coins = ("BUSD", "USDP", "PYUSD", "USDC", "DAI")
    prices = shifted(market(coins), dict.fromkeys(coins, -0.03))

    assert cells(prices, coins) == common(check(prices), "reject")


@pytest.mark.fault("F036")
@pytest.mark.parametrize(
    "shifts",
    [
        {"USDC": -0.029, "DAI": -0.026, "FRAX": -0.028, "USDP": -0.006, "BUSD": 0.0, "USDT": 0.008},
        {"USDC": -0.10, "DAI": -0.03, "FRAX": -0.05, "USDP": -0.02, "BUSD": -0.01, "USDT": -0.015},
        {"USDC": -0.03, "DAI": 0.03, "FRAX": -0.03, "USDP": 0.03, "BUSD": -0.03, "USDT": 0.03},
    ],
)
def test_a_joint_depeg_of_several_sizes_stays(shifts):
    """As in March 2023: many coins, not the same amount."""
    prices = shifted(market(tuple(shifts)), shifts, 12)

    report = check(prices)

    assert set() == common(report)
    assert report.passed


@pytest.mark.parametrize(
    ("freq", "longest"), [("h", 24), ("15min", 96), ("D", 3), ("12h", 2)], ids=["h", "15min", "D", "12h"]
)
def test_a_shift_that_lasts_longer_stays(freq, longest):
    """From the first shifted stamp to the return: 24 h below a step of a day, else 3 days."""
    calm = market(n=400, freq=freq)
    within, beyond = (shifted(calm, dict.fromkeys(FIVE, -0.03), n) for n in (longest, longest + 1))

    assert cells(calm, FIVE, longest) == common(check(within), "reject")
    assert set() == common(check(beyond))


@pytest.mark.fault("F036")
def test_a_shift_that_never_returns_stays():
    """Flagged for a day, then nothing."""
    prices = shifted(market(n=400), dict.fromkeys(FIVE, -0.03), 300)

    for hours, flagged in ((1, True), (20, True), (25, True), (26, False), (30, False), (60, False), (300, False)):
        report = check(prices.iloc[: AT + hours])
        assert report.passed
        assert flagged == bool(common(report, "flag")), hours


def test_it_is_flagged_until_the_return_is_seen():
    """And one sample has one action."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 3)

    before, after = check(prices.iloc[: AT + 3]), check(prices.iloc[: AT + 4])

    assert before.passed
    assert cells(prices, FIVE, 3) == common(before, "flag") == common(before)
    assert "not known yet" in before.flags.loc[before.flags["check"] == "common_mode", "detail"].iloc[0]
    assert cells(prices, FIVE, 3) == common(after, "reject") == common(after)


def test_one_sample_gets_one_action():
    """What most coins share is no spike of one of them."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03))
    prices = shifted(prices, {"DAI": 0.04}, at=150)

    report = check(prices)

    rows = report.flags[report.flags["check"].isin({"common_mode", "spike"})]
    assert not rows.duplicated(["asset", "time"]).any()
    assert [("DAI", prices.index[150])] == [(r.asset, r.time) for r in rows.itertuples() if r.check == "spike"]


def test_a_spike_that_is_rejected_does_not_count():
    """Three coins are left, and all of them move."""
    coins = ("USDC", "USDT", "DAI", "USDP")
    prices = shifted(market(coins), {"USDC": -0.03, "USDT": -0.03, "DAI": -0.03, "USDP": -0.4})

    report = check(prices)

    assert cells(prices, coins[:3]) == common(report, "reject")
    assert ["USDP"] == report.flags.loc[report.flags["check"] == "spike", "asset"].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 99.98])
@pytest.mark.fault("F035")
def test_coins_without_a_usable_sample_do_not_count(value):
    """Three of three are left of five."""
    prices = shifted(market(), dict.fromkeys(FIVE[:3], -0.03))
    prices.iloc[AT, 3:] = value

    assert cells(prices, FIVE[:3]) == common(check(prices), "reject")


def test_btc_and_eth_do_not_count():
    """Four coins move, two that share no peg do not, or fall too."""
    coins = FIVE[:4]
    prices = shifted(market(coins), dict.fromkeys(coins, -0.03))
    prices["BTC"], prices["ETH"] = 4e4, 2e3 * market(("ETH",), seed=3)["ETH"]
    falling = shifted(prices, {"BTC": -0.03, "ETH": -0.03})

    assert cells(prices, coins) == common(check(prices), "reject") == common(check(falling), "reject")
    few = shifted(prices[["USDC", "BTC", "ETH"]], {"BTC": -0.03, "ETH": -0.03})
    assert set() == common(check(few))


def other_source(prices, coins, vendor=None):
    """Return what another source says of `coins`, with its own noise."""
    frame = prices[list(coins)] * market(coins, len(prices), seed=9).to_numpy()
    frame.attrs["vendor"] = vendor
    return frame


def test_an_independent_source_that_shows_the_move_lifts_it():
    """For the coins that it shows; the reason is in the detail."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 2)
    prices.attrs["vendor"] = "feed A"
    calm = market(FIVE, seed=7)

    report = check(prices, others=[other_source(prices, ["USDC"]), calm])

    assert cells(prices, ["USDC"], 2) == common(report, "flag")
    assert cells(prices, FIVE[1:], 2) == common(report, "reject")
    details = report.flags.loc[
        (report.flags["check"] == "common_mode") & (report.flags["asset"] == "USDC"), "detail"
    ]
    assert details.str.contains("shown by another source").all()


def test_what_does_not_lift_it():
    """The same vendor, a source in common mode itself, a calm one, and garbage."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 2)
    prices.attrs["vendor"] = "feed A"
    garbage = market(FIVE, seed=7)
    garbage.iloc[AT] = -5.0

    for other in (
        other_source(prices, ["USDC"], "feed A"),
        other_source(prices, FIVE, "feed B"),
        market(FIVE, seed=7),
        garbage,
    ):
        assert cells(prices, FIVE, 2) == common(check(prices, others=[other]), "reject")


def test_frames_without_a_vendor_are_independent():
    """Both without."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 2)

    assert cells(prices, ["USDC"], 2) == common(check(prices, others=[other_source(prices, ["USDC"])]), "flag")


def test_bars_beside_a_print_belong_to_it():
    """A bar that the print covers in part; not the noise."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.05), 2)
    prices = shifted(prices, {"USDC": -0.018, "DAI": -0.03}, at=AT - 1)
    prices = shifted(prices, {"USDT": -0.02}, at=AT + 2)

    report = check(prices)

    beside = {("USDC", prices.index[AT - 1]), ("DAI", prices.index[AT - 1]), ("USDT", prices.index[AT + 2])}
    assert cells(prices, FIVE, 2) | beside == common(report, "reject")


@pytest.mark.fault("F036")
def test_a_coin_that_goes_further_moves_by_itself():
    """Its own depeg, in the days of a print of the others, stays whole."""
    coins = (*FIVE, "LUSD")
    prices = shifted(market(coins, freq="D"), dict.fromkeys(coins, -0.03), 2)
    prices = shifted(prices, {"LUSD": -0.03}, at=AT + 1)

    report = check(prices)

    assert cells(prices, FIVE, 2) == common(report, "reject")
    [event] = tr.detect_depegs(report.usable(prices), sample_span=timedelta(days=1))
    assert ("LUSD", prices.index[AT], prices.index[AT + 1]) == (event.asset, event.start, event.end)


@pytest.mark.fault("F036")
def test_a_coin_that_does_not_come_back_is_not_rejected():
    """The others are."""
    coins = (*FIVE, "LUSD")
    prices = shifted(market(coins), dict.fromkeys(coins, -0.03), 3)
    prices = shifted(prices, {"LUSD": -0.03}, 60, at=AT + 3)

    assert cells(prices, FIVE, 3) == common(check(prices), "reject") == common(check(prices))


def test_a_shift_at_the_very_beginning_is_only_flagged():
    """Nobody knows how long it lasted before."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 5, at=0)

    report = check(prices)

    assert report.passed
    assert cells(prices, FIVE, 5, at=0) == common(report, "flag")


def test_stamps_need_not_be_regular():
    """Everything is measured in time: a return that is seen three days later proves nothing of an hourly print."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03), 2)
    gap = prices.drop(prices.index[AT + 2 : AT + 80])
    thinned = prices.drop(prices.index[[AT - 30, AT - 9, AT + 7, AT + 8]])

    assert cells(prices, FIVE, 2) == common(check(gap), "flag") == common(check(gap))
    assert cells(prices, FIVE, 2) == common(check(thinned), "reject")


@pytest.mark.fault("F036")
@pytest.mark.parametrize("depth", [0.02, 0.04, 0.10])
@pytest.mark.parametrize(("start", "hours"), [(0, 20), (-10, 20), (-19, 20), (-3, 12)])
@pytest.mark.parametrize("length", [1, 3])
def test_a_depeg_that_outlasts_the_print_stays(depth, start, hours, length):
    """One coin is really off peg before, after or around a print of the same size; only the shared hours go."""
    prices = shifted(market(), dict.fromkeys(FIVE[1:], -depth), length)
    prices = shifted(prices, {FIVE[0]: -depth}, hours, at=AT + start)

    report = check(prices)

    rejected = {time for asset, time in common(report, "reject") if asset == FIVE[0]}
    assert rejected <= set(prices.index[AT - 1 : AT + length + 1])
    [event] = tr.detect_depegs(report.usable(prices)[[FIVE[0]]], sample_span=timedelta(hours=1))
    assert event.n_observations >= hours - length - 2
    assert [] == tr.detect_depegs(report.usable(prices)[list(FIVE[1:])], sample_span=timedelta(hours=1))


@pytest.mark.fault("F036")
def test_two_coins_that_fall_while_the_others_print_once():
    """Two really for 20 hours, the others for one."""
    prices = shifted(shifted(market(), dict.fromkeys(FIVE[2:], -0.04)), dict.fromkeys(FIVE[:2], -0.04), 20)

    usable = check(prices).usable(prices)

    assert set(FIVE[:2]) == {event.asset for event in tr.detect_depegs(usable, sample_span=timedelta(hours=1))}


@pytest.mark.fault("F036")
def test_two_real_days_before_a_daily_print_stay():
    """Of one coin; the day of the print goes."""
    prices = shifted(market(freq="D"), dict.fromkeys(FIVE, -0.04))
    prices = shifted(prices, {FIVE[0]: -0.025}, 2, at=AT - 2)

    [event] = tr.detect_depegs(check(prices).usable(prices), sample_span=timedelta(days=1))

    assert (FIVE[0], 2) == (event.asset, event.n_observations)


@pytest.mark.parametrize("peg", [1.08, tr.FixedPeg(0.5), dict.fromkeys(FIVE, 1.08)])
def test_prints_of_coins_with_another_peg(peg):
    """The peg that is given counts, not that of the symbol."""
    level = 0.5 if peg == tr.FixedPeg(0.5) else 1.08
    prices = shifted(market(), dict.fromkeys(FIVE, 0.03 if level > 1 else -0.03)) * level

    assert cells(prices, FIVE) == common(check(prices, peg=peg), "reject")


def test_a_print_upwards_after_one_downwards():
    """Two prints, each with its own sign."""
    prices = shifted(shifted(market(), dict.fromkeys(FIVE, -0.03), 3), dict.fromkeys(FIVE, 0.03), 3, at=AT + 3)

    assert cells(prices, FIVE, 6) == common(check(prices), "reject")


def test_the_limits_are_rules():
    """Each of them changes the outcome."""
    prices = shifted(market(), dict.fromkeys(FIVE, -0.03) | {"GHO": -0.0365}, 3)
    coins = {asset for asset, _ in common(check(prices), "reject")}

    assert set(FIVE) == coins
    for rules, expected in (
        (tr.QualityRules(common_floor=0.04), set()),
        (tr.QualityRules(common_tolerance=0.18), set(FIVE) - {"GHO"}),
        (tr.QualityRules(common_return=timedelta(hours=2)), set()),
    ):
        assert expected == {asset for asset, _ in common(check(prices, rules=rules), "reject")}


def test_coins_that_accrue_are_measured_against_their_own_level():
    """The error of a vendor's conversion is a share of the price."""
    coins = (*FIVE[:3], "sUSDe", "USDY")
    prices = market(coins)
    prices["sUSDe"] *= 1.2
    prices = shifted(prices, dict.fromkeys(coins, -0.03), 2)

    assert cells(prices, coins, 2) == common(check(prices), "reject")


@pytest.mark.fault("F036")
@pytest.mark.parametrize("before", [5, 30, 60, 100, 200])
def test_a_lasting_shift_is_rejected_at_no_time(before):
    """However much is known before and after it: the level follows it, the price does not come back."""
    prices = shifted(market(n=before + 150, seed=before), dict.fromkeys(FIVE, -0.03), 150, at=before)

    for known in range(before + 1, len(prices), 6):
        assert set() == common(check(prices.iloc[:known]), "reject"), known


@pytest.mark.parametrize("hours", [1, 5, 12, 24])
def test_a_print_is_judged_the_same_however_much_came_after(hours):
    """From its return on."""
    prices = shifted(market(n=260), dict.fromkeys(FIVE, -0.03), hours)

    for known in range(AT + hours + 1, len(prices), 13):
        assert cells(prices, FIVE, hours) == common(check(prices.iloc[:known]), "reject"), known


@pytest.mark.fault("F036")
@pytest.mark.parametrize(("level", "action"), [(0.985, "flag"), (0.995, "reject"), (1.02, "reject")])
def test_a_coin_that_was_off_its_peg_before_is_only_flagged(level, action):
    """On the side of the shift: the depeg is its own."""
    prices = market()
    prices["GHO"] *= level
    prices = shifted(prices, dict.fromkeys(FIVE, -0.03), 2)

    report = check(prices)

    assert cells(prices, FIVE[:4], 2) <= common(report, "reject")
    assert cells(prices, ["GHO"], 2) <= common(report, action)


def test_noise_does_not_break_up_a_long_print():
    """Each coin differs from the others by a quarter of a percent, hour by hour."""
    noise = np.random.default_rng(5).normal(0, 2.5e-3, (200, len(FIVE)))
    prices = shifted(market() + noise, dict.fromkeys(FIVE, -0.02), 20)

    assert len(common(check(prices), "reject")) >= 0.8 * 20 * len(FIVE)
