"""A report leaves here: as a file, or on the terminal."""

from tonsurance_risk.reporting.files import save_report

__all__ = ["save_report"]
