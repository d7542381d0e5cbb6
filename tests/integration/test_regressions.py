"""What once went wrong, each the way it went wrong: every test here failed before the defect was mended.

Where something has to happen at a certain moment, a process is stopped there (SIGSTOP), never awaited by the clock.
"""

import contextlib
import os
import shutil
import signal
import threading

import pytest
from backup_tools import Background, assert_says, only_backup, snapshot
from harness import (assert_amcheck, assert_verifybackup, format_lsn, own, segment_name, system, wait_recovery,
                     wait_until, write_file)

SEGMENT = 1 << 20


# -- moments ----------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def frozen(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def checkpointer(cluster):
    return cluster.scalar("select pid from pg_stat_activity where backend_type = 'checkpointer'")


@contextlib.contextmanager
def switching(*clusters):
    """They switch their WAL again and again: a backup from a standby waits for that."""
    ended = threading.Event()

    def switch():
        while not ended.wait(0.2):
            for cluster in clusters:
                cluster.sql("select txid_current(); select pg_switch_wal()")

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def put_file(cluster, name, data):
    """A file of no concern to the server in its data directory."""
    path = cluster.data / name
    path.write_bytes(data)
    path.chmod(0o600)
    return own(path)


# -- restore: several at once -----------------------------------------------------------------------------------------

def test_second_restore_into_one_directory(site):
    """The second took the first one's files for the remains of a dead restore, and both wrote."""
    site.cluster.sql("create table t as select generate_series(1, 1000) as g")
    put_file(site.cluster, "large", os.urandom(64 << 20))
    site.backup()
    target = site.scratch.path / "target"
    args = ["restore", "--to", target, "--target", "immediate"]
    with Background(site.pgvigil, *args, "--jobs", "1") as first:
        first.wait_for(lambda: (target / "base").exists(), "files are written")
        with frozen(first.pid):
            assert not (target / "backup_label").exists(), "too late to be in its way"
            refused = site.pgvigil.run(*args, check=3)
            assert_says(refused, "another restore to", target, "is running", hint=False)
        first.finish()
    assert_verifybackup(target, site.cluster.bindir)
    restored = site.scratch.adopt(target, bin_dir=site.cluster.bindir).start(wait=False)
    wait_recovery(restored)
    assert restored.scalar("select count(*) from t") == 1000


def test_restores_started_at_the_same_moment(site):
    site.backup()
    for turn in range(3):
        target = site.scratch.path / f"target-{turn}"
        with contextlib.ExitStack() as stack:
            several = [stack.enter_context(Background(site.pgvigil, "restore", "--to", target)) for _ in range(3)]
            done = [one.finish(check=False) for one in several]
        codes = sorted(one.rc for one in done)
        # 3 while the first is at it, 2 once it is done: then the directory is not empty
        assert codes[0] == 0 and set(codes[1:]) <= {2, 3}, "\n".join(one.describe() for one in done)
        assert_verifybackup(target, site.cluster.bindir)


# -- restore: places and settings -------------------------------------------------------------------------------------

@pytest.mark.directory
def test_restore_into_what_others_write_to(site):
    site.backup()
    site.cluster.stop()
    for outer, inner in [(site.cluster.data, "base/1/inner"), (site.cluster.data, "pg_wal/inner"),
                         (site.cluster.data, "inner"), (site.repository, "inner"), (site.repository, "main/inner"),
                         (site.repository, ".tmp"), (site.state_dir, "inner")]:
        before = snapshot(outer)
        refused = site.pgvigil.run("restore", "--to", outer / inner, check=2)
        assert_says(refused, "it lies in", outer)
        assert snapshot(outer) == before, inner


def test_data_directory_in_the_settings(site):
    """The server that was started in the restored directory ran in the old one."""
    old = site.cluster
    old.configure(data_directory=old.data)
    old.restart()
    site.backup()
    old.sql("create table later ()")
    old.switch_wal()
    old.stop()
    before = snapshot(old.data)
    restored = site.restore("restored")
    assert restored.scalar("show data_directory") == str(restored.data)
    assert restored.scalar("select to_regclass('later') is not null")
    assert snapshot(old.data) == before


def test_delayed_replay_in_the_settings(site):
    """The settings of a delayed standby kept recovery from its end for as long as they say."""
    site.cluster.configure(recovery_min_apply_delay="1h")
    site.cluster.reload()
    site.backup()
    site.cluster.sql("create table later ()")
    site.cluster.switch_wal()
    restored = site.restore("restored", timeout=30)
    assert restored.scalar("select to_regclass('later') is not null")


# -- restore: timelines -----------------------------------------------------------------------------------------------

def test_new_timeline_of_which_only_the_history_is_there(site):
    """The WAL from the end of what is archived to the fork is missing, and none of the new timeline has come yet."""
    cluster = site.cluster
    site.backup()
    cluster.sql("create table early ()")
    early = cluster.insert_lsn()
    cluster.switch_wal()
    # more than recovery reads ahead (wal_decode_buffer_size), which must not come upon what is missing
    cluster.sql("create table filler as select generate_series(1, 40000) as g")
    last = cluster.switch_wal()
    end = int(last[8:16], 16) * (1 << 32) + (int(last[16:], 16) + 1) * SEGMENT
    fork = end + 2 * SEGMENT + 0x28
    history = write_file(cluster.data / "pg_wal" / "00000002.history",
                         f"1\t{format_lsn(fork)}\tno recovery target specified\n")
    site.pgvigil.run("archive-push", history)
    history.unlink()

    missing = segment_name(1, end // SEGMENT, SEGMENT)
    refused = site.pgvigil.run("restore", "--to", site.scratch.path / "refused", check=1)
    assert_says(refused, missing)
    assert not (site.scratch.path / "refused").exists()
    assert missing in site.pgvigil.run("list").stdout
    restored = site.restore("early", "--target-timeline", "1", "--target-lsn", format_lsn(early))
    assert restored.scalar("select to_regclass('early') is not null")


# -- backup from a standby --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pid_file", ["absent", "of an earlier start"])
def test_stale_copy_where_the_standby_seems_to_run(site, pid_file):
    """A standby on another host reports a path at which there is an old copy of it here."""
    primary = site.cluster
    primary.sql("create table t as select g, 0 as v from generate_series(1, 1000) g")
    standby = primary.standby("standby")
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    standby.stop()
    stale, real = site.scratch.path / "stale", site.scratch.path / "real"
    system.run(["cp", "-a", standby.data, stale])
    standby.start()
    if pid_file != "absent":
        lines = (standby.data / "postmaster.pid").read_text().splitlines()
        lines[2] = str(int(lines[2]) - 3600)
        write_file(stale / "postmaster.pid", "\n".join(lines) + "\n")
    primary.sql("update t set v = 1")
    primary.switch_wal()
    wait_until(lambda: standby.scalar("select min(v) from t") == 1, 30, "replay")

    # The server goes on in the directory it is in, whatever that is called.
    standby.data.rename(real)
    stale.rename(standby.data)
    with switching(primary):
        refused = site.backup(check=2)
        assert_says(refused, standby.data, "is not the directory the server runs in")
        standby.data.rename(stale)
        real.rename(standby.data)
        site.backup()
    restored = site.restore("restored")
    assert restored.sql("select count(*), min(v) from t") == [(1000, 1)]


def test_standby_that_follows_a_promotion(site):
    """Until its next restartpoint, recovery would have begun on the old timeline with pages of the new one."""
    old = site.cluster
    old.sql("create table t as select generate_series(1, 1000) as g")
    new = old.standby("new")
    standby = new.standby("standby")
    wait_until(lambda: standby.scalar("select to_regclass('t') is not null"), 30, "replay")
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    with frozen(checkpointer(new)):
        new.promote()
        new.sql("insert into t values (1001)")
        wait_until(lambda: standby.scalar("select max(g) from t") == 1001, 30, "replay")
        standby_wal = standby.data / "pg_wal" / "00000002.history"
        wait_until(standby_wal.exists, 30, "the new timeline")
        with switching(old, new):
            refused = site.backup(check=3, timeout=60)
        assert_says(refused, "has changed to timeline 2", "CHECKPOINT")
    new.checkpoint()
    lsn = new.insert_lsn()
    wait_until(lambda: standby.scalar("select pg_last_wal_replay_lsn() >= %s", format_lsn(lsn)), 30, "replay")
    standby.checkpoint()
    with switching(old, new):
        site.backup()
    assert only_backup(site)["timeline"] == 2
    restored = site.restore("restored")
    assert restored.sql("select count(*), max(g) from t") == [(1001, 1001)]
    assert_amcheck(restored)


# -- backup: what changes while it runs -------------------------------------------------------------------------------

@pytest.mark.parametrize("seen", [True, False])
def test_tablespace_dropped_as_the_backup_begins(site, seen):
    """Where the server has seen it, it is in the tablespace_map, not in the backup: the server would not start. Where it
    has not, the backup is whole without it."""
    cluster = site.cluster
    location = cluster.create_tablespace("going")
    oid = cluster.scalar("select oid from pg_tablespace where spcname = 'going'")

    def starts(how):
        return cluster.sql("select 1 from pg_stat_activity where application_name = 'pgvigil backup'"
                           f" and query like '%pg_backup_start%' and {how}")

    with contextlib.ExitStack() as stack:
        with frozen(checkpointer(cluster)):
            backup = stack.enter_context(Background(site.pgvigil, "backup"))
            backup.wait_for(lambda: starts("wait_event like 'Checkpoint%'"), "the start of the backup")
            stack.enter_context(frozen(backup.pid))
            if not seen:  # it looks when the checkpoint is done
                cluster.sql("drop tablespace going")
        if seen:
            wait_until(lambda: starts("state <> 'active'"), 30, "pg_backup_start to end")
            cluster.sql("drop tablespace going")
        os.kill(backup.pid, signal.SIGCONT)
        done = backup.finish(check=3 if seen else 0)
    shutil.rmtree(location)
    if seen:
        assert_says(done, f"tablespace {oid} was dropped while the backup began")
        site.backup()
    cluster.sql("create table later ()")
    cluster.switch_wal()
    assert site.restore("restored").scalar("select to_regclass('later') is not null")


def test_unlogged_index_finished_during_the_backup(site):
    """Its file came into the backup, and at the end of recovery the server could not make it anew."""
    cluster = site.cluster
    cluster.sql("create unlogged table u as select generate_series(1, 10) as g")
    cluster.sql("create function waits(i int) returns int language plpgsql immutable as"
                " $$begin perform pg_advisory_xact_lock_shared(1); return i; end$$")
    large = put_file(cluster, "large", b"")
    os.truncate(large, 64 << 30)
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(contextlib.closing(cluster.connect()))
        holder.cursor().execute("select pg_advisory_lock(1)")
        building = threading.Thread(target=cluster.sql, args=("create index on u (waits(g))",))
        building.start()
        stack.callback(building.join)
        stack.callback(holder.close)  # lets the building end, whatever happened
        wait_until(lambda: cluster.sql("select 1 from pg_locks where locktype = 'advisory' and not granted"), 30,
                   "the index to be built")
        backup = stack.enter_context(Background(site.pgvigil, "backup"))
        backup.wait_for(lambda: backup.has_open(large), "it reads")
        with frozen(backup.pid):
            holder.close()
            building.join()
            os.truncate(large, 0)
        backup.finish()
    cluster.sql("create table later ()")
    cluster.switch_wal()
    restored = site.restore("restored")
    assert restored.scalar("select to_regclass('later') is not null")
    restored.sql("insert into u values (1)")
    assert restored.scalar("select count(*) from u where waits(g) = 1") == 1
