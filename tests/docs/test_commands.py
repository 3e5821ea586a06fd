"""Every command that README.md and docs/*.md print is claimed: it is run here, or says which test does so and why."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

import cephcaps
from tests.docs.pages import PAGES, TOP, Command, blocks, commands

LIMIT = 90.0
"""Seconds that a command may take on a busy machine."""


class Runs(NamedTuple):
    """It is run here, as it is printed."""

    says: str
    """Found in what it prints (a regular expression)."""
    exit: int = 0


class Interrupted(NamedTuple):
    """It is run here until it has said something, and then interrupted."""

    says: str


class Target(NamedTuple):
    """It makes a target of the Makefile, which is there and explained. What the target does is run by CI or by hand."""


class Elsewhere(NamedTuple):
    """It cannot be run here."""

    why: str
    test: str
    """File that does what it does."""


CLAIMS: dict[str, Runs | Interrupted | Target | Elsewhere] = {
    r"make [a-z-]+": Target(),
    # The command
    "cephcaps demo": Runs("Bob looks at it. It says: mode 600"),
    "cephcaps serve": Interrupted(r"/ceph.conf$"),
    "cephcaps status": Runs("up:active"),
    "cephcaps stat /(some/file|letter)": Runs("Size: 0 "),
    "cephcaps ls -l /some/directory": Runs("inside"),
    "cephcaps explain [A-Za-z]+": Runs("rely on"),
    "cephcaps hold /some/file --mode w --for 10s": Runs("granted pA"),
    "cephcaps hold /letter --mode w": Interrupted("granted pA"),
    "cephcaps hold /letter --for 2s": Runs("released"),
    "cephcaps hold /letter --mode w --for 1s --record held.pcapng": Runs("released"),
    "cephcaps ping /some/file": Runs("100 revokes"),
    "cephcaps ping /letter --count 20": Runs("20 revokes"),
    "cephcaps (holders .*|doctor|top)": Elsewhere(
        "asks the admin socket of a real MDS", "tests/live/test_doctor_live.py"
    ),
    "ceph health detail": Elsewhere("needs Ceph", "tests/live/test_doctor_live.py"),
    # Captures
    r"cephcaps decode (CAPTURE|held).pcapng": Runs(r"client_session\(request_open\)"),
    r"cephcaps lint (CAPTURE|held|scenario).pcapng( -k keyring)?": Runs("0 findings"),
    r"cephcaps report( --no-lint)? \w+.pcapng -o \w+.html": Runs(""),
    "cephcaps report mds.pcapng --perfetto mds.json": Runs(""),
    r"cephcaps report mds.pcapng -f json \| jq .unanswered": Runs(r"\[\]"),
    r"cephcaps replay (CAPTURE|mds).pcapng": Runs(r"35 +35 +0 +0"),
    r"cephcaps replay examples/two_clients.pcapng": Runs(r"35 +35 +0 +0"),
    r"cephcaps replay --summary mds.pcapng": Runs(r"35 +35 +0 +0"),
    r"cephcaps replay -k keyring --client 4123 secure.pcapng": Runs("compared", exit=61),
    r"cephcaps replay --ino 0x10000000208 -f json mds.pcapng": Runs("clients", exit=61),
    # The other client, which was not recorded, had renamed a file.
    r"cephcaps replay .*--against test.conf.*": Runs(r"15\D+6\D+1\b", exit=1),
    # What the tests themselves are
    r"python -m tests.benchmarks B3 B6": Elsewhere("needs a real cluster and minutes", "tests/benchmarks/__main__.py"),
    r"CEPHCAPS_SCREENSHOTS=docs/images pytest .*": Elsewhere("a soak", "tests/trace/test_report_browser.py"),
    # Packaging
    r"export CEPH_CONF=\S+": Runs(""),
    r"python3 -m venv somewhere && somewhere/bin/pip install \.": Elsewhere("a soak", "tests/packaging/test_builds.py"),
    r"python -m build": Elsewhere("does so with the build backend alone", "tests/packaging/test_builds.py"),
    r"uv pip compile .* -o requirements.lock": Elsewhere(
        "asks the package registry; that it fits pyproject.toml is tested", "tests/packaging/test_lock.py"
    ),
}

ALL = [command for page in PAGES for block in blocks(page) for command in commands(block)]
PRINTED = list({command.text: command for command in ALL}.values())
"""Each once."""


def claim(text: str) -> Runs | Interrupted | Target | Elsewhere | None:
    return next((how for pattern, how in CLAIMS.items() if re.fullmatch(pattern, text)), None)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder and an environment in which the printed commands find what they name."""
    folder, programs = tmp_path_factory.mktemp("reader"), tmp_path_factory.mktemp("bin")
    run_python = f'#!/bin/sh\nexec "{sys.executable}" '
    scripts = {
        "cephcaps": run_python + '-m cephcaps.cli "$@"\n',
        "jq": run_python + "-c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1][1:]])' \"$@\"\n",
    }
    for name, script in scripts.items():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    for name in ("CAPTURE", "mds", "scenario", "secure", "held"):  # which a command before it makes, perhaps elsewhere
        shutil.copy(TOP / "examples" / "two_clients.pcapng", folder / f"{name}.pcapng")
    path = f"{TOP}:{TOP / 'protocol'}"
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    (folder / "examples").mkdir()
    shutil.copy(TOP / "examples" / "two_clients.pcapng", folder / "examples")
    with served(env) as conf:
        asyncio.run(furnish(conf))
        for name in ("keyring", "mds.keyring"):
            shutil.copy(conf.with_name("keyring"), folder / name)
        yield folder, env | {"CEPH_CONF": str(conf)}


@contextmanager
def served(env: dict[str, str]) -> Iterator[Path]:
    """``cephcaps serve``, while it runs; gives its ceph.conf."""
    with until_interrupted(["cephcaps", "serve"], env) as said:
        yield Path(said)


@contextmanager
def until_interrupted(command: list[str], env: dict[str, str], folder: Path = TOP) -> Iterator[str]:
    """A command that runs until Ctrl-C; gives its first line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=folder) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().rstrip()
        finally:
            running.send_signal(signal.SIGINT)
            assert running.wait(LIMIT) == 130


def told(command: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    bash = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(bash, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT)


async def furnish(conf: Path) -> None:
    async with cephcaps.connect(conf) as client:
        await client.makedirs("/some/directory")
        await client.mkdir("/again")
        for path in ("/some/file", "/some/directory/inside", "/letter"):
            async with client.open(path, "x"):
                pass


@pytest.mark.parametrize("command", PRINTED, ids=lambda command: command.text)
def test_a_printed_command_does_what_the_page_says(command: Command, shell: tuple[Path, dict[str, str]]) -> None:
    folder, env = shell
    how = claim(command.text)
    match how:
        case Runs():
            if "--against" in command.text:  # each on a file system where nothing was asked yet
                with served(env) as conf:
                    asyncio.run(furnish(conf))
                    shutil.copy(conf, folder / "test.conf")
                    done = told(command.text, folder, env)
            else:
                done = told(command.text, folder, env)
            assert done.returncode == how.exit, done.stdout + done.stderr
            assert re.search(how.says, done.stdout + done.stderr), done.stdout + done.stderr
        case Interrupted():
            with until_interrupted(command.text.split(), env, folder) as said:
                assert re.search(how.says, said)
        case Target():
            target = command.text.split()[1]
            assert re.search(rf"(?m)^{target}:.*## ", (TOP / "Makefile").read_text())
        case Elsewhere():
            assert (TOP / how.test).exists()
        case None:
            pytest.fail(f"{command.block}: nothing runs {command.text!r}: claim it in {Path(__file__).name}")


def test_every_claim_is_of_something_printed() -> None:
    assert [pattern for pattern in CLAIMS if not any(re.fullmatch(pattern, one.text) for one in ALL)] == []
