"""Price sources: one module an adapter, reading or receiving apart from parsing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tonsurance_risk.ports import PriceSource
from tonsurance_risk.sources.csv_files import CsvSource
from tonsurance_risk.sources.registry import open_source, source_names
from tonsurance_risk.sources.sample import SampleSource

if TYPE_CHECKING:
    from tonsurance_risk.sources.binance import BinanceSource
    from tonsurance_risk.sources.cached import CachedSource
    from tonsurance_risk.sources.coinbase import CoinbaseSource
    from tonsurance_risk.sources.coingecko import CoinGeckoSource
    from tonsurance_risk.sources.composed import ConsensusSource, FallbackSource
    from tonsurance_risk.sources.defillama import DefiLlamaSource
    from tonsurance_risk.sources.kraken import KrakenSource
    from tonsurance_risk.sources.recorded import RecordingSource, ReplaySource

__all__ = [
    "BinanceSource",
    "CachedSource",
    "CoinGeckoSource",
    "CoinbaseSource",
    "ConsensusSource",
    "CsvSource",
    "DefiLlamaSource",
    "FallbackSource",
    "KrakenSource",
    "PriceSource",
    "RecordingSource",
    "ReplaySource",
    "SampleSource",
    "open_source",
    "source_names",
]

_MODULES = {
    "BinanceSource": "binance",
    "CachedSource": "cached",
    "CoinGeckoSource": "coingecko",
    "CoinbaseSource": "coinbase",
    "ConsensusSource": "composed",
    "DefiLlamaSource": "defillama",
    "FallbackSource": "composed",
    "KrakenSource": "kraken",
    "RecordingSource": "recorded",
    "ReplaySource": "recorded",
}


def __getattr__(name: str) -> Any:
    """Import a source when it is first asked for: what needs no network does not load an HTTP client."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
