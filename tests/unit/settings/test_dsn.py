"""Connection URIs: what is understood, what is refused, and that no password is repeated."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy.settings.dsn import SSLMODES, Dsn, parse_dsn

TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)
HOSTS = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True) | st.ip_addresses().map(str)
SECRET = "S3cr3t"


def written(dsn: Dsn) -> str:
    """`dsn` as a URI, everything percent-encoded that may be."""

    def encoded(value: str | None) -> str:
        return quote(value or "", safe="")

    ipv6 = ":" in dsn.host and not dsn.host.startswith("/")
    host = f"[{dsn.host}]" if ipv6 else encoded(dsn.host)
    password = f":{encoded(dsn.password)}" if dsn.password else ""
    login = f"{encoded(dsn.user)}{password}@" if dsn.user or password else ""
    mode = f"?sslmode={dsn.sslmode}" if dsn.sslmode else ""
    return f"postgresql://{login}{host}:{dsn.port}/{encoded(dsn.dbname)}{mode}"


@given(
    st.builds(
        Dsn,
        host=HOSTS | TEXT.map(lambda path: f"/{path}".replace(",", "")),
        port=st.integers(1, 65535),
        dbname=st.none() | TEXT,
        user=st.none() | TEXT,
        password=st.none() | TEXT,
        sslmode=st.none() | st.sampled_from(SSLMODES),
    )
)
def test_round_trip(dsn: Dsn) -> None:
    assert parse_dsn(written(dsn)) == dsn


@pytest.mark.parametrize(
    "text, expected",
    [
        ("postgres://h", Dsn("h")),
        ("postgresql://h:5433/app", Dsn("h", 5433, "app")),
        ("postgresql://u@h/", Dsn("h", user="u")),
        ("postgresql://u:@h", Dsn("h", user="u")),
        ("postgresql://u:p:q@h", Dsn("h", user="u", password="p:q")),
        ("postgresql://u:p%40@h", Dsn("h", user="u", password="p@")),
        ("postgresql://u:a+b#c@h", Dsn("h", user="u", password="a+b#c")),
        ("postgresql://[::1]/app", Dsn("::1", dbname="app")),
        ("postgresql://u@[::1]:5433", Dsn("::1", 5433, user="u")),
        ("postgresql://%2Fvar%2Frun/app", Dsn("/var/run", dbname="app")),
        ("postgresql:///app?host=/run&port=6", Dsn("/run", 6, "app")),
        ("postgresql://?host=/run&user=u&password=p&dbname=d", Dsn("/run", 5432, "d", "u", "p")),
        ("postgresql://h?sslmode=verify-full", Dsn("h", sslmode="verify-full")),
    ],
)
def test_understood(text: str, expected: Dsn) -> None:
    assert parse_dsn(text) == expected


@pytest.mark.parametrize(
    "text, words",
    [
        (f"u:{SECRET}@h/db", "postgresql://"),
        (f"mysql://u:{SECRET}@h/db", "postgresql://"),
        (f"host=h password={SECRET}", "postgresql://"),
        (f"postgresql://u:{SECRET}@{SECRET}@h", "percent-encoded"),
        (f"postgresql://u:x/{SECRET}@h/db", "percent-encoded"),
        (f"postgresql://u:x?{SECRET}@h/db", "percent-encoded"),
        (f"postgresql://u:{SECRET}", "port"),
        (f"postgresql://h?{SECRET}", "unknown parameter"),
        (f"postgresql://h?{SECRET}=1", "unknown parameter"),
        (f"postgresql://h?pasword={SECRET}", "unknown parameter"),
        (f"postgresql://u:{SECRET}%@h", "two hex digits"),
        (f"postgresql://u:{SECRET}%ff@h", "UTF-8"),
        (f"postgresql://u:{SECRET}%00@h", "zero byte"),
        (f"postgresql://u:{SECRET}@", "no host"),
        (f"postgresql://u:{SECRET}@/db", "no host"),
        (f"postgresql://u:{SECRET}@h:0", "65535"),
        (f"postgresql://u:{SECRET}@h:65536", "65535"),
        (f"postgresql://u:{SECRET}@h:{'9' * 6000}", "65535"),
        (f"postgresql://u:{SECRET}@h:-1", "65535"),
        (f"postgresql://u:{SECRET}@h:٣", "65535"),
        (f"postgresql://u:{SECRET}@h1,h2", "several hosts"),
        (f"postgresql://u:{SECRET}@h1:1,h2:2", "several hosts"),
        (f"postgresql://u:{SECRET}@::1", "[::1]"),
        (f"postgresql://u:{SECRET}@[::1", "[::1]:5432"),
        (f"postgresql://u:{SECRET}@[::1]5432", "[::1]:5432"),
        (f"postgresql://u:{SECRET}@[zz]", "[::1]:5432"),
        (f"postgresql://u:{SECRET}@h h", "percent-encoded"),
        (f"postgresql://u:{SECRET}@h?sslmode=yes", "verify-full"),
        (f"postgresql://u:{SECRET}@h?channel_binding=require", "channel_binding"),
        (f"postgresql://u:{SECRET}@h?sslrootcert=x", "server_tls_ca_file"),
    ],
)
def test_refused_in_words_that_help(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refusal:
        parse_dsn(text)
    assert SECRET not in str(refusal.value)


@given(st.text(st.sampled_from("ab:@/?#%=&[],.")), st.text(st.sampled_from(":@/?#%=&[],.")))
@example(password="", around="")
def test_no_refusal_repeats_the_password(password: str, around: str) -> None:
    secret = f"{SECRET}{password}{SECRET}"
    try:
        printed = repr(parse_dsn(f"postgresql://u:{secret}{around}@h:5432/db"))
    except ValueError as refusal:
        printed = str(refusal)
    assert SECRET not in printed


@given(TEXT, TEXT)
def test_printed_without_the_password(user: str, password: str) -> None:
    assume(password not in repr(Dsn("h", 5432, "d", user, None, "require")))
    dsn = Dsn("h", 5432, "d", user, password, "require")
    assert password not in repr(dsn)
    assert str(dsn) == f"postgresql://{user}:***@h:5432/d?sslmode=require"


def test_printed_places() -> None:
    assert str(Dsn("::1")) == "postgresql://[::1]:5432"
    assert str(Dsn("/run", dbname="d", user="u")) == "postgresql://u@/d?host=/run&port=5432"
