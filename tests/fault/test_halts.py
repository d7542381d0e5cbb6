"""expire, backup, copy and restore, each halted at a call to the repository while the others run on another host.

Whatever comes of it, every backup that a repository lists afterwards is whole there and can be restored from it. What
is to go in the state that each round begins with was marked long ago: the next expire removes it.

Environment: FAULT_SEED; FAULT_HALTS, at how many calls each of them is halted (default 1; 0: at every one, shared out
among pytest's workers, as most of the time they wait).
"""

import os
import random
import shutil
import subprocess
import time

import pytest
from harness import Site, run, system, wait_until
from harness.pgvigil import Pgvigil

from objects import Stored
from scenarios import SEED
from test_shortage import preload

HALTS = int(os.environ.get("FAULT_HALTS", "1"))
SHARES = 1 if HALTS else 16
OLD = 2 * 3600 + 60
PATIENCE = 6  # seconds that the others are given; who waits for the one that is halted goes on when it does


class Stage:
    def __init__(self, scratch):
        self.scratch = scratch
        self.places = {name: scratch.mkdir(f"places/{name}") for name in ("west", "east")}
        sections = {"repository local": None, "backup": {"jobs": 2},
                    "repository west": {"url": f"file://{self.places['west']}", "retention_window": "1 s"},
                    "repository east": {"url": f"file://{self.places['east']}", "copy": "async",
                                        "retention_window": "1 s", "retention_minimum": 2}}
        self.site = Site(scratch, wal_segsize=1, config=sections)
        self.site.cluster.sql("create table t as select generate_series(1, 1000) g")
        other = scratch.path / "other.conf"
        self.site.write_config({"cluster": {"state_dir": scratch.mkdir("other-state")}}, path=other)
        self.other = Pgvigil(other, cwd=scratch.path)
        for number in range(3):
            self.site.pgvigil.run("backup")
            self.site.pgvigil.run("copy")
            self.site.cluster.switch_wal(archived=True)
            time.sleep(1.1)
        self.site.pgvigil.run("expire")
        self.saved, self.room = scratch.mkdir("saved"), scratch.mkdir("room")
        for name, place in self.places.items():
            run(["cp", "-a", place, self.saved / name])
            for path in (self.saved / name).rglob("*"):
                if path.is_file() and path.name != "pgvigil.json":
                    os.utime(path, (time.time() - OLD,) * 2)
        self.oldest, *_, self.newest = self.listed("west")
        self.target = self.room / "restored"
        self.commands = {"expire": ["expire"], "backup": ["backup", "--quiet"], "copy": ["copy", "--quiet"],
                         "restore": self.restore_arguments("west", self.oldest, self.target)}

    def restore_arguments(self, repository, backup, target):
        return ["restore", "--repository", repository, "--backup", backup, "--target", "immediate", "--to", target]

    def listed(self, name):
        return sorted(path.parent.name for path in self.places[name].glob("*/*/backup/*/backup.json"))

    def reset(self):
        shutil.rmtree(self.target, ignore_errors=True)
        for name, place in self.places.items():
            run(["sh", "-c", f"rm -rf '{place}'/* && cp -a '{self.saved / name}'/. '{place}'/"])

    def environment(self, which):
        """Halted at its call number `which`; 0: at none, they are counted."""
        return system.environment({
            "LD_PRELOAD": preload(), "PGVIGIL_INJECT": f"store {self.scratch.path}/places/ {which} 0",
            "PGVIGIL_INJECT_HALT": str(self.gate), "PGVIGIL_INJECT_COUNT": str(self.count),
            "ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))})

    @property
    def gate(self):
        return self.room / "gate"

    @property
    def count(self):
        return self.room / "count"

    def start(self, pgvigil, args, env=None):
        return subprocess.Popen([str(a) for a in (*pgvigil.command, *args)], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=pgvigil.cwd,
                                env=env or system.environment(), start_new_session=True, umask=0o077,
                                **system.identity())

    def calls(self, name):
        self.reset()
        self.count.unlink(missing_ok=True)
        process = self.start(self.site.pgvigil, self.commands[name], self.environment(0))
        stderr = process.communicate(timeout=60)[1]
        assert process.returncode == 0, stderr
        self.noted = []
        return max(int(line) for line in self.count.read_text().split())

    def halted(self, name, which):
        """What each of them came to: {name: (exit code, stderr)}."""
        self.reset()
        self.gate.unlink(missing_ok=True)
        process = self.start(self.site.pgvigil, self.commands[name], self.environment(which))
        wait_until(lambda: self.gate.exists() or process.poll() is not None, 60, f"{name} to halt")
        self.noted = [path for path in self.places["west"].glob("*/*/run/*/begin.json")
                      if path.stat().st_mtime > time.time() - OLD / 2]
        others = {}
        for other in ("expire", "copy", "backup", "expire again"):
            others[other] = self.start(self.other, self.commands[other.split()[0]])
            try:
                others[other].wait(PATIENCE if other != "copy" else 2)
            except subprocess.TimeoutExpired:
                pass  # it waits for the one that is halted
        if process.poll() is None and others["expire"].poll() is None:
            others["expire"].wait(60)  # it waits for nobody
        self.gate.unlink(missing_ok=True)
        return {one: (p.wait(120), p.communicate()[1]) for one, p in {name + " (halted)": process, **others}.items()}

    def check(self, came):
        said = "\n".join(f"{name}: {rc}\n{stderr}" for name, (rc, stderr) in came.items())
        for name, place in self.places.items():
            broken = {backup: why for backup, why in Stored.on_disk(place).backups().items() if why}
            assert not broken, f"{name}: {broken}\n{said}"
            assert self.newest in self.listed(name), f"{name} lost its newest backup\n{said}"
        for name, (rc, _) in came.items():
            assert rc in (0, 1, 3) or name == "restore (halted)", said
        if "restore (halted)" in came and came["restore (halted)"][0] != 0:
            assert not self.noted, f"what a restore had claimed was taken away\n{said}"
        out = self.room / "check"
        for name in self.places:
            backup = self.listed(name)[0]
            shutil.rmtree(out, ignore_errors=True)
            done = self.other.run(*self.restore_arguments(name, backup, out), check=False)
            assert done.rc == 0, f"{name}, {backup}\n{done.describe()}\n{said}"


@pytest.mark.parametrize("share", range(SHARES))
def test_every_listed_backup_restores_whoever_is_halted(scratch, share):
    stage = Stage(scratch)
    for name in stage.commands:
        calls = stage.calls(name)
        rng = random.Random(f"{SEED} {name}")
        # A restore claims its backup after a good half of them: what matters comes then.
        first = calls * 2 // 3 if name == "restore" else 1
        chosen = range(1 + share, calls + 1, SHARES)
        if HALTS:
            chosen = sorted(rng.sample(range(first, calls + 1), min(HALTS, calls - first + 1)))
        print(f"{name}: {calls} calls, halted at {list(chosen)}, FAULT_SEED={SEED}")
        for which in chosen:
            stage.check(stage.halted(name, which))
