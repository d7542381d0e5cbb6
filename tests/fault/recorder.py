"""Runs pgvigil under record.c, and gives back what it did."""

import functools
import os
import re
import subprocess
import time
from pathlib import Path

from harness import HarnessError, Pgvigil, own, run, system, wait_until
from harness.pgvigil import binary

from replay import SYNCS, Model, parse

HERE = Path(__file__).parent


@functools.lru_cache(maxsize=None)
def library():
    """record.so, compiled for this run of the tests (this worker)."""
    target = system.new_dir("record") / "record.so"
    run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-fPIC", "-shared", "-Wall", "-Wextra",
         "-Werror", system.reachable(HERE / "record.c"), "-o", target, "-ldl", "-lpthread"])
    for path in (target, target.parent):
        path.chmod(0o755)
    return target


@functools.lru_cache(maxsize=None)
def _preload():
    """The sanitizers' runtime wants to be the first of all libraries."""
    needed = run(["ldd", binary()], check=False).stdout
    return " ".join(re.findall(r"=> (\S*lib(?:asan|tsan)\S*)", needed) + [str(library())])


def unsynced():
    """The environment of a pgvigil whose syncs cost nothing, for runs after which no power is cut."""
    return {"LD_PRELOAD": _preload(), "PGVIGIL_RECORD_UNSYNCED": "1"}


class Quick(Pgvigil):
    """pgvigil run like that."""

    def run(self, *args, env=None, **kwargs):
        return super().run(*args, env={**unsynced(), **(env or {})}, **kwargs)


class Recording:
    """A log of all that recorded processes do below some directories.

    Make it before the first of them runs: what is there then is taken to be durable.
    """

    def __init__(self, scratch, roots):
        self.scratch = scratch
        self.roots = [str(root) for root in roots]
        self.model = Model(self.roots)
        self.log = scratch.path / f"record-{time.monotonic_ns()}.log"
        self.log.touch(mode=0o600)
        own(self.log)

    def environment(self, **more):
        """For a process that is to be recorded. more: kill=N, hold='KIND NAME FILE', replace=1 (see record.c)."""
        env = {**unsynced(), "PGVIGIL_RECORD": str(self.log), "PGVIGIL_RECORD_ROOTS": ":".join(self.roots)}
        env.update({f"PGVIGIL_RECORD_{key.upper()}": str(value) for key, value in more.items() if value is not None})
        return env

    def run(self, pgvigil, *args, check=True, says=None, cwd=None, **more):
        """Runs a subcommand to its end; if that is exit code 0, `says` is marked as acknowledged."""
        done = run([*pgvigil.command, *args], check=check, env=self.environment(**more), cwd=cwd or pgvigil.cwd)
        if done.rc == 0 and says:
            self.mark(says)
        return done

    def mark(self, text):
        with open(self.log, "ab") as log:
            log.write(f"0\tmark\t{text}\t0\n\n".encode())

    def start(self, pgvigil, *args, cwd=None, **more):
        """Starts a subcommand that is going to be held; see Held."""
        return Held(self, [*pgvigil.command, *args], cwd or pgvigil.cwd, more)

    def events(self):
        return parse(self.log.read_bytes())

    def verify(self):
        """The record must account for all that is on the disk now: nothing has been done behind its back."""
        model = self.model.copy()
        for event in self.events():
            model.apply(event)
        recorded, there = model.everything().paths, Model(self.roots).everything().paths
        wrong = [path for path in recorded.keys() | there.keys()
                 if path not in recorded or path not in there
                 or getattr(recorded[path], "digest", recorded[path]) != getattr(there[path], "digest", there[path])]
        if wrong:
            raise HarnessError(f"the record does not explain what is on the disk: {sorted(wrong)[:10]}")


class Held:
    """A recorded process that stops before (kind 'rename') or after ('renamed') it gives a name."""

    def __init__(self, recording, args, cwd, more):
        kind, name = more.pop("hold")
        self.recording = recording
        self.gate = recording.scratch.path / f"hold-{time.monotonic_ns()}"
        self.args = [str(a) for a in args]
        env = recording.environment(hold=f"{kind} {name} {self.gate}", **more)
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, cwd=cwd, env=system.environment(env),
                                        start_new_session=True, umask=0o077, **system.identity())

    def __enter__(self):
        wait_until(lambda: self.gate.exists() or self.process.poll() is not None, 30, "the process to stop")
        if not self.gate.exists():
            raise HarnessError(f"it did not come to where it was to stop: {self.process.communicate()}")
        return self

    def go_on(self, says=None):
        """Lets it run to its end; returns its exit code and what it said."""
        self.gate.unlink()
        _, stderr = self.process.communicate(timeout=60)
        if self.process.returncode == 0 and says:
            self.recording.mark(says)
        return self.process.returncode, stderr

    def kill(self):
        """It never goes on."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def __exit__(self, *exception):
        self.kill()


# -- where syncs are called from -----------------------------------------------------------------------------------

HELPERS = ("files_sync", "sync_roots")  # who calls these is of interest


@functools.lru_cache(maxsize=None)
def _resolve(frame):
    """[(function, file:line)] of a frame "pgvigil+1f2e", inlined ones first; [] for other objects."""
    name, offset = frame.rsplit("+", 1)
    if name != Path(binary()).name:
        return []
    done = run(["addr2line", "-e", binary(), "-f", "-i", f"0x{offset}"], check=False)
    lines = done.stdout.split("\n")
    return [(lines[i], "src/" + re.sub(r" \(.*", "", lines[i + 1]).split("src/")[-1])
            for i in range(0, len(lines) - 1, 2)]


@functools.lru_cache(maxsize=None)
def site(stack):
    """The place in pgvigil's source that a sync was called from, as text: a helper's with who called it. None if the
    call was another program's."""
    frames = [frame for frame in stack.split(",") if not re.match(r"lib[at]san", frame)]  # whose fsync calls ours
    if not frames[0].startswith(f"{Path(binary()).name}+"):
        return None
    found = [one for frame in frames for one in _resolve(frame)]
    used = 1
    while used < len(found) and found[used - 1][0] in HELPERS:
        used += 1
    return " < ".join(f"{function} ({where})" for function, where in found[:used]) + f" [{frames[0].split('+')[1]}]"


def sites(events):
    """All places in pgvigil that syncs in this record were called from, in order of their first call."""
    found = dict.fromkeys(site(event.fields[1]) for event in events if event.kind in SYNCS)
    return [place for place in found if place]


def without_site(events, place):
    """The record of a program that lacks this one call."""
    return [event for event in events if event.kind not in SYNCS or site(event.fields[1]) != place]
