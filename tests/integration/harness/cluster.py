"""`Cluster`: one PostgreSQL server and its data directory, under the eyes of a test.

The server is a direct child of the test process, listens on a private Unix socket only, and receives SIGQUIT
from the kernel should the test process die in any way. What decides where it listens and logs is given on the
command line, so that a copied or restored postgresql.conf cannot lead it astray.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psycopg2

from . import system, template
from .system import HarnessError, wait_until
from .wal import parse_lsn


class Cluster:
    """Made by Scratch.cluster() (a new one) or Scratch.adopt() (a directory that is already there)."""

    def __init__(self, scratch, name, data, port, bin_dir=None):
        self.scratch = scratch
        self.name = name
        self.data = Path(data)
        self.port = port
        self.bindir = bin_dir or template.bindir()
        self.socket_dir = scratch.socket_dir
        self.log = scratch.path / f"{name}.log"
        self.fsync = False
        self.backup_start = None  # of a restored directory: where its recovery begins (LSN)
        self._process = None
        self._log_from = 0
        self._shm_id = None

    # -- server ---------------------------------------------------------------------------------------------

    def start(self, *, wait=True, timeout=60, options=None):
        """Starts the server; `wait` until it takes connections. `options`: settings for the command line."""
        if self.running:
            raise HarnessError(f"cluster {self.name} is running already")
        settings = {"listen_addresses": "", "unix_socket_directories": self.socket_dir, "port": self.port,
                    "logging_collector": "off", "log_destination": "stderr", "hot_standby": "on",
                    "fsync": "on" if self.fsync else "off", **(options or {})}
        args = ["setpriv", "--pdeathsig", "QUIT", self.bindir / "postgres", "-D", self.data]
        for item in settings.items():
            args += ["-c", "{}={}".format(*item)]
        with open(self.log, "ab") as log:
            system.own(self.log)
            self._log_from = log.tell()
            self._process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log, cwd=self.scratch.path, env=self._environment(),
                                             start_new_session=True, umask=0o077, **system.identity())
        if wait:
            wait_until(self._ready, timeout, f"cluster {self.name} to start", describe=self.log_tail)
        return self

    @staticmethod
    def _environment():
        """A server runs archive_command and restore_command thousands of times: what these leak, the tests that run them
        themselves find, and to look each time would take them twice as long."""
        options = os.environ.get("ASAN_OPTIONS", "")
        return system.environment({"ASAN_OPTIONS": f"{options}:detect_leaks=0"})

    def _ready(self):
        if not self.running:
            raise HarnessError(f"server {self.name} ended with {self._process.returncode}\n{self.log_tail()}")
        lines = self._postmaster_pid_lines()
        if len(lines) < 8 or int(lines[0]) != self._process.pid or lines[7] not in ("ready", "standby"):
            return False
        self._shm_id = lines[6].split()[1]
        return True

    def _postmaster_pid_lines(self):
        try:
            return [line.strip() for line in (self.data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self):
        """How the server ended; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def pid(self):
        return self._process.pid

    def stop(self, mode="fast", timeout=60):
        """Stops the server: 'smart', 'fast' or 'immediate'. Harmless if it does not run."""
        if not self.running:
            return
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        os.kill(self._process.pid, how)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise HarnessError(f"{self.name} did not stop in {timeout} s\n{self.log_tail()}") from None

    def restart(self, mode="fast", **kwargs):
        self.stop(mode)
        return self.start(**kwargs)

    def kill9(self):
        """Kills the postmaster and all its children at once, as a crash of the machine would."""
        if not self.running:
            return
        pids = [pid for pid in system.processes_in(self.data) if pid != self._process.pid]
        self._process.kill()
        self._process.wait()
        system.kill_all(pids)

    def destroy(self):
        """Ends the server in whatever state it is; what the kernel still holds of a killed one goes as well."""
        self.stop("immediate")
        if self._shm_id and self._postmaster_pid_lines():
            system.run(["ipcrm", "-m", self._shm_id], check=False)

    def promote(self, timeout=60):
        if not self.scalar("select pg_promote(true, %s)", timeout):
            raise HarnessError(f"{self.name} was not promoted in {timeout} s\n{self.log_tail()}")

    def log_text(self):
        """What the server has logged since it was last started."""
        with open(self.log, errors="replace") as log:
            log.seek(self._log_from)
            return log.read()

    def log_tail(self, lines=60):
        tail = "\n".join(self.log_text().splitlines()[-lines:])
        return f"--- log of server {self.name} ({self.log})\n{tail}"

    # -- SQL ------------------------------------------------------------------------------------------------

    @property
    def conninfo(self):
        return f"host={self.socket_dir} port={self.port} user=postgres dbname=postgres"

    def connect(self, db="postgres"):
        """A psycopg2 connection in autocommit mode."""
        connection = psycopg2.connect(self.conninfo, dbname=db, connect_timeout=20)
        connection.autocommit = True
        return connection

    def sql(self, query, *params, db="postgres"):
        """Runs a statement on a connection of its own; returns a list of tuples, or None without a result."""
        with contextlib.closing(self.connect(db)) as connection, connection.cursor() as cursor:
            cursor.execute(query, params or None)
            return cursor.fetchall() if cursor.description else None

    def scalar(self, query, *params, db="postgres"):
        """The first column of the first row."""
        return self.sql(query, *params, db=db)[0][0]

    # -- WAL and settings -----------------------------------------------------------------------------------

    def insert_lsn(self):
        """Where the next WAL record will go, as an integer."""
        return parse_lsn(self.scalar("select pg_current_wal_insert_lsn()"))

    def checkpoint(self):
        self.sql("checkpoint")

    def restore_point(self, name):
        return parse_lsn(self.scalar("select pg_create_restore_point(%s)", name))

    def switch_wal(self, *, archived=True, timeout=60):
        """Completes the current segment, even an empty one; returns its name once it has been archived."""
        self.sql("select pg_logical_emit_message(false, 'harness', 'switch')")
        segment = self.scalar("select pg_walfile_name(pg_switch_wal())")
        if archived:
            self.wait_archived(segment, timeout)
        return segment

    def wait_archived(self, segment, timeout=60):
        status = self.data / "pg_wal" / "archive_status"
        wait_until(lambda: (status / f"{segment}.done").exists()
                   or not (self.data / "pg_wal" / segment).exists(),
                   timeout, f"{segment} to be archived", describe=self.log_tail)

    def configure(self, **settings):
        """Appends to postgresql.conf; the server learns of it by reload() or restart()."""
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.writelines(template.setting_line(*item) for item in settings.items())

    def reload(self):
        self.sql("select pg_reload_conf()")

    @property
    def system_identifier(self):
        text = self.tool("pg_controldata", "-D", self.data).stdout
        return int(text.split("Database system identifier:")[1].split()[0])

    # -- another state of it --------------------------------------------------------------------------------

    def snapshot(self):
        """Copies the data directory of the stopped server, for set_back()."""
        copy = self.data.with_name(f"{self.data.name}-snapshot")
        system.run(["cp", "-a", self.data, copy])
        return copy

    def set_back(self, snapshot):
        """The copy takes the place of the stopped server's data directory."""
        system.run(["rm", "-rf", self.data])
        system.run(["mv", snapshot, self.data])

    # -- what stands around it ------------------------------------------------------------------------------

    def tool(self, program, *args, **kwargs):
        """Runs a program of this server's version; keywords as for system.run."""
        return system.run([self.bindir / program, *args], **kwargs)

    def create_tablespace(self, name, *, in_place=False):
        """Makes a tablespace; returns where it lies. In place: a real directory inside pg_tblspc."""
        if in_place:
            with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("set allow_in_place_tablespaces = on")
                cursor.execute(f"create tablespace {name} location ''")
            oid = self.scalar("select oid from pg_tablespace where spcname = %s", name)
            return self.data / "pg_tblspc" / str(oid)
        location = self.scratch.mkdir(f"{self.name}-tablespace-{name}")
        self.sql(f"create tablespace {name} location '{location}'")
        return location

    def base_backup(self, target, *options, wal="none"):
        """pg_basebackup (plain format) into `target`."""
        self.tool("pg_basebackup", "-D", target, "-d", self.conninfo, "-c", "fast", "-X", wal, "--no-sync",
                  *options)
        return Path(target)

    def standby(self, name, *options, start=True):
        """A streaming standby of this cluster, made by pg_basebackup."""
        data = self.base_backup(self.scratch.path / name, "-R", *options, wal="stream")
        standby = self.scratch.adopt(data, name, bin_dir=self.bindir)
        return standby.start() if start else standby
