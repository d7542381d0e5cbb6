"""Random histories of a cluster: every backup that is listed restores, and is what the cluster was.

A history is a sequence of what a database and its surroundings do to backups' knowledge of what has changed. Most
backups are taken of a quiesced server: restored, they are page by page what a copy of the data directory is that was
made beside them. Others are taken while everything changes, and the ledger's oracle knows what must be there; it reads
a second archive, which pgvigil has no part in. Every restored server starts and passes PostgreSQL's own checks.

PGVIGIL_TEST_SEED repeats a history; PGVIGIL_HISTORY_MINUTES makes one history after the other for so long.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import time
from collections import Counter

import psycopg2
import pytest
from backup_tools import Background, backups
from harness import (Ledger, Oracle, Scratch, Site, assert_amcheck, assert_checksums, assert_restored,
                     assert_visibility, compare_directories, wait_recovery)
from test_backup_concurrent import Storm, storm
from test_backup_content import NOT_COMPARED
from test_changes import settle, take
from test_expire import age

pytestmark = pytest.mark.directory  # where a test can make objects old

IGNORED = [*NOT_COMPARED, "standby.signal"]
STEPS = int(os.environ.get("PGVIGIL_HISTORY_STEPS", 4))
MINUTES = float(os.environ.get("PGVIGIL_HISTORY_MINUTES", 0))
FIRST_OID = 16384  # of what is not there from the beginning


class Upkeep(Storm):
    """What goes on in a server besides its clients' work."""

    def _round(self, cursor, table):
        cursor.execute(self.random.choice(["checkpoint", "select pg_switch_wal()", "vacuum ledger",
                                           "vacuum (freeze) account", "vacuum"]))
        self.stopping.wait(self.random.random() / 4)


class History:
    def __init__(self, scratch, seed):
        self.random = random.Random(seed)
        self.said, self.made, self.count = [], 0, Counter()
        self.scratch, self.copies = scratch, {}
        self.checksums = self.random.random() < 0.6  # without them nothing of a hint bit is in the WAL
        self.site = Site(scratch, wal_segsize=4, checksums=self.checksums,
                         config={"retention": {"window": "1 s", "minimum": 3}},
                         settings={"autovacuum": "off", "bgwriter_lru_maxpages": 0, "checkpoint_timeout": "1h",
                                   "allow_in_place_tablespaces": "on"}, start=False, init=False)
        self.cluster, self.archive = self.site.cluster, scratch.mkdir("archive")
        self.cluster.configure(archive_command=f'{self.site.pgvigil.shell_command} archive-push "%p" && '
                                               f"cp \"%p\" '{self.archive}/%f'")
        self.cluster.start()
        self.site.pgvigil.run("init")
        self.ledger = Ledger.create(self.cluster, sessions=4, seed=seed)
        self.create_table()

    # -- what happens to a database

    def names(self, query):
        return [name for name, in self.cluster.sql(query)]

    def tables(self):
        return self.names("select relname from pg_class where relkind = 'r' and relname ~ '^t[0-9]+$' order by oid")

    def table(self):
        return self.random.choice(self.tables())

    def name(self, prefix):
        self.made += 1
        return f"{prefix}{self.made}"

    def create_table(self):
        name, rows = self.name("t"), self.random.randrange(1, 8000)
        kind = self.random.choice(["", "", "unlogged"])
        self.cluster.sql(f"create {kind} table {name} (a int, b text);"
                         f"insert into {name} select g, repeat(md5(g::text), {self.random.randrange(1, 12)})"
                         f" from generate_series(1, {rows}) g; create index on {name} (a)")

    def update_some(self):
        share = self.random.choice([2, 10, 100, 1000])
        self.cluster.sql(f"update {self.table()} set b = b || 'x' where a % {share} = {self.random.randrange(share)}")

    def insert_some(self):
        self.cluster.sql(f"insert into {self.table()} select g, 'more' from generate_series(1, 500) g")

    def delete_and_vacuum(self):
        self.cluster.sql(f"delete from {self.table()} where a % 3 = {self.random.randrange(3)}")
        self.vacuum()

    def vacuum(self):
        self.cluster.sql(f"vacuum {self.random.choice(['', '(freeze)', '(full)'])} {self.table()}")

    def hint_bits(self):
        self.checkpoint()
        self.cluster.sql(f"select count(*) from {self.table()}")

    def checkpoint(self):
        self.cluster.sql("checkpoint")

    def truncate(self):
        self.cluster.sql(f"truncate {self.table()}")

    def drop_table(self):
        if len(self.tables()) > 2:
            self.cluster.sql(f"drop table {self.table()}")

    def turn_log(self):
        self.cluster.sql(f"alter table {self.table()} set {self.random.choice(['unlogged', 'logged'])}")

    def some_tablespace(self):
        """One made for it, at times: outside of the data directory, or inside."""
        found = self.names(f"select spcname from pg_tablespace where oid >= {FIRST_OID} order by oid")
        if len(found) < 3 and self.random.random() < 0.5:
            found.append(self.name("s"))
            self.cluster.create_tablespace(found[-1], in_place=self.random.random() < 0.3)
        return self.random.choice([*found, *found, "pg_default"])

    def tablespace(self):
        self.cluster.sql(f"alter table {self.table()} set tablespace {self.some_tablespace()}")

    def drop_tablespace(self):
        for name in self.names(f"select spcname from pg_tablespace where oid >= {FIRST_OID} order by oid"):
            with contextlib.suppress(psycopg2.errors.ObjectNotInPrerequisiteState, psycopg2.errors.ObjectInUse):
                self.cluster.sql(f"drop tablespace {name}")

    def create_database(self):
        if len(self.databases()) < 2:
            template = self.random.choice(["template1", "postgres"])
            with contextlib.suppress(psycopg2.errors.FeatureNotSupported):  # tables of the template are there
                self.cluster.sql(f"create database {self.name('d')} template {template}"
                                 f" strategy {self.random.choice(['wal_log', 'file_copy'])}"
                                 f" tablespace {self.some_tablespace()}")

    def databases(self):
        return self.names("select datname from pg_database where datname ~ '^d[0-9]+$' order by oid")

    def move_database(self):
        if self.databases():
            with contextlib.suppress(psycopg2.errors.ObjectNotInPrerequisiteState):  # tables of it are there
                self.cluster.sql(f"alter database {self.databases()[0]} set tablespace {self.some_tablespace()}")

    def drop_database(self):
        if self.databases():
            self.cluster.sql(f"drop database {self.databases()[-1]}")

    # -- what happens to a cluster

    def restart(self):
        self.cluster.restart(self.random.choice(["fast", "immediate"]))

    def switch_timeline(self):
        self.cluster.stop()
        (self.cluster.data / "standby.signal").touch(mode=0o600)
        shutil.chown(self.cluster.data / "standby.signal", self.cluster.data.stat().st_uid)
        # Whatever an earlier restore into this place has set.
        self.cluster.start(options={"recovery_target": "", "recovery_target_timeline": "latest"})
        self.cluster.promote()

    def go_back(self):
        """The cluster becomes again what it was at some backup, and goes on from there."""
        if self.copies:
            run = self.random.choice(sorted(self.copies))
            self.said.append(f"back to {run}")
            self.cluster.stop(self.random.choice(["fast", "immediate"]))
            self.site.pgvigil.run("restore", "--to", self.cluster.data, "--delta", "--take-over", "--backup", run,
                                  "--target", "immediate")
            self.cluster.start(wait=False)
            wait_recovery(self.cluster)

    def killed_backup(self):
        with Background(self.site.pgvigil, "backup") as backup:
            time.sleep(self.random.random() * 1.5)
            backup.signal(self.random.choice([signal.SIGKILL, signal.SIGTERM]))

    def failed_backup(self):
        """The server goes, or the repository."""
        with Background(self.site.pgvigil, "backup") as backup:
            time.sleep(self.random.random() * 1.5)
            if self.random.random() < 0.5:
                self.restart()
            else:
                away = self.site.repository.with_name("away")
                self.site.repository.rename(away)
                time.sleep(self.random.random())
                away.rename(self.site.repository)
            backup.finish(check=False)

    def lose_cache(self):
        cache = self.site.state_dir / "cache"
        for path in sorted(cache.glob("*")):
            if self.random.random() < 0.5:
                path.unlink()

    def keep(self):
        """What was kept before may go, something else stays."""
        for path in self.site.repository.glob("*/*/keep/*"):
            self.site.pgvigil.run("unkeep", path.name, check=False)
        if self.copies:
            self.site.pgvigil.run("keep", self.random.choice(sorted(self.copies)))

    def expire(self):
        for _ in range(2):
            age(self.site)
            self.site.pgvigil.run("expire")

    EVENTS = (update_some,) * 6 + (hint_bits, delete_and_vacuum, insert_some, vacuum, create_table) * 2 + (
        checkpoint, truncate, drop_table, turn_log, tablespace, drop_tablespace, create_database, move_database,
        drop_database, restart, switch_timeline, go_back, killed_backup, failed_backup, lose_cache, keep, expire)

    # -- backups, and what they are good for

    def spaces(self):
        """Tablespaces outside of the data directory, by OID."""
        return {path.name: path.resolve() for path in (self.cluster.data / "pg_tblspc").iterdir() if path.is_symlink()}

    def step(self):
        for _ in range(self.random.randrange(0, 4)):
            event = self.random.choice(self.EVENTS)
            self.said.append(event.__name__)
            event(self)
        if (self.site.state_dir / "cache" / "known").exists() and self.random.random() < 0.7:
            settle(self.site)
            self.said.append("settle")
        arguments = ["--jobs", str(self.random.randrange(1, 4))] + ["--full"] * (self.random.random() < 0.1)
        self.count["backups"] += 1
        if self.random.random() < 0.3:
            self.take_under_load(arguments)
        else:
            self.take(arguments)
        for run in set(self.copies) - set(backups(self.site)):
            shutil.rmtree(self.copies.pop(run))

    def take(self, arguments):
        backup, _, copy = take(self.site, *arguments)
        for oid, place in self.spaces().items():
            shutil.copytree(place, copy / "spaces" / oid)
        self.copies[backup["run"]] = copy
        self.said.append(f"backup {backup['run']} {' '.join(arguments)}")

    def take_under_load(self, arguments):
        self.count["under load"] += 1
        seed = self.random.randrange(1 << 30)
        with storm(self.cluster, 1, seed), storm(self.cluster, 1, seed, Upkeep), self.ledger.running():
            self.ledger.wait(20)
            self.site.backup(*arguments)
            self.ledger.wait(10)
        self.said.append(f"backup {max(backups(self.site))} {' '.join(arguments)} under load")

    def unlogged(self, copy, line):
        """Their contents are not in a backup."""
        name = line.split(": ")[1] if line.startswith("only in ") else line.split(":")[0].split()[0]
        directory, file = os.path.split(name)
        return (copy / directory / f"{re.split('[_.]', file)[0]}_init").exists()

    def differences(self, copy, restored, ignore=()):
        return [line for line in compare_directories(copy, restored, ignore=ignore)
                if not line.endswith("/pg_internal.init") and not self.unlogged(copy, line)]

    def restore(self, run):
        """Page by page what it was, if that is known; the server has not been started."""
        again = self.scratch.path / "again"
        spaces = self.scratch.mkdir("again-spaces")
        for path in spaces.iterdir():
            if not (again / "pg_tblspc" / path.name).is_symlink():
                shutil.rmtree(path)  # of a backup that was restored before
        oids = [space["oid"] for space in backups(self.site)[run]["tablespaces"]]
        places = [part for oid in oids for part in ("--tablespace", f"{oid}={spaces}/{oid}")]
        restored = self.site.restore("again", "--backup", run, "--target", "immediate", *places, start=False,
                                     *["--delta"] * again.exists())
        if run in self.copies:
            copy = self.copies[run]
            links = [f"pg_tblspc/{oid}" for oid in oids]
            found = self.differences(copy, restored.data, [*IGNORED, "spaces", *links])
            for oid in oids:
                found += self.differences(copy / "spaces" / str(oid), spaces / str(oid))
            assert found == [], (run, self.said)
            self.count["compared"] += 1
        return restored

    def check(self, run):
        restored = self.restore(run)
        restored.start(wait=False)
        wait_recovery(restored)
        timeline = backups(self.site)[run]["timeline"]
        expected = self.oracle(timeline).expect(start=restored.backup_start, immediate=True)
        assert_restored(restored, expected, ledger=self.ledger)
        assert_amcheck(restored)
        assert_visibility(restored)
        if self.checksums and self.random.random() < 0.5:
            assert_checksums(restored)
        restored.stop("immediate")
        self.count["restores"] += 1

    def oracle(self, timeline):
        if timeline not in self.oracles:
            self.oracles[timeline] = Oracle(self.archive, ledger=self.ledger, timeline=timeline)
        return self.oracles[timeline]

    def check_all(self):
        self.cluster.switch_wal()
        self.oracles = {}
        listed = sorted(backups(self.site))
        self.random.shuffle(listed)
        for run in listed:
            self.check(run)


def play(seed):
    """One history; what was done."""
    with Scratch() as scratch:
        history = History(scratch, seed)
        try:
            for _ in range(STEPS):
                history.step()
            history.check_all()
            return history.count
        except BaseException:
            print("\n".join(history.said))
            raise


def test_every_listed_backup_restores():
    seed = int(os.environ.get("PGVIGIL_TEST_SEED", time.time_ns() % 1_000_000_000))
    end = time.monotonic() + MINUTES * 60
    total = Counter()
    while total["compared"] == 0 or time.monotonic() < end:
        print(f"PGVIGIL_TEST_SEED={seed}", flush=True)
        total += play(seed) + Counter(histories=1)
        seed += 1
        print(dict(total), flush=True)
