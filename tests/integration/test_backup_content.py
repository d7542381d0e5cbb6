"""What a backup holds: unusual clusters come back as they were, damage is named, and nothing blocks or is lost."""

import os
import socket

import pytest
from backup_tools import assert_says, backups, manifest, only_backup
from harness import (Ledger, assert_amcheck, assert_checksums, assert_restored, assert_verifybackup,
                     compare_directories, format_lsn, system, wait_recovery, write_file)
from harness.wal import PAGE

SEGMENT = 131072 * PAGE  # bytes of a relation's segment

# What recovery needs, what a server makes anew, and what the server's own base backup leaves out as well.
NOT_COMPARED = [
    "pg_wal", "backup_label", "tablespace_map", "backup_manifest", "postgresql.auto.conf", "recovery.signal",
    "global/pg_control", "postmaster.pid", "postmaster.opts", "pg_stat", "pg_stat_tmp", "pg_replslot", "pg_dynshmem",
    "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans"]


# -- one cluster with everything unusual, taken and compared at once --------------------------------------------------

class Tablespaces:
    """One behind a symbolic link, one inside pg_tblspc."""

    def __init__(self, cluster):
        self.linked = cluster.create_tablespace("linked")
        cluster.create_tablespace("inside", in_place=True)
        for name in ("linked", "inside"):
            cluster.sql(f"create table in_{name} (a int primary key using index tablespace {name}) tablespace {name}")
            cluster.sql(f"insert into in_{name} select generate_series(1, 3000)")

    def check(self, restored):
        for name in ("linked", "inside"):
            assert restored.scalar(f"select count(*) from in_{name}") == 3000
            restored.sql(f"insert into in_{name} values (0)")
        locations = restored.scalar("select string_agg(pg_tablespace_location(oid), ' ') from pg_tablespace")
        assert str(self.linked) not in locations.split()


class ManyDatabases:
    """Their files lie in folders of their own, one of them in a tablespace."""

    def __init__(self, cluster):
        for number, options in enumerate(("", "tablespace linked", "template template0 strategy file_copy")):
            cluster.sql(f"create database extra{number} {options}")
            cluster.sql("create table t as select generate_series(1, 500) g", db=f"extra{number}")

    def check(self, restored):
        for number in range(3):
            assert restored.scalar("select sum(g) from t", db=f"extra{number}") == 125250


class Unlogged:
    """Comes back empty: only the init fork is in the backup."""

    def __init__(self, cluster):
        cluster.sql("create unlogged table fleeting (a int primary key);"
                    "insert into fleeting select generate_series(1, 9)")
        self.path = cluster.scalar("select pg_relation_filepath('fleeting')")

    def check_files(self, data):
        assert not (data / self.path).exists() and (data / f"{self.path}_init").exists()

    def check(self, restored):
        assert restored.scalar("select count(*) from fleeting") == 0
        restored.sql("insert into fleeting values (1)")


class Temporary:
    """Files of a session's temporary tables and sorts are not in the backup."""

    def __init__(self, cluster):
        self.session = cluster.connect()
        with self.session.cursor() as cursor:
            cursor.execute("create temp table passing as select generate_series(1, 1000) g")
            cursor.execute("select pg_relation_filepath('passing')")
            self.path = cursor.fetchone()[0]
        write_file(cluster.scratch.mkdir(f"{cluster.name}/base/pgsql_tmp") / "pgsql_tmp123.0", "sorted")

    def check_files(self, data):
        assert not (data / self.path).exists() and not list((data / "base").glob("pgsql_tmp/*"))

    def check(self, restored):
        assert restored.scalar("select to_regclass('passing')") is None


class LargeObjects:
    def __init__(self, cluster):
        self.content = os.urandom(300000)
        self.oid = cluster.scalar("select lo_from_bytea(0, %s)", self.content)

    def check(self, restored):
        assert bytes(restored.scalar("select lo_get(%s)", self.oid)) == self.content


class OddNames:
    """Files that somebody put there: the server's own base backup takes them, whatever they are called."""

    names = [b"with space", b"with\nline", b"quote'\"\\", "gr\u00fc\u00df".encode(), b"latin-\xfc\xff", b"t" * 200,
             b"%p;$(id)", b"-rf"]

    def __init__(self, cluster):
        self.folder = os.fsencode(cluster.data / "odd")
        cluster.scratch.mkdir(f"{cluster.name}/odd")
        for number, name in enumerate(self.names):
            path = os.path.join(self.folder, name)
            with open(path, "wb") as file:
                file.write(b"x" * (number * 5000))
            os.chmod(path, 0o600)
            system.own(os.fsdecode(path))

    def check_files(self, data):
        assert sorted(os.listdir(os.fsencode(data / "odd"))) == sorted(self.names)


class Special:
    """Neither file nor directory: named in a warning, and nobody waits for a writer to a pipe."""

    def __init__(self, cluster):
        os.mkfifo(cluster.data / "odd" / "pipe", 0o600)
        system.own(cluster.data / "odd" / "pipe")
        self.socket = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(cluster.data)  # a path short enough for a socket
        try:
            self.socket.bind("a-socket")
        finally:
            os.chdir(here)
        (cluster.data / "odd" / "link").symlink_to("/etc/hostname")

    def check_files(self, data):
        assert not any(os.path.lexists(data / name) for name in ("odd/pipe", "a-socket", "odd/link"))


class TornTail:
    """A file whose last page is there in part, as a crash of the machine can leave it."""

    path = "base/1/888888"
    content = bytes(PAGE) + b"tail" * 25

    def __init__(self, cluster):
        (cluster.data / self.path).write_bytes(self.content)
        system.own(cluster.data / self.path)

    def check_files(self, data):
        assert (data / self.path).read_bytes() == self.content
        (data / self.path).unlink()  # pg_checksums does not like it


class ManySegments:
    """A relation of two segments with a hole, and one whose first segment is missing."""

    orphan = "base/1/999999.1"

    def __init__(self, cluster):
        cluster.sql("create table vast (t text);"
                    "insert into vast select repeat('v', 1000) from generate_series(1, 100)")
        self.path = cluster.scalar("select pg_relation_filepath('vast')")
        cluster.stop()
        # Pages of zeros are pages that have just been added.
        for suffix, size in (("", SEGMENT), (".1", 5 * PAGE)):
            with open(cluster.data / f"{self.path}{suffix}", "ab") as file:
                file.truncate(size)
            system.own(cluster.data / f"{self.path}{suffix}")
        cluster.start()
        # These rows go to the last page, so its checksum is that of a page of the second segment.
        cluster.sql("insert into vast select repeat('w', 1000) from generate_series(1, 5)")
        cluster.checkpoint()
        self.tail = (cluster.data / f"{self.path}.1").read_bytes()
        assert any(self.tail)
        (cluster.data / self.orphan).write_bytes(self.tail)
        system.own(cluster.data / self.orphan)

    def check_files(self, data):
        assert (data / self.orphan).read_bytes() == self.tail == (data / f"{self.path}.1").read_bytes()
        whole = (data / self.path).stat()
        assert whole.st_size == SEGMENT and whole.st_blocks < 10000, "holes stay holes"

    def check(self, restored):
        assert restored.scalar("select pg_relation_size('vast')") == SEGMENT + 5 * PAGE
        assert restored.scalar("select count(*) from vast") == 105
        restored.sql("drop table vast")  # so that amcheck need not read it all


def move_wal(cluster):
    """pg_wal becomes a symbolic link to another place."""
    elsewhere = cluster.scratch.path / "wal-elsewhere"
    os.rename(cluster.data / "pg_wal", elsewhere)
    (cluster.data / "pg_wal").symlink_to(elsewhere)
    os.lchown(cluster.data / "pg_wal", elsewhere.stat().st_uid, elsewhere.stat().st_gid)


def test_an_unusual_cluster_comes_back_as_it_was(make_site, scratch):
    site = make_site(start=False, init=False, settings={"autovacuum": "off", "allow_in_place_tablespaces": "on"})
    cluster = site.cluster
    move_wal(cluster)
    cluster.start()
    site.pgvigil.run("init")
    segments = ManySegments(cluster)
    tablespaces = Tablespaces(cluster)
    cases = [segments, tablespaces, ManyDatabases(cluster), Unlogged(cluster), LargeObjects(cluster),
             OddNames(cluster), Special(cluster), Temporary(cluster), TornTail(cluster)]
    ledger = Ledger.create(cluster)
    with ledger.running():
        ledger.wait(100)

    done = site.backup("--jobs", "2", timeout=60)
    assert_says(done, "a-socket", "odd/pipe", "odd/link", hint=False)
    target = scratch.path / "moved"
    restored = site.restore("restored", "--tablespace", f"{tablespaces.linked}={target}", start=False)
    assert_verifybackup(restored.data, restored.bindir)
    _compare(cluster, restored, tablespaces.linked, target, cases)
    for case in cases:
        if hasattr(case, "check_files"):
            case.check_files(restored.data)

    wait_recovery(restored.start(wait=False))
    for case in cases:
        if hasattr(case, "check"):
            case.check(restored)
    assert_restored(restored, site.oracle(ledger, timeline=1).expect(start=restored.backup_start), ledger=ledger)
    assert_amcheck(restored)
    assert_checksums(restored)


def _compare(cluster, restored, old_location, new_location, cases):
    """Nothing was written since, so the directories agree page by page, but for what is not to be restored."""
    unlogged = next(case.path for case in cases if isinstance(case, Unlogged))
    temporary = next(case.path for case in cases if isinstance(case, Temporary))
    oid = next(p.name for p in (cluster.data / "pg_tblspc").iterdir() if p.is_symlink())
    vast = next(case.path for case in cases if isinstance(case, ManySegments))
    known = [*NOT_COMPARED, unlogged, temporary, vast, "base/pgsql_tmp", "a-socket", "odd/pipe", "odd/link",
             f"pg_tblspc/{oid}"]
    differences = [line for line in compare_directories(cluster.data, restored.data, ignore=known)
                   if not line.endswith("/pg_internal.init") and not _is_unlogged(cluster, line)]
    assert differences == []
    assert (restored.data / "pg_tblspc" / oid).resolve() == new_location
    assert [line for line in compare_directories(old_location, new_location)
            if not line.endswith("/pg_internal.init")] == []


def _is_unlogged(cluster, line):
    """Other forks and indexes of unlogged tables are expected to be missing."""
    if not line.startswith("only in"):
        return False
    number = line.rsplit("/", 1)[1].split("_")[0].split(".")[0]
    return number.isdigit() and bool(cluster.sql(
        "select 1 from pg_class where relpersistence <> 'p' and pg_relation_filenode(oid) = %s", int(number)))


# -- configuration elsewhere ----------------------------------------------------------------------------------------

def test_configuration_outside_the_data_directory(make_site, scratch):
    """As Debian keeps it: /etc/postgresql/<version>/<cluster>, with conf.d."""
    site = make_site(start=False, init=False)
    cluster, etc = site.cluster, scratch.mkdir("etc")
    names = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
    for name in names:
        os.rename(cluster.data / name, etc / name)
    write_file(scratch.mkdir("etc/conf.d") / "extra.conf", "work_mem = '7MB'\n")
    with open(etc / "postgresql.conf", "a") as conf:
        conf.write(f"data_directory = '{cluster.data}'\nhba_file = '{etc}/pg_hba.conf'\n"
                   f"ident_file = '{etc}/pg_ident.conf'\ninclude_dir = 'conf.d'\n")
    cluster.start(options={"config_file": etc / "postgresql.conf"})
    assert cluster.scalar("show work_mem") == "7MB"
    site.pgvigil.run("init")
    cluster.sql("create table t as select generate_series(1, 100) g")
    site.backup()

    outside = {path for path, kind in manifest(site, only_backup(site), "path, kind") if kind == "c"}
    assert outside == {str(etc / name) for name in names} | {str(etc / "conf.d" / "extra.conf")}
    restored = site.restore("restored", start=False)
    assert_verifybackup(restored.data, restored.bindir)
    for path in outside:
        original = open(path).read()
        found = [p for p in restored.data.rglob(os.path.basename(path)) if p.read_text() == original]
        assert found, f"{path} was not put aside"
    wait_recovery(restored.start(wait=False))
    assert restored.scalar("select count(*) from t") == 100


# -- damage ---------------------------------------------------------------------------------------------------------

def test_damaged_pages_are_named_and_kept(site):
    site.cluster.sql("create table t as select g, repeat('t', 500) from generate_series(1, 2000) g")
    site.cluster.checkpoint()
    path = site.cluster.scalar("select pg_relation_filepath('t')")
    site.cluster.stop()
    for block in (3, 17):
        with open(site.cluster.data / path, "r+b") as file:
            file.seek(block * PAGE + 5000)
            byte = file.read(1)
            file.seek(block * PAGE + 5000)
            file.write(bytes([byte[0] ^ 0x10]))
    site.cluster.start()
    done = site.backup("--quiet", check=4)
    assert_says(done, f"{path} block 3", f"{path} block 17", "2 pages")
    backup = only_backup(site)
    assert backup["page_errors"] == 2
    assert sorted(backup["page_error_list"]) == sorted([f"{path} block 3", f"{path} block 17"])
    assert "2 damaged pages" in site.pgvigil.run("list").stdout
    assert '"page_errors":2' in site.pgvigil.run("list", "--json").stdout.replace(" ", "")

    restored = site.restore("restored", start=False)
    assert (restored.data / path).read_bytes() == (site.cluster.data / path).read_bytes()


def test_without_page_checksums_nobody_looks(make_site):
    site = make_site(checksums=False)
    site.cluster.sql("create table t as select g, repeat('t', 500) from generate_series(1, 200) g")
    site.cluster.checkpoint()
    with open(site.cluster.data / site.cluster.scalar("select pg_relation_filepath('t')"), "r+b") as file:
        file.seek(PAGE + 5000)
        file.write(b"other bytes")
    site.backup()
    assert only_backup(site)["page_errors"] == 0 and only_backup(site)["data_checksums"] is False


def test_a_damaged_control_file_is_no_backup(site):
    """Without it nothing starts; the server holds its own copy in memory and writes it anew at a checkpoint."""
    control = site.cluster.data / "global" / "pg_control"
    whole = control.read_bytes()
    control.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert_says(site.backup(check=3), "CRC checksum does not match", hint=False)
    assert backups(site) == {}
    control.write_bytes(whole)
    site.backup()


def test_a_link_in_place_of_data_is_refused(site, scratch):
    """The server's own base backup would leave out what is behind it."""
    moved = scratch.path / "moved"
    site.cluster.stop()
    os.rename(site.cluster.data / "pg_xact", moved)
    (site.cluster.data / "pg_xact").symlink_to(moved)
    site.cluster.start()
    assert_says(site.backup(check=2), "pg_xact", "symbolic link")
    assert backups(site) == {}


# -- sizes and threads ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("megabytes", [1, 64])
def test_wal_segment_sizes(make_site, megabytes):
    site = make_site(wal_segsize=megabytes)
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(30)
        site.backup()
        ledger.wait(30)
    site.cluster.switch_wal()
    assert only_backup(site)["wal_segment_size"] == megabytes << 20
    oracle = site.oracle(ledger)
    target = oracle.commits[-10]
    restored = site.restore("r", "--target-lsn", format_lsn(target.lsn), "--exclusive")
    assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=target.lsn, inclusive=False),
                    ledger=ledger)


def test_as_many_threads_as_one_likes(make_site):
    """More, fewer, or one: the same files with the same content."""
    site = make_site(settings={"autovacuum": "off"})
    site.cluster.sql("create table t as select g, md5(g::text) from generate_series(1, 60000) g;"
                     "create index on t (md5)")
    site.cluster.tool("vacuumdb", "--all", "--freeze", "-h", site.cluster.socket_dir, "-p", site.cluster.port,
                      "-U", "postgres")
    site.backup()  # what it looks up leaves hints in pages of the catalogs, the next ones then find them
    contents = []
    for jobs in (1, 2, 8):
        before = set(backups(site))
        site.backup("--jobs", jobs)
        (run_id,) = set(backups(site)) - before
        contents.append([row for row in manifest(site, backups(site)[run_id])
                         if row[0] != "global/pg_control" and not row[0].startswith("pg_stat")])
    assert len(contents[0]) > 900 and contents[0] == contents[1] == contents[2]
    site.pgvigil.run("backup", "--jobs", "0", check=2)
    site.pgvigil.run("backup", "--jobs", "1000000", check=2)
