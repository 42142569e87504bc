"""The HTTP port as a peer sees it, over loopback."""

import asyncio
import contextlib
import http.client
import json
import struct
from collections.abc import AsyncGenerator
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET

import pytest

from proxy.errors import SettingsError
from proxy.web import Limits, WebServer, start
from proxy.web.http import HttpError, Request, Response
from tests.unit.web.views import Proxy, serving, talk

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def fetch(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    def run() -> tuple[int, dict[str, str], bytes]:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(client):
            client.request(method, path)
            answer = client.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()

    return await asyncio.to_thread(run)


async def test_health_and_readiness() -> None:
    proxy = Proxy()
    async with serving(proxy) as server:
        assert (await fetch(server.port, "/healthz"))[::2] == (200, b"OK\n")
        assert (await fetch(server.port, "/readyz"))[::2] == (200, b"OK\n")
        proxy.ready, proxy.why_not_ready = False, "shutting down"
        assert (await fetch(server.port, "/readyz"))[::2] == (503, b"not ready: shutting down\n")
        assert (await fetch(server.port, "/healthz"))[0] == 200


async def test_head_has_the_headers_and_no_body() -> None:
    async with serving() as server:
        code, headers, body = await fetch(server.port, "/healthz", "HEAD")
        assert (code, headers["content-length"], body) == (200, "3", b"")
        code, headers, body = await fetch(server.port, "/metrics", "HEAD")
        assert (code, body) == (200, b"")
        assert headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_a_path_that_is_not_there() -> None:
    async with serving() as server:
        code, _, body = await fetch(server.port, "/nope")
        assert code == 404
        assert b"/metrics, /healthz, /readyz" in body


async def test_another_method() -> None:
    async with serving() as server:
        code, headers, _ = await fetch(server.port, "/metrics", "POST")
        assert (code, headers["allow"]) == (405, "GET, HEAD")


async def test_a_query_and_an_absolute_target_name_the_same_path() -> None:
    async with serving() as server:
        for target in (b"/healthz?a=b", b"http://x:1/healthz", b"/health%7a"):
            answer = await talk(server.port, LAST.replace(b"/healthz", target))
            assert status(answer) == 200


async def test_a_request_that_arrives_byte_by_byte() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for octet in LAST:
            writer.write(bytes([octet]))
            await writer.drain()
        assert status(await reader.read()) == 200
        writer.close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as server:
        paths = (b"/healthz", b"/readyz", b"/nope", b"/healthz")
        sent = b"".join(GET.replace(b"/healthz", path) for path in paths)
        answer = await talk(server.port, sent, eof=True)
        codes = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
        assert codes == [200, 200, 404, 200]


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with serving() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(3):
            writer.write(GET)
            assert (await reader.readuntil(b"OK\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_http_1_0_is_answered_and_closed() -> None:
    async with serving() as server:
        answer = await talk(server.port, b"GET /metrics HTTP/1.0\r\n\r\n")
        assert status(answer) == 200
        assert b"chunked" not in answer
        assert b"pgfunnel_ready 1.0\n" in answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_whole_and_byte_by_byte(garbage: bytes) -> None:
    async with serving() as server:
        answer = await talk(server.port, garbage)
        assert status(answer) == 400
        assert b"connection: close" in answer.lower()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for octet in garbage:
            writer.write(bytes([octet]))
            await writer.drain()
        assert status(await reader.read()) == 400
        writer.close()
        assert status(await talk(server.port, LAST)) == 200


async def test_half_a_request_and_a_goodbye() -> None:
    async with serving() as server:
        assert status(await talk(server.port, b"GET /healthz HT", eof=True)) == 400
        assert await talk(server.port, b"", eof=True) == b""


async def test_headers_past_the_limit() -> None:
    async with serving() as server:
        sent = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000
        answer = await talk(server.port, sent)
        assert status(answer) == 431
        assert b"too large" in answer


async def test_a_body_is_taken_up_to_a_limit() -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with serving(body_bytes=1000) as server:
        answer = await talk(server.port, head % 1000 + b"a" * 1000 + LAST)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert status(await talk(server.port, head % 1001 + b"a" * 1001)) == 413


async def test_a_peer_that_asks_before_it_sends_its_body() -> None:
    async with serving() as server:
        sent = LAST[:-2] + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"ab")
        assert status(await reader.read()) == 200
        writer.close()


@pytest.mark.parametrize("begun", [b"G", LAST[:-2], GET + b"GET /heal"])
async def test_a_slow_loris_is_told_and_closed(begun: bytes) -> None:
    async with serving(idle=30.0, request=0.2) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(begun)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert status(b"HTTP" + answer.rpartition(b"HTTP")[2]) == 408
        writer.close()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving(idle=0.1) as server:
        assert await talk(server.port, b"") == b""


async def test_a_newcomer_takes_the_place_of_an_idle_connection() -> None:
    async with serving(connections=2) as server:
        idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        for reader, writer in idle:
            writer.write(GET)
            await reader.readuntil(b"OK\n")
        assert status(await talk(server.port, LAST)) == 200
        assert await asyncio.wait_for(idle[0][0].read(), 5) == b""
        idle[1][1].write(LAST)
        assert status(await idle[1][0].read()) == 200
        for _, writer in idle:
            writer.close()


@contextlib.asynccontextmanager
async def answering(respond: object, **limits: float) -> AsyncGenerator[WebServer, None]:
    server = await WebServer.listen(respond, "127.0.0.1", 0, Limits(**limits))  # type: ignore[arg-type]
    try:
        yield server
    finally:
        await server.close()


async def test_no_room_when_every_connection_is_being_answered() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def respond(_request: Request) -> Response:
        begun.set()
        await go.wait()
        return Response(200, b"late")

    async with answering(respond, connections=1) as server:
        first = asyncio.create_task(talk(server.port, LAST))
        await begun.wait()
        assert status(await talk(server.port, b"")) == 503
        go.set()
        assert (await first).endswith(b"late")


async def test_a_route_gets_the_request_and_may_stream() -> None:
    async def respond(request: Request) -> Response:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield json.dumps([request.path, request.query, request.body.decode()]).encode()
            await asyncio.sleep(0)
            yield request.headers["x-y"].encode()

        return Response(201, pieces(), "application/json", (("x-z", "1"),))

    async with answering(respond) as server:
        sent = b"POST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 2\r\n"
        answer = await talk(server.port, sent + b"Connection: close\r\n\r\nhi")
    assert status(answer) == 201
    assert b'["/a b", "c=%20", "hi"]' in answer
    assert b"x-z: 1\r\n" in answer


async def test_a_route_that_fails_says_so_and_no_more() -> None:
    async def respond(request: Request) -> Response:
        if request.path == "/refuse":
            raise HttpError(409, "Not now.")
        raise RuntimeError("a secret")

    async with answering(respond) as server:
        answer = await talk(server.port, LAST)
        assert status(answer) == 500
        assert b"secret" not in answer
        answer = await talk(server.port, LAST.replace(b"/healthz", b"/refuse"))
        assert status(answer) == 409
        assert answer.endswith(b"Not now.\n")
        answer = await talk(server.port, LAST.replace(b"GET", b"HEAD"))
        assert status(answer) == 500
        assert answer.endswith(b"\r\n\r\n")


async def test_a_stream_that_fails_is_not_ended_as_if_whole() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"half"
        raise RuntimeError("a secret")

    async def respond(_request: Request) -> Response:
        return Response(200, pieces())

    async with answering(respond) as server:
        answer = await talk(server.port, LAST)
    assert b"half" in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert b"secret" not in answer


async def test_a_peer_that_does_not_read_is_dropped() -> None:
    ended = asyncio.Event()

    async def pieces() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    async def respond(_request: Request) -> Response:
        return Response(200, pieces())

    async with answering(respond, write=0.2) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        writer.write(GET)
        await asyncio.wait_for(ended.wait(), 10)
        writer.close()


async def test_a_peer_that_resets_does_no_harm() -> None:
    async with serving() as server:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.write(GET * 20)
            writer.transport.abort()
        assert status(await talk(server.port, LAST)) == 200


async def test_closing_drops_every_connection_and_frees_the_port(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as server:
        port = server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"OK\n")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_port_that_is_taken_is_named() -> None:
    async with serving() as server:
        with pytest.raises(SettingsError, match=f"http_port: cannot listen on .*{server.port}"):
            await start(Proxy(), "127.0.0.1", server.port)
