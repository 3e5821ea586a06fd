"""What lint says: the rules it knows by name, and where one was broken."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Finding", "Rule"]


class Rule(NamedTuple):
    """One thing the protocol asks of a client."""

    name: str
    """As ``--rule`` takes it: ``revoke-late``."""
    meaning: str
    """What is wrong where it is broken."""
    source: str
    """Where it is written, and known cases of its being broken."""


class Finding(NamedTuple):
    """A rule that a client has broken."""

    rule: Rule
    ns: int
    """When that came to light, since the epoch."""
    client: int | str
    """Its global id or, while that is unknown, its address."""
    rank: int | None
    """Of the MDS; None while unknown."""
    daemon: str
    """The MDS's address."""
    what: str
    """In words, with the values."""
    ino: int | None = None
    bits: int = 0
    """Capability bits it is about."""
    seq: int | None = None
    """Of the message that was wrong, or was not answered."""
    age_ns: int | None = None
    """How long something has been owed."""
    client_said: str = ""
    """The client's last message about the inode."""
    mds_said: str = ""
    """The MDS's."""
    path: str = ""
    """Where the inode lies, as far as known."""
