"""Random histories of a cluster: every backup that is kept, restored, is page by page what the data directory was.

A history is a sequence of what a database and its surroundings do to backups' knowledge of what has changed. The
server is quiesced while a backup and its reference copy are made. PGVIGIL_TEST_SEED repeats a history;
PGVIGIL_HISTORY_MINUTES makes one history after the other for so long.
"""

import os
import random
import re
import shutil
import signal
import time

import pytest
from backup_tools import Background, backups
from harness import Scratch, Site, compare_directories
from test_backup_content import NOT_COMPARED
from test_changes import settle, take
from test_expire import age

pytestmark = pytest.mark.directory  # where a test can make objects old

IGNORED = [*NOT_COMPARED, "standby.signal"]
STEPS = int(os.environ.get("PGVIGIL_HISTORY_STEPS", 5))
MINUTES = float(os.environ.get("PGVIGIL_HISTORY_MINUTES", 0))


class History:
    def __init__(self, scratch, seed):
        self.random = random.Random(seed)
        self.site = Site(scratch, wal_segsize=1, config={"retention": {"window": "1 s", "minimum": 3}},
                         settings={"autovacuum": "off", "bgwriter_lru_maxpages": 0, "checkpoint_timeout": "1h",
                                   "allow_in_place_tablespaces": "on"})
        self.cluster = self.site.cluster
        self.scratch, self.copies, self.tables, self.databases, self.made = scratch, {}, [], [], 0
        self.said = []
        self.create_table()

    # -- what happens to a database

    def table(self):
        return self.random.choice(self.tables)

    def name(self, prefix):
        self.made += 1
        return f"{prefix}{self.made}"

    def create_table(self):
        name, rows = self.name("t"), self.random.randrange(1, 8000)
        kind = self.random.choice(["", "", "unlogged"])
        self.cluster.sql(f"create {kind} table {name} (a int, b text);"
                         f"insert into {name} select g, repeat(md5(g::text), {self.random.randrange(1, 12)})"
                         f" from generate_series(1, {rows}) g; create index on {name} (a)")
        self.tables.append(name)

    def update_some(self):
        share = self.random.choice([2, 10, 100, 1000])
        self.cluster.sql(f"update {self.table()} set b = b || 'x' where a % {share} = {self.random.randrange(share)}")

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
        if len(self.tables) > 2:
            name = self.table()
            self.tables.remove(name)
            self.cluster.sql(f"drop table {name}")

    def turn_log(self):
        self.cluster.sql(f"alter table {self.table()} set {self.random.choice(['unlogged', 'logged'])}")

    def tablespace(self):
        if not self.cluster.scalar("select count(*) from pg_tablespace where spcname = 'room'"):
            self.cluster.create_tablespace("room", in_place=True)
        place = self.random.choice(["room", "room", "pg_default"])
        self.cluster.sql(f"alter table {self.table()} set tablespace {place}")

    def create_database(self):
        if len(self.databases) < 2:
            name, strategy = self.name("d"), self.random.choice(["wal_log", "file_copy"])
            self.cluster.sql(f"create database {name} template postgres strategy {strategy}"
                             if self.random.random() < 0.3 else f"create database {name} strategy {strategy}")
            self.databases.append(name)

    def drop_database(self):
        if self.databases:
            self.cluster.sql(f"drop database {self.databases.pop()}")

    # -- what happens to a cluster

    def restart(self):
        self.cluster.restart(self.random.choice(["fast", "immediate"]))

    def switch_timeline(self):
        self.cluster.stop()
        (self.cluster.data / "standby.signal").touch(mode=0o600)
        shutil.chown(self.cluster.data / "standby.signal", self.cluster.data.stat().st_uid)
        self.cluster.start()
        self.cluster.promote()

    def killed_backup(self):
        with Background(self.site.pgvigil, "backup") as backup:
            time.sleep(self.random.random() * 1.5)
            backup.signal(self.random.choice([signal.SIGKILL, signal.SIGTERM]))

    def lose_cache(self):
        cache = self.site.state_dir / "cache"
        for path in sorted(cache.glob("*")):
            if self.random.random() < 0.5:
                path.unlink()

    def expire(self):
        for _ in range(2):
            age(self.site)
            self.site.pgvigil.run("expire")

    EVENTS = (update_some,) * 6 + (hint_bits, delete_and_vacuum, vacuum, create_table) * 2 + (
        checkpoint, truncate, drop_table, turn_log, tablespace, create_database, drop_database, restart,
        switch_timeline, killed_backup, lose_cache, expire)

    # -- backups, and what they are good for

    def step(self):
        for _ in range(self.random.randrange(0, 4)):
            event = self.random.choice(self.EVENTS)
            self.said.append(event.__name__)
            event(self)
        if (self.site.state_dir / "cache" / "known").exists() and self.random.random() < 0.7:
            settle(self.site)
            self.said.append("settle")
        arguments = ["--jobs", str(self.random.randrange(1, 4))] + ["--full"] * (self.random.random() < 0.1)
        backup, _, copy = take(self.site, *arguments)
        self.copies[backup["run"]] = copy
        self.said.append(f"backup {backup['run']} {' '.join(arguments)}")
        for run in set(self.copies) - set(backups(self.site)):
            shutil.rmtree(self.copies.pop(run))

    def unlogged(self, copy, line):
        """Their contents are not in a backup."""
        name = line.split(": ")[1] if line.startswith("only in ") else line.split(":")[0].split()[0]
        directory, file = os.path.split(name)
        return (copy / directory / f"{re.split('[_.]', file)[0]}_init").exists()

    def check(self, run):
        restored = self.site.restore("again", "--backup", run, "--target", "immediate", start=False,
                                     *["--delta"] * (self.scratch.path / "again").exists())
        differences = [line for line in compare_directories(self.copies[run], restored.data, ignore=IGNORED)
                       if not line.endswith("/pg_internal.init") and not self.unlogged(self.copies[run], line)]
        assert differences == [], (run, self.said)

    def check_all(self):
        """Those that are marked for deletion are on their way out."""
        marked = {path.parent.name for path in self.site.repository.glob("*/*/expire/*/*")}
        staying = sorted(set(self.copies) - marked)
        self.random.shuffle(staying)
        for run in staying:
            self.check(run)
        return len(staying)


def play(seed):
    """One history; how many backups were taken and how many restores compared."""
    with Scratch() as scratch:
        history = History(scratch, seed)
        try:
            for _ in range(STEPS):
                history.step()
            return STEPS, history.check_all()
        except BaseException:
            print("\n".join(history.said))
            raise


def test_every_kept_backup_restores():
    seed = int(os.environ.get("PGVIGIL_TEST_SEED", time.time_ns() % 1_000_000_000))
    end = time.monotonic() + MINUTES * 60
    taken = compared = 0
    while compared == 0 or time.monotonic() < end:
        print(f"PGVIGIL_TEST_SEED={seed}", flush=True)
        more_taken, more_compared = play(seed)
        taken, compared, seed = taken + more_taken, compared + more_compared, seed + 1
        print(f"{taken} backups, {compared} restores compared", flush=True)
