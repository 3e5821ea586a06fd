"""The examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from cephcaps.trace import Traced, read_trace
from cephwire.session import ClientSession

TOP = Path(__file__).parents[2]
EXAMPLES = sorted((TOP / "examples").glob("*.py"))
MOST_LINES = 100
SAYS = {
    "a_lock.py": "counted 30 of 30",
    "index_a_tree.py": r"listed 21 directories\n\(700, ./tree/7/file.\)\n\(19, .*\n\(18, .*\nlisted [1-3] directories",
    "load.py": "given back",
    "replay_a_capture.py": "spoke of caps: 35 times, 35 as our engine would have",
    "watch_a_cap.py": "the other sees mode 600",
    "watch_a_tree.py": "- /tree/gone\\n~ /tree/old\\n\\+ /tree/then",
    "repeat_a_failure.py": "and when repeated",
    "test_with_a_cluster.py": "2 passed",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_is_short(path: Path) -> None:
    installed = bool(entry_points(group="pytest11", name="cephcaps"))
    plugin = [] if installed else ["-p", "cephcaps.testing.plugin"]
    plugin += ["-p", "no:cacheprovider", "--override-ini=addopts="]
    how = ["-m", "pytest", *plugin, str(path)] if path.name.startswith("test_") else [str(path)]
    done = subprocess.run([sys.executable, *how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(SAYS[path.name], done.stdout), done.stdout
    assert len(path.read_text().splitlines()) < MOST_LINES


def test_the_examples_types_are_right() -> None:
    checked = [str(path) for path in EXAMPLES]
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", *checked], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shipped_capture_is_small_and_names_nobody_s_machine() -> None:
    capture = TOP / "examples" / "two_clients.pcapng"
    assert capture.stat().st_size < 100_000
    with capture.open("rb") as file:
        opened = [item.message for item in read_trace(file) if isinstance(item, Traced)]
    metadata = [one.metadata for one in opened if isinstance(one, ClientSession) and one.metadata]
    assert [one["hostname"] for one in metadata] == ["ada"]
