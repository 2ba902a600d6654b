"""Pages are found by being there, those of features too."""

from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from app_api.console.error_pages import ErrorPages
from app_api.console.found import found_pages
from app_api.console.rendering import open_console
from app_api.problems import app_error_response
from app_db.errors import NotFound
from app_runtime.discovery import FeatureError

PAGES = "from fastapi import APIRouter\nrouter = APIRouter()\n"


def write_feature(folder: Path, package: str, **modules: str) -> None:
    feature = folder / package / "pets"
    feature.mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    (feature / "__init__.py").touch()
    for name, text in modules.items():
        (feature / f"{name}.py").write_text(text)


def test_a_feature_keeps_its_pages_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = 'SLOTS = {"account": "pets.html"}\n'
    write_feature(tmp_path, "shop_with_pages", pages=PAGES + slots, operator_pages=PAGES)
    (tmp_path / "shop_with_pages/pets/templates").mkdir()
    (tmp_path / "shop_with_pages/pets/templates/pets.html").write_text("<p>{{ name }}</p>")
    (tmp_path / "shop_with_pages/pets/static").mkdir()
    (tmp_path / "shop_with_pages/pets/static/pets.js").write_text("1;")
    monkeypatch.syspath_prepend(tmp_path)

    modules = found_pages("shop_with_pages")

    assert [module.for_operators for module in modules[-2:]] == [False, True]
    console = open_console(modules)
    assert console.render_part("pets.html", name="<Rex>") == "<p>&lt;Rex&gt;</p>"
    assert console.assets["pets.js"].content == b"1;"
    slot = console.templates.from_string("{% for part in filling('account') %}{{ part }} {% endfor %}").render()
    assert "pets.html" in slot.split()


def test_pages_without_a_router_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_feature(tmp_path, "shop_without_router", pages="")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(FeatureError, match=r"pets/pages.py: it has no `router`"):
        found_pages("shop_without_router")


async def test_a_problem_that_comes_in_pieces_is_a_page_too() -> None:
    sent: list[Message] = []

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        async def in_pieces(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            for number, byte in enumerate(body := message["body"], start=1):
                await send({**message, "body": bytes([byte]), "more_body": number < len(body)})

        await app_error_response(scope, NotFound())(scope, receive, in_pieces)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/console/x", "method": "GET", "headers": [], "state": {"request_id": "1"}}
    await ErrorPages(refuse, console=open_console(found_pages()))(scope, receive, send)

    start, body = sent
    assert start["status"] == 404
    assert b"it is not yours" in body["body"]
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
