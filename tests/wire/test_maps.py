"""What real monitors sent decodes to the last byte, and says what the ``ceph`` tool says of the same epoch."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from cephwire import map_messages, mon_messages
from cephwire.codec import Leftover
from cephwire.entity import AddrType, AnyAddr, AnyAddrs, EntityAddr, addresses
from cephwire.map_messages import FS_MAP_USER, MDS_MAP, MON_MAP, OSD_MAP
from cephwire.mdsmap import CompatSet, FeatureSet, MdsInfo, MdsInfoFlag, MdsMap, MdsMapFlag, MdsState
from cephwire.message import Message
from cephwire.mon_messages import STATFS_REPLY, Subscription
from cephwire.monmap import ElectionStrategy, MonInfo, MonMap
from cephwire.osdmap import OsdMap, OsdMapIncremental

DATA = Path(__file__).parent / "data" / "maps"
BY_NUMBER: dict[int, Message[Any]] = {
    message.number: message
    for module in (map_messages, mon_messages)
    for message in vars(module).values()
    if isinstance(message, Message)
}


class Recorded(NamedTuple):
    """One message of a real cluster, and what a tool said of its content."""

    release: str
    what: str
    type: int
    version: int
    compat: int
    front: bytes
    data: bytes
    dump: Any

    @property
    def message(self) -> Message[Any]:
        return BY_NUMBER[self.type]

    def decoded(self, leftover: list[Leftover] | None = None) -> Any:
        return self.message.decode(
            self.front, b"", self.data, version=self.version, compat=self.compat, leftover=leftover
        )

    def interpreted(self) -> Any:
        segments = {"middle": b"", "data": self.data}
        return self.message.schema.parse_stream(io.BytesIO(self.front), struct_v=self.version, **segments)


def recorded() -> list[Recorded]:
    found = []
    for path in sorted(DATA.glob("*.jsonl")):
        head, *lines = map(json.loads, path.read_text().splitlines())
        for line in lines:
            front, data = bytes.fromhex(line["front"]), bytes.fromhex(line.get("data", ""))
            numbers = line["type"], line["version"], line["compat"]
            found.append(Recorded(head["release"], line["what"], *numbers, front, data, line.get("dump")))
    return found


RECORDED = recorded()


def params(dumped: Message[Any] | None = None) -> list[Any]:
    """All recordings, or those of one type that a dump comes with."""
    return [
        pytest.param(record, id=f"{record.release} {record.what}")
        for record in RECORDED
        if dumped is None or (record.type == dumped.number and record.dump)
    ]


def only(release: str, what: str) -> Recorded:
    (record,) = (r for r in RECORDED if r.release.startswith(release) and r.what == what)
    return record


def nanoseconds(text: str) -> int:
    """The time a tool printed, which is cut to microseconds."""
    date, time, micro = re.fullmatch(r"(\S{10})T(\d\d:\d\d:\d\d)[.:](\d{6})(?:Z|\+0000)", text).groups()  # type: ignore[union-attr]
    moment = datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=UTC)
    return (int(moment.timestamp()) * 1_000_000 + int(micro)) * 1000


def timed(dump: dict[str, Any], *keys: str) -> dict[str, Any]:
    """``dump`` with those of the times ``keys`` it has in nanoseconds."""
    return {key: nanoseconds(value) if key in keys else value for key, value in dump.items()}


def cut(time: int) -> int:
    return time // 1000 * 1000


def endpoint(addr: AnyAddr) -> str:
    """The address as the ``ceph`` tool prints it where it leaves the type out."""
    assert isinstance(addr, EntityAddr)
    return str(EntityAddr(AddrType.ANY, addr.nonce, addr.sockaddr))


def dumped_addrs(addrs: AnyAddrs) -> Any:
    kinds = {AddrType.LEGACY: "v1", AddrType.MSGR2: "v2"}
    return {
        "addrvec": [
            {"type": kinds[AddrType(a.type)], "addr": f"{a.host}:{a.port}", "nonce": a.nonce} for a in addresses(addrs)
        ]
    }


# MonMap


def dumped_cipher(cipher: int) -> Any:
    return {"name": {1: "aes", 2: "aes256k"}[cipher], "value": cipher}


def dumped_location(record: Recorded, location: dict[str, str]) -> Any:
    if record.release.startswith("16."):
        return "{" + ",".join(f"{key}={value}" for key, value in location.items()) + "}"
    return [{"key": key, "val": value} for key, value in location.items()]


def dumped_mon(record: Recorded, rank: int, mon: MonInfo) -> Any:
    v1 = next(endpoint(addr) for addr in addresses(mon.public_addrs) if addr.type == AddrType.LEGACY)
    dump = {
        "rank": rank,
        "name": mon.name,
        "public_addrs": dumped_addrs(mon.public_addrs),
        "addr": v1,
        "public_addr": v1,
        "priority": mon.priority,
        "weight": mon.weight,
        "crush_location": dumped_location(record, mon.crush_location),
    }
    return dump if mon.time_added == 0 else {**dump, "time_added": cut(mon.time_added)}


def dumped_monmap(record: Recorded, monmap: MonMap) -> Any:
    dump = {
        "epoch": monmap.epoch,
        "fsid": str(UUID(bytes=monmap.fsid)),
        "modified": cut(monmap.last_changed),
        "created": cut(monmap.created),
        "min_mon_release": monmap.min_mon_release,
        "election_strategy": monmap.strategy,
        "disallowed_leaders": ",".join(monmap.disallowed_leaders),
        "stretch_mode": bool(monmap.stretch_mode),
        "tiebreaker_mon": monmap.tiebreaker_mon,
        "removed_ranks": ",".join(map(str, monmap.removed_ranks)),
        "persistent": monmap.persistent_features.bit_count(),
        "optional": monmap.optional_features.bit_count(),
        "mons": [dumped_mon(record, rank, monmap.mon_info[name]) for rank, name in enumerate(monmap.ranks)],
    }
    if record.release.startswith("16."):
        return dump
    return {
        **dump,
        "auth_epoch": monmap.auth_epoch,
        "auth_service_cipher": dumped_cipher(monmap.auth_service_cipher),
        "auth_allowed_ciphers": [dumped_cipher(cipher) for cipher in monmap.auth_allowed_ciphers],
        "auth_preferred_cipher": dumped_cipher(monmap.auth_preferred_cipher),
    }


def normal_monmap(dump: Any) -> Any:
    """``ceph mon dump`` without what is no part of the map, with times and features in our units."""
    dump = {key.rstrip(": "): value for key, value in dump.items() if key not in ("quorum", "min_mon_release_name")}
    features = {key: len(names) for key, names in dump.pop("features").items()}
    return {**timed(dump, "modified", "created"), **features, "mons": [timed(m, "time_added") for m in dump["mons"]]}


@pytest.mark.parametrize("record", params(MON_MAP))
def test_a_monmap_says_what_ceph_mon_dump_says(record: Recorded) -> None:
    assert dumped_monmap(record, record.decoded().monmap) == normal_monmap(record.dump)


def test_the_ciphers_of_a_monmap_are_told_apart() -> None:
    monmap = only("20.", "mon_map location, ciphers").decoded().monmap
    assert monmap.strategy == ElectionStrategy.DISALLOW
    assert (monmap.auth_service_cipher, monmap.auth_allowed_ciphers, monmap.auth_preferred_cipher) == (2, (1, 2), 1)


# MDSMap


def dumped_features(features: FeatureSet) -> Any:
    assert features.mask == sum(1 << number for number in features.names)
    return {f"feature_{number}": name for number, name in features.names.items()}


def dumped_compat(compat: CompatSet) -> Any:
    return {key: dumped_features(getattr(compat, key)) for key in ("compat", "ro_compat", "incompat")}


def dumped_mds(info: MdsInfo) -> Any:
    v1 = next(endpoint(addr) for addr in addresses(info.addrs) if addr.type == AddrType.LEGACY)
    dump = {
        "gid": info.gid,
        "name": info.name,
        "rank": info.rank,
        "incarnation": info.inc,
        "state": "up:" + MdsState(info.state).name.lower().replace("_", "-"),
        "state_seq": info.state_seq,
        "addr": v1,
        "addrs": dumped_addrs(info.addrs),
        "join_fscid": info.join_fscid,
        "export_targets": list(info.export_targets),
        "features": info.mds_features,
        "flags": info.flags,
        "compat": dumped_compat(info.compat),
    }
    return dump if info.laggy_since == 0 else {**dump, "laggy_since": cut(info.laggy_since)}


def dumped_mdsmap(mdsmap: MdsMap) -> Any:
    plain: dict[str, Any] = {
        key: getattr(mdsmap, key)
        for key in (
            *("epoch", "flags", "ever_allowed_features", "explicitly_allowed_features", "tableserver", "root"),
            *("session_timeout", "session_autoclose", "max_file_size", "last_failure", "last_failure_osd_epoch"),
            *("max_mds", "metadata_pool", "fs_name", "balancer"),
        )
    }
    dump = {
        **plain,
        "created": cut(mdsmap.created),
        "modified": cut(mdsmap.modified),
        "required_client_features": mdsmap.required_client_features,
        "compat": dumped_compat(mdsmap.compat),
        "in": list(mdsmap.in_),
        "up": {f"mds_{rank}": gid for rank, gid in mdsmap.up.items()},
        "failed": list(mdsmap.failed),
        "damaged": list(mdsmap.damaged),
        "stopped": list(mdsmap.stopped),
        "info": {f"gid_{gid}": dumped_mds(info) for gid, info in mdsmap.mds_info.items()},
        "data_pools": list(mdsmap.data_pools),
        "enabled": bool(mdsmap.enabled),
        "standby_count_wanted": max(mdsmap.standby_count_wanted, 0),
    }
    if mdsmap.ev < 19:
        return dump
    flags = MdsMapFlag(mdsmap.flags)
    named = {name: getattr(MdsMapFlag, name.upper()) in flags for name in FLAG_NAMES}
    return dump | {
        "flags_state": {"joinable": MdsMapFlag.NOT_JOINABLE not in flags, **named},
        "max_xattr_size": mdsmap.max_xattr_size,
        "bal_rank_mask": mdsmap.bal_rank_mask,
        "qdb_leader": mdsmap.qdb_leader,
        "qdb_cluster": list(mdsmap.qdb_members),
    }


FLAG_NAMES = (
    "allow_snaps",
    "allow_multimds_snaps",
    "allow_standby_replay",
    "refuse_client_session",
    "refuse_standby_for_another_fs",
    "balance_automate",
)


def normal_mdsmap(dump: Any) -> Any:
    """``ceph fs dump`` of one file system, with times and features in our units."""
    features = (int(key.removeprefix("feature_")) for key in dump["required_client_features"])
    info = {gid: timed(daemon, "laggy_since") for gid, daemon in dump["info"].items()}
    required = sum(1 << feature for feature in features)
    return {**timed(dump, "created", "modified"), "info": info, "required_client_features": required}


@pytest.mark.parametrize("record", params(MDS_MAP))
def test_an_mdsmap_says_what_ceph_fs_dump_says(record: Recorded) -> None:
    message = record.decoded()
    assert dumped_mdsmap(message.mdsmap) == normal_mdsmap(record.dump)
    assert (message.epoch, message.mdsmap.cas_pool) == (message.mdsmap.epoch, -1)
    assert message.map_fs_name == (message.mdsmap.fs_name if record.release.startswith("16.") else "")


@pytest.mark.parametrize("release", ["16.", "20."])
def test_the_states_of_mds_daemons_are_read(release: str) -> None:
    def mdsmap(what: str) -> MdsMap:
        found: MdsMap = only(release, what).decoded().mdsmap
        return found

    replaying, following = sorted(mdsmap("mds_map standby-replay").mds_info.values(), key=lambda info: info.state)[::-1]
    assert (replaying.state, following.state) == (MdsState.ACTIVE, MdsState.STANDBY_REPLAY)
    assert following.gid not in mdsmap("mds_map standby-replay").up.values()
    (laggy,) = mdsmap("mds_map laggy").mds_info.values()
    assert laggy.laggy_since > 0
    assert MdsInfoFlag.FROZEN in [info.flags for info in mdsmap("mds_map frozen").mds_info.values()]
    assert mdsmap("mds_map damaged").damaged == (0,)
    assert (mdsmap("mds_map failed").failed, mdsmap("mds_map failed").stopped) == ((0, 1), (2,))


@pytest.mark.parametrize("release", ["16.", "20."])
def test_an_mdsmap_for_peers_without_server_nautilus_has_one_legacy_address_a_daemon(release: str) -> None:
    (info,) = only(release, "mds_map old addresses").decoded().mdsmap.mds_info.values()
    (same,) = only(release, "mds_map laggy").decoded().mdsmap.mds_info.values()
    assert addresses(info.addrs) == addresses(same.addrs)[1:]
    assert (info.compat.incompat.names, info.mds_features) == ({}, same.mds_features)


# FSMapUser


@pytest.mark.parametrize("record", params(FS_MAP_USER))
def test_file_systems_have_the_numbers_ceph_fs_dump_gives_them(record: Recorded) -> None:
    fsmap = record.decoded().fsmap
    assert {fs.name: fs.fscid for fs in fsmap.filesystems} == record.dump["filesystems"]
    assert (fsmap.epoch, fsmap.legacy_client_fscid) == (record.dump["epoch"], record.dump["default_fscid"])


# OSDMap


def blocklist(entries: dict[AnyAddr, int]) -> dict[str, int]:
    return {endpoint(addr): cut(until) for addr, until in entries.items()}


def normal_blocklist(dump: Any) -> dict[str, int]:
    return {addr: nanoseconds(until) for addr, until in dump["blocklist"].items()}


def check_full(full: OsdMap, dump: Any) -> None:
    assert (full.client.epoch, str(UUID(bytes=full.client.fsid))) == (dump["epoch"], dump["fsid"])
    assert cut(full.client.created) == nanoseconds(dump["created"])
    assert cut(full.client.modified) == nanoseconds(dump["modified"])
    assert blocklist(full.osd.blocklist) == normal_blocklist(dump)


def check_change(change: OsdMapIncremental, before: Any, dump: Any) -> None:
    assert (change.client.epoch, str(UUID(bytes=change.client.fsid))) == (dump["epoch"], dump["fsid"])
    if change.client.fullmap:
        check_full(change.client.fullmap, dump)
        return
    assert cut(change.client.modified) == nanoseconds(dump["modified"])
    after = normal_blocklist(before) | blocklist(change.osd.new_blocklist)
    for addr in change.osd.old_blocklist:
        del after[endpoint(addr)]
    assert after == normal_blocklist(dump)


def check_osdmaps(message: Any, dumps: dict[str, Any]) -> None:
    for epoch, full in message.maps.items():
        assert epoch == full.client.epoch
        check_full(full, dumps[str(epoch)])
    for epoch, change in message.incremental_maps.items():
        assert epoch == change.client.epoch
        check_change(change, dumps.get(str(epoch - 1)), dumps[str(epoch)])


@pytest.mark.parametrize("record", params(OSD_MAP))
def test_osdmaps_blocklist_whom_ceph_osd_dump_lists(record: Recorded) -> None:
    check_osdmaps(record.decoded(), record.dump)


# All of them


@pytest.mark.parametrize("record", params())
def test_a_real_message_decodes_to_its_last_byte(record: Recorded) -> None:
    leftover: list[Leftover] = []
    message = record.decoded(leftover)
    assert leftover == []
    assert message == record.interpreted()


def as_we_write(record: Recorded) -> bool:
    """Whether its structures have the versions we write.

    Ceph 16.2 has older ones, old peers are sent older ones, and an OSDMap's second part is newer while it has ranges.
    """
    older = {"16.2.15": {MON_MAP.number, OSD_MAP.number}}
    return record.type not in older.get(record.release, ()) and "range" not in record.what and "old" not in record.what


@pytest.mark.parametrize("record", params())
def test_a_real_message_is_built_as_it_was(record: Recorded) -> None:
    message = record.decoded()
    if not as_we_write(record):
        assert record.message.decode(*record.message.encode(message), version=record.version) == message
        return
    assert record.message.encode(message, record.version) == (record.front, b"", record.data)
    assert record.message.schema.build(message, struct_v=record.version) == record.front


@pytest.mark.parametrize("release", ["16.", "20."])
def test_what_stock_clients_ask_monitors_is_read(release: str) -> None:
    subscribe = only(release, "mon_subscribe fsmap.user").decoded()
    assert subscribe.what["fsmap.user"].flags == 1
    assert subscribe.hostname == "vm"
    assert only(release, "mon_subscribe mdsmap").decoded().what == {"mdsmap.2": Subscription(0, 0)}
    pool, cluster = only(release, "statfs pool").decoded(), only(release, "statfs").decoded()
    assert (pool.has_data_pool, pool.data_pool) == (1, 4)
    assert (cluster.has_data_pool, cluster.data_pool) == (0, None)


def test_the_sizes_of_fixed_layouts() -> None:
    assert STATFS_REPLY.schema.sizeof() == 56
    assert mon_messages.MON_SUBSCRIBE_ACK.schema.sizeof() == 20
    assert mon_messages.MON_GET_MAP.schema.sizeof() == 0
    assert mon_messages._SUBSCRIPTION.sizeof() == 9
    assert mon_messages._PAXOS_HEADER.sizeof() == 18


@pytest.mark.parametrize("release", ["16.", "20."])
def test_a_command_is_answered_in_the_data_segment(release: str) -> None:
    done, unknown = only(release, "mon_command_ack").decoded(), only(release, "mon_command_ack unknown").decoded()
    assert (done.r, [fs["name"] for fs in json.loads(done.outbl)]) == (0, ["cephfs", "other"])
    assert (unknown.r, unknown.rs, unknown.outbl) == (-22, "command not known", b"")


@pytest.mark.parametrize("release", ["16.", "20."])
def test_every_type_of_message_is_recorded(release: str) -> None:
    assert {record.type for record in RECORDED if record.release.startswith(release)} == set(BY_NUMBER)
