"""Price sources: one module an adapter, reading or receiving apart from parsing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tonsurance_risk.ports import PriceSource
from tonsurance_risk.sources.csv_files import CsvSource
from tonsurance_risk.sources.sample import SampleSource

if TYPE_CHECKING:
    from tonsurance_risk.sources.coingecko import CoinGeckoSource

__all__ = ["CoinGeckoSource", "CsvSource", "PriceSource", "SampleSource"]


def __getattr__(name: str) -> Any:
    """Import a source of the network when it is first asked for: what needs none does not load an HTTP client."""
    if name == "CoinGeckoSource":
        from tonsurance_risk.sources.coingecko import CoinGeckoSource

        return CoinGeckoSource
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
