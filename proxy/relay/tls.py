"""TLS inside a link: `ssl.MemoryBIO` between the socket's bytes and the protocol's.

Contexts follow libpq's sslmode words (PostgreSQL documentation, "SSL Support").
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from proxy.errors import SettingsError


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
        self._object.write(plain)

    def close(self) -> None:
        """Leave a close_notify in the outgoing bytes."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return

    def take(self) -> bytes:
        """Ciphertext to be sent."""
        return self._outgoing.read()


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """How one side speaks TLS. `offer`: it may; `insist`: it must."""

    context: ssl.SSLContext | None
    offer: bool
    insist: bool
    first: bool
    """Towards a server: try TLS first (`prefer` and up), or only after a refusal (`allow`)."""
    check_name: bool


PLAIN = TlsPolicy(None, offer=False, insist=False, first=False, check_name=False)


def client_policy(mode: str, *, key: str, cert: str, ca: str) -> TlsPolicy:
    """The policy towards clients. Raises SettingsError naming the file that does not serve."""
    if mode == "disable":
        return PLAIN
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_chain(context, "client", cert, key)
    if mode in ("verify-ca", "verify-full"):
        _load_ca(context, "client", ca)
        context.verify_mode = ssl.CERT_REQUIRED
    elif ca:
        _load_ca(context, "client", ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    insist = mode not in ("allow", "prefer")
    return TlsPolicy(context, offer=True, insist=insist, first=True, check_name=False)


def server_policy(mode: str, *, key: str, cert: str, ca: str) -> TlsPolicy:
    """The policy towards Postgres. Raises SettingsError naming the file that does not serve."""
    if mode == "disable":
        return PLAIN
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    verify = mode in ("verify-ca", "verify-full") or (mode == "require" and bool(ca))
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca:
        _load_ca(context, "server", ca)
    elif verify:
        context.load_default_certs()
    if cert:
        _load_chain(context, "server", cert, key)
    insist = mode in ("require", "verify-ca", "verify-full")
    return TlsPolicy(
        context, offer=True, insist=insist, first=mode != "allow", check_name=mode == "verify-full"
    )


def _load_chain(context: ssl.SSLContext, side: str, cert: str, key: str) -> None:
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
