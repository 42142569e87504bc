"""What counts wherever it stands in a text: functions, and the schema of temporary objects.

A function is one wherever an opening parenthesis follows its name.
"""

from __future__ import annotations

import re

import cython

from proxy.conditions import ADVISORY, COMPUTED, LOAD, SEED, SEQUENCES, SERVER_STATE, TEMP
from proxy.session.findings import UNLOCK_ALL
from proxy.session.glance import BEGINNERS, LOCKS, RUNNERS, SLOT_MAKERS, UNLOCKS
from proxy.session.parameters import IDENTITY, UNTOLD

if cython.compiled:
    from cython.cimports.proxy.session.findings import Findings
    from cython.cimports.proxy.session.tokens import Arguments, Statements, Tokens
    from cython.cimports.proxy.session.words import Words, lowered
else:
    from proxy.session.findings import Findings
    from proxy.session.tokens import Arguments, Statements, Tokens
    from proxy.session.words import Words, lowered

# More than so many words that may matter are not read: the text may then do anything.
MANY = 1000
# Words as arguments.
_NULL, _TRUE, _FALSE = "null", "true", "false"
_TRUTHS = frozenset([b"t", b"true", b"y", b"yes", b"on", b"1"])
_UNTRUTHS = (b"f", b"false", b"n", b"no", b"off", b"0", _FALSE, _NULL)
_BEGINNERS = tuple(name.encode() for name in (*BEGINNERS, *SLOT_MAKERS))
_WHOLE_NAME = rb"[a-z_][\w$]*(?:\.[a-z_][\w$]*)*"
_NO_NAME = rb"(?:constraints|names|role|schema|session|time|transaction|xml)\b"
_MAKES = re.compile(rb"\bcreate\s+(?!(?:(?:local|global)\s+)?temp|index)", re.IGNORECASE)
_MAKES_TEMPORARY = re.compile(
    rb"\b(?:create|into)\s+(?:or\s+replace\s+)?(?:(?:local|global)\s+)?temp", re.IGNORECASE
)
# Of conditions outside of ANYTHING: how they look in what is not read, behind what is in it then,
# which is found faster.
_HINTS = (
    (LOAD, (b"load",), re.compile(rb"\bload\s+'", re.IGNORECASE)),
    (SEED, (b"seed",), re.compile(rb"\b(?:set)?seed\b", re.IGNORECASE)),
    (SEQUENCES, (b"currval", b"lastval"), re.compile(rb"\b(?:curr|last)val\b", re.IGNORECASE)),
    (
        SERVER_STATE,
        _BEGINNERS,
        re.compile(rb"\b(?:%s)\b" % b"|".join(_BEGINNERS), re.IGNORECASE),
    ),
    # A string that begins with SET, or has one behind a semicolon, but no whole name behind that.
    (
        COMPUTED,
        (b"set",),
        re.compile(
            rb"['$;]\s*set\s(?!\s*(?:local\b|(?:session\s+)?(?:%s\s*(?:=|to\b)|%s)))"
            % (_WHOLE_NAME, _NO_NAME),
            re.IGNORECASE,
        ),
    ),
    # set_config with a name that is no constant and a third argument that is not true.
    (
        COMPUTED,
        (b"set_config",),
        re.compile(
            rb"\bset_config\s*\((?!\s*'+%s'+\s*,)(?![^()]*,\s*'*(?:true|t|on|yes|1)'*\s*\))"
            % _WHOLE_NAME,
            re.IGNORECASE,
        ),
    ),
)


@cython.cclass
class Calls:
    """What is found at one token after another goes to `found`.

    `resets`: so many statements do nothing but put something back in full. `left`: so many more
    tokens are looked at; `drops`: the statement's temporary table goes at commit; `paths`:
    search_path may change; `hinted`: all of the text was searched for hints; `updated`: where the
    first UPDATE in it ends, `temporarily`: whether it says so anywhere; -1 as long as nobody asked.
    """

    tokens: Statements
    found: Findings
    arguments: Arguments

    def begin(self, tokens: Statements, found: Findings) -> None:
        self.tokens = tokens
        self.found = found
        self.resets = 0
        self.left = MANY
        self.updated = -1
        self.temporarily = -1
        self.drops = self.paths = self.hinted = False
        self.arguments = None

    def notice(self) -> None:
        """The token is a name that may matter, or stands behind a command's first words."""
        tokens = self.tokens
        self.left -= 1
        if self.left <= 0:
            return
        if not tokens.plain():
            self.notice_name(tokens.name())
            return
        call = tokens.of(_CALLS)
        if call is not None:
            if tokens.called():
                call(self)
            return
        word = tokens.of(_WORDS)
        if word is not None:
            word(self)
        elif tokens.begins(b"pg_temp"):
            self.found.create_temporary(True)

    def notice_name(self, name: str | None) -> None:
        """One in quotes; None: it is no name at all."""
        if name is None:
            return
        call = _CALLS.table.get(name)
        if call is not None:
            if self.tokens.called():
                call(self)
        elif name == "pg_settings":
            self.settings()
        elif name == "pg_temp" or name.startswith("pg_temp_"):
            self.found.create_temporary(True)

    def temporary(self) -> None:
        if self.creates():
            self.found.create_temporary(not self.drops)

    def creates(self) -> cython.bint:
        """CREATE TEMP, CREATE OR REPLACE TEMP, SELECT INTO TEMP; not INSERT INTO temp."""
        tokens = self.tokens
        if tokens.before(b"local") or tokens.before(b"global"):
            return (
                tokens.earlier(b"create") or tokens.earlier(b"replace") or tokens.earlier(b"into")
            )
        if tokens.before(b"into"):
            return not (tokens.earlier(b"insert") or tokens.earlier(b"merge"))
        return tokens.before(b"create") or tokens.before(b"replace")

    def into(self) -> None:
        """SELECT INTO, which makes a table; in PL/pgSQL it sets variables."""
        tokens = self.tokens
        if not (tokens.body or tokens.before(b"insert") or tokens.before(b"merge")):
            self.found.create()

    def execute_word(self) -> None:
        """In PL/pgSQL, EXECUTE runs a string."""
        if self.tokens.body:
            self.unreadable()

    def unreadable(self) -> None:
        """Dynamic SQL, or too much of it all."""
        if self.hinted:
            return
        self.hinted = True
        self.found.anything()
        text: bytes = self.tokens.raw.lower()
        if b"create" in text and _MAKES.search(text):
            self.found.create()
        if b"temp" in text and _MAKES_TEMPORARY.search(text):
            self.found.create_temporary(True)
        for condition, words, hint in _HINTS:
            for word in words:
                if word in text:
                    if hint.search(text):
                        self.found.make(condition)
                    break

    def put_back(self, what: cython.int) -> None:
        """This is put back in full; where the statement ends here, nothing else is done."""
        self.found.put_back(what)
        self.resets += self.tokens.ends()

    def settings(self) -> None:
        """UPDATE pg_settings: a rule makes it set_config."""
        if self.updated < 0:
            found = self.tokens.raw.lower().find(b"update")
            self.updated = len(self.tokens.raw) if found < 0 else found + len(b"update")
        if self.updated <= self.tokens.start:
            self.leads(None)
            self.found.unknown()

    def call_lock(self) -> None:
        self.found.make(ADVISORY)

    def call_unlock(self) -> None:
        self.found.clear(ADVISORY)

    def call_unlock_all(self) -> None:
        tokens = self.tokens
        self.found.clear(ADVISORY)
        self.found.put_back(UNLOCK_ALL)
        if self.selected():
            call: Tokens = tokens.ahead()
            call.advance()
            call.advance()
            self.resets += call.says(b")") and call.ends()

    def selected(self) -> cython.bint:
        """Whether SELECT is all that stands in front of the function's name, and its schema."""
        tokens = self.tokens
        if not (tokens.plain() and tokens.opened(b"select")):
            return False
        if tokens.place == 3:
            return tokens.earlier(b"pg_catalog") and tokens.before(b".")
        return tokens.place == 1

    def call_sequence(self) -> None:
        self.found.make(SEQUENCES)

    def call_seed(self) -> None:
        self.found.make(SEED)

    def call_runner(self) -> None:
        self.unreadable()

    def call_beginner(self) -> None:
        self.found.make(SERVER_STATE)

    def its_arguments(self) -> Arguments:
        """The arguments of the function whose name this is; good until the next call."""
        if self.arguments is None:
            self.arguments = Arguments.__new__(Arguments)
        self.arguments.behind(self.tokens)
        return self.arguments

    def call_slot_maker(self) -> None:
        """The third argument says whether the slot is temporary, or one that is named so."""
        call = self.its_arguments()
        for _ in range(3):
            third = call.next(_CONSTANTS)
        if call.many == 3:
            temporary = third is None or third not in _UNTRUTHS
        else:
            if self.temporarily < 0:
                self.temporarily = b"temporary" in self.tokens.raw.lower()
            temporary = self.temporarily > 0
        if temporary:
            self.found.make(SERVER_STATE)

    def call_set_limit(self) -> None:
        """Of pg_trgm."""
        self.found.change("pg_trgm.similarity_threshold", True, False)

    def leads(self, name: str | None) -> None:
        """This parameter is set, None for any."""
        self.paths = self.paths or name is None or name == "search_path"

    def temporary_path(self) -> None:
        """Where search_path begins with pg_temp, in a constant too, tables are temporary."""
        if self.paths and self.tokens.names_temporary():
            self.found.make(TEMP)

    def call_set_config(self) -> None:
        call = self.its_arguments()
        name = call.next(_CONSTANTS)
        parameter: str | None = lowered(name, 0, len(name)) if isinstance(name, bytes) else None
        self.leads(parameter)
        computed: cython.bint = parameter is None and not call.bound
        value = call.next(_CONSTANTS)
        local = call.next(_CONSTANTS)
        if call.done and call.simple and not self.tokens.body:
            self.tokens.jump(call)
        whole: cython.bint = call.done and call.many == 3
        if whole and (local is _TRUE or (isinstance(local, bytes) and local in _TRUTHS)):
            if parameter is not None:
                resets: cython.bint = not isinstance(value, bytes)
                self.set_locally(parameter, value is not _NULL, resets)
            return
        if computed:
            self.found.make(COMPUTED)
        if not whole or parameter is None:
            self.found.unknown()
            return
        self.found.change(parameter, value is not _NULL, not isinstance(value, bytes))

    def set_locally(self, name: str, sets: cython.bint, resets: cython.bint) -> None:
        """The parameter may be set for its transaction, or put back to its default.

        Nobody tells what texts are read under meanwhile. What is not certain of a parameter of an
        application's own, nobody tells either: its default is a value, too.
        """
        if name in UNTOLD:
            self.found.change(name, True, False)
        else:
            self.found.leave(name)
        if resets and not (sets and (name in IDENTITY or "." in name)):
            self.found.lead_back(name)


_WORDS = Words(
    {
        "execute": Calls.execute_word,
        "into": Calls.into,
        "pg_settings": Calls.settings,
        "temp": Calls.temporary,
        "temporary": Calls.temporary,
    }
)
_CALLS = Words(
    {
        "currval": Calls.call_sequence,
        "lastval": Calls.call_sequence,
        "set_config": Calls.call_set_config,
        "set_limit": Calls.call_set_limit,
        "setseed": Calls.call_seed,
        **dict.fromkeys(BEGINNERS, Calls.call_beginner),
        **dict.fromkeys(LOCKS, Calls.call_lock),
        **dict.fromkeys(RUNNERS, Calls.call_runner),
        **dict.fromkeys(SLOT_MAKERS, Calls.call_slot_maker),
        **dict.fromkeys(UNLOCKS, Calls.call_unlock),
        "pg_advisory_unlock_all": Calls.call_unlock_all,
    }
)
_CONSTANTS = Words({word: word for word in (_NULL, _TRUE, _FALSE)})
