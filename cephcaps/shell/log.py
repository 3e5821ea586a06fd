"""The library's log: silent until the application listens to ``logging.getLogger("cephcaps")``."""

from __future__ import annotations

import logging
from typing import Any, Self

__all__ = ["Log"]

LIBRARY = logging.getLogger("cephcaps")
LIBRARY.addHandler(logging.NullHandler())  # else Python itself would print warnings


class Log:
    """Log lines that have some facts in common: a client's, or those of one of its connections."""

    def __init__(self, **bound: Any) -> None:
        self._bound = bound

    def bind(self, **facts: Any) -> Self:
        """The same with more facts."""
        return type(self)(**self._bound, **facts)

    def note(self, event: str, **facts: Any) -> None:
        """Log ``noun.past_verb`` and facts, if anybody listens."""
        if LIBRARY.isEnabledFor(logging.INFO):
            _structured().bind(**self._bound).info(event, **facts)

    def warn(self, event: str, **facts: Any) -> None:
        """The same of what the application asked for and no longer gets."""
        if LIBRARY.isEnabledFor(logging.WARNING):
            _structured().bind(**self._bound).warning(event, **facts)


def _structured() -> Any:
    """A structlog logger that hands its lines to the standard library's: through the application's own processors once
    it has configured structlog, else as ``event key=value ...``. The import takes a while."""
    import structlog

    as_words = structlog.processors.KeyValueRenderer(key_order=["event"])
    plain: list[Any] = [structlog.processors.format_exc_info, as_words]
    return structlog.wrap_logger(
        LIBRARY,
        processors=None if structlog.is_configured() else plain,
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
