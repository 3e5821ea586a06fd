"""The checksum of frames and messages."""

from __future__ import annotations

from google_crc32c import extend

__all__ = ["crc32c"]

MASK = 0xFFFFFFFF


def crc32c(seed: int, data: bytes | bytearray | memoryview) -> int:
    """Ceph's crc32c of ``data``, going on from ``seed``.

    It is the raw Castagnoli update: the register starts at ``seed`` and is returned as it stands. Everyone
    else inverts it before and after, hence the two xors.

    Source: ceph: src/include/crc32c.h, ``ceph_crc32c``.
    """
    # The C extension takes bytes only; for bytes the test is a tenth of a microsecond cheaper than ``bytes()``.
    whole = data if isinstance(data, bytes) else bytes(data)
    crc: int = extend(seed ^ MASK, whole)
    return crc ^ MASK
