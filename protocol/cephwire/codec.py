"""Bytes <-> values, by functions made from the schemas on first use.

Nothing at run time interprets a schema, and construct's own ``compile()`` is never used: it drops length checks.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

from construct import Subconstruct

from cephwire import schema as s
from cephwire.decoding import Decoder, decoder
from cephwire.emit import Leftover, Unfit, fixed_size
from cephwire.encoding import Encoder, encoder

__all__ = ["Codec", "Leftover"]

T = TypeVar("T")

NO_SEGMENTS = (b"", b"")
UNFIT = (Unfit, struct.error)
"""What a quick decoder raises."""


class Codec(Generic[T]):
    """Decodes and encodes one structure.

    Args:
        schema: what the structure is.
        newest: for structures whose version comes from outside (a message header's): the newest we know.
    """

    def __init__(self, schema: Any, *, newest: int | None = None, name: str | None = None) -> None:
        inner = schema
        while not isinstance(inner, s.Record) and isinstance(inner, Subconstruct):
            inner = inner.subcon
        self.schema = schema
        self.newest = newest
        self.name: str = name or (inner.cls.__name__ if isinstance(inner, s.Record) else type(inner).__name__)
        self._quick: dict[int | None, Decoder] = {}
        self._exact: dict[int | None, Decoder] = {}
        self._encoders: dict[int | None, Encoder] = {}

    def decode(
        self,
        raw: bytes,
        version: int | None = None,
        segments: tuple[bytes, bytes] = NO_SEGMENTS,
        leftover: list[Leftover] | None = None,
    ) -> T:
        """The value ``raw`` holds.

        Args:
            version: the sender's; read as our newest when it is newer than that.
            segments: the message's middle and data.
            leftover: is given every stretch of bytes that was skipped.
        Raises:
            MalformedMessage: ``raw`` is no such structure; names the field and its offset.
        """
        decode = self._quick.get(version) or self._decoder(self._quick, version)
        size = len(raw)
        skipped: list[Leftover] = []
        value: T
        try:
            value, end = decode(raw, 0, size, segments, skipped)
        except UNFIT:
            end = size + 1
        if end > size:
            skipped.clear()
            value, end = self._decoder(self._exact, version)(raw, 0, size, segments, skipped)
        if leftover is not None and (skipped or end != size):
            leftover += skipped
            if end != size:
                leftover.append(Leftover(self.name, end, size - end))
        return value

    def _decoder(self, made: dict[int | None, Decoder], version: int | None) -> Decoder:
        """One of the quick or the exact ones, made when first asked for."""
        if version is not None and self.newest is not None:
            version = min(version, self.newest)
        decode = made.get(version)
        if decode is None:
            decode = made[version] = decoder(self.schema, self.name, version, exact=made is self._exact)
        return decode

    def encode(self, value: T, version: int | None = None) -> bytes:
        """The bytes of ``value``, in the layout of ``version`` (our newest if None).

        Raises:
            ValueError: a field does not fit; names it.
        """
        version = self.newest if version is None else version
        encode = self._encoders.get(version)
        if encode is None:
            encode = self._encoders[version] = encoder(self.schema, self.name, version)
        out = bytearray()
        encode(value, out)
        return bytes(out)

    def size(self) -> int | None:
        """Bytes it always takes, or None where that varies."""
        return fixed_size(self.schema, self.newest)
