"""Generates, from a schema, the Python that decodes it.

One function for each structure version, made on first use: fields the version lacks fold away, neighbouring fixed
fields become one ``unpack_from``, every length and count is checked against what is there before anything is made of
it. A failed check looks the field up in the run's table, so the quick path pays nothing for naming it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import construct
import msgspec

from cephwire import schema as s
from cephwire.emit import Emitter, code_of, fixed_size, least_size, varies
from cephwire.scalars import BitsetWord, BlobWord, TextWord, UtimeWord

__all__ = ["Decoder", "decoder"]

Decoder = Callable[[bytes, int, int, tuple[bytes, bytes], Any], tuple[Any, int]]
"""(bytes, start, end, (middle, data), leftovers or None) -> (value, where it ended)."""


def decoder(sub: Any, path: str, struct_v: int | None) -> Decoder:
    """A function that decodes ``sub`` as version ``struct_v``."""
    emitter = _Decoding(struct_v)
    value = emitter.field(sub, path)
    emitter.flush()
    emitter.line(f"return {value}, p")
    made: Decoder = emitter.compile("def decode(buf, p, end, segments, leftover):")
    return made


class _Versions(dict[int, Decoder]):
    """The decoders of one structure by version, each made when first met."""

    def __init__(self, sub: Any, path: str) -> None:
        super().__init__()
        self._sub = sub
        self._path = path

    def __missing__(self, struct_v: int) -> Decoder:
        made = self[struct_v] = decoder(self._sub, self._path, struct_v)
        return made


class _Decoding(Emitter):
    """Each method reads one word of the vocabulary and gives the expression of its value.

    Expressions over run variables hold only after `flush`.
    """

    def __init__(self, struct_v: int | None) -> None:
        super().__init__(struct_v)
        self.end = "end"

    def take(self, path: str, code: str, size: int) -> str:
        name = "" if code.endswith("x") else self.fresh("v")
        self.run.append((path, code, name, size))
        return name

    def flush(self) -> None:
        if not self.run:
            return
        size = sum(field[3] for field in self.run)
        codes = "<" + "".join(field[1] for field in self.run)
        targets = [field[2] for field in self.run if field[2]]
        table = self.constant("run", self.run_fields())
        self.run = []
        self.line(f"if p + {size} > {self.end}: raise short({table}, p, {self.end})")
        if targets:
            unpack = self.constant("unpack", struct.Struct(codes).unpack_from)
            self.line(f"{', '.join(targets)}, = {unpack}(buf, p)")
        self.line(f"p += {size}")

    def kept(self, expression: str) -> str:
        """``expression`` in a variable."""
        self.flush()
        name = self.fresh("x")
        self.line(f"{name} = {expression}")
        return name

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
                return self.counted_bytes(path) + '.decode("utf-8", "surrogateescape")'
            case BitsetWord():
                return f'int.from_bytes({self.counted_bytes(path)}, "little")'
            case BlobWord():
                return self.counted_bytes(path)
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
            rest = self.kept(f"buf[p:{self.end}]")
            self.line(f"p = {self.end}")
            return rest
        if sub is s.Pass:
            return "None"
        raise TypeError(f"{path}: {type(sub).__name__} is not in the vocabulary")

    def record(self, sub: s.Record, path: str) -> str:
        cls = sub.cls
        values: dict[str, str] = {}
        defaults = {field.name: field for field in msgspec.structs.fields(cls) if not field.required}
        self.scopes.append(values)
        for field in sub.subcon.subcons:
            inner = s.unnamed(field)
            here = f"{path}.{field.name}" if field.name else path
            if isinstance(inner, s.Since) and field.name not in defaults:
                raise TypeError(f"{here}: a field not in every version needs a default")
            if isinstance(inner, s.Since):
                default = defaults[field.name]
                if default.default_factory is not msgspec.NODEFAULT:
                    self.absent = self.constant("factory", default.default_factory) + "()"
                else:
                    self.absent = self.constant("default", default.default)
            value = self.field(field, here)
            if field.name:
                values[field.name] = value
        self.scopes.pop()
        name = self.constant("cls", cls)
        return f"{name}({', '.join(values[key] for key in cls.__struct_fields__)})"

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

    def some_bytes(self, path: str, size: str) -> str:
        self.flush()
        stop = self.kept(f"p + {size}")
        self.line(f"if {stop} > {self.end}: raise too_short({path!r}, p, {size}, {self.end})")
        value = self.kept(f"buf[p:{stop}]")
        self.line(f"p = {stop}")
        return value

    def counted_bytes(self, path: str) -> str:
        return self.some_bytes(path, self.take(f"{path} length", "I", 4))

    def const(self, sub: construct.Const, path: str) -> str:
        size = least_size(sub.subcon)
        found = self.field(sub.subcon, path)
        self.flush()
        self.line(f"if {found} != {sub.value!r}: raise unexpected({path!r}, p - {size}, {found}, {sub.value!r})")
        return found

    def versioned(self, sub: s.Versioned, path: str) -> str:
        version, compat = self.take(f"{path} version", "B", 1), self.take(f"{path} compat", "B", 1)
        size = self.take(f"{path} length", "I", 4)
        self.flush()
        self.line(f"if {compat} > {sub.newest}: raise too_new({path!r}, p - 6, {compat}, {sub.newest})")
        if not varies(sub.subcon):
            return self.region(sub.subcon, path, size)
        inner = s.unnamed(sub.subcon)
        name = inner.cls.__name__ if isinstance(inner, s.Record) else path
        versions = self.constant("versions", _Versions(sub.subcon, name))
        stop, value = self.open_region(path, size), self.fresh("x")
        self.line(
            f"{value}, p = {versions}[{version} if {version} < {sub.newest} else {sub.newest}]"
            f"(buf, p, {stop}, segments, leftover)"
        )
        self.close_region(path, stop)
        return value

    def open_region(self, path: str, size: str) -> str:
        stop = self.kept(f"p + {size}")
        self.line(f"if {stop} > {self.end}: raise too_short({path!r}, p, {size}, {self.end})")
        return stop

    def close_region(self, path: str, stop: str, padded: bool = False) -> None:
        def skip() -> None:
            if padded:
                self.line(f"padding(leftover, {path!r}, buf, p, {stop})")
            else:
                self.line(f"if leftover is not None: leftover.append(Leftover({path!r}, p, {stop} - p))")
            self.line(f"p = {stop}")

        self.block(f"if p != {stop}:", skip)

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

    def items(self, sub: Any, path: str, count: str) -> str:
        least = least_size(sub)
        if not least:
            raise TypeError(f"{path}: items that may be empty cannot be bounded")
        self.flush()
        self.line(f"if {count} * {least} > {self.end} - p: raise too_many({path!r}, p, {count}, {least}, {self.end})")
        if fixed_size(sub, self.struct_v) is not None:
            return self.fixed_items(sub, path, count)
        found = self.kept("[]")
        self.block(f"for _ in range({count}):", lambda: self.append(found, sub, path))
        return f"tuple({found})"

    def append(self, found: str, sub: Any, path: str) -> None:
        item = self.field(sub, path)
        self.flush()
        self.line(f"{found}.append({item})")

    def fixed_items(self, sub: Any, path: str, count: str) -> str:
        item = self.field(sub, path)
        run, self.run = self.run, []
        size = sum(field[3] for field in run)
        unpack = self.constant("iter", struct.Struct("<" + "".join(field[1] for field in run)).iter_unpack)
        targets = ", ".join(field[2] for field in run if field[2])
        stop = self.kept(f"p + {count} * {size}")
        value = self.kept(f"tuple([{item} for ({targets},) in {unpack}(buf[p:{stop}])])")
        self.line(f"p = {stop}")
        return value

    def until_end(self, sub: s.UntilEnd, path: str) -> str:
        if not least_size(sub.subcon):
            raise TypeError(f"{path}: items that may be empty cannot be bounded")
        found = self.kept("[]")
        self.block(f"while p < {self.end}:", lambda: self.append(found, sub.subcon, path))
        return f"tuple({found})"

    def map(self, sub: s.Map, path: str) -> str:
        count = self.take(f"{path} count", "I", 4)
        least = least_size(sub.key) + least_size(sub.value)
        if not least:
            raise TypeError(f"{path}: items that may be empty cannot be bounded")
        found = self.kept("{}")
        self.line(f"if {count} * {least} > {self.end} - p: raise too_many({path!r}, p, {count}, {least}, {self.end})")

        def body() -> None:
            key = self.kept(self.field(sub.key, f"{path} key"))
            value = self.kept(self.field(sub.value, path))
            self.line(f"{found}[{key}] = {value}")

        self.block(f"for _ in range({count}):", body)
        return found

    def switch(self, sub: s.Switch, path: str) -> str:
        key, value, word = self.earlier(sub.key, path), self.fresh("x"), "if"
        self.flush()
        for wanted, case in sub.cases.items():
            self.block(f"{word} {key} == {int(wanted)}:", partial(self.assign, value, case, path))
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
        self.line(f"else: raise unexpected({path + ' marker'!r}, p - 1, {tag}, {sorted(sub.cases)!r})")
        return value

    def segment(self, sub: s.Segment, path: str) -> str:
        value = f"segments[{('middle', 'data').index(sub.segment)}]"
        if sub.length is not None:
            size = self.earlier(sub.length, path)
            self.flush()
            self.line(f"if {size} != len({value}): raise unexpected({path!r}, p, len({value}), {size})")
        return value
