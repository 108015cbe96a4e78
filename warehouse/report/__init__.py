"""The report: DIR/report.html, one page that needs nothing but itself."""

from warehouse.report.page import write_report

__all__ = ["write_report"]
