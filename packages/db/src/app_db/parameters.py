"""What may stand behind the `?` of a URL: asyncpg and redis-py know other parameters than libpq and providers write.

asyncpg sends what it does not know to the server as a setting, which refuses the connection, and redis-py passes it to
a constructor that does not take it: both only when somebody asks something. So each is taken, or refused by its name.
"""

import re
from collections.abc import Mapping, Sequence

from sqlalchemy import URL

_HOSTS = frozenset({"host", "port", "target_session_attrs"})
"""Those that app_db.hosts reads; what begins with `ssl` is compared with APP_DATABASE__TLS by app_db.tls."""

# What asks for nothing that we do not do anyway, and would not be understood by asyncpg: left out.
_GRANTED: Mapping[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "keepalives": frozenset({"1"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8"}),
    "load_balance_hosts": frozenset({"disable"}),
}

_CREDENTIALS = "user, password and database go before the ?"
_ROLE = "give the role what it sets: ALTER ROLE … SET …"
_OURS = "what keeps a connection alive is decided here: take it out"
_POOLER = "see PgBouncer in docs/how-to/operations.md, and take it out"
_INSTEAD: Mapping[str, str] = {
    "channel_binding": "it is not spoken; APP_DATABASE__TLS=verify-full proves who the server is",
    "gssencmode": "encryption by GSSAPI is not spoken; APP_DATABASE__TLS is",
    "require_auth": "which method is used is for the server to say (pg_hba.conf)",
    "requiressl": "APP_DATABASE__TLS decides",
    "connect_timeout": "APP_DATABASE__CONNECT_TIMEOUT is the setting",
    "command_timeout": "APP_DATABASE__COMMAND_TIMEOUT is the setting",
    "statement_timeout": "APP_DATABASE__STATEMENT_TIMEOUT is the setting",
    "lock_timeout": "APP_DATABASE__LOCK_TIMEOUT is the setting",
    "connection_limit": "APP_DATABASE__POOL_SIZE and READ_POOL_SIZE are the settings",
    "pool_timeout": "APP_DATABASE__POOL_TIMEOUT is the setting",
    "pgbouncer": _POOLER,
    "prepared_statement_cache_size": _POOLER,
    "statement_cache_size": _POOLER,
    "options": "give the role what it sets: ALTER ROLE … SET …; a provider's endpoint is in the name of its host (SNI)",
    "schema": _ROLE,
    "search_path": _ROLE,
    "application_name": "each of our connections has a name already: take it out",
    "fallback_application_name": "each of our connections has a name already: take it out",
    "client_encoding": "it is UTF-8: take it out",
    "load_balance_hosts": "which host is asked is decided by target_session_attrs",
    **dict.fromkeys(("user", "username", "password", "passfile", "dbname", "database", "service"), _CREDENTIALS),
    **dict.fromkeys(("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"), _OURS),
    "tcp_user_timeout": _OURS,
}
_INSTEAD_FOR_VALKEY: Mapping[str, str] = {
    "username": "user and password go before the host",
    "password": "user and password go before the host",
    **dict.fromkeys(
        ("timeout", "socket_timeout", "socket_connect_timeout", "connect_timeout"), "APP_REDIS__TIMEOUT is the setting"
    ),
    **dict.fromkeys(("tls", "tls_verify"), "rediss:// and APP_REDIS__TLS are the settings"),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_NUMBER = re.compile(r"[0-9]{1,5}")
_UNKNOWN = "it is not known here: take it out"


def without_granted(url: URL) -> URL:
    """Return a URL of Postgres without the parameters that ask for what we do anyway.

    Raises:
        ValueError: names a parameter that is not understood, and what to do instead; no value is shown.
    """
    query = url.normalized_query
    for name, values in query.items():
        if name in _GRANTED and _GRANTED[name].issuperset(value.lower() for value in values):
            continue
        if name not in _HOSTS and not name.startswith("ssl"):
            raise _refusal(name, _INSTEAD)  # guard: test_a_parameter_that_asyncpg_does_not_know_is_refused_by_name
        if name == "target_session_attrs" and len(values) > 1:
            raise ValueError("names target_session_attrs more than once")
    return url.difference_update_query(_GRANTED)


def check_valkey_parameters(query: Mapping[str, Sequence[str]]) -> None:
    """Let a URL of Valkey name its database, and nothing else.

    Raises:
        ValueError: as above.
    """
    for name, values in query.items():
        if name.startswith("ssl"):
            raise ValueError(f"must not speak of TLS beyond rediss://, as ?{_shown(name)} does: APP_REDIS__TLS does")
        if name != "db":
            raise _refusal(name, _INSTEAD_FOR_VALKEY)  # guard: test_a_parameter_of_valkey_is_refused_by_name
        if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
            raise ValueError("takes as ?db the number of one database")


def _refusal(name: str, instead: Mapping[str, str]) -> ValueError:
    return ValueError(f"has the parameter ?{_shown(name)}: {instead.get(name, _UNKNOWN)}")


def _shown(name: str) -> str:
    """Return a name as it is, unless it may be a piece of a password that holds a question mark."""
    return name if _NAME.fullmatch(name) else "…"
