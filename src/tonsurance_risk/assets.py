"""The 14 stablecoins, BTC and what is known of them: ids, pegs, bounds and reserve groups.

CoinGecko ids: `docs.coingecko.com`, route ``/coins/list``, read 2026-08; symbols there are not unique, ids are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from tonsurance_risk.errors import UnknownAssetError
from tonsurance_risk.model import BTC, AccruingPeg, Asset, FixedPeg, Peg, Scenario, Vault

STABLECOINS: tuple[Asset, ...] = (
    Asset("USDC", "USD Coin", "usd-coin"),
    Asset("USDT", "Tether USD", "tether"),
    Asset("DAI", "Dai", "dai"),
    Asset("USDP", "Pax Dollar", "paxos-standard"),
    Asset("FRAX", "Legacy Frax Dollar", "frax"),
    Asset("BUSD", "Binance USD", "binance-usd"),
    Asset("USDe", "Ethena USDe", "ethena-usde"),
    Asset("sUSDe", "Ethena Staked USDe", "ethena-staked-usde", AccruingPeg()),
    Asset("USDY", "Ondo US Dollar Yield", "ondo-us-dollar-yield", AccruingPeg()),
    Asset("PYUSD", "PayPal USD", "paypal-usd"),
    Asset("GHO", "GHO", "gho"),
    Asset("LUSD", "Liquity USD", "liquity-usd"),
    Asset("crvUSD", "crvUSD", "crvusd"),
    Asset("mkUSD", "Prisma mkUSD", "prisma-mkusd"),
)

_BITCOIN = Asset(BTC, "Bitcoin", "bitcoin", None)
_BY_FOLDED_SYMBOL = {asset.symbol.casefold(): asset for asset in (*STABLECOINS, _BITCOIN)}

NOT_COINS_ON_PEG = frozenset({BTC, "ETH"})
"""Columns that the common-mode check leaves out: they share no dollar peg."""

REJECT_ABOVE = 3.0
"""A price of at most 0 or above this multiple of the peg is not a price (a decimal slip is 100 x)."""
FLAG_OUTSIDE = (0.50, 1.50)
"""Multiples of the peg beyond which a price is flagged, never rejected: collapses are real."""

RESERVE_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "USDC": "bank deposits and Treasury bills (Circle), or USDC as collateral",
        "USDT": "bank deposits and Treasury bills (Tether)",
        "USDP": "bank deposits and Treasury bills (Paxos)",
        "BUSD": "bank deposits and Treasury bills (Paxos)",
        "PYUSD": "bank deposits and Treasury bills (Paxos)",
        "DAI": "bank deposits and Treasury bills (Circle), or USDC as collateral",
        "FRAX": "bank deposits and Treasury bills (Circle), or USDC as collateral",
        "USDe": "delta-neutral (Ethena)",
        "sUSDe": "delta-neutral (Ethena)",
        "USDY": "bank deposits and Treasury bills (Ondo)",
        "GHO": "crypto collateral (Aave)",
        "LUSD": "crypto collateral (Liquity)",
        "crvUSD": "crypto collateral (Curve)",
        "mkUSD": "crypto collateral (Prisma)",
    }
)
"""What backs a coin, and who keeps it; a coin that is not here is its own group.

Coins of one group can lose their peg together and by the same amount: DAI and FRAX followed USDC, which backs
them, in March 2023.
"""


def find_asset(symbol: str) -> Asset | None:
    """Return the built-in asset of `symbol` in any case, or None."""
    return _BY_FOLDED_SYMBOL.get(symbol.casefold())


def get_asset(symbol: str) -> Asset:
    """Return a built-in asset by its symbol, in any case.

    Raises
    ------
    UnknownAssetError
        If no built-in asset has that symbol; near matches are listed.

    Examples
    --------
    >>> get_asset("usdc").coingecko_id
    'usd-coin'
    >>> get_asset("BTC").peg is None
    True
    """
    asset = find_asset(symbol) if isinstance(symbol, str) else None
    if asset is None:
        raise _unknown(symbol, (), "asset")
    return asset


def canonical(symbol: str) -> str:
    """Return `symbol` as `get_asset` spells it; a symbol of your own is returned as it is."""
    asset = find_asset(symbol)
    return symbol if asset is None else asset.symbol


def own_peg(symbol: str) -> Peg | None:
    """Return the peg of a coin: its own, 1.0 for a symbol of the user's, None for BTC."""
    asset = find_asset(symbol)
    return FixedPeg(1.0) if asset is None else asset.peg


def own_pegs(vault: Vault) -> dict[str, Peg]:
    """Return the pegs of a vault's own coins, by symbol."""
    return {asset.symbol: asset.peg for asset in vault.assets if asset.peg is not None}


def check_known(symbols: Iterable[str], vault: Vault, where: str) -> None:
    """Refuse a symbol that neither `get_asset` nor ``vault.assets`` knows, by an `UnknownAssetError`."""
    own = [asset.symbol for asset in vault.assets]
    for symbol in symbols:
        if symbol not in own and find_asset(symbol) is None:
            raise _unknown(symbol, own, where)


def check_symbols(vault: Vault, scenarios: Iterable[Scenario] = ()) -> None:
    """Refuse a policy or scenario symbol that neither `get_asset` nor ``vault.assets`` knows.

    Raises
    ------
    UnknownAssetError
        Naming the policy or scenario, with near matches.
    ValueError
        If a policy covers BTC or a scenario prices it: it has no peg.
    """
    if not isinstance(vault, Vault):
        raise ValueError(f"vault must be a Vault, found {type(vault).__name__}")
    own = {asset.symbol: asset for asset in vault.assets}
    first_use = {
        symbol: f"asset of policy {vault.policies[first].policy_id!r}"
        for symbol, first in zip(vault.columns.symbols, vault.columns.first.tolist(), strict=True)
    }
    for scenario in scenarios:
        for symbol in scenario.prices:
            first_use.setdefault(symbol, f"price in scenario {scenario.name!r}")
    for symbol, where in first_use.items():
        asset = find_asset(symbol) or own.get(symbol)
        if asset is None:
            raise _unknown(symbol, own, where)
        if asset.peg is None:
            raise ValueError(
                f"{where}: {asset.symbol} has no peg, so it has no price in units of one "
                f"(a scenario's move of BTC is its btc_change)"
            )


def _unknown(symbol: object, own: Iterable[str], where: str) -> UnknownAssetError:
    known = [asset.symbol for asset in (*STABLECOINS, _BITCOIN)] + list(own)
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(symbol).casefold(), folded, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(folded[name] for name in near)}?" if near else ""
    return UnknownAssetError(
        f"unknown {where}: {symbol!r}{hint} (known: {', '.join(known)})",
        asset=str(symbol),
        observed=symbol,
        required=known,
    )
