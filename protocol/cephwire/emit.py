"""What the two generators share: source text under construction, sizes, and how failures read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import construct

from cephwire import schema as s
from cephwire.errors import MalformedMessage
from cephwire.scalars import BlobWord

__all__ = ["Emitter", "Leftover", "Unfit", "fixed_size", "least_size", "varies"]


class Leftover(NamedTuple):
    """Bytes a decoder skipped: the tail a newer sender appended, or trailing garbage."""

    structure: str
    offset: int
    size: int


class Unfit(Exception):
    """Bytes that a quick decoder will not have: an exact one has yet to say what is wrong with them."""


class RunField(NamedTuple):
    """One field of a run of fixed fields, as failures name it."""

    path: str
    offset: int
    size: int


def too_short(path: str, start: int, size: int, end: int) -> MalformedMessage:
    return MalformedMessage(f"{path} at byte {start}: needs {size} bytes, got {max(end - start, 0)}")


def too_many(path: str, start: int, count: int, least: int, end: int) -> MalformedMessage:
    return MalformedMessage(
        f"{path} at byte {start}: {count} items of at least {least} bytes, got {max(end - start, 0)} bytes"
    )


def too_new(path: str, start: int, compat: int, newest: int) -> MalformedMessage:
    return MalformedMessage(f"{path} at byte {start}: needs a reader of version {compat}, this one knows {newest}")


def unexpected(path: str, start: int, found: object, wanted: object) -> MalformedMessage:
    return MalformedMessage(f"{path} at byte {start}: {found!r} where {wanted!r} belongs")


def skip(leftover: list[Leftover], path: str, start: int, end: int) -> int:
    """Note the unread end of a region; where reading goes on."""
    if start > end:
        raise Unfit
    leftover.append(Leftover(path, start, end - start))
    return end


def skip_padding(leftover: list[Leftover], path: str, buf: bytes, start: int, end: int) -> int:
    """The same, unless it is all zero, as it should be in a region of fixed size."""
    return skip(leftover, path, start, end) if start > end or buf[start:end].strip(b"\0") else end


def unfit(run: tuple[RunField, ...], codes: str, values: tuple[Any, ...]) -> ValueError:
    """The first of ``values`` that does not fit its field. Ours, so plain misuse: ValueError."""
    named = [field for field in run if not field.path.endswith("padding")]
    for field, code, value in zip(named, codes.split(), values, strict=True):
        try:
            struct.pack("<" + code, value)
        except struct.error:
            return ValueError(f"{field.path}: {value!r} does not fit into {field.size} bytes")
    return ValueError(f"{run[0].path}: cannot be encoded")


def wrong_length(path: str, found: int, wanted: int) -> ValueError:
    return ValueError(f"{path}: {found} bytes where {wanted} belong")


HELPERS: dict[str, Any] = {
    "Unfit": Unfit,
    "skip": skip,
    "skip_padding": skip_padding,
    "struct_error": struct.error,
    "too_many": too_many,
    "too_new": too_new,
    "too_short": too_short,
    "unexpected": unexpected,
    "unfit": unfit,
    "wrong_length": wrong_length,
}


class Emitter:
    """Python source under construction, with the pending run of fixed fields that one (un)pack will handle."""

    def __init__(self, struct_v: int | None) -> None:
        self.struct_v = struct_v
        self.lines: list[str] = []
        self.names: dict[str, Any] = dict(HELPERS)
        self.scopes: list[dict[str, str]] = []
        self.run: list[tuple[str, str, str, int]] = []  # path, struct code, variable or expression, size
        self.depth: int = 1
        self._serial = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, stem: str) -> str:
        self._serial += 1
        return f"{stem}{self._serial}"

    def constant(self, stem: str, value: Any) -> str:
        """A name the generated code finds ``value`` under."""
        name = self.fresh(stem)
        self.names[name] = value
        return name

    def block(self, header: str, body: Callable[[], None]) -> None:
        self.line(header)
        self.depth += 1
        before = len(self.lines)
        body()
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def earlier(self, key: str, path: str) -> str:
        """The expression of an earlier field."""
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        raise TypeError(f"{path}: no earlier field {key} in reach")

    def has(self, since: s.Since, path: str) -> bool:
        """Whether the version at hand has this field."""
        if self.struct_v is None:
            raise TypeError(f"{path}: Since outside any versioned structure")
        return self.struct_v >= since.version

    def run_fields(self) -> tuple[RunField, ...]:
        offset, fields = 0, []
        for path, _, _, size in self.run:
            fields.append(RunField(path, offset, size))
            offset += size
        return tuple(fields)

    def compile(self, header: str) -> Any:
        """The function the lines so far make."""
        text = "\n".join([header, *self.lines, ""])
        self.names["__source__"] = text
        exec(compile(text, f"<cephwire {header}>", "exec"), self.names)
        return self.names[header.split("(")[0].removeprefix("def ")]


def code_of(field: construct.FormatField) -> str:
    """The struct code of a little-endian integer."""
    order, code = field.fmtstr[0], field.fmtstr[1:]
    if order != "<" and code not in "bB":
        raise TypeError(f"{field!r}: only little-endian integers")
    return str(code)


def fixed_size(sub: Any, struct_v: int | None) -> int | None:
    """Bytes ``sub`` always takes, when it is nothing but plain fixed fields; else None."""
    sub = s.unnamed(sub)
    if isinstance(sub, construct.FormatField | construct.Bytes) and isinstance(sub.length, int):
        return sub.length
    if sub is s.Utime:
        return 8
    if isinstance(sub, construct.Padded):
        return int(sub.length)
    if isinstance(sub, s.Record):
        sizes = [fixed_size(field, struct_v) for field in sub.subcon.subcons]
        return None if None in sizes else sum(size for size in sizes if size is not None)
    if isinstance(sub, s.Since) and sub.of is None and struct_v is not None:
        return fixed_size(sub.subcon, struct_v) if struct_v >= sub.version else 0
    return None


def least_size(sub: Any) -> int:
    """Fewest bytes ``sub`` can take."""
    sub = s.unnamed(sub)
    if (size := fixed_size(sub, None)) is not None:
        return size
    match sub:
        case s.Record():
            return sum(least_size(field) for field in sub.subcon.subcons)
        case s.Versioned():
            return 6
        case s.FixedSize():
            return int(sub.length)
        case s.LengthOf() | construct.Const():
            return least_size(sub.subcon)
        case s.Tagged():
            return 1 + min(least_size(case) for case in sub.cases.values())
        case s.Switch():
            return min(least_size(case) for case in [*sub.cases.values(), sub.default])
        case s.Repeat() | s.UntilEnd():
            return 0
        case s.Counted():
            return least_size(sub.count)
        case s.Sized() | s.Map() | BlobWord():
            return 4
    return 0


def varies(sub: Any) -> bool:
    """Whether ``sub`` reads differently by the struct version around it."""
    sub = s.unnamed(sub)
    match sub:
        case s.Since():
            return sub.of is None or varies(sub.subcon)
        case s.Versioned():
            return False
        case s.Record():
            return any(varies(field) for field in sub.subcon.subcons)
        case s.Map():
            return varies(sub.key) or varies(sub.value)
        case s.Switch():
            return any(varies(case) for case in [*sub.cases.values(), sub.default])
        case s.Tagged():
            return any(varies(case) for case in sub.cases.values())
        case construct.Subconstruct():
            return varies(sub.subcon)
    return False
