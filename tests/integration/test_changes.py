"""A backup stores what has changed since the last one, is whole all the same, and is right whatever came of the cache."""

import ctypes
import json
import os
import re
import shutil
import struct

import pytest
from backup_tools import assert_says, backups
from harness import compare_directories, keys, run, system, wait_until
from test_backup_content import NOT_COMPARED

MINUTES = 5 * 60 * 1000000  # microseconds


@pytest.fixture
def quiet(make_site):
    """A cluster that does nothing by itself, with a table of some megabytes."""
    site = make_site(settings={"autovacuum": "off", "bgwriter_lru_maxpages": 0, "checkpoint_timeout": "1h"})
    site.cluster.sql("create table big (a int primary key, b text);"
                     "insert into big select g, repeat(md5(g::text), 20) from generate_series(1, 12000) g")
    return site


def take(site, *args):
    """A backup: its record, what was said, and a copy of the data directory, as it is and will not be any more."""
    before = set(backups(site))
    done = site.pgvigil.run("-v", "backup", *(args or ("--jobs", "2")))
    (name,) = set(backups(site)) - before
    copy = site.scratch.path / f"copy-{name}"
    shutil.copytree(site.cluster.data, copy, symlinks=True, ignore=shutil.ignore_patterns("pg_wal"))
    return backups(site)[name], done, copy


def assert_whole(site, backup, copy, directory="again"):
    """Restored, it is page by page what the data directory was."""
    restored = site.restore(directory, "--backup", backup["run"], "--target", "immediate", start=False)
    differences = [line for line in compare_directories(copy, restored.data, ignore=NOT_COMPARED)
                   if not line.endswith("/pg_internal.init")]
    assert differences == []
    shutil.rmtree(restored.data)


def refs(site, backup):
    """The list of packs: (name, size, kind, blocks, live)."""
    stored = next(site.repository.glob(f"*/*/backup/{backup['run']}/refs.zst"))
    lines = run(["zstd", "-dqc", stored]).stdout.splitlines()
    assert lines[0] == "pgvigil refs 1"
    return [(f[0], int(f[1]), f[3], int(f[4]), int(f[5])) for f in (line.split("\t") for line in lines[1:])]


def settle(site):
    """The cache says that the last backup began minutes later, so that files written just before it count as settled."""
    xxhash = ctypes.CDLL("libxxhash.so.0")
    xxhash.XXH3_64bits_withSecret.restype = ctypes.c_uint64
    path = site.state_dir / "cache" / "known"
    content = bytearray(path.read_bytes())
    started = 16 + 192 + 8 + 8 + 32
    struct.pack_into("<q", content, started, struct.unpack_from("<q", content, started)[0] + MINUTES)
    body, secret = bytes(content[:-8]), bytes(content[16:16 + 192])
    seal = xxhash.XXH3_64bits_withSecret(body, ctypes.c_size_t(len(body)), secret, ctypes.c_size_t(192))
    path.write_bytes(body + struct.pack("<Q", seal))


def change(site, start, rows=20):
    site.cluster.sql("update big set b = b || '!' where a between %s and %s", start, start + rows)


def test_only_what_changed_is_stored(quiet):
    first, done, first_copy = take(quiet)
    assert "changed since" not in done.stderr
    change(quiet, 100)
    second, done, second_copy = take(quiet)
    assert f"changed since {first['run']}" in done.stderr
    assert second["stored_bytes"] < first["stored_bytes"] / 8
    assert second["database_bytes"] >= first["database_bytes"] and second["pack_bytes"] > first["pack_bytes"]
    packs = refs(quiet, second)
    assert {name.split("/")[1] for name, *_ in packs} == {first["run"], second["run"]}
    assert all(live <= blocks for *_, blocks, live in packs)
    for backup, copy in ((second, second_copy), (first, first_copy)):
        assert_whole(quiet, backup, copy)


@pytest.mark.parametrize("loss", ["all of it", "the maps", "damaged"])
def test_a_lost_cache_costs_nothing_but_time(quiet, loss):
    cache = quiet.state_dir / "cache"
    first, _, _ = take(quiet)
    if loss == "all of it":
        shutil.rmtree(cache)
    for path in sorted(cache.glob("*")):
        known = path.name == "known"
        content = path.read_bytes()
        if loss == "the maps" and not known:
            path.unlink()
        elif loss == "damaged":
            middle = len(content) // 2
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:])
    change(quiet, 1000)
    second, done, copy = take(quiet)
    assert f"changed since {first['run']}" in done.stderr
    assert second["stored_bytes"] < first["stored_bytes"] / 8
    assert ("is damaged" in done.stderr) == (loss == "damaged")
    assert_whole(quiet, second, copy)


def test_files_that_have_not_changed_are_not_read(quiet):
    """Files that look unchanged are taken as they were; one that somebody wrote to has another ctime, if nothing else."""
    path = quiet.cluster.data / "once"
    path.write_bytes(b"once" * 30000)
    system.own(path)
    take(quiet)
    settle(quiet)
    status = path.stat()
    path.write_bytes(b"then" * 30000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    backup, done, copy = take(quiet)
    passed_over = int(re.search(r"(\d+) unchanged files of .* were not read", done.stderr)[1])
    assert passed_over > backup["file_count"] / 2
    assert_whole(quiet, backup, copy)


def test_damaged_pages_are_reported_until_they_are_mended(quiet):
    """Also if their file has not changed since it was read."""
    path = quiet.cluster.data / "base" / "1" / "888888"
    path.write_bytes(b"torn" * 2048)
    system.own(path)
    for _ in range(2):
        assert quiet.backup(check=4).stderr.count("wrong checksum: base/1/888888 block 0") == 1
        settle(quiet)
    path.unlink()
    quiet.backup()


def test_full_stores_everything(quiet):
    first, _, _ = take(quiet)
    settle(quiet)
    second, done, copy = take(quiet, "--full")
    assert "changed since" not in done.stderr
    assert second["stored_bytes"] > first["stored_bytes"] * 0.8
    assert {name.split("/")[1] for name, *_ in refs(quiet, second)} == {second["run"]}
    assert_whole(quiet, second, copy)
    third, done, copy = take(quiet)
    assert f"changed since {second['run']}" in done.stderr
    assert third["stored_bytes"] < second["stored_bytes"] / 8
    assert_whole(quiet, third, copy)


def write_blocks(path, numbers, generation):
    """Blocks like no others, that compress well."""
    with open(path, "r+b") as file:
        for number in numbers:
            file.seek(number * 8192)
            file.write(f"{generation} {number} ".encode().ljust(32) * 256)
    system.own(path)


def test_packs_that_are_mostly_dead_are_left(quiet):
    """What little of a pack is used is stored anew, also out of files that look unchanged, so that it can go."""
    path, blocks = quiet.cluster.data / "blocks", 8192
    path.touch()
    write_blocks(path, range(blocks), "first")
    first, _, _ = take(quiet, "--jobs", "1")
    write_blocks(path, range(blocks * 9 // 10), "second")
    second, _, second_copy = take(quiet, "--jobs", "1")
    assert first["run"] in {name.split("/")[1] for name, *_ in refs(quiet, second)}
    settle(quiet)
    third, _, third_copy = take(quiet, "--jobs", "1")
    assert {name.split("/")[1] for name, _, kind, *_ in refs(quiet, third) if kind == "data"} == {
        second["run"], third["run"]}
    fourth, _, _ = take(quiet, "--jobs", "1")
    assert fourth["stored_bytes"] < third["stored_bytes"] / 4
    for backup, copy in ((second, second_copy), (third, third_copy)):
        assert_whole(quiet, backup, copy)


@pytest.mark.parametrize("loss", ["nothing", "the list", "the maps"])
def test_without_the_private_key(scratch, make_site, loss):
    """Maps come from the cache; where that is lost, everything is stored, and somebody is told."""
    key, certificate = scratch.path / "key.pem", scratch.path / "certificate.pem"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=backup", "-keyout", key, "-out", certificate])
    for path in (key, certificate):
        system.own(path)
    site = make_site(settings={"autovacuum": "off"}, config={"encryption": {"recipients": certificate, "identity": None}})
    site.cluster.sql("create table big as select g as a, repeat(md5(g::text), 20) as b from generate_series(1, 12000) g")
    site.cluster.sql("vacuum freeze big")  # reading it will set no hint bits
    first, _, first_copy = take(site)
    for path in (site.state_dir / "cache").glob("*"):
        if (loss == "the list") == (path.name == "known") and loss != "nothing":
            path.unlink()
    change(site, 100)
    second, done, second_copy = take(site)
    if loss == "nothing":
        assert f"changed since {first['run']}" in done.stderr
        assert second["stored_bytes"] < first["stored_bytes"] / 8
    else:
        told = [line for line in done.stderr.splitlines() if re.search(r"everything is stored|is stored whole", line)]
        assert told and all("encrypted" in line for line in told)
        assert second["stored_bytes"] > first["stored_bytes"] * 0.8
    third, done, third_copy = take(site)
    assert f"changed since {second['run']}" in done.stderr
    assert third["stored_bytes"] < first["stored_bytes"] / 8
    site.write_config({"encryption": {"identity": key}})
    for backup, copy in ((first, first_copy), (second, second_copy), (third, third_copy)):
        assert_whole(site, backup, copy)


def test_after_a_restore_into_place(quiet):
    """The cluster went back behind its last backup, and on along another timeline: digests tell what differs."""
    first, _, _ = take(quiet)
    change(quiet, 100, 2000)
    second, _, second_copy = take(quiet)
    quiet.cluster.stop()
    quiet.pgvigil.run("restore", "--to", quiet.cluster.data, "--delta", "--take-over", "--backup", first["run"],
                      "--target", "immediate")
    quiet.cluster.start()
    wait_until(lambda: quiet.cluster.scalar("select not pg_is_in_recovery()"), 30, "the end of recovery")
    settle(quiet)
    change(quiet, 5000)
    third, done, third_copy = take(quiet)
    assert third["timeline"] == first["timeline"] + 1 and "changed since" in done.stderr
    for backup, copy in ((third, third_copy), (second, second_copy)):
        assert_whole(quiet, backup, copy)


def test_another_cluster_of_the_same_name(scratch, quiet):
    """It has another system identifier: what is known of the old one is of no use."""
    take(quiet)
    settle(quiet)
    other = scratch.cluster("other", own_identity=True, settings={
        "archive_mode": "on", "archive_command": quiet.cluster.scalar("show archive_command"), "autovacuum": "off",
        "bgwriter_lru_maxpages": 0})
    other.start()
    quiet.write_config({"cluster": {"pgdata": other.data, "conninfo": other.conninfo}})
    done = quiet.pgvigil.run("-v", "backup")
    assert "changed since" not in done.stderr
    backup = max((json.loads(path.read_bytes()[:-128]) for path in quiet.repository.glob("*/*/backup/*/backup.json")),
                 key=lambda found: found["run"])
    assert backup["system_identifier"] == str(other.system_identifier)
    assert {name.split("/")[1] for name, *_ in refs(quiet, backup)} == {backup["run"]}


def test_after_pg_upgrade(scratch, quiet):
    """With --link the relations' files are the very same, in another cluster of the same name at the same place."""
    for database in ("postgres", "template1"):
        quiet.cluster.sql("drop extension amcheck", db=database)  # made in single-user mode: pg_dump thinks it built in
    first, _, first_copy = take(quiet)
    settle(quiet)
    old, new = quiet.cluster, scratch.cluster("new", own_identity=True)
    relation = old.scalar("select pg_relation_filepath('big')")
    before = os.stat(old.data / relation)
    configuration = (old.data / "postgresql.conf").read_bytes()
    old.stop()
    old.tool("pg_upgrade", "--link", "-U", "postgres", "-b", old.bindir, "-B", old.bindir, "-d", old.data, "-D",
             new.data, "-s", scratch.socket_dir, cwd=scratch.mkdir("upgrade"))
    shutil.rmtree(old.data)
    new.data.rename(old.data)
    (old.data / "postgresql.conf").write_bytes(configuration)
    old.start()
    after = os.stat(old.data / old.scalar("select pg_relation_filepath('big')"))
    assert (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    change(quiet, 100)
    second, done, second_copy = take(quiet)
    assert second["system_identifier"] != first["system_identifier"] and "changed since" not in done.stderr
    settle(quiet)
    change(quiet, 5000)
    third, done, third_copy = take(quiet)
    assert f"changed since {second['run']}" in done.stderr
    for backup, copy in ((first, first_copy), (second, second_copy), (third, third_copy)):
        assert_whole(quiet, backup, copy)


@pytest.mark.alone  # the other one would have the map
def test_maps_that_cannot_be_read(quiet):
    """Neither in the cache nor in the repository: everything is stored, and somebody is told."""
    first, _, _ = take(quiet)
    shutil.rmtree(quiet.state_dir / "cache")
    for name, _, kind, *_ in refs(quiet, first):
        if kind == "map":
            next(quiet.repository.glob(f"*/*/{keys.stored(name)}")).unlink()
    second, done, copy = take(quiet)
    assert_says(done, "is stored whole, as its map cannot be read", hint=False)
    assert second["stored_bytes"] > first["stored_bytes"] * 0.8
    assert_whole(quiet, second, copy)


def spoil(path, way):
    """What happens to an object in a directory: a flipped bit, or nothing is left of it."""
    content = bytearray(path.read_bytes())
    path.unlink()
    if way == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        path.chmod(0o600)
        system.own(path)


@pytest.mark.alone  # the other one would help out
@pytest.mark.parametrize("kind, way", [("data", "flipped"), ("data", "gone"), ("map", "flipped")])
def test_packs_that_verify_found_damaged_are_not_built_on(quiet, kind, way):
    """What was in them is stored anew, also of files that look unchanged, once; so the next backup is whole."""
    first, _, _ = take(quiet)
    for name, *_ in [pack for pack in refs(quiet, first) if pack[2] == kind]:
        spoil(next(quiet.repository.glob(f"*/*/{keys.stored(name)}")), way)
    if way == "flipped":  # nobody knows of it before
        settle(quiet)
        second, done, _ = take(quiet)
        assert first["run"] in {name.split("/")[1] for name, _, of, *_ in refs(quiet, second) if of == kind}
    done = quiet.pgvigil.run("verify", check=4)
    assert_says(done, f"`pgvigil -c {quiet.config} backup`", "--full")
    if way == "flipped":  # and that verify knows it is no matter of how much it reads
        assert quiet.pgvigil.run("verify", "--sample", "0.001%", check=4).stdout.count("damaged: ") >= 1
    settle(quiet)
    third, done, copy = take(quiet)
    assert_says(done, "packs damaged or missing, as verify found: what was in them is stored anew", hint=False)
    assert first["run"] not in {name.split("/")[1] for name, _, of, *_ in refs(quiet, third) if of == kind}
    (cluster,) = quiet.pgvigil.json("verify", "--all", check=4)["repositories"][0]["clusters"]
    assert cluster["findings"] and not any(third["run"] in found["lost_backups"] for found in cluster["findings"])
    assert_whole(quiet, third, copy)
    _, done, _ = take(quiet)
    assert "stored anew" not in done.stderr


@pytest.mark.alone
@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1, "looked": 5, "objects": [{"object": 5}]}', b"\0" * 100, None])
def test_what_verify_found_is_no_more_than_a_hint(quiet, content):
    """Damaged or lost, a backup is taken as if there were none."""
    take(quiet)
    quiet.pgvigil.run("verify")
    (known,) = (quiet.state_dir / "damage").iterdir()
    assert known.read_bytes()
    known.unlink()
    if content is not None:
        known.write_bytes(content)
        system.own(known)
    second, done, copy = take(quiet)
    assert ("damaged" in done.stderr) == (content is not None) and "changed since" in done.stderr
    assert_whole(quiet, second, copy)
    quiet.pgvigil.run("verify")
    _, done, _ = take(quiet)
    assert "damaged" not in done.stderr
