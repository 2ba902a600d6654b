"""`python -m app_api config …`: makes and rotates the file of secrets, and checks the settings before they serve."""

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, get_args

from pydantic import TypeAdapter, ValidationError

from app_api.feature_settings import ALL_SETTINGS, OF_FEATURES, READ_ELSEWHERE, VARIABLES_OF_RINGS
from app_auth.keys import KEPT_FOR, RINGS, SIGNING_RING, RingUnchanged, activated, added, new_key, retired
from app_auth.mail import MailAndLinks
from app_auth.payload_keys import require_payload_keys
from app_auth.settings import Algorithm, Key, KeyRing, SigningRing, active
from app_auth.valkey import require_no_cluster
from app_db.fleet import room_for
from app_db.jobs.catalog import CATALOG
from app_db.outage import DatabaseUnavailable, Refused
from app_db.pooler import require_way_past
from app_db.roles import MIGRATOR_SUFFIX, Roles, require_modest_role, role_urls
from app_db.settings import DatabaseSettings
from app_db.tls import NO_CERTIFICATE
from app_db.types import utcnow
from app_runtime.configuration import (
    PREFIX,
    SECRETS_FILE,
    Environment,
    Misconfigured,
    lines_of,
    load,
    read,
    shown,
    variables,
)  # fmt: skip
from app_runtime.valkey import ValkeySettings

_RING: Final[TypeAdapter[tuple[Key, ...]]] = TypeAdapter(KeyRing)
_SIGNING_RING: Final[TypeAdapter[tuple[Key, ...]]] = TypeAdapter(SigningRing)
_RETIRE: Final = {
    "keys": "once APP_AUTH__ACCESS_TTL has passed",
    "refresh_keys": "once APP_AUTH__REFRESH_ABSOLUTE has passed; earlier, who is signed in by it is signed out",
    "token_keys": "once the last link that was mailed with it has expired, which is a day",
    "jobs_keys": "once every job that it was active for has ended; earlier, they wait for it to come back",
    "peppers": "when you accept that who has not signed in since then has to reset the password",
}
_RETIRE_OF_FEATURES: Final = "when you accept that what only it has sealed, and nothing used since then, is lost"


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    commands.add_parser("check", help="print the settings without secrets, and fail where `serve` would not start")
    init = commands.add_parser("init", help="write a new file of secrets for both applications")
    init.add_argument("file", metavar="FILE", type=Path, nargs="?", default=Path("secrets.env"))
    init.add_argument("--database", metavar="URL", help="where Postgres is: postgresql://host:port/database")
    init.add_argument("--redis", metavar="URL", help="where Valkey is: rediss://host:port/0")
    _add_alg(init)
    rotate = commands.add_parser("rotate", help="let a new key sign, while what the old one has signed is accepted")
    rotate.add_argument("ring", metavar="RING", choices=VARIABLES_OF_RINGS, help=", ".join(VARIABLES_OF_RINGS))
    _add_alg(rotate)
    rotate.add_argument("--file", type=Path, help="the file of secrets to change; without it the ring is printed")
    how = rotate.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="only add a key, for all processes to know before it signs")
    how.add_argument("--activate", metavar="KID", help="let a key sign that was added before")
    how.add_argument("--retire", metavar="KID", help="remove a key that does not sign any more")


def _add_alg(parser: argparse.ArgumentParser) -> None:
    what = "how the new key of `keys` signs; with EdDSA or ES256, others verify by /.well-known/jwks.json"
    parser.add_argument("--alg", choices=get_args(Algorithm.__value__), help=what)


def run(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[str]:
    """Run the subcommand and yield the lines to print.

    Raises:
        Misconfigured: with lines that say what is wrong; then nothing was changed.
    """
    match parsed.action:
        case "check":
            yield from _check(environ)
        case "init":
            yield from _init(parsed, environ)
        case _:
            yield from _rotate(parsed, environ)


def _check(environ: Mapping[str, str]) -> Iterator[str]:
    settings = load(ALL_SETTINGS, environ, elsewhere=READ_ELSEWHERE)
    yield from shown(settings, environ, elsewhere=READ_ELSEWHERE)
    yield from _check_worker(environ, settings.env)
    require_payload_keys(settings.jobs, CATALOG)
    require_no_cluster(settings.redis)  # guard: test_a_check_refuses_a_valkey_in_cluster_mode
    if settings.env is not Environment.PRODUCTION:
        yield f"# Fit for {settings.env}. What only production refuses was not looked for."
        return
    try:
        require_modest_role(settings.database)
        require_way_past(settings.database)  # guard: test_a_check_refuses_a_direct_url_through_a_pooler
        yield from room_for(settings.database)
    except DatabaseUnavailable as error:
        said = error.reason() if isinstance(error.__cause__, Refused) else "the database does not answer"
        raise Misconfigured(f"APP_DATABASE__URL: {said}") from None
    yield "# Fit for production."


def _check_worker(environ: Mapping[str, str], env: Environment) -> Iterator[str]:
    """Check the settings of mail and links as the worker does, because both usually share one file of settings."""
    elsewhere = [*(variable.name for variable in variables(ALL_SETTINGS)), "APP_WORKER__", *OF_FEATURES]
    own = {variable.name for variable in variables(MailAndLinks)}
    given = own & read(own, environ, elsewhere=elsewhere).texts.keys()
    settings = load(MailAndLinks, environ, elsewhere=elsewhere)
    new = given - {variable.name for variable in variables(ALL_SETTINGS)}
    yield from (line for line in shown(settings, environ, elsewhere=elsewhere) if line.partition("=")[0] in new)
    lines = [line for line in settings.weaknesses() if line.partition(":")[0] in given]
    if lines and env is Environment.PRODUCTION:
        raise Misconfigured(*lines)  # guard: test_a_check_reads_the_settings_of_mail_as_the_worker_does


def _init(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[str]:
    today = utcnow().date()
    signing = new_key(today, alg=parsed.alg or "HS256")
    keys = {ring: new_key(today) for ring in VARIABLES_OF_RINGS} | {SIGNING_RING: signing}
    lines = [f"{VARIABLES_OF_RINGS[ring]}='{_text((key,))}'" for ring, key in keys.items()]
    missing = ["APP_PUBLIC_BASE_URL", "APP_HTTP__ALLOWED_HOSTS", "APP_MAIL__URL", "APP_MAIL__FROM"]
    secret_files = {parsed.file: lines}
    if parsed.database:
        app, migrator = role_urls(parsed.database, Roles())
        lines.append(f"APP_DATABASE__URL='{app}'")
        secret_files[migrator_file(parsed.file)] = [f"APP_DATABASE__URL='{migrator}'"]
        if _is_elsewhere(app):
            missing.append("APP_DATABASE__CA_PATH")
    else:
        missing.append("APP_DATABASE__URL")
    if parsed.redis:
        _check_redis(parsed.redis, tls=environ.get("APP_REDIS__TLS", "").strip() or None)
        lines.append(f"APP_REDIS__URL='{parsed.redis}'")
    else:
        missing.append("APP_REDIS__URL")
    if there := [path.name for path in secret_files if os.path.lexists(path)]:
        raise Misconfigured(f"{' and '.join(there)}: there already, and left as it is")
    _write_all(secret_files)
    for path in secret_files:
        yield f"{path} is written. {SECRETS_FILE}={path} lets a process read it."
    if parsed.database:
        yield f"`python -m app_api database roles --secrets {parsed.file}` makes the roles of these URLs."
    yield f"Set besides: {', '.join(missing)}"


def _rotate(parsed: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[str]:
    name = VARIABLES_OF_RINGS[parsed.ring]
    if parsed.alg and parsed.ring != SIGNING_RING:
        raise Misconfigured(f"--alg: only the ring {SIGNING_RING} has keys of several algorithms")
    try:
        texts = (
            lines_of(parsed.file.read_text(encoding="utf-8-sig"))
            if parsed.file
            else read([name], environ, elsewhere=[PREFIX]).texts
        )
        if name not in texts and parsed.ring not in RINGS and not (parsed.activate or parsed.retire):
            yield from _first(parsed, name)
            return
        before = (_SIGNING_RING if parsed.ring == SIGNING_RING else _RING).validate_json(texts[name])
        after, kid = _changed(before, parsed)
    except KeyError:
        raise Misconfigured(f"{name}: is not set") from None
    except OSError as error:
        raise Misconfigured(f"{parsed.file}: {error.strerror}") from None
    except (ValidationError, RingUnchanged) as error:
        reason = str(error) if isinstance(error, RingUnchanged) else "is not a ring of keys"
        raise Misconfigured(f"{name}: {reason}") from None
    line = f"{name}='{_text(after)}'"
    if parsed.file is None:
        yield line
        return
    _replace_line(parsed.file, name, line)
    yield f"{name}: {', '.join(f'{key.kid} ({key.state})' for key in after)}. Restart what reads {parsed.file}."
    if parsed.add:
        others = "" if after[-1].alg == "HS256" else f", and {KEPT_FOR} seconds later, when other services do"
        then = f"config rotate {parsed.ring} --file {parsed.file} --activate {kid}"
        yield f"Then, when all of them know it{others}: {then}"
    elif not parsed.retire:
        old, when = active(before).kid, _RETIRE.get(parsed.ring, _RETIRE_OF_FEATURES)
        yield f"Then, {when}: config rotate {parsed.ring} --file {parsed.file} --retire {old}"


def _first(parsed: argparse.Namespace, name: str) -> Iterator[str]:
    """Make the ring of a feature that came after the file of secrets."""
    line = f"{name}='{_text((new_key(utcnow().date()),))}'"
    if parsed.file is None:
        yield line
        return
    _replace_line(parsed.file, name, line)
    yield f"{name}: is new. Restart what reads {parsed.file}."


def _changed(ring: tuple[Key, ...], parsed: argparse.Namespace) -> tuple[tuple[Key, ...], str]:
    if parsed.retire:
        return retired(ring, parsed.retire), parsed.retire
    if parsed.activate:
        return activated(ring, parsed.activate), parsed.activate
    key = new_key(utcnow().date(), alg=parsed.alg or active(ring).alg)
    ring = added(ring, key)
    return ring if parsed.add else activated(ring, key.kid), key.kid


def _is_elsewhere(url: str) -> bool:
    """Whether a database is on another machine, so that its certificate has to be checked.

    Raises:
        Misconfigured: the applications would not accept the URL.
    """
    try:
        DatabaseSettings.model_validate({"url": url})
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            if not problem["msg"].endswith(NO_CERTIFICATE):
                raise Misconfigured(f"--database: {_reason(problem['msg'])}") from None
        return True
    return False


def _check_redis(url: str, *, tls: str | None) -> None:
    """Refuse a URL that no application with this TLS setting accepts.

    Raises:
        Misconfigured: with the reason, without the URL.
    """
    try:
        ValkeySettings.model_validate({"url": url, "tls": tls})
    except ValidationError as error:
        reasons = [_reason(problem["msg"]) for problem in error.errors(include_input=False)]
        raise Misconfigured(*(f"--redis: {reason}" for reason in reasons)) from None


def _reason(message: str) -> str:
    return re.sub(r"^Value error, (APP_[A-Z_]+: )?", "", message)


def migrator_file(path: Path) -> Path:
    """Return the file with the URL of the role that runs migrations; no process that serves may read it."""
    return path.with_name(path.name + MIGRATOR_SUFFIX)


def _text(ring: tuple[Key, ...]) -> str:
    keys = [key.model_dump() | {"secret": key.secret.get_secret_value()} for key in ring]
    return json.dumps(keys)


def _write_all(files: Mapping[Path, list[str]]) -> None:
    """Write all of the files or none: `config init` replaces no existing file, so it must be whole."""
    written: list[Path] = []
    try:
        for path, lines in files.items():
            _write_new(path, ["# Keep it out of git, and where only the applications can read it.", *lines])
            written.append(path)
    except Misconfigured:
        for path in written:
            path.unlink()
        raise


def _write_new(path: Path, lines: list[str]) -> None:
    try:
        # "x" replaces no file, and with 0600 from the start no other user can read the new one.
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:  # opener
            try:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())  # some disks say only now that they are full
            except OSError:
                path.unlink()  # guard: test_a_file_of_secrets_is_whole_or_not_there
                raise
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None


def _replace_line(path: Path, name: str, line: str) -> None:
    """Change one variable of the file, or add it; readers see either the old file or the new one."""
    before = path.stat()
    before_text = path.read_text(encoding="utf-8-sig")
    text, found = re.subn(rf"^(export )?{name}=.*$", lambda _: line, before_text, flags=re.MULTILINE)
    text = text if found else f"{text.rstrip()}\n{line}\n"
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    _write_new(unfinished, text.splitlines())
    unfinished.chmod(before.st_mode)
    os.chown(unfinished, before.st_uid, before.st_gid)
    unfinished.replace(path)
