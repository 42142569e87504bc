"""TLS inside a link: `ssl.MemoryBIO` between the socket's bytes and the protocol's.

Contexts follow libpq's sslmode words (PostgreSQL documentation, "SSL Support").
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.auth.certificate import end_point
from proxy.errors import SettingsError

ALPN = "postgresql"
"""The protocol's registered name (PostgreSQL documentation, "SSL Session Encryption")."""

FIRST_OCTET = 0x16
"""What TLS begins with (RFC 8446, section 5.1, handshake), and no start-up packet."""

_VERSIONS = {
    "tlsv1.0": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}


class Tls:
    """One TLS conversation as bytes in, bytes out. No socket."""

    __slots__ = ("_incoming", "_object", "_outgoing", "done")

    def __init__(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=context.protocol is ssl.PROTOCOL_TLS_SERVER,
            server_hostname=server_hostname,
        )
        self.done = False

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Bytes from the socket; empty bytes say that it ended."""
        if ciphertext:
            self._incoming.write(ciphertext)
        else:
            self._incoming.write_eof()

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done. Raises ssl.SSLError."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.done = True
        return True

    def read_into(self, view: memoryview) -> int:
        """Plain bytes read into `view`; -1 when more must be fed, 0 at the end.

        Raises ssl.SSLError.
        """
        try:
            return int(self._object.read(len(view), view))
        except ssl.SSLWantReadError:
            return -1
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def write(self, plain: bytes | bytearray | memoryview) -> None:
        """Nothing can be said before the handshake is done."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._object.write(plain)

    def spoken(self) -> str:
        """Version and cipher, as in `TLSv1.3/TLS_AES_256_GCM_SHA384`; empty at first."""
        cipher = self._object.cipher()
        return f"{self._object.version()}/{cipher[0]}" if cipher else ""

    def close(self) -> None:
        """Leave a close_notify in the outgoing bytes."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return

    def take(self) -> bytes:
        """Ciphertext to be sent."""
        return self._outgoing.read()

    def protocol(self) -> str | None:
        """What both sides agreed to speak (ALPN)."""
        return self._object.selected_alpn_protocol()

    def certified(self) -> bool:
        """Whether the peer has shown a certificate that one of our authorities vouches for."""
        return bool(self._object.getpeercert())

    def common_name(self) -> str | None:
        """The one name that the peer's certificate, which was verified, is made out to."""
        subject: Any = (self._object.getpeercert() or {}).get("subject", ())
        names = [value for part in subject for key, value in part if key == "commonName"]
        return names[0] if len(names) == 1 and "\0" not in names[0] else None

    def peer_binding(self) -> bytes | None:
        """What binds SCRAM to the peer's certificate (RFC 5929, tls-server-end-point)."""
        der = self._object.getpeercert(binary_form=True)
        return end_point(der) if der else None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What one side's settings say of TLS: paths (empty: none), the oldest and newest version,
    ciphers and curve as OpenSSL writes them."""

    mode: str
    key: str = ""
    cert: str = ""
    ca: str = ""
    versions: tuple[str, str] = ("tlsv1.2", "tlsv1.3")
    ciphers: str = "DEFAULT"
    curve: str = "auto"
    direct: bool = False

    def contents(self) -> bytes:
        """A digest of what is in the files. Raises SettingsError."""
        digest = hashlib.sha256()
        for path in (self.key, self.cert, self.ca):
            digest.update(hashlib.sha256(_read(path)).digest())
        return digest.digest()


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How one side speaks TLS. `offer`: it may; `insist`: it must.

    Two are equal when the same settings and the same contents of files have made them. `binding`
    is what clients bind SCRAM to: our own certificate.
    """

    context: ssl.SSLContext | None = field(compare=False)
    offer: bool
    insist: bool
    first: bool
    """Towards a server: try TLS first (`prefer` and up), or only after a refusal (`allow`)."""
    check_name: bool
    direct: bool = False
    """Towards a server: begin with TLS at once."""
    binding: bytes | None = None
    made_of: tuple[TlsFiles, bytes] | None = field(default=None, repr=False)


PLAIN = TlsPolicy(None, offer=False, insist=False, first=False, check_name=False)


def client_policy(files: TlsFiles) -> TlsPolicy:
    """The policy towards clients. Raises SettingsError naming the file that does not serve."""
    if files.mode == "disable":
        return PLAIN
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    _load_chain(context, "client", files)
    if files.ca:
        _load_ca(context, "client", files.ca)
        must = files.mode in ("verify-ca", "verify-full")
        context.verify_mode = ssl.CERT_REQUIRED if must else ssl.CERT_OPTIONAL
    if files.curve != "auto":
        context.set_ecdh_curve(files.curve)
    return TlsPolicy(
        context,
        offer=True,
        insist=files.mode not in ("allow", "prefer"),
        first=True,
        check_name=False,
        binding=_own_binding(files.cert),
        made_of=(files, files.contents()),
    )


def server_policy(files: TlsFiles) -> TlsPolicy:
    """The policy towards Postgres. Raises SettingsError naming the file that does not serve."""
    mode = files.mode
    if mode == "disable":
        return PLAIN
    insist = mode in ("require", "verify-ca", "verify-full")
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = mode == "verify-full"
    verify = mode in ("verify-ca", "verify-full") or (mode == "require" and bool(files.ca))
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if files.ca:
        _load_ca(context, "server", files.ca)
    elif verify:
        context.load_default_certs()
    if files.cert:
        _load_chain(context, "server", files)
    return TlsPolicy(
        context,
        offer=True,
        insist=insist,
        first=mode != "allow",
        check_name=mode == "verify-full",
        direct=files.direct and insist,
        made_of=(files, files.contents()),
    )


def _context(side: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    oldest, newest = files.versions
    context.minimum_version = _VERSIONS[oldest]
    context.maximum_version = _VERSIONS[newest]
    if files.ciphers != "DEFAULT":
        context.set_ciphers(files.ciphers)
    context.set_alpn_protocols([ALPN])
    return context


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from None


def _own_binding(cert: str) -> bytes | None:
    """Of the first certificate in the file, which is the one that is shown."""
    pem = _read(cert).decode("ascii", "replace")
    begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    if begin not in pem or end not in pem:
        return None
    first = pem[pem.index(begin) : pem.index(end) + len(end)]
    return end_point(ssl.PEM_cert_to_DER_cert(first))


def _load_chain(context: ssl.SSLContext, side: str, files: TlsFiles) -> None:
    cert, key = files.cert, files.key
    try:
        context.load_cert_chain(cert, key or None, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise SettingsError(
            [f"{side}_tls_cert_file and {side}_tls_key_file ({cert}, {key}) do not load: {error}"]
        ) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _load_ca(context: ssl.SSLContext, side: str, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError([f"{side}_tls_ca_file ({ca}) does not load: {error}"]) from None
