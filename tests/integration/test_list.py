"""What list shows: backups, WAL and its gaps, what can be restored; and what it says of damage."""

import json
import subprocess
from datetime import datetime, timezone

import pytest
from backup_tools import assert_says, backups, only_backup
from harness import keys, parse_lsn, parse_segment, segment_name

pytestmark = pytest.mark.alone  # another repository would help out


def listed(site, *args, **kwargs):
    """(the only repository, its only cluster) of list --json."""
    found = site.pgvigil.json("list", *args, **kwargs)
    assert found["format"] == 1 and found["cluster"] == site.name
    (repository,) = found["repositories"]
    (cluster,) = repository["clusters"]
    return repository, cluster


def stored_segment(site, name):
    return next(site.repository.glob(f"*/*/wal/*/*/{keys.stored(name + '.zst')}"))


def moment(text):
    assert text.endswith("Z")
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)


# -- when all is well -----------------------------------------------------------------------------------------------

@pytest.mark.directory
def test_before_the_first_wal(make_site):
    site = make_site(start=False)
    done = site.pgvigil.run("list")
    assert "Nothing of cluster" in done.stdout and " backup` takes a backup" in done.stdout
    (repository,) = site.pgvigil.json("list")["repositories"]
    assert repository["clusters"] == [] and repository["error"] is None
    assert repository["url"] == f"file://{site.repository}" and len(repository["id"]) == 32
    assert site.pgvigil.run("verify", "--quiet").stderr == ""  # nothing of others is there, either


def test_a_mistyped_name(site):
    """Of which nothing is there: whoever looks is told what is."""
    segment = site.cluster.switch_wal(archived=True)
    hint = 'is "name" in section [cluster] right? The repository has nothing of a cluster "mian", but of "main"'
    site.write_config({"cluster": {"name": "mian"}})
    assert_says(site.pgvigil.run("list"), "nothing of this cluster is in repository", hint)
    assert_says(site.pgvigil.run("restore", "--to", site.scratch.path / "r", check=1), 'no backup of cluster "mian"', hint)
    assert_says(site.pgvigil.run("archive-get", segment, site.scratch.path / "got", check=126), "has no WAL at all", hint)
    assert_says(site.pgvigil.run("verify", "--quiet", check=1), "nothing of this cluster is in repository", hint,
                'nothing was verified: there is nothing of cluster "mian"')
    site.write_config({"retention": {"window": "1 d"}})
    assert_says(site.pgvigil.run("expire", "--quiet"), "nothing of this cluster is in repository", hint)
    site.write_config({"cluster": {"name": "main"}, "retention": None})
    assert site.pgvigil.run("list").stderr == ""


def test_before_the_first_backup(site):
    segment = site.cluster.switch_wal()
    done = site.pgvigil.run("list")
    assert segment in done.stdout and "none yet" in done.stdout and done.stderr == ""
    _, cluster = listed(site)
    assert cluster["backups"] == [] and cluster["restorable"] == [] and cluster["damage"] == []
    (timeline,) = cluster["wal"]["timelines"]
    assert timeline["ranges"][-1]["last"] == segment
    assert timeline["segments_before_backups"] == timeline["segments"]
    assert cluster["system_identifier"] == str(site.cluster.system_identifier)


def test_backups_and_wal(make_site):
    site = make_site(settings={"track_commit_timestamp": "on"})
    site.cluster.switch_wal()
    site.backup()
    site.cluster.switch_wal()
    site.backup()
    xid = site.cluster.scalar("select pg_current_xact_id()::text")
    committed = site.cluster.scalar("select pg_xact_commit_timestamp(%s::xid)", xid)
    last = site.cluster.switch_wal()
    _, cluster = listed(site)

    stored = backups(site)
    assert [b["id"] for b in cluster["backups"]] == list(stored)
    for backup in cluster["backups"]:
        record = stored[backup["id"]]
        for key in ("timeline", "start_lsn", "stop_lsn", "start_time", "stop_time", "database_bytes", "stored_bytes",
                    "pack_bytes", "file_count", "page_errors", "host", "data_directory", "version_num"):
            assert backup[key] == record[key], key
        assert backup["wal_complete"] is True and backup["first_missing_segment"] is None

    (timeline,) = cluster["wal"]["timelines"]
    assert timeline["gaps"] == [] and timeline["parent"] is None and len(timeline["ranges"]) == 1
    only = timeline["ranges"][0]
    segments = sorted(site.repository.glob(keys.stored("*/*/wal/*/*/????????????????????????.zst")))
    assert (only["first"], only["last"]) == (segments[0].name[:24], last) and only["segments"] == len(segments)
    assert only["stored_bytes"] == sum(path.stat().st_size for path in segments)
    assert timeline["segments_before_backups"] > 0

    (window,) = cluster["restorable"]
    first, second = cluster["backups"]
    assert (window["oldest_backup"], window["newest_backup"]) == (first["id"], second["id"])
    assert window["from"] == first["stop_time"] and window["timeline"] == 1
    assert parse_lsn(window["to_lsn"]) == (parse_segment(last, 1 << 20)[1] + 1) << 20
    assert moment(window["last_transaction"]) >= committed

    done = site.pgvigil.run("list")
    assert done.stderr == ""
    for piece in (first["id"], second["id"], first["start_lsn"], last, "older than every backup", "last transaction"):
        assert piece in done.stdout, piece
    assert "left timeline" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 160


def test_another_timeline(site):
    site.backup()
    standby = site.cluster.standby("standby")
    site.cluster.switch_wal()
    site.cluster.stop()
    standby.promote()
    last = standby.switch_wal()
    _, cluster = listed(site)
    old, new = cluster["wal"]["timelines"]
    assert (old["timeline"], new["timeline"], new["parent"]) == (1, 2, 1)
    assert new["ranges"][-1]["last"] == last and new["gaps"] == []
    (window,) = cluster["restorable"]
    assert window["timeline"] == 2
    assert parse_lsn(window["to_lsn"]) == (parse_segment(last, 1 << 20)[1] + 1) << 20
    assert f"\n    timeline 2 left timeline 1 at {new['parent_left_at']}\n" in site.pgvigil.run("list").stdout


def test_record_is_plain_json(site):
    site.backup()
    path = next(site.repository.glob("*/*/backup/*/backup.json"))
    text = subprocess.run(["head", "-c", "-128", path], stdout=subprocess.PIPE, check=True).stdout
    record = json.loads(text)
    assert record["run"] == path.parent.name and text.endswith(b"}\n")
    assert record == only_backup(site)


# -- when something is missing --------------------------------------------------------------------------------------

def test_gap(site):
    site.backup()
    site.cluster.switch_wal()
    lost = [site.cluster.switch_wal() for _ in range(2)]
    site.cluster.switch_wal()
    site.backup()
    for name in lost:
        stored_segment(site, name).unlink()
    done = site.pgvigil.run("list")
    assert "MISSING" in done.stdout and done.stderr == ""
    for name in lost:
        assert name in done.stdout
    _, cluster = listed(site)
    (timeline,) = cluster["wal"]["timelines"]
    assert timeline["gaps"] == [{"first": lost[0], "last": lost[1], "segments": 2}]
    assert len(timeline["ranges"]) == 2
    early, late = cluster["restorable"]
    assert parse_lsn(early["to_lsn"]) == parse_segment(lost[0], 1 << 20)[1] << 20
    assert early["newest_backup"] != late["oldest_backup"]


def test_backup_without_its_wal(site):
    site.backup()
    backup = only_backup(site)
    name = segment_name(1, parse_lsn(backup["start_lsn"]) >> 20, 1 << 20)
    stored_segment(site, name).unlink()
    done = site.pgvigil.run("list", check=4)
    assert_says(done, backup["run"], name, "cannot be restored", hint=False)
    assert f"no {name}" in done.stdout
    _, cluster = listed(site, check=4)
    assert cluster["backups"][0]["wal_complete"] is False
    assert cluster["backups"][0]["first_missing_segment"] == name
    assert cluster["restorable"] == []


# -- when something is wrong ----------------------------------------------------------------------------------------

def test_damaged_record(site):
    site.backup()
    site.backup()
    damaged, sound = sorted(site.repository.glob("*/*/backup/*/backup.json"))
    content = bytearray(damaged.read_bytes())
    content[20] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(content)
    done = site.pgvigil.run("list", check=4)
    assert_says(done, f"backup/{damaged.parent.name}/backup.json", hint=False)
    assert sound.parent.name in done.stdout
    _, cluster = listed(site, check=4)
    assert [b["id"] for b in cluster["backups"]] == [sound.parent.name]
    assert len(cluster["damage"]) == 1 and damaged.parent.name in cluster["damage"][0]


def test_unknown_repository(site):
    done = site.pgvigil.run("list", "--repository", "elsewhere", check=2)
    assert_says(done, "elsewhere", str(site.config))
    assert done.stdout == ""
    assert site.pgvigil.run("list", "--repository", "local").rc == 0


@pytest.mark.directory
def test_unmounted_repository(site):
    site.repository.rename(f"{site.repository}.away")
    site.repository.mkdir()
    done = site.pgvigil.run("list", check=3)
    assert_says(done, site.repository, "mounted")
    assert "could not be read" in done.stdout
    (repository,) = site.pgvigil.json("list", check=3)["repositories"]
    assert repository["clusters"] == [] and str(site.repository) in repository["error"]


def test_full_output(site):
    done = subprocess.run(["sh", "-c", 'exec "$@" > /dev/full', "-", *map(str, site.pgvigil.command), "list"],
                          stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3 and "standard output" in done.stderr


@pytest.mark.alone
@pytest.mark.directory
def test_what_verify_found(site):
    """Of each backup, until verify finds it mended; of those that came later nothing is known."""
    site.backup()
    first = only_backup(site)["run"]
    done = site.pgvigil.run("list")
    assert "never verified by this host" in done.stdout
    _, cluster = listed(site)
    assert [(b["verified"], b["damaged_objects"]) for b in cluster["backups"]] == [(None, None)]
    site.pgvigil.run("verify")
    assert "nothing was wrong when this host verified on" in site.pgvigil.run("list").stdout
    pack = next(site.repository.glob(f"*/*/pack/{first}/*"))
    away = pack.with_name("away")
    pack.rename(away)
    assert site.pgvigil.run("list").stderr == ""
    site.pgvigil.run("verify", check=4)
    site.pgvigil.run("backup", "--full")
    done = site.pgvigil.run("list", check=4)
    assert "cannot be restored: 1 damaged" in done.stdout and "1 object was damaged or missing when" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 160
    assert_says(done, f"backup {first} of cluster", "verify found 1 object damaged or missing that it needs",
                f"`pgvigil -c {site.config} verify --repository local`")
    assert done.stderr.count("error:") == 1
    _, cluster = listed(site, check=4)
    early, late = cluster["backups"]
    assert early["damaged_objects"] == 1 and moment(early["verified"]) > moment(early["stop_time"])
    assert (late["verified"], late["damaged_objects"]) == (None, None)
    away.rename(pack)
    site.pgvigil.run("verify")
    _, cluster = listed(site)
    assert [b["damaged_objects"] for b in cluster["backups"]] == [0, 0]
    (known,) = (site.state_dir / "damage").iterdir()
    known.write_text("nothing")
    done = site.pgvigil.run("list")
    assert f'warning: "{known}" is damaged' in done.stderr and "never verified by this host" in done.stdout
