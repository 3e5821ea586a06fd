"""The root of every error this project raises on purpose, and the one that bytes from outside can cause."""

__all__ = ["CephError", "MalformedMessage"]


class CephError(Exception):
    """Anything that went wrong between us and a Ceph daemon."""


class MalformedMessage(CephError, ValueError):
    """Bytes that are not the message they claim to be; names the structure, the field and the offset."""
