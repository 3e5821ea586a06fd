"""What the fields of messages hold beside plain numbers and names: caps, ops, flags, modes, bytes that are structures.

One table for all that show messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cephcaps.trace.words import (
    CAPS,
    FRAGS,
    MDS_STATES,
    OCTAL,
    SNAPIDS,
    Flags,
    Words,
    address,
    addresses,
    octets,
    sealed,
    snap_payload,
    snap_trace,
    text_of,
    xattrs,
)
from cephwire.caps import CapFlag, CapOp, CapPeer, ClientCaps, ClientCapsFlag
from cephwire.control import AuthMethod
from cephwire.entity import AddrVec, EntityAddr, LegacyAddr
from cephwire.filelock import FileLock, LockRule, LockType
from cephwire.inode import DirStat, FragSplit, InodeStat, IssuedCap
from cephwire.keys import CryptoType
from cephwire.lease import ClientLease, LeaseAction
from cephwire.mdsmap import MdsInfo, MdsInfoFlag, MdsMap, MdsMapFlag
from cephwire.message import Message
from cephwire.messages import BY_NUMBER
from cephwire.metrics import Metric, MetricType
from cephwire.mon_messages import MAuth, MAuthReply, MConfig, MonCommand, MonCommandAck, SubscribeFlag, Subscription
from cephwire.monmap import ElectionStrategy, MonMap
from cephwire.reclaim import ClientReclaim, ReclaimFlag
from cephwire.reconnect import CapReconnect
from cephwire.reply import ClientReply, ReaddirFlag, ReaddirReply
from cephwire.request import ClientRequest, RequestFlag, RequestRelease
from cephwire.requestargs import (
    FileLockArgs,
    GetattrArgs,
    LookupInoArgs,
    MkdirArgs,
    MknodArgs,
    OpenArgs,
    OpenFlag,
    ReaddirArgFlag,
    ReaddirArgs,
    SetattrArgs,
    SetattrMask,
    SetxattrArgs,
    SetxattrFlag,
    SnapDiffArgs,
)
from cephwire.requestop import RequestOp
from cephwire.session import ClientFeature, ClientSession, MetricSpec, SessionFlag, SessionOp
from cephwire.snap import ClientSnap, SnapOp, SnapRealm

__all__ = ["MEANINGS", "OPS", "SHOWN_AS", "TYPES", "UUIDS", "WHOLE", "Meaning", "op_of", "shown"]

Meaning: TypeAlias = Callable[[Any], Any] | Mapping[int, Any]
"""Turns a field's value into what is shown of it, or has that for each value."""


FEW_REALMS: Final = 1024
"""Bytes of a snap trace that is remembered: the same few come with each reply."""
REMEMBERED_TRACES: Final = 256


def request_data(request: ClientRequest) -> Any:
    """The data segment of a request, which only two ops have."""
    if request.op == RequestOp.SETXATTR:
        return text_of(request.data)
    found = snap_payload(request.data) if request.op == RequestOp.MKSNAP else None
    return octets(request.data) if found is None else found


# Fields


def _realms(raw: bytes) -> tuple[SnapRealm, ...] | str:
    return _few_realms(raw) if len(raw) <= FEW_REALMS else _any_realms(raw)


def _any_realms(raw: bytes) -> tuple[SnapRealm, ...] | str:
    found = snap_trace(raw) if raw else ()
    return octets(raw) if found is None else found


_few_realms: Final = lru_cache(REMEMBERED_TRACES)(_any_realms)


def _xattrs(raw: bytes) -> dict[str, str] | str | None:
    if not raw:  # none given, which is not the same as {}
        return None
    if (found := xattrs(raw)) is None:
        return octets(raw)
    return _texts(found)


def _texts(found: dict[str, bytes] | None) -> dict[str, str] | None:
    return None if found is None else {name: text_of(value) for name, value in found.items()}


def _ciphers(types: tuple[int, ...]) -> list[Any]:
    return [_CRYPTO[number] for number in types]


def _without_keys(text: str) -> str:
    from cephcaps.config.show import without_keys  # few captures hold what needs it

    return without_keys(text)


def _words_without_keys(words: tuple[str, ...]) -> list[str]:
    return [_without_keys(word) for word in words]


def _output_without_keys(raw: bytes) -> str:
    return _without_keys(text_of(raw))


def _config_without_keys(config: dict[str, str]) -> dict[str, str]:
    return {option: _without_keys(value) for option, value in config.items()}


_OPEN_FLAGS: Final = Flags(OpenFlag, zero="rdonly")
_READDIR_ARGS: Final[dict[str, Meaning]] = {"frag": FRAGS, "flags": Flags(ReaddirArgFlag)}
_FEATURES: Final = Flags(ClientFeature)
_METRICS: Final = Flags(MetricType)
_MAP_FLAGS: Final = Flags(MdsMapFlag)
_CAP_FLAGS: Final = Flags(CapFlag)
_REQUEST_OPS: Final = Words(RequestOp)
_CRYPTO: Final = Words(CryptoType)
_AUTH: Final = Words(AuthMethod)

MEANINGS: Final[dict[type, dict[str, Meaning]]] = {
    ClientCaps: {
        "op": Words(CapOp),
        "caps": CAPS,
        "wanted": CAPS,
        "dirty": CAPS,
        "mode": OCTAL,
        "snap_trace": _realms,
        "xattrs": _xattrs,
        "flags": Flags(ClientCapsFlag),
    },
    CapPeer: {"flags": _CAP_FLAGS},
    IssuedCap: {"caps": CAPS, "wanted": CAPS, "flags": _CAP_FLAGS},
    InodeStat: {"snapid": SNAPIDS, "mode": OCTAL, "xattrs": _texts},
    FragSplit: {"frag": FRAGS},
    DirStat: {"frag": FRAGS},
    ClientReply: {"op": _REQUEST_OPS, "snap": _realms},
    ReaddirReply: {"flags": Flags(ReaddirFlag)},
    ClientRequest: {"op": _REQUEST_OPS, "flags": Flags(RequestFlag)},
    RequestRelease: {"caps": CAPS, "wanted": CAPS},
    GetattrArgs: {"mask": CAPS},
    LookupInoArgs: {"mask": CAPS, "snapid": SNAPIDS},
    OpenArgs: {"flags": _OPEN_FLAGS, "mode": OCTAL, "mask": CAPS},
    MknodArgs: {"mode": OCTAL},
    MkdirArgs: {"mode": OCTAL},
    SetattrArgs: {"mode": OCTAL, "mask": Flags(SetattrMask)},
    SetxattrArgs: {"flags": Flags(SetxattrFlag)},
    ReaddirArgs: _READDIR_ARGS,
    SnapDiffArgs: {**_READDIR_ARGS, "snap_other": SNAPIDS},
    FileLockArgs: {"rule": Words(LockRule), "type": Words(LockType)},
    FileLock: {"type": Words(LockType)},
    ClientSession: {
        "op": Words(SessionOp),
        "features": _FEATURES,
        "flags": Flags(SessionFlag),
    },
    MetricSpec: {"types": _METRICS},
    ClientLease: {
        "action": Words(LeaseAction),
        "first": SNAPIDS,
        "last": SNAPIDS,
    },
    ClientSnap: {"op": Words(SnapOp), "trace": _realms},
    CapReconnect: {"wanted": CAPS, "issued": CAPS},
    ClientReclaim: {"flags": Flags(ReclaimFlag)},
    Metric: {"type": Words(MetricType)},
    MdsMap: {
        "flags": _MAP_FLAGS,
        "ever_allowed_features": _MAP_FLAGS,
        "explicitly_allowed_features": _MAP_FLAGS,
        "required_client_features": _FEATURES,
    },
    MdsInfo: {"state": MDS_STATES, "flags": Flags(MdsInfoFlag)},
    MonMap: {
        "strategy": Words(ElectionStrategy),
        "auth_service_cipher": _CRYPTO,
        "auth_preferred_cipher": _CRYPTO,
        "auth_allowed_ciphers": _ciphers,
    },
    Subscription: {"flags": Flags(SubscribeFlag)},
    MAuth: {"protocol": _AUTH, "auth_payload": sealed},
    MAuthReply: {"protocol": _AUTH, "result_bl": sealed},
    MConfig: {"config": _config_without_keys},
    MonCommand: {"cmd": _words_without_keys, "inbl": _output_without_keys},
    MonCommandAck: {"rs": _without_keys, "cmd": _words_without_keys, "outbl": _output_without_keys},
}
"""By class and field. Fields that are not here are shown as they are, and bytes in hex."""


def shown(cls: type, field: str, value: Any) -> str:
    """A field's value as a line of text has it."""
    meaning = MEANINGS[cls][field]
    said = meaning(value) if callable(meaning) else meaning[value]
    return ",".join(said) if isinstance(said, tuple) else str(said)


WHOLE: Final[dict[type, dict[str, Callable[[Any], Any]]]] = {ClientRequest: {"data": request_data}}
"""Fields whose meaning lies in others too: from the message."""

SHOWN_AS: Final[dict[type, Callable[[Any], Any]]] = {
    EntityAddr: address,
    LegacyAddr: address,
    AddrVec: addresses,
}
"""Classes that are shown as something else than their fields."""

UUIDS: Final = frozenset({"fsid"})
"""Fields of 16 bytes that are a UUID, in any class."""


# Types and ops


class _TypeNames(dict[int, str]):
    def __missing__(self, number: int) -> str:
        return f"type_{number}"


_MODULES: Final = {message.schema.cls.__module__ for message in BY_NUMBER.values()}

TYPES: Final = _TypeNames(
    {
        value.number: name.lower()
        for module in _MODULES
        for name, value in vars(sys.modules[module]).items()
        if isinstance(value, Message)
    }
    | {
        42: "osd_op",
        43: "osd_opreply",
        52: "log",
        61: "osd_backoff",
        79: "osd_beacon",
        97: "command",
        98: "command_reply",
        100: "mds_beacon",
        0x700: "mgr_open",
        0x701: "mgr_configure",
        0x704: "mgr_map",
    }
)
"""Number -> ``CEPH_MSG_*`` in small letters, ``type_7`` where that is not known. Some are of messages that are
not decoded here: those of clients to OSDs and managers, and of other daemons to monitors (ceph: src/include/ceph_fs.h,
src/msg/Message.h)."""

OPS: Final[dict[type, tuple[str, Words]]] = {
    ClientSession: ("op", Words(SessionOp)),
    ClientRequest: ("op", _REQUEST_OPS),
    ClientReply: ("op", _REQUEST_OPS),
    ClientCaps: ("op", Words(CapOp)),
    ClientSnap: ("op", Words(SnapOp)),
    ClientLease: ("action", Words(LeaseAction)),
}
"""The field that says what a message of many kinds is about, and its words."""


def op_of(message: Any) -> str:
    """Its op in Ceph's word, or as a number; "" for types without."""
    if (found := OPS.get(type(message))) is None:
        return ""
    field, words = found
    return str(words[getattr(message, field)])
