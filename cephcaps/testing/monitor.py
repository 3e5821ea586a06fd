"""The monitor of a test cluster: says who is who, hands out maps and tickets. Pure.

Sources: ceph: src/mon/Monitor.cc (``handle_subscribe``, ``handle_get_version``), src/mon/MDSMonitor.cc.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cephcaps.errors import ProtocolViolation
from cephcaps.messenger.server import Login
from cephcaps.messenger.server_v2 import ServerConnectionV2
from cephcaps.testing.daemon import Daemon, Remote
from cephcaps.testing.keys import KeyServer, MonLogin, NoLogin
from cephcaps.testing.maps import FSCID, Maps
from cephwire.cephx import MON_AUTH_OFFER, MON_AUTH_REQUEST, MonAuthOffer, MonAuthRequest
from cephwire.codec import Codec
from cephwire.control import AuthBadMethod, AuthDone, AuthMethod, AuthRequest, ConMode
from cephwire.entity import EntityAddr, EntityType
from cephwire.frames import MessageHeader
from cephwire.mon_messages import (
    MAuth,
    MAuthReply,
    MConfig,
    MonCommand,
    MonCommandAck,
    MonGetMap,
    MonGetVersion,
    MonGetVersionReply,
    MonSubscribe,
    PaxosHeader,
    Statfs,
    StatfsReply,
    SubscribeFlag,
)

__all__ = ["Monitor"]

EACCES = 13
EINVAL = 22
EOPNOTSUPP = 95

CLIENT_CONFIG = {"client_check_pool_perm": "false"}
"""What clients are told to set: libcephfs would read and write an object to see whether it may, and wait for an OSD
(ceph: src/client/Client.cc, ``Client::check_pool_perm``)."""

offers: Codec[MonAuthOffer] = Codec(MON_AUTH_OFFER)
requests: Codec[MonAuthRequest] = Codec(MON_AUTH_REQUEST)


@dataclass(eq=False)
class _Client:
    """A client of the monitor.

    Attributes:
        wants: what it wants to hear, from which epoch on, and whether once.
        known: it has logged in; over messenger v1 that is done in messages.
        method: that it logs in with.
    """

    login: Login
    known: bool
    method: int = 0
    wants: dict[str, tuple[int, bool]] = field(default_factory=dict)


class Monitor(Daemon):
    """The only monitor.

    Args:
        keys: who has which key; None where nobody needs one.

    Attributes:
        maps: what it publishes; call `publish` after a change.
        config: options that clients are to set.
    """

    kind = EntityType.MON
    lossy = True

    def __init__(self, addr: EntityAddr, con_modes: tuple[ConMode, ...], keys: KeyServer, maps: Maps, *, cephx: bool):
        super().__init__(addr, con_modes)
        self.maps = maps
        self.config: dict[str, str] = dict(CLIENT_CONFIG)
        self._keys = keys
        self._cephx = cephx
        self._clients: dict[Remote, _Client] = {}
        self._published: dict[str, tuple[Callable[[], int], Callable[[], Any]]] = {
            "monmap": (lambda: 1, lambda: maps.monmap),
            "mdsmap": (lambda: maps.mds_epoch, lambda: maps.mdsmap),
            f"mdsmap.{FSCID}": (lambda: maps.mds_epoch, lambda: maps.mdsmap),
            "fsmap.user": (lambda: maps.mds_epoch, lambda: maps.fsmap_user),
            "osdmap": (lambda: maps.osd_epoch, lambda: maps.osdmap),
            "config": (lambda: 1, lambda: MConfig(self.config)),
        }

    def login(self) -> Login:
        return MonLogin(self._keys) if self._cephx else NoLogin(self._keys, to_mon=True)

    def ready(self, remote: Remote, now: float) -> None:
        connection = remote.connection
        assert connection is not None
        self._clients[remote] = _Client(connection.login, known=isinstance(connection, ServerConnectionV2))

    def gone(self, remote: Remote, now: float) -> None:
        self._clients.pop(remote, None)

    def publish(self) -> None:
        """Tell whoever waits for it what is new."""
        for remote, client in self._clients.items():
            self._tell(remote, client)

    def received(self, remote: Remote, header: MessageHeader, message: Any, now: float) -> None:
        client = self._clients[remote]
        if not client.known:
            if isinstance(message, MAuth):
                self._log_in(remote, client, message)
            return
        match message:
            case MonSubscribe():
                for what, item in message.what.items():
                    client.wants[what] = item.start, bool(item.flags & SubscribeFlag.ONETIME)
                self._tell(remote, client)
            case MonGetMap():
                self.send(remote, self.maps.monmap)
            case MonGetVersion():
                self._version(remote, message, header.tid)
            case MonCommand():
                self._command(remote, message, header.tid)
            case Statfs():
                self.send(remote, StatfsReply(self.maps.fsid.bytes, 1, 0, 0, 0, 0), tid=header.tid)
            case MAuth():
                self._renew(remote, client, message)
            case _:
                pass

    def _tell(self, remote: Remote, client: _Client) -> None:
        for what, (start, once) in list(client.wants.items()):
            if what not in self._published:
                continue
            epoch, message = self._published[what]
            if epoch() >= start:
                self.send(remote, message())
                if once:
                    del client.wants[what]
                else:
                    client.wants[what] = epoch() + 1, False

    def _version(self, remote: Remote, message: MonGetVersion, tid: int) -> None:
        epochs = {"mdsmap": self.maps.mds_epoch, "fsmap": self.maps.mds_epoch, "osdmap": self.maps.osd_epoch}
        epoch = {**epochs, "monmap": 1}.get(message.what)
        if epoch is not None:
            self.send(remote, MonGetVersionReply(message.handle, epoch, 1), tid=tid)

    def _command(self, remote: Remote, message: MonCommand, tid: int) -> None:
        """A few questions; whatever else is asked is unknown, as to a real monitor of another release."""
        try:
            prefix = json.loads(message.cmd[0]).get("prefix", "")
        except (ValueError, IndexError, AttributeError):
            prefix = ""
        answers: dict[str, Any] = {
            "fs ls": [
                {
                    "name": self.maps.fs_name,
                    "metadata_pool": f"{self.maps.fs_name}.meta",
                    "data_pools": [f"{self.maps.fs_name}.data"],
                }
            ],
            "fsid": {"fsid": str(self.maps.fsid)},
        }
        known = prefix in answers
        status = "" if known else "command not known"
        output = json.dumps(answers[prefix]).encode() if known else b""
        answer = MonCommandAck(PaxosHeader(), 0 if known else -EINVAL, status, message.cmd, output)
        self.send(remote, answer, tid=tid)

    def _log_in(self, remote: Remote, client: _Client, message: MAuth) -> None:
        """What messenger v2 does in frames (ceph: src/mon/AuthMonitor.cc, ``prep_auth``)."""
        if not message.protocol:
            offer = offers.decode(message.auth_payload)
            client.method = AuthMethod.CEPHX if self._cephx else AuthMethod.NONE
            if client.method not in offer.methods:
                self.send(remote, MAuthReply(client.method, -EOPNOTSUPP, 0, b"", ""))
                return
            who = requests.encode(MonAuthRequest(offer.name, offer.global_id))
            found = client.login.request(AuthRequest(client.method, (ConMode.CRC,), who), ConMode.CRC)
        elif isinstance(client.login, MonLogin):
            found = client.login.prove(message.auth_payload)
        else:
            raise ProtocolViolation("method none has one round")
        if isinstance(found, AuthBadMethod):
            self.send(remote, MAuthReply(client.method, found.result, 0, b"", ""))
            return
        if isinstance(found, AuthDone):
            client.known = True
            remote.global_id, remote.name = found.global_id, client.login.name
            assert remote.connection is not None
            remote.connection.global_id = found.global_id
        given = client.login.promise() if isinstance(client.login, MonLogin) else remote.global_id
        self.send(remote, MAuthReply(client.method, 0, given, found.payload, ""))

    def _renew(self, remote: Remote, client: _Client, message: MAuth) -> None:
        login = client.login
        payload = login.answer(message.auth_payload) if isinstance(login, MonLogin) else b""
        result = 0 if payload is not None else -EACCES
        self.send(remote, MAuthReply(message.protocol, result, remote.global_id, payload or b"", ""))
