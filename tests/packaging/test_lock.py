"""requirements.lock has everything that pyproject.toml asks for, in versions that it allows, with hashes."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parents[2]


def test_the_lock_fits_what_the_project_asks_for() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    locked = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", (TOP / "requirements.lock").read_text()))
    extras = project["project"]["optional-dependencies"].values()
    for line in (*project["project"]["dependencies"], *chain(*extras), *project["dependency-groups"]["dev"]):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), (
            f"{line}: {locked[canonicalize_name(wanted.name)]} is locked; make it anew"
        )


def test_every_locked_package_has_hashes_and_no_address() -> None:
    text = (TOP / "requirements.lock").read_text()
    entries = re.split(r"(?m)^(?=[\w.-]+==)", text)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
