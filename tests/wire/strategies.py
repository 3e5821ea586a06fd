"""Random values of any structure, drawn by walking its schema."""

from __future__ import annotations

from typing import Any

import construct
from hypothesis import strategies as st

from cephwire import schema as s
from cephwire.scalars import BitsetWord, BlobWord, TextWord, UtimeWord

SMALL = 40
"""Most bytes or items drawn where the wire would allow more."""


def values(sub: Any, struct_v: int | None = None, scope: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """Values that ``sub`` can encode as version ``struct_v``; ``scope`` holds the fields drawn before."""
    sub = s.unnamed(sub)
    scope = scope or {}
    match sub:
        case s.Record():
            return records(sub, struct_v, scope)
        case construct.FormatField():
            return integers(sub)
        case construct.Bytes():
            return st.binary(min_size=sub.length, max_size=sub.length)
        case UtimeWord():
            return st.integers(0, (2**32 - 1) * s.NSEC)
        case TextWord():
            return st.binary(max_size=SMALL).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
        case BitsetWord():
            return st.integers(0, 2**128)
        case BlobWord() | s.BytesOf() | s.Segment():
            return st.binary(max_size=SMALL)
        case s.Versioned():
            return values(sub.subcon, sub.writes, scope)
        case s.Filled():
            return st.none() | values(sub.subcon, struct_v, scope).filter(lambda v: v not in (b"", ()))
        case s.Repeat() | s.UntilEnd() | s.Counted():
            return st.lists(values(sub.subcon, struct_v, scope), max_size=4).map(tuple)
        case s.Map():
            return st.dictionaries(values(sub.key, struct_v), values(sub.value, struct_v), max_size=4)
        case s.Switch():
            return values(sub.cases.get(scope[sub.key], sub.default), struct_v, scope)
        case s.Present():
            return values(sub.subcon, struct_v, scope) if scope[sub.key] else st.none()
        case s.Tagged():
            return st.one_of(*(values(case, struct_v) for case in sub.cases.values()))
        case construct.Subconstruct():
            return values(sub.subcon, struct_v, scope)
        case _ if sub is s.Rest:
            return st.binary(max_size=SMALL)
        case _ if sub is s.Pass:
            return st.none()
    raise AssertionError(f"no strategy for {sub!r}")


def integers(sub: construct.FormatField) -> st.SearchStrategy[int]:
    bits, code = 8 * sub.length, sub.fmtstr[-1]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
    return st.integers(low, high) | st.integers(0, min(high, 20))


@st.composite
def records(draw: Any, sub: s.Record, struct_v: int | None, outer: dict[str, Any]) -> Any:
    scope = dict(outer)
    drawn: dict[str, Any] = {}
    for field in sub.subcon.subcons:
        inner = s.unnamed(field)
        if not field.name or field.name in sub.hidden:
            continue
        if isinstance(inner, s.Since) and absent(inner, struct_v, scope):
            continue
        drawn[field.name] = scope[field.name] = draw(choice(sub, field, struct_v, scope))
    return sub.cls(**drawn)


def choice(sub: s.Record, field: Any, struct_v: int | None, scope: dict[str, Any]) -> st.SearchStrategy[Any]:
    """A field's values; where a later field switches on it, the cases come up often."""
    found = values(field, struct_v, scope)
    cases = [
        int(case)
        for other in sub.subcon.subcons
        for switch in switches(other)
        if switch.key == field.name
        for case in switch.cases
    ]
    return st.sampled_from(sorted(set(cases))) | found if cases else found


def switches(sub: Any) -> list[s.Switch]:
    """The switches of this record's own fields and of the records inside them."""
    sub = s.unnamed(sub)
    if isinstance(sub, s.Switch):
        return [sub]
    if isinstance(sub, s.Record):
        return [switch for field in sub.subcon.subcons for switch in switches(field)]
    return switches(sub.subcon) if isinstance(sub, construct.Subconstruct) else []


def absent(since: s.Since, struct_v: int | None, scope: dict[str, Any]) -> bool:
    version = scope[since.of] if since.of else struct_v
    return version is None or version < since.version
