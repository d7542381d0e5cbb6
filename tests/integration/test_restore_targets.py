"""Every recovery target: does the restored cluster hold exactly the transactions that the WAL says it must?

One history serves all tests of this file: two backups, both taken while eight sessions were writing, and writing after
them. The server is stopped for good before anything is restored.
"""

import pytest
from backup_tools import assert_says, backups
from harness import (Ledger, Site, assert_amcheck, assert_checksums, assert_restored, assert_verifybackup,
                     format_lsn, format_time, parse_lsn, visible_xids, wait_recovery)


class History:
    def __init__(self, scratch):
        self.site = Site(scratch)
        cluster = self.site.cluster
        self.ledger = Ledger.create(cluster)
        with self.ledger.running():
            self.ledger.wait(60)
            self.site.backup("--jobs", "2")
            self.ledger.wait(100)
            cluster.restore_point("between")
            cluster.restore_point("twice")
            self.ledger.wait(40)
            self.site.backup()
            self.ledger.wait(60)
            cluster.restore_point("twice")
            cluster.restore_point("late")
            cluster.restore_point("it's \\late%")
            self.ledger.wait(120)
        cluster.switch_wal()
        cluster.stop()
        self.oracle = self.site.oracle(self.ledger)
        taken = sorted(backups(self.site).items())
        self.ids = [run for run, _ in taken]
        self.first, self.second = ({key: parse_lsn(info[key]) for key in ("start_lsn", "stop_lsn")}
                                   for _, info in taken)

    def after(self, lsn, skip=0):
        return [c for c in self.oracle.commits if c.lsn > lsn][skip]


@pytest.fixture(scope="module")
def history(module_scratch):
    return History(module_scratch)


@pytest.fixture
def restored_as(history, request):
    """Restores with these options, compares with the oracle, and gives the running cluster."""
    made = []

    def restore(*args, start_lsn, action="promote", **target):
        name = f"r{abs(hash(request.node.name)) % 10**8}-{len(made)}"
        cluster = history.site.restore(name, *args, action=action)
        made.append(cluster)
        assert cluster.backup_start == start_lsn, "another backup than expected was chosen"
        if cluster.running:
            assert_restored(cluster, history.oracle.expect(start=start_lsn, **target), ledger=history.ledger)
        return cluster

    yield restore
    for cluster in made:
        cluster.stop("immediate")


def assert_sound(cluster):
    """The server's own checks; what was prepared but not committed at the target would hold them up by its locks."""
    for (gid,) in cluster.sql("select gid from pg_prepared_xacts"):
        cluster.sql(f"rollback prepared '{gid}'")
    assert_amcheck(cluster)
    assert_checksums(cluster)


BOUNDS = pytest.mark.parametrize("inclusive", [True, False], ids=["inclusive", "exclusive"])


def bound(inclusive):
    return [] if inclusive else ["--exclusive"]


@BOUNDS
def test_lsn(history, restored_as, inclusive):
    target = history.after(history.second["stop_lsn"], 40)
    restored_as("--target-lsn", format_lsn(target.lsn), *bound(inclusive), start_lsn=history.second["start_lsn"],
                lsn=target.lsn, inclusive=inclusive)


@BOUNDS
def test_xid(history, restored_as, inclusive):
    target = history.after(history.second["stop_lsn"], 60)
    restored_as("--target-xid", str(target.xid), *bound(inclusive), start_lsn=history.second["start_lsn"],
                xid=target.xid, inclusive=inclusive)


@BOUNDS
def test_time(history, restored_as, inclusive):
    target = history.after(history.second["stop_lsn"], 80)
    cluster = restored_as("--target-time", target.time, *bound(inclusive), start_lsn=history.second["start_lsn"],
                          time=target.time, inclusive=inclusive)
    assert_sound(cluster)


def test_an_aborted_transaction(history, restored_as):
    target = next(e for e in history.oracle.ends if not e.committed and e.lsn > history.second["stop_lsn"])
    restored_as("--target-xid", str(target.xid), start_lsn=history.second["start_lsn"], xid=target.xid)


def test_an_xid_with_its_epoch(history, restored_as):
    target = history.after(history.second["stop_lsn"], 5)
    restored_as("--target-xid", str(target.xid + (7 << 32)), start_lsn=history.second["start_lsn"], xid=target.xid)


@pytest.mark.parametrize("name", ["late", "it's \\late%"])
def test_name(history, restored_as, name):
    restored_as("--target-name", name, start_lsn=history.second["start_lsn"], name=name)


def test_immediate(history, restored_as):
    restored_as("--target", "immediate", start_lsn=history.second["start_lsn"], immediate=True)


def test_latest(history, restored_as):
    cluster = restored_as(start_lsn=history.second["start_lsn"])
    assert visible_xids(cluster) >= set(history.ledger.acked)
    assert cluster.scalar("show archive_mode") == "off"
    assert cluster.scalar("select timeline_id from pg_control_checkpoint()") == 2
    assert_sound(cluster)


# -- the right backup -----------------------------------------------------------------------------------------------

def test_a_target_between_the_backups_takes_the_first(history, restored_as):
    target = history.after(history.first["stop_lsn"], 10)
    assert target.end < history.second["start_lsn"]
    for args, what in ((["--target-lsn", format_lsn(target.lsn)], {"lsn": target.lsn}),
                       (["--target-time", target.time], {"time": target.time}),
                       (["--target-xid", target.xid], {"xid": target.xid}),
                       (["--target-name", "between"], {"name": "between"})):
        restored_as(*args, start_lsn=history.first["start_lsn"], **what)


def test_a_target_inside_the_second_backup_takes_the_first(history, restored_as):
    middle = (history.second["start_lsn"] + history.second["stop_lsn"]) // 2
    restored_as("--target-lsn", format_lsn(middle), start_lsn=history.first["start_lsn"], lsn=middle)


def test_the_backup_that_is_asked_for(history, restored_as):
    target = history.after(history.second["stop_lsn"], 30)
    restored_as("--backup", history.ids[0], "--target-lsn", format_lsn(target.lsn),
                start_lsn=history.first["start_lsn"], lsn=target.lsn)


def test_the_first_backup_as_it_is(history, restored_as):
    restored_as("--backup", history.ids[0], "--target", "immediate", start_lsn=history.first["start_lsn"],
                immediate=True)


def test_the_end_of_a_backup_is_the_earliest_lsn(history, restored_as):
    lsn = history.first["stop_lsn"]
    restored_as("--target-lsn", format_lsn(lsn), "--exclusive", start_lsn=history.first["start_lsn"], lsn=lsn,
                inclusive=False)


# -- what to do there -----------------------------------------------------------------------------------------------

def test_pause_and_go_on(history, restored_as):
    target = history.after(history.second["stop_lsn"], 20)
    cluster = restored_as("--target-lsn", format_lsn(target.lsn), action="pause",
                          start_lsn=history.second["start_lsn"], lsn=target.lsn)
    cluster.sql("select pg_wal_replay_resume()")
    wait_recovery(cluster, "promoted")


def test_shutdown(history, restored_as):
    target = history.after(history.second["stop_lsn"], 20)
    cluster = restored_as("--target-lsn", format_lsn(target.lsn), action="shutdown",
                          start_lsn=history.second["start_lsn"], lsn=target.lsn)
    assert cluster.exit_code == 0


def test_what_is_there_before_the_start(history):
    target = history.after(history.second["stop_lsn"], 20)
    restored = history.site.restore("untouched", "--target-time", target.time, start=False)
    assert_verifybackup(restored.data, restored.bindir)
    assert (restored.data / "recovery.signal").exists()
    assert not (restored.data / "pgvigil.restoring").exists()
    assert restored.data.stat().st_mode & 0o777 == 0o700
    settings = (restored.data / "postgresql.auto.conf").read_text()
    assert f"recovery_target_time = '{target.time}'" in settings
    assert "archive_mode = 'off'" in settings


def test_json(history):
    target = history.after(history.second["stop_lsn"], 20)
    told = history.site.pgvigil.json("restore", "--to", history.site.scratch.path / "json", "--target-lsn",
                                     format_lsn(target.lsn), "--exclusive", "--action", "pause")
    assert told["backup"] == history.ids[1]
    assert told["target"] == {"kind": "lsn", "value": format_lsn(target.lsn), "inclusive": False}
    assert (told["action"], told["timeline"], told["archiving_off"]) == ("pause", 1, True)
    assert told["directory"] == str(history.site.scratch.path / "json")
    assert told["bytes"] > 1 << 20 and told["configuration"] is None


# -- what cannot be reached, found out before anything is written ---------------------------------------------------

@pytest.fixture
def refused(history):
    """Wants exit code 1 and these words, and that nothing has been made."""
    def refuse(args, *words):
        place = history.site.scratch.path / "refused"
        done = history.site.pgvigil.run("restore", "--to", place, *args, check=1)
        assert_says(done, *words)
        assert not place.exists()
        return done
    return refuse


def test_before_the_first_backup(history, refused):
    early = next(c for c in history.oracle.commits if c.end < history.first["start_lsn"])
    first = history.ids[0]
    refused(["--target-lsn", format_lsn(early.lsn)], "before the end of backup", first)
    refused(["--target-time", early.time], "no backup ended before it", first, "--target-time")
    refused(["--target-xid", early.xid], f"no transaction {early.xid}")


def test_inside_the_only_backup_allowed(history, refused):
    middle = (history.second["start_lsn"] + history.second["stop_lsn"]) // 2
    refused(["--backup", history.ids[1], "--target-lsn", format_lsn(middle)], history.ids[1], "without --backup")
    target = history.after(history.first["stop_lsn"], 10)
    refused(["--backup", history.ids[1], "--target-time", target.time], history.ids[1], "without --backup")


def test_behind_the_end(history, refused):
    last = history.oracle.ends[-1]
    told = refused(["--target-time", format_time(last.micros + 1)], "the WAL in repositor",
                   "no transaction that ended after that moment", "without a target")
    assert "the last transaction up to there ended at" in told.stderr
    refused(["--target-time", "2099-01-01 00:00:00+00"], "ends before it", "it is now 20")
    refused(["--target-lsn", "FFF/0"], "ends before it")
    # Recovery must see a later one to know that it is there, unless it stops before the last one itself.
    refused(["--target-time", format_time(max(e.micros for e in history.oracle.ends))],
            "no transaction that ended after that moment")
    refused(["--target-xid", "4000000000"], "no transaction 4000000000")
    refused(["--target-name", "never"], 'no restore point "never"')


def test_two_restore_points_of_one_name(history, refused, restored_as):
    target = [p for p in history.oracle.points if p.name == "twice"][-1]
    restored_as("--target-name", "twice", start_lsn=history.second["start_lsn"], name="twice")
    told = refused(["--backup", history.ids[0], "--target-name", "twice"], "more than one restore point")
    assert f"--target-lsn {format_lsn(target.lsn)}" in told.stderr
    restored_as("--backup", history.ids[0], "--target-lsn", format_lsn(target.lsn),
                start_lsn=history.first["start_lsn"], lsn=target.lsn)


def test_no_such_backup_or_timeline(refused):
    refused(["--backup", "20010101T000000Z"], "no backup 20010101T000000Z", "list")
    refused(["--target-timeline", "7"], "no timeline 7")


@pytest.mark.parametrize("args, words", [
    (["--target-lsn", "0/0/0"], ["--target-lsn"]),
    (["--target-time", "yesterday"], ["yesterday"]),
    (["--target-xid", "2"], ["--target-xid"]),
    (["--target-xid", "-5"], ["--target-xid"]),
    (["--target-name", "x" * 64], ["63"]),
    (["--target", "now"], ["immediate"]),
    (["--target", "immediate", "--target-lsn", "0/3000000"], ["more than one target"]),
    (["--target-name", "late", "--exclusive"], ["--exclusive"]),
    (["--action", "pause"], ["needs a target"]),
    (["--action", "dance", "--target", "immediate"], ["promote, pause or shutdown"]),
    (["--target-timeline", "x"], ["--target-timeline"]),
    (["--backup", "newest"], ["--backup"]),
    (["--tablespace", "/a"], ["OLD=NEW"]),
    (["--repository", "elsewhere"], ["elsewhere"]),
])
def test_requests_that_make_no_sense(history, args, words):
    place = history.site.scratch.path / "senseless"
    assert_says(history.site.pgvigil.run("restore", "--to", place, *args, check=2), *words)
    assert not place.exists()


def test_without_any_repository(history):
    names = [section.split()[1] for section in history.site.sections if section.startswith("repository ")]
    without = [arg for name in names for arg in ("--without", name)]
    assert_says(history.site.pgvigil.run("restore", "--to", history.site.scratch.path / "none", *without, check=2),
                "no repository is left")


def test_no_directory_given(history):
    assert_says(history.site.pgvigil.run("restore", check=2), "--to")
