"""HBA rules: names survive quoting, and any text gives rules or plain words."""

from __future__ import annotations

import contextlib
import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.hba import Attempt, decide, parse_hba
from proxy.auth.ident import parse_ident
from proxy.errors import SettingsError

NAMES = st.text(st.characters(exclude_characters="\n\r\\", codec="utf-8"), min_size=1)
ADDRESSES = st.ip_addresses(v=4)
LINES = st.lists(
    st.text(st.sampled_from('host local all md5 1.2.3.4/8 "",@#=\\\n+/:'))
    | st.sampled_from(["host", "local", "all", "trust", "0.0.0.0/0", " ", "\n", "@x", "map=a"])
).map("".join)


def no_file(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@given(NAMES, NAMES, NAMES)
def test_a_quoted_name_is_that_name(database: str, user: str, other: str) -> None:
    (rule,) = parse_hba(f"local {quoted(database)} {quoted(user)} trust", "hba", no_file)
    assert decide([rule], Attempt(database, user)) is rule
    assert (decide([rule], Attempt(other, user)) is rule) is (other == database)
    assert (decide([rule], Attempt(database, other)) is rule) is (other == user)


@given(NAMES, NAMES, NAMES)
def test_a_map_holds_what_it_says(name: str, system_user: str, user: str) -> None:
    maps = parse_ident(" ".join(map(quoted, (name, system_user, user))), "ident")
    assert maps.allows(name, system_user, user)
    assert not maps.allows(name, system_user, f"{user}.")
    assert not maps.allows(name, f"{system_user}.", user)


@given(ADDRESSES, st.integers(0, 32), ADDRESSES)
def test_a_mask_is_a_length(base: ipaddress.IPv4Address, length: int, peer: object) -> None:
    assert isinstance(peer, ipaddress.IPv4Address)
    mask = ipaddress.IPv4Address((0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF)
    written = (f"{base}/{length}", f"{base} {mask}")
    decided = [
        bool(decide(parse_hba(f"host all all {way} trust", "h", no_file), Attempt("d", "u", peer)))
        for way in written
    ]
    wanted = int(peer) & int(mask) == int(base) & int(mask)
    assert decided == [wanted, wanted]


@given(LINES)
def test_any_text_gives_rules_or_words(text: str) -> None:
    with contextlib.suppress(SettingsError):
        for rule in parse_hba(text, "hba", no_file):
            rule.fits(Attempt("all", "all", ipaddress.ip_address("::1")))
    with contextlib.suppress(SettingsError):
        parse_ident(text, "ident")
