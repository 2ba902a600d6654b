"""The addresses of the console, and which of them a form may lead back to."""

import re
from typing import Final
from urllib.parse import urlencode, urlsplit

ROOT: Final = "/console"
SIGN_IN: Final = f"{ROOT}/sign-in"
CONFIRM: Final = f"{ROOT}/confirm"
LIVE: Final = f"{ROOT}/live"

# Nothing that a browser or a proxy could read in another way: no `//`, `\`, `..` or escape in the path.
_OURS: Final = re.compile(rf"{ROOT}(?:/(?!\.)[A-Za-z0-9._-]+)*(?:\?[A-Za-z0-9._~%&=+:,-]*)?", re.ASCII)
_LONGEST: Final = 2000


def is_ours(path: str) -> bool:
    """Return whether a path belongs to the console."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def safe_next(target: str | None) -> str:
    """Return the address that a form may lead to: the target if it is a page of the console, else the first page.

    Example:
        >>> safe_next("/console/account"), safe_next("//evil.example"), safe_next("/console/../x")
        ('/console/account', '/console', '/console')
    """
    if target is None or len(target) > _LONGEST or not _OURS.fullmatch(target):
        return ROOT  # guard: test_no_address_of_another_site_is_a_next_page
    return target


def path_of(url: str) -> str:
    """Return path and query of an absolute address, such as that of a Referer; the root if it is malformed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ROOT
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def with_next(path: str, target: str) -> str:
    """Return the address of a form that leads to the target once it is done."""
    return f"{path}?{urlencode({'next': safe_next(target)})}"
