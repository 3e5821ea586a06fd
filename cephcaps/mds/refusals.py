"""Why an MDS will not have a session with us, as far as it says."""

from __future__ import annotations

from cephcaps.errors import AuthError, SessionLost
from cephwire.session import ClientSession, SessionFlag

__all__ = ["refusal"]


def refusal(message: ClientSession, who: str, entity: str) -> AuthError | SessionLost:
    """What a REJECT means to the caller (ceph: src/mds/Server.cc, ``handle_client_session``).

    Args:
        message: the REJECT; its metadata has the reason in words.
        who: the MDS, in words.
        entity: whose key we have, ``client.admin``.
    """
    reason = message.metadata.get("error_string", "no reason given")
    if message.flags & SessionFlag.BLOCKLISTED or "blocklisted" in reason:
        return SessionLost(
            f"{who} refused the session: this client's address is blocklisted; connect anew", reason="blocklisted"
        )
    if "root" in reason or "caps" in reason:
        return AuthError(
            f"{who} refused the session: {reason}; the key's MDS caps do not cover this directory or file system: "
            f"connect with root= set to what they do cover (see `ceph auth get {entity}`)"
        )
    return SessionLost(f"{who} refused the session: {reason}", reason="rejected")
