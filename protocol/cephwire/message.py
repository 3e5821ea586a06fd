"""What a message type is: its number, its layout and the versions of it that are read and written."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from cephwire.codec import Codec, Leftover
from cephwire.errors import MalformedMessage
from cephwire.schema import Record, Segment, unnamed

__all__ = ["Message"]

T = TypeVar("T", bound=msgspec.Struct)


class Message(Generic[T]):
    """One type of message.

    Attributes:
        number: the header's ``type``.
        schema: layout of the segment that carries the message; `cephwire.schema.Segment` fields take the others.
        newest: newest header version read, and the one written unless the caller says otherwise.
        compat: header ``compat_version`` written.
        oldest: oldest header version read.
        carrier: the segment ``schema`` describes, "front" or "data".
    """

    def __init__(
        self, number: int, schema: Record, *, newest: int = 1, compat: int = 1, oldest: int = 1, carrier: str = "front"
    ) -> None:
        self.number = number
        self.schema = schema
        self.newest = newest
        self.compat = compat
        self.oldest = oldest
        self.carrier = carrier
        self.codec: Codec[T] = Codec(schema, newest=newest)
        self._in_data = carrier == "data"
        self._segments = {
            inner.segment: field.name for field in schema.subcon.subcons if isinstance(inner := unnamed(field), Segment)
        }

    @property
    def name(self) -> str:
        return self.codec.name

    def decode(
        self,
        front: bytes,
        middle: bytes = b"",
        data: bytes = b"",
        *,
        version: int,
        compat: int = 1,
        leftover: list[Leftover] | None = None,
    ) -> T:
        """`decode_segments` of these."""
        return self.decode_segments((front, middle, data), version, compat, leftover)

    def decode_segments(
        self, segments: tuple[bytes, bytes, bytes], version: int, compat: int, leftover: list[Leftover] | None
    ) -> T:
        """The message that front, middle and data hold.

        Args:
            version, compat: the header's ``version`` and ``compat_version``.
            leftover: is given every stretch of bytes that was skipped.
        Raises:
            MalformedMessage: they hold no such message; names the field and its offset.
        """
        if compat > self.newest:
            raise MalformedMessage(f"{self.name}: needs a reader of version {compat}, this one knows {self.newest}")
        if version < self.oldest:
            raise MalformedMessage(f"{self.name}: version {version} is older than {self.oldest}, the oldest known")
        front, middle, data = segments
        if leftover is not None and (middle or data or self._in_data):
            found = {"front": front, "data": data, "middle": middle}
            leftover.extend(
                Leftover(f"{self.name} {segment}", 0, len(raw))
                for segment, raw in found.items()
                if raw and segment != self.carrier and segment not in self._segments
            )
        carrier = data if self._in_data else front
        return self.codec.decode(carrier, version, (middle, data), leftover)

    def encode(self, message: T, version: int | None = None) -> tuple[bytes, bytes, bytes]:
        """``message`` as (front, middle, data), in the layout of ``version`` (our newest if None)."""
        segments = {segment: getattr(message, field) for segment, field in self._segments.items()}
        segments[self.carrier] = self.codec.encode(message, version)
        return segments.get("front", b""), segments.get("middle", b""), segments.get("data", b"")
