"""A cluster that compresses whatever it may on the wire: a client that does not offer it gets everything plain."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from cephcaps import connect
from cephwire.codec import Codec
from cephwire.frames import BANNER, BANNER_HEADER, Banner, BannerFeature, BannerHeader

from .agreement import agrees_at_rest
from .cluster import LiveCluster
from .release import Release

COMPRESSING = """\
[global]
ms osd compress mode = force
ms osd compress min size = 1
ms osd compression algorithm = snappy
ms compress secure = true
"""
FIRST_WITH_COMPRESSION = 18
"""Ceph's major version."""


def banner(host: str, port: int) -> Banner:
    """What a daemon says first over messenger v2."""
    with socket.create_connection((host, port), timeout=10) as stream:
        said = stream.makefile("rb")
        header: BannerHeader = Codec(BANNER_HEADER).decode(said.read(10))
        found: Banner = Codec(BANNER).decode(said.read(header.payload_len))
        return found


@pytest.mark.parametrize("ms_mode", ["crc", "secure"])
async def test_nothing_is_compressed_for_a_client_that_does_not_offer_it(
    new_cluster: Callable[..., LiveCluster], release: Release, ms_mode: str
) -> None:
    cluster = new_cluster(mds=1, extra=COMPRESSING)
    async with connect(cluster.conf, ms_mode=ms_mode) as client:
        await client.mkdir("/plain")
        for number in range(200):
            async with client.open(f"/plain/{'long name ' * 20}{number}", "x"):
                pass
        await client.sync()
        client.drop_caches()
        assert len(await client.listdir("/plain")) == 200
        await agrees_at_rest(cluster, client)
        addrs = [client.sessions[0].addr, client._running.core.monitors.connection.target]  # type: ignore[union-attr]
    major = int(release.version.split()[2].split(".")[0])
    for addr in addrs:
        said = banner(addr.host, addr.port)
        assert bool(said.supported & BannerFeature.COMPRESSION) is (major >= FIRST_WITH_COMPRESSION)
        assert not said.required & BannerFeature.COMPRESSION
