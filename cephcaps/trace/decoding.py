"""What messages hold: the step between where their bytes were found and whoever wants to know what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from cephcaps.trace.items import Item, Traced
from cephwire.codec import Leftover
from cephwire.errors import MalformedMessage
from cephwire.frames import MessageHeader
from cephwire.messages import BY_NUMBER

__all__ = ["Segments", "decode_all", "decoded"]

Segments: TypeAlias = tuple[bytes, bytes, bytes]
"""Front, middle and data."""

make: Callable[..., Any] = tuple.__new__
"""A NamedTuple in a third of the time that its class takes."""


def decode_all(items: list[Item]) -> None:
    """Decode, in place, the messages among ``items``, of which only the bytes are known yet.

    To be asked of many at once, as `cephcaps.trace.packets.segments` is, and for the same reason.
    """
    leftover: list[Leftover] = []
    known = BY_NUMBER.get
    for at, item in enumerate(items):
        if type(item) is not Traced:
            continue
        ns, flow, to_daemon, header, segments, message, left, error, resent = item
        kind = known(header.type)
        if kind is None:
            continue
        try:
            message = kind.decode_segments(segments, header.version, header.compat_version, leftover)
        except MalformedMessage as found:
            error = found
            leftover.clear()
        if leftover:
            left += tuple(leftover)
            leftover.clear()
        items[at] = make(Traced, (ns, flow, to_daemon, header, segments, message, left, error, resent))


def decoded(header: MessageHeader, segments: Segments) -> Any:
    """The message, for who must know at once what it says; None where its type is not known, or it is malformed."""
    kind = BY_NUMBER.get(header.type)
    if kind is None:
        return None
    try:
        return kind.decode_segments(segments, header.version, header.compat_version, None)
    except MalformedMessage:
        return None
