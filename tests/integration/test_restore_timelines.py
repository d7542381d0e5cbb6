"""Restoring along timelines, and with WAL missing: what cannot be reached is refused beforehand."""

import contextlib
import re
import shutil

import pytest
from backup_tools import assert_says, only_backup
from harness import (Ledger, Site, assert_amcheck, assert_checksums, assert_restored, assert_verifybackup, format_lsn,
                     format_time, keys, parse_lsn, segment_name, visible_xids, wait_recovery, wait_until)

MB = 1 << 20


def wal_object(site, name):
    found = list(site.repository.glob(keys.stored(f"main/*/wal/{name[:8]}/{name[:16]}/{name}.zst")))
    assert len(found) == 1, name
    return found[0]


@contextlib.contextmanager
def aside(paths):
    """They are not there for a while."""
    moved = [(path, path.with_suffix(".aside")) for path in paths]
    for path, away in moved:
        path.rename(away)
    try:
        yield
    finally:
        for path, away in moved:
            away.rename(path)


def refused(site, *args, code=1):
    place = site.scratch.path / "refused"
    done = site.pgvigil.run("restore", "--to", place, *args, check=code)
    assert not place.exists()
    return done


def restore_checked(site, oracle, ledger, name, *args, **target):
    restored = site.restore(name, *args)
    assert_restored(restored, oracle.expect(start=restored.backup_start, **target), ledger=ledger)
    return restored


class Fork:
    """A cluster restored with --take-over to a moment, which then goes on as timeline 2 beside timeline 1."""

    def __init__(self, scratch):
        self.site = site = Site(scratch)
        self.ledger = Ledger.create(site.cluster)
        with self.ledger.running():
            self.ledger.wait(40)
            site.backup()
            self.ledger.wait(30)
            site.cluster.switch_wal()
            mark = site.cluster.insert_lsn()
            self.ledger.wait(60)
        for _ in range(8):  # the first timeline goes on for longer than the second
            site.cluster.switch_wal()
        site.cluster.stop()
        self.old = site.oracle(self.ledger, timeline=1)
        self.after = [c for c in self.old.commits if c.lsn > parse_lsn(only_backup(site)["stop_lsn"])]
        self.fork = [c for c in self.after if c.lsn > mark][20]

        self.cluster = site.restore("second", "--take-over", "--target-lsn", format_lsn(self.fork.lsn))
        assert self.cluster.scalar("show archive_mode") == "on"
        self.cluster.sql("create table forked ()")
        self.later = self.ledger.attach(self.cluster)
        with self.later.running():
            self.later.wait(60)
        self.cluster.switch_wal()
        self.cluster.stop()
        self.new = site.oracle(self.ledger, timeline=2)


@pytest.fixture(scope="module")
def fork(module_scratch):
    return Fork(module_scratch)


def forked(cluster):
    return cluster.scalar("select to_regclass('forked') is not null")


def test_the_latest_timeline_is_the_default(fork):
    restored = fork.site.restore("default")
    assert forked(restored) and visible_xids(restored) >= set(fork.later.acked)
    assert_restored(restored, fork.new.expect(start=restored.backup_start))
    assert restored.scalar("select timeline_id from pg_control_checkpoint()") == 3


def test_the_old_timeline_to_its_end(fork):
    restored = restore_checked(fork.site, fork.old, fork.ledger, "old", "--target-timeline", "1")
    assert not forked(restored) and visible_xids(restored) >= set(fork.ledger.acked)


def test_a_target_on_the_old_timeline_behind_the_fork(fork):
    target = [c for c in fork.old.commits if c.lsn > fork.fork.lsn][10]
    restored = restore_checked(fork.site, fork.old, fork.ledger, "behind", "--target-timeline", "1", "--target-time",
                               target.time, time=target.time)
    assert not forked(restored)


def between(fork):
    """When the old timeline was written behind the fork, and the new one not yet."""
    return [c for c in fork.old.commits if c.lsn > fork.fork.lsn][10].time


def test_a_time_when_the_old_timeline_was_current(fork):
    def told(name, time):
        return fork.site.pgvigil.run("restore", "--to", fork.site.scratch.path / name, "--target-time", time).stderr
    warned = told("unforked", between(fork))
    assert "timeline 1 was current" in warned and "--target-timeline 1" in warned
    assert "was current" not in told("later", fork.new.commits[-5].time)
    before = [c for c in fork.after if c.lsn < fork.fork.lsn][-3]
    assert "was current" not in told("earlier", before.time)


def test_a_new_timeline_without_a_transaction(fork):
    """None that is archived: all its segments are put aside."""
    begin = wal_object(fork.site, segment_name(2, fork.fork.end // MB, MB))
    with aside(path for path in begin.parent.iterdir() if path.name >= begin.name):
        done = refused(fork.site, "--repository", "local", "--target-time", between(fork))
        assert_says(done, "timeline 1 was written at that moment", "--target-timeline 1")


@pytest.fixture
def forgotten(site):
    """The newest timeline is a trial's; the cluster goes on on the one that it was taken from. Returns the restore, for
    what it says."""
    site.backup()
    site.cluster.sql("create table t (i int)")
    mark = site.cluster.restore_point("mark")
    site.cluster.sql("insert into t values (1)")
    site.cluster.switch_wal(archived=True)
    trial = site.restore("trial", "--take-over", "--target-lsn", format_lsn(mark))
    trial.sql("create table trial ()")
    trial.switch_wal()
    trial.stop()

    def restore(name, *args):
        done = site.pgvigil.run("restore", "--to", site.scratch.path / name, *args)
        return done.stderr

    return restore


def test_the_newest_timeline_is_a_forgotten_trial(site, forgotten):
    assert "was written until" not in forgotten("before")
    site.cluster.sql("insert into t values (2)")
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    told = forgotten("after")
    assert "timeline 1 was written until" in told and "--target-timeline 1 restores that" in told, told
    assert "was written until" not in forgotten("moment", "--target-name", "mark")
    told = forgotten("asked-for", "--target-timeline", "1")
    missing = re.search("segment (00000001[0-9A-F]{16}) is the first that is not there", told)[1]
    there = max(path.name for path in site.repository.glob("main/*/wal/00000001/*/*"))
    assert int(missing, 16) == int(there[:24], 16) + 1 and "was written until" not in told


@pytest.mark.directory
def test_another_timeline_cannot_be_read(site, forgotten):
    max(site.repository.glob("main/*/wal/00000001/*/*")).chmod(0)
    told = forgotten("untold")
    assert "could not tell until when timeline 1 was written: " in told and "was written until" not in told, told


def test_a_target_before_the_fork_from_either(fork):
    target = [c for c in fork.old.commits if c.lsn < fork.fork.lsn][-3]
    for timeline, oracle in (("1", fork.old), ("2", fork.new)):
        restored = restore_checked(fork.site, oracle, None, f"before-{timeline}", "--target-timeline", timeline,
                                   "--target-lsn", format_lsn(target.lsn), lsn=target.lsn)
        assert not forked(restored)


def test_a_transaction_is_looked_for_on_the_timeline(fork):
    lost = [c for c in fork.old.commits if c.lsn > fork.fork.lsn][-1]
    gained = fork.new.commits[-5]
    restored = restore_checked(fork.site, fork.new, None, "gained", "--target-xid", gained.xid, xid=gained.xid)
    assert forked(restored)
    on_new = {end.xid for end in fork.new.ends}
    if lost.xid not in on_new:
        assert_says(refused(fork.site, "--target-xid", lost.xid), f"no transaction {lost.xid}", "--target-timeline")
    restored = restore_checked(fork.site, fork.old, fork.ledger, "lost", "--target-timeline", "1", "--target-xid",
                               lost.xid, xid=lost.xid)
    assert not forked(restored)


def test_without_the_segment_where_the_new_timeline_begins(fork):
    """Recovery would take the old timeline's segment and go on with what was written after the fork."""
    begin = wal_object(fork.site, segment_name(2, fork.fork.end // MB, MB))
    with aside(path for path in begin.parent.iterdir() if path.name >= begin.name):  # with a later one it is a gap
        here = ("--repository", "local")  # another one would have it
        assert_says(refused(fork.site, *here), begin.name.split(".")[0], "--target-timeline 1")
        assert_says(refused(fork.site, *here, "--target-time", fork.new.commits[-5].time), begin.name.split(".")[0])
        target = [c for c in fork.after if c.end // MB < fork.fork.lsn // MB][-1]
        restore_checked(fork.site, fork.old, None, "still", "--target-lsn", format_lsn(target.lsn), lsn=target.lsn)


def test_immediate_where_only_descendants_have_later_wal(fork):
    """Expire keeps of an old backup's WAL what the backup needs; reading ahead, recovery would ask for more."""
    backup = only_backup(fork.site)
    end = wal_object(fork.site, segment_name(1, (parse_lsn(backup["stop_lsn"]) - 1) // MB, MB))
    with aside(path for path in end.parent.iterdir() if path.name > end.name):
        restored = fork.site.restore("immediate", "--repository", "local", "--backup", backup["run"], "--target",
                                     "immediate")
        assert_restored(restored, fork.old.expect(start=restored.backup_start, immediate=True), ledger=None)


def test_a_standby_follows_the_newest_timeline(fork):
    """Made as the README says; the other timeline begins after what it was restored from."""
    standby = fork.site.restore("standby", "--target-timeline", "1", start=False)
    settings = standby.data / "postgresql.auto.conf"
    settings.write_text(settings.read_text().replace("recovery_target_timeline = '1'",
                                                     "recovery_target_timeline = 'latest'"))
    (standby.data / "recovery.signal").rename(standby.data / "standby.signal")
    standby.start()
    wait_until(lambda: forked(standby), 60, "the standby to follow", describe=standby.log_tail)
    assert standby.scalar("select pg_is_in_recovery()")


def test_going_back_before_the_fork(scratch):
    """Of the newest timeline, as by default. PostgreSQL's history of the next one does not ascend."""
    fork = Fork(scratch)
    site, target = fork.site, [c for c in fork.after if c.lsn < fork.fork.lsn][-5]
    third = site.restore("third", "--take-over", "--target-lsn", format_lsn(target.lsn))
    (first, second) = (line.split()[1] for line in (third.data / "pg_wal/00000003.history").read_text().splitlines()
                       if line)
    assert parse_lsn(first) > parse_lsn(second)
    third.sql("create table backed ()")
    later = fork.later.attach(third)
    with later.running():
        later.wait(30)
    third.switch_wal()
    oracle = site.oracle(fork.ledger, timeline=3)

    restored = site.restore("again")
    assert restored.scalar("select to_regclass('backed') is not null") and not forked(restored)
    assert set(later.acked) <= visible_xids(restored) <= set(later.acked) | {c.xid for c in fork.old.commits
                                                                             if c.lsn <= target.lsn}
    assert_restored(restored, oracle.expect(start=restored.backup_start))
    restored.stop()
    for number, timeline in enumerate((fork.old, fork.new), 1):
        restore_checked(site, timeline, None, f"still-{number}", "--target-timeline", number)

    site.write_config({"cluster": {"pgdata": third.data, "conninfo": third.conninfo}})
    site.backup()
    site.pgvigil.run("check")
    site.pgvigil.run("verify")
    assert "gap" not in site.pgvigil.run("list").stdout
    third.stop()


# -- gaps -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def gapped(site):
    """A segment in the middle, behind the backup, is missing from the archive."""
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(30)
        site.backup()
        for _ in range(4):
            ledger.wait(20)
            site.cluster.switch_wal()
    site.cluster.stop()
    oracle = site.oracle(ledger)
    stop = parse_lsn(only_backup(site)["stop_lsn"])
    number = stop // MB + 2
    missing = segment_name(1, number, MB)
    wal_object(site, missing).unlink()
    return site, ledger, oracle, missing, number * MB


@pytest.mark.alone  # another repository would help out
def test_a_gap_is_refused_with_what_lies_before_it(gapped):
    site, ledger, oracle, missing, at = gapped
    before = [c for c in oracle.commits if c.end < at]
    behind = [c for c in oracle.commits if c.lsn >= at]
    for args in ([], ["--target-lsn", format_lsn(behind[-1].lsn)], ["--target-time", behind[-2].time],
                 ["--target-xid", behind[-1].xid]):
        told = refused(site, *args)
        assert_says(told, missing, "later ones are", "the last transaction up to there ended at", "--target-lsn")

    # What the hint proposes works, and is all that there is before the gap.
    lsn = told.stderr.split("--target-lsn ")[1].split()[0]
    restored = restore_checked(site, oracle, ledger, "proposed", "--target-lsn", lsn, lsn=parse_lsn(lsn))
    assert visible_xids(restored) >= {c.xid for c in before}
    restored.stop("immediate")

    target = before[-3]
    restored = site.restore("reached", "--target-time", target.time)
    assert_restored(restored, oracle.expect(start=restored.backup_start, time=target.time), ledger=ledger)


@pytest.mark.alone  # another repository would help out
def test_without_wal_for_the_backup_itself(site):
    site.backup()
    site.cluster.stop()
    info = only_backup(site)
    first = segment_name(1, parse_lsn(info["start_lsn"]) // MB, MB)
    wal_object(site, first).unlink()
    assert_says(refused(site, "--target", "immediate", code=4), first, "consistent")
    assert_says(refused(site, code=4), first)


def test_an_idle_server_has_a_latest_moment(site):
    """Nothing but the backup: no transaction behind it."""
    site.backup()
    site.cluster.stop()
    assert_says(refused(site, "--target-time", format_time(2**51)), "ends before it")
    wait_recovery(site.restore("idle", start=False).start(wait=False))


def test_a_repository_begun_after_the_promotion(scratch):
    """PostgreSQL archives a history file once. A backup brings it where it is not, or no restore of it would start."""
    site = Site(scratch)
    site.cluster.sql("create table t as select 42 as x")
    standby = site.cluster.standby("standby")
    wait_until(lambda: standby.scalar("select count(*) from pg_class where relname = 't'") == 1, 30, "the standby")
    site.cluster.stop("immediate")
    standby.promote()
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    standby.switch_wal(archived=True)
    (site.repository / f"main/{standby.system_identifier}/wal/00000002/00000002.history.zst").unlink()
    assert_says(site.backup(), 'archived "00000002.history"', hint=False)
    standby.stop()
    assert site.restore("restored").scalar("select x from t") == 42


# -- transactions that are prepared while a timeline forks ------------------------------------------------------------

SEGMENT = 16 * MB


def prepare(cluster, number):
    """Leaves a transaction open; returns the segment that it is in."""
    cluster.sql(f"begin; insert into prepared values ({number}); prepare transaction 'open-{number}'")
    return cluster.scalar("select pg_walfile_name(pg_current_wal_insert_lsn())")


def settle(cluster, ledger, numbers):
    """The cluster goes on alone, as the new timeline."""
    for number in numbers:
        cluster.sql(f"commit prepared 'open-{number}'")
    later = ledger.attach(cluster)
    with later.running():
        later.wait(20)
    cluster.switch_wal()
    cluster.stop()
    return later


@pytest.fixture
def begun(make_site):
    """A ledger, a backup, and a segment that begins."""
    site = make_site(wal_segsize=SEGMENT // MB)  # one that nothing here fills
    site.ledger = Ledger.create(site.cluster)
    site.cluster.sql("create table prepared (n int primary key)")
    with site.ledger.running():
        site.ledger.wait(20)
        site.backup()
        site.early = site.cluster.insert_lsn()
        site.ledger.wait(20)
    site.cluster.switch_wal()
    return site


def assert_put(wal, name, repository):
    """A segment of a timeline left, with nothing from the fork on, and for good out of the archive."""
    (history,) = repository.glob("main/*/wal/00000002/00000002.history.zst")
    fork = parse_lsn(keys.unpacked(history.read_bytes()).split()[1].decode()) if name.startswith("00000001") else None
    path, done = wal / name, wal / "archive_status" / f"{name}.done"
    content = path.read_bytes()
    assert len(content) == SEGMENT and path.stat().st_mode & 0o777 == 0o600
    assert done.stat().st_mode & 0o777 == 0o600 and not done.with_suffix(".ready").exists()
    assert fork is None or (content[:fork % SEGMENT].rstrip(b"\0") and not content[fork % SEGMENT:].strip(b"\0"))


def check_prepared(site, cluster, later, timeline, numbers):
    """It is the site's restored cluster along the timeline, and archives nothing of what was put there."""
    assert cluster.sql("select n from prepared order by n") == [(number,) for number in numbers]
    assert cluster.scalar("select count(*) from pg_prepared_xacts") == 0
    assert_restored(cluster, site.oracle(later, timeline=timeline).expect(start=cluster.backup_start))
    assert_amcheck(cluster)
    for _ in range(3):
        cluster.switch_wal()
        cluster.checkpoint()
    assert cluster.scalar("select failed_count from pg_stat_archiver") == 0
    assert site.open not in cluster.log_text().replace(f"{site.open}.partial", "")
    cluster.stop()
    assert_checksums(cluster)


def test_prepared_while_a_restore_begins_a_timeline(begun):
    site = begun
    site.open = prepare(site.cluster, 1)
    with site.ledger.running():
        site.ledger.wait(20)
    target = site.cluster.restore_point("fork")
    assert segment_name(1, target // SEGMENT, SEGMENT) == site.open
    with site.ledger.running():
        site.ledger.wait(20)
    site.cluster.sql("rollback prepared 'open-1'")  # on a timeline that is given up
    site.cluster.switch_wal()
    site.cluster.stop()
    later = settle(site.restore("second", "--take-over", "--target-name", "fork"), site.ledger, [1])

    restored = site.restore("third", "--take-over", start=False)
    assert_put(restored.data / "pg_wal", site.open, site.repository)
    assert_verifybackup(restored.data, restored.bindir)
    restored.start(wait=False)
    wait_recovery(restored)
    check_prepared(site, restored, later, 2, [1])

    old = site.restore("old", "--target-timeline", "1", start=False)
    assert not list((old.data / "pg_wal").rglob("0*"))
    assert wait_recovery(old.start(wait=False)).scalar("select count(*) from prepared") == 0


@pytest.fixture
def promoted(begun):
    """A standby takes over: of the old timeline's segment there is only what the standby had of it."""
    site = begun
    standby = site.cluster.standby("standby")
    site.open = prepare(site.cluster, 1)
    position = site.cluster.insert_lsn()
    wait_until(lambda: parse_lsn(standby.scalar("select pg_last_wal_replay_lsn()")) >= position, 30, "the standby")
    assert segment_name(1, position // SEGMENT, SEGMENT) == site.open
    site.cluster.stop("immediate")
    standby.promote()
    site.standby = standby
    site.other = prepare(standby, 2)
    assert site.other == "00000002" + site.open[8:]
    return site


def test_prepared_while_two_timelines_begin_in_one_segment(promoted):
    site = promoted
    site.standby.restore_point("fork")
    site.standby.switch_wal()
    site.standby.stop()
    later = settle(site.restore("second", "--take-over", "--target-name", "fork"), site.ledger, [1, 2])
    assert not list(site.repository.glob(keys.stored(f"main/*/wal/00000001/*/{site.open}.zst")))

    restored = site.restore("third", "--take-over", start=False)
    for name in (site.open, site.other):
        assert_put(restored.data / "pg_wal", name, site.repository)
    restored.start(wait=False)
    wait_recovery(restored)
    check_prepared(site, restored, later, 3, [1, 2])
    assert not list(site.repository.glob(keys.stored(f"main/*/wal/00000001/*/{site.open}.zst")))


def test_prepared_and_restored_onto_the_old_primary(promoted):
    """Its pg_wal is a link to another place. What was put there is not taken for WAL that the server left."""
    site, data = promoted, promoted.cluster.data
    later = settle(site.standby, site.ledger, [1, 2])
    wal = site.scratch.path / "wal"
    shutil.move(data / "pg_wal", wal)
    (data / "pg_wal").symlink_to(wal)

    for _ in range(2):
        site.pgvigil.run("restore", "--delta", "--to", data)
        assert_put(wal, site.open, site.repository)
    first = min(wal.glob("before-*"))
    assert (first / site.open).exists() and not (first / "archive_status" / f"{site.open}.done").exists()
    told = site.pgvigil.run("restore", "--delta", "--to", data, "--target-timeline", "1").stderr
    assert f"archive-push pg_wal/{first.name}/{site.open}" in told

    site.pgvigil.run("restore", "--delta", "--to", data)
    site.cluster.backup_start = parse_lsn(only_backup(site)["start_lsn"])
    site.cluster.start(wait=False)
    wait_recovery(site.cluster)
    check_prepared(site, site.cluster, later, 2, [1, 2])


@pytest.mark.alone  # another repository would help out
def test_prepared_where_the_new_segment_is_damaged(promoted):
    site = promoted
    settle(site.standby, site.ledger, [1, 2])
    path = wal_object(site, site.other)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    to = site.scratch.path / "early"
    told = site.pgvigil.run("restore", "--to", to, "--target-lsn", format_lsn(site.early))
    assert_says(told, f'WAL segment "{site.open}" is not put into pg_wal',
                f'unless recovery stops before "{site.other}", it needs that: look for it in pg_wal of the old primary')
    assert "verify --repair" not in told.stderr
    told = site.pgvigil.run("restore", "--to", site.scratch.path / "latest")
    assert_says(told, f'recovery will end with an error at "{site.other}", and cannot get past it: look for it in pg_wal')
    assert not list((to / "pg_wal").rglob("0*"))
    early = site.scratch.adopt(to, "early", bin_dir=site.cluster.bindir)
    early.start(wait=False)
    wait_recovery(early)
    assert early.scalar("select count(*) from prepared") == 0
