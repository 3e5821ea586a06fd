"""The library's logger: silent until the application listens to ``logging.getLogger("cephcaps")``."""

from __future__ import annotations

import logging
from typing import Any

import structlog

__all__ = ["get_logger"]

_LIBRARY = logging.getLogger("cephcaps")
_LIBRARY.addHandler(logging.NullHandler())


def get_logger() -> Any:
    """A structlog logger whose events reach the standard library's logger as ``event key=value ...``."""
    return structlog.wrap_logger(
        _LIBRARY,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
