"""What happens to caps, requests, sessions, maps and the recording, as it happens: frozen structs, stable as JSON.

The JSON form of each is in docs/telemetry.md."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from cephcaps.caps import Caps

__all__ = [
    "CapEvent",
    "CapExported",
    "CapFlushed",
    "CapFlushing",
    "CapGranted",
    "CapImported",
    "CapReleased",
    "CapRevokeAcked",
    "CapRevoking",
    "CapStale",
    "Event",
    "EventsDropped",
    "MdsMapChanged",
    "RecordingEnded",
    "RequestEnded",
    "RequestEvent",
    "RequestStarted",
    "SessionChanged",
    "to_json",
]


class CapEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Something about the cap that ``rank`` granted on ``ino``. ``caps`` are the bits it is about."""

    ino: int
    rank: int
    caps: Caps
    issued: Caps
    """What may be used from now on."""
    seq: int
    """The cap's sequence number at the MDS."""


class CapGranted(CapEvent, frozen=True):
    """Bits came, with a reply or by themselves."""


class CapRevoking(CapEvent, frozen=True):
    """The MDS wants bits back."""


class CapRevokeAcked(CapEvent, frozen=True):
    """Bits it wanted back have been given."""


class CapReleased(CapEvent, frozen=True):
    """Bits nobody needs any more have been given back unasked; with no bit left, the inode is forgotten."""


class CapFlushing(CapEvent, frozen=True):
    """Changes made under these bits are on their way to the MDS."""

    flush_tid: int


class CapFlushed(CapEvent, frozen=True):
    """The MDS has them."""

    flush_tid: int


class CapImported(CapEvent, frozen=True):
    """The cap came over from another rank."""


class CapExported(CapEvent, frozen=True):
    """The cap went to another rank."""


class CapStale(CapEvent, frozen=True):
    """The session went stale: the bits do not count until they are granted anew."""


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """Something about a request that a caller waits for. Told only to who asks for these by class: there are many."""

    tid: int
    """Its number in the session, as the MDS logs it: ``client.4123:7``."""
    op: str
    """As Ceph calls it: "lookup", "setattr", "create"."""
    ino: int
    path: str
    """From ``ino``; empty where that inode itself is meant."""


class RequestStarted(RequestEvent, frozen=True):
    """A caller waits for it. It leaves now, or once there is a session."""


class RequestEnded(RequestEvent, frozen=True):
    """Its caller has been answered, or has gone: comes once after each RequestStarted."""

    rank: int
    """That was asked last; -1 if none was."""
    result: int | None
    """0, or minus the errno; None where no MDS has answered."""
    error: str
    """Then why not: "cancelled" where the caller has gone; else empty."""


class SessionChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """A session entered another state."""

    rank: int
    state: str
    why: str


class MdsMapChanged(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """A newer MDSMap came."""

    epoch: int


class RecordingEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """The recording could not be written any more. Up to there the file is whole; the client goes on without it."""

    path: str
    reason: str


class EventsDropped(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """The reader was too slow: ``count`` events before this point are gone."""

    count: int


Event: TypeAlias = CapEvent | RequestEvent | SessionChanged | MdsMapChanged | RecordingEnded | EventsDropped
"""Any of them."""


def to_json(event: Event) -> bytes:
    """One JSON object: ``event`` is the class, the rest its fields by name; caps as Ceph writes them."""

    def plain(value: Any) -> str:
        if isinstance(value, Caps):
            return str(value)
        raise TypeError(type(value).__name__)

    return msgspec.json.encode(event, enc_hook=plain)
