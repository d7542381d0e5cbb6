"""What lies in a repository after very many backups of which few are kept, none of them full."""

import json
import os
import random
import time

from benchlib.changes import PgvigilChanges
from benchlib.cluster import LOAD_SETTINGS, Cluster, load_documents, restart_for_measuring, say, tree_size

BACKUPS = 200
KEPT = 7
CHANGED = 0.01              # of the pages, between two backups
SIZE_AT_MOST = 400_000_000  # of the database: all that is measured is proportional to it
FILLFACTOR = 65             # a row that is changed stays on its page
RIPE = 2 * 3600 + 60        # s; what expire has marked may go then
WINDOW = 1                  # s


class PgvigilRetention(PgvigilChanges):
    def configuration(self):
        return f"{super().configuration()}\n[retention]\nwindow = {WINDOW} s\nminimum = {KEPT}\n"

    def wal(self):
        return sum(tree_size(path) for path in self.store.glob("bench/*/wal"))

    def listed(self):
        return sorted(self.store.glob("bench/*/backup/*/backup.json"))

    def age(self):
        """As if what is stored had been stored hours earlier, by the only clock that expire goes by."""
        for path in self.store.rglob("*"):
            if path.is_file() and path.name != "pgvigil.json":
                status = path.stat()
                os.utime(path, (status.st_atime, status.st_mtime - RIPE))


def make_pages(bench, size):
    """A table of text; returns the running cluster and, for each page, the id of a row on it."""
    cluster = Cluster(bench, "retention")
    say(f"making a database of {size / 1e9:.2f} GB in {cluster.directory}")
    cluster.make()
    cluster.start(LOAD_SETTINGS)
    load_documents(cluster, size * FILLFACTOR // 100, FILLFACTOR)
    cluster.sql("ALTER TABLE documents ADD PRIMARY KEY (id)")
    cluster.sql("VACUUM (FREEZE) documents")
    rows = cluster.sql("SELECT min(id) FROM documents GROUP BY (ctid::text::point)[0]").split()
    restart_for_measuring(cluster)
    return cluster, rows


def change_pages(cluster, rows, rng):
    """One row on each of so many pages gets other text of the same length."""
    chosen = rng.sample(rows, round(len(rows) * CHANGED))
    pairs = ",".join(f"({row},{rng.choice(rows)})" for row in chosen)
    cluster.sql("UPDATE documents d SET body = left(o.body || d.body, length(d.body)) "
                f"FROM (VALUES {pairs}) AS pair (id, other) JOIN documents o ON o.id = pair.other WHERE d.id = pair.id")


def back_up(bench, cluster, pgvigil, *arguments):
    """Bytes that the backup stored."""
    bench.run([*pgvigil.backup(cluster), *arguments])
    return json.JSONDecoder().raw_decode(pgvigil.listed()[-1].read_text(errors="replace"))[0]["stored_bytes"]


def measure_retention(bench, about):
    rng = random.Random(20261128)
    pgvigil = PgvigilRetention(bench)
    cluster, rows = make_pages(bench, min(bench.size, SIZE_AT_MOST))
    try:
        pgvigil.reset(cluster)
        added, stored = [], []
        for number in range(BACKUPS + 1):
            if number > 0:
                change_pages(cluster, rows, rng)
                pgvigil.age()
            added.append(back_up(bench, cluster, pgvigil))
            stored.append(pgvigil.stored())
            say(f"retention, backup {number}: added {added[-1] / 1e6:.1f} MB, {stored[-1] / 1e6:.1f} MB are stored")
        for _ in range(2):
            time.sleep(WINDOW)
            pgvigil.age()
            bench.run(pgvigil.command("expire", "--quiet"))
        about["retention"] = {"bytes": cluster.size(), "pages": len(rows), "backups": BACKUPS, "added": added,
                              "stored": stored, "listed": len(pgvigil.listed()), "at_the_end": pgvigil.stored(),
                              "wal": pgvigil.wal(), "changes": sum(added[1:KEPT + 1]),
                              "full": back_up(bench, cluster, pgvigil, "--full")}
        pgvigil.remove()
    finally:
        if not bench.keep:
            cluster.remove()
