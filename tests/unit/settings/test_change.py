"""One setting changed at run time, and all of them as SHOW CONFIG tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import SettingsError
from proxy.settings import Settings, load
from proxy.settings.change import changed, shown
from proxy.settings.dsn import parse_dsn
from proxy.settings.pgbouncer import GLOBAL

SETTINGS = Settings(upstream=parse_dsn("postgresql://app:quite-secret@localhost/app"))


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("default_pool_size", "7", 7),
        ("query_wait_timeout", "1.5", 1.5),
        ("log_connections", "0", False),
        ("server_check_query", "", ""),
        ("admin_users", "a, b", ("a", "b")),
        ("pool_mode", "session", "session"),
    ],
)
def test_a_setting_changes_alone(key: str, text: str, value: object) -> None:
    new = changed(SETTINGS, key, text)
    assert getattr(new, key) == value
    assert new.model_copy(update={key: getattr(SETTINGS, key)}) == SETTINGS


@pytest.mark.parametrize("text, level", [("0", "info"), ("2", "debug"), ("warning", "warning")])
def test_verbose_is_the_log_level(text: str, level: str) -> None:
    assert changed(SETTINGS, "verbose", text).log_level == level


@pytest.mark.parametrize(
    "key, text, words",
    [
        ("no_such_thing", "1", "is not a setting"),
        ("databases", "{}", "is not a setting that can be set here"),
        ("listen_port", "6433", "changes only at a restart"),
        ("user", "nobody", "changes only at a restart"),
        ("default_pool_size", "many", "give a whole number, 1 or more"),
        ("auth_type", "hba", "set auth_hba_file"),
    ],
)
def test_what_will_not_do_is_refused_in_words(key: str, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        changed(SETTINGS, key, text)


def test_settings_are_shown_in_pgbouncers_spelling() -> None:
    rows = {key: (value, default, reloads) for key, value, default, reloads in shown(SETTINGS)}
    assert rows["max_client_conn"] == ("10000", "10000", True)
    assert rows["log_connections"] == ("1", "1", True)
    assert rows["unix_socket_mode"] == ("0777", "0777", False)
    assert rows["user"] == ("", "", False)
    assert list(rows) == sorted(rows)


def test_what_has_no_effect_is_shown_too(tmp_path: Path) -> None:
    file = tmp_path / "pgbouncer.ini"
    file.write_text("[databases]\n[pgbouncer]\nauth_type=trust\npkt_buf = 8192\nverbose = 1\n")
    rows = {key: row for key, *row in shown(load(environ={}, file=file))}
    assert rows["conffile"] == [str(file), "", False]
    assert rows["pkt_buf"] == ["8192", "4096", False]
    assert rows["max_packet_size"] == ["2147483647", "2147483647", False]
    assert rows["verbose"] == ["1", "0", True]
    assert rows.keys() >= GLOBAL.keys()


def test_no_password_is_shown() -> None:
    assert "quite-secret" not in str(list(shown(SETTINGS)))
