"""Which way a client has to prove who it is: `auth_type`, or the rules of `auth_hba_file`."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.auth.hba import Attempt, Rule, decide
from proxy.auth.ident import IdentMaps
from proxy.auth.secret import Secret

NAMED_FROM_OUTSIDE = ("cert", "peer")
"""Somebody else says who the client is: a certificate, the kernel."""

ANYBODY = Secret(password="")
"""The secret of users whose names mean nothing; no password is it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a client proves who it is.

    `proof`: the method of `login.begin` that follows; `certificate`: what has to be shown before
    that (`verify-ca`: one from our authorities, `verify-full`: made out to the user);
    `map`: between names of certificates or Unix users and the database's; `plain`: nothing but
    that method, and the secret, decides.
    """

    method: str
    map: str | None = None
    certificate: str = ""
    proof: str = field(init=False)
    plain: bool = field(init=False)

    def __post_init__(self) -> None:
        outside = self.method in NAMED_FROM_OUTSIDE
        proof = "trust" if outside or self.method == "any" else self.method
        object.__setattr__(self, "proof", proof)
        object.__setattr__(self, "plain", not outside and not self.certificate)


@dataclass(frozen=True, slots=True)
class Gate:
    """`single`: the way for everybody; None where the rules decide."""

    single: Way | None
    rules: tuple[Rule, ...] = ()
    maps: IdentMaps = field(default_factory=IdentMaps)

    def way(self, attempt: Attempt) -> Way | None:
        """The way for this client; None where the rules let nobody in."""
        if self.single is not None:
            return self.single
        rule = decide(self.rules, attempt)
        if rule is None or rule.method == "reject":
            return None
        certificate = "verify-full" if rule.method == "cert" else ""
        certificate = rule.options.get("clientcert", certificate)
        return Way(rule.method, rule.options.get("map"), certificate)

    def refusal(self, attempt: Attempt) -> tuple[str, str]:
        """What a client is told that no rule lets in, and what the log adds."""
        rule = decide(self.rules, attempt)
        if rule is not None:
            return "login rejected", f"line {rule.line} of auth_hba_file rejects it"
        tls = "with" if attempt.tls else "without"
        why = f"no line of auth_hba_file is for it ({attempt.address or 'local'}, {tls} TLS)"
        return "no authentication method is found", why


def gate_for(auth_type: str) -> Gate:
    """A gate that is the same for everybody."""
    return Gate(Way(auth_type, certificate="verify-full" if auth_type == "cert" else ""))
