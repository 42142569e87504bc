"""A pool with all that is needed to fill it, and what its clients are greeted with."""

from __future__ import annotations

from collections import Counter

import cython

from proxy.conditions import TEMP
from proxy.errors import PgfunnelError
from proxy.pool.backoff import Backoff
from proxy.pool.bound import Bound
from proxy.pool.pool import PoolSize
from proxy.relay.connect import Address
from proxy.session.catalog import UNSEEN, Catalog, Look, look
from proxy.session.parameters import NONE, OF_TRANSACTIONS, READ_ONLY, Parameters, canonical
from proxy.session.policy import Policy
from proxy.session.prepared import new_generation
from proxy.settings.databases import Limits, Target
from proxy.telemetry.counters import PoolCounters
from proxy.wire import messages

if cython.compiled:
    from cython.cimports.proxy.pool.pool import Pool
    from cython.cimports.proxy.relay.clock import now
    from cython.cimports.proxy.session.routines import Routines
else:
    from proxy.pool.pool import Pool
    from proxy.relay.clock import now
    from proxy.session.routines import Routines

    NOT_NOW, DUE, NEEDED = range(3)

_MAX_GREETINGS = 1000
MOST_CANCELLED = 3
"""So often is asked again what a cancel request has hit that was meant for a client's statement in
front of it. A time limit would end it each time."""


Greeting = tuple[Parameters, bytes, dict[str, str]]
"""What parameters come to, the ParameterStatus messages that say so, and what of them is as by
default."""


@cython.cclass
class Database(Pool):
    """A pool with all that is needed to fill it.

    `check_delay`: a server that was idle for as many seconds is checked before it is lent;
    `greetings`: for the parameters that clients asked for, what they are told;
    `resets`: server_reset_query runs in any pool mode;
    `once`: a server that a client has had is closed;
    `replicates`: replication connections were asked for;
    `generation`: see `proxy.session.prepared`; `routines`: the database's own functions and the
    like that change sessions, None where there are none; `looks`: whether a server that is given
    back is to be asked for them, which may be DUE, or, since they may have changed, NEEDED;
    `changes`: how often they may have; `seen`: how often they had when they were looked at last;
    `age`: how often what sessions begin with was found to be something else;
    `watches`: what is asked about at every boundary, since no statement need show it;
    `date_style`: DateStyle as it is but for ALTER DATABASE and ALTER ROLE, None where nobody knows
    (or nobody needs to), empty where Postgres does not tell;
    `certain`: what brings a server to a client's parameters has not failed where it cannot, so
    that it need not be waited for.
    """

    target: Target
    limits: Limits
    address: Address
    failure: PgfunnelError
    defaults: dict[bytes, bytes]
    greetings: dict[Parameters, Greeting]
    policy: Policy
    reported: frozenset[str]
    catalog: Catalog
    date_style: str | None
    routines: Routines

    def __init__(
        self,
        target: Target,
        limits: Limits,
        address: Address,
        login_user: str,
        size: PoolSize,
        bounds: tuple[Bound, ...],
        backoff: Backoff,
        check_delay: float,
    ) -> None:
        Pool.__init__(self, target.database, login_user, size, bounds, backoff, PoolCounters())
        self.check_delay = check_delay
        self.target = target
        self.address = address
        self.failure = None
        self.defaults = {}
        self.greetings = {}
        self.reported = frozenset()
        self.careful = False
        self.resets = self.replicates = False
        self.generation = new_generation()
        self.audit_debt = 0.0
        self.catalog = UNSEEN
        self.date_style = None
        self.routines = None
        self.watches = 0
        self.changes = self.seen = self.age = 0
        self.looked_at = self.changed_at = 0.0
        self.cancelled = 0
        self.follow(limits)

    def follow(self, limits: Limits) -> None:
        """What holds from now on."""
        self.limits = limits
        self.once = limits.server_lifetime == 0
        self.policy = Policy.of(limits.session_policy)
        self.audit_share = limits.session_audit
        self.certain = self.catalog.sets
        if limits.session_catalog_interval <= 0:
            self.looks = NOT_NOW
        elif self.catalog is UNSEEN:
            self.looks = NEEDED

    @cython.ccall
    def audit_due(self) -> cython.bint:
        """Whether the server that is given back now is of the share to be audited."""
        self.audit_debt += self.audit_share
        if self.audit_debt < 1.0:
            return False
        self.audit_debt -= 1.0
        return True

    @cython.ccall
    def routines_changed(self) -> object:
        """DDL ran that may make a function, trigger or view change sessions."""
        if self.limits.session_catalog_interval > 0:
            self.looks = NEEDED
            self.changes += 1
            self.changed_at = now()
        return None

    @cython.ccall
    def look_again(self, moment: cython.double) -> object:
        """Have the catalogs looked at once more when it is time."""
        interval: cython.double = self.limits.session_catalog_interval
        if interval <= 0:
            self.looks = NOT_NOW
        elif self.looks == NOT_NOW and moment - self.looked_at >= interval:
            self.looks = DUE
        return None

    def sets_no_more(self) -> None:
        """Postgres has refused to set a parameter, until a look says that it would."""
        self.certain = False
        self.routines_changed()

    def begin_look(self, opened_at: float) -> Look:
        """A server that was opened then looks now (see `proxy.session.catalog`)."""
        elder = opened_at <= max(self.looked_at, self.changed_at)
        self.looked_at = now()
        if self.looks == DUE:
            self.looks = NOT_NOW
        return look(self.catalog, elder=elder)

    def may_look_again(self) -> bool:
        """A look was cancelled."""
        self.cancelled += 1
        return self.cancelled <= MOST_CANCELLED

    def end_look(self, changes: int, found: Catalog) -> None:
        """What was found, as of so many `changes`; somebody may have looked since and be done."""
        self.cancelled = 0
        if changes < self.seen:
            return
        if changes == self.changes:
            self.looks = NOT_NOW
        self.seen = changes
        self.catalog, self.routines = found, found.routines
        self.watches = TEMP if found.temporary else 0
        self.certain = found.sets

    def ages(self) -> None:
        """Sessions begin otherwise now: who logs in is told when a new server has come."""
        self.age += 1
        self.greetings.clear()
        self.date_style = None

    def lacks_date_style(self) -> bool:
        """Whether a login is to tell `date_style`: clients' startup values build on it."""
        return self.date_style is None and "datestyle" in self.catalog.begins

    def learn_defaults(self, reported: dict[bytes, bytes]) -> None:
        """A server has told what parameters are without anybody's doing."""
        if reported == self.defaults:
            return
        if self.defaults:
            self.routines_changed()  # maybe by ALTER ROLE
        self.defaults = reported
        self.reported = frozenset(name.decode().lower() for name in reported)
        self.greetings = {NONE: (NONE, greeting(reported), {})}

    def learn(
        self,
        asked: Parameters,
        reported: dict[bytes, bytes],
        rows: list[list[bytes | None]],
    ) -> Parameters:
        """A server set as `asked` reports these values; setting them returned these `rows`.

        Returns what it is set to. To be as sessions are anyway costs nobody anything.
        """
        if len(self.greetings) >= _MAX_GREETINGS:
            self.learn_defaults(dict(self.defaults))
        values = canonical(asked, rows[-1]) if rows else dict(asked.values)
        for passing in OF_TRANSACTIONS:
            values.pop(passing, None)
        by_default: dict[str, str] = {}
        for name, value in reported.items():
            key = name.decode().lower()
            if key in READ_ONLY or key not in values:
                continue
            values[key] = value.decode("utf-8", "replace")
            if self.defaults.get(name) == value:
                by_default[key] = values[key]
        own = {name: value for name, value in values.items() if name not in by_default}
        self.greetings[asked] = (Parameters.of(own), greeting(reported), by_default)
        return Parameters.of(values)

    def servers_by_state(self) -> Counter[str]:
        """How many servers are in which state."""
        return Counter([server.state for server in self.servers])


def greeting(reported: dict[bytes, bytes]) -> bytes:
    """ParameterStatus messages; application_name is the client's own and told apart."""
    return b"".join(
        messages.parameter_status(name, value)
        for name, value in reported.items()
        if name != b"application_name"
    )
