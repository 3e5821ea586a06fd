"""A capture whose messages another process finds: the same items, whatever becomes of either process."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from cephcaps.cli import captures
from cephcaps.cli.beside import read_beside
from cephcaps.trace import Item, Traced, read_trace
from cephcaps.trace.capture import NotACapture
from cephwire.control import ConMode
from cephwire.keys import CryptoType
from tests.session.handshakes import ADMIN
from tests.trace.overheard import Tapped
from tests.trace.packet_maker import pcapng
from tests.trace.test_read import captured

# Tests run in a process with threads, whose fork Python 3.12 warns of; the command forks in one that has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

LIBCEPHFS = Path(__file__).parent / "data" / "libcephfs-pacific.pcapng.gz"


@pytest.fixture
def large(tmp_path: Path) -> Iterator[BinaryIO]:
    """Over several batches and a pipe's buffer."""
    path = tmp_path / "large.pcapng"
    path.write_bytes(pcapng(captured(mounted(ConMode.CRC, getattrs=600))))
    with path.open("rb") as file:
        yield file


def mounted(mode: ConMode, *, getattrs: int) -> Tapped:
    world = Tapped(type=CryptoType.AES256K, mode=mode)
    world.mount()
    for _ in range(getattrs):
        world.getattr(1)
    return world


def known(items: list[Item]) -> list[Any]:
    """All of the items, and all of their flows, which are objects of each reader's own."""
    told = []
    for item in items:
        flow = item.flow
        ends = flow and (flow.number, flow.client, flow.daemon, flow.client_id, flow.daemon_type, flow.daemon_num)
        told.append((*item[:1], ends, flow and (flow.messenger, flow.secure), *item[2:7], str(item[7:])))
    return told


def gone() -> bool:
    """Whether no child of this process is left."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.mark.parametrize("mode", [ConMode.CRC, ConMode.SECURE])
@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
def test_it_yields_what_one_process_does(mode: ConMode, with_key: bool, tmp_path: Path) -> None:
    world = mounted(mode, getattrs=30)
    keys = {str(ADMIN): world.keys.principals[str(ADMIN)]} if with_key else None
    raw = pcapng(captured(world))[:-100]
    path = tmp_path / "cut.pcapng"
    path.write_bytes(raw)
    with path.open("rb") as file:
        assert known(list(read_beside(file, keys))) == known(list(read_trace(io.BytesIO(raw), keys)))
    assert gone()


def test_messages_of_one_connection_have_the_same_flow() -> None:
    with LIBCEPHFS.open("rb") as file:
        items = list(read_beside(file))
    with LIBCEPHFS.open("rb") as file:
        assert known(items) == known(list(read_trace(file)))
    flows = {id(item.flow): item.flow for item in items if item.flow is not None}
    assert len(flows) == len({flow.number for flow in flows.values()}) > 2


def test_no_capture_is_no_capture(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"nothing of the kind")
    with path.open("rb") as file, pytest.raises(NotACapture, match="neither pcap nor pcapng: it begins with 6e6f7468"):
        list(read_beside(file))
    assert gone()


def test_a_file_that_fails_says_why(large: BinaryIO) -> None:
    class Failing:
        def read(self, size: int = -1) -> bytes:
            if large.tell() > 100_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return large.read(size)

    items = read_beside(cast(BinaryIO, Failing()))
    with pytest.raises(OSError, match="Input/output error") as caught:
        list(items)
    assert caught.value.errno == errno.EIO
    assert gone()


def test_who_stops_halfway_leaves_no_process(large: BinaryIO) -> None:
    items = read_beside(large)
    assert isinstance(next(items), Traced)
    items.close()  # type: ignore[attr-defined]
    assert gone()


def test_a_killed_process_is_no_end(large: BinaryIO) -> None:
    items = read_beside(large)
    next(items)
    (finder,) = map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    os.kill(finder, signal.SIGKILL)
    with pytest.raises(OSError, match="was killed"):
        list(items)
    assert gone()


def test_the_command_says_the_same_of_a_file_large_enough_for_two(large: BinaryIO) -> None:
    words = ["decode", "-f", "json", large.name]
    one = subprocess.run([sys.executable, "-m", "cephcaps.cli", *words], capture_output=True, timeout=60)
    assert Path(large.name).stat().st_size < captures.LARGE
    program = f"from cephcaps.cli import captures, main; captures.LARGE = 0; import sys; sys.argv[1:] = {words}; main()"
    two = subprocess.run([sys.executable, "-X", "importtime", "-c", program], capture_output=True, timeout=60)
    assert b"cephcaps.cli.beside" in two.stderr
    assert (two.stdout, two.returncode) == (one.stdout, one.returncode)
    assert one.stdout.count(b"\n") > 1000
