"""What Ceph's own clients log of their messages with ``debug ms = 1``, beside the same messages as a trace holds them.

The log has a line for each message, with some of its fields in words:

- ``-->`` when it is queued on a connection: once, however often a broken connection makes it go out again; and also if
  it never goes out, because the connection is given up before. Messages may leave in another order, those of higher
  priority first (ceph: src/msg/async/AsyncConnection.cc, ``send_message``; ProtocolV2.cc, ``_get_next_outgoing``).
- ``<==`` when it is handed to the client: not if the connection was given up between its arrival and that, nor a second
  time if it arrives twice (ceph: src/msg/DispatchQueue.cc, ``pre_dispatch``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cephcaps.trace import Traced
from cephwire.capbits import cap_string
from cephwire.caps import CapOp
from cephwire.lease import LeaseAction
from cephwire.requestop import RequestOp
from cephwire.session import SessionOp
from cephwire.snap import SnapOp

from .cluster import LiveCluster

__all__ = ["Logged", "as_logged", "debug_options", "read_debug_log"]

SENT = re.compile(r" 1 -- \S* --> (\S+) -- (.*?)(?: v\d+)? -- 0x\w+ con 0x\w+$")
RECEIVED = re.compile(
    r" 1 -- \S* <== \S+ (\S+) (\d+) ==== (.*?)(?: v\d+)? ==== \d+\+\d+\+\d+ \(.*\) 0x[0-9a-f]+ con 0x[0-9a-f]+$"
)
WRITE = 0x1000
"""In a request's op: it changes something (ceph: src/include/ceph_fs.h, ``CEPH_MDS_OP_WRITE``)."""
STARTED = " 1 --  start start"
"""A client first fetches the configuration as a client of its own, with another id; then it starts as what it is."""


class Logged(NamedTuple):
    """One message."""

    sent: bool
    daemon: str
    """Its address, ``127.0.0.1:6800``: the one of v2 where it has two."""
    seq: int
    """In the session; 0 if sent, as the log does not tell it then."""
    type: int
    facts: tuple[str, ...]
    """The fields that Ceph prints for this type."""


class Kind(NamedTuple):
    """How Ceph prints one type: where its fields stand in the text, and what they are in a message."""

    number: int
    text: re.Pattern[str]
    fields: Callable[[Traced, Any], tuple[Any, ...]]


def _nothing(traced: Traced, message: Any) -> tuple[Any, ...]:
    return ()


def _op(op: Any) -> str:
    return op.name.lower()


# ceph: src/messages/M*.h, ``print``. Both releases print what is looked for here alike.
KINDS = {
    kind: Kind(number, re.compile(rf"{kind}(?![a-z_]){text}"), fields)
    for kind, number, text, fields in (
        ("mon_map", 4, "", _nothing),
        ("mon_getmap", 5, "", _nothing),
        ("statfs", 13, r"\((\d+)", lambda t, m: (t.header.tid,)),
        ("statfs_reply", 14, r"\((\d+)", lambda t, m: (t.header.tid,)),
        ("mon_subscribe", 15, "", _nothing),
        ("auth", 17, "", _nothing),
        ("auth_reply", 18, r"\(proto (\d+) (-?\d+)", lambda t, m: (m.protocol, m.result)),
        ("mdsmap", 21, r"\(e (\d+)", lambda t, m: (m.epoch,)),
        ("client_session", 22, r"\((\w+)", lambda t, m: (_op(SessionOp(m.op)).replace("flush_mdlog", "flushmdlog"),)),
        ("client_reconnect", 23, r"\((\d+) caps (\d+) realms", lambda t, m: (len(m.caps), len(m.realms))),
        ("client_request", 24, r"\(\S+?:(\d+) (\w+)", lambda t, m: (t.header.tid, _op(RequestOp(m.op)))),
        (
            "client_request_forward",
            25,
            r"\((\d+) to mds\.(\d+) num_fwd=(\d+)",
            lambda t, m: (t.header.tid, m.dest_mds, m.num_fwd),
        ),
        (
            "client_reply",
            26,
            r"\(\S+?:(\d+) = (-?\d+) \(.*\) .*?(safe|unsafe)?\)",
            lambda t, m: (t.header.tid, m.result, ("unsafe", "safe")[m.safe] if m.op & WRITE else None),
        ),
        ("client_reclaim", 27, r"\((\S+) flags 0x(\w+)", lambda t, m: (m.uuid, f"{m.flags:x}")),
        ("client_reclaim_reply", 28, "", _nothing),
        ("client_metrics", 29, "", _nothing),
        ("osd_map", 41, r"\((?:(\d+)\.\.(\d+))?", lambda t, m: _osd_epochs(m)),
        ("osd_op", 42, "", _nothing),
        ("osd_op_reply", 43, "", _nothing),
        ("config", 62, r"\((\d+) keys", lambda t, m: (len(m.config),)),
        (
            "client_caps",
            784,
            r"\((\w+) ino 0x(\w+) (\d+) seq (\d+)(?: issue_seq \d+)?(?: tid (\d+))? "
            r"caps=(\S+) dirty=(\S+) wanted=(\S+) follows (\w+)",
            lambda t, m: (
                _op(CapOp(m.op)),
                f"{m.ino:x}",
                m.cap_id,
                m.seq,
                t.header.tid or None,
                cap_string(m.caps),
                cap_string(m.dirty),
                cap_string(m.wanted),
                f"{m.snap_follows:x}",
            ),
        ),
        (
            "client_lease",
            785,
            r"\(a=(\w+) seq (\d+) mask (\d+) 0x(\w+)(?:->\S+)?/(.*)\)$",
            lambda t, m: (_op(LeaseAction(m.action)), m.seq, m.mask, f"{m.ino:x}", m.dname),
        ),
        (
            "client_snap",
            786,
            r"\((\w+)(?: split=0x(\w+))?",
            lambda t, m: (_op(SnapOp(m.op)), f"{m.split:x}" if m.split else None),
        ),
        ("client_cap_release", 787, r"\((\d+)\)", lambda t, m: (len(m.caps),)),
        (
            "client_quota",
            788,
            r"\( \[0x(\w+)\].* b(\d+) \d+=(\d+)\+(\d+)\) quota\(max_bytes = (\d+) max_files = (\d+)\)",
            lambda t, m: (f"{m.ino:x}", m.rbytes, m.rfiles, m.rsubdirs, m.quota.max_bytes, m.quota.max_files),
        ),
    )
}
BY_NUMBER = {kind.number: kind for kind in KINDS.values()}


def debug_options(cluster: LiveCluster, name: str) -> dict[str, str]:
    """Options for a client that logs every message into ``cluster.directory / "log" / f"{name}.log"``."""
    log = cluster.release.inside(cluster.directory / "log" / f"{name}.log")
    return {"debug_ms": "1", "log_file": str(log), "log_to_stderr": "false"}


def read_debug_log(path: Path) -> list[Logged]:
    """Every message in the log of one client that has ended, in its order.

    Raises:
        ValueError: a line that tells of a message is not understood.
    """
    text = path.read_text(errors="replace")
    found = []
    for line in text[text.rindex(STARTED) :].splitlines():
        if sent := SENT.search(line):
            found.append(Logged(True, _address(sent[1]), 0, *_printed(sent[2])))
        elif received := RECEIVED.search(line):
            found.append(Logged(False, _address(received[1]), int(received[2]), *_printed(received[3])))
        elif " --> " in line or " <== " in line:
            raise ValueError(f"{path.name}: {line}")
    return found


def as_logged(traced: Traced) -> Logged:
    """How a Ceph client logs this message of a trace."""
    kind = BY_NUMBER[traced.header.type]
    fields = kind.fields(traced, traced.message)
    facts = tuple("" if field is None else str(field) for field in fields)
    seq = 0 if traced.to_daemon else traced.header.seq
    return Logged(traced.to_daemon, traced.flow.daemon, seq, traced.header.type, facts)


def _printed(text: str) -> tuple[int, tuple[str, ...]]:
    name = re.match("[a-z_]+", text)
    kind = KINDS[name[0]] if name else None
    found = kind.text.match(text) if kind else None
    if kind is None or found is None:
        raise ValueError(f"a message that is not understood: {text}")
    return kind.number, tuple(found.groups(""))


def _osd_epochs(message: Any) -> tuple[Any, ...]:
    epochs = [*message.maps, *message.incremental_maps]
    return min(epochs), max(epochs)


def _address(text: str) -> str:
    """``127.0.0.1:6800`` of ``[v2:127.0.0.1:6800/12,v1:127.0.0.1:6801/12]`` or ``127.0.0.1:6800/12``."""
    found = re.match(r"\[?(?:v[12]:)?([^/]+)/", text)
    if found is None:
        raise ValueError(f"no address: {text}")
    return found[1]
