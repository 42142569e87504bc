"""Certificates of the tests' own, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Certificates:
    """Files of an authority, of a server called localhost, and of a client called alice."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name.replace("_", ".")

    def make(self, name: str, subject: str, *more: str, key: str = "rsa:2048") -> None:
        """Make NAME.key and NAME.crt, signed by the authority unless it is the authority."""
        ca = ["-CA", "ca.crt", "-CAkey", "ca.key"] if name != "ca" else []
        command = ["openssl", "req", "-x509", "-newkey", key, "-nodes", "-days", "2"]
        command += ["-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run([*command, *ca, *more], cwd=self.folder, check=True, capture_output=True)

    def make_leaf(self, name: str, subject: str) -> None:
        """One that is good for a server called localhost, and for a client."""
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE")
        self.make(name, subject, *leaf, "-addext", "subjectAltName=DNS:localhost")


def make_certificates(folder: Path) -> Certificates:
    made = Certificates(folder)
    made.make("ca", "/CN=test authority")
    made.make_leaf("server", "/CN=localhost")
    made.make_leaf("client", "/CN=alice")
    return made
