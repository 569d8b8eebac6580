"""A report leaves here: as a file, or on the terminal."""

from tonsurance_risk.reporting.files import save_report
from tonsurance_risk.reporting.schema import report_schema

__all__ = ["report_schema", "save_report"]
