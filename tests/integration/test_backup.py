"""How a backup comes to its end: alone, beside another one, killed, interrupted, without its server, without WAL."""

import datetime
import os
import re
import signal
import time

import pytest
from backup_tools import (INT, KILL, TERM, Background, assert_says, backup_has_stopped, backups, make_endless,
                          only_backup, on_a_terminal, peak, resume_archiving, sessions, steps, stop_archiving)
from harness import (HarnessError, Ledger, assert_restored, assert_verifybackup, format_lsn, parse_lsn,
                     wait_recovery, wait_until, write_file)


def held_while_reading(site, endless):
    backup = Background(site.pgvigil, "backup", "--jobs", "2")
    backup.wait_for(lambda: backup.has_open(endless), "the backup to read")
    return backup


def held_while_waiting(site):
    backup = Background(site.pgvigil, "backup", "--jobs", "2")
    backup.wait_for(lambda: backup_has_stopped(site), "the backup to stop")
    return backup


def held_while_starting(site, checkpointer):
    os.kill(checkpointer, signal.SIGSTOP)
    backup = Background(site.pgvigil, "backup", "--jobs", "2")
    backup.wait_for(lambda: site.cluster.sql("select 1 from pg_stat_activity where state = 'active'"
                                             " and query ~ '^SELECT pg_backup_start'"), "the backup to start")
    return backup


def assert_ended_without_trace(site):
    assert backups(site) == {}
    wait_until(lambda: sessions(site.cluster) == 0, 15, "the server to leave backup mode")


# -- when all is well -----------------------------------------------------------------------------------------------

def test_two_backups_of_an_idle_server(site):
    first = site.backup()
    assert first.stdout == "" and "is complete" in first.stderr and len(first.stderr.splitlines()) == 1
    second = site.backup("--quiet", "--full")
    assert (second.stdout, second.stderr) == ("", "")
    taken = backups(site)
    assert len(taken) == 2
    early, late = taken.values()
    assert parse_lsn(early["stop_lsn"]) <= parse_lsn(late["start_lsn"])
    assert late["page_errors"] == 0 and late["data_checksums"] and late["timeline"] == 1
    assert late["data_directory"] == str(site.cluster.data)

    restored = site.restore("idle", "--target", "immediate", start=False)
    assert_verifybackup(restored.data, restored.bindir)
    assert restored.backup_start == parse_lsn(late["start_lsn"])
    wait_recovery(restored.start(wait=False))


def test_a_backup_under_load_is_restored_whole(make_site):
    site = make_site()
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(40)
        site.backup("--jobs", "4")
        ledger.wait(40)
    site.cluster.switch_wal()
    oracle = site.oracle(ledger)
    stop = only_backup(site)["stop_lsn"]
    target = next(c for c in oracle.commits if c.lsn > parse_lsn(stop))
    restored = site.restore("r", "--target-lsn", format_lsn(target.lsn))
    assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=target.lsn), ledger=ledger)


def test_progress_is_shown_on_a_terminal(site):
    rc, text = on_a_terminal(site.pgvigil, "backup")
    assert rc == 0, text
    assert "\r" in text and "%" in text and "backup" in text, text
    assert "pgvigil: backup " in text.rstrip().splitlines()[-1] and "is complete" in text, text


def test_memory_is_bounded_whatever_the_bandwidth(site):
    """What is read waits for what is stored: a rate limit is kept, and nothing piles up before it but the one pack that
    is put, which has to be there as a whole."""
    pack, extra, limit = 32 << 20, 128 << 20, 20 << 20

    def full():
        write_file(site.cluster.data / "extra", "").write_bytes(os.urandom(extra))
        started = time.monotonic()
        most, _ = peak(site.pgvigil, "backup", "--full", "--jobs", "1")
        return time.monotonic() - started, most

    _, most = full()
    site.write_config({"repository local": {"rate_limit": f"{limit} B"}})
    seconds, most_when_slow = full()
    assert seconds > extra / limit
    assert most < 4 * pack and most_when_slow < most + 1.1 * pack


# -- beside another one ---------------------------------------------------------------------------------------------

def test_a_second_backup_is_refused(site):
    command = stop_archiving(site)
    with held_while_waiting(site) as first:
        before = time.monotonic()
        second = site.backup(check=3)
        assert time.monotonic() - before < 10
        assert_says(second, f"pid {first.pid}", '"pgvigil backup"', "since 20", hint=False)
        resume_archiving(site, command)
        first.finish()
    assert len(backups(site)) == 1
    site.backup()
    assert len(backups(site)) == 2


# -- killed and interrupted -----------------------------------------------------------------------------------------

@pytest.mark.directory
def test_killed_backups_leave_nothing_to_see_and_nothing_that_grows(site):
    endless = make_endless(site)
    for _ in range(2):
        with held_while_reading(site, endless) as backup:
            backup.signal(KILL)
            backup.finish(check=-9)
        assert_ended_without_trace(site)
    endless.unlink()
    command = stop_archiving(site)
    with held_while_waiting(site) as backup:
        backup.signal(KILL)
        backup.finish(check=-9)
    assert_ended_without_trace(site)
    resume_archiving(site, command)
    site.backup()
    assert [run for run in backups(site)] == [only_backup(site)["run"]]
    left = [path for path in site.state_dir.rglob("*") if path.is_file() and path.parent.name == "tmp"]
    assert left == []
    # What was being written when a process was killed is swept a day later: one object for each thread at most.
    assert len(list((site.repository / ".tmp").iterdir())) <= 3 * 2


@pytest.mark.parametrize("number", [TERM, INT])
def test_an_interrupted_backup_ends_promptly(site, number):
    endless = make_endless(site)
    with held_while_reading(site, endless) as backup:
        _interrupt(backup, number)
    assert_ended_without_trace(site)
    endless.unlink()
    command = stop_archiving(site)
    with held_while_waiting(site) as backup:
        _interrupt(backup, number)
    assert_ended_without_trace(site)
    resume_archiving(site, command)

    checkpointer = site.cluster.scalar("select pid from pg_stat_activity where backend_type = 'checkpointer'")
    try:
        with held_while_starting(site, checkpointer) as backup:
            _interrupt(backup, number)
    finally:
        os.kill(checkpointer, signal.SIGCONT)
    assert_ended_without_trace(site)
    site.backup()
    assert len(backups(site)) == 1


def _interrupt(backup, number):
    before = time.monotonic()
    backup.signal(number)
    done = backup.finish(check=3, timeout=20)
    assert time.monotonic() - before < 5, done.describe()
    assert_says(done, f"interrupted by {number.name}", "the next `pgvigil -c ", " backup` goes on from there")


# -- without its server ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("again", [False, True], ids=["stopped", "restarted"])
def test_the_server_goes_away(site, again):
    slow = site.cluster.data / "slow"
    with open(slow, "wb") as file:
        file.truncate(3 << 30)
    with held_while_reading(site, slow) as backup:
        backup.signal(signal.SIGSTOP)  # so that it cannot be done before the server has gone
        site.cluster.stop("immediate")
        if again:
            site.cluster.start()
        slow.unlink()
        backup.signal(signal.SIGCONT)
        done = backup.finish(check=3, timeout=90)
    assert_says(done, "the connection to the server was lost", hint=False)
    assert backups(site) == {}
    if not again:
        site.cluster.start()
    site.backup()
    assert len(backups(site)) == 1


def test_the_server_is_not_there(site):
    site.cluster.stop()
    assert_says(site.backup(check=3), "could not connect to the server", "is the server running")
    assert backups(site) == {}


# -- without its WAL ------------------------------------------------------------------------------------------------

def test_wal_does_not_arrive(make_site):
    """It is said what is waited for and until when, with what the server knows, and then that it was given up."""
    site = make_site(config={"backup": {"timeout": "12s"}})
    stop_archiving(site)
    started = datetime.datetime.now().astimezone()
    done = site.backup(check=3)
    news = re.search(r"waiting for WAL segment \w{24} to arrive in repository .*; gives up at (\S+ \S+)\n"
                     r"pgvigil: detail: the server's last attempt to archive failed: \w{24} at .*\n"
                     r"pgvigil: hint: .*server's log", done.stderr)
    assert news, done.describe()
    end = datetime.datetime.fromisoformat(news[1])
    assert 10 <= (end - started).total_seconds() < 60
    failed = site.cluster.scalar("select last_failed_wal from pg_stat_archiver")
    needed = sorted(p.stem for p in (site.cluster.data / "pg_wal" / "archive_status").glob("*.ready"))
    assert any(f"WAL segment {segment} did not arrive" in done.stderr for segment in needed), done.describe()
    assert_says(done, 'repository "local"', "within 12 s", f"last attempt to archive failed: {failed} at 20")
    assert_ended_without_trace(site)


@pytest.mark.directory
def test_the_repository_goes_away(site):
    command = stop_archiving(site)
    with held_while_waiting(site) as backup:
        site.repository.rename(site.scratch.path / "away")
        done = backup.finish(check=3)
    assert_says(done, str(site.repository), "does not exist", "mounted")
    assert not site.repository.exists()
    (site.scratch.path / "away").rename(site.repository)
    assert_ended_without_trace(site)
    resume_archiving(site, command)
    site.backup()
    assert len(backups(site)) == 1


def test_archiving_is_off(make_site):
    site = make_site(settings={"archive_mode": "off"})
    assert_says(site.backup(check=2), "archive_mode is off", "init --apply")
    assert backups(site) == {}
    assert list(site.repository.rglob("begin.json*")) == []


# -- from a standby -------------------------------------------------------------------------------------------------

def test_a_standby_as_source(make_site, scratch):
    site = make_site(config={"backup": {"timeout": "60s"}})
    ledger = Ledger.create(site.cluster)
    standby = site.cluster.standby("standby")
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    with ledger.running():
        ledger.wait(60)
        with Background(site.pgvigil, "backup") as backup:
            while backup.process.poll() is None:  # the primary's WAL has to go on for the standby's to be archived
                site.cluster.switch_wal(archived=False)
                time.sleep(0.2)
            backup.finish()
        ledger.wait(60)
    site.cluster.switch_wal()
    taken = only_backup(site)
    assert taken["data_directory"] == str(standby.data)
    oracle = site.oracle(ledger)
    restored = site.restore("r")
    assert_restored(restored, oracle.expect(start=restored.backup_start), ledger=ledger)


def test_a_standby_whose_primary_is_idle(make_site):
    """Nobody completes the segment with the backup's end: the message says who has to."""
    site = make_site(config={"backup": {"timeout": "2s"}})
    standby = site.cluster.standby("standby")
    standby.configure(archive_command="")  # it is the primary's that counts
    standby.reload()
    site.cluster.sql("create table t (a int)")
    site.cluster.checkpoint()
    written = format_lsn(site.cluster.insert_lsn())
    wait_until(lambda: standby.scalar("select pg_last_wal_replay_lsn() >= %s::pg_lsn", written), 20, "replay")
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    assert_says(site.backup(check=3), "did not arrive", "standby", "pg_switch_wal()")
    assert backups(site) == {}


def test_the_wrong_data_directory(site, scratch):
    """A copy of the cluster has the same identity; only the server's own directory will do."""
    copy = site.cluster.base_backup(scratch.path / "copy")
    site.write_config({"cluster": {"pgdata": copy}})
    assert_says(site.backup(check=2), str(copy), str(site.cluster.data))
    assert backups(site) == {}


def test_harness_background_reports_an_early_end(site):
    with Background(site.pgvigil, "backup", "--nonsense") as backup:
        with pytest.raises(HarnessError, match="it ended before something"):
            backup.wait_for(lambda: False, "something")


def test_where_another_server_has_archived(make_site):
    """A clone, or this one before it was set back to a snapshot: what lies under the names to come is not ours."""
    site = make_site()
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    snapshot = site.cluster.snapshot()
    site.cluster.start()
    for _ in range(8):
        site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    site.cluster.set_back(snapshot)
    site.cluster.start()
    (sound,) = backups(site)
    checked = site.pgvigil.run("check", check=1)
    assert "FAILED" in steps(checked).values()
    for done in (checked, site.backup("--full", check=4)):
        text = done.stdout + done.stderr
        assert "is not the one that this server wrote" in text and "before it was set back" in text, text
    assert list(backups(site)) == [sound]
