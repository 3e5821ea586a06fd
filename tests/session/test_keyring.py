"""Keyrings: which key each entity gets, and that no message says a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.auth.keyring import KeyText, parse_keyring
from cephcaps.errors import ConfigError

KEY = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w=="
OTHER = "AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m3w=="


def revealed(text: str) -> dict[str, str]:
    return {entity: key.reveal() for entity, key in parse_keyring(text, "keyring").items()}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (f"[client.admin]\nkey = {KEY}\n", {"client.admin": KEY}),
        (f"[client.admin]\n\tkey={KEY}", {"client.admin": KEY}),
        (f'[client.admin]\n key = "{KEY}" ; ours\r\n', {"client.admin": KEY}),
        (f'[client.admin]\n\tkey = {KEY}\n\tauid = 0\n\tcaps mon = "allow *"\n', {"client.admin": KEY}),
        (f"[mon.]\nkey = {OTHER}\n[client.a b]\nkey = {KEY}\n", {"mon.": OTHER, "client.a b": KEY}),
        (f"[client.x]\nkey = {OTHER}\n[client.x]\nkey = {KEY}\n", {"client.x": KEY}),
        (f"[client.x]\nkey = {KEY[:20]}\\\n{KEY[20:]}\n", {"client.x": KEY}),
        (f"[client.x]\nKey = {KEY}\n", {}),
        (f"key = {KEY}\n", {}),
        ("[client.x]\ncaps mds = allow\n", {}),
        (f"{KEY}\n", {}),
        ("", {}),
    ],
)
def test_each_entity_has_the_key_of_its_section(text: str, keys: dict[str, str]) -> None:
    assert revealed(text) == keys


@pytest.mark.parametrize("key", ["", "abc", KEY[:-1], f"{KEY[:20]} {KEY[20:]}", f"{KEY}x", "schlüssel", "===="])
def test_a_key_that_is_no_base64_is_refused_by_entity(key: str) -> None:
    with pytest.raises(ConfigError, match=r"k\.ring \[client\.x\] holds no usable key") as refused:
        parse_keyring(f"[client.x]\nkey = {key}\n", "k.ring")
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"[client.x\nkey = {KEY}\n",
        f"[client.x] {KEY}\n",
        f"[client.x]\nkey {KEY[:-2]}\n",
        f"[client.x]\nkey: {KEY[:-2]}\n",
        f"[client.x]\nkey = '{KEY}\n",
        f"[client.x]\nkey = '{KEY}' {OTHER}\n",
        f"[client.x]\nkey = {KEY}\n= {OTHER}\n",
    ],
)
def test_what_is_no_keyring_is_refused_by_line_without_saying_the_key(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^k\.ring, line [123]: ") as refused:
        parse_keyring(text, "k.ring")
    assert KEY[:10] not in str(refused.value)


def test_a_key_shows_in_no_repr_and_no_format() -> None:
    key = KeyText(f" {KEY}\n", "test")
    assert key.reveal() == KEY
    for text in (repr(key), str(key), f"{key}", f"{key!r:>50}", "%s" % key, repr([key]), repr({"key": key})):  # noqa: UP031
        assert KEY not in text


def test_keys_are_equal_by_their_text() -> None:
    assert KeyText(KEY, "a") == KeyText(KEY, "b")
    assert KeyText(KEY, "a") != KeyText(OTHER, "a")
    assert KeyText(KEY, "a") != KEY
    assert len({KeyText(KEY, "a"), KeyText(KEY, "b")}) == 1


@given(st.lists(st.sampled_from(["[client.x]", "[", "]", "key", "=", KEY, "\n", " ", "'", '"', "\\", "#", "ü"])))
def test_any_text_is_a_keyring_or_refused(parts: list[str]) -> None:
    said = ""
    try:
        said = repr(list(parse_keyring("".join(parts), "keyring").values()))
    except ConfigError as refused:
        said = str(refused)
    assert KEY[:10] not in said
    assert "\n" not in said
