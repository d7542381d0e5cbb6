"""Who is measured: each contestant knows the command lines for what it can do, and how to begin anew.

reset() makes an empty store and is never measured; a command that the server's archiving has to serve says so by
`archiver`. Command lines with a shell in them are those a careful administrator would write: they end with a sync.
"""

import os
import shutil

from benchlib.cluster import tree_size

CLUSTER_CONF = """
[cluster]
name = bench
pgdata = {data}
conninfo = host={socket} port=5432 user=postgres dbname=postgres
state_dir = {directory}/{name}-state

[archive]
compress_level = {level}

[backup]
jobs = {jobs}
compress_level = {level}
"""

LOCAL_REPOSITORY = """
[repository local]
url = file://{store}
"""

PGBACKREST_CONF = """
[global]
repo1-path={store}
repo1-bundle=y
repo1-retention-full=9
compress-type=zst
compress-level={level}
process-max={jobs}
start-fast=y
expire-auto=n
log-path={directory}/pgbackrest-log
lock-path={directory}/pgbackrest-lock
spool-path={directory}/pgbackrest-spool
log-level-console=warn
log-level-file=off

[bench]
pg1-path={data}
pg1-socket-path={socket}
pg1-port=5432
pg1-user=postgres
"""

LEVEL = 1   # of zstd, for everybody


class Contestant:
    """The store is a directory of the contestant's own beneath the bench's."""
    name = ""
    archiver = "nobody"

    def __init__(self, bench):
        self.bench = bench
        self.store = bench.directory / f"{self.name}-store"

    def reset(self, cluster):
        """An empty store for backups of this cluster."""
        cluster.archive_with("nobody")
        self.remove()
        self.store.mkdir(mode=0o700)
        self.bench.account.own(self.store)
        self.prepare(cluster)
        cluster.archive_with(self.archiver)

    def remove(self):
        shutil.rmtree(self.store, ignore_errors=True)

    def prepare(self, cluster):
        pass

    def stored(self):
        """Bytes that the last backup takes, without WAL."""
        return tree_size(self.store)

    def write_configuration(self, template, cluster, file_name):
        path = self.bench.directory / file_name
        path.write_text(template.format(data=cluster.data, socket=cluster.directory, store=self.store, level=LEVEL,
                                        directory=self.bench.directory, jobs=self.bench.jobs, name=self.name),
                        encoding="utf-8")
        path.chmod(0o600)
        self.bench.account.own(path)


class Pgvigil(Contestant):
    name = "pgvigil"
    archiver = "pgvigil"

    def command(self, *arguments):
        return [self.bench.directory / "pgvigil", "-c", self.bench.directory / f"{self.name}.conf", *arguments]

    def remove(self):
        super().remove()
        shutil.rmtree(self.bench.directory / f"{self.name}-state", ignore_errors=True)

    def configuration(self):
        return CLUSTER_CONF + LOCAL_REPOSITORY

    def prepare(self, cluster):
        self.write_configuration(self.configuration(), cluster, f"{self.name}.conf")
        self.bench.run(self.command("init", "--quiet"))

    def stored(self):
        parts = [path for path in self.store.glob("bench/*/*") if path.name != "wal"]
        return sum(tree_size(path) for path in parts)

    def backup(self, cluster):
        return self.command("backup", "--full", "--quiet", "--jobs", str(self.bench.jobs))

    def restore(self, cluster, target):
        return self.command("restore", "--quiet", "--to", target, "--jobs", str(self.bench.jobs))

    def push(self, segment):
        return self.command("archive-push", segment)

    def get(self, segment, path):
        return self.command("archive-get", segment.name, path)


class PgvigilEncrypted(Pgvigil):
    """The same with an encrypted repository, for one EC key."""
    name = "pgvigil-encrypted"
    archiver = "pgvigil-encrypted"

    def configuration(self):
        key = self.bench.directory / "bench.key"
        if not key.exists():
            self.bench.run([self.bench.directory / "pgvigil", "keygen", key.with_suffix("")])
        return f"{super().configuration()}\n[encryption]\nrecipients = {key.with_suffix('.crt')}\nidentity = {key}\n"


class Pgbackrest(Contestant):
    name = "pgbackrest"
    archiver = "pgbackrest"

    def command(self, command, *arguments):
        return ["pgbackrest", f"--config={self.bench.directory / 'pgbackrest.conf'}", "--stanza=bench", *arguments,
                command]

    def remove(self):
        super().remove()
        for kind in ("log", "lock", "spool"):
            shutil.rmtree(self.bench.directory / f"pgbackrest-{kind}", ignore_errors=True)

    def prepare(self, cluster):
        for kind in ("log", "lock", "spool"):
            path = self.bench.directory / f"pgbackrest-{kind}"
            path.mkdir(mode=0o700)
            self.bench.account.own(path)
        self.write_configuration(PGBACKREST_CONF, cluster, "pgbackrest.conf")
        self.bench.run(self.command("stanza-create"))

    def stored(self):
        return tree_size(self.store / "backup")

    def backup(self, cluster):
        return self.command("backup", "--type=full")

    def restore(self, cluster, target):
        return self.command("restore", f"--pg1-path={target}")

    def push(self, segment):
        return [*self.command("archive-push"), segment]

    def get(self, segment, path):
        return [*self.command("archive-get"), segment.name, path]


class PgBasebackup(Contestant):
    """PostgreSQL's own; without WAL, as the others keep it elsewhere. The server's part is not in its CPU time."""
    name = "pg_basebackup"

    def backup(self, cluster):
        compress = f"client-zstd:level={LEVEL},workers={self.bench.jobs}"
        return ["pg_basebackup", "-h", cluster.directory, "-p", "5432", "-U", "postgres", "-D", self.store / "base",
                "-Ft", "-X", "none", "--checkpoint=fast", f"--compress={compress}"]


class Floor(Contestant):
    """tar and zstd, which check nothing: what it costs to read, compress and write."""
    name = "tar|zstd"

    def __init__(self, bench):
        super().__init__(bench)
        self.store = bench.directory / "floor-store"

    def backup(self, cluster):
        archive = self.store / "base.tar.zst"
        return shell(f"tar -C {cluster.data} -cf - base | zstd -q -{LEVEL} -T{self.bench.jobs} -o {archive} "
                     f"&& sync {archive} {self.store}")

    def restore(self, cluster, target):
        return shell(f"zstd -q -dc {self.store}/base.tar.zst | tar -C {target} -xf - && sync -f {target}")


def shell(text):
    return ["/bin/bash", "-o", "pipefail", "-c", text]


def warm(path):
    """Reads a file, or all files below a directory, so that the next command finds them in the page cache."""
    buffer = bytearray(1 << 20)
    files = [path] if os.path.isfile(path) else (os.path.join(at, name) for at, _, names in os.walk(path)
                                                 for name in names)
    for name in files:
        with open(name, "rb", buffering=0) as file:
            while file.readinto(buffer) > 0:
                pass
