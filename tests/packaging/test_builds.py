"""What is built: one pure wheel, the same from the tree and from the sdist, byte for byte, every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
BUILD = "import sys, hatchling.build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def build(what: str, source: Path, folder: Path) -> Path:
    """The sdist or wheel of ``source``, made by the build backend alone."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{what}", str(folder)], cwd=source, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return folder / made.stdout.splitlines()[-1]


def members(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", TOP, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_pure_and_typed(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = members(wheel)
    assert {"cephcaps/py.typed", "cephwire/py.typed"} <= names.keys()
    assert {Path(name).suffix for name in names} <= {".py", ".typed", ".html", ".css", ".js", ".txt", ""}
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"cephcaps", "cephwire"}
    sources = {str(path.relative_to(TOP)) for path in (TOP / "cephcaps").rglob("*.py")}
    assert sources <= names.keys()


def test_a_second_build_gives_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    assert build("wheel", TOP, tmp_path).read_bytes() == wheel.read_bytes()
    first, second = build("sdist", TOP, tmp_path / "1"), build("sdist", TOP, tmp_path / "2")
    assert first.read_bytes() == second.read_bytes()


def test_the_sdist_builds_the_same_wheel_and_brings_its_tests(wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", TOP, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("tests/conftest.py", "examples/two_clients.pcapng", "docs/tutorial.md", "Makefile", "LICENSE"):
        assert (source / name).exists(), name
    built = build("wheel", source, tmp_path / "again")
    assert members(built) == members(wheel)
    assert built.read_bytes() == wheel.read_bytes()


@pytest.mark.soak
def test_it_installs_in_a_bare_venv_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    nothing = {"PATH": str(venv / "bin"), "CC": "/bin/false", "HOME": str(tmp_path)}
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel]
    subprocess.run(pip, env=nothing, check=True, timeout=600)
    demo = subprocess.run([venv / "bin" / "cephcaps", "demo"], env=nothing, capture_output=True, text=True, timeout=60)
    assert demo.stdout.endswith("nothing is left.\n"), demo.stderr
