"""The bits of a capability: their numbers, the sets Ceph names, their short form and what each lets a client do.

A capability is 16 bits for one inode: a pin, two bits each (shared, exclusive) for the owner and mode (A), the link
count (L) and the extended attributes (X), and eight for the file itself (F). The bits are plain ints, so that sets of
them cost nothing to join and to compare.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = [
    "CAP_BITS",
    "Cap",
    "CapBit",
    "FileMode",
    "StatMask",
    "cap_string",
    "parse_caps",
    "wanted_for_mode",
]


class Cap:
    """The bits and the sets of them Ceph has names for (ceph: src/include/ceph_fs.h, ``CEPH_CAP_*``)."""

    PIN = 0x1
    AUTH_SHARED = 0x4
    AUTH_EXCL = 0x8
    LINK_SHARED = 0x10
    LINK_EXCL = 0x20
    XATTR_SHARED = 0x40
    XATTR_EXCL = 0x80
    FILE_SHARED = 0x100
    FILE_EXCL = 0x200
    FILE_CACHE = 0x400
    FILE_RD = 0x800
    FILE_WR = 0x1000
    FILE_BUFFER = 0x2000
    FILE_WREXTEND = 0x4000
    FILE_LAZYIO = 0x8000

    DIR_CREATE = FILE_CACHE
    """On a directory: files may be created before the MDS has answered."""
    DIR_UNLINK = FILE_RD
    """On a directory: files may be unlinked before the MDS has answered."""

    ANY_SHARED = AUTH_SHARED | LINK_SHARED | XATTR_SHARED | FILE_SHARED
    ANY_RD = ANY_SHARED | FILE_RD | FILE_CACHE
    ANY_EXCL = AUTH_EXCL | LINK_EXCL | XATTR_EXCL | FILE_EXCL
    ANY_FILE_RD = FILE_RD | FILE_CACHE | FILE_SHARED
    ANY_FILE_WR = FILE_WR | FILE_BUFFER | FILE_EXCL
    ANY_WR = ANY_EXCL | ANY_FILE_WR
    ANY = ANY_RD | ANY_EXCL | ANY_FILE_WR | FILE_LAZYIO | PIN
    """All an MDS grants; FILE_WREXTEND is not among them."""
    ALL_FILE = PIN | ANY_SHARED | AUTH_EXCL | XATTR_EXCL | ANY_FILE_RD | ANY_FILE_WR
    """What the only client that has a new file open for writing is granted."""
    ANY_DIR_OPS = FILE_CACHE | FILE_RD | FILE_WREXTEND | FILE_LAZYIO


class StatMask:
    """What a GETATTR, LOOKUP or OPEN request may ask to be valid in its reply, as the cap bits that cover it.

    Ceph: src/include/ceph_fs.h, ``CEPH_STAT_CAP_*``.
    """

    INODE = TYPE = SYMLINK = Cap.PIN
    UID = GID = MODE = Cap.AUTH_SHARED
    NLINK = Cap.LINK_SHARED
    SIZE = MTIME = ATIME = LAYOUT = Cap.FILE_SHARED
    XATTR = Cap.XATTR_SHARED
    INODE_ALL = Cap.PIN | Cap.ANY_SHARED
    INLINE_DATA = Cap.FILE_SHARED | Cap.FILE_RD
    RSTAT = Cap.FILE_WREXTEND
    """The recursive statistics of a directory; borrows a bit no MDS grants (``CEPH_STAT_RSTAT``)."""


class FileMode:
    """How a file is held open: a set of bits, so that modes of several handles join (``CEPH_FILE_MODE_*``)."""

    PIN = 0
    RD = 1
    WR = 2
    RDWR = RD | WR
    LAZY = 4


def wanted_for_mode(mode: int) -> int:
    """The caps a file open in ``mode`` (`FileMode` bits) wants (ceph: ``ceph_caps_for_mode``)."""
    wanted = Cap.PIN
    if mode & FileMode.RD:
        wanted |= Cap.ANY_FILE_RD
    if mode & FileMode.WR:
        wanted |= Cap.ANY_FILE_WR | Cap.AUTH_SHARED | Cap.AUTH_EXCL | Cap.XATTR_SHARED | Cap.XATTR_EXCL
    if mode & FileMode.LAZY:
        wanted |= Cap.FILE_LAZYIO
    return wanted


class CapBit(NamedTuple):
    """One bit, for those who explain it."""

    bit: int
    name: str
    """As in `Cap`."""
    short: str
    """As `cap_string` writes it alone."""
    meaning: str
    """What the client may do while it is issued, on a file or on any inode."""
    on_directory: str = ""
    """The same where the inode is a directory, if that differs."""


CAP_BITS: Final = (
    CapBit(Cap.PIN, "PIN", "p", "refer to the inode by its number; the MDS keeps it in its cache"),
    CapBit(Cap.AUTH_SHARED, "AUTH_SHARED", "As", "rely on the owner, group, mode and birth time it knows"),
    CapBit(Cap.AUTH_EXCL, "AUTH_EXCL", "Ax", "change owner, group and mode by itself and tell the MDS later"),
    CapBit(Cap.LINK_SHARED, "LINK_SHARED", "Ls", "rely on the link count it knows"),
    CapBit(Cap.LINK_EXCL, "LINK_EXCL", "Lx", "be the only one to hold the link count"),
    CapBit(Cap.XATTR_SHARED, "XATTR_SHARED", "Xs", "rely on the extended attributes it knows"),
    CapBit(Cap.XATTR_EXCL, "XATTR_EXCL", "Xx", "change extended attributes by itself and tell the MDS later"),
    CapBit(
        Cap.FILE_SHARED,
        "FILE_SHARED",
        "Fs",
        "rely on the size and the times it knows",
        "rely on the entries it knows, those it knows to be missing too, without a lease on each",
    ),
    CapBit(
        Cap.FILE_EXCL,
        "FILE_EXCL",
        "Fx",
        "change size and times by itself, in either direction, and tell the MDS later",
        "be the only one to change entries, so that it may trust what it did to them",
    ),
    CapBit(
        Cap.FILE_CACHE,
        "FILE_CACHE",
        "Fc",
        "keep data it has read and read it again from memory",
        "create files here without waiting for the MDS (DIR_CREATE)",
    ),
    CapBit(
        Cap.FILE_RD,
        "FILE_RD",
        "Fr",
        "read data from the OSDs",
        "unlink files here without waiting for the MDS (DIR_UNLINK)",
    ),
    CapBit(Cap.FILE_WR, "FILE_WR", "Fw", "write data to the OSDs, up to the max_size it was told"),
    CapBit(Cap.FILE_BUFFER, "FILE_BUFFER", "Fb", "keep written data in memory and write it to the OSDs later"),
    CapBit(Cap.FILE_WREXTEND, "FILE_WREXTEND", "Fa", "write past the end of the file; no MDS grants it"),
    CapBit(
        Cap.FILE_LAZYIO, "FILE_LAZYIO", "Fl", "cache and buffer while others write, the application minding coherence"
    ),
)
"""Every bit, lowest first."""

_GENERIC: Final = "sxcrwbal"
_GROUPS: Final = (("A", 2, 2), ("L", 4, 2), ("X", 6, 2), ("F", 8, 8))
"""Letter, place of the lowest bit, number of bits."""
_NAMED: Final = sum(bit for bit, *_ in CAP_BITS)
_CAP_STRING: Final = re.compile(r"(p?)((?:[ALXF][a-z]+)*)")


def cap_string(bits: int) -> str:
    """The short form Ceph prints: ``pAsLsXsFsc``, ``-`` for none (ceph: src/mds/mdstypes.h, ``ccap_string``).

    Bits nobody has named, which Ceph leaves out, follow as a number: ``pAs+0x2``.
    """
    text = "p" if bits & Cap.PIN else ""
    for letter, shift, width in _GROUPS:
        group = bits >> shift & (1 << width) - 1
        if group:
            text += letter + "".join(c for i, c in enumerate(_GENERIC) if group >> i & 1)
    if unnamed := bits & ~_NAMED:
        text += f"+{unnamed:#x}"
    return text or "-"


def parse_caps(caps: str | int) -> int:
    """The bits of a short form (``pAsLsXsFsc``, ``-``), a number, or a number in text (``0xd55``, ``3413``).

    Raises:
        ValueError: it is none of these, names a bit twice, or has a bit no capability has; the message says which.
    """
    if isinstance(caps, int):
        return _checked(caps, f"{caps:#x}")
    text = caps.strip()
    if text == "-":
        return 0
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return _checked(int(text, 16), text)
    if re.fullmatch(r"[0-9]+", text):
        return _checked(int(text), text)
    found = _CAP_STRING.fullmatch(text)
    if not text or not found:
        raise ValueError(f"{caps!r} is no set of caps: give a form like 'pAsLsXsFsc', '-' for none, or a number")
    bits = Cap.PIN if found[1] else 0
    for letter, generic in re.findall(r"([ALXF])([a-z]+)", found[2]):
        shift, width = next((shift, width) for name, shift, width in _GROUPS if name == letter)
        for c in generic:
            i = _GENERIC.find(c)
            if not 0 <= i < width:
                raise ValueError(f"{caps!r}: {letter!r} has no {c!r}, only {', '.join(_GENERIC[:width])}")
            bit = 1 << shift + i
            if bits & bit:
                raise ValueError(f"{caps!r} names {letter}{c} twice")
            bits |= bit
    return bits


def _checked(bits: int, text: str) -> int:
    if bits < 0:
        raise ValueError(f"{text} is negative")
    if unnamed := bits & ~_NAMED:
        raise ValueError(f"{text} has bits no capability has: {unnamed:#x}")
    return bits
