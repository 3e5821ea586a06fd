"""Generates, from a schema, the Python that decodes it.

Two functions for each structure version, each made on first use; fields that the version lacks fold away in both.

The quick one makes one ``unpack_from`` of neighbouring fixed fields and goes on without looking whether it has left the
region it is in: reading only ever goes forwards, so it is enough to see at a region's end that it stands just there, or
before. No more is made of the bytes than there are: ``unpack_from`` refuses to read past them, slices end with them,
counts are checked. Whatever it will not have goes to the exact one, which reads field by field, checks each before
it is read, and says which is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import construct
import msgspec

from cephwire import schema as s
from cephwire.emit import Emitter, Leftover, code_of, fixed_size, least_size, varies
from cephwire.scalars import BitsetWord, BlobWord, TextWord, UtimeWord

__all__ = ["Decoder", "decoder"]

Decoder = Callable[[bytes, int, int, tuple[bytes, bytes], list[Leftover]], tuple[Any, int]]
"""(bytes, start, end, (middle, data), leftovers to be added to) -> (value, where it ended).

A quick one raises Unfit or struct.error, or ends past ``end``, where an exact one raises MalformedMessage. What either
has added to the leftovers then means nothing.
"""


def decoder(sub: Any, path: str, struct_v: int | None, *, exact: bool) -> Decoder:
    """A function that decodes ``sub`` as version ``struct_v``."""
    emitter = _Decoding(struct_v, exact)
    value = emitter.field(sub, path)
    emitter.flush()
    emitter.line(f"return {value}, p")
    made: Decoder = emitter.compile("def decode(buf, p, end, segments, leftover):")
    return made


class _Versions(dict[int, Decoder]):
    """The decoders of one structure by version, each made when first met."""

    def __init__(self, sub: Any, path: str, exact: bool) -> None:
        super().__init__()
        self._sub = sub
        self._path = path
        self._exact = exact

    def __missing__(self, struct_v: int) -> Decoder:
        made = self[struct_v] = decoder(self._sub, self._path, struct_v, exact=self._exact)
        return made


class _Decoding(Emitter):
    """Each method reads one word of the vocabulary and gives the expression of its value.

    Expressions over run variables hold only after `flush`, and so do lines: `soon` is for those that need no more than
    the run before them.
    """

    def __init__(self, struct_v: int | None, exact: bool) -> None:
        super().__init__(struct_v)
        self.exact = exact
        self.end = "end"
        self.waiting: list[str] = []  # lines that follow the run
        self.apart = False
        """Whether versioned structures get functions of their own."""

    # Lines

    def take(self, path: str, code: str, size: int) -> str:
        self.bound(f"p + {size} > {self.end}", f"too_short({path!r}, p, {size}, {self.end})")
        name = "" if code.endswith("x") else self.fresh("v")
        self.run.append((path, code, name, size))
        if self.exact:
            self.flush()
        return name

    def flush(self) -> None:
        if not self.run:
            return
        targets = [field[2] for field in self.run if field[2]]
        if targets:
            unpack = self.constant("unpack", struct.Struct("<" + "".join(field[1] for field in self.run)).unpack_from)
            self.line(f"{', '.join(targets)}, = {unpack}(buf, p)")
        for text in self.waiting:
            self.line(text)
        self.line(f"p += {self.pending()}")
        self.run, self.waiting = [], []

    def pending(self) -> int:
        """Bytes of the run."""
        return sum(field[3] for field in self.run)

    def soon(self, text: str) -> None:
        """A line behind the run, before ``p`` has moved past that."""
        if self.run:
            self.waiting.append(text)
        else:
            self.line(text)

    def bound(self, condition: str, error: str) -> None:
        """What need not be checked at once where only right bytes matter."""
        if self.exact:
            self.line(f"if {condition}: raise {error}")

    def refuse(self, condition: str, error: str) -> None:
        """What no later check would find."""
        self.soon(f"if {condition}: raise {self.error(error)}")

    def error(self, error: str) -> str:
        return error if self.exact else "Unfit"

    def kept(self, expression: str) -> str:
        """``expression`` in a variable."""
        self.flush()
        name = self.fresh("x")
        self.line(f"{name} = {expression}")
        return name

    # Words

    def field(self, sub: Any, path: str) -> str:
        sub = s.unnamed(sub)
        match sub:
            case s.Record():
                return self.record(sub, path)
            case construct.FormatField():
                return self.take(path, code_of(sub), sub.length)
            case construct.Bytes() if isinstance(sub.length, int):
                return self.take(path, f"{sub.length}s", sub.length)
            case construct.Padded() if sub.subcon is s.Pass:
                return self.take(f"{path} padding", f"{sub.length}x", sub.length)
            case UtimeWord():
                seconds = self.take(path, "I", 4)
                return f"({seconds} * {s.NSEC} + {self.take(path, 'I', 4)})"
            case TextWord():
                return self.blob(path, '""', '{}.decode("utf-8", "surrogateescape")')
            case BitsetWord():
                return self.blob(path, "0", 'int.from_bytes({}, "little")')
            case BlobWord():
                return self.blob(path)
            case s.BytesOf():
                return self.some_bytes(path, self.earlier(sub.length, path))
            case s.LengthOf():
                return self.field(sub.subcon, path)
            case construct.Const():
                return self.const(sub, path)
            case s.Since():
                return self.since(sub, path)
            case s.Versioned():
                return self.versioned(sub, path)
            case s.Filled():
                return self.filled(sub, path)
            case s.Sized():
                return self.region(sub.subcon, path, self.take(path, "I", 4))
            case s.FixedSize():
                return self.region(sub.subcon, path, str(sub.length), padded=True)
            case s.Repeat():
                return self.items(sub.subcon, path, self.earlier(sub.length, path))
            case s.UntilEnd():
                return self.until_end(sub, path)
            case s.Counted():
                return self.items(sub.subcon, path, self.field(sub.count, path))
            case s.Map():
                return self.map(sub, path)
            case s.Switch():
                return self.switch(sub, path)
            case s.Present():
                return self.present(sub, path)
            case s.Tagged():
                return self.tagged(sub, path)
            case s.Segment():
                return self.segment(sub, path)
        if sub is s.Rest:
            return self.rest(path)
        if sub is s.Pass:
            return "None"
        raise TypeError(f"{path}: {type(sub).__name__} is not in the vocabulary")

    def record(self, sub: s.Record, path: str) -> str:
        cls = sub.cls
        values: dict[str, str] = {}
        self.scopes.append(values)
        for field in sub.subcon.subcons:
            here = f"{path}.{field.name}" if field.name else path
            if isinstance(s.unnamed(field), s.Since):
                self.absent = self.default(_defaults(cls), field.name, here)
            value = self.field(field, here)
            if field.name:
                values[field.name] = value
        self.scopes.pop()
        name = self.constant("cls", cls)
        return f"{name}({', '.join(values[key] for key in cls.__struct_fields__)})"

    def default(self, defaults: dict[str, msgspec.structs.FieldInfo], name: str, path: str) -> str:
        """What a field is in versions that lack it."""
        if name not in defaults:
            raise TypeError(f"{path}: a field not in every version needs a default")
        default = defaults[name]
        if default.default_factory is not msgspec.NODEFAULT:
            return self.constant("factory", default.default_factory) + "()"
        return self.constant("default", default.default)

    def since(self, sub: s.Since, path: str) -> str:
        absent = self.absent
        if sub.of is None:
            return self.field(sub.subcon, path) if self.has(sub, path) else absent
        value = self.kept(absent)
        self.block(f"if {self.earlier(sub.of, path)} >= {sub.version}:", lambda: self.assign(value, sub.subcon, path))
        return value

    def assign(self, name: str, sub: Any, path: str) -> None:
        expression = self.field(sub, path)
        self.flush()
        self.line(f"{name} = {expression}")

    def blob(self, path: str, empty: str = 'b""', turned: str = "{}") -> str:
        return self.some_bytes(path, self.take(f"{path} length", "I", 4), empty, turned)

    def some_bytes(self, path: str, size: str, empty: str = 'b""', turned: str = "{}") -> str:
        """So many bytes, ``turned`` into something; mostly there are none."""
        value, stop = self.kept(empty), self.fresh("x")

        def body() -> None:
            self.line(f"{stop} = p + {size}")
            self.bound(f"{stop} > {self.end}", f"too_short({path!r}, p, {size}, {self.end})")
            self.line(f"{value} = {turned.format(f'buf[p:{stop}]')}")
            self.line(f"p = {stop}")

        self.block(f"if {size}:", body)
        return value

    def const(self, sub: construct.Const, path: str) -> str:
        size = least_size(sub.subcon)
        found = self.field(sub.subcon, path)
        self.refuse(f"{found} != {sub.value!r}", f"unexpected({path!r}, p - {size}, {found}, {sub.value!r})")
        return found

    def versioned(self, sub: s.Versioned, path: str) -> str:
        version, compat = self.take(f"{path} version", "B", 1), self.take(f"{path} compat", "B", 1)
        size = self.take(f"{path} length", "I", 4)
        self.refuse(f"{compat} > {sub.newest}", f"too_new({path!r}, p - 6, {compat}, {sub.newest})")
        varied = varies(sub.subcon)
        if not (varied or self.apart):
            return self.region(sub.subcon, path, size)
        inner = s.unnamed(sub.subcon)
        name = inner.cls.__name__ if varied and isinstance(inner, s.Record) else path
        versions = self.constant("versions", _Versions(sub.subcon, name, self.exact))
        stop, value = self.open_region(path, size), self.fresh("x")
        self.flush()
        self.line(
            f"{value}, p = {versions}[{version} if {version} < {sub.newest} else {sub.newest}]"
            f"(buf, p, {stop}, segments, leftover)"
        )
        self.close_region(path, stop)
        return value

    def open_region(self, path: str, size: str) -> str:
        stop = self.fresh("x")
        self.soon(f"{stop} = p + {self.pending()} + {size}" if self.run else f"{stop} = p + {size}")
        self.bound(f"{stop} > {self.end}", f"too_short({path!r}, p, {size}, {self.end})")
        return stop

    def close_region(self, path: str, stop: str, padded: bool = False) -> None:
        skip = f"skip_padding(leftover, {path!r}, buf, p, {stop})" if padded else f"skip(leftover, {path!r}, p, {stop})"
        self.line(f"if p != {stop}: p = {skip}")

    def region(self, sub: Any, path: str, size: str, padded: bool = False) -> str:
        stop = self.open_region(path, size)
        outer, self.end = self.end, stop
        value = self.field(sub, path)
        self.flush()
        self.end = outer
        self.close_region(path, stop, padded)
        return value

    def filled(self, sub: s.Filled, path: str) -> str:
        size = self.take(f"{path} length", "I", 4)
        value = self.kept("None")

        def body() -> None:
            self.line(f"{value} = {self.region(sub.subcon, path, size)}")

        self.block(f"if {size}:", body)
        return value

    def rest(self, path: str) -> str:
        self.flush()
        self.refuse(f"p > {self.end}", f"too_short({path!r}, p, 0, {self.end})")
        rest = self.kept(f"buf[p:{self.end}]")
        self.line(f"p = {self.end}")
        return rest

    def some(self, path: str, count: str, least: int, empty: str, body: Callable[[str], None]) -> str:
        """A variable that is ``empty``, and what ``body`` makes of it if there is anything."""
        if not least:
            raise TypeError(f"{path}: items that may be empty cannot be bounded")
        found = self.kept(empty)

        def bounded() -> None:
            self.refuse(f"{count} * {least} > {self.end} - p", f"too_many({path!r}, p, {count}, {least}, {self.end})")
            body(found)

        self.block(f"if {count}:", bounded)
        return found

    def items(self, sub: Any, path: str, count: str) -> str:
        fixed = not self.exact and fixed_size(sub, self.struct_v) is not None

        def body(found: str) -> None:
            if fixed:
                self.fixed_items(found, sub, path, count)
                return
            listed = self.kept("[]")
            self.block(f"for _ in range({count}):", lambda: self.append(listed, sub, path))
            self.line(f"{found} = tuple({listed})")

        return self.some(path, count, least_size(sub), "()", body)

    def append(self, found: str, sub: Any, path: str) -> None:
        item = self.field(sub, path)
        self.flush()
        self.line(f"{found}.append({item})")

    def fixed_items(self, found: str, sub: Any, path: str, count: str) -> None:
        item = self.field(sub, path)
        run, size = self.run, self.pending()
        self.run = []
        unpack = self.constant("iter", struct.Struct("<" + "".join(field[1] for field in run)).iter_unpack)
        targets = ", ".join(field[2] for field in run if field[2])
        stop = self.kept(f"p + {count} * {size}")
        self.line(f"{found} = tuple([{item} for ({targets},) in {unpack}(buf[p:{stop}])])")
        self.line(f"p = {stop}")

    def until_end(self, sub: s.UntilEnd, path: str) -> str:
        if not least_size(sub.subcon):
            raise TypeError(f"{path}: items that may be empty cannot be bounded")
        found = self.kept("[]")
        self.block(f"while p < {self.end}:", lambda: self.append(found, sub.subcon, path))
        return f"tuple({found})"

    def map(self, sub: s.Map, path: str) -> str:
        count = self.take(f"{path} count", "I", 4)

        def pair(found: str) -> None:
            key = self.kept(self.field(sub.key, f"{path} key"))
            outer, self.apart = self.apart, not self.exact  # what is in a map that stays empty is never made
            value = self.kept(self.field(sub.value, path))
            self.apart = outer
            self.line(f"{found}[{key}] = {value}")

        def body(found: str) -> None:
            self.block(f"for _ in range({count}):", partial(pair, found))

        return self.some(path, count, least_size(sub.key) + least_size(sub.value), "{}", body)

    def switch(self, sub: s.Switch, path: str) -> str:
        key, value, word = self.earlier(sub.key, path), self.fresh("x"), "if"
        self.flush()
        for wanted, case in _alike(sub.cases).items():
            self.block(f"{word} {key} {wanted}:", partial(self.assign, value, case, path))
            word = "elif"
        self.block("else:", lambda: self.assign(value, sub.default, path))
        return value

    def present(self, sub: s.Present, path: str) -> str:
        value = self.kept("None")
        self.block(f"if {self.earlier(sub.key, path)}:", lambda: self.assign(value, sub.subcon, path))
        return value

    def tagged(self, sub: s.Tagged, path: str) -> str:
        tag, value, word = self.take(f"{path} marker", "B", 1), self.fresh("x"), "if"
        self.flush()
        for wanted, case in sub.cases.items():
            self.block(f"{word} {tag} == {wanted}:", partial(self.assign, value, case, path))
            word = "elif"
        unknown = f"unexpected({path + ' marker'!r}, p - 1, {tag}, {sorted(sub.cases)!r})"
        self.line(f"else: raise {self.error(unknown)}")
        return value

    def segment(self, sub: s.Segment, path: str) -> str:
        value = f"segments[{('middle', 'data').index(sub.segment)}]"
        if sub.length is not None:
            size = self.earlier(sub.length, path)
            self.refuse(f"{size} != len({value})", f"unexpected({path!r}, p, len({value}), {size})")
        return value


@cache
def _defaults(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields that may be left out. To ask for them evaluates all annotations of the class."""
    return {field.name: field for field in msgspec.structs.fields(cls) if not field.required}


def _alike(cases: dict[int, Any]) -> dict[str, Any]:
    """Layouts by the condition on the key; keys that share one together."""
    keys: dict[int, list[int]] = {}
    for key, case in cases.items():
        keys.setdefault(id(case), []).append(int(key))
    return {
        f"== {some[0]}" if len(some) == 1 else f"in {{{', '.join(map(str, some))}}}": cases[some[0]]
        for some in keys.values()
    }
