"""Who is let in."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from upweight.errors import InputError
from upweight.explore.guard import FOREIGN, UNKNOWN, Guard
from upweight.explore.serve import door


def asked(guard: Guard, kind: str = "http", query: str = "", **headers: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    scope = {"type": kind, "query_string": query.encode(), "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}  # noqa: E501  # fmt: skip
    asyncio.run(guard(scope, receive, send))
    return sent


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "127.0.0.1"])
def test_this_machine_is_let_in_under_its_own_name(host: str) -> None:
    assert asked(Guard(hello), host=host)[0]["status"] == 200
    assert asked(Guard(hello), host=host, origin=f"http://{host}")[0]["status"] == 200


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {}, {"host": "127.0.0.1:1", "origin": "http://evil.example"}, {"host": "127.0.0.1:1", "origin": "null"}])  # noqa: E501  # fmt: skip
def test_another_site_s_name_or_page_is_not(headers: dict[str, str]) -> None:
    sent = asked(Guard(hello), **headers)
    assert sent[0]["status"] == 403
    assert sent[1]["body"].decode() == FOREIGN
    assert asked(Guard(hello), "websocket", **headers) == [{"type": "websocket.close", "code": 1008}]


def test_others_need_the_token_which_their_browser_then_keeps() -> None:
    guard = Guard(hello, "s3cret")
    there = {"host": "box.local:8765"}
    assert asked(guard, **there)[1]["body"].decode() == UNKNOWN
    assert asked(guard, query="token=s3cre", **there)[0]["status"] == 403
    assert asked(guard, cookie="upweight_token=wrong; x", **there)[0]["status"] == 403
    first = asked(guard, query="token=s3cret", **there)[0]
    assert first["status"] == 200
    cookie = dict(first["headers"])[b"set-cookie"].decode()
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert asked(guard, cookie=cookie.partition(";")[0], **there)[0]["status"] == 200
    assert asked(guard, cookie=cookie.partition(";")[0], origin="http://evil.example", **there)[0]["status"] == 403


def test_a_port_in_use_gives_the_next() -> None:
    first = door(port=0)
    try:
        second = door(port=first.port)
        try:
            assert first.port < second.port <= first.port + 50
            assert second.wanted == first.port
            assert second.token is None
            assert second.address == f"http://127.0.0.1:{second.port}/"
        finally:
            second.socket.close()
    finally:
        first.socket.close()


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a port so taken may be one in use")
def test_a_page_that_has_ended_with_a_browser_at_it_leaves_its_port() -> None:
    first = door(port=0)
    port = first.port
    with socket.create_connection(("127.0.0.1", port)):
        first.socket.accept()[0].close()  # the server ends first: the connection waits for a minute
    first.socket.close()
    second = door(port=port)
    assert second.port == port
    second.socket.close()


def test_all_addresses_have_a_token() -> None:
    found = door("0.0.0.0", 0)
    found.socket.close()
    assert found.token is not None
    assert len(found.token) > 20
    assert found.token != door_token()


def door_token() -> str | None:
    found = door("0.0.0.0", 0)
    found.socket.close()
    return found.token


def test_what_is_no_address_of_this_machine_is_refused() -> None:
    with pytest.raises(InputError, match="--host"):
        door("no.such.host.invalid")
    with pytest.raises(InputError, match="--port"):
        door("192.0.2.1", 8765)


def test_the_address_names_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    found = door("0.0.0.0", 0)
    with found.socket:
        assert found.address == f"http://box:{found.port}/?token={found.token}"
