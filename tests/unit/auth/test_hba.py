"""HBA rules and ident maps: what is understood, who is let in, and what is refused in words."""

from __future__ import annotations

import ipaddress
import re

import pytest

from proxy.auth.hba import Attempt, Rule, decide, parse_hba
from proxy.auth.ident import parse_ident
from proxy.errors import SettingsError

FILES = {
    "names": "app,  other\n# nobody\nthird@names2",
    "users": "alice, @more\n",
    "more": '"all" bob',
    "loop": "@loop",
    "open": '"never closed',
}


def read(name: str) -> str:
    try:
        return FILES[name]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory", name) from None


def rules(text: str) -> tuple[Rule, ...]:
    return parse_hba(text, "hba", read)


def attempt(
    address: str | None = "10.0.0.7", database: str = "app", user: str = "alice", **more: bool
) -> Attempt:
    parsed = ipaddress.ip_address(address) if address else None
    return Attempt(database, user, parsed, **more)


def method(text: str, client: Attempt) -> str:
    rule = decide(rules(text), client)
    return rule.method if rule else "nothing"


RULES = r"""
# TYPE  DATABASE   USER        ADDRESS            METHOD
local   all        all                            peer map=people
host    all        "all"       0.0.0.0/0          reject   # a user of that name
hostssl app,other  alice, bob  10.0.0.0/8         cert
hostnossl sameuser all         10.1.0.0 255.255.0.0 md5
host    "sameuser" all         all                plain
host    replication all        10.0.0.0/8         trust
host    all        all         ::1/128 \
        scram-sha-256
"""


@pytest.mark.parametrize(
    "client, wanted",
    [
        (attempt(None), "peer"),
        (attempt(user="all"), "reject"),
        (attempt(tls=True), "cert"),
        (attempt(user="bob", database="other", tls=True), "cert"),
        (attempt(user="bob", database="third", tls=True), "nothing"),
        (attempt(tls=False), "nothing"),
        (attempt("10.1.2.3", "bob", "bob"), "md5"),
        (attempt("10.1.2.3", "bob", "alice"), "nothing"),
        (attempt("10.2.2.3", "bob", "bob"), "nothing"),
        (attempt("::ffff:10.1.2.3", "bob", "bob"), "md5"),
        (attempt("2001:db8::1", "sameuser", "bob"), "password"),
        (attempt(replication=True, database="alice"), "trust"),
        (attempt("11.0.0.1", replication=True), "nothing"),
        (attempt(database="replication"), "nothing"),
        (attempt("::1"), "scram-sha-256"),
        (attempt("::2"), "nothing"),
    ],
)
def test_the_first_rule_that_fits_decides(client: Attempt, wanted: str) -> None:
    assert method(RULES, client) == wanted


def test_a_rule_knows_its_line_and_its_options() -> None:
    found = rules(RULES)
    assert [rule.line for rule in found] == [3, 4, 5, 6, 7, 8, 9]
    assert found[0].options == {"map": "people"}


def test_all_is_no_replication() -> None:
    assert method("host all all all trust", attempt(replication=True)) == "nothing"


def test_names_from_files() -> None:
    text = "host @names @users all trust"
    (rule,) = rules(text.replace("@names", "app,@users"))
    assert [word.text for word in rule.databases] == ["app", "alice", "all", "bob"]
    assert method(text.replace("@names", "app"), attempt(user="bob")) == "trust"
    assert method(text.replace("@names", "app"), attempt(user="carol")) == "nothing"
    assert method(text.replace("@names", "app"), attempt(user="all")) == "trust"


@pytest.mark.parametrize(
    "field, words",
    [
        ("a,b", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ('"a,b"', ["a,b"]),
        ('"a ""b"" #"', ['a "b" #']),
        ('a"b c"d', ["ab cd"]),
    ],
)
def test_words_are_read_as_postgres_reads_them(field: str, words: list[str]) -> None:
    (rule,) = rules(f"host {field} all all trust")
    assert [word.text for word in rule.databases] == words


@pytest.mark.parametrize(
    "line, words",
    [
        ("hostgssenc all all all trust", '"hostgssenc" is not a type of connection'),
        ("include more.conf", "include is not supported; put the rules into this file"),
        ("host,local all all all trust", "has a list where the type belongs"),
        ("host all", "names no database or no user"),
        ("local all all", "has no method at its end"),
        ("host all all", "has no address"),
        ("host all all all", "has no method at its end"),
        ("host all +admins all trust", "+admins is a group, which is not known here"),
        ("host samerole all all trust", "samerole is not supported"),
        ("host /^db all all trust", "/^db is a regular expression, not supported"),
        ("host all @nowhere all trust", "@nowhere cannot be read (no such file or directory)"),
        ("host @loop all all trust", "@loop leads through more than 10 files"),
        ("host @open all all trust", "@open: a quote is not closed"),
        ('host "all all all trust', "a quote is not closed"),
        ("host all all samenet trust", "samenet is not supported; write the addresses"),
        ("host all all example.com trust", '"example.com" is not an address'),
        ("host all all 10.0.0.1 trust", "has no mask after 10.0.0.1; write 10.0.0.1/32"),
        ("host all all 10.0.0.1", "has no mask for 10.0.0.1; write 10.0.0.1/32"),
        ("host all all 10.0.0.0 255.0.255.0 trust", "255.0.255.0 is not a mask"),
        ("host all all 10.0.0.0 ffff:: trust", "ffff:: is not a mask"),
        ("host all all 10.0.0.0/33 trust", '"10.0.0.0/33" is not an address range'),
        ("host all all 10.0.0.0/255.0.0.0 trust", "is not an address range"),
        ("host all all all magic", '"magic" is not a method here'),
        ("host all all all pam", '"pam" is not a method here'),
        ("host all all all peer", "peer works on unix sockets only"),
        ("host all all all cert", "cert needs TLS; write it in a rule of type hostssl"),
        ("local all all trust map=a", "option map means nothing for trust"),
        ("local all all peer map", '"map" is not an option; write name=value'),
        ("local all all peer mop=a", "option mop is not supported; remove it"),
    ],
)
def test_refused_in_words_that_help(line: str, words: str) -> None:
    with pytest.raises(SettingsError) as error:
        rules(f"local all all trust\n\n{line}\n")
    (problem,) = error.value.problems
    assert problem.startswith("hba:3: ")
    assert words in problem


def test_every_bad_line_is_named() -> None:
    with pytest.raises(SettingsError) as error:
        rules("host all\nlocal all all trust\nnonsense\n")
    assert [problem[:6] for problem in error.value.problems] == ["hba:1:", "hba:3:"]


MAPS = 'people  carol   alice\npeople "the boss" all # anybody\nother x "all"\n'


@pytest.mark.parametrize(
    "name, system_user, user, allowed",
    [
        ("people", "carol", "alice", True),
        ("people", "carol", "bob", False),
        ("people", "the boss", "bob", True),
        ("people", "alice", "alice", False),
        ("other", "x", "all", True),
        ("other", "x", "alice", False),
        ("nowhere", "carol", "alice", False),
        (None, "alice", "alice", True),
        (None, "carol", "alice", False),
    ],
)
def test_who_may_come_in_as_whom(
    *, name: str | None, system_user: str, user: str, allowed: bool
) -> None:
    assert parse_ident(MAPS, "ident").allows(name, system_user, user) is allowed


def test_a_rule_may_name_a_map_that_is_not_there() -> None:
    maps = parse_ident(MAPS, "ident")
    assert maps.missing(rules(RULES)) == []
    (problem,) = maps.missing(rules("\nlocal all all peer map=persons"))
    assert problem == "line 2 names the map persons, which auth_ident_file does not have"


@pytest.mark.parametrize(
    "line, words",
    [
        ("people carol", "is not three names"),
        ("people carol alice bob", "is not three names"),
        ("people carol alice,bob", "is not three names"),
        ("people /^c alice", "/^c is a regular expression"),
        ("people carol /^a", "/^a is a regular expression"),
        ("people carol +admins", "+admins is a group"),
        ("include_dir maps", "include_dir is not supported"),
        ('people "carol alice', "a quote is not closed"),
    ],
)
def test_maps_refused(line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"ident:2: {words}")):
        parse_ident(f"\n{line}", "ident")
