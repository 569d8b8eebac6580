"""Whose prices they are: two sources of one vendor confirm nothing to each other."""

from __future__ import annotations

import re

_SEVERAL = re.compile(r"(?:fallback|consensus)\((.*)\)", re.DOTALL)
_CONVERTED = "binance@"


def vendor_of(name: str) -> str:
    """Return the vendor in the name of a source.

    A source that passes on the prices of another vendor is called ``VENDOR via CHANNEL``.

    Examples
    --------
    >>> vendor_of("coingecko via defillama"), vendor_of("kraken")
    ('coingecko', 'kraken')
    """
    return name if _SEVERAL.fullmatch(name) else name.partition(" via ")[0]


def vendors_of(name: str) -> frozenset[str]:
    """Return all vendors whose prices are in those of a source, by its name.

    Examples
    --------
    >>> sorted(vendors_of("consensus(binance@coinbase, coingecko via defillama)"))
    ['binance', 'coinbase', 'coingecko']
    """
    several = _SEVERAL.fullmatch(name)
    if several:
        return frozenset().union(*map(vendors_of, several[1].split(", ")))
    if name.startswith(_CONVERTED):
        return vendors_of(name.removeprefix(_CONVERTED)) | {"binance"}
    return frozenset({vendor_of(name)})
