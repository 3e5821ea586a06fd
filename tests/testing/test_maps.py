"""The maps of a test cluster, and what a real cluster without OSDs writes in the same places."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from cephcaps.messenger.crc import MASK, standard_crc32c
from cephcaps.testing.maps import DATA_POOL, Maps
from cephwire.codec import Codec
from cephwire.entity import AddrType, EntityAddr
from cephwire.map_messages import OSD_MAP
from cephwire.messages import BY_CLASS
from cephwire.osdmap import OSDMAP
from cephwire.osdmap_parts import CRUSH, DETAILS, PLACEMENT, Crush, Details, OsdMapFlag

DATA = Path(__file__).parents[1] / "wire" / "data" / "maps"
ADDR = EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 3300)


@pytest.fixture
def maps() -> Maps:
    made = Maps(uuid.UUID(int=7), 10**18, (ADDR,))
    made.add_mds(0, (EntityAddr.make(AddrType.MSGR2, "127.0.0.1", 6800, 9),))
    return made


def test_every_map_reads_back(maps: Maps) -> None:
    for message in (maps.monmap, maps.fsmap_user, maps.mdsmap, maps.osdmap):
        kind = BY_CLASS[type(message)]
        front, middle, data = kind.encode(message)
        assert kind.decode(front, middle, data, version=kind.newest) == message


def test_the_osdmap_has_a_right_checksum_two_pools_and_is_full(maps: Maps) -> None:
    maps.block(ADDR, 2 * 10**18)
    (osdmap,) = maps.osdmap.maps.values()
    encoded: bytes = Codec(OSDMAP).encode(osdmap)  # type: ignore[arg-type]
    assert osdmap.crc == standard_crc32c(encoded[:-4]) ^ MASK
    placement = Codec(PLACEMENT).decode(osdmap.client.placement)
    assert placement.flags & OsdMapFlag.FULL
    assert set(placement.pools) == set(placement.pool_name) == {1, DATA_POOL}
    assert [addr.nonce for addr in osdmap.osd.blocklist] == [0]


@pytest.mark.parametrize(("release", "number"), [("16.2.15", 16), ("20.2.4", 20)])
def test_the_parts_are_laid_out_as_in_a_real_clusters_first_map(release: str, number: int) -> None:
    lines = [json.loads(line) for line in (DATA / f"{release}.jsonl").read_text().splitlines()]
    found = next(line for line in lines if line.get("what") == "osd_map from the first epoch on")
    message = OSD_MAP.decode(bytes.fromhex(found["front"]), version=found["version"], compat=found["compat"])
    first = message.incremental_maps[1].client.fullmap
    assert first is not None
    assert Codec(DETAILS).decode(first.osd.details) == Details(12, number)
    # Behind one bucket and one rule, which ours has not: the same names and tunables.
    ours: bytes = Codec(CRUSH).encode(Crush())  # type: ignore[arg-type]
    tunables = ours[4 * 4 + 3 * 4 :]
    assert tunables in first.client.placement
