"""What is known of users for logging in to Postgres, and what of it outlives a reload."""

from __future__ import annotations

from proxy.auth.keys import ScramKeys, derive
from proxy.auth.secret import Secret
from proxy.relay.users import Credentials, Users

KEYS = derive("secret", b"0123456789abcdef")


def verifier(keys: ScramKeys) -> Secret:
    return Secret(keys=ScramKeys(4096, keys.salt, None, keys.stored_key, keys.server_key))


def test_the_same_name_in_two_databases_is_two_users() -> None:
    """Where Postgres is asked, each database may be another Postgres."""
    users = Users({}, None)
    users.learn("one", "alice", verifier(KEYS))
    users.learn("two", "alice", Secret(md5="md5" + "0" * 32))
    users.reveal("one", "alice", None, KEYS)
    assert users.credentials("one", "alice") == Credentials(keys=KEYS)
    assert users.credentials("two", "alice") == Credentials(md5="md5" + "0" * 32)


def test_a_user_of_the_list_is_one_everywhere() -> None:
    users = Users({"alice": verifier(KEYS)}, None)
    users.reveal("one", "alice", None, KEYS)
    assert users.credentials("two", "alice").keys == KEYS


def test_a_reload_forgets_what_belonged_to_another_secret() -> None:
    before = Users({"alice": verifier(KEYS), "bob": Secret(md5="md5" + "0" * 32)}, None)
    before.learn("one", "carol", verifier(KEYS))
    before.reveal("one", "alice", "secret", KEYS)
    before.reveal("one", "bob", "hush", None)
    before.reveal("one", "carol", None, KEYS)
    after = Users({"alice": verifier(derive("new", KEYS.salt)), "bob": before.all()["bob"]}, None)
    after.inherit(before)
    assert after.credentials("one", "alice") == Credentials()
    assert after.credentials("one", "bob").password == "hush"
    assert after.credentials("one", "carol").keys == KEYS


def test_how_strangers_are_asked() -> None:
    assert not Users({"alice": Secret(password="p")}, None).scram
    assert Users({"alice": verifier(KEYS)}, None).scram
