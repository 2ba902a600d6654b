"""The answers to forms."""

from fastapi.responses import RedirectResponse


def see_other(path: str) -> RedirectResponse:
    """Lead the browser to a page after a form, so that a reload does not send the form again (RFC 9110, 15.4.4)."""
    return RedirectResponse(path, 303)
