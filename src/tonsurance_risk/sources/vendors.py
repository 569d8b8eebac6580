"""Whose prices they are: two sources of one vendor confirm nothing to each other."""

from __future__ import annotations


def vendor_of(name: str) -> str:
    """Return the vendor in the name of a source.

    A source that passes on the prices of another vendor is called ``VENDOR via CHANNEL``.

    Examples
    --------
    >>> vendor_of("coingecko via defillama"), vendor_of("kraken")
    ('coingecko', 'kraken')
    """
    return name if "(" in name else name.partition(" via ")[0]
