"""The same seed, the same bytes, whatever goes wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from cephcaps import Client, connect
from cephcaps.testing import TestCluster, simulate
from cephwire.caps import ClientCaps
from cephwire.reply import ClientReply

STEPS = 60


async def work(client: Client, rng: Random, name: str) -> None:
    """Some of everything, in one directory that others work in too."""
    for number in range(STEPS):
        match rng.randrange(6):
            case 0:
                await client.makedirs(f"/d{rng.randrange(4)}/{name}", exist_ok=True)
            case 1:
                async with client.open(f"/f{rng.randrange(3)}", "a") as file:
                    await file.setattr(mode=0o600 + number % 8)
            case 2:
                await client.listdir("/")
            case 3:
                if await client.exists(f"/f{rng.randrange(3)}"):
                    await client.sync()
            case 4:
                await asyncio.sleep(rng.random() * 10)
            case 5:
                client.drop_caches()


async def break_things(cluster: TestCluster, clients: tuple[Client, ...], rng: Random) -> None:
    while True:
        await asyncio.sleep(rng.random() * 5)
        match rng.randrange(6):
            case 0:
                cluster.faults.cut()
            case 1:
                cluster.faults.delay(rng.choice((ClientReply, ClientCaps)), rng.random())
            case 2:
                cluster.faults.recall(rng.choice(clients).global_id, 2)
            case 3:
                cluster.faults.freeze()
                try:
                    await asyncio.sleep(rng.random())
                finally:  # or the story ends with nobody to answer
                    cluster.faults.thaw()
            case 4:
                cluster.faults.expire_tickets()
                cluster.faults.cut(mon=True)
            case 5:
                await cluster.faults.fail_mds(after=rng.random())


async def story(folder: Path, seed: int) -> list[str]:
    """Three clients on a cluster where things go wrong; gives what is there in the end."""
    async with TestCluster() as cluster:
        paths = [folder / f"{number}.pcapng" for number in range(3)]
        async with (
            connect(cluster.conf, record=paths[0]) as one,
            connect(cluster.conf, record=paths[1]) as two,
            connect(cluster.conf, record=paths[2], ms_mode="legacy") as three,
        ):
            clients = one, two, three
            breaking = asyncio.create_task(break_things(cluster, clients, Random(seed)))
            await asyncio.gather(*(work(client, Random(seed + n), f"c{n}") for n, client in enumerate(clients)))
            breaking.cancel()
            return sorted(await one.listdir("/"))


def told(folder: Path, seed: int) -> tuple[list[str], list[bytes]]:
    folder.mkdir()
    names = simulate(lambda: story(folder, seed), seed=seed)
    return names, [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("seed", [0, 1, 36])
def test_the_same_seed_gives_the_same_recordings_byte_for_byte(tmp_path: Path, seed: int) -> None:
    first, second = told(tmp_path / "a", seed), told(tmp_path / "b", seed)
    assert first == second
    assert min(map(len, first[1])) > 10_000
    assert told(tmp_path / "c", seed + 100)[1] != first[1]


def test_another_process_tells_the_same(tmp_path: Path) -> None:
    script = (
        "import hashlib, sys\nfrom pathlib import Path\nfrom tests.testing.test_simulation import told\n"
        "print(hashlib.sha256(b''.join(told(Path(sys.argv[1]), 7)[1])).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script, tmp_path / seed],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_hours_pass_at_once() -> None:
    async def wait() -> str:
        async with TestCluster(session_timeout=60, session_autoclose=300) as cluster, connect(cluster.conf) as client:
            await asyncio.sleep(6 * 3600)
            (session,) = cluster.mds[0].sessions
            await client.mkdir("/d")
            return session.state

    began = time.monotonic()
    assert simulate(wait) == "open"
    assert time.monotonic() - began < 30


def test_a_simulation_in_which_nothing_will_come_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cephcaps.testing.simulation.STUCK", 0.1)

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match="nobody has anything to do"):
        simulate(wait)


def test_a_daemon_that_died_while_it_waited_for_a_cap_evicts_nobody() -> None:
    async def wait() -> str:
        async with (
            TestCluster(session_timeout=60) as cluster,
            connect(cluster.conf) as one,
            connect(cluster.conf) as two,
            one.open("/f", "x") as file,
        ):
            async with file.cap_refs("Fw"):
                looking = asyncio.create_task(two.stat("/f"))
                await asyncio.sleep(1)
                assert cluster.mds[0].caps.revoking
                await cluster.faults.fail_mds()
            await looking
            await asyncio.sleep(120)
            return one.sessions[0].state

    assert simulate(wait) == "open"
