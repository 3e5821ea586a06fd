"""What a trace holds, as reading it yields: messages, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from cephwire.codec import Leftover
from cephwire.errors import MalformedMessage
from cephwire.frames import MessageHeader

__all__ = ["Flow", "Item", "Problem", "ProblemKind", "Traced"]


@dataclass(slots=True, eq=False, weakref_slot=True)
class Flow:
    """One TCP connection of a trace. What becomes known of its ends is noted here as it does.

    Attributes:
        number: counts the connections of the trace, from 1.
        client, daemon: the ends' addresses, ``127.0.0.1:6800`` or ``[::1]:6800``.
        client_id: the client's global id; None while unknown.
        daemon_type: `cephwire.entity.EntityType` of the daemon; None while unknown.
        daemon_num: its number, such as an MDS's rank; None while unknown.
        messenger: version of the protocol, 1 or 2; None while unknown.
        secure: whether frames are encrypted.
    """

    number: int
    client: str
    daemon: str
    client_id: int | None = None
    daemon_type: int | None = None
    daemon_num: int | None = None
    messenger: int | None = None
    secure: bool = False


class Traced(NamedTuple):
    """One message of a trace."""

    ns: int
    """When its last packet was captured, since the epoch."""
    flow: Flow
    to_daemon: bool
    """Direction: sent by the client."""
    header: MessageHeader
    """As in messenger v2; what v1 does not have (``ack_seq``) is 0."""
    segments: tuple[bytes, bytes, bytes]
    """Front, middle and data, as they were on the wire."""
    message: Any
    """What they hold; None for a type that is not known here, where they are malformed, and until
    `cephcaps.trace.decoding` was asked."""
    leftover: tuple[Leftover, ...] = ()
    """Stretches that no schema explains."""
    error: MalformedMessage | None = None
    """Why they hold no message of their type."""
    resent: bool = False
    """The session has carried it before: it was sent again after a reconnect."""


ProblemKind: TypeAlias = Literal["capture", "gap", "skipped", "malformed", "sealed", "tampered", "packet"]
"""The file is damaged or cut; bytes of a connection are missing; bytes were passed over to find the next message; bytes
are no messenger's; secure mode without the key, or joined too late; a frame that its key does not open; a packet that
could not be read."""


class Problem(NamedTuple):
    """Something in a trace that could not be read. Reading goes on after it as far as it can."""

    ns: int
    """When, since the epoch; 0 if there is no telling."""
    flow: Flow | None
    """Where; None where the file itself is damaged."""
    to_daemon: bool | None
    """In which direction; None for both."""
    kind: ProblemKind
    what: str
    """In words, with the values."""
    size: int = 0
    """Bytes that are lost by it, as far as known."""


Item: TypeAlias = Traced | Problem
