"""The page's server: its address, its own requests, who may see it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import FastAPI, Response
from nicegui import ui

from upweight.errors import InputError
from upweight.explore.contents import Contents
from upweight.explore.decisions import LOOSE
from upweight.explore.guard import LOOPBACK, Guard, is_loopback, token
from upweight.explore.page import OPEN, Page
from upweight.explore.pictures import UNSHOWN

AsCsv = Callable[[list[dict[str, Any]]], bytes]
HOST, PORT = LOOPBACK[0], 8765
TRIED = 50
"""Ports that are tried, one after the other."""
STILL = {"cache-control": "private, max-age=3600"}
ASKED = 2000
"""Rows that are given at a time at most."""


@dataclass(frozen=True, eq=False)
class Door:
    """A place on the network that is held for a page.

    Attributes
    ----------
    socket
        It is bound, and nobody else gets it.
    wanted
        The port that was asked for.
    token
        What the address holds where other machines can reach it; None on loopback.
    """

    socket: socket.socket
    host: str
    wanted: int
    token: str | None

    @property
    def port(self) -> int:
        """The port that it has."""
        return int(self.socket.getsockname()[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        if is_loopback(self.host):
            name = self.host
        else:
            name = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        at = f"http://{f'[{name}]' if ':' in name else name}:{self.port}/"
        return at if self.token is None else f"{at}?token={self.token}"


def door(host: str = HOST, port: int = PORT) -> Door:
    """The first free port from ``port`` on (0: any).

    Raises
    ------
    InputError
        If there is none, or this machine has no such address.
    """
    problem: OSError | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise InputError(
            f"--host: {host} is no address of this machine ({error}); give 127.0.0.1, or 0.0.0.0"
        ) from error
    for candidate in range(port, min(port + TRIED, 65536)):
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # a page that has just ended is not in its successor's way; one that runs is
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((host, candidate))
            found.listen()
        except OSError as error:
            found.close()
            problem = error
            continue
        return Door(found, host, port, None if is_loopback(host) else token())
    raise InputError(f"--port: none from {port} on can be had on {host} ({problem}); give another --port or --host")


def routes(app: FastAPI, contents: Contents, as_csv: AsCsv) -> None:
    """What a page asks for by itself: rows of its lists, pictures, the map, decisions as a table."""

    @app.get("/rows/{key}/{side}")
    def rows(key: str, side: str, start: int, stop: int, sort: str = "[]", filters: str = "{}") -> Response:
        page = OPEN.get(key)
        if page is None or side not in ("train", "queries"):
            return Response(status_code=404)
        try:
            found = page.session.rows(side, start, min(stop, start + ASKED), json.loads(sort), json.loads(filters))
        except (InputError, ValueError, TypeError, AttributeError) as error:
            return Response(str(error), status_code=400, media_type="text/plain")
        return Response(json.dumps(found), media_type="application/json", headers={"cache-control": "no-store"})

    @app.get("/picture/{side}/{position}")
    def picture(side: str, position: int) -> Response:
        found = {"train": contents.display.train, "queries": contents.display.queries}.get(side)
        if found is None or found.pictures is None or not 0 <= position < len(found):
            return Response(status_code=404)
        content = found.pictures[position]
        if content == UNSHOWN:
            return Response(UNDRAWN, media_type="image/svg+xml", headers=STILL)
        return Response(content, media_type="image/png", headers=STILL)

    @app.get("/map.png")
    def map_() -> Response:
        if not contents.display.train.on_map:
            return Response(status_code=404)
        return Response(contents.map.picture(), media_type="image/png", headers=STILL)

    @app.get("/decisions.csv")
    def decisions() -> Response:
        headers = {"content-disposition": "attachment; filename=decisions.csv"}
        return Response(
            as_csv([asdict(each) for each in contents.decisions.read()]), media_type="text/csv", headers=headers
        )


UNDRAWN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><rect width="100" height="100" fill="#8882"/>'
    '<text x="50" y="54" font-size="12" text-anchor="middle" fill="#888">no image</text></svg>'
)


def application(contents: Contents, who: str, found: Door, as_csv: AsCsv) -> Guard:
    """The page as an application in the form of ASGI; ``as_csv``: rows as a file whose cells are no formulas."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    routes(app, contents, as_csv)

    def root() -> None:
        Page(contents, who).build()

    ui.run_with(app, root=root, title=f"upweight: {contents.display.title}", dark=None, show_welcome_message=False)
    return Guard(app, found.token)


def serve(contents: Contents, who: str, found: Door, as_csv: AsCsv) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(application(contents, who, found, as_csv), log_level="warning", access_log=False)
    try:
        with contextlib.suppress(KeyboardInterrupt), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # NiceGUI looks for its server among all objects there are
            uvicorn.Server(config).run(sockets=[found.socket])
    finally:
        found.socket.close()
        contents.decisions.compact(LOOSE)
