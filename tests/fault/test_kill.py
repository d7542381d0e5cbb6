"""kill -9 at random moments, against a real server: nothing half-made is ever taken for whole, and all goes on.

By default this lasts FAULT_KILL_SECONDS (15). The long mode: FAULT_KILLS=5000 (that many kills, however long it takes).
FAULT_SEED repeats the choices; the moments depend on the machine all the same.
"""

import os
import random
import re
import shutil
import subprocess
import time

import pytest
from harness import HarnessError, own, system, wait_until

from objects import Stored, names, problem, unpack
from recorder import Quick, unsynced
from scenarios import SEED
from scenarios_backup import ServerHost, differences, read_tree

SECONDS = float(os.environ.get("FAULT_KILL_SECONDS", "15"))
KILLS = int(os.environ.get("FAULT_KILLS", "0"))


class Killer:
    """Runs subcommands and kills them at a random moment of the time they usually take."""

    def __init__(self, host, rng):
        self.host, self.rng = host, rng
        self.usual = {}
        self.kills = self.ends = 0
        self.known, self.since = set(), ""

    def full(self, kind, *args, pgvigil=None):
        started = time.monotonic()
        done = (pgvigil or self.host.pgvigil).run(*args)
        self.usual.setdefault(kind, time.monotonic() - started)
        return done

    def kill(self, kind, *args, pgvigil=None):
        """True if it was killed, False if it came to its end before."""
        pgvigil = pgvigil or self.host.pgvigil
        process = subprocess.Popen([str(a) for a in (*pgvigil.command, *args)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=pgvigil.cwd,
                                   env=system.environment(unsynced()), start_new_session=True, umask=0o077,
                                   **system.identity())
        time.sleep(self.rng.random() * self.usual[kind] * 1.1)
        process.kill()
        _, stderr = process.communicate(timeout=60)
        if process.returncode not in (0, -9):
            raise HarnessError(f"{kind} ended with {process.returncode}: {stderr}")
        self.kills += process.returncode == -9
        self.ends += process.returncode == 0
        # The machine is busier at one time than at another: aim so that about three of four are killed.
        self.usual[kind] *= 1.03 if process.returncode == -9 else 0.9
        if KILLS and (self.kills + self.ends) % 100 == 0:
            print(f"{self.kills} kills, {self.ends} ends", flush=True)
        return process.returncode == -9

    def look(self):
        """Every object in the repository is whole, and so is every backup."""
        repository = self.host.repository
        new = [name for name in names(repository) if name not in self.known]
        for name in new:
            why = problem(name, (repository / name).read_bytes())
            assert not why, f"{name}: {why}"
        for run in (name.split("/")[-2] for name in new if name.endswith("/backup.json")):
            # It may build on packs of any run; its WAL is not older than what was archived a little before it.
            found = Stored.on_disk(repository, lambda name, run=run: run in name or "/pack/" in name
                                   or "/wal/" in name and name >= self.since)
            assert not any(found.backups().values()), found.backups()
        self.known.update(new)
        self.since = max((name for name in new if "/wal/" in name), default=self.since)

    # -- what is killed -----------------------------------------------------------------------------------------

    def push(self):
        """Together with the server's own push of the same segment."""
        segment = self.host.cluster.switch_wal(archived=False)
        self.kill("push", "archive-push", self.host.cluster.data / "pg_wal" / segment)
        self.look()
        if self.rng.random() < 0.2:
            self.full("push", "archive-push", self.host.cluster.data / "pg_wal" / segment)

    def get(self):
        stored = self.rng.choice(sorted(self.host.repository.glob("*/*/wal/*/*/*.zst")))
        name = stored.name.removesuffix(".zst")
        if not re.fullmatch("[0-9A-F]{24}", name):
            return
        target = self.host.scratch.path / "fetched"
        target.unlink(missing_ok=True)
        right = unpack(stored.read_bytes())
        self.kill("get", "archive-get", name, target)
        assert not target.exists() or target.read_bytes() == right, f"a part of {name} was delivered"
        if self.rng.random() < 0.2:
            self.full("get", "archive-get", name, target)
            assert target.read_bytes() == right

    def backup(self):
        self.kill("backup", "backup", "--quiet")
        self.look()
        if self.rng.random() < 0.1:
            self.full("backup", "backup", "--quiet")
            self.look()

    def restore(self):
        out, right = self.out, self.right
        self.kill("restore", *self.arguments)
        if (out / "data" / "global" / "pg_control").exists():
            # All but the mark must be in its place.
            wrong = [text for text in differences(read_tree(out), right) if "pgvigil.restoring" not in text]
            assert not wrong, wrong
        elif self.rng.random() < 0.3:
            self.full("restore", *self.arguments)
            assert not differences(read_tree(out), right)
        else:
            return  # what is there now is in the way of the next one
        self.clear_out()

    def clear_out(self):
        shutil.rmtree(self.out)
        self.out = self.host.scratch.mkdir("k")

    def init(self):
        """A place of its own is set up anew."""
        host = self.host
        config = host.scratch.path / "fresh.conf"
        fresh = host.scratch.mkdir("fresh")
        host.site.write_config({"cluster": {"state_dir": fresh / "state"},
                                "repository local": {"url": f"file://{fresh}/a/repository"}}, path=config)
        pgvigil = Quick(config, cwd=host.scratch.path)
        if "init" not in self.usual:
            self.full("init", "init", "--quiet", pgvigil=pgvigil)
            shutil.rmtree(fresh)
            own(fresh.mkdir() or fresh)
        for _ in range(self.rng.randrange(1, 4)):
            self.kill("init", "init", "--quiet", pgvigil=pgvigil)
        self.full("init", "init", "--quiet", pgvigil=pgvigil)
        assert pgvigil.json("list")
        shutil.rmtree(fresh)

    def lose_state(self):
        """All of the local state may be lost at any time."""
        if self.rng.random() < 0.1:
            self.host.settle()
            for path in self.host.state_dir.iterdir():
                shutil.rmtree(path, ignore_errors=True)

    # -- the loop -----------------------------------------------------------------------------------------------

    def prepare(self):
        host = self.host
        segment = host.cluster.switch_wal()
        self.full("push", "archive-push", host.cluster.data / "pg_wal" / segment)
        self.full("get", "archive-get", segment, host.scratch.path / "fetched")
        self.full("backup", "backup", "--quiet")
        self.out = host.scratch.mkdir("k")
        run = re.search(r"\d{8}T\d{6}Z", str(next(host.repository.glob("*/*/backup/*"))))[0]
        self.arguments = ("restore", "--quiet", "--backup", run, "--to", self.out / "data", "--tablespace",
                          f"{host.location}={self.out}/tablespace", "--target", "immediate")
        self.full("restore", *self.arguments)
        self.right = read_tree(self.out)
        self.clear_out()

    def run(self):
        self.prepare()
        actions = [(self.push, 45), (self.get, 30), (self.backup, 8), (self.restore, 7), (self.init, 10)]
        deadline = time.monotonic() + SECONDS
        while self.kills < KILLS if KILLS else time.monotonic() < deadline:
            self.rng.choices([a for a, _ in actions], [w for _, w in actions])[0]()
            self.lose_state()
        return self


@pytest.fixture(scope="module")
def host(module_scratch):
    return ServerHost(module_scratch)


def test_kill(host):
    print(f"seed {SEED}, {f'{KILLS} kills' if KILLS else f'{SECONDS} s'}")
    killer = Killer(host, random.Random(SEED)).run()
    print(f"{killer.kills} kills, {killer.ends} times it had ended already; usual times: "
          + ", ".join(f"{kind} {seconds:.3f} s" for kind, seconds in killer.usual.items()))
    host.settle()
    killer.look()
    host.pgvigil.run("backup", "--quiet")
    host.settle()
    restored = host.site.restore("after-all", "--tablespace", f"{host.location}={host.scratch.path}/after-tablespace")
    assert restored.scalar("select count(*) from here") == 3000
    assert restored.scalar("select count(*) from there") == 3000
    wait_until(lambda: restored.running, 5, "the restored server to go on")
