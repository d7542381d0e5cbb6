"""Tests of the harness's tools: clusters, the runner, the checkers, and that nothing is left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import (HarnessError, Ledger, Pgvigil, Scratch, assert_amcheck, assert_checksums, assert_restored,
                     assert_verifybackup, assert_visibility, bindir, compare_directories, config_text, format_lsn,
                     format_time, parse_lsn, parse_segment, parse_time, run, segment_name, system, visible_xids, write_file)
from harness import wal
from harness.pgvigil import merge


def script(scratch, text):
    """A stand-in for the pgvigil binary."""
    return write_file(scratch.path / "program", f"#!/bin/sh\n{text}\n", 0o755)


# -- runner -------------------------------------------------------------------------------------------------------

def test_runner_gives_output_and_checks_exit_codes(scratch):
    pgvigil = Pgvigil("/some/file", program=script(scratch, 'echo "out $*"; echo told >&2; exit $CODE'))
    done = pgvigil.run("backup", "--quiet", env={"CODE": "3"}, check=3)
    assert (done.rc, done.stdout, done.stderr) == (3, "out -c /some/file backup --quiet\n", "told\n")
    assert pgvigil.run("x", env={"CODE": "7"}, check=False).rc == 7
    with pytest.raises(HarnessError, match="(?s)expected exit code 0, got 4.*told"):
        pgvigil.run("x", env={"CODE": "4"})


def test_runner_parses_json(scratch):
    pgvigil = Pgvigil(None, program=script(scratch, """echo "{\\"a\\": [\\"$2\\"]}"; echo "$1" """))
    with pytest.raises(HarnessError, match="not JSON"):
        pgvigil.json("list")
    pgvigil.program = script(scratch, """echo "{\\"a\\": [\\"$2\\"]}" """)
    assert pgvigil.json("list") == {"a": ["--json"]}


@pytest.mark.parametrize("report", ["==1==ERROR: AddressSanitizer: heap", "x.c:3:1: runtime error: shift",
                                    "ERROR: LeakSanitizer: leaks", "WARNING: ThreadSanitizer: data race"])
def test_sanitizer_reports_fail_whatever_the_exit_code(scratch, report):
    pgvigil = Pgvigil(None, program=script(scratch, f'echo "{report}" >&2'))
    with pytest.raises(HarnessError, match="sanitizer report"):
        pgvigil.run("check", check=False)


def test_runner_kills_what_hangs_with_its_children(scratch):
    pgvigil = Pgvigil(None, program=script(scratch, "echo begun; sleep 60 & sleep 60"), cwd=scratch.path)
    before = time.monotonic()
    with pytest.raises(HarnessError, match="(?s)still running after 0.3 s.*begun"):
        pgvigil.run("x", timeout=0.3)
    assert time.monotonic() - before < 10
    system.wait_until(lambda: not system.processes_in(scratch.path), 5, "children to go")


def test_programs_run_as_the_owner_of_the_data(scratch):
    pgvigil = Pgvigil(None, program=script(scratch, "id -un; umask; touch made"), cwd=scratch.path)
    assert pgvigil.run().stdout.split() == [system.owner().pw_name, "0077"]
    assert (scratch.path / "made").stat().st_uid == system.owner().pw_uid
    assert system.owner().pw_uid != 0


def test_what_the_owner_cannot_reach_is_copied(scratch):
    hidden = Path(scratch.mkdir("hidden"))
    program = write_file(hidden / "prog", "#!/bin/sh\necho reached\n", 0o755)
    if os.geteuid() != 0:
        assert system.reachable(program) == program
        return
    os.chown(hidden, 0, 0)
    copy = system.reachable(program)
    assert copy != program and run([copy]).stdout == "reached\n"
    copy = system.reachable(hidden)
    assert copy != hidden and run([copy / "prog"]).stdout == "reached\n"


def test_config_text_and_merge():
    usual = {"cluster": {"name": "main", "pgdata": "/a"}, "repository local": {"url": "file:///r"}}
    merged = merge(usual, {"cluster": {"pgdata": None}, "repository local": None, "archive": {"require": 2}})
    assert config_text(merged) == "[cluster]\nname = main\n\n[archive]\nrequire = 2\n"
    assert usual["cluster"]["pgdata"] == "/a"


STAND_IN = """#!/bin/bash
# A poor man's pgvigil, so that Site can be tried without the real one.
set -e
test "$1" = -c; conf=$2; command=$3; shift 3
value() { sed -n "s/^$1 = //p" "$conf"; }
repository=$(value url | sed 's,^file://,,')/main/1
case $command in
init) mkdir -p "$repository/wal" ;;
archive-push) name=$(basename "$1")
    mkdir -p "$repository/wal/${name:0:8}/${name:0:16}"
    zstd -q "$1" -o "$repository/wal/${name:0:8}/${name:0:16}/$name.zst" ;;
archive-get) zstd -dqf "$repository/wal/${1:0:8}/${1:0:16}/$1.zst" -o "$2" ;;
backup) "$BINDIR/pg_basebackup" -D "$repository/base" -d "$(value conninfo)" -c fast -X none --no-sync; cat "$conf" ;;
restore) while [ $# -gt 0 ]; do
        case $1 in --to) to=$2 ;; --action) action=$2 ;; --target-lsn) lsn=$2 ;; esac; shift 2
    done
    cp -a "$repository/base" "$to"
    printf "%s = '%s'\\n" recovery_target_lsn "$lsn" recovery_target_action "$action" archive_mode off \
        >>"$to/postgresql.auto.conf"
    touch "$to/recovery.signal" ;;
esac
"""


@pytest.mark.directory
def test_site_with_a_stand_in_for_pgvigil(make_site, scratch, monkeypatch):
    monkeypatch.setenv("PGVIGIL", str(write_file(scratch.path / "stand-in", STAND_IN, 0o755)))
    monkeypatch.setenv("BINDIR", str(bindir()))
    site = make_site(config={"archive": {"timeout": "20s"}})
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(30)
        assert "[archive]\ntimeout = 20s\n" in site.backup().stdout
        ledger.wait(60)
    site.cluster.switch_wal()
    oracle = site.oracle(ledger)
    target = oracle.commits[-20]
    for name, action in (("one", "pause"), ("two", "promote")):
        restored = site.restore(name, "--target-lsn", format_lsn(target.lsn), action=action)
        assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=target.lsn), ledger=ledger)
        assert_amcheck(restored)
    site.write_config({"archive": None, "cluster": {"name": "other"}}, path=scratch.path / "other.conf")
    assert "[archive]" not in (scratch.path / "other.conf").read_text()
    assert "name = main" in site.config.read_text()
    assert not site.restore("three", "--target-lsn", "0/1", start=False).running


# -- clusters -----------------------------------------------------------------------------------------------------

def test_cluster_options(scratch):
    one = scratch.cluster("one", settings={"work_mem": "5MB", "archive_library": ""})
    two = scratch.cluster("two", wal_segsize=16, checksums=False, own_identity=True)
    one.start()
    assert one.scalar("show wal_segment_size") == "1MB" and one.scalar("show data_checksums") == "on"
    assert one.scalar("show work_mem") == "5MB" and one.scalar("show listen_addresses") == ""
    assert one.scalar("show full_page_writes") == "on"
    two.start()
    assert two.scalar("show wal_segment_size") == "16MB" and two.scalar("show data_checksums") == "off"
    assert one.system_identifier != two.system_identifier
    assert Path(one.data / "PG_VERSION").stat().st_uid == system.owner().pw_uid
    assert one.insert_lsn() > 0 and one.sql("checkpoint") is None


def test_tablespaces_and_standby(scratch):
    primary = scratch.cluster(settings={"allow_in_place_tablespaces": True}).start()
    linked, inside = primary.create_tablespace("linked"), primary.create_tablespace("inside", in_place=True)
    assert inside.is_dir() and not inside.is_symlink()
    primary.sql("create table t tablespace linked as select 1 as a")
    assert any(linked.rglob("PG_*"))
    moved = scratch.path / "moved"
    standby = primary.standby("standby", f"--tablespace-mapping={linked}={moved}")
    primary.sql("insert into t values (2)")
    system.wait_until(lambda: standby.scalar("select count(*) from t") == 2, 20, "replay")
    primary.stop()
    standby.promote()
    standby.sql("insert into t values (3)")
    assert standby.scalar("select timeline_id from pg_control_checkpoint()") >= 1


def test_what_was_acknowledged_survives_kill9(scratch):
    cluster = scratch.cluster().start()
    ledger = Ledger.create(cluster, rate=100)
    ledger.start()
    ledger.wait(100)
    cluster.kill9()
    assert not cluster.running and not system.processes_in(cluster.data)
    with pytest.raises(HarnessError, match="sessions of the ledger failed"):
        ledger.stop()
    cluster.start()
    visible = visible_xids(cluster)
    assert set(ledger.acked) <= visible <= set(ledger.acked) | ledger.unknown
    cluster.kill9()  # and Scratch must cope with what that leaves


def test_paused_ledger_stands_still(scratch):
    cluster = scratch.cluster().start()
    ledger = Ledger.create(cluster, rate=200)
    with ledger.running():
        ledger.wait(20)
        ledger.pause()
        seen = len(ledger.acked)
        assert len(visible_xids(cluster)) == seen
        time.sleep(0.1)
        assert len(visible_xids(cluster)) == seen
        ledger.resume()
        ledger.wait(20)


def test_a_ledger_goes_on_behind_a_prepared_transaction(scratch):
    """Of a cluster that was restored to between the two phases: it holds locks that the sessions need."""
    cluster = scratch.cluster().start()
    ledger = Ledger.create(cluster)
    cluster.sql("begin; update account set balance = balance; prepare transaction 'ledger-0'; begin")
    later = ledger.attach(cluster)
    with later.running():
        later.wait(20)


def test_start_shows_the_log_when_the_server_gives_up(scratch):
    cluster = scratch.cluster(settings={"shared_buffers": "nonsense"})
    with pytest.raises(HarnessError, match="(?s)ended with 1.*shared_buffers"):
        cluster.start()


# -- checkers -----------------------------------------------------------------------------------------------------

def test_checkers_notice_damage(scratch):
    cluster = scratch.cluster().start()
    cluster.sql("create table t as select g from generate_series(1, 5000) g")
    base = cluster.base_backup(scratch.path / "base")
    assert_verifybackup(base, cluster.bindir)
    cluster.stop()
    file = next(p for p in (base / "base/5").iterdir() if p.stat().st_size > 100000)
    copy = scratch.path / "copy"
    run(["cp", "-a", base, copy])
    assert compare_directories(base, copy) == []

    with open(file, "r+b") as damaged:
        damaged.seek(3 * 8192 + 4000)
        damaged.write(b"\x5a\xa5" * 8)
    (copy / "extra").touch()
    with pytest.raises(HarnessError, match="pg_verifybackup complains"):
        assert_verifybackup(base, cluster.bindir)
    differences = compare_directories(base, copy)
    assert differences == [f"only in {copy}: extra", f"base/5/{file.name}: 1 pages differ: [3]"]
    assert compare_directories(base, copy, ignore=["base", "extra"]) == []

    assert_checksums(cluster)
    with open(cluster.data / "base/5" / file.name, "r+b") as damaged:
        damaged.seek(2 * 8192 + 4000)
        damaged.write(b"\x5a\xa5" * 8)
    with pytest.raises(HarnessError, match="pg_checksums complains"):
        assert_checksums(cluster)


def test_wrong_visibility_is_noticed(scratch):
    cluster = scratch.cluster().start()
    cluster.sql("create table t as select g from generate_series(1, 5000) g")
    cluster.sql("vacuum (freeze) t")
    assert_visibility(cluster)
    map_of_t = Path(f"{cluster.data}/{cluster.scalar('select pg_relation_filepath(%s)', 't')}_vm")
    cluster.stop()
    before = map_of_t.read_bytes()
    cluster.start()
    cluster.sql("delete from t where g < 10")
    cluster.stop()
    map_of_t.write_bytes(before)
    cluster.start()
    with pytest.raises(HarnessError, match="(?s)maps of main are wrong.*pg_check_visible t .*map disagree t 0"):
        assert_visibility(cluster)


def test_wal_arithmetic():
    size = 16 << 20
    assert parse_lsn("1/0A000028") == 0x10A000028 and format_lsn(0x10A000028) == "1/A000028"
    assert segment_name(2, 0x10A, size) == "00000002000000010000000A"
    assert parse_segment("00000002000000010000000A", size) == (2, 0x10A)
    assert wal.record_end(0x28, 100, size) == 0x28 + 104
    assert wal.record_end(8192 - 8, 100, size) == 8192 + 24 + 96
    assert wal.record_end(size - 8, 100, size) == size + 40 + 96
    assert wal.record_end(8192 - 104, 104, size) == 8192
    assert format_time(parse_time("2026-02-03 04:05:06.000007+00")) == "2026-02-03 04:05:06.000007+00"
    assert parse_time("2026-02-03T05:05:06.000007+01:00") == parse_time("2026-02-03 04:05:06.000007")


# -- nothing left behind ------------------------------------------------------------------------------------------

def test_scratch_removes_everything_and_tells_of_leftovers():
    with pytest.raises(HarnessError, match="processes left behind.*sleep"):
        with Scratch() as scratch:
            cluster = scratch.cluster().start()
            with subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "sleep", "61"], cwd=scratch.path) as left:
                scratch.close()
    assert left.returncode == -9 and not cluster.running and not scratch.path.exists()


def test_scratch_finds_sanitizer_reports_in_server_logs():
    with pytest.raises(HarnessError, match="sanitizer report in .*main.log"):
        with Scratch() as scratch:
            cluster = scratch.cluster().start()
            cluster.log.write_text("==9==ERROR: AddressSanitizer: heap-buffer-overflow\n")
    assert not scratch.path.exists()


def test_servers_end_when_the_test_process_is_killed(scratch):
    program = ("import os, signal; from harness import Scratch; s = Scratch(); c = s.cluster().start(); "
               "print(c.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=subprocess.PIPE,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1",
                               system.RUN_DIR_VARIABLE: str(scratch.mkdir("run"))}, check=False)
    assert done.returncode == -9
    pid = int(done.stdout)
    system.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the orphaned server to end")
