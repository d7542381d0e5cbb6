"""Bad input: a message that says what, where, why and what to do; the right exit code; nothing half-written."""

import hashlib
import json
import os
import shutil

import pytest
from backup_tools import assert_says, backups, snapshot
from harness import Pgvigil, system, write_file

pytestmark = pytest.mark.alone  # another repository would help out


def untouched(site):
    """What must not change when a command is refused, but for the notes of runs that had begun."""
    seen = snapshot(site.repository, site.scratch.path / "target")
    return {path: state for path, state in seen.items() if "/run/" not in path}


# -- configuration --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, pieces", [
    ("", ["section [cluster] is missing"]),
    ("[cluster]\n", ["[cluster] has no", "name", "line 1"]),
    ("[cluster]\nname = main\n", ["no section [repository NAME]"]),
    ("[cluster]\nname = main\n[repository r]\n", ["line 3", 'repository "r" has no "url"']),
    ("[cluster]\nname = main\npgdta = /x\n", ["line 3", 'unknown key "pgdta"', 'Perhaps you meant "pgdata"']),
    ("[clutser]\nname = main\n", ["line 1", "unknown section [clutser]", "[cluster]"]),
    ("[cluster]\nname = a/b\n", ["line 2", 'invalid cluster name "a/b"']),
    ("[cluster]\nname = main\nname = other\n", ["line 3", "given in line 2 already"]),
    ("[cluster]\nname = main\npgdata = data\n", ["line 3", "absolute path"]),
    ("[cluster]\nname = main\n[backup]\njobs = 0\n", ["line 4", "jobs"]),
    ("[cluster]\nname = main\n[backup]\ntimeout = soon\n", ["line 4", "timeout", "soon"]),
    ("[cluster]\nname = main\n[repository r]\nurl = ftp://host/path\n", ["line 4", "ftp://host/path"]),
    ("name = main\n", ["line 1"]),
    ("[cluster]\nname = main\n\0\n", ["line 3"]),
], ids=lambda value: None)
def test_wrong_configuration(scratch, text, pieces):
    config = write_file(scratch.path / "wrong.conf", text)
    target = scratch.path / "target"
    before = snapshot(scratch.path)
    pgvigil = Pgvigil(config, cwd=scratch.path)
    for command in (["backup"], ["list"], ["restore", "--to", target], ["archive-push", "/x/000000010000000000000001"]):
        assert_says(pgvigil.run(*command, check=2), str(config), *pieces, hint=False)
    assert snapshot(scratch.path) == before


def test_missing_configuration(scratch):
    pgvigil = Pgvigil(scratch.path / "none.conf", cwd=scratch.path)
    for command in ("backup", "check", "list", "init"):
        assert_says(pgvigil.run(command, check=2), str(pgvigil.config), "init")
    nowhere = Pgvigil(None, cwd=scratch.path)
    named = nowhere.run("list", check=2, env={"PGVIGIL_CONFIG": str(scratch.path / "by-environment.conf")})
    assert_says(named, "by-environment.conf", "init")
    assert_says(Pgvigil("../etc", cwd=scratch.path).run("list", check=2), "../etc")
    assert_says(Pgvigil("no such", cwd=scratch.path).run("list", check=2), 'invalid configuration name "no such"')
    unreadable = write_file(scratch.path / "secret.conf", "[cluster]\nname = main\n", mode=0)
    assert_says(Pgvigil(unreadable, cwd=scratch.path).run("list", check=2), "Permission denied", "has mode 0000",
                f"runs as user {system.owner().pw_name}", "chgrp ", f"chmod 0640 '{unreadable}'")


def test_a_secret_that_everybody_can_read(scratch):
    """The configuration was freed twice by init."""
    config = write_file(scratch.path / "shared.conf", "[cluster]\nname = main\n[repository r]\nurl = s3://a/b\n"
                        "access_key_id = x\nsecret_access_key = y\n", mode=0o644)
    for command in (["init"], ["restore", "--to", scratch.path / "target"]):
        assert_says(Pgvigil(config, cwd=scratch.path).run(*command, check=2), "can be read by everybody", "chmod o=")


def test_wrong_command_lines(site):
    before = untouched(site)
    for arguments in (["bakcup"], ["backup", "--jbos", "2"], ["backup", "--jobs", "many"], ["backup", "extra"],
                      ["backup", "--jobs"], ["restore"], ["archive-push"], []):
        done = site.pgvigil.run(*arguments, check=2)
        assert done.stdout == ""
    site.pgvigil.run("archive-get", "one", check=126)  # 2 would tell PostgreSQL that there is no such segment
    assert_says(site.pgvigil.run("bakcup", check=2), '"bakcup"', '"backup"')
    assert_says(site.pgvigil.run("backup", "--jbos", "2", check=2), "--jbos", "--jobs")
    assert untouched(site) == before


# -- one site, many faults ------------------------------------------------------------------------------------------

@pytest.fixture
def faulty(site):
    """A site with a backup and WAL, and a way to try commands under a changed configuration."""
    site.backup()
    site.cluster.switch_wal()
    return site


def refused(site, rc, pieces, *commands, overrides=None, hint=True):
    """Every command ends with rc and says the pieces; neither repository nor target directory is changed."""
    config = site.write_config(overrides, path=site.scratch.path / "other.conf")
    pgvigil = Pgvigil(config, cwd=site.scratch.path)
    before = untouched(site)
    for command in commands:
        assert_says(pgvigil.run(*command, check=rc, timeout=60), *pieces, hint=hint)
    assert untouched(site) == before


def test_wrong_places(faulty):
    site = faulty
    target = ["restore", "--to", site.scratch.path / "target"]
    segment = sorted(p for p in (site.cluster.data / "pg_wal").iterdir() if len(p.name) == 24)[-1]
    push = ["archive-push", segment]

    # A data directory that is not one, or that is somebody else's.
    refused(site, 2, ["/etc"], ["backup"], overrides={"cluster": {"pgdata": "/etc"}})
    refused(site, 2, ["/nonexistent"], ["backup"], overrides={"cluster": {"pgdata": "/nonexistent"}})
    stranger = site.scratch.cluster("stranger", own_identity=True)
    refused(site, 2, [str(stranger.data), str(site.cluster.data)], ["backup"],
            overrides={"cluster": {"pgdata": stranger.data}}, hint=False)

    # Another cluster's WAL must not get in: its server pushes with this configuration.
    stranger.start()
    foreign = stranger.data / "pg_wal" / stranger.scalar("select pg_walfile_name(pg_switch_wal())")
    done = site.pgvigil.run("archive-push", foreign, check=False)
    assert done.rc not in (0, 126, 127), done.describe()
    assert_says(done, foreign.name, str(stranger.system_identifier), hint=False)
    stranger.stop()

    # The repository is not mounted, not there, or another one.
    empty = site.scratch.mkdir("empty")
    repository = {"repository local": {"url": f"file://{empty}"}}
    refused(site, 3, [str(empty), "mounted"], ["backup"], ["list"], target, push, overrides=repository)
    assert list(empty.iterdir()) == []
    absent = {"repository local": {"url": "file:///nonexistent/repository"}}
    refused(site, 3, ["/nonexistent/repository", "mounted"], ["backup"], ["list"], target, push, overrides=absent)
    other = site.scratch.mkdir("other-repository")
    fresh = site.write_config({"repository local": {"url": f"file://{other}"},
                               "cluster": {"state_dir": site.scratch.path / "fresh-state"}},
                              path=site.scratch.path / "fresh.conf")
    Pgvigil(fresh, cwd=site.scratch.path).run("init")
    refused(site, 3, [str(other), "not the one it was before", "pinned"], ["backup"], ["list"], target, push,
            ["init"], overrides={"repository local": {"url": f"file://{other}"}})

    # A server that cannot be reached, or does not let us in.
    conninfo = site.cluster.conninfo
    refused(site, 3, ["could not connect", "/nonexistent"], ["backup"],
            overrides={"cluster": {"conninfo": "host=/nonexistent"}})
    refused(site, 3, ['role "nobody-here"'], ["backup"],
            overrides={"cluster": {"conninfo": conninfo.replace("user=postgres", "user=nobody-here")}})
    site.cluster.sql("create role poor login")
    refused(site, 3, ["permission denied", "sql/role.sql"], ["backup"],
            overrides={"cluster": {"conninfo": conninfo.replace("user=postgres", "user=poor")}})
    refused(site, 2, ["conninfo"], ["backup"], overrides={"cluster": {"conninfo": "hots=/x"}}, hint=False)
    assert len(backups(site)) == 1


def test_wrong_password(site):
    site.cluster.sql("create role guarded superuser login password 'right'")
    hba = site.cluster.data / "pg_hba.conf"
    hba.write_text("local all guarded scram-sha-256\n" + hba.read_text())
    site.cluster.reload()
    conninfo = site.cluster.conninfo.replace("user=postgres", "user=guarded")
    refused(site, 3, ["password"], ["backup"], overrides={"cluster": {"conninfo": conninfo}})
    refused(site, 3, ["authentication failed"], ["backup"],
            overrides={"cluster": {"conninfo": f"{conninfo} password=wrong-secret"}})
    site.write_config({"cluster": {"conninfo": f"{conninfo} password=right"}})
    assert "right" not in site.backup().stderr


def test_a_repository_of_a_newer_format(faulty):
    identity = faulty.repository / "pgvigil.json"
    raw = identity.read_bytes()
    identity.write_bytes(_with_format(raw, 2))
    target = ["restore", "--to", faulty.scratch.path / "target"]
    refused(faulty, 2, ["format 2", "upgrade pgvigil"], ["backup"], ["list"], target, ["init"])
    identity.write_bytes(raw[:-40] + bytes(40))
    refused(faulty, 4, ["pgvigil.json"], ["backup"], ["list"], target, hint=False)
    identity.write_bytes(raw)
    faulty.backup()


def _with_format(stored, number):
    """The object with another format in its JSON, and the trailer that goes with it (see docs/FORMAT.md)."""
    note = {**json.loads(stored[:-128]), "format": number}
    text = json.dumps(note).encode() + b"\n"
    trailer = bytearray(stored[-128:])
    trailer[24:32] = len(text).to_bytes(8, "little")
    if int.from_bytes(trailer[32:40], "little") == len(stored) - 128:
        trailer[32:40] = len(text).to_bytes(8, "little")
    trailer[40:72] = hashlib.sha256(text).digest()
    trailer[124:128] = _crc32c(trailer[:124]).to_bytes(4, "little")
    return text + trailer


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.directory
def test_paths_that_cannot_be_written(faulty):
    """As the owner of the data: a read-only repository, state directory, or parent of the target."""
    site = faulty
    locked = site.scratch.mkdir("locked")
    locked.chmod(0o500)
    try:
        refused(site, 3, [str(locked), "Permission denied"], ["backup"],
                overrides={"cluster": {"state_dir": locked / "state"}}, hint=False)
        refused(site, 2, [str(locked / "target"), "Permission denied", "as root: install -d -o"],
                ["restore", "--to", locked / "target"])
        assert list(locked.iterdir()) == []
    finally:
        locked.chmod(0o700)
    folders = [path for path in (site.repository, *site.repository.rglob("*")) if path.is_dir()]
    modes = {path: path.stat().st_mode & 0o777 for path in folders}
    for path in folders:
        path.chmod(0o500)
    try:
        refused(site, 3, ["Permission denied", str(site.repository)], ["backup"])
        assert len(backups(site)) == 1
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    site.backup()


@pytest.mark.directory
def test_notes_that_are_no_files(faulty):
    """A FIFO in the place of any note in the state directory: nothing waits for whoever writes into it."""
    site = faulty
    site.pgvigil.run("verify")
    system.run(["mkdir", "-p", site.state_dir / "down", history := site.state_dir / "history" / str(site.cluster.system_identifier)])
    for path in (site.state_dir / "down" / "local", site.state_dir / "cache" / "unfinished", history / "00000002.history",
                 site.state_dir / "verify.sqlite-journal"):
        write_file(path, "")
    target = site.scratch.path / "target"
    notes = sorted(path for path in site.state_dir.rglob("*") if path.is_file())
    assert len(notes) > 9, notes
    for path in notes:
        for command in (["list"], ["verify"], ["archive-get", "00000002.history", site.scratch.path / "got"], ["expire"],
                        ["restore", "--to", target, "--target", "immediate"], ["backup"]):
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
            system.own(path)
            site.pgvigil.run(*command, check=False, timeout=60)
            shutil.rmtree(target, ignore_errors=True)
        path.unlink(missing_ok=True)
    site.backup()
    site.pgvigil.run("verify")


def test_impossible_restores(faulty):
    site = faulty
    target = site.scratch.path / "target"
    restore = ["restore", "--to", target]
    refused(site, 1, ["20200101T000000Z"], [*restore, "--backup", "20200101T000000Z"], hint=False)
    for wrong in (["--target-time", "2001-01-01 00:00:00+00"], ["--target-time", "2101-01-01 00:00:00+00"],
                  ["--target-lsn", "FF/0"], ["--target-lsn", "0/1"], ["--target-name", "never made"],
                  ["--target-xid", "4000000000"], ["--target-timeline", "77"]):
        config_unchanged = untouched(site)
        done = site.pgvigil.run(*restore, *wrong, check=False)
        assert done.rc in (1, 2), done.describe()
        assert_says(done, "error: ")
        assert not target.exists()
        assert untouched(site) == config_unchanged
    refused(site, 2, ["--target-lsn"], [*restore, "--target-lsn", "nonsense"], hint=False)
    refused(site, 2, ["--target"], [*restore, "--target-lsn", "0/5000000", "--target-xid", "700"], hint=False)
    # Never into something: a directory with contents, a running server's directory, a file.
    target.mkdir()
    system.own(target)
    write_file(target / "precious", "data")
    for place in (target, site.cluster.data, target / "precious"):
        before = snapshot(target)
        done = site.pgvigil.run("restore", "--to", place, check=False)
        assert done.rc in (1, 2, 3), done.describe()
        assert_says(done, str(place), hint=False)
        assert snapshot(target) == before
    assert site.cluster.scalar("select 1") == 1


def test_nothing_to_restore(site):
    target = site.scratch.path / "target"
    done = site.pgvigil.run("restore", "--to", target, check=1)
    assert_says(done, "no backup")
    assert not target.exists()
