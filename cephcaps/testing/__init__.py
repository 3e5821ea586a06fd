"""A Ceph file system cluster in one process, for tests: a monitor and an MDS that real clients accept.

Names are loaded when first asked for: pytest loads the plugin in every run of whoever has this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cephcaps.testing.cluster import TestCluster
    from cephcaps.testing.simulation import simulate

__all__ = ["TestCluster", "simulate"]

_HOMES = {"TestCluster": "cluster", "simulate": "simulation"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return globals().setdefault(name, getattr(import_module(f"cephcaps.testing.{_HOMES[name]}"), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
