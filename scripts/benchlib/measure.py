"""Runs one command and tells what it cost: wall time, CPU seconds and peak memory of its whole process tree.

Each measured command gets a runner of its own, a forked child that becomes the user the command runs as and adopts
(PR_SET_CHILD_SUBREAPER) whatever processes the command leaves behind, so that none escapes the bill.
"""

import ctypes
import grp
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass

PR_SET_CHILD_SUBREAPER = 36
LEFT_BEHIND_TIMEOUT = 60    # s; how long processes may outlive the command that started them
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class CommandFailed(Exception):
    """A command that has to succeed did not; the message holds what it said."""


@dataclass
class Usage:
    """What one run cost."""
    wall: float             # s
    cpu: float              # s, user and system, of the command and all it started
    peak: int               # bytes, the most that all its processes held at once
    others: float = 0.0     # s of CPU that the rest of the machine used meanwhile


class Account:
    """An operating system user that commands run as: `postgres` when we are root, otherwise ourselves."""

    def __init__(self):
        entry = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.name, self.uid, self.gid = entry.pw_name, entry.pw_uid, entry.pw_gid
        self.groups = [group.gr_gid for group in grp.getgrall() if entry.pw_name in group.gr_mem] + [entry.pw_gid]

    def become(self):
        if os.geteuid() == 0:
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)

    def own(self, path):
        os.chown(path, self.uid, self.gid)

    def identity(self):
        """For subprocess: the same for commands that are not measured."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups} if os.geteuid() == 0 else {}


# -- the process tree, as /proc shows it ------------------------------------------------------------------------------

def children_of(pid):
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass    # it has ended meanwhile
    return found


def descendants_of(pid):
    found = children_of(pid)
    for child in found:     # grows while we walk
        found += children_of(child)
    return found


def memory_of(pid):
    """(resident now, most resident ever) in bytes; zeros for a process that has ended."""
    now = most = 0
    try:
        if os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/self/exe"):
            return 0, 0     # still a copy of us, on its way to become the command
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    most = int(line.split()[1]) * 1024
                elif line.startswith("VmRSS:"):
                    now = int(line.split()[1]) * 1024
                    break
    except OSError:
        pass
    return now, most


def cpu_of_tree(pid):
    """CPU seconds of a process, of the children it has waited for, and of all its living descendants."""
    ticks = 0
    for process in [pid, *descendants_of(pid)]:
        try:
            with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
                ticks += sum(int(field) for field in file.read().rsplit(")", 1)[1].split()[11:15])
        except OSError:
            pass
    return ticks / CLOCK_TICKS


def cpu_of_machine():
    """CPU seconds that all processes, and the kernel, have used since boot."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq = [int(f) for f in file.readline().split()[1:8]]
    return (user + nice + system + irq + softirq) / CLOCK_TICKS


class Sampler(threading.Thread):
    """Looks at the memory of our descendants every `interval` seconds."""

    def __init__(self, interval):
        super().__init__(daemon=True)
        self.interval = interval
        self.peak = 0
        self.ended = threading.Event()

    def run(self):
        own = os.getpid()
        while not self.ended.wait(self.interval):
            seen = [memory_of(pid) for pid in descendants_of(own)]
            if seen:
                # one process's own high-water mark is exact; the sum of several is as exact as the sampling
                self.peak = max(self.peak, sum(now for now, _ in seen), max(most for _, most in seen))


# -- the runner -------------------------------------------------------------------------------------------------------

def reap_all():
    """Waits for every process that the command left behind: their CPU time counts as well."""
    deadline = time.monotonic() + LEFT_BEHIND_TIMEOUT
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.001)
        except ChildProcessError:
            return
    raise CommandFailed("it left processes behind that do not end")


def run_here(argv, cwd, environment, interval):
    sampler = Sampler(interval)
    sampler.start()
    started = time.perf_counter()
    # to a file, not a pipe: nobody has to read while the command runs
    with open(os.memfd_create("output"), "w+b") as output:
        status = subprocess.call(argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT)
        wall = time.perf_counter() - started
        reap_all()
        sampler.ended.set()
        sampler.join()
        if status != 0:
            output.seek(0)
            said = output.read().decode("utf-8", errors="replace").strip()
            raise CommandFailed(f"exit code {status}: {' '.join(argv)}\n{said}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(wall=wall, cpu=used.ru_utime + used.ru_stime, peak=sampler.peak)


def runner(argv, account, cwd, environment, interval, answer):
    """The body of the forked child; never returns."""
    try:
        os.setsid()     # a group of its own, for measure() to kill
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise CommandFailed("prctl(PR_SET_CHILD_SUBREAPER) failed")
        account.become()
        result = asdict(run_here(argv, cwd, environment, interval))
    except BaseException as problem:    # pylint: disable=broad-except; it is the parent that deals with it
        result = {"error": f"{type(problem).__name__}: {problem}"}
    with open(answer, "w", encoding="utf-8") as pipe:
        json.dump(result, pipe)
    sys.stdout.flush()
    os._exit(0)


def measure(argv, account, cwd, environment, interval=0.02):
    """Runs argv as the account's user and returns its Usage; raises CommandFailed."""
    argv = [str(argument) for argument in argv]
    answer, question = os.pipe()
    before = cpu_of_machine()
    child = os.fork()
    if child == 0:
        os.close(answer)
        runner(argv, account, cwd, environment, interval, question)
    os.close(question)
    try:
        with open(answer, encoding="utf-8") as pipe:
            text = pipe.read()
    except BaseException:
        os.killpg(child, signal.SIGKILL)
        raise
    finally:
        os.waitpid(child, 0)
    result = json.loads(text) if text else {"error": "the runner died"}
    if "error" in result:
        raise CommandFailed(result["error"])
    usage = Usage(**result)
    usage.others = max(0.0, cpu_of_machine() - before - usage.cpu)
    return usage
