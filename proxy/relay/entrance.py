"""Where clients come and go: who may begin to log in, how it is greeted, what is noted of it.

A login (`proxy.relay.login`) asks here for all that is not its own; a client is found here by its
cancel key. Compiled, since a login costs as much as many transactions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import cython

from proxy.auth.gate import Gate
from proxy.auth.keys import KeyCache
from proxy.auth.randomness import Randomness
from proxy.errors import (
    DatabaseDisabled,
    LoginTimeout,
    NoSuchDatabase,
    PgfunnelError,
    ShuttingDown,
    TooManyClients,
)
from proxy.relay.database import Greeting
from proxy.relay.lookups import Lookups
from proxy.relay.peers import KEY_SIZE, as_told, marked
from proxy.relay.standing import CONSOLE
from proxy.relay.tls import TlsPolicy
from proxy.relay.users import Users
from proxy.relay.watch import Watch, watch_on
from proxy.relay.wish import clean_name
from proxy.session.parameters import Parameters
from proxy.settings import Settings
from proxy.telemetry.counters import Totals
from proxy.telemetry.logs import log_event
from proxy.telemetry.reasons import CloseReason, Side
from proxy.wire import messages
from proxy.wire.startup import Cancel

if cython.compiled:
    from cython.cimports.proxy.relay.client import Client
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.relay.database import NEEDED, Database
    from cython.cimports.proxy.relay.fitting import SESSION, STATEMENT, TRANSACTION
    from cython.cimports.proxy.relay.login import Login
    from cython.cimports.proxy.relay.wish import Wish
    from cython.cimports.proxy.session.session import Session
    from cython.cimports.proxy.telemetry.logs import log_closed, log_opened
else:
    from proxy.relay.client import Client
    from proxy.relay.clock import now
    from proxy.relay.database import NEEDED, Database
    from proxy.relay.fitting import SESSION, STATEMENT, TRANSACTION
    from proxy.relay.login import Login
    from proxy.relay.wish import Wish
    from proxy.session.session import Session
    from proxy.telemetry.logs import log_closed, log_opened

if TYPE_CHECKING:
    from proxy.relay.funnel import Funnel

log = logging.getLogger("pgfunnel")

_STALLED_LOGIN: cython.double = 5.0
"""Seconds after which a peer in mid-login may have to make room for another."""

_MODES = {"transaction": TRANSACTION, "session": SESSION, "statement": STATEMENT}


@cython.cclass
class Place:
    """Where clients with one wish are served, and how they were greeted last.

    `most`: clients that the database and the user may have, 0 is no limit; `recalls`: their last
    statements are to be known.
    `known`: the pool's entry from which `parameters` and `greeting` were made.
    """

    pool: Database
    mode: cython.int
    recalls: cython.bint
    known: Greeting | None
    parameters: Parameters | None
    greeting: bytes
    most: tuple[int, int]

    def __init__(self, pool: Database) -> None:
        self.pool = pool
        self.mode = _MODES[pool.limits.pool_mode]
        self.recalls = False
        self.known = None
        self.parameters = None
        self.greeting = b""
        self.most = (0, 0)


@cython.cclass
class Entrance:
    """`clients` are those that have logged in, `logging_in` the others and since when.

    `console`: lets operators in (`proxy.admin.console`), None where there is none; `at_console`:
    the operators, who are no clients and count in no bound of theirs.
    """

    _funnel: Any
    _watch: Any
    settings: Settings
    gate: Gate
    lookups: Lookups
    client_tls: TlsPolicy
    users: Users
    ignored_parameters: set[str]
    keys: KeyCache
    random: Any
    totals: Totals
    wishes: dict[bytes, Wish]
    _places: dict[Wish, Place]
    clients: set[Client]
    logging_in: dict[Client, float]
    console: Any
    at_console: set[Client]
    _by_key: dict[bytes, Client]
    _peer_id: cython.int
    _most_logging_in: cython.Py_ssize_t
    _most_clients: cython.Py_ssize_t
    _add_host: bool
    _log_opened: bool
    _log_closed: bool
    _log_refusals: bool
    _extended_only: bool
    _ready: bytes

    def __init__(self, funnel: Funnel) -> None:
        self._funnel = funnel
        self._watch = watch_on(funnel.loop)
        self.totals = funnel.totals
        self.keys = KeyCache()
        self.lookups = Lookups(funnel)
        self.random = Randomness().take
        self.clients = set()
        self.logging_in = {}
        self.console = None
        self.at_console = set()
        self._by_key = {}

    def use(self, settings: Settings, gate: Gate, client_tls: TlsPolicy, users: Users) -> None:
        """Follow these settings from now on."""
        self.settings = settings
        self.gate = gate
        self.lookups.use()
        self.client_tls = client_tls
        self.users = users
        self.ignored_parameters = {name.lower() for name in settings.ignore_startup_parameters}
        self.wishes = {}
        self._places = {}
        self._most_logging_in = settings.max_unauthenticated
        self._most_clients = settings.max_client_conn
        self._peer_id = settings.peer_id
        self._add_host = settings.application_name_add_host
        self._log_opened = settings.log_connections
        self._log_closed = settings.log_disconnections
        self._log_refusals = settings.log_pooler_errors
        self._extended_only = settings.disable_pqexec
        self._ready = _notice(settings.login_notify_message) + messages.READY_IDLE

    @property
    def sees_ends(self) -> bool:
        """Whether the end of a client's connection is told however it comes."""
        return isinstance(self._watch, Watch)

    # -- clients come ----------------------------------------------------------------------

    @cython.ccall
    def has_room(self) -> cython.bint:
        """Whether another peer may begin to log in; a stalled one makes room for it."""
        if len(self.logging_in) < self._most_logging_in:
            return True
        oldest, since = next(iter(self.logging_in.items()))
        if now() - since < _STALLED_LOGIN:
            return False
        self._took_too_long(oldest)
        return True

    @cython.ccall
    def accepted(self, fd: cython.int, peer: object, number: cython.longlong) -> object:
        client: Client = Client(self._watch, fd, self._funnel, number)
        client.address = peer
        client.login = Login(client, self)
        self.logging_in[client] = now()
        return client.watch()

    @cython.ccall
    def admit(self, database: str) -> object:
        """Raises ShuttingDown, TooManyClients; operators may come in all the same."""
        if self.console is not None and database == CONSOLE:
            return None
        if self._funnel.draining:
            raise ShuttingDown("pooler is shutting down")
        limit = self._most_clients
        if len(self.clients) >= limit:
            hint = f"Retry with backoff, or raise max_client_conn, which is {limit}."
            raise TooManyClients("no more connections allowed (max_client_conn)", hint=hint)
        return None

    def forced_user(self, database: str) -> str | None:
        """Who all clients of `database` are, where the names that they give mean nothing."""
        if self.settings.auth_type != "any":
            return None
        target = self.settings.target(database)
        return None if target is None else target.user

    def check_logins(self, moment: cython.double) -> None:
        """End the logins that took longer than client_login_timeout."""
        timeout = self.settings.client_login_timeout
        while timeout and self.logging_in:
            client, since = next(iter(self.logging_in.items()))
            if moment - since < timeout:
                return
            self._took_too_long(client)

    def _took_too_long(self, client: Client) -> None:
        self.totals.login("timeout")
        timeout = self.settings.client_login_timeout
        error = LoginTimeout("client_login_timeout", hint=f"A login may take {timeout:g} s.")
        client.close(CloseReason.LOGIN_TIMEOUT, error)

    def close(self) -> None:
        """All clients are gone."""
        if self.sees_ends:
            self._watch.close()

    # -- the greeting ----------------------------------------------------------------------

    @cython.ccall
    def logged_in(self, client: Client, login: Login) -> object:
        """The client is who it says it is.

        Raises NoSuchDatabase, DatabaseDisabled, ConsoleForbidden, TooManyClients.
        """
        wish: Wish = login.wish
        if self.console is not None and wish.database == CONSOLE:
            return self.console.enter(client, login)
        if wish.database in self._funnel.standing.disabled:
            raise DatabaseDisabled(f'database "{wish.database}" is disabled')
        place: Place = self._places.get(wish)
        if place is None:
            place = self._place_of(wish)
        self._funnel.quota.enter(client, place.pool.database, wish.user, place.most)
        client.pool = place.pool
        client.mode = place.mode
        client.recalls = place.recalls
        client.keeps = place.mode == SESSION
        client.blockless = place.mode == STATEMENT
        if self._extended_only:
            client.simple = -1
        if wish.replication:
            return self._funnel.replicate(client)
        if wish.parameters in place.pool.greetings and place.pool.looks != NEEDED:
            return self._greet(client, login, place)
        client.session = Session(wish.parameters, place.pool.defaults)
        return client.be_greeted()

    def seat(self, client: Client, desk: object, said: bytes) -> None:
        """An operator goes to the console: `desk` takes what it says from now on."""
        login: Login = client.login
        self.logging_in.pop(client, None)
        self.at_console.add(client)
        client.login = desk
        self.totals.login("ok")
        if self._log_opened:
            _log_login(client, login.wish)
        client.send(said + self._new_key(client) + self._ready)

    @cython.cfunc
    def _place_of(self, wish: Wish) -> Place:
        pool = self._funnel.pool_for(wish.database, wish.user)
        if pool is None and wish.replication:
            pool = self._funnel.pool_for_all_databases(wish)
        if pool is None:
            raise NoSuchDatabase(f"no such database: {wish.database}")
        place = self._places[wish] = Place(pool)
        place.most = self.settings.max_clients(pool.target, wish.user)
        place.recalls = self.settings.times(pool.target, wish.user).idle_transaction > 0
        return place

    def forget(self, pool: Database) -> None:
        """The pool is no more."""
        place: Place
        for wish, place in list(self._places.items()):
            if place.pool is pool:
                del self._places[wish]

    @cython.ccall
    def greet(self, client: Client) -> object:
        """The client's first server is set as it wants: tell it how that looks."""
        login: Login = client.login
        wish: Wish = login.wish
        pool: Database = client.pool
        server = client.server
        server.parameters = pool.learn(wish.parameters, server.reported, server.rows or [])
        server.rows = None
        place: Place = self._places.get(wish)
        # A reload has come in between.
        return self._greet(client, login, Place(pool) if place is None else place)

    def greet_waiting(self, pool: Database) -> None:
        """Those who wait for a server to be greeted, and can be without one by now."""
        for client in [*pool.waiters] if pool.looks != NEEDED else ():
            login = client.login
            if client.greeting and login.wish.parameters in pool.greetings:
                pool.waiters.remove(client)
                client.need_not_wait()
                self._greet(client, login, self._places.get(login.wish) or Place(pool))
                client.hear_early()

    @cython.cfunc
    def _greet(self, client: Client, login: Login, place: Place) -> object:
        pool: Database = client.pool
        known = pool.greetings[login.wish.parameters]
        if place.known is not known:
            _spell_out(place, pool, known, login.wish.name)
        client.session = Session(place.parameters, pool.defaults)
        client.session.by_default = known[2]
        client.session.path = pool.catalog.path
        greeting = place.greeting
        if self._add_host:
            named = messages.parameter_status(b"application_name", self._name(client, login))
            greeting += named
        client.login = None
        return self.welcome(client, login.wish, login.said + greeting)

    @cython.ccall
    def welcome(self, client: Client, wish: Wish, said: bytes) -> object:
        """The client is one of us; what it is told ends with its key for cancel requests."""
        pool: Database = client.pool
        self.logging_in.pop(client, None)
        self.clients.add(client)
        pool.clients += 1
        key = self._new_key(client)
        self.totals.login("ok")
        client.user = wish.user
        if self._log_opened:
            _log_login(client, wish)
        return client.send(said + key + self._ready)

    def _name(self, client: Client, login: Login) -> bytes:
        """Give the session the application_name with the client's address; the name."""
        name = clean_name(f"{login.wish.name or 'app'} - {_address(client)}")
        session: Session = client.session
        session.follow(session.parameters.with_value("application_name", name))
        session.startup = session.parameters
        return name.encode()

    @cython.cfunc
    def _new_key(self, client: Client) -> bytes:
        """BackendKeyData with a random key of our own, for cancel requests."""
        key: bytes = b""
        while not any(key[:4]) or key in self._by_key:
            key = marked(self.random(KEY_SIZE), self._peer_id)
        client.key = key
        self._by_key[key] = client
        return messages.backend_key_data(key)

    def cancel_request(self, asking: Client, request: Cancel) -> None:
        """`asking` came to cancel what the client with this key runs."""
        client = self._by_key.get(as_told(request.key))
        if client is None:
            self._funnel.cancel_requests.cancel_elsewhere(request.key, asking)
        else:
            self._funnel.cancel_requests.cancel_for(client, asking)

    # -- clients go ------------------------------------------------------------------------

    @cython.ccall
    def gone(self, client: Client, reason: CloseReason, error: object) -> object:
        """Account for a client that is being closed."""
        self.logging_in.pop(client, None)
        if client in self.clients:
            self.clients.remove(client)
            client.pool.clients -= 1
            del self._by_key[client.key]
        elif client in self.at_console:
            self.at_console.remove(client)
            del self._by_key[client.key]
        self.totals.close(Side.CLIENT, reason)
        if isinstance(error, PgfunnelError):
            self.totals.refusal(error.sqlstate)
            if reason is not CloseReason.SHUTTING_DOWN:
                self.log_refused(client, error)
        if self._log_closed:
            database, user, peer = who(client)
            age = now() - client.opened_at
            told: str = error.message if isinstance(error, PgfunnelError) else ""
            log_closed(log, Side.CLIENT, client.number, reason, database, user, peer, age, told)
        return None

    @cython.ccall
    def log_refused(self, client: Client, error: Any) -> object:
        """The client, or an operator, is told this error of ours."""
        if not self._log_refusals:
            return None
        database, user, peer = who(client)
        log_event(
            log,
            logging.WARNING,
            "refused",
            id=f"C-{client.number:#x}",
            database=database,
            user=user,
            peer=peer,
            sqlstate=error.sqlstate,
            error=error.message,
            why=client.login.reason if isinstance(client.login, Login) else "",
        )
        return None


def _spell_out(place: Place, pool: Database, known: Greeting, name: str | None) -> None:
    """Put together what clients with this wish are told of their parameters."""
    parameters, told, _ = known
    own_name = pool.defaults.get(b"application_name", b"") if name is None else name.encode()
    place.known = known
    place.greeting = told + messages.parameter_status(b"application_name", own_name)
    place.parameters = parameters.with_value("application_name", name) if name else parameters


def _notice(words: str) -> bytes:
    return messages.notice(words) if words else b""


def _log_login(client: Client, wish: Wish) -> None:
    database, user, peer = who(client)
    tls = "no" if client.tls is None else client.tls.spoken()
    log_opened(log, client.number, database, user, peer, tls, wish.kind)


def who(client: Client) -> tuple[str, str, str]:
    """Database, user, address."""
    login: Any = client.login  # a Login, or whoever takes what the client says: Replica, Desk
    pool: Database | None = client.pool
    address = _address(client)
    if pool is not None:
        return pool.database, client.user or (login.user if login else ""), address
    return (login.database, login.user, address) if login else ("", client.user, address)


def _address(client: Client) -> str:
    peer = client.address
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
