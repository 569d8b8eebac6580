"""A report leaves here: as a file, as a page, or on the terminal."""

from tonsurance_risk.reporting.files import save_report
from tonsurance_risk.reporting.html import render_html
from tonsurance_risk.reporting.schema import report_schema

__all__ = ["render_html", "report_schema", "save_report"]
