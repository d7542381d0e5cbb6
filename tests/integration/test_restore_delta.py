"""`restore --delta`: onto a directory that is there, of a crashed or diverged cluster."""

import json
import os
import random
import shutil
import subprocess
import time

import pytest
from backup_tools import Background, assert_says, only_backup, snapshot
from harness import (Ledger, assert_amcheck, assert_checksums, assert_restored, assert_verifybackup, own, system,
                     wait_recovery, write_file)

BLOCK = 8192


@pytest.fixture
def crashed(site):
    """A ledger and a table in a tablespace, a backup, writes after it, and a server that was killed."""
    ledger = Ledger.create(site.cluster)
    site.space = site.cluster.create_tablespace("space")
    site.cluster.sql("create table spaced tablespace space as select n, repeat('x', 200) t "
                     "from generate_series(1, 50000) n")
    site.cluster.sql("create table plain as select n, md5(n::text) t from generate_series(1, 50000) n")
    with ledger.running():
        ledger.wait(20)
        site.backup()
        ledger.wait(20)
    site.cluster.sql("create table later as select generate_series(1, 1000) n")
    site.cluster.sql("update plain set t = 'changed' where n % 1000 = 0")
    site.cluster.switch_wal()
    site.cluster.checkpoint()
    site.cluster.kill9()
    site.ledger = ledger
    return site


def delta(site, *args, check=0, to=None):
    return site.pgvigil.run("restore", "--delta", "--to", to or site.cluster.data, *args, check=check)


def check_restored(site):
    """Starts the cluster where it was and compares it with the oracle."""
    assert_verifybackup(site.cluster.data, site.cluster.bindir)
    assert not list(site.cluster.data.glob("pgvigil.*"))
    site.cluster.start(wait=False)
    wait_recovery(site.cluster, "promoted")
    assert site.cluster.scalar("select count(*) from later") == 1000
    assert site.cluster.scalar("select count(*) from spaced") == 50000
    assert site.cluster.scalar("select count(*) from plain where t = 'changed'") == 50
    assert_restored(site.cluster, site.oracle(site.ledger, timeline=1).expect(start=site.start), ledger=site.ledger)
    assert_amcheck(site.cluster)
    site.cluster.stop()
    assert_checksums(site.cluster)


@pytest.fixture
def damaged(crashed):
    """Every kind of thing that may differ from the backup. What a first, undisturbed restore makes is the measure."""
    site, data = crashed, crashed.cluster.data
    site.start = site.restore("measure", "--tablespace", f"{site.space}={site.scratch.path}/elsewhere",
                              start=False).backup_start
    rng = random.Random(3)
    relations = sorted(path for path in (data / "base").glob("*/*") if path.is_file() and path.stat().st_size >= BLOCK)
    for path in rng.sample(relations, 20):
        with open(path, "r+b") as file:
            file.seek(rng.randrange(path.stat().st_size // BLOCK) * BLOCK + 100)
            file.write(b"damage")
    for path, change in zip(rng.sample(relations, 3), (0, BLOCK, None)):
        if change is None:
            path.unlink()
        else:
            os.truncate(path, change)
    longer = rng.choice(relations)
    with open(longer, "ab") as file:
        file.write(b"\1" * 3 * BLOCK)
    write_file(data / "base" / "1" / "99999", "foreign")
    write_file(data / "standby.signal", "")
    own(data / "base" / "1" / "99999")
    (data / "foreign").mkdir()
    write_file(data / "foreign" / "file", "x")
    own(data / "foreign")
    return site


def test_onto_a_crashed_and_damaged_cluster(damaged):
    site, data = damaged, damaged.cluster.data
    write_file(site.space / "not-postgresql", "kept")
    out = delta(site, "--json")
    report = json.loads(out.stdout)
    assert report["bytes"] * 0.5 < report["kept"] < report["bytes"]
    assert not (data / "foreign").exists() and not (data / "base" / "1" / "99999").exists()
    assert not (data / "standby.signal").exists()
    assert (site.space / "not-postgresql").read_text() == "kept"
    (site.space / "not-postgresql").unlink()  # pg_verifybackup would mind it
    (aside,) = (data / "pg_wal").glob("before-*")
    assert report["wal_aside"] == str(aside)
    assert len(list(aside.glob("0*"))) >= 1
    check_restored(site)


def test_what_is_right_stays(crashed):
    """Only what a restore writes itself differs a moment after another restore."""
    site, place = crashed, ("--tablespace", f"{crashed.space}={crashed.scratch.path}/elsewhere")
    cluster = site.restore("copy", *place, start=False)
    report = json.loads(delta(site, *place, "--json", to=cluster.data).stdout)
    assert report["bytes"] - report["kept"] <= 10 * BLOCK
    assert_verifybackup(cluster.data, site.cluster.bindir)


def test_tablespaces_stay_where_the_directory_has_them(crashed):
    """They went to the backup's location, and were fetched anew, or refused as the original's are there."""
    site, place = crashed, crashed.scratch.path / "elsewhere"
    cluster = site.restore("copy", "--tablespace", f"{site.space}={place}", start=False)
    before = snapshot(site.space)
    for original in (True, False):
        if not original:
            shutil.move(site.space, site.scratch.path / "gone")
        report = json.loads(delta(site, "--json", to=cluster.data).stdout)
        assert report["bytes"] - report["kept"] <= 10 * BLOCK
        (only,) = (cluster.data / "pg_tblspc").iterdir()
        assert os.readlink(only) == str(place)
        assert_verifybackup(cluster.data, site.cluster.bindir)
        assert site.space.exists() == original and (not original or snapshot(site.space) == before)
    assert_says(delta(site, to=site.cluster.data, check=0), "were there already", hint=False)


def test_tablespaces_of_a_copied_directory_are_not_its_own(crashed):
    """cp -a copies links: a restore onto the copy wrote into the tablespaces of the original."""
    site, copy, place = crashed, crashed.scratch.path / "copied", crashed.scratch.path / "elsewhere"
    subprocess.run(["cp", "-a", site.cluster.data, copy], check=True)
    before = snapshot(site.space)
    told = delta(site, to=copy, check=2)
    assert_says(told, str(site.space), "the configured data directory has it there", "--tablespace")
    assert (copy / "global" / "pg_control").exists()
    told = delta(site, "--tablespace", f"{site.space}={place}", to=copy)
    assert f'warning: "{site.space}" is no tablespace of the restored cluster; what is in it stays there' in told.stderr
    assert snapshot(site.space) == before
    assert_verifybackup(copy, site.cluster.bindir)


def test_zeros_come_back(site):
    """A block that is all zeros in the backup lies in no pack; in the directory it may hold anything."""
    site.cluster.sql("create table t as select n, repeat('x', 500) t from generate_series(1, 2000) n")
    site.cluster.checkpoint()
    relation = site.cluster.data / site.cluster.scalar("select pg_relation_filepath('t')")
    site.cluster.stop()
    with open(relation, "ab") as file:  # as a crash in the middle of an extension leaves it
        file.write(b"\0" * 5 * BLOCK)
    size = relation.stat().st_size
    site.cluster.start()
    site.backup()
    site.cluster.stop()
    with open(relation, "r+b") as file:
        file.seek(size - 4 * BLOCK)
        file.write(b"\7" * 2 * BLOCK)
    delta(site, "--target", "immediate")
    assert relation.stat().st_size == size
    assert relation.read_bytes()[-5 * BLOCK:] == b"\0" * 5 * BLOCK
    assert_verifybackup(site.cluster.data, site.cluster.bindir)


def test_hard_links_are_broken(crashed):
    """pg_upgrade --link leaves files that belong to two clusters."""
    site, data = crashed, crashed.cluster.data
    relation = max((data / "base").glob("*/*"), key=lambda path: path.stat().st_size)
    other = site.scratch.path / "other-cluster-file"
    os.link(relation, other)
    with open(other, "r+b") as file:
        file.write(b"theirs")
    before = other.read_bytes()
    delta(site)
    assert other.read_bytes() == before
    assert relation.stat().st_nlink == 1
    assert_verifybackup(data, site.cluster.bindir)


def test_symlinked_wal_stays_symlinked(crashed):
    site, data = crashed, crashed.cluster.data
    wal = site.scratch.path / "wal-disk"
    shutil.move(data / "pg_wal", wal)
    (data / "pg_wal").symlink_to(wal)
    delta(site)
    assert os.readlink(data / "pg_wal") == str(wal)
    assert len(list(wal.glob("before-*/0*"))) >= 1
    site.cluster.start(wait=False)
    wait_recovery(site.cluster, "promoted")
    assert site.cluster.scalar("select count(*) from later") == 1000


def test_what_was_not_archived_is(site):
    """The archive was out of order for the last segments of a server that then crashed."""
    site.cluster.sql("create table t as select 1 n")
    site.backup()
    command = site.cluster.scalar("show archive_command")
    site.cluster.configure(archive_command="false")
    site.cluster.reload()
    site.cluster.sql("insert into t select generate_series(1, 100)")
    site.cluster.switch_wal(archived=False)
    site.cluster.checkpoint()
    site.cluster.kill9()
    out = delta(site)
    assert "which had not been" in out.stderr
    site.cluster.configure(archive_command=command)
    site.cluster.start(wait=False)
    wait_recovery(site.cluster, "promoted")
    assert site.cluster.scalar("select count(*) from t") == 101


def test_refused(site, scratch):
    """A running server, another cluster's directory, no cluster's, one whose pg_control is damaged."""
    site.backup()
    assert_says(delta(site, check=2), "a server is running in it", "hint: stop that server, then repeat this\n")
    other = scratch.cluster("other", own_identity=True)
    assert_says(delta(site, to=other.data, check=2), "not known to be a data directory of the cluster")
    site.cluster.stop()
    before = snapshot(site.cluster.data / "base")
    stuff = scratch.mkdir("stuff")
    write_file(stuff / "letter", "dear")
    assert_says(delta(site, to=stuff, check=2), "not known to be a data directory of the cluster")
    assert (stuff / "letter").read_text() == "dear"
    control = site.cluster.data / "global" / "pg_control"
    bytes_ = bytearray(control.read_bytes())
    bytes_[40] ^= 1
    control.write_bytes(bytes_)
    assert_says(delta(site, check=2), "must be there and whole")
    assert snapshot(site.cluster.data / "base") == before
    assert not list(site.repository.glob(f"main/{other.system_identifier}"))


@pytest.mark.parametrize("push", [False, True])
def test_the_segment_that_was_being_written(site, push):
    """What was committed last is in a segment that no server archives; --delta said that it had archived all."""
    site.cluster.sql("create table t as select 1 n")
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.sql("insert into t select generate_series(1, 100)")
    site.cluster.kill9()
    done = delta(site, "--json")
    path = json.loads(done.stdout)["unarchived"]
    within = os.path.relpath(path, site.cluster.data)
    assert_says(done, "the last transactions before the server died are not in the archive",
                f"cd '{site.cluster.data}' && pgvigil -c '{site.config}' archive-push {within}")
    assert done.stderr.splitlines()[-1].startswith("pgvigil: hint: to recover them too")
    if push:
        site.pgvigil.run("archive-push", path)
    site.cluster.start(wait=False)
    wait_recovery(site.cluster, "promoted")
    assert site.cluster.scalar("select count(*) from t") == (101 if push else 1)


@pytest.mark.parametrize("killed", [None, "later", "segments not moved", "status not moved"])
def test_what_an_earlier_restore_put_aside(site, killed):
    """What could not be archived then, and the segment that was being written: a second --delta knew of neither. One that
    was killed may have moved a segment without what says that it is ready, or that without the segment."""
    site.cluster.sql("create table t as select 1 n")
    site.backup()
    site.cluster.switch_wal(archived=True)
    command = site.cluster.scalar("show archive_command")
    site.cluster.configure(archive_command="false")
    site.cluster.reload()
    site.cluster.sql("insert into t select generate_series(1, 50)")
    full = site.cluster.switch_wal(archived=False)
    site.cluster.sql("insert into t select generate_series(51, 100)")
    site.cluster.kill9()
    data, identifier = site.cluster.data, site.cluster.system_identifier
    (data / "pg_wal" / full).chmod(0)
    first = delta(site, "--json")
    assert "could not be archived, and is kept" in first.stderr
    (aside,) = (data / "pg_wal").glob("before-*")
    (aside / full).chmod(0o600)
    if killed:  # where it had taken pg_control away, and has a mark instead
        (data / "global" / "pg_control").unlink()
        write_file(data / "pgvigil.delta", f"\nsystem identifier {identifier}\n")
    lies = aside / full
    if killed == "segments not moved":
        lies = lies.rename(data / "pg_wal" / full)
    elif killed == "status not moved":
        ready = f"archive_status/{full}.ready"
        (aside / ready).rename(data / "pg_wal" / ready)
    second = delta(site, "--json")
    assert_says(second, f"archived \"{lies}\"".replace("pg_wal/0", "pg_wal/./0"),
                f"\"pg_wal/{aside.name}\" is of an earlier restore, and stays",
                "the last transactions before the server died are not in the archive")
    path = json.loads(second.stdout)["unarchived"]
    assert path.startswith(f"{aside}/")
    site.pgvigil.run("archive-push", path)
    site.cluster.configure(archive_command=command)
    site.cluster.start(wait=False)
    wait_recovery(site.cluster, "promoted")
    assert site.cluster.scalar("select count(*) from t") == 101


@pytest.mark.parametrize("noted", [None, "1", "0", "99999999"])
def test_a_running_server_is_seen_without_its_pid_file(site, noted):
    """It was removed by hand, or tells a pid of the server's own container."""
    site.backup()
    data = site.cluster.data
    pid_file = data / "postmaster.pid"
    before, text = snapshot(data / "base"), pid_file.read_text()
    aside = pid_file.rename(site.scratch.path / "postmaster.pid")
    if noted:
        write_file(pid_file, "\n".join([noted, *text.splitlines()[1:]]) + "\n")
    assert_says(delta(site, check=2), "a server is running in it")
    aside.rename(pid_file)
    assert snapshot(data / "base") == before
    site.cluster.stop()


def test_a_pid_that_means_another_process_by_now(site):
    """The machine was started anew after a crash, and the pid is in use again."""
    site.backup()
    site.cluster.kill9()
    other = subprocess.Popen(["sleep", "600"], cwd="/", **system.identity())
    try:
        write_file(site.cluster.data / "postmaster.pid", f"{other.pid}\n{site.cluster.data}\n")
        delta(site)
    finally:
        other.kill()
        other.wait()
    assert_verifybackup(site.cluster.data, site.cluster.bindir)


@pytest.mark.parametrize("seed", range(4))
def test_killed_and_repeated(damaged, seed):
    """Nothing starts in between, a plain restore does not take it for remains, and nothing is lost."""
    site, data = damaged, damaged.cluster.data
    wal = {path.name for path in (data / "pg_wal").glob("0*")}
    rng = random.Random(seed)
    for _ in range(3):
        with Background(site.pgvigil, "restore", "--delta", "--to", data):
            time.sleep(rng.uniform(0, 0.4))
        if (data / "pgvigil.delta").exists() and not (data / "global" / "pg_control").exists():
            assert_says(site.pgvigil.run("restore", "--to", data, check=2), "repeat it with --delta")
    delta(site)
    kept = {path.name for path in (data / "pg_wal").glob("before-*/0*")}
    assert wal <= kept
    check_restored(site)


def test_into_an_empty_place(site):
    """Nothing to keep: as without --delta."""
    site.backup()
    to = site.scratch.path / "new"
    delta(site, to=to)
    assert_verifybackup(to, site.cluster.bindir)
    assert only_backup(site)
