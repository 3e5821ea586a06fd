"""Entering a client, without a network: cut short at any moment, nothing runs on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cephcaps import client as faces
from cephcaps import connect
from cephcaps.shell.supervisor import Supervisor
from tests.session.world import World

KEY = "AQBSdWxljQAAABAAMDEyMzQ1Njc4OWFiY2RlZg=="


async def test_a_client_cancelled_while_it_is_entered_leaves_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(*what: Any) -> tuple[()]:
        return ()

    async def dial(self: Supervisor, connection: Any) -> None:
        await asyncio.sleep(60.0)

    monkeypatch.setattr(faces, "resolve", resolve)
    monkeypatch.setattr(faces, "make_core", lambda *what: World().core)
    monkeypatch.setattr(Supervisor, "_dial", dial)
    (tmp_path / "keyring").write_text(f"[client.admin]\nkey = {KEY}\n")
    (tmp_path / "ceph.conf").write_text(f"[global]\nmon host = 192.0.2.1\nkeyring = {tmp_path}/keyring\n")
    tasks = asyncio.all_tasks()

    for turns in range(8):
        entering = asyncio.create_task(connect(tmp_path / "ceph.conf").__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait([entering])

        assert entering.cancelled()
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
