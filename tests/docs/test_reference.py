"""docs/reference.md leaves out nothing that callers may use."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest

import cephcaps
from cephcaps import events
from cephcaps import testing as cephcaps_testing
from tests.docs.pages import TOP

TEXT = (TOP / "docs/reference.md").read_text()
DIRECTIVE = re.compile(r"\.\. auto(module|class|function):: (\S+)\n(?:   :members:(.*)\n)?")
"""What is documented: its kind, its name, and which of its members; None without ``:members:``, "" for all."""
WHOLE = {name for kind, name, _ in DIRECTIVE.findall(TEXT) if kind == "module"}
LISTED = {
    name: {member.strip() for member in members.split(",")}
    for kind, name, members in DIRECTIVE.findall(TEXT)
    if kind == "class" and members.strip()
}
OWN = {
    "cephcaps.client.Client": {
        "cached", "close_inode", "close_locks", "engine", "flush_inode", "get_refs", "inode_error", "lock",
        "new_handle", "put_refs", "size_now", "test_lock", "wrote",
    },
    "cephcaps.namespace.Namespace": {"open_inode", "set_attributes"},
    "cephcaps.caps.Caps": {"of"},
    "cephcaps.testing.cluster.TestCluster": {"fail_mds"},
}  # fmt: skip
"""What this package's other parts call, such as an open file its client."""


def home(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def offered(kind: type[Any]) -> set[str]:
    """What a class offers by itself, or by bases that the page does not have on their own."""
    documented = {home(name) for name in LISTED} - {kind}
    mine = [base for base in kind.__mro__ if base.__module__.startswith("cephcaps") and base not in documented]
    return {name for base in mine for name in vars(base) if not name.startswith("_")}


@pytest.mark.parametrize("package", [cephcaps, cephcaps_testing], ids=["cephcaps", "cephcaps.testing"])
def test_every_exported_name_is_there(package: Any) -> None:
    documented = {home(name) for kind, name, _ in DIRECTIVE.findall(TEXT) if kind != "module"}
    documented |= {getattr(import_module(module), name) for module in WHOLE for name in import_module(module).__all__}
    missing = [name for name in package.__all__ if getattr(package, name) not in documented]

    assert missing == []


@pytest.mark.parametrize("name", sorted(LISTED))
def test_no_method_or_property_is_left_out(name: str) -> None:
    kind = home(name)
    described = set(re.findall(r"(?m)^ {4,8}(\w+): ", kind.__doc__ or ""))

    assert offered(kind) - LISTED[name] - described == OWN.get(name, set())
    assert LISTED[name] <= set(dir(kind))


def test_every_event_is_there() -> None:
    kinds = {kind for name in events.__all__ if isinstance(kind := getattr(events, name), type)}

    assert "cephcaps.events" in WHOLE
    assert set(get_args(events.Event)) <= kinds
    assert all(kind in kinds for base in (events.CapEvent, events.RequestEvent) for kind in base.__subclasses__())


def types_in(hint: Any) -> set[type[Any]]:
    """The classes of ours that an annotation names."""
    if isinstance(hint, type) and not get_args(hint):
        return {hint} if hint.__module__.startswith(("cephcaps", "cephwire")) else set()
    return {found for part in get_args(hint) for found in types_in(part)}


def returned() -> set[type[Any]]:
    """What the documented methods and properties give back, and fields of that."""
    found: set[type[Any]] = set()
    for name, members in LISTED.items():
        for member in members:
            offer = inspect.getattr_static(home(name), member)
            function = offer.fget if isinstance(offer, property) else getattr(offer, "__func__", offer)
            found |= types_in(get_type_hints(function).get("return"))
    return found


def test_what_a_method_gives_back_can_be_named_by_who_annotates_it() -> None:
    documented = {home(name) for kind, name, _ in DIRECTIVE.findall(TEXT) if kind == "class"}
    documented |= {getattr(import_module(module), name) for module in WHOLE for name in import_module(module).__all__}

    assert returned() - documented == set()
