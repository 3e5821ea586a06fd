"""Every structure of the wire package that is not a message's own layout, by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import cephwire
from cephwire.control import FRAMES
from cephwire.schema import Record, Sized, Tagged, Versioned

__all__ = ["STRUCTURES"]


def found() -> dict[str, Any]:
    """The schemas that the package's modules define, and the control frames' payloads."""
    schemas: dict[str, Any] = {tag.name: schema for tag, schema in FRAMES.items()}
    for module in pkgutil.iter_modules(cephwire.__path__):
        namespace = vars(importlib.import_module(f"cephwire.{module.name}"))
        for name, value in namespace.items():
            if isinstance(value, Record | Versioned | Tagged | Sized) and name.isupper():
                schemas.setdefault(name, value)
    return schemas


STRUCTURES = found()
