"""What is known of a user's password: the password, its MD5, or its SCRAM keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.auth.keys import ScramKeys, parse_secret
from proxy.auth.md5 import is_md5


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Exactly one of the three is given. An empty password never lets anybody in."""

    password: str | None = field(default=None)
    md5: str | None = field(default=None)
    keys: ScramKeys | None = field(default=None)

    @classmethod
    def parse(cls, text: str) -> Secret:
        """As PgBouncer reads its auth_file: md5 and SCRAM by their look, all else is plain."""
        if is_md5(text):
            return cls(md5=text)
        keys = parse_secret(text)
        return cls(password=text) if keys is None else cls(keys=keys)

    @property
    def kind(self) -> str:
        """`plain`, `md5` or `scram-sha-256`."""
        if self.keys is not None:
            return "scram-sha-256"
        return "plain" if self.md5 is None else "md5"

    def __repr__(self) -> str:
        return f"<Secret {self.kind}>"
