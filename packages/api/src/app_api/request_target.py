"""The Host and the target of a request: if both name a host, they must agree (RFC 9112, 3.2 and 3.3)."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from app_api.connection import TARGET
from app_api.host_names import Authority, read_authority
from app_api.problems import InvalidText, MalformedRequest
from app_db.errors import BadRequest

_ABSOLUTE: Final = re.compile(rb"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?:[/?]|$)", re.IGNORECASE)
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PORTS: Final = {b"http": 80, b"https": 443}


class InvalidHost(BadRequest):
    """Invalid host header"""

    code = "invalid_host"


def host_of(scope: Scope) -> str:
    """Return the name that a request is for.

    Raises:
        InvalidHost: there is not exactly one Host, or it is no name, or the target names another.
        MalformedRequest: the target has no form that RFC 9112, 3.2 allows here.
    """
    given = [value for name, value in scope["headers"] if name == b"host"]
    # RFC 9112, 3.2: exactly one. A proxy in front might choose the other of two.
    host = read_authority(given[0]) if len(given) == 1 else None  # guard: test_two_hosts_are_refused
    if host is None:
        raise InvalidHost
    target: bytes | None = scope["state"].get(TARGET)
    if target is not None:  # only HttpConnection passes it on
        _check_target(target, host, method=scope["method"])
    return host.name


def _check_target(target: bytes, host: Authority, *, method: str) -> None:
    """Refuse a target in a form that RFC 9112, 3.2 does not allow here, and one for another host."""
    if b"#" in target:
        raise MalformedRequest  # guard: test_a_target_that_no_client_sends_is_refused
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise MalformedRequest  # guard: test_a_target_that_no_client_sends_is_refused
    named, port = read_authority(absolute["authority"]), _PORTS[absolute["scheme"].lower()]
    # RFC 9112, 3.2.2: clients send the same host in both; if they differ, another server may use the other one.
    if named is None or (named.name, named.port or port) != (host.name, host.port or port):
        raise InvalidHost  # guard: test_a_target_for_another_host_is_refused


def check_path(scope: Scope) -> None:
    """Refuse a path with invalid escapes, because not every server and proxy decodes them in the same way.

    Raises:
        InvalidText: it is not UTF-8.
        MalformedRequest: an escape is invalid, or the server has decoded another path.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return
    try:
        path = unquote_to_bytes(raw).decode() if b"%" in raw else raw.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidText from None  # guard: test_a_path_that_can_be_read_in_two_ways_is_refused
    if path != scope["path"] or _BROKEN_ESCAPE.search(raw):
        raise MalformedRequest  # guard: test_a_path_that_can_be_read_in_two_ways_is_refused
