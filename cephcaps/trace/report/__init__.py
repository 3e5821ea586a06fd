"""A trace as a report: who held what since when, how long revokes took; as an HTML page, as data, for Perfetto."""

from cephcaps.trace.report.data import report_data, spelled_out
from cephcaps.trace.report.gather import Gathered
from cephcaps.trace.report.page import page
from cephcaps.trace.report.perfetto import perfetto

__all__ = ["Gathered", "page", "perfetto", "report_data", "spelled_out"]
