"""The scalar words of the schemas that Construct does not have: blobs, text, bit sets and times."""

from __future__ import annotations

from typing import Any

import construct
from construct import Int32ul

from cephwire.constructs import Construct

__all__ = ["NSEC", "Bitset", "BitsetWord", "Blob", "BlobWord", "Text", "TextWord", "Utime", "UtimeWord"]

NSEC = 1_000_000_000


class BlobWord(Construct):
    """u32 length and that many bytes."""

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        length = Int32ul._parse(stream, context, path)
        return bytes(construct.stream_read(stream, length, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Int32ul._build(len(obj), stream, context, path)
        stream.write(obj)
        return obj


class TextWord(BlobWord):
    """A Blob as text. Bytes that are no UTF-8 survive as surrogates, as in Python's file names (PEP 383)."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return super()._parse(stream, context, path).decode("utf-8", "surrogateescape")

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        super()._build(obj.encode("utf-8", "surrogateescape"), stream, context, path)
        return obj


class BitsetWord(BlobWord):
    """A Blob as one little-endian int; written in whole u64s, 0 as none."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return int.from_bytes(super()._parse(stream, context, path), "little")

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        super()._build(obj.to_bytes((obj.bit_length() + 63) // 64 * 8, "little"), stream, context, path)
        return obj


class UtimeWord(Construct):
    """u32 seconds and u32 nanoseconds, as one int of nanoseconds."""

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        seconds = Int32ul._parse(stream, context, path)
        return int(seconds * NSEC + Int32ul._parse(stream, context, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Int32ul._build(obj // NSEC, stream, context, path)
        Int32ul._build(obj % NSEC, stream, context, path)
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        return 8


Blob: BlobWord = BlobWord()
Text: TextWord = TextWord()
Bitset: BitsetWord = BitsetWord()
Utime: UtimeWord = UtimeWord()
