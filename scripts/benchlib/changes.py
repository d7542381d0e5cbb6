"""What a backup costs when little has changed since the last one, and what restores cost after many such backups."""

import random
import shutil
import time

from benchlib.cluster import tree_size
from benchlib.contestants import Pgbackrest, Pgvigil, shell, warm
from benchlib.report import Series

ROWS = 2500             # changed between two backups
INCREMENTS = 20         # before the restores
PAGE = 8192
DIFFERING = 0.01        # of the pages, before a delta restore
SETTLE = 65             # s; a file that was written to within a minute before the last backup is read again


class PgvigilChanges(Pgvigil):
    """Stores what has changed."""

    def backup(self, cluster):
        return self.command("backup", "--quiet", "--jobs", str(self.bench.jobs))


class PgbackrestChanges(Pgbackrest):
    """With block incrementals, which version 2.45 calls a beta."""

    def prepare(self, cluster):
        super().prepare(cluster)
        path = self.bench.directory / "pgbackrest.conf"
        path.write_text(path.read_text(encoding="utf-8").replace("repo1-bundle=y", "repo1-bundle=y\nrepo1-block=y\nbeta=y"),
                        encoding="utf-8")

    def backup(self, cluster):
        return self.command("backup", "--type=incr")


class StartStop:
    """What no backup can do without: pg_backup_start, pg_backup_stop, and the archiving of the last segment."""
    name = "start, stop"
    archiver = Pgvigil.archiver

    def __init__(self, bench):
        self.bench = bench
        self.store = bench.directory / "pgvigil-store"

    def stored(self):
        return 0

    def backup(self, cluster):
        # Not by pg_backup_stop itself, which looks once a second.
        return shell(f"psql -Xq -h {cluster.directory} -p 5432 -U postgres -o /dev/null "
                     "-c \"SELECT pg_backup_start('bench', true)\" -c 'SELECT pg_backup_stop(false)' && "
                     f"while [ -n \"$(ls {cluster.data}/pg_wal/archive_status/*.ready 2>/dev/null)\" ]; do sleep 0.01; done")


def change_rows(cluster, rng):
    count = int(cluster.sql("SELECT max(aid) FROM pgbench_accounts"))
    wanted = ",".join(str(rng.randint(1, count)) for _ in range(ROWS))
    cluster.sql(f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid IN ({wanted})")
    cluster.sql("CHECKPOINT")


def back_up(bench, cluster, contestant):
    """One more backup onto those that are there; what it added."""
    cluster.archive_with(contestant.archiver)
    cluster.sql("SELECT pg_switch_wal()")
    cluster.wait_until_archived()
    warm(cluster.data)
    before = contestant.stored()
    usage = bench.measure(contestant.backup(cluster))
    cluster.wait_until_archived()
    cluster.archive_with("nobody")
    return {"usage": usage, "stored": contestant.stored() - before}


def measure_backups(bench, cluster, contestants, what, between):
    series = {contestant.name: Series() for contestant in contestants}
    for run in range(bench.runs + 1):
        between()
        for contestant in contestants[run % 2:] + contestants[:run % 2]:
            result = back_up(bench, cluster, contestant)
            bench.progress(what, run, contestant.name, result["usage"])
            if run > 0:
                series[contestant.name].add(**result)
    return series


def spoil(directory, rng):
    """Other bytes in so many of the pages below it."""
    files = [path for path in sorted((directory / "base").rglob("*")) if path.is_file() and path.stat().st_size >= PAGE]
    for path in files:
        pages = path.stat().st_size // PAGE
        with open(path, "r+b", buffering=0) as file:
            for page in rng.sample(range(pages), round(pages * DIFFERING)):
                file.seek(page * PAGE + 100)
                file.write(rng.randbytes(64))


def one_restore(bench, pgvigil, target, *options):
    warm(pgvigil.store)
    return {"usage": bench.measure([*pgvigil.restore(None, target), "--target", "immediate", *options])}


def measure_restores(bench, pgvigil, first, rng):
    """Of the full backup, of the last of many, and of the last onto a directory that nearly is what it should be."""
    series = {name: Series() for name in ("full", "after many", "delta")}
    target = bench.directory / "changes-restored"
    for run in range(bench.runs + 1):
        for name, options in (("full", ("--backup", first)), ("after many", ())):
            shutil.rmtree(target, ignore_errors=True)
            result = one_restore(bench, pgvigil, target, *options)
            bench.progress("changes: restore", run, name, result["usage"])
            if run > 0:
                series[name].add(**result)
        spoil(target, rng)
        warm(target)
        result = one_restore(bench, pgvigil, target, "--delta")
        bench.progress("changes: restore", run, "delta", result["usage"])
        if run > 0:
            series["delta"].add(**result)
    shutil.rmtree(target)
    return series


def measure_changes(bench, cluster, results, about):
    rng = random.Random(20261125)
    pgvigil, pgbackrest = PgvigilChanges(bench), PgbackrestChanges(bench)
    for contestant in (pgbackrest, pgvigil):
        contestant.reset(cluster)
        back_up(bench, cluster, contestant)
    first = next(pgvigil.store.glob("bench/*/backup/*")).name
    about["changes"] = {"rows": ROWS, "increments": INCREMENTS, "bytes": tree_size(cluster.data / "base"),
                        "full": {contestant.name: contestant.stored() for contestant in (pgvigil, pgbackrest)}}
    results["changes: few rows"] = measure_backups(bench, cluster, [pgvigil, pgbackrest], "changes: few rows",
                                                   lambda: change_rows(cluster, rng))
    time.sleep(SETTLE)
    back_up(bench, cluster, pgvigil)
    results["changes: none"] = measure_backups(bench, cluster, [pgvigil, StartStop(bench)], "changes: none",
                                               lambda: None)
    while len(list(pgvigil.store.glob("bench/*/backup/*"))) <= INCREMENTS:
        change_rows(cluster, rng)
        back_up(bench, cluster, pgvigil)
    results["changes: restore"] = measure_restores(bench, pgvigil, first, rng)
    for contestant in (pgvigil, pgbackrest):
        contestant.remove()
