"""Which pair of a venue an asset is."""

from __future__ import annotations

from collections.abc import Mapping

from tonsurance_risk.errors import UnknownAssetError


def pair_of(pairs: Mapping[str, str], asset: str, venue: str) -> str:
    """Return the pair of an asset.

    Raises
    ------
    UnknownAssetError
        If there is none, listing those that are.

    Examples
    --------
    >>> pair_of({"DAI": "DAI-USD"}, "DAI", "my venue")
    'DAI-USD'
    """
    if asset not in pairs:
        raise UnknownAssetError(
            f"{venue} is not known to have {asset} against dollars; it has {', '.join(pairs)}",
            asset=asset,
            observed=asset,
            required=tuple(pairs),
        )
    return pairs[asset]
