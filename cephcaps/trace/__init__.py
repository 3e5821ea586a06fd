"""Captured conversations of Ceph clients: read, recorded, decoded."""

from cephcaps.trace.items import Flow, Item, Problem, Traced
from cephcaps.trace.read import TraceReader, read_trace

__all__ = ["Flow", "Item", "Problem", "TraceReader", "Traced", "read_trace"]
