"""The vocabulary wire structures are declared in: Construct classes of known size, bounds and versions.

A declaration is the only description of a structure. Tests interpret it with Construct's own machinery; at run time
`cephwire.codec` turns it into plain Python. Every word here can be read from any bytes without hanging or allocating
more than the bytes justify; whatever else Construct offers (lambdas, GreedyRange, Pointer ...) the codec refuses.

Integers are little-endian, as everything Ceph encodes except the insides of socket addresses.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import construct
import msgspec
from construct import (
    Bytes,
    Const,
    Container,
    GreedyBytes,
    Int8sl,
    Int8ul,
    Int16sl,
    Int16ul,
    Int32sl,
    Int32ul,
    Int64sl,
    Int64ul,
    Padding,
    Pass,
    StreamError,
    Struct,
)

from cephwire.constructs import Construct, Subconstruct
from cephwire.scalars import NSEC, Bitset, Blob, Text, Utime

__all__ = [
    "ABSENT",
    "NSEC",
    "Bitset",
    "Blob",
    "Bytes",
    "BytesOf",
    "Const",
    "Counted",
    "Filled",
    "FixedSize",
    "Int8sl",
    "Int8ul",
    "Int16sl",
    "Int16ul",
    "Int32sl",
    "Int32ul",
    "Int64sl",
    "Int64ul",
    "LengthOf",
    "Map",
    "Padding",
    "Pass",
    "Present",
    "Record",
    "Repeat",
    "Rest",
    "Segment",
    "Since",
    "Sized",
    "Struct",
    "Switch",
    "Tagged",
    "Text",
    "UntilEnd",
    "Utime",
    "Versioned",
]

Rest: Construct = GreedyBytes
"""Whatever is left of the enclosing region, kept as bytes."""

ABSENT = object()
"""What `Since` gives for a field the sender's version does not have; the record's default takes its place."""


def _struct_v(context: Any) -> int:
    """The version of the nearest enclosing versioned structure or message."""
    while "struct_v" not in context:
        context = context._
    return int(context["struct_v"])


def _earlier(context: Any, key: str) -> Any:
    """The value of an earlier field of this record or of one around it."""
    while key not in context:
        context = context._
    return context[key]


def _region(context: Any, stream: io.BytesIO, **more: Any) -> Any:
    """A context for what is parsed out of ``stream`` alone."""
    flags = {k: context[k] for k in ("_parsing", "_building", "_sizing", "_params") if k in context}
    return Container(_=context, _io=stream, _index=None, **flags, **more)


class Record(Subconstruct):
    """A frozen msgspec class, its fields in wire order. Only a Record may hold a Struct."""

    def __init__(self, cls: type[msgspec.Struct], struct: Struct) -> None:
        super().__init__(struct)
        self.cls = cls
        self.hidden: frozenset[Any] = frozenset(
            sub.name for sub in struct.subcons if sub.name and isinstance(unnamed(sub), (LengthOf, Const))
        )
        visible = {sub.name for sub in struct.subcons if sub.name} - self.hidden
        if visible != set(cls.__struct_fields__):
            raise TypeError(f"{cls.__name__}: schema and class differ in {visible ^ set(cls.__struct_fields__)}")

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        found = self.subcon._parsereport(stream, context, path)
        return self.cls(**{k: found[k] for k in self.cls.__struct_fields__ if found[k] is not ABSENT})

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        self.subcon._build({k: getattr(obj, k) for k in self.cls.__struct_fields__}, stream, context, path)
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        return int(self.subcon._sizeof(context, path))


def unnamed(sub: Any) -> Any:
    """The construct under a field's name."""
    while isinstance(sub, construct.Renamed):
        sub = sub.subcon
    return sub


class Since(Subconstruct):
    """A field that structures of ``version`` and later have.

    The version is the enclosing Versioned's or message's, or the earlier field ``of``.
    """

    def __init__(self, version: int, subcon: Construct, of: str | None = None) -> None:
        super().__init__(subcon)
        self.version = version
        self.of = of
        self.flagbuildnone = True

    def _here(self, context: Any) -> bool:
        return (context[self.of] if self.of else _struct_v(context)) >= self.version

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.subcon._parsereport(stream, context, path) if self._here(context) else ABSENT

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if self._here(context):
            self.subcon._build(obj, stream, context, path)
        return obj


class Versioned(Subconstruct):
    """``ENCODE_START``: u8 version, u8 oldest version that can read it, u32 length, body.

    A newer body is read as far as we know it and the rest skipped; one that says we cannot read it is refused.
    ``writes`` is the version we send when that is not the newest we read (ceph: src/include/encoding.h).
    """

    def __init__(self, newest: int, subcon: Construct, compat: int = 1, writes: int | None = None) -> None:
        super().__init__(subcon)
        self.newest = newest
        self.compat = compat
        self.writes: int = newest if writes is None else writes

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        struct_v = Int8ul._parse(stream, context, path)
        compat = Int8ul._parse(stream, context, path)
        if compat > self.newest:
            raise StreamError(f"needs a reader of version {compat}, this one knows {self.newest}", path=path)
        body = io.BytesIO(Blob._parse(stream, context, path))
        return self.subcon._parsereport(body, _region(context, body, struct_v=min(struct_v, self.newest)), path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        body = io.BytesIO()
        self.subcon._build(obj, body, _region(context, body, struct_v=self.writes), path)
        stream.write(bytes((self.writes, self.compat)))
        Blob._build(body.getvalue(), stream, context, path)
        return obj


class Sized(Subconstruct):
    """A u32 byte length and a region of that size; what ``subcon`` leaves of it is skipped."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.subcon._parsereport(io.BytesIO(Blob._parse(stream, context, path)), context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        body = io.BytesIO()
        self.subcon._build(obj, body, context, path)
        Blob._build(body.getvalue(), stream, context, path)
        return obj


class Filled(Sized):
    """A Sized region that may be empty, which reads as None."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        raw = Blob._parse(stream, context, path)
        return self.subcon._parsereport(io.BytesIO(raw), context, path) if raw else None

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if obj is None:
            Int32ul._build(0, stream, context, path)
        else:
            super()._build(obj, stream, context, path)
        return obj


class FixedSize(Subconstruct):
    """A region of ``length`` bytes; what ``subcon`` leaves of it is skipped, and zero when written."""

    def __init__(self, length: int, subcon: Construct) -> None:
        super().__init__(subcon)
        self.length = length

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        body = io.BytesIO(construct.stream_read(stream, self.length, path))
        return self.subcon._parsereport(body, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        body = io.BytesIO()
        self.subcon._build(obj, body, context, path)
        if len(body.getvalue()) > self.length:
            raise StreamError(f"does not fit into {self.length} bytes", path=path)
        stream.write(body.getvalue().ljust(self.length, b"\0"))
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        return self.length


class LengthOf(Subconstruct):
    """The length of the later field ``target``, kept out of the record: it is computed when written."""

    def __init__(self, target: str, subcon: Construct = Int32ul) -> None:
        super().__init__(subcon)
        self.target = target
        self.flagbuildnone = True

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.subcon._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        length = len(context[self.target])
        self.subcon._build(length, stream, context, path)
        return length


class BytesOf(Construct):
    """As many bytes as the earlier `LengthOf` field says."""

    def __init__(self, length: str) -> None:
        super().__init__()
        self.length = length

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        return bytes(construct.stream_read(stream, context[self.length], path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        stream.write(obj)
        return obj


class Counted(Subconstruct):
    """A count and that many items, as a tuple."""

    def __init__(self, subcon: Construct, count: Construct = Int32ul) -> None:
        super().__init__(subcon)
        self.count = count

    def _items(self, count: int, stream: Any, context: Any, path: str) -> tuple[Any, ...]:
        return tuple(self.subcon._parsereport(stream, context, path) for _ in range(count))

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self._items(self.count._parse(stream, context, path), stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        self.count._build(len(obj), stream, context, path)
        for item in obj:
            self.subcon._build(item, stream, context, path)
        return obj


class Repeat(Counted):
    """As many items as the earlier `LengthOf` field says, as a tuple."""

    def __init__(self, length: str, subcon: Construct) -> None:
        super().__init__(subcon)
        self.length = length

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self._items(context[self.length], stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        for item in obj:
            self.subcon._build(item, stream, context, path)
        return obj


class UntilEnd(Counted):
    """Items until the region ends, as a tuple; a broken last one is an error."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        found = []
        size = len(stream.getvalue())
        while stream.tell() < size:
            found.append(self.subcon._parsereport(stream, context, path))
        return tuple(found)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        for item in obj:
            self.subcon._build(item, stream, context, path)
        return obj


class Map(Construct):
    """u32 count and (key, value) pairs, as a dict in the order of the wire."""

    def __init__(self, key: Construct, value: Construct) -> None:
        super().__init__()
        self.key = key
        self.value = value

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        found = {}
        for _ in range(Int32ul._parse(stream, context, path)):
            key = self.key._parsereport(stream, context, path)
            found[key] = self.value._parsereport(stream, context, path)
        return found

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Int32ul._build(len(obj), stream, context, path)
        for key, value in obj.items():
            self.key._build(key, stream, context, path)
            self.value._build(value, stream, context, path)
        return obj


class Switch(Construct):
    """One of several layouts, by the value of an earlier field of this record or of one around it."""

    def __init__(self, key: str, cases: Mapping[int, Construct], default: Construct) -> None:
        super().__init__()
        self.key = key
        self.cases: dict[int, Construct] = dict(cases)
        self.default = default
        self.flagbuildnone = True

    def _case(self, context: Any) -> Construct:
        return self.cases.get(_earlier(context, self.key), self.default)

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self._case(context)._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        self._case(context)._build(obj, stream, context, path)
        return obj


class Present(Subconstruct):
    """``subcon`` if an earlier field (of this record or one around it) is not zero, else None and no bytes."""

    def __init__(self, key: str, subcon: Construct) -> None:
        super().__init__(subcon)
        self.key = key
        self.flagbuildnone = True

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.subcon._parsereport(stream, context, path) if _earlier(context, self.key) else None

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if _earlier(context, self.key):
            self.subcon._build(obj, stream, context, path)
        return obj


class Tagged(Construct):
    """A u8 marker that says which record follows; the record's class says which marker to write."""

    def __init__(self, cases: Mapping[int, Record | Versioned]) -> None:
        super().__init__()
        self.cases: dict[int, Record | Versioned] = dict(cases)
        self.tags: dict[Any, int] = {
            (case.subcon if isinstance(case, Versioned) else case).cls: tag for tag, case in self.cases.items()
        }

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        tag = Int8ul._parse(stream, context, path)
        if tag not in self.cases:
            raise StreamError(f"unknown marker {tag}", path=path)
        return self.cases[tag]._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        tag = self.tags[type(obj)]
        Int8ul._build(tag, stream, context, path)
        self.cases[tag]._build(obj, stream, context, path)
        return obj


class Segment(Construct):
    """The message's ``middle`` or ``data`` segment as a field; takes no bytes of the front.

    ``length`` names an earlier `LengthOf` field of the front that must agree.
    """

    def __init__(self, segment: str, length: str | None = None) -> None:
        super().__init__()
        self.segment = segment
        self.length = length
        self.flagbuildnone = True

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        found = context._params.get(self.segment, b"")
        if self.length is not None and context[self.length] != len(found):
            raise StreamError(f"{self.length} says {context[self.length]}, the segment has {len(found)}", path=path)
        return found

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        return obj
