"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
SAYS = {
    "watch_a_cap.py": "the other sees mode 600",
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
    assert SAYS[path.name] in done.stdout
    assert len(path.read_text().splitlines()) < 60
