"""Processes, users and directories: what everything else in the harness stands on.

PostgreSQL refuses to run as root, so when the tests run as root every server, every tool, pgvigil and all
their files belong to user postgres; otherwise everything belongs to whoever runs the tests.

All files of one test run lie under one run directory with a short path (Unix sockets allow 107 bytes). The
pytest controller makes it and hands it to the xdist workers through PGV_TEST_RUN_DIR, so that it goes away
even when a worker had no chance to clean up. Every process is started with its working directory inside the
run directory; that is how one left behind is found (`processes_in`).
"""

import atexit
import contextlib
import functools
import grp
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

RUN_DIR_VARIABLE = "PGV_TEST_RUN_DIR"
SANITIZER_MARKS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "MemorySanitizer",
                   "UndefinedBehaviorSanitizer", "runtime error:")
_numbers = itertools.count(1)


class HarnessError(AssertionError):
    """Something the harness was asked for did not happen; the message shows the evidence."""


@dataclass(frozen=True)
class Completed:
    """A process that has ended: its arguments, exit code (negative: signal), and what it printed."""

    args: list
    rc: int
    stdout: str
    stderr: str

    def describe(self):
        return (f"command: {' '.join(map(str, self.args))}\nexit code: {self.rc}\n"
                f"--- stdout\n{self.stdout[-4000:]}\n--- stderr\n{self.stderr[-12000:]}")


def owner():
    """The passwd entry of the user to whom servers and files belong."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def identity():
    """Arguments for subprocess that make the child run as owner()."""
    if os.geteuid() != 0:
        return {}
    user = owner()
    groups = [g.gr_gid for g in grp.getgrall() if user.pw_name in g.gr_mem]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def own(path):
    """Hands one file or directory (not what is beneath) over to owner(); returns the path."""
    if os.geteuid() == 0:
        os.lchown(path, owner().pw_uid, owner().pw_gid)
    return Path(path)


def write_file(path, text, mode=0o600):
    """Writes a text file that belongs to owner()."""
    path = Path(path)
    path.write_text(text)
    path.chmod(mode)
    return own(path)


def environment(extra=None):
    """The environment for children: no libpq variables, messages in English."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("PG") and not k.startswith("LC_") and k not in ("LANG", "LANGUAGE")}
    env.update(LC_ALL="C.UTF-8", HOME=str(run_dir()))
    env.update(extra or {})
    return env


def run_dir():
    """The directory of this run of the tests; made here if nobody (pytest's controller) has made it yet."""
    if RUN_DIR_VARIABLE not in os.environ:
        base = tempfile.gettempdir()
        path = Path(tempfile.mkdtemp(prefix="pgv-", dir=base if len(base) < 40 else "/tmp"))
        path.chmod(0o755)
        os.environ[RUN_DIR_VARIABLE] = str(own(path))
        atexit.register(remove_tree, path)
    return Path(os.environ[RUN_DIR_VARIABLE])


def new_dir(prefix):
    """A new directory of owner() directly under the run directory; its path is short and unique."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "m")
    path = run_dir() / f"{prefix}-{worker}-{os.getpid()}-{next(_numbers)}"
    path.mkdir(mode=0o700)
    return own(path)


def processes_in(directory):
    """Ids of the processes whose working directory is `directory` or beneath it (deleted or not)."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            cwd = os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)")
        except OSError:
            continue
        if cwd == str(directory) or cwd.startswith(f"{directory}/"):
            found.append(int(entry))
    return found


def lingering_in(directory, grace=5):
    """Those that outlive a grace (seconds; an archive_command ends a little after its server), with commands."""
    try:
        wait_until(lambda: not processes_in(directory), grace, "processes to go")
        return {}
    except HarnessError:
        return {pid: _command(pid) for pid in processes_in(directory)}


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "(gone)"


def kill_all(pids):
    """Kills these processes with signal 9 and waits until they have gone."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(_alive(pid) for pid in pids), 10, "killed processes to go")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def remove_tree(path):
    """Kills whatever still runs under `path` and removes it; harmless if it is gone. Returns what was killed."""
    left = processes_in(path)
    if left:
        kill_all(left)
    shutil.rmtree(path, ignore_errors=True)
    return left


def patient(timeout):
    """The limits are there for what hangs, not for what has to wait its turn, as a nice run does."""
    return timeout * (1 + max(0, os.getpriority(os.PRIO_PROCESS, 0)) // 4)


def wait_until(condition, timeout, what, pause=0.02, describe=None):
    """Polls `condition` until it gives something true, and returns that; HarnessError past the deadline."""
    timeout = patient(timeout)
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            more = f"\n{describe()}" if describe else ""
            raise HarnessError(f"waited {timeout} s in vain for {what}{more}")
        time.sleep(pause)


def run(args, *, check=True, timeout=180, env=None, cwd=None, stdin=None):
    """Runs a command as owner() in a process group of its own.

    check: True wants exit code 0, an integer wants that one, False takes any. Past the timeout (seconds) the
    whole group is killed and HarnessError raised. A sanitizer's report in the output always raises.
    """
    args = [str(a) for a in args]
    timeout = patient(timeout)
    process = subprocess.Popen(args, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                               env=environment(env), cwd=cwd or run_dir(), start_new_session=True,
                               umask=0o077, **identity())
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout)
    except BaseException as stopped:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        if isinstance(stopped, subprocess.TimeoutExpired):
            done = Completed(args, process.returncode, stdout, stderr)
            raise HarnessError(f"still running after {timeout} s\n{done.describe()}") from None
        raise
    done = Completed(args, process.returncode, stdout, stderr)
    mark = sanitizer_mark(stdout + stderr)
    if mark:
        raise HarnessError(f"sanitizer report ({mark})\n{done.describe()}")
    wanted = 0 if check is True else check
    if check is not False and done.rc != wanted:
        raise HarnessError(f"expected exit code {wanted}, got {done.rc}\n{done.describe()}")
    return done


def sanitizer_mark(text):
    """The first sign of a sanitizer's report in the text, or None."""
    return next((mark for mark in SANITIZER_MARKS if mark in text), None)


@functools.lru_cache(maxsize=None)
def reachable(path):
    """`path`, a file or directory, or a copy of it where owner() cannot reach it (a clone under /root)."""
    path = Path(path).resolve()
    if os.geteuid() != 0 or run(["test", "-r", path, "-a", "-x", path.parent], check=False).rc == 0:
        return path
    copy = new_dir("reach") / path.name
    if path.is_dir():
        shutil.copytree(path, copy)
    else:
        shutil.copy2(path, copy)
    for one in (copy, *copy.rglob("*")):
        one.chmod(0o755)
        own(one)
    return copy
