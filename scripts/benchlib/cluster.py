"""A throwaway PostgreSQL cluster, and the databases that are measured with."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchlib.measure import CommandFailed, cpu_of_tree

PGBENCH_SCALE_BYTES = 15_800_000    # what one unit of pgbench's scale takes, index included
POOL_BYTES = 48 << 20               # text that documents are cut from; far more than any compressor's window
VOCABULARY = 30_000
ROW_BYTES = (300, 1900)             # less than what PostgreSQL would compress by itself
TABLES_AT_ONCE = 1000               # created in one transaction
SEED = 20261120

LOAD_SETTINGS = ("-c wal_level=minimal -c max_wal_senders=0 -c archive_mode=off -c fsync=off "
                 "-c max_wal_size=8GB -c maintenance_work_mem=256MB")

CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{directory}'
port = 5432
shared_buffers = 256MB
wal_level = replica
archive_mode = on
archive_command = '{archive_command}'
autovacuum = off            # nothing may change between two runs
checkpoint_timeout = 1h
max_wal_size = 8GB
min_wal_size = 256MB
max_wal_senders = 4
"""

# The server's archive_command: archives with whatever program the file `archiver` names just now, so that each
# contestant waits for its own archiving.
ARCHIVE_SCRIPT = """#!/bin/sh
who=$(cat '{directory}/archiver')
case $who in
pgvigil*) exec '{directory}/pgvigil' -c '{directory}'/"$who.conf" archive-push "$1" ;;
pgbackrest) exec pgbackrest --config='{directory}/pgbackrest.conf' --stanza=bench archive-push "$1" ;;
keep) exec cp "$1" '{directory}/segments/' ;;
esac
"""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Cluster:
    """One server and its data directory; everything lies in one directory."""

    def __init__(self, bench, name):
        self.bench = bench
        self.directory = bench.directory / name
        self.data = self.directory / "data"

    def make(self):
        self.bench.clusters.append(self)
        self.directory.mkdir(mode=0o700)
        self.bench.account.own(self.directory)
        self.bench.run(["initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--data-checksums", "--no-sync",
                        "--encoding=UTF8", "--locale=C"])
        script = self.directory / "pgvigil-or-pgbackrest"  # pgbackrest insists on its name there
        script.write_text(ARCHIVE_SCRIPT.format(directory=self.bench.directory), encoding="utf-8")
        script.chmod(0o755)
        self.archive_with("nobody")
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(directory=self.directory, archive_command=f'{script} "%p"'))

    def archive_with(self, who):
        """From now on WAL goes to `pgvigil`, `pgvigil-encrypted`, `pgbackrest`, aside (`keep`), or nowhere (`nobody`)."""
        (self.bench.directory / "archiver").write_text(who + "\n", encoding="utf-8")

    def start(self, settings=""):
        self.bench.run(["pg_ctl", "-D", self.data, "-l", self.directory / "server.log", "-w", "-t", "300",
                        "-o", settings, "start"])

    def stop(self, mode="fast"):
        if (self.data / "postmaster.pid").exists():
            self.bench.run(["pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "300", "stop"])

    def environment(self):
        return {"PGHOST": str(self.directory), "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "postgres"}

    def command(self, argv, **options):
        return self.bench.run(argv, environment=self.environment(), **options)

    def sql(self, text):
        return self.command(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text]).strip()

    def configure(self, **settings):
        for name, value in settings.items():
            self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")

    def server_cpu(self):
        """CPU seconds the server has used so far."""
        return cpu_of_tree(int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0]))

    def wait_until_archived(self):
        waiting = self.data / "pg_wal" / "archive_status"
        deadline = time.monotonic() + 300
        while any(waiting.glob("*.ready")):
            if time.monotonic() > deadline:
                raise CommandFailed("the server does not archive its WAL; its log: "
                                    + (self.directory / "server.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def remove(self):
        self.stop("immediate")
        shutil.rmtree(self.directory)
        self.bench.clusters.remove(self)

    def size(self):
        """Bytes of the relations."""
        return tree_size(self.data / "base")


def tree_size(directory):
    """Bytes of all files below a directory, which need not exist."""
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(directory) for name in names)


# -- the large database -----------------------------------------------------------------------------------------------

def make_vocabulary(rng):
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    weights = [1 / (place + 3) for place in range(len(letters))]
    return ["".join(rng.choices(letters, weights, k=rng.randint(2, 11))) for _ in range(VOCABULARY)]


def make_pool(rng, size):
    """Text of words as rare and as common as in a natural language (Zipf's law), with numbers in between."""
    words = make_vocabulary(rng)
    total, cumulative = 0.0, []
    for rank in range(1, VOCABULARY + 1):
        total += 1 / rank ** 1.12
        cumulative.append(total)
    pieces, length = [], 0
    while length < size:
        line = " ".join(rng.choices(words, cum_weights=cumulative, k=12)) + f" {rng.randint(0, 99_999)}. "
        pieces.append(line)
        length += len(line)
    return "".join(pieces).encode("ascii")


def write_documents(stream, size):
    """Rows for COPY that fill about `size` bytes of table."""
    rng = random.Random(SEED)
    pool = make_pool(rng, min(POOL_BYTES, max(size, 4 << 20)))
    number = length = 0
    while length < size:
        wanted = rng.randint(*ROW_BYTES)
        start = rng.randrange(len(pool) - wanted)
        number += 1
        stream.write(b"%d\t%s\n" % (number, pool[start:start + wanted]))
        length += wanted + 45   # what a row costs besides its text


def load_documents(cluster, size, fillfactor=100):
    bench = cluster.bench
    cluster.sql(f"CREATE TABLE documents (id bigint NOT NULL, body text NOT NULL) WITH (fillfactor = {fillfactor})")
    cluster.sql("ALTER TABLE documents ALTER body SET STORAGE EXTERNAL")
    with subprocess.Popen(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-1", "-c", "TRUNCATE documents",
                           "-c", "COPY documents FROM STDIN"], stdin=subprocess.PIPE,
                          env={**bench.environment, **cluster.environment()}, **bench.account.identity()) as psql:
        with psql.stdin as stream:
            write_documents(stream, size)
    if psql.returncode != 0:
        raise CommandFailed("could not load the documents")


def relation_files(cluster, name):
    first = cluster.data / cluster.sql(f"SELECT pg_relation_filepath('{name}')")
    return sorted(first.parent.glob(first.name)) + sorted(first.parent.glob(first.name + ".[0-9]*"))


def compression_of(files):
    """How many times `zstd -1` makes them smaller."""
    with subprocess.Popen(["cat", *files], stdout=subprocess.PIPE) as cat:
        with subprocess.Popen(["zstd", "-1", "-q", "-c"], stdin=cat.stdout, stdout=subprocess.PIPE) as zstd:
            compressed = sum(len(piece) for piece in iter(lambda: zstd.stdout.read(1 << 20), b""))
    return sum(file.stat().st_size for file in files) / compressed


def make_large(bench, size):
    """Half pgbench, half text; returns the running cluster and what is to be told of it."""
    cluster = Cluster(bench, "large")
    say(f"making a database of {size / 1e9:.2f} GB in {cluster.directory}")
    cluster.make()
    cluster.start(LOAD_SETTINGS)
    scale = max(1, round(size / 2 / PGBENCH_SCALE_BYTES))
    cluster.command(["pgbench", "-i", "-I", "dtgvp", "-q", "-s", str(scale)])
    load_documents(cluster, size // 2)
    cluster.sql("VACUUM FREEZE documents")
    cluster.sql("CHECKPOINT")
    about = {"bytes": cluster.size(), "pgbench_scale": scale,
             "text_bytes": sum(file.stat().st_size for file in relation_files(cluster, "documents")),
             "text_compression_zstd_1": round(compression_of(relation_files(cluster, "documents")), 2),
             "pgbench_compression_zstd_1": round(compression_of(relation_files(cluster, "pgbench_accounts")), 2)}
    restart_for_measuring(cluster)
    say(f"{about['bytes'] / 1e9:.2f} GB; zstd -1 makes the text {about['text_compression_zstd_1']} times smaller, "
        f"pgbench's accounts {about['pgbench_compression_zstd_1']} times")
    return cluster, about


def make_tables(bench, count):
    """A database of many small tables."""
    cluster = Cluster(bench, "tables")
    say(f"making a database of {count} tables in {cluster.directory}")
    cluster.make()
    cluster.start(LOAD_SETTINGS + " -c max_locks_per_transaction=256")
    for first in range(0, count, TABLES_AT_ONCE):
        last = min(first + TABLES_AT_ONCE, count) - 1
        cluster.sql(f"DO $$ BEGIN FOR i IN {first}..{last} LOOP EXECUTE format("
                    "'CREATE TABLE t_%s AS SELECT n, n * %s AS value FROM generate_series(1, 20) n', i, i);"
                    " END LOOP; END $$")
    cluster.sql("CHECKPOINT")
    restart_for_measuring(cluster)
    files = sum(len(names) for _, _, names in os.walk(cluster.data))
    return cluster, {"tables": count, "files": files, "bytes": cluster.size()}


def restart_for_measuring(cluster):
    """Durable from here on, with the settings a server has that is backed up."""
    cluster.stop()
    os.sync()
    cluster.start()


def make_segments(cluster, count):
    """`count` segments full of pgbench's WAL; returns their paths."""
    kept = cluster.bench.directory / "segments"
    if not kept.exists():
        kept.mkdir(mode=0o700)
        cluster.bench.account.own(kept)
    say(f"making {count} WAL segments")
    cluster.archive_with("keep")
    cluster.sql("SELECT pg_switch_wal()")
    cluster.wait_until_archived()
    before = set(kept.iterdir())
    cluster.configure(fsync="off")
    while len(set(kept.iterdir()) - before) < count:
        cluster.sql("CHECKPOINT")   # page images follow, as in WAL of real life
        cluster.command(["pgbench", "-n", "-c", "8", "-j", "2", "-T", "2"],
                        extra={"PGOPTIONS": "-c synchronous_commit=off"})
        cluster.wait_until_archived()
    cluster.configure(fsync="on")
    cluster.sql("CHECKPOINT")
    os.sync()
    cluster.sql("SELECT pg_switch_wal()")   # the next backup begins with a segment of its own
    cluster.wait_until_archived()
    cluster.archive_with("nobody")
    return sorted(Path(path) for path in set(kept.iterdir()) - before)[:count]
