"""A client of bytes: says what it is told to, shows every message, and leaves without manners."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from proxy.auth.keys import KeyCache
from proxy.auth.upstream import UpstreamLogin
from proxy.wire import messages

Message = tuple[bytes, bytes]
_NO_LINGER = struct.pack("ii", 1, 0)  # close() sends RST, see socket(7)


class Peer:
    """One plain connection. Whatever it waits for, it waits at most `timeout` seconds."""

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.key: tuple[int, bytes] = (0, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def octets(self, size: int) -> bytes:
        """The next `size` bytes. Raises EOFError when the connection ends first."""
        found = bytearray()
        while len(found) < size:
            more = self.socket.recv(min(size - len(found), 1 << 20))
            if not more:
                raise EOFError
            found += more
        return bytes(found)

    def message(self) -> Message:
        head = self.octets(5)
        return head[:1], self.octets(int.from_bytes(head[1:], "big") - 4)

    def until(self, kind: bytes) -> list[Message]:
        """Every message up to the first of `kind`, that one included."""
        found = [self.message()]
        while found[-1][0] != kind:
            found.append(self.message())
        return found

    def error(self) -> dict[str, str]:
        """The fields of the next ErrorResponse."""
        return messages.read_error(self.until(b"E")[-1][1])

    def ended(self) -> bool:
        """Whether the other side has closed (waits until it has, or has not in time)."""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def start(self, user: str, database: str, **parameters: str) -> None:
        """Send the start-up packet."""
        pairs = {"user": user, "database": database, **parameters}
        self.send(messages.startup((k.encode(), v.encode()) for k, v in pairs.items()))

    def log_in(self, user: str, database: str, password: str = "", **parameters: str) -> Self:
        """Log in by whatever is asked for. Raises AssertionError with the refusal."""
        refused = self.refusal(user, database, password, **parameters)
        assert not refused, refused
        return self

    def refusal(
        self, user: str, database: str, password: str = "", **parameters: str
    ) -> dict[str, str]:
        """The fields of the error that a login ends with; none when it succeeds."""
        self.start(user, database, **parameters)
        login = UpstreamLogin(user, password, None, KeyCache())
        while not login.done:
            kind, body = self.message()
            if kind == b"E":
                return messages.read_error(body)
            reply = login.answer(int.from_bytes(body[:4], "big"), body[4:])
            if login.pending is not None:
                reply = login.supply(login.pending.derive())
            if reply is not None:
                self.send(messages.message(b"p", reply))
        kind = b""
        while kind != b"Z":
            kind, body = self.message()
            if kind == b"E":
                return messages.read_error(body)
            if kind == b"K":
                self.key = int.from_bytes(body[:4], "big"), body[4:]
        return {}

    def query(self, sql: str) -> list[Message]:
        """A simple query: every message of its answer."""
        self.send(messages.query(sql.encode()))
        return self.until(b"Z")

    def rows(self, sql: str) -> list[list[bytes | None]]:
        return [messages.read_row(body) for kind, body in self.query(sql) if kind == b"D"]

    def reset(self) -> None:
        """Vanish as a killed process on a dead machine does: RST, nothing else."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()


def send_cancel(host: str, port: int, key: tuple[int, bytes]) -> None:
    """Deliver a cancel request and wait until it has been dealt with."""
    with Peer(host, port) as peer:
        peer.send(messages.cancel_request(*key))
        assert peer.ended()
