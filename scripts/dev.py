"""Run all of Groundwork in one terminal, with nothing installed (`make dev`, `make psql` and the like).

dev.py up [--reset]     start everything, until Ctrl-C
dev.py run COMMAND …    run a command in the environment of the running `up`
dev.py psql             open its database
dev.py jobs | api       run a command line of ours there, with the arguments in one text (`make jobs ARGS="list"`)
"""

import argparse
import http.client
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import dev_environment
from dev_environment import DATA, DATABASE_URL, PORT, REDIS_URL, ROOT, RUNNING
from dev_processes import Part, Parts, say
from pydantic import BaseModel
from sqlalchemy import make_url

from app_api.optional import has_console
from app_db.settings import DatabaseSettings
from app_runtime.configuration import PREFIX, Misconfigured, load
from app_runtime.testing.binaries import postgres_programs
from app_runtime.testing.environment import let_through
from app_runtime.testing.processes import FolderLock, free_port, port_is_free
from app_runtime.testing.servers import FolderInUse, PostgresServer, ServerError, ValkeyServer, WrongPostgresVersion

MAIL_URL = "APP_MAIL__URL"
MAIL_FOLDER = DATA / "mail"
SHOWN_MAILS = "APP_CONSOLE__MAIL_FOLDER"
MODULES = {"jobs": "app_worker", "api": "app_api"}
"""Our command lines, by the names of their targets of `make`."""
PSQL = ("PSQLRC", "PSQL_EDITOR", "PSQL_EDITOR_LINENUMBER_ARG", "PSQL_HISTORY", "PSQL_PAGER", "PSQL_WATCH_PAGER")
"""The variables of psql that do not choose a database."""


class Stopped(Exception):
    """A signal asked us to end."""


class ServedDatabase(BaseModel, frozen=True):
    """The settings that psql needs."""

    database: DatabaseSettings


class PartEnded(Exception):
    """A part has ended, so the others must end too; the message names it."""


def up(*, reset: bool) -> None:
    """Start everything and keep it running; returns when asked to stop.

    Raises:
        ServerError: when a server or the API cannot start; the message says why, and what to type.
        PartEnded: when one part ended by itself.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        lock = stack.enter_context(sole_owner())
        if reset:
            start_over()
        environment = dev_environment.settings()
        require_free_port(int(environment[PORT]))
        servers = start_servers(environment, stack)
        stack.callback(RUNNING.unlink, missing_ok=True)
        parts = Parts(lock, cwd=ROOT)
        stack.callback(parts.stop)  # before the servers, so that running jobs can finish
        start_parts(parts, environment)
        answered = False
        while True:
            parts.print_output(0.1)
            if ended := parts.ended():
                go_on_without(ended, parts)
            for server in servers:
                if not server.is_alive():
                    raise PartEnded(f"{server.name} ended; the end of its log:\n{server.log_end()}")
            if not answered and (answered := answers(int(environment[PORT]))):
                welcome(environment, time.monotonic() - began)


def go_on_without(ended: Part, parts: Parts) -> None:
    """Start a worker again that was killed: people try what becomes of its jobs. Whatever else ends, ends all.

    Raises:
        PartEnded: it was something else.
    """
    code = ended.process.wait()
    if ended.name != "worker" or code != -signal.SIGKILL:
        raise PartEnded(f"{ended.name} ended with exit code {code}")
    parts.start_again(ended)
    say("The worker was killed, and is started again. Its jobs go on when their leases have ended, 15 s at most.")


@contextmanager
def sole_owner() -> Iterator[FolderLock]:
    """Own the checkout's data, after the processes of a killed predecessor have ended."""
    DATA.mkdir(exist_ok=True, mode=0o700)
    try:
        lock = FolderLock(DATA)
    except FolderInUse:
        raise FolderInUse("`make dev` already runs in this checkout: press Ctrl-C in its terminal first") from None
    for left_behind in lock.remembered():
        left_behind.end(group=True)
    try:
        yield lock
    finally:
        lock.release()


def start_over() -> None:
    """Forget the embedded servers' data, the mails and the secrets; `.env` and servers of your own are left alone."""
    for server in (PostgresServer(DATA / "postgres"), ValkeyServer(DATA / "valkey")):
        server.erase()
    shutil.rmtree(MAIL_FOLDER, ignore_errors=True)
    dev_environment.GENERATED.unlink(missing_ok=True)


def require_free_port(port: int) -> None:
    """Raise a ServerError when the API could not listen on this port."""
    if not port_is_free(port):
        raise ServerError(f"port {port} is taken: stop what listens there, or type `make dev {PORT}={port + 1}`")


def start_servers(environment: dict[str, str], stack: ExitStack) -> list[PostgresServer | ValkeyServer]:
    """Start the servers that no URL was given for, and put their URLs into the environment."""
    servers: list[PostgresServer | ValkeyServer] = []
    if DATABASE_URL not in environment:
        try:
            postgres = stack.enter_context(PostgresServer(DATA / "postgres"))
        except WrongPostgresVersion as error:
            raise ServerError(f"{error}; or type `make dev RESET=1` to start over without the data") from None
        postgres.create_database("app")
        environment[DATABASE_URL] = postgres.url("app")
        servers.append(postgres)
    if REDIS_URL not in environment:
        valkey = stack.enter_context(ValkeyServer(DATA / "valkey"))
        environment[REDIS_URL] = valkey.url
        servers.append(valkey)
    return servers


def start_parts(parts: Parts, environment: dict[str, str]) -> None:
    """Start our own programs. The worker waits for the migrations; the API does not, and is unready until then."""
    if MAIL_URL not in environment:
        mail_port = free_port()
        environment[MAIL_URL] = f"smtp://127.0.0.1:{mail_port}"
        environment.setdefault(SHOWN_MAILS, str(MAIL_FOLDER))
        mail = [sys.executable, "scripts/dev_mail.py", str(mail_port), str(MAIL_FOLDER)]
        parts.start("mail", mail, {**let_through(os.environ), "PYTHONUNBUFFERED": "1"})
    dev_environment.write(RUNNING, environment)
    child = {**let_through(os.environ), **environment, "PYTHONUNBUFFERED": "1"}
    parts.start("migrate", [sys.executable, "-m", "alembic", "upgrade", "head"], child)
    uvicorn = "-m uvicorn app_api.main:build --factory --reload --reload-dir packages --host 127.0.0.1"
    quick = f"--port {environment[PORT]} --log-level warning --no-server-header --timeout-graceful-shutdown 3"
    parts.start("api", [sys.executable, *uvicorn.split(), *quick.split()], child)
    while (exit_code := parts.exit_code("migrate")) is None:
        parts.print_output(0.05)
    if exit_code:
        raise PartEnded(f"the migrations failed with exit code {exit_code}")
    parts.start("worker", [sys.executable, "-m", "app_worker", "run"], child)


def answers(port: int) -> bool:
    """Whether the API sends any response."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
        connection.request("GET", "/probe/live")
        connection.getresponse().close()
        connection.close()
        return True
    return False


def welcome(environment: dict[str, str], seconds: float) -> None:
    """Print the first screen."""
    database = make_url(environment[DATABASE_URL])
    mails = (f"{MAIL_FOLDER.relative_to(ROOT)}/", "each is announced here, with its links")
    if MAIL_URL in dev_environment.settings():
        mails = ("your own server", "by APP_MAIL__URL")
    address = f"http://localhost:{environment[PORT]}"
    console = [("console", f"{address}/console", "register, sign in, see jobs")] if has_console() else []
    rows = (
        *console,
        ("API", address, "Swagger UI; changes in packages/ reload it"),
        ("mails", *mails),
        ("database", "make psql", f"{database.host}:{database.port}, database {database.database}"),
        ("data", "make seed", "a first operator and sample data; make shell for Python"),
        ("commands", "make jobs, make api", 'look into jobs and accounts: make jobs ARGS="stats"'),
        ("operator", "make api", 'all pages, for an account: make api ARGS="operator grant ADDRESS"'),
        ("stop", "Ctrl-C", "the data stays; make dev RESET=1 starts over"),
    )
    say("")
    say(f"Groundwork answers, {seconds:.1f} s after the start.")
    say("")
    for name, what, why in rows:
        say(f"  {name:<10}{what:<31}{why}")
    say("")


def environment_of_running() -> dict[str, str]:
    """The environment for `make psql` and the like: of the running `up`, or of your own servers.

    Raises:
        ServerError: when neither is there.
    """
    chosen = dev_environment.settings() if DATA.exists() else {}
    if DATABASE_URL in chosen and REDIS_URL in chosen:
        return {**chosen, **dev_environment.read(RUNNING)}
    if not RUNNING.exists():
        raise ServerError("nothing runs in this checkout: type `make dev` in another terminal first")
    return dev_environment.read(RUNNING)


def run(command: list[str]) -> NoReturn:
    """Replace this process by the command."""
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**let_through(os.environ), **environment_of_running(), "PATH": path}
    os.chdir(ROOT)
    os.execvpe(command[0], command, environment)  # noqa: S606  a shell would read the arguments once more


def run_module(module: str, text: str) -> NoReturn:
    """Replace this process by one of our command lines; `--help` works also when nothing runs.

    Raises:
        ServerError: when the text cannot be split into arguments, or nothing runs.
    """
    try:
        arguments = shlex.split(text) or ["--help"]
    except ValueError as error:
        raise ServerError(f"ARGS cannot be read: {str(error).lower()}") from None
    command = [sys.executable, "-m", module, *arguments]
    if {"--help", "-h"} & set(arguments):
        os.execv(command[0], command)  # noqa: S606  a shell would read the arguments once more
    run(command)


def psql() -> NoReturn:
    """Run psql: yours, because it has TLS, or the wheel's. The password is not on its command line.

    Only the URL chooses the database: PGSERVICE or PGHOSTADDR of the shell would lead libpq to another one.
    """
    settings = load(ServedDatabase, environment_of_running(), elsewhere=[PREFIX]).database
    url = make_url(settings.dsn)
    password = {"PGPASSWORD": url.password} if url.password else {}
    program = shutil.which("psql") or str(postgres_programs() / "psql")
    dsn = url._replace(drivername="postgresql", password=None).render_as_string()  # `URL.set` ignores None
    os.execve(program, [program, dsn], {**let_through(os.environ, more=PSQL), **password})  # noqa: S606


def stop(number: int, _frame: FrameType | None) -> None:
    """Begin to end, and ignore further signals."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(signal.Signals(number).name)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="dev.py", description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("--reset", action="store_true")
    commands.add_parser("run").add_argument("rest", nargs=argparse.REMAINDER)
    commands.add_parser("psql")
    for name in MODULES:
        commands.add_parser(name).add_argument("--arguments", required=True)
    arguments = parser.parse_args()
    try:
        if arguments.command == "run":
            run(arguments.rest)
        if arguments.command == "psql":
            psql()
        if arguments.command in MODULES:
            run_module(MODULES[arguments.command], arguments.arguments)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
        up(reset=arguments.reset)
    except Stopped as stopped:
        say(f"stopped by {stopped}")
        return 0
    except (ServerError, PartEnded, Misconfigured) as error:
        print(f"make {arguments.command.replace('up', 'dev')}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
