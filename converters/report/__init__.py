"""The HTML report of a conversion: `write(path, data)`."""

from converters.report.data import LayerError, Outcome, ReportData, ReportVariant, Verdict
from converters.report.page import page, write

__all__ = ["LayerError", "Outcome", "ReportData", "ReportVariant", "Verdict", "page", "write"]
