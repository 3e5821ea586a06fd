"""The house stands: imports go one way, the pure rooms have no I/O, clock, task or randomness."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
PURE = ("engine", "messenger", "auth", "monitor", "mds")
"""Folders of cephcaps that are state machines."""
PURE_FILES = ("core.py", "actions.py", "commands.py", "errors.py", "caps.py", "events.py")
IMPURE = {"anyio", "asyncio", "logging", "random", "secrets", "select", "socket", "structlog", "threading", "time"}
"""What the two upper floors never import."""
SHELL_NEVER = {"cephcaps.client", "cephcaps.cli", "cephcaps.trace", "cephcaps.testing", "cephcaps"}


def sources(folder: str) -> list[Path]:
    return sorted((TOP / folder).rglob("*.py"))


ROOMS = [path for room in PURE for path in sources(f"cephcaps/{room}")]
PURE_SOURCES = [*ROOMS, *(TOP / "cephcaps" / name for name in PURE_FILES)]
WIRE_SOURCES = sources("protocol/cephwire")
SHELL_SOURCES = sources("cephcaps/shell")


def imports(path: Path) -> Iterator[str]:
    """The modules that ``path`` imports, those it imports inside functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


@pytest.mark.parametrize("path", WIRE_SOURCES, ids=name_of)
def test_the_wire_imports_nothing_from_above_and_no_io(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports(path)}
    assert not roots & (IMPURE | {"cephcaps", "protocol", "os"})


@pytest.mark.parametrize("path", PURE_SOURCES, ids=name_of)
def test_the_pure_rooms_import_no_io_clock_task_or_randomness(path: Path) -> None:
    modules = set(imports(path))
    assert not {module.split(".")[0] for module in modules} & (IMPURE | {"protocol"})
    rooms = {module.split(".")[1] for module in modules if module.startswith("cephcaps.")}
    assert rooms <= {*PURE, *(name.removesuffix(".py") for name in PURE_FILES), "ini"}


@pytest.mark.parametrize("path", PURE_SOURCES + WIRE_SOURCES, ids=name_of)
def test_the_pure_rooms_have_no_coroutines(path: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, waits)]


TRACE_SOURCES = [path for path in sources("cephcaps/trace") if path.name != "record.py"]
"""What reads traces; the recorder writes them, by the clock."""


@pytest.mark.parametrize("path", TRACE_SOURCES, ids=name_of)
def test_whatever_reads_traces_has_no_clock_task_or_socket(path: Path) -> None:
    modules = set(imports(path))
    assert not {module.split(".")[0] for module in modules} & IMPURE
    assert not {module for module in modules if module.startswith(("cephcaps.shell", "cephcaps.client"))}


@pytest.mark.parametrize("path", SHELL_SOURCES, ids=name_of)
def test_the_shell_imports_no_face(path: Path) -> None:
    assert not set(imports(path)) & SHELL_NEVER


TESTING_SHELL = ("serving.py", "cluster.py", "plugin.py", "simulation.py")
"""What of the test cluster has sockets, tasks and the clock."""
TESTING_SOURCES = [path for path in sources("cephcaps/testing") if path.name not in TESTING_SHELL]


@pytest.mark.parametrize("path", TESTING_SOURCES, ids=name_of)
def test_the_daemons_of_the_test_cluster_are_pure(path: Path) -> None:
    if path.name in ("__init__.py", "faults.py"):  # the first names the cluster, the second reaches into the shell
        return
    modules = set(imports(path))
    assert not {module.split(".")[0] for module in modules} & IMPURE
    assert not {module for module in modules if module.startswith(("cephcaps.shell", "cephcaps.client"))}


def test_nothing_interprets_a_schema_at_run_time() -> None:
    calls = [
        f"{name_of(path)}:{node.lineno}"
        for path in [*WIRE_SOURCES, *sources("cephcaps")]
        if path.name != "schema.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("build", "parse_stream")
    ]
    assert not calls
