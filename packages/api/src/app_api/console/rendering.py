"""Templates as pages: one environment that escapes everything, and what each page is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from app_api.console.assets import Asset, read_assets
from app_api.console.formats import FILTERS
from app_api.console.found import Link, PageModule
from app_api.console.fragments import Fragment
from app_api.console.paths import ROOT
from app_auth.permissions import is_operator
from app_auth.principal import Principal

HERE: Final = Path(__file__).parent
FORM: Final = "console_form"


@dataclass(frozen=True, slots=True)
class Console:
    """The parts of the console in a process: built once, read by every request."""

    templates: Environment
    assets: Mapping[str, Asset]
    modules: tuple[PageModule, ...]
    """In the order of their links."""
    fragments: Mapping[str, Fragment]
    """The parts of pages that are kept live, by name."""
    done: Mapping[str, str]
    """What `?done=…` stands for, so that no address makes a page show the words of a stranger."""

    def links_for(self, viewer: Principal | None) -> list[Link]:
        """Return the links of the navigation that somebody sees; visitors see none."""
        seen = [module for module in self.modules if viewer and (is_operator(viewer) or not module.for_operators)]
        return [module.link for module in seen if module.link is not None]

    def render(self, template: str, *, viewer: Principal | None, path: str, **context: Any) -> str:  # Any: templates'
        """Return the text of a page."""
        links = self.links_for(viewer)
        return self.templates.get_template(template).render(viewer=viewer, links=links, path=path, **context)

    def render_part(self, template: str, **context: Any) -> str:  # Any: the template's
        """Return the text of a part of a page."""
        return self.templates.get_template(template).render(**context)


def open_console(modules: tuple[PageModule, ...], *, has_mails: bool = False) -> Console:
    """Return the console with these pages."""
    assets = {name: asset for folder in _folders("static", modules) for name, asset in read_assets(folder).items()}
    templates = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in _folders("templates", modules)]),
        autoescape=True,  # of every file, whatever its name; guard: test_what_strangers_write_is_shown_as_text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"has_mails": has_mails, "asset": lambda name: assets[name].path, "root": ROOT}
    templates.globals["filling"] = lambda slot: [each.slots[slot] for each in modules if slot in each.slots]
    templates.filters |= {"when": when, **FILTERS}
    in_order = sorted(modules, key=lambda module: (module.link.order, module.link.text) if module.link else (0, ""))
    done = {code: text for module in modules for code, text in module.done.items()}
    fragments = {name: part for module in modules for name, part in module.live.items()}
    return Console(templates, assets, tuple(in_order), fragments, done)


def _folders(name: Literal["static", "templates"], modules: tuple[PageModule, ...]) -> list[Path]:
    """Return the folders of this name: the console's own, and those of modules."""
    theirs = [folder for module in modules if (folder := getattr(module, name)).is_dir()]
    return [*dict.fromkeys([HERE / name, *theirs])]


def when(time: datetime) -> str:
    """Return a time as people read it, in UTC to the minute."""
    return f"{time.astimezone(UTC):%d %b %Y, %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Page:
    """The page that a request asks for, and who looks at it."""

    request: Request
    viewer: Principal | None

    @property
    def console(self) -> Console:
        """The parts of the console."""
        console: Console = self.request.app.state.console
        return console

    def render(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:  # Any: the template's
        """Return the page that a template makes of the context.

        Example:
            return page.render("pets.html", pets=await service.pets_of(session, viewer))
        """
        done = self.console.done.get(self.request.query_params.get("done", ""))
        path = self.request.url.path
        shown = {**self._slot_values(), **context}
        return HTMLResponse(self.console.render(template, viewer=self.viewer, path=path, done=done, **shown), status)

    def on_error(self, template: str, **context: Any) -> None:  # Any: the template's
        """Choose the form to show again, with the words of the error as `problem`, if this request fails."""
        setattr(self.request.state, FORM, (template, {"viewer": self.viewer, **self._slot_values(), **context}))

    def _slot_values(self) -> dict[str, Any]:  # Any: the templates'
        modules = self.console.modules
        return {name: value for module in modules for name, value in module.slot_values(self.request).items()}
