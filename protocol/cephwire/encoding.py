"""Generates, from a schema, the Python that encodes it; the mirror of `cephwire.decoding`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import construct

from cephwire import schema as s
from cephwire.emit import Emitter, code_of, fixed_size
from cephwire.scalars import BitsetWord, BlobWord, TextWord, UtimeWord

__all__ = ["Encoder", "encoder"]

Encoder = Callable[[Any, bytearray], None]
"""(value, out): appends the value's bytes to ``out``."""


def encoder(sub: Any, path: str, struct_v: int | None) -> Encoder:
    """A function that encodes ``sub`` as version ``struct_v``."""
    emitter = _Encoding(struct_v)
    emitter.names["pack_length"] = struct.Struct("<I").pack_into
    emitter.field(sub, "value", path)
    emitter.flush()
    emitter.line("return None")
    made: Encoder = emitter.compile("def encode(value, out):")
    return made


class _Encoding(Emitter):
    """Each method writes the value of ``expression`` as one word of the vocabulary."""

    def put(self, path: str, code: str, expression: str, size: int) -> None:
        self.run.append((path, code, expression, size))

    def flush(self) -> None:
        if not self.run:
            return
        table = self.constant("run", self.run_fields())
        pack = self.constant("pack", struct.Struct("<" + "".join(field[1] for field in self.run)).pack)
        coded = [(code, expression) for _, code, expression, _ in self.run if expression]
        codes = " ".join(code for code, _ in coded)
        values = ", ".join(expression for _, expression in coded)
        self.run = []
        self.line(f"try: out += {pack}({values})")
        self.line(f"except struct_error: raise unfit({table}, {codes!r}, ({values},)) from None")

    def kept(self, expression: str) -> str:
        name = self.fresh("x")
        self.line(f"{name} = {expression}")
        return name

    def field(self, sub: Any, expression: str, path: str) -> None:
        sub = s.unnamed(sub)
        match sub:
            case s.Record():
                self.record(sub, expression, path)
            case construct.FormatField():
                self.put(path, code_of(sub), expression, sub.length)
            case construct.Bytes() if isinstance(sub.length, int):
                wrong = f"wrong_length({path!r}, len({expression}), {sub.length})"
                self.line(f"if len({expression}) != {sub.length}: raise {wrong}")
                self.put(path, f"{sub.length}s", expression, sub.length)
            case construct.Padded() if sub.subcon is s.Pass:
                self.put(f"{path} padding", f"{sub.length}x", "", sub.length)
            case UtimeWord():
                self.put(path, "I", f"{expression} // {s.NSEC}", 4)
                self.put(path, "I", f"{expression} % {s.NSEC}", 4)
            case TextWord():
                self.blob(f'{expression}.encode("utf-8", "surrogateescape")', path)
            case BitsetWord():
                bits = self.kept(expression)
                self.blob(f'{bits}.to_bytes(({bits}.bit_length() + 63) // 64 * 8, "little")', path)
            case BlobWord():
                self.blob(expression, path)
            case s.BytesOf():
                self.flush()
                self.line(f"out += {expression}")
            case s.LengthOf():
                self.field(sub.subcon, expression, path)
            case construct.Const():
                self.field(sub.subcon, repr(sub.value), path)
            case s.Since():
                self.since(sub, expression, path)
            case s.Versioned():
                self.versioned(sub, expression, path)
            case s.Filled():
                self.filled(sub, expression, path)
            case s.Sized():
                self.measured(sub.subcon, expression, path)
            case s.FixedSize():
                self.fixed_region(sub, expression, path)
            case s.Repeat() | s.UntilEnd():
                self.items(sub.subcon, expression, path)
            case s.Counted():
                found = self.kept(expression)
                self.field(sub.count, f"len({found})", f"{path} count")
                self.items(sub.subcon, found, path)
            case s.Map():
                self.map(sub, expression, path)
            case s.Switch():
                self.switch(sub, expression, path)
            case s.Present():
                self.flush()
                self.block(
                    f"if {self.earlier(sub.key, path)}:", partial(self.whole, sub.subcon, self.kept(expression), path)
                )
            case s.Tagged():
                self.tagged(sub, expression, path)
            case s.Segment():
                pass
            case _ if sub is s.Rest:
                self.flush()
                self.line(f"out += {expression}")
            case _ if sub is s.Pass:
                pass
            case _:
                raise TypeError(f"{path}: {type(sub).__name__} is not in the vocabulary")

    def whole(self, sub: Any, expression: str, path: str) -> None:
        """A field that nothing pending may run over: the body of a branch or a loop."""
        self.field(sub, expression, path)
        self.flush()

    def record(self, sub: s.Record, expression: str, path: str) -> None:
        value = self.kept(expression)
        values: dict[str, str] = {}
        self.scopes.append(values)
        for field in sub.subcon.subcons:
            inner = s.unnamed(field)
            here = f"{path}.{field.name}" if field.name else path
            mine = f"len({value}.{inner.target})" if isinstance(inner, s.LengthOf) else f"{value}.{field.name}"
            self.field(field, mine, here)
            if field.name:
                values[field.name] = mine
        self.scopes.pop()

    def blob(self, expression: str, path: str) -> None:
        value = self.kept(expression)
        self.put(f"{path} length", "I", f"len({value})", 4)
        self.flush()
        self.line(f"out += {value}")

    def since(self, sub: s.Since, expression: str, path: str) -> None:
        if sub.of is not None:
            self.flush()
            header = f"if {self.earlier(sub.of, path)} >= {sub.version}:"
            self.block(header, partial(self.whole, sub.subcon, expression, path))
        elif self.has(sub, path):
            self.field(sub.subcon, expression, path)

    def versioned(self, sub: s.Versioned, expression: str, path: str) -> None:
        outer, self.struct_v = self.struct_v, sub.writes
        self.put(f"{path} version", "B", str(sub.writes), 1)
        self.put(f"{path} compat", "B", str(sub.compat), 1)
        self.measured(sub.subcon, expression, path)
        self.struct_v = outer

    def measured(self, sub: Any, expression: str, path: str) -> None:
        """A u32 length before what it measures."""
        if (size := fixed_size(sub, self.struct_v)) is not None:
            self.put(f"{path} length", "I", str(size), 4)
            self.field(sub, expression, path)
            return
        self.put(f"{path} length", "I", "0", 4)
        self.flush()
        start = self.kept("len(out)")
        self.whole(sub, expression, path)
        self.line(f"pack_length(out, {start} - 4, len(out) - {start})")

    def filled(self, sub: s.Filled, expression: str, path: str) -> None:
        value = self.kept(expression)
        self.flush()

        def body() -> None:
            self.measured(sub.subcon, value, path)
            self.flush()

        self.block(f"if {value} is not None:", body)
        self.line('else: out += b"\\0\\0\\0\\0"')

    def fixed_region(self, sub: s.FixedSize, expression: str, path: str) -> None:
        if (size := fixed_size(sub.subcon, self.struct_v)) is not None and size <= sub.length:
            self.field(sub.subcon, expression, path)
            if size < sub.length:
                self.put(f"{path} padding", f"{sub.length - size}x", "", sub.length - size)
            return
        self.flush()
        stop = self.kept(f"len(out) + {sub.length}")
        self.whole(sub.subcon, expression, path)
        self.line(f"if len(out) > {stop}: raise wrong_length({path!r}, len(out) - {stop} + {sub.length}, {sub.length})")
        self.line(f"out += bytes({stop} - len(out))")

    def items(self, sub: Any, expression: str, path: str) -> None:
        self.flush()
        item = self.fresh("i")
        self.block(f"for {item} in {expression}:", partial(self.whole, sub, item, path))

    def map(self, sub: s.Map, expression: str, path: str) -> None:
        found, key, value = self.kept(expression), self.fresh("i"), self.fresh("i")
        self.put(f"{path} count", "I", f"len({found})", 4)
        self.flush()

        def body() -> None:
            self.field(sub.key, key, f"{path} key")
            self.whole(sub.value, value, path)

        self.block(f"for {key}, {value} in {found}.items():", body)

    def switch(self, sub: s.Switch, expression: str, path: str) -> None:
        self.flush()
        key, value, word = self.kept(self.earlier(sub.key, path)), self.kept(expression), "if"
        for wanted, case in sub.cases.items():
            self.block(f"{word} {key} == {int(wanted)}:", partial(self.whole, case, value, path))
            word = "elif"
        self.block("else:", partial(self.whole, sub.default, value, path))

    def tagged(self, sub: s.Tagged, expression: str, path: str) -> None:
        self.flush()
        value = self.kept(expression)
        cls, word = self.kept(f"type({value})"), "if"
        for record, tag in sub.tags.items():
            wanted = self.constant("cls", record)

            def body(tag: int = tag) -> None:
                self.put(f"{path} marker", "B", str(tag), 1)
                self.whole(sub.cases[tag], value, path)

            self.block(f"{word} {cls} is {wanted}:", body)
            word = "elif"
        self.line(f'else: raise TypeError(f"{path}: no marker for {{{cls}.__name__}}")')
