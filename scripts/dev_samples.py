"""Each mail template with sample data, as files for the page of the console that shows them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import jinja2
from jinja2 import meta

from app_db.features.accounts.payloads import Notice
from app_worker.mail import PRODUCT, compose, template_folders

SENDER: Final = f"{PRODUCT} <no-reply@example.com>"
BASE_URL: Final = "https://example.com"
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "base_url": (BASE_URL,),
    "email": ("ada@example.com",),
    "lifetime": ("24 hours",),
    "link": (f"{BASE_URL}/#/verify?token=sample",),
    "product": (PRODUCT,),
    "what": tuple(Notice),
}
"""What templates are given; where there are several values, the template is shown with each. Others get their name."""


def templates() -> Iterator[Path]:
    """Yield the templates of all features, those of the text; the HTML ones stand beside them."""
    for folder in template_folders("app_worker.features"):
        yield from sorted(folder.glob("*.txt"))


def changed_at() -> float:
    """Return when a template was last changed."""
    files = [file for folder in template_folders("app_worker.features") for file in folder.glob("*.*")]
    return max((file.stat().st_mtime for file in files), default=0.0)


def write_samples(folder: Path) -> None:
    """Write a mail for each template, and for each value of what it tells apart; files of before are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.eml"):
        file.unlink()
    for template in templates():
        for variant, values in _samples(template):
            name = f"{template.stem}-{variant}" if variant else template.stem
            message = compose(template.stem, sender=SENDER, to="ada@example.com", message_id=name, values=values)
            (folder / f"{name.replace('.', '-')}.eml").write_bytes(message.as_bytes())


def _samples(template: Path) -> Iterator[tuple[str, dict[str, str]]]:
    wanted: set[str] = set()
    for file in template.parent.glob(f"{template.stem}.*"):
        wanted |= meta.find_undeclared_variables(jinja2.Environment(autoescape=True).parse(file.read_text()))
    values = {name: VALUES.get(name, (f"({name})",)) for name in wanted}
    first = {name: each[0] for name, each in values.items()}
    several = [(name, value) for name, each in values.items() if len(each) > 1 for value in each]
    for name, value in several or [("", "")]:
        yield str(value), first | ({name: value} if name else {})
