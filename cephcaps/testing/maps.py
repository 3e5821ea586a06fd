"""The maps of a test cluster: one monitor, one file system, two pools and no OSD.

The OSDMap and its data pool carry the flag FULL, so that a client that wants to write data is told
ENOSPC at once instead of waiting for an OSD (ceph: src/client/Client.cc, ``Client::_write``).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from cephcaps.messenger.crc import MASK, standard_crc32c
from cephwire.codec import Codec
from cephwire.entity import AddrType, AddrVec, AnyAddr, EntityAddr
from cephwire.features import CLIENT_FEATURES
from cephwire.fsmap import FsInfo, FsMapUser
from cephwire.keys import CryptoType
from cephwire.map_messages import MFsMapUser, MMdsMap, MMonMap, MOsdMap
from cephwire.mdsmap import CompatSet, FeatureSet, MdsInfo, MdsMap, MdsMapFlag, MdsState
from cephwire.monmap import MonInfo, MonMap
from cephwire.osdmap import OSDMAP, OsdMap, OsdMapClientPart, OsdMapOsdPart
from cephwire.osdmap_parts import DETAILS, PLACEMENT, Details, OsdMapFlag, Placement, Pool, PoolFlag

__all__ = ["DATA_POOL", "FSCID", "METADATA_POOL", "Maps"]

FSCID = 1
METADATA_POOL = 1
DATA_POOL = 2
FIRST_MDS_GID = 4000
MDSMAP_EV = 19
MAX_FILE_SIZE = 1 << 40
PACIFIC, TENTACLE = 16, 20
OSDMAP_FLAGS = (
    OsdMapFlag.FULL
    | OsdMapFlag.SORTBITWISE
    | OsdMapFlag.RECOVERY_DELETES
    | OsdMapFlag.PURGED_SNAPDIRS
    | OsdMapFlag.PGLOG_HARDLIMIT
)
POOL_FLAGS = PoolFlag.HASHPSPOOL | PoolFlag.FULL
NOTHING = FeatureSet(0, {})
MDS_COMPAT = CompatSet(NOTHING, NOTHING, FeatureSet(2, {1: "base v0.20"}))

placements: Codec[Placement] = Codec(PLACEMENT)
details: Codec[Details] = Codec(DETAILS)
osdmaps: Codec[OsdMap] = Codec(OSDMAP)


@dataclass
class Maps:
    """What the monitor knows. Who changes something here calls `MdsMap`'s or the OSDMap's ``epoch`` up, and publishes.

    Attributes:
        created: nanoseconds since 1970.
        mon: the monitor's addresses, one for each messenger.
        mds: addresses of the daemons that hold the ranks.
        states: of the ranks, where not active.
        gids: of the daemons that hold the ranks.
        lives: how many daemons each rank has had.
        last_failure: epoch of the MDSMap in which a rank last lost its daemon.
        blocklist: address to when it expires, nanoseconds since 1970.
        session_timeout, session_autoclose: seconds.
    """

    fsid: uuid.UUID
    created: int
    mon: tuple[EntityAddr, ...]
    fs_name: str = "cephfs"
    mds: dict[int, tuple[EntityAddr, ...]] = field(default_factory=dict)
    states: dict[int, MdsState] = field(default_factory=dict)
    gids: dict[int, int] = field(default_factory=dict)
    lives: dict[int, int] = field(default_factory=dict)
    last_failure: int = 0
    blocklist: dict[AnyAddr, int] = field(default_factory=dict)
    session_timeout: int = 60
    session_autoclose: int = 300
    required_client_features: int = 0
    mds_epoch: int = 2
    osd_epoch: int = 2
    key_type: CryptoType = CryptoType.AES

    def add_mds(self, rank: int, addrs: tuple[EntityAddr, ...]) -> None:
        """A daemon, new to the cluster, holds ``rank``."""
        self.mds[rank] = addrs
        self.lives[rank] = self.lives.get(rank, 0) + 1
        self.gids[rank] = FIRST_MDS_GID + sum(self.lives.values()) - 1

    def fail_mds(self, rank: int) -> None:
        """The daemon that holds ``rank`` is gone, and nobody has taken its place."""
        del self.mds[rank], self.gids[rank]
        self.mds_epoch += 1
        self.last_failure = self.mds_epoch

    def move_mds(self, rank: int, state: MdsState) -> None:
        """A rank's daemon has come to another state."""
        self.states[rank] = state
        self.mds_epoch += 1

    def block(self, addr: EntityAddr, until: int) -> None:
        """Let nobody believe that client any more."""
        self.blocklist[EntityAddr(AddrType.ANY, addr.nonce, addr.sockaddr)] = until
        self.osd_epoch += 1

    @property
    def monmap(self) -> MMonMap:
        info = MonInfo("a", AddrVec(self.mon))
        ciphers = (CryptoType.AES, CryptoType.AES256K)
        return MMonMap(
            MonMap(
                self.fsid.bytes,
                1,
                self.created,
                self.created,
                0,
                0,
                {"a": info},
                ("a",),
                min_mon_release=PACIFIC,
                auth_service_cipher=self.key_type,
                auth_allowed_ciphers=ciphers,
                auth_preferred_cipher=self.key_type,
            )
        )

    @property
    def fsmap_user(self) -> MFsMapUser:
        return MFsMapUser(self.mds_epoch, FsMapUser(self.mds_epoch, FSCID, (FsInfo(FSCID, self.fs_name),)))

    @property
    def mdsmap(self) -> MMdsMap:
        infos = {
            self.gids[rank]: MdsInfo(
                self.gids[rank],
                chr(ord("a") + (self.gids[rank] - FIRST_MDS_GID) % 26),
                rank,
                1 + self.lives[rank],
                self.states.get(rank, MdsState.ACTIVE),
                1,
                AddrVec(addrs),
                0,
                -1,
                "",
                (),
                mds_features=CLIENT_FEATURES,
                compat=MDS_COMPAT,
            )
            for rank, addrs in self.mds.items()
        }
        ranks = tuple(sorted(self.lives))
        up = tuple(sorted(self.mds))
        found = MdsMap(
            epoch=self.mds_epoch,
            flags=MdsMapFlag.ALLOW_SNAPS | MdsMapFlag.ALLOW_MULTIMDS_SNAPS,
            last_failure=self.last_failure,
            root=0,
            session_timeout=self.session_timeout,
            session_autoclose=self.session_autoclose,
            max_file_size=MAX_FILE_SIZE,
            max_mds=len(ranks),
            mds_info=infos,
            data_pools=(DATA_POOL,),
            cas_pool=-1,
            ev=MDSMAP_EV,
            compat=MDS_COMPAT,
            metadata_pool=METADATA_POOL,
            created=self.created,
            modified=self.created,
            tableserver=0,
            in_=ranks,
            inc={rank: 1 + self.lives[rank] for rank in ranks},
            up={rank: self.gids[rank] for rank in up},
            failed=tuple(rank for rank in ranks if rank not in self.mds),
            stopped=(),
            fs_name=self.fs_name,
            max_xattr_size=65536,
            required_client_features=self.required_client_features,
        )
        return MMdsMap(self.fsid.bytes, self.mds_epoch, found, self.fs_name)

    @property
    def osdmap(self) -> MOsdMap:
        placement = Placement(
            pools={
                METADATA_POOL: Pool(application_metadata={"cephfs": {"metadata": self.fs_name}}),
                DATA_POOL: Pool(flags=POOL_FLAGS, application_metadata={"cephfs": {"data": self.fs_name}}),
            },
            pool_name={METADATA_POOL: f"{self.fs_name}.meta", DATA_POOL: f"{self.fs_name}.data"},
            pool_max=DATA_POOL,
            flags=OSDMAP_FLAGS,
        )
        client = OsdMapClientPart(
            self.fsid.bytes, self.osd_epoch, self.created, self.created, placements.encode(placement)
        )
        osd = OsdMapOsdPart((), (), dict(self.blocklist), details.encode(Details(PACIFIC - 4, PACIFIC)))
        unsigned = osdmaps.encode(OsdMap(client, osd, 0))
        # C++ clients check it: over all bytes before it, which here are all but its own four.
        crc = standard_crc32c(unsigned[:-4]) ^ MASK
        epoch = self.osd_epoch
        return MOsdMap(
            self.fsid.bytes,
            {},
            {epoch: OsdMap(client, osd, crc)},
            cluster_osdmap_trim_lower_bound=epoch,
            newest_map=epoch,
        )
