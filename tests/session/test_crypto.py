"""What cephx encrypts: the published vectors, Ceph's own, and what must hold for any bytes."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cephcaps.auth.crypto import (
    ENCRYPTION,
    INTEGRITY,
    CryptoError,
    CryptoKey,
    Entropy,
    derive_key,
)
from cephwire.keys import ENVELOPE_MAGIC, CryptoType, KeyUsage

AES = CryptoKey(CryptoType.AES, 0, bytes(range(16)))
KRB5 = CryptoKey(CryptoType.AES256K, 0, bytes(range(32)))
CONFOUNDER = bytes(range(0xA0, 0xB0))

RFC8009 = CryptoKey(
    CryptoType.AES256K, 0, bytes.fromhex("6D404D37FAF79F9DF0D33568D320669800EB4836472EA8A026D16B7182460C52")
)
"""The base key of RFC 8009, appendix A; its samples use key usage 2."""

keys = st.sampled_from([AES, KRB5])
confounders = st.binary(min_size=16, max_size=16)
plaintexts = st.integers(0, 200).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def giving(confounder: bytes) -> Entropy:
    """Entropy that is known beforehand, and asked for once."""

    def entropy(size: int) -> bytes:
        assert size == len(confounder)
        return confounder

    return entropy


def no_entropy(size: int) -> bytes:
    raise AssertionError(f"{size} random bytes asked for")


# Keys


def test_a_keyring_line_gives_type_time_and_secret() -> None:
    key = CryptoKey.from_base64(" AQBsxAJrDcwGChAATNVP9cNLJ8ILliqZ/p8m2w==\n")

    assert key.type == CryptoType.AES
    assert key.created == 1795343468_168217613
    assert key.secret.hex() == "4cd54ff5c34b27c20b962a99fe9f26db"


def test_an_aes256k_key_is_read_from_its_sixty_characters() -> None:
    text = base64.b64encode(struct.pack("<HIIH", 2, 7, 9, 32) + bytes(range(32))).decode()

    assert (len(text), text[:2]) == (60, "Ag")
    assert CryptoKey.from_base64(text) == CryptoKey(CryptoType.AES256K, 7_000_000_009, bytes(range(32)))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "0 bytes is none"),
        (struct.pack("<HIIH", 1, 0, 0, 16)[:-1], "needs 2 bytes, got 1"),
        (struct.pack("<HIIH", 1, 0, 0, 16) + bytes(15), "needs 16 bytes, got 15"),
        (struct.pack("<HIIH", 1, 0, 0, 16) + bytes(17), "goes on for 1 bytes after its end"),
        (struct.pack("<HIIH", 0, 0, 0, 0), "key of type 0"),
        (struct.pack("<HIIH", 3, 0, 0, 16) + bytes(16), "key of type 3"),
        (struct.pack("<HIIH", 1, 0, 0, 15) + bytes(15), "aes key of 15 bytes: needs 16"),
        (struct.pack("<HIIH", 2, 0, 0, 16) + bytes(16), "aes256k key of 16 bytes: needs 32"),
        (struct.pack("<HIIH", 2, 0, 0, 33) + bytes(33), "aes256k key of 33 bytes: needs 32"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(encoded: bytes, message: str) -> None:
    with pytest.raises(CryptoError, match=message):
        CryptoKey.from_bytes(encoded)
    with pytest.raises(CryptoError, match=message):
        CryptoKey.from_base64(base64.b64encode(encoded).decode())


@pytest.mark.parametrize("text", ["AQB", "AQBs xAJr", "[client.admin]", "clé"])
def test_text_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(CryptoError, match="is not base64") as caught:
        CryptoKey.from_base64(text)
    assert text not in str(caught.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_key_or_a_crypto_error(encoded: bytes) -> None:
    try:
        key = CryptoKey.from_bytes(encoded)
    except CryptoError:
        return
    assert encoded.endswith(key.secret)


def test_an_aes_key_uses_the_first_sixteen_bytes_of_a_longer_secret() -> None:
    longer = CryptoKey(CryptoType.AES, 0, bytes(range(40)))

    assert longer.encrypt(0, b"\1\2\3\4", no_entropy) == AES.encrypt(0, b"\1\2\3\4", no_entropy)


@given(st.binary(min_size=32, max_size=32))
def test_no_form_of_a_key_shows_its_secret(secret: bytes) -> None:
    key = CryptoKey(CryptoType.AES256K, 1, secret)
    key.encrypt(KeyUsage.AUTHORIZER, b"", giving(CONFOUNDER))  # derived keys are not shown either

    assert repr(key) == str(key) == f"{key}" == "CryptoKey(type=<CryptoType.AES256K: 2>, created=1)"


def test_a_key_does_not_change() -> None:
    with pytest.raises(AttributeError):
        AES.secret = b""  # type: ignore[misc]


# RFC 8009, appendix A


def test_keys_are_derived_as_in_rfc_8009() -> None:
    encryption = derive_key(RFC8009.secret, 2, ENCRYPTION, 32)
    integrity = derive_key(RFC8009.secret, 2, INTEGRITY, 24)

    assert encryption.hex() == "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49"
    assert integrity.hex() == "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"


@pytest.mark.parametrize(
    ("plaintext", "confounder", "ciphertext"),
    [
        (
            "",
            "F764E9FA15C276478B2C7D0C4E5F58E4",
            "41F53FA5BFE7026D91FAF9BE959195A058707273A96A40F0A01960621AC612748B9BBFBE7EB4CE3C",
        ),
        (
            "000102030405",
            "B80D3251C1F6471494256FFE712D0B9A",
            "4ED7B37C2BCAC8F74F23C1CF07E62BC7B75FB3F637B9F559C7F664F69EAB7B6092237526EA0D1F61CB20D69D10F2",
        ),
        (
            "000102030405060708090A0B0C0D0E0F",
            "53BF8A0D105265D4E276428624CE5E63",
            "BC47FFEC7998EB91E8115CF8D19DAC4BBBE2E163E87DD37F49BECA92027764F6"
            "8CF51F14D798C2273F35DF574D1F932E40C4FF255B36A266",
        ),
        (
            "000102030405060708090A0B0C0D0E0F1011121314",
            "763E65367E864F02F55153C7E3B58AF1",
            "40013E2DF58E8751957D2878BCD2D6FE101CCFD556CB1EAE79DB3C3EE86429F2"
            "B2A602AC86FEF6ECB647D6295FAE077A1FEB517508D2C16B4192E01F62",
        ),
    ],
)
def test_the_sample_encryptions_of_rfc_8009(plaintext: str, confounder: str, ciphertext: str) -> None:
    sealed = RFC8009.encrypt(2, bytes.fromhex(plaintext), giving(bytes.fromhex(confounder)))

    assert sealed.hex().upper() == ciphertext
    assert RFC8009.decrypt(2, sealed) == bytes.fromhex(plaintext)


# Ceph's own vectors


def test_aes_encrypts_as_ceph_does() -> None:
    assert AES.encrypt(0, b"\1\2\3\4", no_entropy).hex() == "ec7494eb4e704be3bb1d50a3c8c672de"


def test_aes256k_derives_as_ceph_does() -> None:
    encryption = derive_key(KRB5.secret, KeyUsage.AUTHORIZER, ENCRYPTION, 32)
    integrity = derive_key(KRB5.secret, KeyUsage.AUTHORIZER, INTEGRITY, 24)

    assert encryption.hex() == "186828cb2b1f2a6f6bfe848ba158c0742a8b1b7249addd061aa9c1db989f341b"
    assert integrity.hex() == "39ed5fc5d6966921cc90085beb9d4531e43c8488eb7b38c7"


@pytest.mark.parametrize(
    ("plaintext", "ciphertext"),
    [
        (b"", "4f9e6b00533e79d1ce91198221ec9e912d4a47406f091c93d84b8bece3848e2f1ae17afcb5e71926"),
        (b"abc", "9d87c8d32b1e48efa7a7a8a4963e98994f9e6bf314ba28413dbe0c276f2179d03bdad255476be9653a2b29"),
        (
            bytes(range(16)),
            "269e561b238b970e2752de339c5dce534f9e6b00533e79d1ce91198221ec9e91"
            "814c666715363a9a56f89561ccc863ec0e54984d8ed83215",
        ),
        (
            bytes(range(20)),
            "4f9e6b00533e79d1ce91198221ec9e91ab0c4a1997a4c271845be88230c53442"
            "269e561bdfe77b13d6390959150c01ce3d974e68b4615f36ea2e2b87",
        ),
    ],
)
def test_aes256k_encrypts_as_ceph_does(plaintext: bytes, ciphertext: str) -> None:
    assert KRB5.encrypt(KeyUsage.AUTHORIZER, plaintext, giving(CONFOUNDER)).hex() == ciphertext
    assert KRB5.decrypt(KeyUsage.AUTHORIZER, bytes.fromhex(ciphertext)) == plaintext


@pytest.mark.parametrize(
    ("key", "entropy", "prefixed"),
    [
        (AES, no_entropy, "1000000097d0b464dc9b3ef0105e053e016cf799"),
        (
            KRB5,
            giving(CONFOUNDER),
            "350000001878cb035ddc04af7485fb248aa02ef94f9e6b00533e79d1ce911982215d15ae9fafb697"
            "81200f51f2ceb6b671dd3c5ab82f6ee3a6",
        ),
    ],
    ids=["aes", "aes256k"],
)
def test_the_envelope_is_ceph_s(key: CryptoKey, entropy: Entropy, prefixed: str) -> None:
    payload = b"\1\2\3\4"

    assert key.seal_prefixed(KeyUsage.AUTHORIZER, payload, entropy).hex() == prefixed
    assert key.seal(KeyUsage.AUTHORIZER, payload, entropy).hex() == prefixed[8:]
    assert key.unseal_prefixed(KeyUsage.AUTHORIZER, bytes.fromhex(prefixed)) == payload
    assert key.unseal(KeyUsage.AUTHORIZER, bytes.fromhex(prefixed[8:])) == payload


@pytest.mark.parametrize(("key", "proof"), [(AES, 0x4FADD85010BCAD18), (KRB5, 0x52460FB091FF144A)])
def test_the_proof_is_ceph_s(key: CryptoKey, proof: int) -> None:
    assert key.challenge_proof(0x1122334455667788, 0x99AABBCCDDEEFF00) == proof


# Any bytes


@pytest.mark.parametrize("key", [AES, KRB5], ids=["aes", "aes256k"])
def test_every_size_comes_back(key: CryptoKey) -> None:
    for size in range(201):
        plaintext = bytes(range(size))

        ciphertext = key.encrypt(KeyUsage.AUTHORIZER, plaintext, giving(CONFOUNDER))

        assert len(ciphertext) == (16 + size + 24 if key is KRB5 else size + 16 - size % 16)
        assert key.decrypt(KeyUsage.AUTHORIZER, ciphertext) == plaintext


@given(keys, st.sampled_from(KeyUsage), plaintexts, confounders)
def test_what_is_sealed_can_be_unsealed(key: CryptoKey, usage: KeyUsage, payload: bytes, confounder: bytes) -> None:
    sealed = key.seal(usage, payload, giving(confounder))
    prefixed = key.seal_prefixed(usage, payload, giving(confounder))

    assert prefixed == struct.pack("<I", len(sealed)) + sealed
    assert key.unseal(usage, sealed) == key.unseal_prefixed(usage, prefixed) == payload


@given(plaintexts, confounders, st.data())
def test_aes256k_notices_any_changed_bit(plaintext: bytes, confounder: bytes, data: st.DataObject) -> None:
    ciphertext = bytearray(KRB5.encrypt(KeyUsage.AUTHORIZER, plaintext, giving(confounder)))
    bit = data.draw(st.integers(0, 8 * len(ciphertext) - 1))
    ciphertext[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CryptoError, match="HMAC for usage 0x10"):
        KRB5.decrypt(KeyUsage.AUTHORIZER, bytes(ciphertext))


@given(keys, plaintexts, st.data())
def test_what_was_cut_raises_crypto_error_and_nothing_else(key: CryptoKey, payload: bytes, data: st.DataObject) -> None:
    prefixed = key.seal_prefixed(KeyUsage.AUTHORIZER, payload, giving(CONFOUNDER))
    cut = data.draw(st.integers(0, len(prefixed) - 1))

    with pytest.raises(CryptoError):
        key.unseal_prefixed(KeyUsage.AUTHORIZER, prefixed[:cut])


@given(keys, st.binary(max_size=200))
def test_any_bytes_are_opened_or_raise_crypto_error(key: CryptoKey, noise: bytes) -> None:
    for opening in (key.decrypt, key.unseal, key.unseal_prefixed):
        try:
            opened = opening(KeyUsage.AUTHORIZER, noise)
        except CryptoError:
            continue
        assert opening == key.decrypt, f"{opened!r} came in an envelope by chance"
        assert key is AES, "aes256k is authenticated"


@given(plaintexts)
def test_another_key_of_the_same_type_does_not_unseal(payload: bytes) -> None:
    for key, other in [
        (AES, CryptoKey(CryptoType.AES, 0, bytes(16))),
        (KRB5, CryptoKey(CryptoType.AES256K, 0, bytes(32))),
    ]:
        sealed = key.seal(KeyUsage.AUTHORIZER, payload, giving(CONFOUNDER))
        with pytest.raises(CryptoError, match="wrong key or damaged"):
            other.unseal(KeyUsage.AUTHORIZER, sealed)


def test_aes256k_does_not_open_what_was_sealed_for_another_usage() -> None:
    sealed = KRB5.seal(KeyUsage.AUTHORIZER, b"payload", giving(CONFOUNDER))

    with pytest.raises(CryptoError, match="usage 0x12"):
        KRB5.unseal(KeyUsage.AUTHORIZER_REPLY, sealed)


@pytest.mark.parametrize("key", [AES, KRB5], ids=["aes", "aes256k"])
@pytest.mark.parametrize(
    ("plaintext", "message"),
    [
        (b"", "no cephx envelope"),
        (struct.pack("<BQ", 1, ENVELOPE_MAGIC)[:-1], "no cephx envelope"),
        (struct.pack("<BQ", 1, ENVELOPE_MAGIC ^ 1) + b"payload", "no cephx envelope"),
        (struct.pack("<BQ", 2, ENVELOPE_MAGIC) + b"payload", "no cephx envelope"),
    ],
)
def test_a_plaintext_without_its_envelope_is_refused(key: CryptoKey, plaintext: bytes, message: str) -> None:
    bare = key.encrypt(KeyUsage.AUTHORIZER, plaintext, giving(CONFOUNDER))

    with pytest.raises(CryptoError, match=message) as caught:
        key.unseal(KeyUsage.AUTHORIZER, bare)
    assert "payload" not in str(caught.value)


@pytest.mark.parametrize("ciphertext", [b"", bytes(15), bytes(17)])
def test_aes_takes_whole_blocks_only(ciphertext: bytes) -> None:
    with pytest.raises(CryptoError, match="needs whole blocks of 16"):
        AES.decrypt(0, ciphertext)


def test_a_length_that_is_not_that_of_the_bytes_behind_it_is_refused() -> None:
    prefixed = AES.seal_prefixed(0, b"\1\2\3\4", no_entropy)

    with pytest.raises(CryptoError, match="16 encrypted bytes announced, 17 there"):
        AES.unseal_prefixed(0, prefixed + b"\0")
