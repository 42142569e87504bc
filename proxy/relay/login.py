"""A client's way in: start-up packet, TLS, password, greeting. Driven by callbacks.

Source: PostgreSQL documentation, "Message Flow", "Start-up".
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import cython

from proxy.auth.gate import ANYBODY, Way
from proxy.auth.hba import Address, Attempt
from proxy.auth.login import begin
from proxy.auth.secret import Secret
from proxy.errors import (
    DatabaseDisabled,
    FeatureRefused,
    InternalError,
    LoginForbidden,
    OptionsRefused,
    PgfunnelError,
    ProtocolViolation,
    ShuttingDown,
    TooManyClients,
    WrongPassword,
)
from proxy.relay.identity import unix_user
from proxy.relay.standing import CONSOLE
from proxy.relay.tls import ALPN, FIRST_OCTET, Tls
from proxy.relay.wish import read_wish
from proxy.telemetry.reasons import CloseReason
from proxy.wire import messages, startup

if cython.compiled:
    from cython.cimports.proxy.auth.conversation import Conversation, Done, Next
    from cython.cimports.proxy.auth.keys import KeyRequest, ScramKeys
    from cython.cimports.proxy.relay.client import Client
    from cython.cimports.proxy.relay.wish import Wish
    from cython.cimports.proxy.wire.octets import part, u32
else:
    from proxy.auth.conversation import Conversation, Done, Next
    from proxy.auth.keys import KeyRequest, ScramKeys
    from proxy.relay.client import Client
    from proxy.relay.wish import Wish
    from proxy.wire.octets import part, u32

_STARTUP, _PASSWORD, _NOTHING, _GREETED = 0, 1, 2, 3
"""What a login waits for: the first packet, a password, keys being derived, its greeting."""

_MAX_WISHES = 1000

_AUTHENTICATION_OK = messages.authentication(0)
_MAX_PASSWORD_MESSAGE = 16_384


@cython.cclass
class Login:
    """What a client is until it has logged in. `feed` takes its bytes, whole or in parts.

    `hub`: the entrance. `said`: what the greeting has to begin with.
    """

    _hub: Any
    _way: Way
    _direct: bool
    _conversation: Conversation
    wish: Wish

    def __init__(self, client: Client, hub: object) -> None:
        self._client = client
        self._hub = hub
        self._step = _STARTUP
        self._way = None
        self._direct = False
        self._conversation = None
        self.user = self.database = self.reason = ""
        self.said = b""
        self.wish = None

    @cython.ccall
    def feed(self, buffer: bytearray, n: cython.Py_ssize_t) -> object:
        """Take bytes [0, n); what is left over is held by the client."""
        used: cython.Py_ssize_t
        try:
            used = self._take(buffer, n)
            while 0 < used < n and self._client.login is self:
                buffer, n = buffer[used:n], n - used
                used = self._take(buffer, n)
        except PgfunnelError as error:
            self.refuse(error)
            return None
        if used < n and self._client.fd >= 0:
            self._client.held = buffer[used:n]
        return None

    @cython.cfunc
    def _take(self, buffer: bytearray, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Take one packet or message: its length, 0 when it is not for now."""
        if self._step == _STARTUP:
            return self._first_packet(buffer, n)
        if self._step == _PASSWORD:
            return self._password(buffer, n)
        return self._too_early(n)

    def refuse(self, error: PgfunnelError) -> None:
        reasons: dict[type[PgfunnelError], CloseReason] = {
            ProtocolViolation: CloseReason.PROTOCOL_VIOLATION,
            TooManyClients: CloseReason.TOO_MANY_CLIENTS,
            ShuttingDown: CloseReason.SHUTTING_DOWN,
            FeatureRefused: CloseReason.REFUSED,
            OptionsRefused: CloseReason.REFUSED,
            DatabaseDisabled: CloseReason.REFUSED,
        }
        if self._conversation is not None:
            self.reason = self._conversation.reason
        if isinstance(error, WrongPassword) and self._hub.lookups.on:
            self._hub.lookups.refused(self.database, self.user)
        self._hub.totals.login("refused" if not isinstance(error, WrongPassword) else "failed")
        self._client.close(reasons.get(type(error), CloseReason.LOGIN_FAILED), error)

    # -- the first packet ------------------------------------------------------------------

    @cython.cfunc
    def _first_packet(self, buffer: bytearray, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if buffer[0] == FIRST_OCTET and self._begins_with_tls(buffer, n):
            return n
        length: cython.Py_ssize_t = startup.packet_length(buffer, 0, n)
        if length == 0 or n < length:
            return 0
        raw: bytes = part(buffer, 0, length)
        wish: Wish | None = self._hub.wishes.get(raw)
        if wish is not None:
            self._start(wish)
            return length
        packet = startup.read_packet(raw)
        if isinstance(packet, startup.Startup):
            self._start(self._read(raw, packet))
            return length
        if n > length:
            raise ProtocolViolation("received unencrypted data after a request for encryption")
        if isinstance(packet, startup.SslRequest):
            self._answer_ssl()
        elif isinstance(packet, startup.GssRequest):
            self._client.send(b"N")
        else:
            self._hub.cancel_request(self._client, packet)
        return length

    def _answer_ssl(self) -> None:
        context = self._hub.client_tls.context
        if context is None or self._client.tls is not None:
            self._client.send(b"N")
            return
        self._client.send(b"S")
        self._client.tls = Tls(context)

    def _begins_with_tls(self, buffer: bytearray, n: cython.Py_ssize_t) -> bool:
        """TLS without a request for it (PostgreSQL documentation, "SSL Session Encryption")."""
        client, context = self._client, self._hub.client_tls.context
        if context is None or client.tls is not None:
            return False
        self._direct = True
        client.tls = Tls(context)
        client.tls.feed(buffer[:n])
        asyncio.get_running_loop().call_soon(client.on_readable)
        return True

    def _read(self, raw: bytes, packet: startup.Startup) -> Wish:
        """Raises LoginForbidden, FeatureRefused, OptionsRefused, ProtocolViolation."""
        given = packet.parameters
        self.user = given.get("user", "")
        self.database = given.get("database") or self.user
        forced = self._hub.forced_user(self.database)
        if self.user and forced:
            self.user = given["user"] = forced
            given["database"] = self.database
        wish = read_wish(packet, self._hub.ignored_parameters)
        if len(self._hub.wishes) >= _MAX_WISHES:
            self._hub.wishes.clear()
        self._hub.wishes[raw] = wish
        return wish

    @cython.cfunc
    def _start(self, wish: Wish) -> object:
        """Raises LoginForbidden, ShuttingDown, TooManyClients."""
        hub = self._hub
        self.wish = wish
        self.user, self.database = wish.user, wish.database
        if self._client.tls is None and hub.client_tls.insist and not self._client.local:
            raise LoginForbidden(
                "SSL required", hint="Connect with sslmode=require, or over a unix socket."
            )
        if self._direct and self._client.tls.protocol() != ALPN:
            raise ProtocolViolation(
                "received direct SSL connection request without ALPN protocol negotiation extension"
            )
        if wish.negotiation:
            self._client.send(wish.negotiation)
        hub.admit(wish.database)
        self._begin()
        return None

    # -- the way in ------------------------------------------------------------------------

    @cython.cfunc
    def _begin(self) -> object:
        hub = self._hub
        console = hub.console if self.database == CONSOLE else None
        if console is not None and console.knows(self._client, self.user):
            return self._done(Done())
        way: Way = hub.gate.single
        self._way = self._allowed() if way is None else way
        if not self._way.plain:
            self._identify(self._way)
        secret = ANYBODY if self._way.method == "any" else hub.users.secret(self.user)
        if secret is None and hub.lookups.on:
            return self._look_up()
        return self._ask(secret)

    def _allowed(self) -> Way:
        """What the rules want of this client. Raises LoginForbidden."""
        client, gate = self._client, self._hub.gate
        attempt = Attempt(
            self.database,
            self.user,
            _address(client.address),
            tls=client.tls is not None,
            replication=self.wish.physical,
        )
        way: Way | None = gate.way(attempt)
        if way is None:
            words, self.reason = gate.refusal(attempt)
            raise LoginForbidden(words, hint="Change auth_hba_file to let it in.")
        return way

    def _identify(self, way: Way) -> None:
        """Hold the client's name to who it is outside. Raises LoginForbidden."""
        name: str | None = None
        words = "unix socket login rejected"
        if way.certificate:
            name = self._certified(way)
            words = f'certificate authentication failed for user "{self.user}"'
        elif self._client.local:
            name = unix_user(self._client.fd)
        if name is None or not self._hub.gate.maps.allows(way.map, name, self.user):
            self.reason = f"it is {name} outside" if name else "who it is outside is not known"
            raise LoginForbidden(words)

    def _certified(self, way: Way) -> str | None:
        """The name in the client's certificate."""
        tls = self._client.tls
        if tls is None or not tls.certified():
            raise LoginForbidden("connection requires a valid client certificate")
        return self.user if way.certificate == "verify-ca" else tls.common_name()

    # -- a user that is not known here -----------------------------------------------------

    def _look_up(self) -> object:
        lookups = self._hub.lookups
        found = lookups.known(self.database, self.user)
        if found is not None:
            return self._ask(found.secret)
        self._step = _NOTHING
        future = lookups.find(self.database, self.user)
        future.add_done_callback(self._looked_up)
        return None

    def _looked_up(self, future: asyncio.Future[Secret | None]) -> None:
        if self._client.fd < 0 or future.cancelled():
            return
        try:
            self._ask(future.result())
        except PgfunnelError as error:
            self.refuse(error)
        except Exception:
            self.refuse(InternalError())
            raise
        else:
            self._go_on()

    def _go_on(self) -> None:
        """What came while nothing was to be said is heard now."""
        held = self._client.held
        if self._client.login is None:
            self._client.hear_early()
        elif held is not None and self._step == _PASSWORD:
            self._client.held = None
            self.feed(held, len(held))

    # -- the password ----------------------------------------------------------------------

    @cython.cfunc
    def _ask(self, secret: Secret | None) -> object:
        hub = self._hub
        conversation: Conversation = begin(
            self._way.proof,
            self.user,
            secret,
            cache=hub.keys,
            channel_binding=None if self._client.tls is None else hub.client_tls.binding,
            scram=hub.users.scram,
            random=hub.random,
        )
        self._conversation = conversation
        self._step = _PASSWORD
        if conversation.request is None:
            return self._done(Done())
        return self._client.send(messages.authentication(*conversation.request))

    @cython.cfunc
    def _password(self, buffer: bytearray, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if n < 5:
            return 0
        size: cython.Py_ssize_t = u32(buffer, 1) + 1
        if buffer[0] != ord("p"):
            if buffer[0] == ord("X"):
                self._client.close(CloseReason.CLIENT_LEFT)
                return n
            raise ProtocolViolation("expected a password message")
        if not 5 <= size <= _MAX_PASSWORD_MESSAGE:
            raise ProtocolViolation("invalid length of password message")
        if n < size:
            return 0
        self._respond(part(buffer, 5, size))
        return size

    @cython.cfunc
    def _respond(self, payload: bytes) -> object:
        conversation = self._conversation
        if conversation is None:
            raise ProtocolViolation("password message where none was asked for")
        step = conversation.respond(payload)
        if step is not None:
            self._advance(step)
        elif conversation.pending is not None:
            self._step = _NOTHING
            self._derive(conversation.pending)
        return None

    def _derive(self, request: KeyRequest) -> None:
        """Keys are derived in a thread: some milliseconds for a secret seen the first time."""
        future = asyncio.get_running_loop().run_in_executor(None, request.derive)
        future.add_done_callback(self._derived)

    def _derived(self, future: asyncio.Future[ScramKeys]) -> None:
        if self._client.fd < 0 or self._conversation is None or future.cancelled():
            return
        self._step = _PASSWORD
        try:
            self._advance(self._conversation.supply(future.result()))
        except PgfunnelError as error:
            self.refuse(error)
        else:
            self._client.hear_early()

    @cython.cfunc
    def _advance(self, step: object) -> object:
        if isinstance(step, Done):
            return self._done(step)
        assert isinstance(step, Next)
        return self._client.send(messages.authentication(*step.request))

    @cython.cfunc
    def _done(self, done: Done) -> object:
        said = b"" if done.request is None else messages.authentication(*done.request)
        self._conversation = None
        self._hub.users.reveal(self.database, self.user, done.password, done.keys)
        self._step = _GREETED
        self.said = said + _AUTHENTICATION_OK
        return self._hub.logged_in(self._client, self)

    @cython.cfunc
    def _too_early(self, n: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """A client that speaks before it was greeted is heard afterwards."""
        if n > _MAX_PASSWORD_MESSAGE:
            raise ProtocolViolation("more was sent before the login was done")
        return 0


def _address(peer: object) -> Address | None:
    """An IPv6 address may come with its interface (RFC 4007, section 11)."""
    return ip_address(peer[0].partition("%")[0]) if isinstance(peer, tuple) else None
