"""The 14 stablecoins and BTC."""

from __future__ import annotations

import pytest

import tonsurance_risk as tr
from tonsurance_risk.assets import RESERVE_GROUPS, canonical, own_peg

COINGECKO_IDS = {
    "USDC": "usd-coin", "USDT": "tether", "DAI": "dai", "USDP": "paxos-standard", "FRAX": "frax",
    "BUSD": "binance-usd", "USDe": "ethena-usde", "sUSDe": "ethena-staked-usde", "USDY": "ondo-us-dollar-yield",
    "PYUSD": "paypal-usd", "GHO": "gho", "LUSD": "liquity-usd", "crvUSD": "crvusd", "mkUSD": "prisma-mkusd",
}  # fmt: skip


def test_the_fourteen_and_their_ids():
    """In the order of the interface."""
    assert COINGECKO_IDS == {asset.symbol: asset.coingecko_id for asset in tr.STABLECOINS}
    assert list(COINGECKO_IDS) == [asset.symbol for asset in tr.STABLECOINS]


def test_pegs():
    """Two accrue, the others are fixed at 1, BTC has none."""
    accruing = {asset.symbol for asset in tr.STABLECOINS if isinstance(asset.peg, tr.AccruingPeg)}

    assert {"sUSDe", "USDY"} == accruing
    assert {tr.FixedPeg(1.0)} == {asset.peg for asset in tr.STABLECOINS if asset.symbol not in accruing}
    assert tr.get_asset("btc").peg is None
    assert own_peg("BTC") is None
    assert tr.FixedPeg(1.0) == own_peg("a coin of my own")


@pytest.mark.parametrize(
    ("given", "symbol"), [("usdc", "USDC"), ("SUSDE", "sUSDe"), ("CRVusd", "crvUSD"), ("btc", "BTC")]
)
def test_case_does_not_matter(given, symbol):
    """The answer is spelled as it should be."""
    assert symbol == tr.get_asset(given).symbol == canonical(given)


@pytest.mark.parametrize("given", ["USDX", "", "ETH", None, 3])
def test_unknown_assets_are_a_lookup_error(given):
    """With what is known."""
    with pytest.raises(tr.UnknownAssetError, match="known: USDC, USDT") as caught:
        tr.get_asset(given)
    assert isinstance(caught.value, LookupError)


def test_near_matches_are_listed():
    """The most likely slips."""
    with pytest.raises(tr.UnknownAssetError, match=r"did you mean crvUSD"):
        tr.get_asset("curveUSD")


def test_every_coin_has_a_reserve_group():
    """And nothing else has."""
    assert set(COINGECKO_IDS) == set(RESERVE_GROUPS)
