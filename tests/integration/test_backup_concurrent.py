"""A backup while everything changes: files are made, dropped, cut and rewritten under it."""

import contextlib
import random
import threading

import psycopg2
from backup_tools import only_backup
from harness import Ledger, assert_amcheck, assert_checksums, assert_restored, format_lsn, parse_lsn


class Storm:
    """A session that makes, fills, cuts, rewrites and drops tables as fast as it can; also whole databases."""

    def __init__(self, cluster, number, seed):
        self.cluster, self.number = cluster, number
        self.random = random.Random(seed + number)
        self.stopping = threading.Event()
        self.rounds = 0
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            with contextlib.closing(self.cluster.connect()) as connection, connection.cursor() as cursor:
                while not self.stopping.is_set():
                    self._round(cursor, f"storm_{self.number}_{self.rounds % 5}")
                    self.rounds += 1
        except psycopg2.Error as error:
            self.failure = error

    def _round(self, cursor, table):
        cursor.execute(f"drop table if exists {table}")
        unlogged = self.random.choice(("", "", "unlogged"))
        cursor.execute(f"create {unlogged} table {table} (a int primary key, b text)")
        cursor.execute(f"insert into {table} select g, repeat('s', 400) from generate_series(1, %s) g",
                       [self.random.randint(10, 4000)])
        for _ in range(self.random.randint(0, 3)):
            cursor.execute(self.random.choice((
                f"truncate {table}", f"vacuum full {table}", f"delete from {table} where a > 50", f"vacuum {table}",
                f"cluster {table} using {table}_pkey", f"reindex table {table}",
                f"insert into {table} select g, 'more' from generate_series(5001, 9000) g on conflict do nothing")))
        if self.number == 0 and self.rounds % 8 == 7:
            cursor.execute("drop database if exists passing")
            cursor.execute("create database passing strategy file_copy")


@contextlib.contextmanager
def storm(cluster, sessions, seed, kind=Storm):
    storms = [kind(cluster, number, seed) for number in range(sessions)]
    for one in storms:
        one.thread.start()
    try:
        yield storms
    finally:
        for one in storms:
            one.stopping.set()
        for one in storms:
            one.thread.join(60)
    assert [one.failure for one in storms] == [None] * sessions
    assert all(one.rounds > 0 for one in storms)


def test_files_come_grow_shrink_and_go_during_the_backup(make_site):
    site = make_site(wal_segsize=16, settings={"checkpoint_timeout": "30s", "max_wal_size": "64MB",
                                               "autovacuum_naptime": "1s"})
    ledger = Ledger.create(site.cluster)
    with storm(site.cluster, 3, ledger.seed), ledger.running():
        ledger.wait(50)
        site.backup("--jobs", "2")
        ledger.wait(30)
    site.cluster.switch_wal()
    taken = only_backup(site)
    assert taken["page_errors"] == 0
    oracle = site.oracle(ledger)
    stop = parse_lsn(taken["stop_lsn"])
    first = next(commit for commit in oracle.commits if commit.lsn >= stop)
    restored = site.restore("r", "--target-lsn", format_lsn(first.lsn))
    assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=first.lsn), ledger=ledger)
    assert_amcheck(restored)
    assert_checksums(restored)
