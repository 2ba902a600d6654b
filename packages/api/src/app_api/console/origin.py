"""Forms are taken from our own pages only: another site cannot let a browser act for who is signed in."""

from urllib.parse import urlsplit

from fastapi import Request

from app_api.dependencies import SAFE_METHODS
from app_db.errors import Forbidden


class CrossOrigin(Forbidden):
    """This form was not sent by a page of the console. Open the page again, and send it from there."""

    code = "cross_origin"


async def require_same_origin(request: Request) -> None:
    """Refuse unsafe requests that no page of this origin has sent; who says nothing about it is refused too.

    Browsers say it in Sec-Fetch-Site wherever the page is trustworthy: https, or loopback. Elsewhere Origin counts.
    Another port of this host is `same-site` and refused, although it gets and sends the same cookies.

    Raises:
        CrossOrigin: the form is another site's, or nobody says whose it is.
    """
    if request.method in SAFE_METHODS:
        return
    sites = request.headers.getlist("sec-fetch-site")
    if sites:
        if sites != ["same-origin"]:
            raise CrossOrigin  # guard: test_no_form_of_another_site_is_taken
        return
    if not _is_same_host(request.headers.getlist("origin"), request.headers["host"]):
        raise CrossOrigin  # guard: test_a_form_that_does_not_say_where_it_is_from_is_refused


def _is_same_host(origins: list[str], host: str) -> bool:
    try:
        return len(origins) == 1 and urlsplit(origins[0]).netloc.lower() == host.lower()
    except ValueError:
        return False
