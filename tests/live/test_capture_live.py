"""Captures of Ceph's own clients at work: every message is decoded, and none is missing by the clients' own logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cephcaps.trace import Problem, Traced, read_trace
from cephwire.caps import CapOp, ClientCaps
from cephwire.entity import EntityType
from cephwire.quota import ClientQuota
from cephwire.reclaim import ClientReclaim, ClientReclaimReply
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import ClientRequest
from cephwire.requestop import RequestOp
from cephwire.session import ClientSession, SessionOp

from .debug_log import as_logged
from .release import Release
from .scenario import Captured, capture_scenario

SOAK_ROUNDS = 10

OSD_OPS = {42, 43}
"""``osd_op`` and ``osd_op_reply``: what goes to and from OSDs is not decoded."""

OPS = {
    ClientSession: "REQUEST_OPEN OPEN REQUEST_CLOSE CLOSE RECALL_STATE FLUSHMSG FLUSHMSG_ACK REQUEST_FLUSH_MDLOG",
    ClientCaps: "GRANT REVOKE TRUNC EXPORT IMPORT UPDATE FLUSH_ACK FLUSHSNAP FLUSHSNAP_ACK",
    ClientRequest: "LOOKUP GETATTR CREATE OPEN READDIR SETATTR MKDIR RMDIR MKNOD LINK SYMLINK UNLINK RENAME SETXATTR "
    "RMXATTR SETFILELOCK GETFILELOCK LOOKUPSNAP LSSNAP MKSNAP RMSNAP RENAMESNAP",
}
"""What the scenario makes clients and MDS say, whatever the timing."""
KINDS = {ClientReply, ClientRequestForward, ClientReconnect, ClientQuota, ClientReclaim, ClientReclaimReply}


@pytest.mark.parametrize("messenger", [1, 2])
def test_everything_clients_and_daemons_say_is_decoded(
    captured_scenario: Callable[[int], Captured], messenger: int
) -> None:
    check(captured_scenario(messenger), messenger)


@pytest.mark.soak
@pytest.mark.parametrize("messenger", [1, 2])
def test_it_is_decoded_whatever_the_order_it_is_said_in(release: Release, tmp_path: Path, messenger: int) -> None:
    check(capture_scenario(release, tmp_path, msgr2=messenger == 2, rounds=SOAK_ROUNDS), messenger)


def check(captured: Captured, messenger: int) -> None:
    with captured.path.open("rb") as file:
        items = list(read_trace(file, captured.keys))
    traced = [item for item in items if isinstance(item, Traced)]
    assert [p for p in items if isinstance(p, Problem) and not is_cut(captured, p)] == []
    assert [(t.header, t.error) for t in traced if t.error is not None] == []
    assert [(t.header, t.leftover) for t in traced if t.leftover] == []
    of_clients = [t for t in traced if t.flow.client_id in captured.logged]
    assert {t.header.type for t in of_clients if t.message is None} == OSD_OPS
    assert {t.flow.messenger for t in traced} == {messenger}
    assert secure_daemons(captured, of_clients) == ([{MON, MDS, OSD}, {MON}, set()] if messenger == 2 else [set()])
    check_subjects(of_clients)
    for client_id, logged in captured.logged.items():
        seen = Counter(as_logged(t) for t in of_clients if t.flow.client_id == client_id and not t.resent)
        given_up = set(given_up_by(captured, of_clients, client_id))
        unsent, unheard = Counter(logged) - seen, seen - Counter(logged)
        assert [m for m in unsent if not (m.sent and m.daemon in given_up)] == [], f"client.{client_id} had these too"
        assert [m for m in unheard if m.sent or m.daemon not in given_up] == [], f"client.{client_id} had not these"


MON, MDS, OSD = EntityType.MON, EntityType.MDS, EntityType.OSD


def is_cut(captured: Captured, problem: Problem) -> bool:
    """Whether it is half a message, on a connection that was broken or whose daemon was killed."""
    flow = problem.flow
    if problem.kind != "gap" or flow is None:
        return False
    is_daemons = flow.client_id not in captured.logged
    return is_daemons or flow.daemon in captured.failed or flow.client_id in captured.evicted | captured.shaky


def given_up_by(captured: Captured, of_clients: list[Traced], client_id: int) -> Iterator[str]:
    """Daemons that a connection of that client was given up with: for them some of the log's messages never left the
    client, and some that arrived were not handed to it. Sessions with an MDS outlive connections that break."""
    for daemon, type in {(t.flow.daemon, t.flow.daemon_type) for t in of_clients if t.flow.client_id == client_id}:
        broken = client_id in captured.shaky and type != MDS
        if broken or daemon in captured.failed or client_id in captured.evicted:
            yield daemon


def secure_daemons(captured: Captured, of_clients: list[Traced]) -> list[set[int | None]]:
    """With what daemons clients are in secure mode; each combination once."""
    found = []
    for client_id in captured.logged:
        flows = {t.flow for t in of_clients if t.flow.client_id == client_id}
        daemons = {flow.daemon_type for flow in flows if flow.secure}
        assert daemons.isdisjoint(flow.daemon_type for flow in flows if not flow.secure)
        if daemons not in found:
            found.append(daemons)
    return sorted(found, key=len, reverse=True)


def check_subjects(of_clients: list[Traced]) -> None:
    """The scenario did what it is there for."""
    ops = {(type(t.message), t.message.op) for t in of_clients if type(t.message) in OPS}
    named = {ClientSession: SessionOp, ClientCaps: CapOp, ClientRequest: RequestOp}
    missing = {op for cls, names in OPS.items() for op in names.split() if (cls, named[cls][op]) not in ops}
    assert missing == set()
    assert {type(t.message) for t in of_clients} >= KINDS
