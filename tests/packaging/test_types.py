"""Every name that the packages export has a type that a checker knows without guessing, also where mypy infers one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BESIDE_PYTHON = str(Path(sys.executable).parent)


@pytest.mark.parametrize("package", ["cephcaps", "cephwire"])
def test_every_exported_name_has_a_known_type(package: str) -> None:
    """As pyright counts for py.typed packages. basedpyright is pyright with its own node: nothing is fetched."""
    found = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--ignoreexternal", "--verifytypes", package],
        # It looks for packages where the first Python of PATH does, whoever calls it.
        env={**os.environ, "PATH": os.pathsep.join([BESIDE_PYTHON, os.environ.get("PATH", "")])},
        capture_output=True,
        text=True,
    )
    assert found.stdout, found.stderr
    report = json.loads(found.stdout)["typeCompleteness"]
    unknown = [
        f"{symbol['name']}: {said['message']}"
        for symbol in report["symbols"]
        if symbol["isExported"]
        for said in symbol["diagnostics"]
        if said["severity"] == "error"
    ]

    assert unknown == []
    assert report["completenessScore"] == 1
    assert report["exportedSymbolCounts"]["withKnownType"] > 1000
