"""archive-push and archive-get with real servers: every kind of file, promotion, clones, crashes, gaps."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest
from harness import keys, segment_name, system, wait_recovery, wait_until, write_recovery

MB = 1024 * 1024


def wal_objects(site, pattern="*.zst*"):
    """Names of the WAL objects of the site's only system identifier, sorted by file name."""
    return sorted(site.repository.glob(f"{site.name}/*/wal/**/{pattern}"), key=lambda p: p.name)


def archived_object(site, file):
    found = wal_objects(site, f"{file}.zst*")
    assert len(found) == 1, (file, found)
    return found[0]


def decoded(path):
    """SHA-256 of what zstd (and openssl) alone makes of an object."""
    return hashlib.sha256(keys.unpacked(path.read_bytes())).hexdigest()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def get(site, file, where, *options, check=0, cwd=None):
    """archive-get as PostgreSQL calls it: in the data directory."""
    return system.run([*site.pgvigil.command, "archive-get", *options, file, where], check=check,
                      cwd=cwd or site.cluster.data)


def push(site, path, check=0, cwd=None):
    return system.run([*site.pgvigil.command, "archive-push", path], check=check, cwd=cwd or site.cluster.data)


def fill(cluster, segments=1):
    """Writes and archives some WAL; names of the segments completed."""
    names = []
    for _ in range(segments):
        cluster.sql("create table if not exists t (i bigserial, x text)")
        cluster.sql("insert into t (x) select md5(i::text) from generate_series(1, 300) i")
        names.append(cluster.switch_wal())
    return names


@pytest.mark.parametrize("segsize", [1, 16, 64])
def test_push_and_recovery(make_site, scratch, segsize):
    site = make_site(wal_segsize=segsize)
    cluster = site.cluster
    base = cluster.base_backup(scratch.path / "base")
    names = fill(cluster, 3)
    for name in names:
        source = cluster.data / "pg_wal" / name
        if source.exists():
            assert source.stat().st_size == segsize * MB
            assert decoded(archived_object(site, name)) == sha256(source)
    assert wal_objects(site, "*.backup.zst*"), "the .backup file of pg_basebackup's backup"
    rows = cluster.scalar("select count(*) from t")
    cluster.stop()

    write_recovery(base, f'{site.pgvigil.shell_command} archive-get "%f" "%p"')
    restored = scratch.adopt(base, "restored")
    restored.configure(archive_mode="off")
    restored.start(wait=False)
    wait_recovery(restored)
    assert restored.scalar("select count(*) from t") == rows
    assert restored.scalar("select timeline_id from pg_control_checkpoint()") == 2
    assert not list(base.glob("pg_wal/*.pgvigil-tmp"))


def test_segments_of_one_gigabyte_in_little_memory(site, scratch):
    """Made by hand from a segment's head: a server would need gigabytes of room."""
    name = fill(site.cluster)[0]
    (scratch.path / "small").write_bytes(keys.unpacked(archived_object(site, name).read_bytes()))
    head = bytearray((scratch.path / "small").read_bytes()[:8192])
    number = 4 * 8 + 3  # with 4 segments of 1 GB to 4 GB: a name that no other one has
    big = segment_name(1, number, 1024 * MB)
    head[8:16] = (number * 1024 * MB).to_bytes(8, "little")
    head[32:36] = (1024 * MB).to_bytes(4, "little")
    source, back = scratch.path / big, scratch.path / "back"
    with open(source, "wb") as file:
        file.write(head)
        file.seek(512 * MB)
        file.write(os.urandom(MB))
        file.truncate(1024 * MB)
    system.own(source)
    for command in (["archive-push", source], ["archive-push", source], ["archive-get", big, back]):
        args = [str(a) for a in [*site.pgvigil.command, *command]]
        process = subprocess.Popen(args, cwd=site.cluster.data, env=system.environment(), **system.identity())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, command
        limit = 500 if sanitized(site) else 100
        assert usage.ru_maxrss < limit * 1024, f"{command}: {usage.ru_maxrss} kB"
    assert system.run(["cmp", source, back]).rc == 0
    source.unlink()
    back.unlink()


def sanitized(site):
    return b"__asan_init" in site.pgvigil.program.read_bytes()


def test_again_with_the_same_content_is_success(site):
    name = fill(site.cluster)[0]
    path = site.cluster.data / "pg_wal" / name
    before = archived_object(site, name).stat()
    done = push(site, f"pg_wal/{name}")
    assert "was archived already" in done.stderr
    after = archived_object(site, name).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    other = system.new_dir("other") / name
    other.write_bytes(data)
    system.own(other)
    done = push(site, other, check=4)
    assert "is already in repository \"local\" with another content" in done.stderr
    assert hashlib.sha256(data).hexdigest() in done.stderr and sha256(path) in done.stderr
    assert decoded(archived_object(site, name)) == sha256(path)


def test_promotion(site, scratch):
    """A standby that is promoted: history, the copied first segment, the partial one, and recovery across it."""
    primary = site.cluster
    base = primary.base_backup(scratch.path / "base")
    fill(primary, 2)
    standby = primary.standby("standby")
    primary.sql("insert into t (x) values ('before')")
    wait_until(lambda: standby.scalar("select count(*) from t where x = 'before'") == 1, 30, "the standby")
    primary.stop("immediate")
    standby.promote()
    standby.sql("insert into t (x) values ('after')")
    fill(standby, 2)
    rows = standby.scalar("select count(*) from t")
    standby.stop()

    history = archived_object(site, "00000002.history")
    assert history.parent.name == "00000002"
    first = wal_objects(site, "00000002" + "?" * 16 + ".zst*")[0]
    partial = wal_objects(site, "*.partial.*.zst*")
    assert len(partial) == 1 and re.fullmatch(r"[0-9A-F]{24}\.partial\.[0-9a-f]{16}\.zst(\.cms)?", partial[0].name)
    assert partial[0].name[8:24] == first.name[8:24]
    assert partial[0].name.split(".")[2] == decoded(partial[0])[:16]
    back = scratch.path / "back"
    get(site, partial[0].name[:32], back, cwd=standby.data)
    assert sha256(back) == decoded(partial[0])

    write_recovery(base, f'{site.pgvigil.shell_command} archive-get "%f" "%p"')
    restored = scratch.adopt(base, "restored")
    restored.start(wait=False)  # archiving goes on, on timeline 3
    wait_recovery(restored)
    assert restored.scalar("select timeline_id from pg_control_checkpoint()") == 3
    assert restored.scalar("select count(*) from t") == rows
    fill(restored)
    assert archived_object(site, "00000003.history")

    # The archive knows timelines 1 to 3, and 4 is free.
    get(site, "00000003.history", back)
    get(site, "00000004.history", scratch.path / "none", check=1)
    assert not (scratch.path / "none").exists()


@pytest.mark.directory
def test_a_used_timeline_is_remembered(site, scratch):
    """What this host has seen counts when the repository cannot be asked."""
    history = scratch.path / "00000002.history"
    history.write_text("1\t0/1000000\tno recovery target specified\n")
    system.own(history)
    fill(site.cluster)
    push(site, history)
    back = scratch.path / "back"
    get(site, "00000002.history", back)
    site.repository.rename(scratch.path / "away")
    back.unlink()
    done = get(site, "00000002.history", back)
    assert back.read_text() == history.read_text() and "remembers" in done.stderr
    done = get(site, "00000003.history", back, check=126)
    assert "does not exist" in done.stderr


def test_a_clone_cannot_push_other_content(site, scratch):
    """A copy of the data directory with archiving left on goes its own way; the archive stays the original's."""
    cluster = site.cluster
    fill(cluster)
    cluster.stop()
    system.run(["cp", "-a", cluster.data, scratch.path / "clone"])
    cluster.start()
    clone = scratch.adopt(scratch.path / "clone", "clone").start()
    segment = cluster.scalar("select pg_walfile_name(pg_current_wal_insert_lsn())")
    cluster.sql("insert into t (x) values ('original')")
    clone.sql("insert into t (x) values ('clone')")
    cluster.switch_wal()
    clone.switch_wal(archived=False)
    wait_until(lambda: "with another content" in clone.log_text(), 30, "the clone's push to fail",
               describe=clone.log_tail)
    source = cluster.data / "pg_wal" / segment
    assert decoded(archived_object(site, segment)) == sha256(source)
    assert clone.scalar("select failed_count from pg_stat_archiver") > 0
    assert clone.scalar("select last_failed_wal from pg_stat_archiver") == segment
    clone.stop("immediate")


def test_another_clusters_wal_is_refused(site, scratch):
    other = scratch.cluster("other", own_identity=True)
    other.start()
    segment = other.switch_wal(archived=False)
    fill(site.cluster)
    before = wal_objects(site)
    # Its file, pushed as if it were this cluster's.
    done = push(site, other.data / "pg_wal" / segment, check=4)
    assert re.search(r"belongs to another cluster \(system identifier "
                     rf"{other.system_identifier}, expected {site.cluster.system_identifier}\)", done.stderr)
    # Its server, with this cluster's configuration.
    done = push(site, f"pg_wal/{segment}", check=2, cwd=other.data)
    assert "is a data directory of another cluster" in done.stderr
    # Nor does it get this cluster's WAL.
    get(site, segment, scratch.path / "x", check=126, cwd=other.data)
    assert wal_objects(site) == before
    assert not (scratch.path / "x").exists()


def test_what_is_not_wal_is_refused(site, scratch):
    name = fill(site.cluster)[0]
    good = (site.cluster.data / "pg_wal" / name).read_bytes()
    before = wal_objects(site)
    next_name = segment_name(1, int(name[16:], 16) + 50, MB)
    for data, code in ((b"", 4), (good[:-1], 4), (good[:MB // 2], 4), (b"\0" * len(good), 4), (good, 4)):
        path = scratch.path / next_name
        path.write_bytes(data)
        system.own(path)
        done = push(site, path, check=code)
        assert next_name in done.stderr
    (scratch.path / "note.txt").write_text("x")
    push(site, scratch.path / "note.txt", check=2)
    push(site, scratch.path / name, check=3)
    assert wal_objects(site) == before


@pytest.mark.directory
@pytest.mark.parametrize("state", ["gone", "empty", "other"])
def test_a_repository_that_is_not_there(make_site, scratch, state):
    site = make_site()
    name, later = fill(site.cluster, 2)
    away = scratch.path / "away"
    site.repository.rename(away)
    if state != "gone":
        site.repository.mkdir(mode=0o700)
        system.own(site.repository)
    if state == "other":
        config = site.write_config({"cluster": {"state_dir": scratch.mkdir("state2")}}, scratch.path / "second.conf")
        system.run([site.pgvigil.program, "-c", config, "init"], check=False)
        assert (site.repository / "pgvigil.json").exists()
    listing = sorted(site.repository.rglob("*")) if state != "gone" else []

    done = push(site, f"pg_wal/{later}", check=3)
    assert "hint:" in done.stderr
    for file in (name, later, "0000000100000000000000F0", "00000002.history"):
        get(site, file, scratch.path / "x", check=126)
    assert not (scratch.path / "x").exists()
    assert (sorted(site.repository.rglob("*")) if site.repository.exists() else []) == listing

    # When it is back, everything goes on.
    if state != "gone":
        shutil.rmtree(site.repository)
    away.rename(site.repository)
    push(site, f"pg_wal/{later}")
    get(site, name, scratch.path / "x")


@pytest.mark.directory
def test_answers_of_archive_get(site, scratch):
    first, second, third = fill(site.cluster, 3)
    x = scratch.path / "x"
    get(site, second, x)
    assert sha256(x) == decoded(archived_object(site, second)) and (x.stat().st_mode & 0o777) == 0o600
    x.unlink()
    absent = segment_name(1, int(third[16:], 16) + 1, MB)
    for file in (absent, "00000002.history", f"{third}.partial"):
        get(site, file, x, check=1)
    archived_object(site, second).rename(scratch.path / "moved.zst")
    done = get(site, second, x, check=126)
    assert "is missing" in done.stderr and "later WAL of timeline 1" in done.stderr

    damaged = archived_object(site, third)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    done = get(site, third, x, check=126)
    assert "is damaged" in done.stderr

    for args in ([], [first], [first, x, "more"], ["--nonsense", first, x], ["nonsense", x],
                 ["--repository", "none", first, x], ["--without", "local", first, x]):
        done = system.run([*site.pgvigil.command, "archive-get", *args], check=126, cwd=site.cluster.data)
        assert "pgvigil: error: " in done.stderr
    for command in ([site.pgvigil.program, "-c", "/nowhere.conf", "archive-get"],
                    [site.pgvigil.program, "--nonsense", "archive-get"],
                    [site.pgvigil.program, "archive-gte"]):
        system.run([*command, first, x], check=126, cwd=site.cluster.data)
    get(site, first, scratch.path / "no" / "such" / "place", check=126)
    assert not x.exists()

    # A standby asks again and again; it is told "no" where others would be stopped.
    (site.cluster.data / "standby.signal").touch()
    for file in (second, third):
        done = get(site, file, x, check=1)
        assert "warning" in done.stderr and "standby" in done.stderr
    get(site, "nonsense", x, check=126)
    (site.cluster.data / "standby.signal").unlink()


@pytest.mark.directory
def test_recovery_stops_at_a_gap(site, scratch):
    """Promise 5: a segment that is missing in the middle does not end recovery, it stops it."""
    base = site.cluster.base_backup(scratch.path / "base")
    names = fill(site.cluster, 3)
    archived_object(site, names[1]).unlink()
    site.cluster.stop()
    write_recovery(base, f'{site.pgvigil.shell_command} archive-get "%f" "%p"')
    restored = scratch.adopt(base, "restored")
    restored.configure(archive_mode="off")
    restored.start(wait=False)
    wait_recovery(restored, "failed")
    assert f'WAL segment "{names[1]}" is missing' in restored.log_text()
    assert not list(base.glob("pg_wal/*.history")), "no new timeline was chosen"


@pytest.mark.directory
def test_a_killed_push_leaves_all_or_nothing(site):
    """kill -9 at any moment, again and again: the object is whole or absent, and the next push succeeds."""
    seed = int(os.environ.get("PGVIGIL_TEST_SEED", time.time_ns()))
    print(f"PGVIGIL_TEST_SEED={seed}")
    rng = random.Random(seed)
    cluster = site.cluster
    cluster.sql("create table t (x text)")
    cluster.sql("insert into t select md5(i::text) from generate_series(1, 150000) i")
    name = cluster.switch_wal()
    path = cluster.data / "pg_wal" / name
    digest = sha256(path)
    stored = archived_object(site, name)
    stored.unlink()
    started = time.monotonic()
    push(site, f"pg_wal/{name}")
    whole = time.monotonic() - started
    outcomes = {"absent": 0, "whole": 0}
    for _ in range(15):
        stored.unlink(missing_ok=True)
        args = [str(a) for a in [*site.pgvigil.command, "archive-push", f"pg_wal/{name}"]]
        process = subprocess.Popen(args, cwd=cluster.data, env=system.environment(), stderr=subprocess.DEVNULL,
                                   **system.identity())
        time.sleep(rng.uniform(0, whole * 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if stored.exists():
            assert decoded(stored) == digest
            outcomes["whole"] += 1
        else:
            outcomes["absent"] += 1
        push(site, f"pg_wal/{name}")
        assert decoded(stored) == digest
    print(outcomes)
    assert outcomes["absent"] > 0, "no push was caught under way"


def test_a_killed_get_leaves_nothing_that_counts(site, scratch):
    name = fill(site.cluster)[0]
    target = scratch.path / "RECOVERYXLOG"
    digest = decoded(archived_object(site, name))
    for i in range(10):
        args = [str(a) for a in [*site.pgvigil.command, "archive-get", name, target]]
        process = subprocess.Popen(args, cwd=site.cluster.data, env=system.environment(), stderr=subprocess.DEVNULL,
                                   **system.identity())
        time.sleep(0.01 * i)
        process.kill()
        process.wait()
        if target.exists():
            assert sha256(target) == digest
            target.unlink()
    get(site, name, target)
    assert sha256(target) == digest
    assert not list(scratch.path.glob("*.pgvigil-tmp"))


def test_the_identity_is_plain_json(site):
    text = system.run(["sh", "-c", f"head -c -128 '{site.repository}/pgvigil.json' | python3 -m json.tool"]).stdout
    assert '"format": 1' in text
    system.run(["sh", "-c", f"head -c -128 '{site.repository}/pgvigil.json' | tail -c 2 | grep -q '}}'"])


def test_output_that_cannot_be_written_is_no_success(site):
    for redirect in (">&-", ">/dev/full"):
        done = system.run(["sh", "-c", f'"{site.pgvigil.program}" help {redirect}'], check=3)
        assert "could not write to standard output" in done.stderr
    for args in (["help"], ["help", "backup"], ["--help"], ["version"], ["version", "--json"], ["--version"]):
        assert system.run([site.pgvigil.program, *args]).stdout
    done = system.run([site.pgvigil.program, "bakcup"], check=2)
    assert 'perhaps you meant "backup"' in done.stderr
