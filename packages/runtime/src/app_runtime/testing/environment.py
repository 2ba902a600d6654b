"""Which variables the programs of a checkout take from the shell: those that are named here, and no others.

A shell exports variables that libpq, HTTP clients, uvicorn or git obey too: `PGSSLMODE`, `HTTP_PROXY`,
`WEB_CONCURRENCY`, `FORCE_COLOR`, `GIT_DIR` in a hook. Tests and the programs of `make dev` do not depend on these.
"""

from collections.abc import Collection, Mapping

from app_runtime.configuration import PREFIX

NAMES = frozenset((
    # The user, the folders, and the terminal.
    "CI", "COLORTERM", "DISPLAY", "EDITOR", "HOME", "LANG", "LANGUAGE", "LOGNAME", "NO_COLOR", "PAGER", "PATH", "PWD",
    "SHELL", "TEMP", "TERM", "TERM_PROGRAM", "TMP", "TMPDIR", "USER", "VISUAL",
    # Where libraries and certificates are on this machine.
    "DYLD_FALLBACK_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LD_LIBRARY_PATH", "LOCALE_ARCHIVE", "LOCPATH",
    "CURL_CA_BUNDLE", "NIX_SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
    # How Python compiles, and how long some tests try.
    "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONPYCACHEPREFIX", "PYTHONUTF8",
    "HYPOTHESIS_EXAMPLES", "SCHEMATHESIS_SECONDS",
))  # fmt: skip
BEGINNINGS = (
    "ASDF_", "BENCH_", "CHAOS_", "COVERAGE_", "DOCKER_", "LC_", "MISE_", "PIP_", "PYENV_", "PYTEST_", "UV_", "XDG_",
)  # fmt: skip
# The tests of packages ask an index, which may be behind a proxy; scripts/uv.sh gives these names back to uv.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
FOR_UV = "UV_SH_"


def let_through(environ: Mapping[str, str], *, more: Collection[str] = ()) -> dict[str, str]:
    """Return the variables that our programs take from an environment; `more` are further names, as of a product."""
    names = NAMES.union(more)
    taken = {name: value for name, value in environ.items() if name in names or name.startswith(BEGINNINGS)}
    for name in PROXIES:
        if value := environ.get(name.lower()) or environ.get(name):
            taken[FOR_UV + name] = value
    return taken


def for_tests(environ: Mapping[str, str], *, more: Collection[str] = ()) -> dict[str, str]:
    """Return the environment of a test run: of our settings only your servers', messages in English."""
    taken = let_through(environ, more={f"{PREFIX}DATABASE__URL", f"{PREFIX}PG_BIN", *more})
    return {name: value for name, value in taken.items() if not name.startswith("LC_")} | {"LANG": "C.UTF-8"}
