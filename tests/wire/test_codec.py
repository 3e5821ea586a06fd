"""The generated codecs do what Construct's interpretation of the same schema does, on good bytes and bad."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from construct import ConstructError, GreedyRange, Pointer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephwire import schema as s
from cephwire.codec import Codec, Leftover
from cephwire.errors import MalformedMessage
from cephwire.messages import BY_NUMBER
from tests.wire.strategies import values
from tests.wire.structures import STRUCTURES

MESSAGES = [pytest.param(message, id=message.name) for message in BY_NUMBER.values()]
BYTES = st.sampled_from([0, 1, 2, 127, 128, 255]) | st.integers(0, 255)
SHORT = st.binary(max_size=200)
SLOW_TO_DRAW = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    max_examples=settings().max_examples * 2 // 5,
)


def interpreted(schema: Any, raw: bytes, version: int | None, middle: bytes = b"", data: bytes = b"") -> Any:
    """What Construct makes of ``raw``, or the class of its refusal."""
    try:
        return schema.parse_stream(io.BytesIO(raw), struct_v=version, middle=middle, data=data)
    except ConstructError:
        return MalformedMessage


def decoded(codec: Codec[Any], raw: bytes, version: int | None, middle: bytes = b"", data: bytes = b"") -> Any:
    try:
        return codec.decode(raw, version, (middle, data))
    except MalformedMessage:
        return MalformedMessage


@st.composite
def mutated(draw: Any, raw: bytes) -> bytes:
    """``raw`` cut short, extended, or with some bytes changed."""
    out = bytearray(raw)
    for _ in range(draw(st.integers(1, 4))):
        if out:
            out[draw(st.integers(0, len(out) - 1))] = draw(
                st.sampled_from([0, 1, 2, 127, 128, 255]) | st.integers(0, 255)
            )
    match draw(st.integers(0, 3)):
        case 0:
            del out[draw(st.integers(0, len(out))) :]
        case 1:
            out += draw(st.binary(max_size=8))
    return bytes(out)


def agree(schema: Any, codec: Codec[Any], version: int | None, value: Any, data: st.DataObject) -> None:
    """Both sides build the same bytes of ``value`` and read them, and bytes near them, alike."""
    built = schema.build(value, struct_v=version)
    assert codec.encode(value, version) == built
    segments = segments_of(schema, value)
    assert interpreted(schema, built, version, *segments) == decoded(codec, built, version, *segments)
    broken = data.draw(mutated(built))
    assert interpreted(schema, broken, version, *segments) == decoded(codec, broken, version, *segments)


def segments_of(schema: Any, value: Any) -> tuple[bytes, bytes]:
    found = {"middle": b"", "data": b""}
    if isinstance(schema, s.Record):
        for field in schema.subcon.subcons:
            if isinstance(inner := s.unnamed(field), s.Segment):
                found[inner.segment] = getattr(value, field.name)
    return found["middle"], found["data"]


@pytest.mark.parametrize("message", MESSAGES)
@SLOW_TO_DRAW
@given(data=st.data())
def test_a_message_codec_is_its_schema_in_every_version(message: Any, data: st.DataObject) -> None:
    version = data.draw(st.integers(message.oldest, message.newest))
    value = data.draw(values(message.schema, version))
    agree(message.schema, message.codec, version, value, data)


@pytest.mark.parametrize("schema", [pytest.param(schema, id=name) for name, schema in STRUCTURES.items()])
@SLOW_TO_DRAW
@given(data=st.data())
def test_a_structure_codec_is_its_schema(schema: Any, data: st.DataObject) -> None:
    value = data.draw(values(schema, 1))
    agree(schema, Codec(schema, newest=1), 1, value, data)


@pytest.mark.parametrize("message", MESSAGES)
@given(raw=st.binary(max_size=400), middle=SHORT, data=SHORT, version=st.integers(0, 99))
def test_any_bytes_are_a_message_or_malformed(
    message: Any, raw: bytes, middle: bytes, data: bytes, version: int
) -> None:
    found = ""
    try:
        message.decode(raw, middle, data, version=version)
    except MalformedMessage as error:
        found = str(error)
    assert not found or " at byte " in found or found.startswith(f"{message.name}: version")


class Inner(msgspec.Struct, frozen=True):
    a: int
    late: int = 7


class Outer(msgspec.Struct, frozen=True):
    op: int
    items: tuple[Inner, ...]
    name: str


INNER = s.Versioned(2, s.Record(Inner, s.Struct("a" / s.Int16ul, "late" / s.Since(2, s.Int32ul))))
OUTER = s.Record(Outer, s.Struct("op" / s.Int8ul, "items" / s.Counted(INNER), "name" / s.Text))
ONE = Outer(1, (Inner(2, 3),), "x")


def test_a_failure_names_structure_field_and_offset() -> None:
    with pytest.raises(MalformedMessage, match=r"^Outer\.name length at byte 17: needs 4 bytes, got 2$"):
        Codec(OUTER).decode(Codec(OUTER).encode(ONE)[:19])


def test_a_count_is_checked_against_the_bytes_before_anything_is_made_of_it() -> None:
    with pytest.raises(MalformedMessage, match=r"^Outer\.items at byte 5: 4294967295 items of at least 6 bytes"):
        Codec(OUTER).decode(b"\x01\xff\xff\xff\xff" + bytes(64))


def test_the_tail_of_a_newer_version_is_skipped_and_reported() -> None:
    newer = bytes.fromhex("01 01000000 0901 08000000 0200 03000000 eeee 01000000 78")
    leftover: list[Leftover] = []

    assert Codec(OUTER).decode(newer, leftover=leftover) == ONE
    assert leftover == [Leftover("Outer.items", 17, 2)]


def test_what_is_right_needs_no_second_reading() -> None:
    newer = bytes.fromhex("01 01000000 0901 08000000 0200 03000000 eeee 01000000 78")
    codec = Codec[Outer](OUTER)

    assert codec.decode(newer) == codec.decode(codec.encode(ONE)) == ONE
    assert not codec._exact


def test_a_structure_may_not_read_what_follows_it() -> None:
    cut = bytes.fromhex("01 01000000 0201 04000000 0200 03000000 01000000 78")
    with pytest.raises(MalformedMessage, match=r"^Inner\.late at byte 13: needs 4 bytes, got 2$"):
        Codec(OUTER).decode(cut)


def test_what_failed_leaves_nothing_over() -> None:
    leftover: list[Leftover] = []
    with pytest.raises(MalformedMessage):
        Codec(OUTER).decode(
            bytes.fromhex("01 01000000 0901 08000000 0200 03000000 eeee 05000000 78"), leftover=leftover
        )
    assert not leftover


def test_an_older_version_gets_the_default_of_what_it_lacks() -> None:
    assert Codec(OUTER).decode(bytes.fromhex("01 01000000 0101 02000000 0200 00000000")).items == (Inner(2, 7),)


def test_a_structure_that_forbids_our_version_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="needs a reader of version 3, this one knows 2"):
        Codec(OUTER).decode(bytes.fromhex("01 01000000 0303 02000000 0200 00000000"))


def test_a_value_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Outer\.op: 256 does not fit into 1 bytes$"):
        Codec(OUTER).encode(Outer(256, (), ""))


class Odd(msgspec.Struct, frozen=True):
    field: object


@pytest.mark.parametrize("word", [GreedyRange(s.Int8ul), Pointer(0, s.Int8ul), s.Counted(s.Pass), s.UntilEnd(s.Pass)])
def test_words_that_cannot_be_bounded_are_refused_when_the_codec_is_made(word: Any) -> None:
    with pytest.raises(TypeError, match="field"):
        Codec(s.Record(Odd, s.Struct("field" / word))).decode(b"")
