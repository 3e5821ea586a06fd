"""Commands to daemons that are no monitors, as ``ceph tell`` sends them.

Sources: ceph: src/messages/MCommand.h, MCommandReply.h; src/include/msgr.h for the numbers. Monitors have messages of
their own (`cephwire.mon_messages.MonCommand`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from cephwire.message import Message
from cephwire.schema import Bytes, Counted, Int32sl, Record, Segment, Struct, Text

__all__ = ["COMMAND", "COMMAND_REPLY", "Command", "CommandReply"]


class Command(msgspec.Struct, frozen=True, gc=False):
    """A command; the header's tid ties the answer to it."""

    fsid: bytes
    """The cluster's UUID, 16 bytes."""
    cmd: tuple[str, ...]
    """One JSON object as text."""
    inbl: bytes = b""
    """Input, in the data segment."""


COMMAND: Final = Message[Command](
    97, Record(Command, Struct("fsid" / Bytes(16), "cmd" / Counted(Text), "inbl" / Segment("data")))
)


class CommandReply(msgspec.Struct, frozen=True, gc=False):
    """Answer to `Command`."""

    r: int
    """0, or a negative errno."""
    rs: str
    """Status, for people."""
    outbl: bytes = b""
    """Output, in the data segment."""


COMMAND_REPLY: Final = Message[CommandReply](
    98, Record(CommandReply, Struct("r" / Int32sl, "rs" / Text, "outbl" / Segment("data")))
)
