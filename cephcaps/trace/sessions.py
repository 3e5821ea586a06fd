"""Sessions of messenger v2 that outlive their connections: what a resumed one carries again is told by its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from cephwire.entity import AnyAddrs

__all__ = ["Session", "Sessions"]

MAX_SESSIONS = 10_000


@dataclass(slots=True, eq=False)
class Session:
    """One session.

    Attributes:
        newest: highest sequence number of a message carried to the client, and to the daemon.
        server_cookie: names the server's side of it.
        daemon_num: the daemon's number, such as an MDS's rank; None while unknown.
    """

    newest: list[int] = field(default_factory=lambda: [0, 0])
    server_cookie: int = 0
    daemon_num: int | None = None


class Sessions:
    """The sessions of a trace that can be resumed.

    One is known by its client's addresses and cookie and by where the daemon listens. Of one whose beginning was not
    captured only the two hosts are known, until it is resumed.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[AnyAddrs, int, str], Session] = {}
        self._nameless: dict[tuple[str, str], Session | None] = {}

    def opened(self, addrs: AnyAddrs, cookie: int, daemon: str, server_cookie: int) -> Session:
        """The session that an ident opens.

        It goes on if the client never heard of its being opened before: the server then keeps its own cookie (ceph:
        src/msg/async/ProtocolV2.cc, ``handle_existing_connection``).
        """
        session = self._known.pop((addrs, cookie, daemon), None)
        if session is None or session.server_cookie != server_cookie:
            session = Session(server_cookie=server_cookie)
        self._keep((addrs, cookie, daemon), session)
        return session

    def resumed(self, addrs: AnyAddrs, cookie: int, client: str, daemon: str) -> Session:
        """The session that a client resumes."""
        session = self._known.pop((addrs, cookie, daemon), None) or self._nameless.pop((_host(client), daemon), None)
        if session is None:
            session = Session()
        self._keep((addrs, cookie, daemon), session)
        return session

    def reset(self, addrs: AnyAddrs, cookie: int, daemon: str) -> None:
        """The server has forgotten it."""
        self._known.pop((addrs, cookie, daemon), None)

    def joined(self, client: str, daemon: str, session: Session) -> None:
        """A session's messages are seen without its beginning; of two between the same hosts neither can be told."""
        hosts = _host(client), daemon
        taken = hosts in self._nameless
        if len(self._nameless) >= MAX_SESSIONS:
            del self._nameless[next(iter(self._nameless))]
        self._nameless[hosts] = None if taken else session

    def _keep(self, key: tuple[AnyAddrs, int, str], session: Session) -> None:
        if len(self._known) >= MAX_SESSIONS:
            del self._known[next(iter(self._known))]
        self._known[key] = session


def _host(address: str) -> str:
    return address.rpartition(":")[0]
