"""Price sources: one module an adapter, reading or receiving apart from parsing."""

from tonsurance_risk.ports import PriceSource
from tonsurance_risk.sources.csv_files import CsvSource
from tonsurance_risk.sources.sample import SampleSource

__all__ = ["CsvSource", "PriceSource", "SampleSource"]
