"""``cephcaps serve``: a test cluster for any Ceph client, until interrupted."""

from __future__ import annotations

import click

from cephcaps.cli.options import CephCommand, Settings, global_options
from cephcaps.cli.output import emit
from cephcaps.cli.running import run

__all__ = ["serve"]


@click.command(cls=CephCommand)
@click.option("--auth", type=click.Choice(["cephx", "none"]), default="cephx", help="Whether clients need the key.")
@click.option("--key-type", type=click.Choice(["aes", "aes256k"]), default="aes", help="Of the keys made.")
@global_options()
@click.pass_obj
def serve(settings: Settings, auth: str, key_type: str) -> int:
    """Run a file system of this process's own on loopback, and print the ceph.conf that any Ceph client can use.

    It serves metadata and no file data; writing gives ENOSPC. Everything is gone when it ends.

    \b
      cephcaps serve --auth none
    """
    run(_serve, settings, auth, key_type)
    return 0


async def _serve(settings: Settings, auth: str, key_type: str) -> None:
    import asyncio
    from typing import Literal, cast

    from cephcaps.testing import TestCluster
    from cephwire.keys import CryptoType

    type_ = {"aes": CryptoType.AES, "aes256k": CryptoType.AES256K}[key_type]
    async with TestCluster(auth=cast(Literal["cephx", "none"], auth), key_type=type_) as cluster:
        if settings.format == "plain":
            emit(f"{cluster.conf}\n")
        else:
            import json

            emit(json.dumps({"conf": str(cluster.conf), "fsid": str(cluster.fsid)}) + "\n")
        await asyncio.Event().wait()
