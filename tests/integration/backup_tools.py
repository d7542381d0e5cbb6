"""What the tests of backup, init, check and bad input share: runs in the background, and looks at what is stored."""

import hashlib
import json
import os
import pty
import re
import signal
import sqlite3
import stat
import subprocess
import sys

from harness import Completed, HarnessError, keys, system, wait_until


class Background:
    """pgvigil running beside the test; leaving the context kills what still runs."""

    def __init__(self, pgvigil, *args, env=None):
        self.pgvigil = pgvigil
        self.args = [str(a) for a in (*pgvigil.command, *args)]
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace", cwd=pgvigil.cwd,
                                        env={**system.environment(), **(env or {})}, start_new_session=True, umask=0o077,
                                        **system.identity())
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def signal(self, number):
        os.kill(self.pid, number)

    def has_open(self, path):
        """Is it reading (or writing) this file just now?"""
        folder = f"/proc/{self.pid}/fd"
        try:
            return any(os.readlink(f"{folder}/{fd}") == str(path) for fd in os.listdir(folder))
        except OSError:
            return False

    def wait_for(self, condition, what, timeout=60):
        """Waits for a condition; an end of the process before it comes true is an error that shows its output."""
        def holds():
            if condition():
                return True
            if self.process.poll() is not None:
                raise HarnessError(f"it ended before {what}\n{self.finish(check=False).describe()}")
            return False
        wait_until(holds, timeout, what)

    def finish(self, check=0, timeout=60):
        """Waits for its end; `check` is the exit code that is wanted, False takes any."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            done = Completed(self.args, self.process.returncode, stdout, stderr)
            raise HarnessError(f"still running after {timeout} s\n{done.describe()}") from None
        done = Completed(self.args, self.process.returncode, stdout, stderr)
        if system.sanitizer_mark(stdout + stderr) or (
                check is not False and done.rc != check and not (check == 0 and self.pgvigil.only_missed(self.args, done))):
            raise HarnessError(f"expected exit code {check}\n{done.describe()}")
        return done


def on_a_terminal(pgvigil, *args, until=None):
    """(exit code, what is shown on a terminal); it is interrupted as soon as that has the pattern `until`."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*map(str, pgvigil.command), *args], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                          cwd=pgvigil.cwd, env=system.environment(), **system.identity()) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # how a terminal tells that nobody is there any more
                break
            if until and re.search(until, shown.decode(errors="replace")):
                process.send_signal(signal.SIGINT)
                until = None
    os.close(ours)
    return process.returncode, shown.decode()


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(code)
"""


def peak(pgvigil, *args, check=True):
    """(bytes that were resident at most, what it said). What the sanitizer keeps of freed memory is not counted."""
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
    done = system.run([sys.executable, "-c", MEASURE, *pgvigil.command, *args], check=check, cwd=pgvigil.cwd,
                      env={"ASAN_OPTIONS": options})
    return int(done.stdout.rsplit("peak ", 1)[1]), done


# -- what is stored -------------------------------------------------------------------------------------------------

def backups(site):
    """backup.json of every backup that is committed, by run."""
    found = {}
    for path in sorted(site.repository.glob("*/*/backup/*/backup.json")):
        text = path.read_bytes().decode("utf-8", errors="surrogateescape")
        found[path.parent.name] = json.JSONDecoder().raw_decode(text)[0]
    return found


def only_backup(site):
    found = backups(site)
    if len(found) != 1:
        raise HarnessError(f"there should be one backup, not {sorted(found)}")
    return next(iter(found.values()))


def manifest(site, backup, columns="path, kind, size, crc32c"):
    """Rows of table file in the manifest of a backup (a value of backups()), read with zstd, openssl and SQLite."""
    stored = next(site.repository.glob(f"*/*/backup/{backup['run']}/{keys.stored('manifest.sqlite.zst')}"))
    plain = site.scratch.path / f"{backup['run']}.sqlite"
    plain.write_bytes(keys.unpacked(stored.read_bytes()))
    database = sqlite3.connect(f"file:{plain}?mode=ro", uri=True)
    database.text_factory = lambda raw: raw.decode("utf-8", errors="surrogateescape")
    try:
        return sorted(database.execute(f"select {columns} from file"))
    finally:
        database.close()
        plain.unlink()


def snapshot(*roots):
    """Every path beneath the directories with kind, owner, mode and a digest of its content; links are not followed."""
    seen = {}
    for root in roots:
        for directory, names, files in os.walk(root):
            for name in names + files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                content = None
                if stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                seen[path] = (status.st_mode, status.st_uid, content)
        seen[str(root)] = os.path.lexists(root)
    return seen


# -- what is said ---------------------------------------------------------------------------------------------------

def assert_says(done, *pieces, hint=True):
    """stderr holds every piece, and (unless hint is False) a hint."""
    missing = [piece for piece in pieces if str(piece) not in done.stderr]
    if hint and "pgvigil: hint: " not in done.stderr:
        missing.append("a hint")
    if missing:
        raise HarnessError(f"the message lacks {missing}\n{done.describe()}")


# -- a backup that stands still -------------------------------------------------------------------------------------

def make_endless(site):
    """A file in the data directory that takes longer to read than any test waits; returns its path."""
    path = site.cluster.data / "endless"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)
    return system.own(path)


def stop_archiving(site):
    """From now on the server's archive_command fails; returns the setting to give to resume_archiving()."""
    command = site.cluster.scalar("show archive_command")
    site.cluster.configure(archive_command="false")
    site.cluster.reload()
    wait_until(lambda: site.cluster.scalar("show archive_command") == "false", 10, "the new setting")
    return command


def resume_archiving(site, command):
    site.cluster.configure(archive_command=command)
    site.cluster.reload()


def backup_has_stopped(site):
    """Has pg_backup_stop been executed, and its history file not been archived yet?"""
    return list((site.cluster.data / "pg_wal" / "archive_status").glob("*.backup.ready"))


def steps(done):
    """{title: outcome} of what check printed."""
    return {m[2]: m[1] for m in re.finditer(r'^(ok|warning|FAILED|skipped) +([^:\n]+)', done.stdout, re.M)}


def sessions(cluster):
    """Server processes that work for pgvigil: a backup lasts as long as its session."""
    return cluster.scalar("select count(*) from pg_stat_activity where application_name like 'pgvigil%%'"
                          " or query like '%%pg_backup%%' and pid <> pg_backend_pid()")


TERM, INT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGKILL
