"""CLIENT_CAPRELEASE: caps given back in batches."""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import Counted, Int32ul, Int64ul, Record, Since, Struct

__all__ = ["CAP_ITEM", "CLIENT_CAPRELEASE", "CapItem", "ClientCapRelease"]


class CapItem(msgspec.Struct, frozen=True, gc=False):
    """One cap given back. An MDS ignores it unless all four are the newest it has issued."""

    ino: int
    cap_id: int
    mseq: int
    issue_seq: int
    """seq of the last reply or IMPORT that carried the cap, not of the last GRANT or REVOKE."""


CAP_ITEM: Final = Record(CapItem, Struct("ino" / Int64ul, "cap_id" / Int64ul, "mseq" / Int32ul, "issue_seq" / Int32ul))
"""``struct ceph_mds_cap_item``, 24 bytes (ceph: src/include/ceph_fs.h)."""


class ClientCapRelease(msgspec.Struct, frozen=True, gc=False):
    """Client to MDS: these caps are no longer held. It is not answered."""

    caps: tuple[CapItem, ...]
    osd_epoch_barrier: int = 0
    """OSD map epoch others need before they use what is released. Since version 2."""


CLIENT_CAPRELEASE: Final = Message[ClientCapRelease](
    0x313,
    Record(
        ClientCapRelease,
        Struct("caps" / Counted(CAP_ITEM), "osd_epoch_barrier" / Since(2, Int32ul)),
    ),
    newest=2,
)
"""ceph: src/messages/MClientCapRelease.h."""
