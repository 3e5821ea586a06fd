"""What the shell asks of a recorder of messages."""

from __future__ import annotations

from typing import Protocol

from cephcaps.messenger.connection import Connection

__all__ = ["Recorder"]


class Recorder(Protocol):
    """Writes down what connections say, until it is closed or fails; it never raises.

    Attributes:
        path: of the recording.
        failure: why it ended; None while all is well.
    """

    path: str
    failure: str | None

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""

    def attach(self, connection: Connection, local: tuple[str, int] | None) -> None:
        """Record what it says; its own end is ``local``."""

    def detach(self, connection: Connection) -> None:
        """It is closed, if it ever was open."""

    def flush(self) -> None: ...

    def close(self) -> None: ...
