"""Words for numbers, text for bytes: how single values of messages are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, IntFlag
from typing import Any, Final

from cephwire.capbits import cap_string
from cephwire.codec import Codec
from cephwire.entity import AddrVec, EntityAddr, LegacyAddr
from cephwire.errors import MalformedMessage
from cephwire.frag import frag_bits, frag_string, frag_value
from cephwire.inode import NOSNAP, SNAPDIR, XATTR_BLOB, XattrBlob
from cephwire.mdsmap import MdsState
from cephwire.request import SNAP_PAYLOAD, SnapPayload
from cephwire.snap import SNAP_TRACE, SNAP_TRACE_PLAIN, SnapRealm, SnapTrace

__all__ = [
    "CAPS",
    "FRAGS",
    "MDS_STATES",
    "OCTAL",
    "SNAPIDS",
    "Flags",
    "Words",
    "address",
    "addresses",
    "octets",
    "sealed",
    "snap_payload",
    "snap_trace",
    "text_of",
    "uuid",
    "xattrs",
]

MOST_OCTETS: Final = 1 << 20
REMEMBERED: Final = 4096
"""Numbers whose text is kept: few are ever seen, but what a capture holds may be anything."""


# Numbers


class Words(dict[int, Any]):
    """Number -> the word Ceph has for it; a number without one stays a number."""

    def __init__(self, words: type[IntEnum] | Mapping[int, str]) -> None:
        super().__init__({word.value: word.name.lower() for word in words} if isinstance(words, type) else words)

    def __missing__(self, number: int) -> int:
        return number


class Remembered(dict[int, str]):
    """Number -> what ``say`` says of it."""

    def __init__(self, say: Callable[[int], str]) -> None:
        super().__init__()
        self._say = say

    def __missing__(self, number: int) -> str:
        text = self._say(number)
        if len(self) < REMEMBERED:
            self[number] = text
        return text


CAPS: Final = Remembered(cap_string)


class Flags(dict[int, tuple[str, ...]]):
    """Set of bits -> the words of those that are set; bits that have none come last, as one hex number.

    Args:
        flags: the words. Those of an IntEnum are numbers of bits.
        zero: the word where none of the two lowest bits is set.
    """

    def __init__(self, flags: type[IntEnum] | type[IntFlag], zero: str = "") -> None:
        super().__init__()
        by_number = issubclass(flags, IntEnum)
        self._words = [(1 << word if by_number else int(word), word.name.lower()) for word in flags if word.name]
        self._zero = zero

    def __missing__(self, bits: int) -> tuple[str, ...]:
        found = [word for value, word in self._words if value and bits & value == value]
        if self._zero and not bits & 3:
            found.insert(0, self._zero)
        unnamed = bits
        for value, _ in self._words:
            unnamed &= ~value
        if unnamed:
            found.append(f"{unnamed:#x}")
        words = tuple(found)
        if len(self) < REMEMBERED and bits.bit_length() <= 64:
            self[bits] = words
        return words


def _frag(number: int) -> str:
    """As Ceph prints it, ``10*``; in hex what is no fragment."""
    bits = frag_bits(number)
    if bits <= 24 and not frag_value(number) & (1 << 24 - bits) - 1:
        return frag_string(number)
    return f"{number:#x}"


FRAGS: Final = Remembered(_frag)
OCTAL: Final = Remembered("{:o}".format)
SNAPIDS: Final = Words({NOSNAP: "head", SNAPDIR: "snapdir"})
MDS_STATES: Final = Words({state.value: f"up:{state.name.lower().replace('_', '-')}" for state in MdsState})
"""As ``ceph fs dump`` prints them."""


# Bytes


def octets(raw: bytes) -> str:
    """In hex; of more than a MiB, which only maps of large clusters and made-up messages have, the beginning."""
    if len(raw) > MOST_OCTETS:
        return f"{raw[:MOST_OCTETS].hex()}... ({len(raw)} bytes)"
    return raw.hex()


def text_of(raw: bytes) -> str:
    """Bytes that should be text; those that are no UTF-8 as in Python's file names."""
    return raw.decode("utf-8", "surrogateescape")


def sealed(raw: bytes) -> str:
    """What may hold keys or tickets: how much of it there is."""
    return f"({len(raw)} bytes)"


def uuid(raw: bytes) -> str:
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def address(addr: EntityAddr | LegacyAddr) -> str:
    """As Ceph prints it; followed by its bytes where that says too little."""
    modern = addr.modern() if isinstance(addr, LegacyAddr) else addr
    return str(addr) if modern.ip is not None or not modern.sockaddr else f"{addr} {octets(modern.sockaddr)}"


def addresses(found: AddrVec) -> list[str]:
    return [address(addr) for addr in found.addrs]


# Structures that messages carry as bytes

_SNAP_TRACES: Final = (Codec[SnapTrace](SNAP_TRACE), Codec[SnapTrace](SNAP_TRACE_PLAIN))
_XATTRS: Final = Codec[XattrBlob](XATTR_BLOB)
_SNAP_PAYLOAD: Final = Codec[SnapPayload](SNAP_PAYLOAD)


def _whole(codec: Codec[Any], raw: bytes) -> Any:
    """The structure that all of ``raw`` is, or None."""
    leftover: list[Any] = []
    try:
        found = codec.decode(raw, leftover=leftover)
    except MalformedMessage:
        return None
    return None if leftover else found


def snap_trace(raw: bytes) -> tuple[SnapRealm, ...] | None:
    """The realms of a snap trace, None if it is none.

    Which form it has depends on features of the session, whose opening may not be in the trace. Bytes tell it: the
    plain form begins with an inode number, and those of files and directories, from 2**40 on, would be a versioned
    structure's length of 16 MiB and more.
    """
    for codec in _SNAP_TRACES:
        if (found := _whole(codec, raw)) is not None:
            realms: tuple[SnapRealm, ...] = found.realms
            return realms
    return None


def xattrs(raw: bytes) -> dict[str, bytes] | None:
    """The extended attributes in a CLIENT_CAPS's middle segment; None if it is not what it should be."""
    found: XattrBlob | None = _whole(_XATTRS, raw)
    return None if found is None else found.xattrs


def snap_payload(raw: bytes) -> SnapPayload | None:
    """What MKSNAP carries; None if it is not what it should be."""
    found: SnapPayload | None = _whole(_SNAP_PAYLOAD, raw)
    return found
