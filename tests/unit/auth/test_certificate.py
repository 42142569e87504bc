"""The hash that binds SCRAM to a certificate, for each kind of signature."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.certificate import end_point
from tests.certificates import Certificates


@pytest.mark.parametrize(
    "key, options, name",
    [
        ("rsa:2048", ("-sha256",), "sha256"),
        ("rsa:2048", ("-sha384",), "sha384"),
        ("rsa:2048", ("-sha512",), "sha512"),
        ("rsa:2048", ("-sha1",), "sha256"),
        ("ec:prime256v1", ("-sha256",), "sha256"),
        ("ec:prime256v1", ("-sha384",), "sha384"),
        ("ed25519", (), None),
        ("rsa:2048", ("-sha256", "-sigopt", "rsa_padding_mode:pss"), None),
    ],
)
def test_the_hash_of_its_own_signature(
    tmp_path: Path, key: str, options: tuple[str, ...], name: str | None
) -> None:
    """RFC 5929, section 4.1: SHA-256 stands in for MD5 and SHA-1."""
    curve = ("-pkeyopt", f"ec_paramgen_curve:{key.partition(':')[2]}") if key[:2] == "ec" else ()
    made = Certificates(tmp_path)
    made.make("ca", "/CN=x", *options, *curve, key="ec" if curve else key)
    der = ssl.PEM_cert_to_DER_cert(made.ca_crt.read_text())
    assert end_point(der) == (hashlib.new(name, der).digest() if name else None)


@given(st.binary(max_size=40))
def test_what_is_no_certificate_has_none(octets: bytes) -> None:
    assert end_point(octets) is None
