"""The keys of cephx: what they encrypt, how it is wrapped, and the proof that one holds them.

Randomness is an argument here: every function that needs some takes ``entropy``, which returns that many random bytes.
"""

from __future__ import annotations

import base64
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from cephwire.cephx import CHALLENGE_PAIR, ChallengePair
from cephwire.codec import Codec, Leftover
from cephwire.errors import CephError, MalformedMessage
from cephwire.keys import CRYPTO_KEY, ENVELOPE, CryptoType, Envelope
from cephwire.keys import CryptoKey as WireKey

__all__ = ["CryptoError", "CryptoKey", "Entropy"]

Entropy: TypeAlias = Callable[[int], bytes]
"""Returns as many random bytes as asked; the shell passes ``os.urandom``."""


class CryptoError(CephError):
    """A key that cannot be used, or bytes that this key does not open; holds neither key nor plaintext."""


BLOCK = 16
"""Bytes of an AES block, so also of an IV and of a confounder."""

AES_KEY_SIZE = 16
AES_IV = b"cephsageyudagreg"
"""Always the same, so AES encrypts deterministically (``CEPH_AES_IV``; ceph: src/include/ceph_fs.h)."""

ENCRYPTION = 0xAA
INTEGRITY = 0x55
"""What a derived key is for, the last byte of its label (RFC 8009, section 5)."""

KRB5_KEY_SIZE = 32
KRB5_MAC_KEY_SIZE = 24
KRB5_MAC_SIZE = 24
ZERO_IV = bytes(BLOCK)
"""RFC 8009's initial cipher state, also the first thing its HMAC covers (section 5)."""

SIGNED_SIZE = 32
"""Of what AES encrypts for a signature, the bytes that count; its padding is left out."""

LENGTH = struct.Struct("<I")

crypto_keys: Codec[WireKey] = Codec(CRYPTO_KEY)
envelopes: Codec[Envelope] = Codec(ENVELOPE)
challenge_pairs: Codec[ChallengePair] = Codec(CHALLENGE_PAIR)


@dataclass(frozen=True, slots=True)
class CryptoKey:
    """A secret shared with the cluster: a principal's own, or a session key out of a ticket.

    Attributes:
        type: a ``CryptoType``.
        created: nanoseconds since the epoch.
        secret: 32 bytes for AES256K; 16 for AES, which leaves unused what follows them. Never shown.
    Raises:
        CryptoError: no such type, or a secret of the wrong size.
    """

    type: int
    created: int
    secret: bytes = field(repr=False)
    _derived: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size = len(self.secret)
        if self.type not in (CryptoType.AES, CryptoType.AES256K):
            raise CryptoError(f"key of type {self.type}: only types 1 (aes) and 2 (aes256k) are known")
        if self.type == CryptoType.AES and size < AES_KEY_SIZE:
            raise CryptoError(f"aes key of {size} bytes: needs {AES_KEY_SIZE}")
        if self.type == CryptoType.AES256K and size != KRB5_KEY_SIZE:
            raise CryptoError(f"aes256k key of {size} bytes: needs {KRB5_KEY_SIZE}")

    @classmethod
    def from_base64(cls, text: str) -> CryptoKey:
        """The key that a keyring or ``ceph auth print-key`` shows as ``text``.

        Raises:
            CryptoError: not base64, or not one whole key.
        """
        try:
            encoded = base64.b64decode(text.strip(), validate=True)
        except ValueError:
            raise CryptoError(f"key of {len(text.strip())} characters is not base64") from None
        return cls.from_bytes(encoded)

    @classmethod
    def from_bytes(cls, encoded: bytes) -> CryptoKey:
        """The key in Ceph's own encoding, as in a ticket.

        Raises:
            CryptoError: short, or longer than one key.
        """
        leftover: list[Leftover] = []
        try:
            key = crypto_keys.decode(encoded, leftover=leftover)
        except MalformedMessage as error:
            raise CryptoError(f"key of {len(encoded)} bytes is none: {error}") from None
        if leftover:
            raise CryptoError(f"key of {len(encoded)} bytes goes on for {leftover[0].size} bytes after its end")
        return cls.from_wire(key)

    @classmethod
    def from_wire(cls, key: WireKey) -> CryptoKey:
        """The key a ticket holds."""
        return cls(key.type, key.created, key.secret)

    def encrypt(self, usage: int, plaintext: bytes, entropy: Entropy) -> bytes:
        """``plaintext`` encrypted for ``usage``, without cephx's envelope; AES draws no entropy.

        Source: ceph: src/auth/Crypto.cc; RFC 8009, section 5, whose confounder is drawn from ``entropy``.
        """
        if self.type == CryptoType.AES:
            return _aes_encrypt(self.secret, plaintext)
        encryption_key, mac_key = self._derive(usage)
        ciphertext = _cts_encrypt(encryption_key, entropy(BLOCK) + plaintext)
        return ciphertext + _mac(mac_key, ciphertext)

    def decrypt(self, usage: int, ciphertext: bytes) -> bytes:
        """What ``encrypt`` was given.

        Raises:
            CryptoError: too short, damaged, or made with another key or usage. An AES key may miss it and
                return garbage: only the envelope tells.
        """
        if self.type == CryptoType.AES:
            return _aes_decrypt(self.secret, ciphertext)
        if len(ciphertext) < BLOCK + KRB5_MAC_SIZE:
            raise CryptoError(f"{len(ciphertext)} bytes: aes256k needs {BLOCK + KRB5_MAC_SIZE} or more")
        encryption_key, mac_key = self._derive(usage)
        body, mac = ciphertext[:-KRB5_MAC_SIZE], ciphertext[-KRB5_MAC_SIZE:]
        if not hmac.compare_digest(mac, _mac(mac_key, body)):
            raise CryptoError(f"{len(ciphertext)} bytes fail aes256k's HMAC for usage {usage:#x}: wrong key or damaged")
        return _cts_decrypt(encryption_key, body)[BLOCK:]

    def seal(self, usage: int, payload: bytes, entropy: Entropy) -> bytes:
        """``payload`` in cephx's envelope, encrypted; no length in front.

        Source: ceph: src/auth/cephx/CephxProtocol.h, ``encode_encrypt_enc_bl``.
        """
        return self.encrypt(usage, envelopes.encode(Envelope(payload)), entropy)

    def unseal(self, usage: int, sealed: bytes) -> bytes:
        """The payload that ``seal`` was given.

        Raises:
            CryptoError: as ``decrypt``, or no envelope inside.
        """
        plaintext = self.decrypt(usage, sealed)
        try:
            return envelopes.decode(plaintext).payload
        except MalformedMessage:
            raise CryptoError(f"{len(sealed)} bytes hold no cephx envelope: wrong key or damaged") from None

    def seal_prefixed(self, usage: int, payload: bytes, entropy: Entropy) -> bytes:
        """``seal`` behind its u32 length, as all but the authorizer's challenge travel (``encode_encrypt``)."""
        return _prefixed(self.seal(usage, payload, entropy))

    def unseal_prefixed(self, usage: int, prefixed: bytes) -> bytes:
        """The payload that ``seal_prefixed`` was given.

        Raises:
            CryptoError: as ``unseal``, or the length is not that of the bytes behind it.
        """
        if len(prefixed) < LENGTH.size:
            raise CryptoError(f"{len(prefixed)} bytes: the length in front needs {LENGTH.size}")
        (size,) = LENGTH.unpack_from(prefixed)
        if len(prefixed) - LENGTH.size != size:
            raise CryptoError(f"{size} encrypted bytes announced, {len(prefixed) - LENGTH.size} there")
        return self.unseal(usage, prefixed[LENGTH.size :])

    def challenge_proof(self, server_challenge: int, client_challenge: int) -> int:
        """The u64 that shows the monitor we hold this key.

        Source: ceph: src/auth/cephx/CephxProtocol.cc, ``cephx_calc_client_server_challenge``.
        """
        challenges = challenge_pairs.encode(ChallengePair(server_challenge, client_challenge))
        if self.type == CryptoType.AES:
            digest = _prefixed(_aes_encrypt(self.secret, envelopes.encode(Envelope(challenges))))
        else:
            digest = hmac.digest(self.secret, challenges, "sha256")
        return _folded(digest)

    def signature(self, block: bytes) -> int:
        """The u64 that signs a message of messenger v1, made from 32 bytes that stand for it.

        Source: ceph: src/auth/cephx/CephxSessionHandler.cc, ``_calc_signature``.
        """
        if self.type == CryptoType.AES:
            return _folded(_aes_encrypt(self.secret, block)[:SIGNED_SIZE])
        return _folded(hmac.digest(self.secret, block, "sha256"))

    def _derive(self, usage: int) -> tuple[bytes, bytes]:
        """Encryption key and MAC key for ``usage``, derived once."""
        keys = self._derived.get(usage)
        if keys is None:
            keys = (
                derive_key(self.secret, usage, ENCRYPTION, KRB5_KEY_SIZE),
                derive_key(self.secret, usage, INTEGRITY, KRB5_MAC_KEY_SIZE),
            )
            self._derived[usage] = keys
        return keys


def derive_key(secret: bytes, usage: int, purpose: int, size: int) -> bytes:
    """KDF-HMAC-SHA2 of RFC 8009, section 3: ``size`` bytes, at most 48."""
    return hmac.digest(secret, struct.pack(">IIBBI", 1, usage, purpose, 0, 8 * size), "sha384")[:size]


def _mac(key: bytes, ciphertext: bytes) -> bytes:
    return hmac.digest(key, ZERO_IV + ciphertext, "sha384")[:KRB5_MAC_SIZE]


def _folded(digest: bytes) -> int:
    """All whole words, xored: with its length in front AES gives 36 bytes, the last four of which do not count."""
    folded = 0
    for word in struct.unpack_from(f"<{len(digest) // 8}Q", digest):
        folded ^= word
    return folded


def _prefixed(sealed: bytes) -> bytes:
    return LENGTH.pack(len(sealed)) + sealed


def _aes_encrypt(secret: bytes, plaintext: bytes) -> bytes:
    padder = PKCS7(8 * BLOCK).padder()
    return _cbc_encrypt(secret[:AES_KEY_SIZE], AES_IV, padder.update(plaintext) + padder.finalize())


def _aes_decrypt(secret: bytes, ciphertext: bytes) -> bytes:
    if not ciphertext or len(ciphertext) % BLOCK:
        raise CryptoError(f"{len(ciphertext)} bytes: aes needs whole blocks of {BLOCK}")
    unpadder = PKCS7(8 * BLOCK).unpadder()
    try:
        return unpadder.update(_cbc_decrypt(secret[:AES_KEY_SIZE], AES_IV, ciphertext)) + unpadder.finalize()
    except ValueError:
        raise CryptoError(f"{len(ciphertext)} bytes have no aes padding inside: wrong key or damaged") from None


def _cts_encrypt(key: bytes, plaintext: bytes) -> bytes:
    """CBC with ciphertext stealing, variant CS3 (NIST SP 800-38A addendum): as long as ``plaintext``, 16 or more."""
    blocks = _cbc_encrypt(key, ZERO_IV, plaintext + bytes(-len(plaintext) % BLOCK))
    if len(plaintext) == BLOCK:
        return blocks
    # CS3 swaps the last two blocks always, and cuts the one that is now last.
    return (blocks[: -2 * BLOCK] + blocks[-BLOCK:] + blocks[-2 * BLOCK : -BLOCK])[: len(plaintext)]


def _cts_decrypt(key: bytes, ciphertext: bytes) -> bytes:
    if len(ciphertext) == BLOCK:
        return _cbc_decrypt(key, ZERO_IV, ciphertext)
    tail = (len(ciphertext) - 1) % BLOCK + 1
    head, last, cut = ciphertext[: -BLOCK - tail], ciphertext[-BLOCK - tail : -tail], ciphertext[-tail:]
    # Behind its tail the last plaintext block was zeros, so there the last cipher block,
    # deciphered without chaining, still shows what was cut from the block before it.
    stolen = _cbc_decrypt(key, ZERO_IV, last)[tail:]
    return _cbc_decrypt(key, ZERO_IV, head + cut + stolen + last)[: len(ciphertext)]


def _cbc_encrypt(key: bytes, iv: bytes, blocks: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(blocks) + encryptor.finalize()


def _cbc_decrypt(key: bytes, iv: bytes, blocks: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(blocks) + decryptor.finalize()
