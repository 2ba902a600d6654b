"""Journeys to a provider and back, over a `Wire`: as a client of the API, and as a browser in the console."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2

from app_api.feature_settings import VARIABLES_OF_RINGS
from app_auth.testing import new_key
from packages.api.tests.features.providers.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.attack.conftest import Environment, an_email, ring_variable
from tests.attack.wire import FORM, Reply, Wire
from tests.e2e.processes import Api

PROVIDERS_VARIABLE = "APP_AUTH__PROVIDERS"
NOBODY_IS_THERE = "http://127.0.0.1:1"

type Back = dict[str, str]


def two_servers(environment: Environment, log: Path, issuers: Mapping[str, str]) -> Iterator[tuple[Api, Api]]:
    """Start two processes that know these issuers, by their names."""
    told = [
        {"name": name, "issuer": url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        for name, url in issuers.items()
    ]
    # Of features, some of which may be removed.
    rings = [variable for variable in VARIABLES_OF_RINGS.values() if variable not in environment]
    knowing = {
        **environment,
        **{variable: ring_variable((new_key(),)) for variable in rings},
        PROVIDERS_VARIABLE: json.dumps(told),
        "APP_PROVIDERS__CLIENT_CALLBACK": "http://localhost/signed-in/{name}",
        "APP_PROVIDERS__TIMEOUT": "PT4S",
    }
    with ExitStack() as stack:
        first, second = (Api(env=knowing, log=log / f"api-{number}.log") for number in range(2))
        for each in (first, second):
            stack.callback(each.kill)
        yield first, second
        assert (first.stop(), second.stop()) == (0, 0), first.output + second.output


def reset(issuer: Issuer) -> Issuer:
    """Unbend a provider, and let somebody be there whom no test has seen."""
    person = {"sub": secrets.token_hex(8), "email": an_email(), "email_verified": True}
    vars(issuer).update(vars(Issuer(url=issuer.url, person=person)))
    return issuer


def _approved(address: str) -> Back:
    """Press the button at the provider; return what it sends the browser back with."""
    answer = httpx2.post(address, timeout=10)
    assert answer.status_code == 303, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def come_back(wire: Wire, name: str = "acme", *, to: str = "start", bearer: str | None = None) -> Back:
    """Go to a provider; return what a client of the API has to send then."""
    begun = wire.post(f"/auth/providers/{name}/{to}", bearer=bearer)
    assert begun.status == 200, begun.body
    return {**_approved(begun.json["authorization_url"]), "secret": begun.json["secret"]}


def answer(wire: Wire, back: Mapping[str, str | None], name: str = "acme") -> Reply:
    return wire.post(f"/auth/providers/{name}/callback", back)


def answer_link(wire: Wire, back: Back, bearer: str) -> Reply:
    return wire.post("/auth/providers/acme/link/callback", back, bearer=bearer)


def sign_in(wire: Wire, name: str = "acme") -> str:
    """Sign in with a provider; return the access token."""
    reply = answer(wire, come_back(wire, name), name)
    assert reply.status == 200, reply.body
    return str(reply.json["access_token"])


def links(wire: Wire, bearer: str) -> list[Mapping[str, str]]:
    listed: list[Mapping[str, str]] = wire.get("/auth/providers/links", bearer=bearer).json["items"]
    return listed


@dataclass(slots=True)
class Browser:
    """A browser in the console: it keeps cookies, and says where its forms are from."""

    wire: Wire
    cookies: dict[str, str] = field(default_factory=dict)

    def go(self, next_page: str = "") -> Back:
        """Press the button of ours, and then the provider's; return what that sends the browser back with."""
        page = self._send("POST", "/console/providers/acme/start", {"next": next_page})
        assert page.status == 200, page.body
        return _approved(page.headers["Refresh"].partition("url=")[2])

    def back(self, returned: Back) -> Reply:
        """Follow the provider's redirect to the console."""
        return self._send("GET", f"/console/providers/acme/callback?{urlencode(returned)}")

    def _send(self, method: str, path: str, fields: Mapping[str, str] | None = None) -> Reply:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "Sec-Fetch-Site": "same-origin" if fields else "cross-site"}
        body, form = (urlencode(fields).encode(), FORM) if fields else (None, {})
        reply = self.wire.request(method, path, body=body, headers={**headers, **form})
        for cookie in reply.headers.get_all("Set-Cookie", []):
            name, _, rest = cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return reply

    @property
    def is_signed_in(self) -> bool:
        """Whether it has the cookie of a session."""
        return any(name.startswith("__Host-console-") and name.count("-") == 2 for name in self.cookies)
