"""The report of a pipeline's run: one HTML page that opens offline."""

from mmssl.report.page import write_report

__all__ = ["write_report"]
