"""The library's log: silent until the application listens to ``logging.getLogger("cephcaps")``."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

__all__ = ["note", "warn"]

LIBRARY = logging.getLogger("cephcaps")
LIBRARY.addHandler(logging.NullHandler())


def note(event: str, **facts: Any) -> None:
    """Log ``noun.past_verb`` and facts, if anybody listens."""
    if LIBRARY.isEnabledFor(logging.INFO):
        _structured().info(event, **facts)


def warn(event: str, **facts: Any) -> None:
    """The same of what the application asked for and no longer gets."""
    if LIBRARY.isEnabledFor(logging.WARNING):
        _structured().warning(event, **facts)


@cache
def _structured() -> Any:
    """A structlog logger that hands ``event key=value ...`` to the standard library's; its import takes a while."""
    import structlog

    return structlog.wrap_logger(
        LIBRARY,
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
