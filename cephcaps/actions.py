"""What the pure parts ask of the shell. They append these to one list; the shell carries them out in order."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from cephcaps.engine.inode import Hook
from cephcaps.messenger.connection import Connection

__all__ = ["Action", "Connect", "Disconnect", "Done", "Failed", "Happened", "RunHook"]


class Connect(NamedTuple):
    """Open a TCP connection to ``connection.target`` and carry its bytes."""

    connection: Connection


class Disconnect(NamedTuple):
    """Write what is still in ``connection.out``, then close the TCP connection."""

    connection: Connection


class Done(NamedTuple):
    """The call that ``token`` stands for has succeeded."""

    token: int
    result: Any


class Failed(NamedTuple):
    """The call that ``token`` stands for has failed."""

    token: int
    error: Exception


class Happened(NamedTuple):
    """Something for the log: ``noun.past_verb`` and facts."""

    event: str
    facts: dict[str, Any]


class RunHook(NamedTuple):
    """Let the data handler do ``hook`` for inode ``ino``, in that inode's task, and tell when it has."""

    ino: int
    hook: Hook


Action: TypeAlias = Connect | Disconnect | Done | Failed | Happened | RunHook
