"""Messages as facts for JSON: no field is missing, and what has a word is told in it."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cephcaps.cli.trace_output import spelled
from cephcaps.trace.facts import facts, message_facts
from cephcaps.trace.fields import MEANINGS, SHOWN_AS, TYPES, WHOLE
from cephcaps.trace.items import Flow, Problem
from cephcaps.trace.words import Flags, snap_trace
from cephwire.capbits import cap_string
from cephwire.caps import CapOp, ClientCaps
from cephwire.codec import Leftover
from cephwire.errors import MalformedMessage
from cephwire.frames import MessageHeader
from cephwire.inode import LeaseStat
from cephwire.lease import ClientLease
from cephwire.map_messages import MFsMap
from cephwire.mdsmap import FeatureSet
from cephwire.messages import BY_NUMBER
from cephwire.mon_messages import MAuth, MonCommandAck, PaxosHeader
from cephwire.reply import ClientReply
from cephwire.request import FilePath, RequestFlag
from cephwire.requestargs import OpenFlag
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, ClientSession, SessionOp
from cephwire.snap import ClientSnap
from tests.trace import rendering as made

SLOW_TO_DRAW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
KEY = "AQBabcdefghijklmnopqrstuvwxyz0123456789AA=="


def told(item: Any) -> Any:
    """What JSON would show, whatever the names in it."""
    return msgspec.json.decode(msgspec.json.encode(spelled(msgspec.to_builtins(facts(item)))))


def hold_all(value: Any, shown: Any) -> None:
    """``shown`` leaves out nothing that ``value`` has."""
    if type(value) in SHOWN_AS:
        return
    if isinstance(value, msgspec.Struct):
        assert {name.rstrip("_") for name in value.__struct_fields__} <= shown.keys()
        known = MEANINGS.get(type(value), {}).keys() | WHOLE.get(type(value), {}).keys()
        for name in set(value.__struct_fields__) - known:
            hold_all(getattr(value, name), shown[name.rstrip("_")])
    elif isinstance(value, tuple | dict):
        inner = [key for key in shown if not (isinstance(key, str) and key.endswith(("_hex", "_name_hex")))]
        assert len(inner) == len(value) or isinstance(value, dict)
        if isinstance(value, tuple):
            for one, one_shown in zip(value, shown, strict=True):
                hold_all(one, one_shown)
    elif isinstance(value, bytes):
        assert isinstance(shown, str)
        assert shown.replace("-", "") == value.hex()  # a UUID has dashes
    elif not isinstance(value, str):  # those that are no UTF-8 are spelled out
        assert shown == value


def test_every_recorded_message_is_shown_whole() -> None:
    for item in made.recorded():
        shown = told(item)
        hold_all(item.message, shown["message"])
        hold_all(item.header, shown["header"])
        assert shown["type"] == TYPES[item.header.type]
        assert shown["size"] == sum(map(len, item.segments))


@SLOW_TO_DRAW
@given(made.any_message())
def test_any_message_is_shown_whole(item: Any) -> None:
    shown = told(item)
    hold_all(item.message, shown["message"])
    assert shown["header"]["tid"] == item.header.tid


def test_what_recorded_messages_carry_as_bytes_is_shown_decoded() -> None:
    kinds = set()
    for item in made.recorded():
        match item.message:
            case ClientReply(snap=raw) | ClientSnap(trace=raw) | ClientCaps(snap_trace=raw):
                shown = told(item)["message"]
                found = shown[{ClientReply: "snap", ClientSnap: "trace"}.get(type(item.message), "snap_trace")]
                assert isinstance(found, list)
                assert bool(found) == bool(raw)
                if isinstance(item.message, ClientCaps) and item.message.xattrs:
                    assert isinstance(shown["xattrs"], dict)
                kinds.add((type(item.message), bool(raw)))
    assert len(kinds) == 5  # CLIENT_SNAP always has a trace


def test_every_cap_field_of_every_message_is_shown_as_caps() -> None:
    for item in made.recorded():
        for value, shown in pairs(item.message, told(item)["message"]):
            for name in ("caps", "wanted", "dirty", "issued"):
                bits = getattr(value, name, None)
                if isinstance(bits, int):
                    assert shown[name] == cap_string(bits)


def pairs(value: Any, shown: Any) -> typing.Iterator[tuple[Any, Any]]:
    """Each struct in ``value`` and what is shown of it."""
    if isinstance(value, msgspec.Struct) and isinstance(shown, dict):
        yield value, shown
        for name in value.__struct_fields__:
            yield from pairs(getattr(value, name), shown[name.rstrip("_")])
    elif isinstance(value, tuple) and isinstance(shown, list):
        for one, one_shown in zip(value, shown, strict=True):
            yield from pairs(one, one_shown)


NUMBERS_AFTER_ALL = {(LeaseStat, "mask"), (ClientLease, "mask"), (FeatureSet, "mask"), (MessageHeader, "flags")}
"""A mask that is no set of caps, and a header as it is."""


def classes(hint: Any) -> typing.Iterator[type]:
    for arg in typing.get_args(hint):
        yield from classes(arg)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
        for field in typing.get_type_hints(hint).values():
            yield from classes(field)


def test_no_field_that_has_words_is_overlooked() -> None:
    named = {"op", "action", "flags", "caps", "wanted", "dirty", "issued", "mask", "mode", "frag", "snapid", "rule"}
    overlooked = {
        (cls, name)
        for message in BY_NUMBER.values()
        for cls in classes(message.schema.cls)
        for name, hint in typing.get_type_hints(cls).items()
        if name in named and hint is int and name not in MEANINGS.get(cls, {})
    }
    assert overlooked <= NUMBERS_AFTER_ALL


def test_meanings_are_of_fields_that_there_are() -> None:
    for cls, fields in (MEANINGS | WHOLE).items():
        assert fields.keys() <= set(cls.__struct_fields__), cls


def test_every_type_has_its_name() -> None:
    assert TYPES[0x310] == "client_caps"
    assert TYPES[24] == "client_request"
    assert TYPES[4711] == "type_4711"
    assert BY_NUMBER.keys() <= TYPES.keys()
    assert len(set(TYPES.values())) == len(TYPES)


def test_ops_and_flags_are_words_and_what_has_none_stays_a_number() -> None:
    create = made.request(RequestOp.CREATE, flags=RequestFlag.ASYNC | 0x40000000)
    assert as_message(create)["op"] == "create"
    assert as_message(create)["flags"] == ["async", "0x40000000"]
    assert as_message(made.request(0x7777))["op"] == 0x7777
    assert as_message(made.caps(CapOp.FLUSHSNAP_ACK, 0x80002))["op"] == "flushsnap_ack"
    assert as_message(made.caps(CapOp.GRANT, 0x80002))["caps"] == "+0x80002"


def as_message(message: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message_facts(message)))


def test_a_huge_set_of_features_costs_no_more_than_its_bytes() -> None:
    session = ClientSession(SessionOp.REQUEST_OPEN, 0, features=1 << 200_000 | 1 << ClientFeature.JEWEL)
    first, rest = as_message(session)["features"]
    assert first == "jewel"
    assert int(rest, 16) == 1 << 200_000


@given(st.integers(0, 2**64))
def test_flags_lose_no_bit(bits: int) -> None:
    words = Flags(ClientFeature)[bits]
    known = sum(1 << ClientFeature[word.upper()] for word in words if not word.startswith("0x"))
    assert known + sum(int(word, 16) for word in words if word.startswith("0x")) == bits


def test_an_access_mode_of_zero_is_told() -> None:
    shown = Flags(OpenFlag, zero="rdonly")
    assert shown[0] == ("rdonly",)
    assert shown[OpenFlag.CREAT] == ("rdonly", "creat")
    assert shown[OpenFlag.RDWR | OpenFlag.EXCL] == ("rdwr", "excl")


def test_bytes_are_hex_names_are_text_and_values_of_attributes_are_text() -> None:
    setxattr = made.request(RequestOp.SETXATTR, data=b"value \xff", path2=FilePath(0, "user.\udcfe"))
    shown = told(made.up(setxattr))["message"]
    assert (shown["data"], shown["data_hex"]) == ("value \\xff", "76616c756520ff")
    assert shown["path2"] == {"ino": 0, "path": "user.\\xfe", "path_hex": "757365722efe"}
    assert as_message(made.request(RequestOp.OPEN, data=b"\xff"))["data"] == "ff"
    target = made.inode(made.FILE, xattrs={"user.a": b"1", "user.\udcff": b"\xfe"})
    assert told(made.down(made.reply(RequestOp.GETATTR, target=target)))["message"]["trace"]["target"]["xattrs"] == {
        "user.a": "1", "user.\\xff": "\\xfe", "user.\\xff_hex": "fe", "user.\\xff_name_hex": "757365722eff",
    }  # fmt: skip


def test_a_snap_trace_that_is_none_is_shown_in_hex() -> None:
    assert snap_trace(b"nonsense") is None
    assert as_message(made.caps(CapOp.IMPORT, 1, snap_trace=b"nonsense"))["snap_trace"] == b"nonsense".hex()
    assert as_message(made.caps(CapOp.GRANT, 1, xattrs=b"\xff"))["xattrs"] == "ff"
    assert as_message(made.caps(CapOp.GRANT, 1, xattrs=bytes(4)))["xattrs"] == {}
    assert as_message(made.caps(CapOp.GRANT, 1))["xattrs"] is None


def test_a_message_names_its_ends() -> None:
    shown = told(made.up(made.caps(CapOp.UPDATE, 1), 2))
    assert (shown["client"], shown["daemon"], shown["direction"]) == ("client.4123", "mds.0", "to_daemon")
    assert shown["time_ns"] == made.NS + 2 * made.MS
    assert shown["connection"] == {
        "number": 1, "client_addr": "192.0.2.7:50000", "daemon_addr": "192.0.2.2:6800", "messenger": 2, "secure": False,
    }  # fmt: skip
    unknown = Flow(2, "192.0.2.7:1", "192.0.2.2:2")
    shown = told(made.down(made.caps(CapOp.GRANT, 1), flow=unknown))
    assert (shown["client"], shown["daemon"], shown["direction"]) == (None, None, "to_client")
    assert told(made.down(made.caps(CapOp.GRANT, 1), flow=made.flow(rank=None)))["daemon"] == "mds.?"


def test_what_a_message_does_not_have_is_not_there() -> None:
    plain = told(made.up(made.caps(CapOp.UPDATE, 1)))
    assert not {"resent", "leftover", "error", "front", "file"} & plain.keys()
    again = told(made.up(made.caps(CapOp.UPDATE, 1), resent=True, leftover=(Leftover("ClientCaps", 9, 4),)))
    assert again["resent"] is True
    assert again["leftover"] == [{"structure": "ClientCaps", "offset": 9, "size": 4}]


def test_a_malformed_message_is_shown_with_its_bytes() -> None:
    error = MalformedMessage("ClientCaps.mseq at byte 48: needs 4 bytes, got 2")
    shown = told(made.up(None, number=0x310, segments=(b"\x01", b"", b"\x02"), error=error))
    assert (shown["type"], shown["message"], shown["error"]) == ("client_caps", None, str(error))
    assert (shown["front"], shown["middle"], shown["data"]) == ("01", "", "02")


def test_a_type_that_is_not_decoded_is_told_with_its_size_alone() -> None:
    shown = told(made.up(None, number=42, segments=(b"abc", b"", b"d")))
    assert (shown["type"], shown["message"], shown["size"]) == ("osd_op", None, 4)
    assert "front" not in shown


def test_problems_are_told_apart_from_messages() -> None:
    shown = told(made.problem())
    assert (shown["problem"], shown["what"], shown["size"], shown["direction"]) == (
        "gap", "bytes are missing", 100, "to_daemon",
    )  # fmt: skip
    assert shown["client"] == "client.4123"
    assert told(Problem(0, None, None, "capture", "cut"))["problem"] == "capture"


def test_maps_are_told_in_their_own_names() -> None:
    assert as_message(MFsMap(3, b"\x01"))["fsmap"] == "01"
    shown = [told(item)["message"] for item in made.recorded() if type(item.message).__name__ == "ClientReclaimReply"]
    assert all(isinstance(addr, str) for one in shown for addr in one["addrs"])


def test_no_key_or_ticket_is_shown() -> None:
    paxos = PaxosHeader()
    ack = MonCommandAck(paxos, 0, KEY, (f"auth add {KEY}",), outbl=f"[client.x]\nkey = {KEY}\n".encode())
    assert KEY not in msgspec.json.encode(message_facts(ack)).decode()
    assert as_message(ack)["outbl"] == "[client.x]\nkey = (a key)\n"
    assert as_message(MAuth(paxos, 2, b"secret"))["auth_payload"] == "(6 bytes)"


@pytest.mark.parametrize("name", ["ClientRequest", "ClientCaps"])
def test_facts_have_the_fields_in_the_order_of_the_wire(name: str) -> None:
    item = next(item for item in made.recorded() if type(item.message).__name__ == name)
    assert list(told(item)["message"]) == list(type(item.message).__struct_fields__)


def test_bytes_without_end_are_cut() -> None:
    huge = bytes(5 << 20)
    shown = as_message(MFsMap(3, huge))["fsmap"]
    assert shown == "00" * (1 << 20) + f"... ({len(huge)} bytes)"
    error = MalformedMessage("no")
    assert len(told(made.up(None, number=0x310, segments=(huge, b"", b""), error=error))["front"]) < 3 << 20
