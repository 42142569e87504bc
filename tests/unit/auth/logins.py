"""Both sides of a login talk to each other, without sockets."""

from __future__ import annotations

from proxy.auth.conversation import Conversation, Done, Step
from proxy.auth.keys import KeyCache, ScramKeys
from proxy.auth.login import begin
from proxy.auth.secret import Secret
from proxy.auth.upstream import UpstreamLogin

USER = "lara"
PASSWORD = 'pen"cil'


def after_pending(conversation: Conversation, step: Step) -> Step:
    if step is None:
        assert conversation.pending is not None
        step = conversation.supply(conversation.pending.derive())
    return step


def payload_for(login: UpstreamLogin, code: int, body: bytes) -> bytes:
    payload = login.answer(code, body)
    if payload is None:
        assert login.pending is not None
        return login.supply(login.pending.derive())
    return payload


def run(conversation: Conversation, login: UpstreamLogin) -> Done:
    """Drives a login to its end, as a relay would; raises what either side raises."""
    request = conversation.request
    done = Done()
    while request is not None:
        payload = payload_for(login, *request)
        step = after_pending(conversation, conversation.respond(payload))
        assert step is not None
        request = None if isinstance(step, Done) else step.request
        done = step if isinstance(step, Done) else done
    if done.request is not None:
        assert login.answer(*done.request) is None
    assert login.answer(0, b"") is None
    assert login.done
    return done


def log_in(
    method: str,
    secret: Secret | None,
    password: str | None = PASSWORD,
    *,
    keys: ScramKeys | None = None,
    user: str = USER,
    cache: KeyCache | None = None,
    server_binding: bytes | None = None,
    client_binding: bytes | None = None,
) -> Done:
    cache = KeyCache() if cache is None else cache
    conversation = begin(method, user, secret, cache=cache, channel_binding=server_binding)
    login = UpstreamLogin(user, password, keys, KeyCache(), channel_binding=client_binding)
    return run(conversation, login)
