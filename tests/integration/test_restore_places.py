"""Where a restore goes: tablespaces, configuration from outside, archiving, and what is not free."""

import contextlib
import os
import shutil
import subprocess

import pytest
from backup_tools import KILL, Background, assert_says, backups, only_backup, snapshot
from harness import (HarnessError, Ledger, assert_amcheck, assert_restored, assert_verifybackup, compare_directories,
                     own, system, wait_recovery, wait_until, write_file)


def restore(site, to, *args, check=0):
    return site.pgvigil.run("restore", "--to", to, *args, check=check)


def started(site, path, want="promoted"):
    cluster = site.scratch.adopt(path, path.name, bin_dir=site.cluster.bindir)
    cluster.start(wait=False)
    return wait_recovery(cluster, want)


# -- tablespaces ----------------------------------------------------------------------------------------------------

@pytest.fixture
def spaced(site):
    """A ledger, and a table in each of two tablespaces and of one in place; the original goes away."""
    ledger = Ledger.create(site.cluster)
    site.one, site.two = (site.cluster.create_tablespace(name) for name in ("one", "two"))
    site.cluster.create_tablespace("inside", in_place=True)
    site.oids = dict(site.cluster.sql("select spcname, oid from pg_tablespace"))
    for name in ("one", "two", "inside"):
        site.cluster.sql(f"create table in_{name} tablespace {name} as select generate_series(1, 10000) n")
    with ledger.running():
        ledger.wait(20)
        site.backup()
        ledger.wait(20)
    site.cluster.sql("insert into in_one select 1")
    site.cluster.switch_wal()
    site.cluster.stop()
    site.ledger = ledger
    return site


def check_spaced(cluster, site):
    assert [cluster.scalar(f"select count(*) from in_{name}") for name in ("one", "two", "inside")] == \
        [10001, 10000, 10000]
    assert_restored(cluster, site.oracle(site.ledger, timeline=1).expect(start=cluster.backup_start),
                    ledger=site.ledger)
    assert_amcheck(cluster)


def test_tablespaces_go_elsewhere(spaced):
    site, at = spaced, spaced.scratch.path
    before = snapshot(site.one, site.two, site.cluster.data)
    cluster = site.restore("moved", "--tablespace", f"{site.one}={at}/new-one", "--tablespace",
                           f"{site.oids['two']}={at}/new-two", start=False)
    links = cluster.data / "pg_tblspc"
    assert os.readlink(links / str(site.oids["one"])) == f"{at}/new-one"
    assert os.readlink(links / str(site.oids["two"])) == f"{at}/new-two"
    assert (links / str(site.oids["inside"])).is_dir() and not (links / str(site.oids["inside"])).is_symlink()
    assert_verifybackup(cluster.data, cluster.bindir)
    assert f"{site.oids['one']} {at}/new-one\n" in (cluster.data / "tablespace_map").read_text()
    assert not list(at.glob("new-*/pgvigil.restoring"))
    assert os.stat(f"{at}/new-one").st_mode & 0o777 == 0o700
    cluster.start(wait=False)
    wait_recovery(cluster)
    check_spaced(cluster, site)
    assert snapshot(site.one, site.two, site.cluster.data) == before, "the original was touched"


def test_tablespaces_go_where_they_were_if_that_is_free(spaced):
    site, to = spaced, spaced.scratch.path / "back"
    told = restore(site, to, check=2)
    assert_says(told, str(site.one), "not empty", "--tablespace")
    assert not to.exists()
    for place in (site.one, site.two):
        shutil.rmtree(place)
    site.two.mkdir(mode=0o700)
    own(site.two)
    cluster = site.restore("back")
    check_spaced(cluster, site)


def test_tablespaces_that_cannot_be_mapped_so(spaced):
    site, to, at = spaced, spaced.scratch.path / "never", spaced.scratch.path

    def refused(*mappings, words):
        args = [word for mapping in mappings for word in ("--tablespace", mapping)]
        assert_says(restore(site, to, *args, check=2), *words)
        assert not to.exists()

    refused("/nowhere=/tmp/x", words=["/nowhere", str(site.one), str(site.two)])
    refused(f"{site.one}={at}/same", f"{site.two}={at}/same", words=["lie in each other"])
    site.scratch.mkdir("same")
    refused(f"{site.one}={at}/same", f"{site.two}={at}/same/below", words=["lie in each other"])
    refused(f"{site.one}={to}/inside", f"{site.two}={at}/new", words=[str(to)])
    refused(f"{site.one}={at}/new", f"{site.oids['one']}={at}/other", words=["more than one place"])
    refused(f"{site.one}={at}/missing/new", words=[f"{at}/missing"])
    refused(f"{site.one}={site.config}", f"{site.two}={at}/new", words=["not a directory"])


# -- what is not free -----------------------------------------------------------------------------------------------

def test_places_that_are_not_free(site):
    site.backup()
    at = site.scratch.path
    before = snapshot(site.cluster.data / "base")
    assert_says(restore(site, site.cluster.data, check=2), "a server is running", str(site.cluster.pid),
                "hint: restore to another directory, or stop that server and restore onto its own with --delta\n")
    filled = site.scratch.mkdir("filled")
    write_file(filled / "something", "of value")
    assert_says(restore(site, filled, check=2), str(filled), "not empty",
                "hint: restore to another directory, or move this one away first\n")
    assert (filled / "something").read_text() == "of value"
    assert_says(restore(site, site.config, check=2), "not a directory")
    assert_says(restore(site, at / "no" / "parent", check=2), str(at / "no"))
    dangling = at / "dangling"
    dangling.symlink_to(at / "gone")
    assert_says(restore(site, dangling, check=2), "symbolic link", hint=False)
    assert snapshot(site.cluster.data / "base") == before
    site.cluster.stop()
    lossless = "move this one away first, and keep it: its pg_wal may hold WAL that was never archived"
    assert_says(restore(site, site.cluster.data, check=2), "it holds a data directory",
                f"{lossless}; or restore onto it with --delta, which keeps of it what is right\n")
    other = site.scratch.cluster("other", own_identity=True)
    assert_says(restore(site, other.data, check=2), "it holds a data directory", f"{lossless}\n")
    other.start()
    assert_says(restore(site, other.data, check=2), "a server is running", "hint: restore to another directory\n")


def test_places_that_are_free(site):
    site.backup()
    site.cluster.stop()
    at = site.scratch.path
    empty = site.scratch.mkdir("empty")
    empty.chmod(0o755)
    restore(site, empty)
    assert empty.stat().st_mode & 0o777 == 0o700
    real = site.scratch.mkdir("real")
    (at / "link").symlink_to(real)
    restore(site, at / "link")
    assert (real / "PG_VERSION").exists()
    strange = at / "it's 100% \\ \"strange\""
    restore(site, strange)
    for place in (empty, real, strange):
        assert_verifybackup(place, site.cluster.bindir)
    started(site, empty)


def test_the_command_that_fetches_wal_survives_any_path(make_site):
    """The configuration's path stands in restore_command, through the server's and the shell's quoting."""
    site = make_site()
    site.backup()
    site.cluster.switch_wal()
    strange = site.scratch.mkdir("a 'b' 100% \\c") / "x y.conf"
    shutil.copy(site.config, strange)
    own(strange)
    site.pgvigil.config = strange
    cluster = site.restore("quoted")
    assert "restored log file" in cluster.log_text()


# -- archiving ------------------------------------------------------------------------------------------------------

def test_archiving_stays_on_only_in_the_configured_directory(site):
    site.cluster.sql("create table original ()")
    site.cluster.sql("alter system set archive_mode = 'on'")
    site.backup()
    site.cluster.switch_wal()
    site.cluster.stop()
    stored = snapshot(site.repository)

    beside = site.restore("beside")
    assert beside.scalar("show archive_mode") == "off"
    beside.sql("create table theirs ()")
    beside.switch_wal(archived=False)
    beside.stop()
    assert all(path in stored or "/run/" in path for path in snapshot(site.repository))

    shutil.move(site.cluster.data, site.scratch.path / "lost")
    restore(site, site.cluster.data)
    site.cluster.start(wait=False)
    wait_recovery(site.cluster)
    assert site.cluster.scalar("show archive_mode") == "on"
    site.cluster.switch_wal()
    assert list(site.repository.rglob("00000002.history.zst"))
    assert len(backups(site)) == 1
    site.backup()
    assert len(backups(site)) == 2


def test_settings_that_would_disturb_go(site):
    site.cluster.sql("alter system set recovery_target_lsn = '0/1'")
    site.cluster.sql("alter system set archive_cleanup_command = 'false'")
    site.cluster.sql("alter system set work_mem = '5MB'")
    site.cluster.configure(recovery_target_name="other", recovery_end_command="touch ended-here")
    site.backup()
    site.cluster.switch_wal()
    site.cluster.stop()
    cluster = site.restore("calm")
    assert cluster.scalar("show work_mem") == "5MB"
    assert cluster.scalar("show archive_cleanup_command") == ""
    assert not (cluster.data / "ended-here").exists()


# -- configuration from outside -------------------------------------------------------------------------------------

@pytest.fixture
def debian(make_site):
    """postgresql.conf, pg_hba.conf and pg_ident.conf outside of the data directory, as Debian has them."""
    site = make_site(start=False, init=False)
    etc = site.scratch.mkdir("etc/15")
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        shutil.move(site.cluster.data / name, etc / name)
    conf = etc / "conf.d"
    conf.mkdir()
    write_file(conf / "more.conf", "max_connections = 137\n")
    own(conf)
    with open(etc / "postgresql.conf", "a") as file:
        file.write(f"data_directory = '{site.cluster.data}'\nhba_file = '{etc}/pg_hba.conf'\n"
                   f"ident_file = '{etc}/pg_ident.conf'\ninclude_dir = 'conf.d'\n")
    write_file(etc / "pg_hba.conf", "# ours\nlocal all all trust\n")
    site.etc = etc
    return site


def test_configuration_from_outside_is_put_aside(debian):
    site = debian
    site.cluster.start(options={"config_file": site.etc / "postgresql.conf"})
    site.pgvigil.run("init")
    site.backup()
    site.cluster.switch_wal()
    site.cluster.stop()

    told = restore(site, site.scratch.path / "bare")
    cluster = site.scratch.adopt(site.scratch.path / "bare", "bare", bin_dir=site.cluster.bindir)
    aside = cluster.data / "pgvigil-config"
    assert str(aside) in told.stderr
    assert_verifybackup(cluster.data, cluster.bindir)
    assert compare_directories(f"{aside}{site.etc}", site.etc) == []
    assert "# ours" in (cluster.data / "pg_hba.conf").read_text()
    assert "max_connections = 137" in (cluster.data / "postgresql.conf").read_text()
    wait_recovery(cluster.start(wait=False))
    assert cluster.scalar("show max_connections") == "137"


# -- restores that do not get to their end --------------------------------------------------------------------------

def test_a_killed_restore_leaves_nothing_startable_and_is_done_again(spaced):
    site, to, at = spaced, spaced.scratch.path / "killed", spaced.scratch.path
    mappings = ["--tablespace", f"{site.one}={at}/k-one", "--tablespace", f"{site.two}={at}/k-two"]
    for _ in range(10):  # until the kill comes before the end
        with Background(site.pgvigil, "restore", "--to", to, "--jobs", "1", *mappings) as running:
            with contextlib.suppress(HarnessError):  # it was faster
                running.wait_for(lambda: (to / "pgvigil.restoring").exists(), "the restore to write")
                running.signal(KILL)
                if running.finish(check=False).rc == -KILL and not (to / "global" / "pg_control").exists():
                    break
        for place in (to, at / "k-one", at / "k-two"):
            shutil.rmtree(place)
    assert not (to / "global" / "pg_control").exists()
    assert "pgvigil restore" in (to / "pgvigil.restoring").read_text()
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([site.cluster.bindir / "pg_controldata", "-D", to], check=True, capture_output=True)

    cluster = site.restore("killed", *mappings)
    check_spaced(cluster, site)


def test_remains_are_removed_only_where_they_are_surely_ours(spaced):
    site, to, at = spaced, spaced.scratch.path / "remains", spaced.scratch.path
    for place in (to, at / "r-one"):
        place.mkdir(mode=0o700)
        write_file(place / "pgvigil.restoring", "pgvigil restore\nid 1\n")
        write_file(place / "leftover", "x")
        own(place)
    mappings = ["--tablespace", f"{site.one}={at}/r-one", "--tablespace", f"{site.two}={at}/r-two"]
    write_file(at / "r-one" / "pgvigil.restoring", "pgvigil restore\nid 2\n")
    assert_says(restore(site, to, *mappings, check=2), str(at / "r-one"), "not empty")
    write_file(at / "r-one" / "pgvigil.restoring", "pgvigil restore\nid 1\n")
    (to / "global").mkdir()
    write_file(to / "global" / "pg_control", "")
    assert_says(restore(site, to, *mappings, check=2), str(to), "not empty")
    assert (to / "leftover").exists() and (at / "r-one" / "leftover").exists()
    (to / "global" / "pg_control").unlink()
    cluster = site.restore("remains", *mappings)
    assert not (to / "leftover").exists() and not (at / "r-one" / "leftover").exists()
    check_spaced(cluster, site)


def test_a_full_disk(site):
    if os.geteuid() != 0:
        pytest.skip("needs a file system of its own")
    site.backup()
    site.cluster.stop()
    small = site.scratch.mkdir("small")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=777", "none", small]).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        told = restore(site, small / "data", check=3)
        assert_says(told, "not enough space", "needed")
        assert not (small / "data" / "global" / "pg_control").exists()
    finally:
        subprocess.run(["umount", small], check=True)


def test_nothing_is_left_that_belongs_to_root(site):
    if os.geteuid() != 0:
        pytest.skip("only root could leave such")
    site.backup()
    site.cluster.stop()
    to = site.scratch.path / "owned"
    done = subprocess.run([str(a) for a in (*site.pgvigil.command, "restore", "--to", to)], capture_output=True,
                          text=True, env=system.environment(), cwd=site.scratch.path)
    assert done.returncode == 0, done.stderr
    owner = site.cluster.data.stat().st_uid
    assert owner != 0
    for directory, names, files in os.walk(to):
        assert {os.lstat(os.path.join(directory, name)).st_uid for name in names + files} <= {owner}
    wait_until(lambda: only_backup(site), 1, "the backup to be there still")
    started(site, to)
