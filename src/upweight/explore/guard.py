"""Who may see a page: this machine alone, or whoever has the token; no page of another site, by whatever door."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "upweight_token"
FOREIGN = "This page answers to the machine it runs on, under 127.0.0.1 or localhost."
UNKNOWN = "Open the whole address that upweight explore printed: the token in it is missing or wrong."


def token() -> str:
    """A fresh one."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether an address is seen by this machine alone."""
    return host in LOOPBACK or host.startswith("127.")


@dataclass(frozen=True)
class Guard:
    """Stands before an application and lets in who may.

    Attributes
    ----------
    app
        In the form of ASGI.
    token
        What an address or a cookie has to hold; None: only this machine can reach the page, and only under its own
        name, so that no name of another site's leads here.
    """

    app: Any
    token: str | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        words = self.refusal(headers, scope.get("query_string", b"").decode("latin-1"))
        if words is not None:
            await _refuse(scope, receive, send, words)
            return
        await self.app(scope, receive, self._with_cookie(send, scope["type"]))

    def refusal(self, headers: Mapping[str, str], query: str) -> str | None:
        """Why somebody isn't let in; None where they are.

        Parameters
        ----------
        headers
            By their names in small letters.
        query
            Of the address.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return FOREIGN
        if self.token is None:
            return None if is_loopback(_name(host)) else FOREIGN
        given = [*parse_qs(query).get("token", []), *_cookie(headers.get("cookie", ""))]
        return None if any(hmac.compare_digest(each.encode(), self.token.encode()) for each in given) else UNKNOWN

    def _with_cookie(self, send: Any, kind: str) -> Any:
        """Answers that bring the token, so that the page's own requests have it."""
        if self.token is None or kind != "http":
            return send

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie)]}
            await send(message)

        return sending


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _cookie(header: str) -> list[str]:
    try:
        found = SimpleCookie(header)
    except CookieError:
        return []
    return [found[COOKIE].value] if COOKIE in found else []


async def _refuse(scope: Mapping[str, Any], receive: Any, send: Any, words: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
