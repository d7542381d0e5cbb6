"""The independent reader: what it takes out of a repository is what `pgvigil restore` makes, byte for byte."""

import os
import re
import shutil
from pathlib import Path

import pytest
from harness import Ledger, assert_restored, compare_directories, keys, parse_lsn, run, wait_recovery, write_recovery

READER = Path(__file__).resolve().parents[2] / "scripts" / "pgvigil-reader"


def identity():
    """What the reader is told of the key to an encrypted repository."""
    return ["--identity", keys.usual()[0]] if keys.wanted() else []


@pytest.fixture
def reader(scratch):
    """The script where the servers' owner can read it; called with arguments it runs."""
    program = scratch.mkdir("bin") / "pgvigil-reader"
    shutil.copy(READER, program)
    for path in (program.parent, program):
        path.chmod(0o755)

    def call(command, *args, **kwargs):
        return run(["/usr/bin/python3", program, command, *identity(), *args], **kwargs)

    call.program = program
    return call


@pytest.mark.parametrize("encryption", ("0", "1"), ids=("plain", "encrypted"))
def test_the_same_as_restore(monkeypatch, make_site, reader, encryption):
    monkeypatch.setenv(keys.VARIABLE, encryption)
    site = make_site()
    cluster = site.cluster
    cluster.create_tablespace("beside")
    cluster.sql("create table in_beside tablespace beside as select i, repeat('x', 100) as x"
                " from generate_series(1, 5000) as i")
    cluster.sql("create table gone as select generate_series(1, 100) as i")
    cluster.sql("create unlogged table unlogged (i int)")
    ledger = Ledger.create(cluster)
    with ledger.running():
        ledger.wait(40)
        site.backup()
        ledger.wait(40)
    cluster.switch_wal(archived=True)
    oracle = site.oracle(ledger)
    cluster.stop()

    location = os.readlink(next((cluster.data / "pg_tblspc").iterdir()))
    places = {name: site.scratch.mkdir(f"{name}-space") for name in ("restore", "reader")}
    site.pgvigil.run("restore", "--to", site.scratch.path / "by-restore", "--tablespace",
                     f"{location}={places['restore']}")
    reader("restore", site.repository, "--to", site.scratch.path / "by-reader", "--verify", "--tablespace",
           f"{location}={places['reader']}")
    # What restore writes itself: recovery settings, the manifest of the server's tools.
    ours = re.compile(r"(only in .*: )?(postgresql\.auto\.conf|recovery\.signal|backup_manifest|tablespace_map|pg_tblspc/\d+)\b")
    differences = [one for one in compare_directories(site.scratch.path / "by-restore", site.scratch.path / "by-reader")
                   if not ours.match(one)]
    assert not differences
    assert not compare_directories(places["restore"], places["reader"])

    # It starts, with WAL through the reader.
    data = site.scratch.path / "by-reader"
    write_recovery(data, f'/usr/bin/python3 {reader.program} wal {" ".join(map(str, identity()))} {site.repository} "%f" "%p"', archive_mode="off")
    restored = site.scratch.adopt(data, "by-reader")
    restored.start()
    wait_recovery(restored)  # connections are accepted before it has come to its end
    (backup,) = site.pgvigil.json("list")["repositories"][0]["clusters"][0]["backups"]
    assert restored.scalar("select count(*) from in_beside") == 5000
    assert_restored(restored, oracle.expect(start=parse_lsn(backup["start_lsn"])), ledger=ledger)


def test_what_it_says(site, reader):
    site.backup()
    listed = reader("list", site.repository).stdout
    (backup,) = site.pgvigil.json("list")["repositories"][0]["clusters"][0]["backups"]
    assert backup["id"] in listed and str(site.cluster.system_identifier) in listed
    target = site.scratch.path / "r"
    assert "has no tablespace" in reader("restore", site.repository, "--to", target, "--tablespace", "/x=/y",
                                         check=2).stderr
    assert "there is no backup" in reader("restore", site.repository, "--to", target, "--backup", "20200101T000000Z",
                                          check=1).stderr
    assert "not a repository" in reader("list", site.scratch.path, check=2).stderr
    assert reader("wal", site.repository, "0000000100000000000000F0", site.scratch.path / "w", check=1).stderr
    target.mkdir()
    (target / "something").write_text("")
    assert "is not empty" in reader("restore", site.repository, "--to", target, check=2).stderr


@pytest.mark.parametrize("part", ("pack/*/*", "backup/*/manifest*", "backup/*/refs*", "backup/*/backup.json"))
def test_damage_is_refused(site, reader, part):
    site.backup()
    for path in site.repository.glob(f"main/*/{part}"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    target = site.scratch.path / "r"
    done = reader("restore", site.repository, "--to", target, check=4)
    assert "is damaged" in done.stderr and part.split("/")[0] in done.stderr
    assert not (target / "global" / "pg_control").exists()


def test_damaged_wal_stops_recovery(site, reader):
    segment = site.cluster.switch_wal(archived=True)
    (path,) = site.repository.rglob(keys.stored(f"{segment}.zst"))
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    assert "is damaged" in reader("wal", site.repository, segment, site.scratch.path / "w", check=126).stderr
    assert not (site.scratch.path / "w").exists()
