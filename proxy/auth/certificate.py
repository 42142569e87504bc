"""What binds SCRAM to a certificate: RFC 5929, section 4, `tls-server-end-point`.

The hash is the one of the certificate's own signature, SHA-256 where that is MD5 or SHA-1. As
much of DER (X.690, section 8.1) is read as it takes to find that signature's algorithm.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Final

_RSA: Final = "2a864886f70d0101"
_ECDSA: Final = "2a8648ce3d04"
_HASHES: Final = MappingProxyType(
    {
        bytes.fromhex(f"{_RSA}04"): "sha256",  # md5WithRSAEncryption
        bytes.fromhex(f"{_RSA}05"): "sha256",  # sha1WithRSAEncryption
        bytes.fromhex(f"{_RSA}0b"): "sha256",
        bytes.fromhex(f"{_RSA}0c"): "sha384",
        bytes.fromhex(f"{_RSA}0d"): "sha512",
        bytes.fromhex(f"{_RSA}0e"): "sha224",
        bytes.fromhex(f"{_ECDSA}01"): "sha256",  # ecdsa-with-SHA1
        bytes.fromhex(f"{_ECDSA}0301"): "sha224",
        bytes.fromhex(f"{_ECDSA}0302"): "sha256",
        bytes.fromhex(f"{_ECDSA}0303"): "sha384",
        bytes.fromhex(f"{_ECDSA}0304"): "sha512",
    }
)


def end_point(der: bytes) -> bytes | None:
    """The hash of a certificate; None where its signature names no hash (RSA-PSS, Ed25519)."""
    name = _HASHES.get(_signature(der))
    return hashlib.new(name, der).digest() if name else None


def _signature(der: bytes) -> bytes:
    """The object identifier of the algorithm; empty when this is no certificate.

    Certificate: a sequence of the part that is signed, the algorithm (a sequence that begins
    with its identifier), and the signature (RFC 5280, section 4.1).
    """
    try:
        inside, _ = _element(der, 0)
        _, signed_end = _element(der, inside)
        algorithm, _ = _element(der, signed_end)
        at, end = _element(der, algorithm)
    except IndexError:
        return b""
    return der[at:end]


def _element(der: bytes, at: int) -> tuple[int, int]:
    """Where the contents of the element at `at` begin and end. Raises IndexError."""
    length, at = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, at = int.from_bytes(der[at : at + octets], "big"), at + octets
    if at + length > len(der):
        raise IndexError(at)
    return at, at + length
