"""A client that speaks the Postgres protocol by hand: any message, any order, cut at any byte.

    with Wire(host, port, user, database) as wire:
        wire.send(parse("", "SELECT 1"), bind(), execute(), SYNC)
        answers = wire.until_ready()

Blocking sockets; whatever comes in while something is being sent is kept. Source of the formats:
PostgreSQL documentation, "Message Formats".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

PROTOCOL_3_0 = 196608
SECONDS = 10.0
_NO_LINGER = struct.pack("ii", 1, 0)  # close() sends RST, see socket(7)


# -- what a frontend says --------------------------------------------------------------------


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


SYNC = message(b"S")
FLUSH = message(b"H")
TERMINATE = message(b"X")
COPY_DONE = message(b"c")
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


def startup(parameters: Iterable[tuple[str, str]], protocol: int = PROTOCOL_3_0) -> bytes:
    pairs = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters)
    body = struct.pack("!I", protocol) + pairs + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel_request(process_id: int, secret: bytes) -> bytes:
    return struct.pack("!III", 12 + len(secret), 80877102, process_id) + secret


def query(sql: str) -> bytes:
    return message(b"Q", sql.encode() + b"\0")


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    declared = struct.pack(f"!H{len(types)}I", len(types), *types)
    return message(b"P", f"{name}\0{sql}\0".encode() + declared)


def bind(portal: str = "", statement: str = "", values: Sequence[str | None] = ()) -> bytes:
    """All parameters and results in text format."""
    body = f"{portal}\0{statement}\0".encode() + struct.pack("!HH", 0, len(values))
    for value in values:
        raw = None if value is None else value.encode()
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message(b"B", body + struct.pack("!H", 0))


def describe(name: str = "", what: str = "S") -> bytes:
    return message(b"D", f"{what}{name}\0".encode())


def execute(portal: str = "", rows: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!I", rows))


def close(name: str = "", what: str = "S") -> bytes:
    return message(b"C", f"{what}{name}\0".encode())


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


def copy_fail(reason: str = "no more") -> bytes:
    return message(b"f", reason.encode() + b"\0")


def function_call(oid: int, values: Sequence[str]) -> bytes:
    """All in text format."""
    body = struct.pack("!IHH", oid, 0, len(values))
    for value in values:
        body += struct.pack("!i", len(value)) + value.encode()
    return message(b"F", body + struct.pack("!H", 0))


# -- what a backend says ---------------------------------------------------------------------


class Answer(NamedTuple):
    """A backend message."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse, by their letters."""
        parts = (part for part in self.body.split(b"\0") if part)
        return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts}

    @property
    def sqlstate(self) -> str:
        return self.fields["C"] if self.kind == "E" else ""

    @property
    def row(self) -> list[str | None]:
        """Of a DataRow in text format."""
        (count,) = struct.unpack_from("!H", self.body)
        values: list[str | None] = []
        at = 2
        for _ in range(count):
            (size,) = struct.unpack_from("!i", self.body, at)
            at += 4
            values.append(None if size < 0 else self.body[at : at + size].decode())
            at += max(size, 0)
        return values

    def __repr__(self) -> str:
        if self.kind in "EN":
            fields = self.fields
            return f"{self.kind}({fields.get('C')} {fields.get('M')!r})"
        return f"{self.kind}({self.body[:80]!r})" if self.body else self.kind


def kinds(answers: Iterable[Answer]) -> str:
    """The types of the messages, one letter each."""
    return "".join(answer.kind for answer in answers)


def rows(answers: Iterable[Answer]) -> list[list[str | None]]:
    return [answer.row for answer in answers if answer.kind == "D"]


def sqlstates(answers: Iterable[Answer]) -> list[str]:
    return [answer.sqlstate for answer in answers if answer.kind == "E"]


class Gone(Exception):
    """The peer has closed the connection; `answers` came before that."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(f"the connection was closed after {answers[-20:]}")
        self.answers = answers


class Silent(Exception):
    """Nothing more came in time; `answers` did."""

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(f"nothing more came after {answers[-20:]}")
        self.answers = answers


class Wire:
    """One connection. `parameters` are the ParameterStatus values seen so far."""

    def __init__(
        self,
        host: str,
        port: int,
        user: str = "",
        database: str = "",
        password: str = "",
        options: dict[str, str] | None = None,
        protocol: int = PROTOCOL_3_0,
    ) -> None:
        """Connect; log in when there is a user."""
        self.parameters: dict[str, str] = {}
        self.process_id = 0
        self.secret = b""
        self._received = bytearray()
        self._ended = False
        self.socket = socket.create_connection((host, port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        if user:
            self.log_in(user, database, password, options, protocol)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        """Close with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    # -- logging in ------------------------------------------------------------------------

    def log_in(
        self,
        user: str,
        database: str,
        password: str = "",
        options: dict[str, str] | None = None,
        protocol: int = PROTOCOL_3_0,
    ) -> list[Answer]:
        """Trust, clear text or SCRAM-SHA-256. All answers up to the first ReadyForQuery."""
        pairs = {"user": user, "database": database} | (options or {})
        self.send(startup(pairs.items(), protocol))
        answers = []
        while True:
            answer = self.receive()
            answers.append(answer)
            if answer.kind == "R":
                self._authenticate(answer, password)
            elif answer.kind == "K":
                self.process_id = struct.unpack_from("!I", answer.body)[0]
                self.secret = answer.body[4:]
            elif answer.kind == "E":
                raise Gone(answers)
            elif answer.kind == "Z":
                return answers

    def _authenticate(self, answer: Answer, password: str) -> None:
        (code,) = struct.unpack_from("!I", answer.body)
        if code == 3:
            self.send(message(b"p", password.encode() + b"\0"))
        elif code == 10:
            self._nonce = base64.b64encode(os.urandom(18)).decode()
            first = f"n,,n=,r={self._nonce}".encode()
            body = b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first
            self.send(message(b"p", body))
        elif code == 11:
            self.send(message(b"p", self._scram_proof(answer.body[4:].decode(), password)))

    def _scram_proof(self, challenge: str, password: str) -> bytes:
        """RFC 5802, section 3."""
        told = dict(part.split("=", 1) for part in challenge.split(","))
        salt = base64.b64decode(told["s"])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(told["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={told['r']}"
        said = f"n=,r={self._nonce},{challenge},{final}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), said, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{final},p={base64.b64encode(proof).decode()}".encode()

    # -- sending ---------------------------------------------------------------------------

    def send(self, *messages: bytes, pieces: Iterable[int] = ()) -> None:
        """Send everything in one packet, or cut at the offsets in `pieces`, a packet each."""
        whole = b"".join(messages)
        at = 0
        for stop in (*pieces, len(whole)):
            self._send(whole[at:stop])
            at = stop

    def send_bytewise(self, *messages: bytes) -> None:
        """Send every byte in a packet of its own."""
        self.send(*messages, pieces=range(1, len(b"".join(messages))))

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = time.monotonic() + SECONDS
        while rest:
            readable, writable, _ = select.select([self.socket], [self.socket], [], 1.0)
            if writable:
                try:
                    rest = rest[self.socket.send(rest) :]
                except OSError:
                    self._ended = True
                    return
            elif time.monotonic() > deadline:
                raise Silent([])
            if readable and not self._ended:
                self._read()

    # -- receiving -------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        self._ended = self._ended or not data

    def _wait(self, seconds: float) -> bool:
        """Read what comes next within `seconds`; False when nothing came."""
        if not select.select([self.socket], [], [], max(0.0, seconds))[0]:
            return False
        before = len(self._received)
        self._read()
        return len(self._received) > before

    def receive_raw(self, n: int, seconds: float = SECONDS) -> bytes:
        """`n` bytes outside of messages. Raises Gone, Silent."""
        deadline = time.monotonic() + seconds
        while len(self._received) < n:
            if not self._wait(deadline - time.monotonic()):
                raise Gone([]) if self._ended else Silent([])
        raw = bytes(self._received[:n])
        del self._received[:n]
        return raw

    def receive(self, seconds: float = SECONDS) -> Answer:
        """The next message. Raises Gone, Silent."""
        deadline = time.monotonic() + seconds
        while (answer := self._next()) is None:
            if not self._wait(deadline - time.monotonic()):
                raise Gone([]) if self._ended else Silent([])
        return answer

    def _next(self) -> Answer | None:
        if len(self._received) < 5:
            return None
        end = 1 + struct.unpack_from("!I", self._received, 1)[0]
        if len(self._received) < end:
            return None
        answer = Answer(chr(self._received[0]), bytes(self._received[5:end]))
        del self._received[:end]
        if answer.kind == "S":
            name, value, _ = answer.body.decode().split("\0")
            self.parameters[name] = value
        return answer

    def until(self, last: str, times: int = 1, seconds: float = SECONDS) -> list[Answer]:
        """Messages up to the `times`-th of type `last`. Raises Gone, Silent."""
        answers: list[Answer] = []
        while times:
            try:
                answers.append(self.receive(seconds))
            except Gone:
                raise Gone(answers) from None
            except Silent:
                raise Silent(answers) from None
            times -= answers[-1].kind == last
        return answers

    def until_ready(self, times: int = 1, seconds: float = SECONDS) -> list[Answer]:
        """Messages up to the `times`-th ReadyForQuery. Raises Gone, Silent."""
        return self.until("Z", times, seconds)

    def until_quiet(self, seconds: float) -> list[Answer]:
        """Messages until nothing came for `seconds`, or the end."""
        answers: list[Answer] = []
        while True:
            try:
                answers.append(self.receive(seconds))
            except (Gone, Silent):
                return answers

    def until_gone(self, seconds: float = SECONDS) -> list[Answer]:
        """Messages up to the end of the connection. Raises Silent."""
        try:
            answers = self.until("", times=1, seconds=seconds)
        except Gone as gone:
            return gone.answers
        raise AssertionError(answers)

    def ask(self, sql: str) -> list[Answer]:
        """Everything that a simple query is answered with."""
        self.send(query(sql))
        return self.until_ready()
