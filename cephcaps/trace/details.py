"""What matters in a message, in one line for people; one function for each class of message.

Groups are two spaces apart, most of them a word and its value. What says nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cephcaps.trace.fields import shown
from cephcaps.trace.items import Traced
from cephcaps.trace.known import Learned
from cephcaps.trace.request_details import forward_details, reply_details, request_details
from cephcaps.trace.view import LISTED, Said, View, clock, duration, result
from cephcaps.trace.words import CAPS, MDS_STATES, SNAPIDS, snap_trace
from cephwire.capbits import Cap
from cephwire.caprelease import ClientCapRelease
from cephwire.caps import CapOp, CapPeer, ClientCaps
from cephwire.inode import NOSNAP
from cephwire.lease import ClientLease
from cephwire.map_messages import MFsMapUser, MMdsMap, MMonMap, MOsdMap
from cephwire.metrics import ClientMetrics, MetricType
from cephwire.mon_messages import MAuthReply, MConfig, MonGetVersion, MonGetVersionReply, MonSubscribe
from cephwire.quota import ClientQuota
from cephwire.reclaim import ClientReclaim, ClientReclaimReply
from cephwire.reconnect import ClientReconnect
from cephwire.reply import ClientReply, ClientRequestForward
from cephwire.request import ClientRequest
from cephwire.session import ClientSession, SessionOp
from cephwire.snap import ClientSnap

__all__ = ["details"]


def details(view: View, item: Traced, learned: Learned) -> str:
    """What there is to say of a message that was decoded."""
    said = _DETAILS.get(type(item.message))
    return "" if said is None else "  ".join(filter(None, said(view, item, item.message, learned)))


# Caps


def _client_caps(view: View, item: Traced, m: ClientCaps, learned: Learned) -> Said:
    said = [view.ino(m.ino)]
    body = m.body
    if isinstance(body, CapPeer):  # an export
        said.append(f"cap_id {m.cap_id} mseq {m.mseq}  to mds.{body.mds}")
        said.append(f"cap_id {body.cap_id} issue_seq {body.issue_seq} mseq {body.mseq}")
        return said
    issue_seq = f" issue_seq {m.issue_seq}" if m.issue_seq else ""
    mseq = f" mseq {m.mseq}" if m.mseq else ""
    change = "" if item.to_daemon else _change(learned.had, m.caps)
    said.append(f"seq {m.seq}{issue_seq}{mseq}  caps {CAPS[m.caps]}{change}  wanted {CAPS[m.wanted]}")
    if m.dirty or item.header.tid:
        said.append(f"dirty {CAPS[m.dirty]} flush_tid {item.header.tid}")
    if m.op in SNAP_FLUSHES:
        said.append(f"follows {m.snap_follows}")
    if (peer := m.peer) is not None:
        said.append(f"from mds.{peer.mds} cap_id {peer.cap_id} issue_seq {peer.issue_seq} mseq {peer.mseq}")
    if learned.moved:
        said.append(f"size {body.size} mtime {clock(body.mtime)}")
    if m.op == CapOp.TRUNC:
        said.append(f"truncate_size {body.truncate_size} truncate_seq {body.truncate_seq}")
    if body.max_size and m.wanted & Cap.FILE_WR:
        said.append(f"max_size {body.max_size}")
    if item.to_daemon and m.dirty & Cap.AUTH_EXCL:
        said.append(f"mode {m.mode:o} uid {m.uid} gid {m.gid}")
    if m.xattrs:
        said.append(f"xattrs {len(m.xattrs)} bytes version {m.xattr_version}")
    if m.flags:
        said.append("flags " + shown(ClientCaps, "flags", m.flags))
    if learned.waited is not None:
        waited = duration(learned.waited)
        said.append(f"answers the revoke of {waited} ago" if item.to_daemon else f"after {waited}")
    return said


SNAP_FLUSHES: Final = frozenset((CapOp.FLUSHSNAP, CapOp.FLUSHSNAP_ACK))


def _change(had: int | None, has: int) -> str:
    """Bits that came and went: `` (+Fx -Fs)``."""
    if had is None or had == has:
        return ""
    came, went = has & ~had, had & ~has
    return " (" + " ".join(sign + CAPS[bits] for sign, bits in (("+", came), ("-", went)) if bits) + ")"


def _client_caprelease(view: View, item: Traced, m: ClientCapRelease, learned: Learned) -> Said:
    yield view.listed("caps", m.caps, lambda cap: cap.ino, lambda cap: view.ino(cap.ino))
    if m.osd_epoch_barrier:
        yield f"osd_epoch_barrier {m.osd_epoch_barrier}"


def _client_reconnect(view: View, item: Traced, m: ClientReconnect, learned: Learned) -> Said:
    yield view.listed(
        "caps",
        m.caps,
        lambda one: one.ino,
        lambda one: f"{view.ino(one.ino)} {CAPS[one.cap.issued]} wanted {CAPS[one.cap.wanted]}",
    )
    yield f"{len(m.realms)} realms"
    yield "more follow" if m.more else ""


# Sessions


def _client_session(view: View, item: Traced, m: ClientSession, learned: Learned) -> Said:
    yield f"seq {m.seq}" if m.seq else ""
    if m.op == SessionOp.RECALL_STATE:
        yield f"max_caps {m.max_caps} max_leases {m.max_leases}"
    for key in ("hostname", "entity_id", "root", "kernel_version", "ceph_version", "error_string"):
        if value := m.metadata.get(key):
            yield f"{key} {value}"
    yield shown(ClientSession, "flags", m.flags)


def _client_lease(view: View, item: Traced, m: ClientLease, learned: Learned) -> Said:
    yield f"{view.path(m.ino, m.dname)} in {m.ino:#x}"
    yield f"seq {m.seq}"
    yield f"duration {m.duration_ms} ms" if m.duration_ms else ""
    if m.last != NOSNAP:
        yield f"snaps {SNAPIDS[m.first]} to {SNAPIDS[m.last]}"


def _client_snap(view: View, item: Traced, m: ClientSnap, learned: Learned) -> Said:
    realm = next(iter(snap_trace(m.trace) or ()), None)
    if m.split and (realm is None or realm.ino != m.split):
        yield f"split {view.ino(m.split)}"
    if realm is not None:
        yield f"realm {view.ino(realm.ino)} seq {realm.seq}"
        yield f"snaps {','.join(map(str, realm.snaps[:LISTED]))}" if realm.snaps else "no snaps"
    if m.split_inos:
        yield view.listed("inodes", m.split_inos, lambda ino: ino, view.ino)
    if m.split_realms:
        yield view.listed("realms", m.split_realms, lambda ino: ino, view.ino)


def _client_quota(view: View, item: Traced, m: ClientQuota, learned: Learned) -> Said:
    yield view.ino(m.ino)
    yield f"rbytes {m.rbytes}" + (f" of {m.quota.max_bytes}" if m.quota.max_bytes else "")
    yield f"rfiles {m.rfiles}" + (f" of {m.quota.max_files}" if m.quota.max_files else "")
    yield f"rsubdirs {m.rsubdirs}"


def _client_metrics(view: View, item: Traced, m: ClientMetrics, learned: Learned) -> Said:
    for metric in m.metrics:
        if metric.type == MetricType.CAP_INFO:
            value: Any = metric.value
            yield f"caps {value.num_caps} hits {value.cap_hits} misses {value.cap_misses}"
    yield f"{len(m.metrics)} metrics"


def _client_reclaim(view: View, item: Traced, m: ClientReclaim, learned: Learned) -> Said:
    yield m.uuid
    yield shown(ClientReclaim, "flags", m.flags)


def _client_reclaim_reply(view: View, item: Traced, m: ClientReclaimReply, learned: Learned) -> Said:
    yield result(m.result)
    yield f"epoch {m.epoch}" if m.epoch else ""
    yield str(m.addrs)


# Monitors and maps


def _mds_map(view: View, item: Traced, m: MMdsMap, learned: Learned) -> Said:
    yield f"epoch {m.epoch}"
    yield m.mdsmap.fs_name or m.map_fs_name
    holders = sorted(m.mdsmap.mds_info.values(), key=lambda info: info.rank)
    yield from (f"mds.{info.rank} {info.name} {MDS_STATES[info.state]}" for info in holders[:LISTED])
    yield f"failed {','.join(map(str, m.mdsmap.failed[:LISTED]))}" if m.mdsmap.failed else ""


def _osd_map(view: View, item: Traced, m: MOsdMap, learned: Learned) -> Said:
    epochs = sorted((*m.incremental_maps, *m.maps))
    yield f"epochs {epochs[0]} to {epochs[-1]}" if epochs else "no epochs"


def _mon_map(view: View, item: Traced, m: MMonMap, learned: Learned) -> Said:
    yield f"epoch {m.monmap.epoch}"
    yield ",".join(list(m.monmap.mon_info)[:LISTED])


def _fs_map_user(view: View, item: Traced, m: MFsMapUser, learned: Learned) -> Said:
    yield f"epoch {m.epoch}"
    yield ",".join(fs.name for fs in m.fsmap.filesystems[:LISTED])


def _mon_subscribe(view: View, item: Traced, m: MonSubscribe, learned: Learned) -> Said:
    yield ", ".join(f"{what} from {wanted.start}" for what, wanted in m.what.items())


def _mon_get_version(view: View, item: Traced, m: MonGetVersion, learned: Learned) -> Said:
    yield m.what


def _mon_get_version_reply(view: View, item: Traced, m: MonGetVersionReply, learned: Learned) -> Said:
    yield f"version {m.version}"


def _config(view: View, item: Traced, m: MConfig, learned: Learned) -> Said:
    yield f"{len(m.config)} options"


def _auth_reply(view: View, item: Traced, m: MAuthReply, learned: Learned) -> Said:
    yield result(m.result)
    yield f"client.{m.global_id}" if m.global_id else ""


_DETAILS: Final[dict[type, Callable[[View, Traced, Any, Learned], Said]]] = {
    ClientCaps: _client_caps,
    ClientCapRelease: _client_caprelease,
    ClientReconnect: _client_reconnect,
    ClientRequest: request_details,
    ClientReply: reply_details,
    ClientRequestForward: forward_details,
    ClientSession: _client_session,
    ClientLease: _client_lease,
    ClientSnap: _client_snap,
    ClientQuota: _client_quota,
    ClientMetrics: _client_metrics,
    ClientReclaim: _client_reclaim,
    ClientReclaimReply: _client_reclaim_reply,
    MMdsMap: _mds_map,
    MOsdMap: _osd_map,
    MMonMap: _mon_map,
    MFsMapUser: _fs_map_user,
    MonSubscribe: _mon_subscribe,
    MonGetVersion: _mon_get_version,
    MonGetVersionReply: _mon_get_version_reply,
    MConfig: _config,
    MAuthReply: _auth_reply,
}
