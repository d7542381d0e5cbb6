"""Several repositories: one read into all, outages, debts, levelling; each one stands alone afterwards."""

import re
import time

import pytest
from backup_tools import assert_says, on_a_terminal, steps
from harness import (Ledger, Oracle, Site, assert_restored, decode_repository, format_lsn, keys, own, run, s3,
                     wait_recovery, write_file)
from harness.proxy import Exchange, FaultProxy, answer, stall


def make(scratch, names=("west", "east"), archive=None, sections=None, **kwargs):
    """A site with a directory for each name; site.places tells where."""
    places = {name: scratch.mkdir(f"{name}-place") for name in names}
    config = {"repository local": None, "archive": archive,
              **{f"repository {name}": {"url": f"file://{place}", **((sections or {}).get(name) or {})}
                 for name, place in places.items()}}
    site = Site(scratch, config=config, **kwargs)
    site.places = places
    return site


def objects(place):
    """{name: bytes} of all that is stored, but for what is each repository's own."""
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*")
            if path.is_file() and path.name != "pgvigil.json" and "/run/" not in str(path) and ".tmp" not in path.parts}


def hide(place):
    place.rename(place.with_name(place.name + "-gone"))


def show(place):
    place.with_name(place.name + "-gone").rename(place)


def forget_outages(site):
    """As if a minute had passed."""
    run(["rm", "-rf", site.state_dir / "down"])


def owed(site, name):
    return next(one["owed_wal_files"] for one in site.pgvigil.json("list", check=False)["repositories"]
                if one["name"] == name)


def listed(site, name):
    """The backups that a repository has, oldest first."""
    return [backup["id"] for one in site.pgvigil.json("list", check=False)["repositories"] if one["name"] == name
            for cluster in one["clusters"] for backup in cluster["backups"]]


def restore_from(site, name, target):
    """From that repository alone, the others being out of reach."""
    others = [other for other in site.places if other != name]
    for other in others:
        hide(site.places[other])
    try:
        return site.restore(target, "--repository", name, *(arg for other in others for arg in ("--without", other)))
    finally:
        for other in others:
            show(site.places[other])


def test_one_read_into_all(scratch):
    site = make(scratch, ("west", "east", "north"), {"require": 3})
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(40)
        site.backup("--jobs", "2")
        ledger.wait(40)
    site.cluster.switch_wal()
    assert objects(site.places["west"]) == objects(site.places["east"]) == objects(site.places["north"])
    assert [len(one["clusters"][0]["backups"]) for one in site.pgvigil.json("list")["repositories"]] == [1, 1, 1]
    oracle = Oracle(decode_repository(site.places["west"], "main"), ledger=ledger, bin_dir=site.cluster.bindir)
    site.cluster.stop()
    for name in site.places:
        restored = restore_from(site, name, f"from-{name}")
        assert_restored(restored, oracle.expect(start=restored.backup_start), ledger=ledger)
        restored.stop("immediate")


def test_an_outage_while_archiving(scratch):
    """Pushes go on, the debt is noted, and paid by the pushes behind it; nobody does anything for that."""
    site = make(scratch)
    site.backup()
    site.cluster.switch_wal(archived=True)  # after the backup's history file
    hide(site.places["east"])
    for _ in range(4):
        site.cluster.switch_wal(archived=True)
    assert owed(site, "east") == 4
    log = site.cluster.log_text()
    assert 'repository "east"' in log and 'archiving continues without "east"' in log
    # The server was never kept waiting by a failure.
    assert site.cluster.scalar("select failed_count from pg_stat_archiver") == 0
    show(site.places["east"])
    forget_outages(site)
    for _ in range(3):
        site.cluster.switch_wal(archived=True)
    assert owed(site, "east") == 0
    assert objects(site.places["west"]) == objects(site.places["east"])


def test_copy_just_after_an_outage(scratch):
    """What it brings is owed no longer, although a push has found the repository down within the last minute."""
    site = make(scratch)
    site.backup()
    hide(site.places["east"])
    for _ in range(2):
        site.cluster.switch_wal(archived=True)
    show(site.places["east"])
    assert owed(site, "east") > 0
    site.pgvigil.run("copy", "--to", "east")
    assert owed(site, "east") == 0


def test_check_just_after_an_outage(scratch):
    """Whoever answers again gets the segment at once, and what it was owed; nobody waits for the next push."""
    site = make(scratch)
    hide(site.places["east"])
    site.cluster.switch_wal(archived=True)
    show(site.places["east"])
    assert owed(site, "east") == 1
    assert set(steps(site.pgvigil.run("check")).values()) == {"ok"}
    assert owed(site, "east") == 0
    assert objects(site.places["west"]) == objects(site.places["east"])


@pytest.mark.parametrize("name", ("west", "east"))
def test_what_a_push_left_out_is_brought_by_who_waits_for_it(scratch, name):
    """One is taken for down by each push: check and backup see its debt, and pay it. That is not the way that check is
    to prove."""
    site = make(scratch)
    command = site.cluster.scalar("show archive_command")
    down = site.state_dir / "down"
    site.cluster.configure(archive_command=f"mkdir -p {down} && touch {down / name} && {command}")
    site.cluster.reload()
    site.cluster.switch_wal(archived=True)
    assert owed(site, name) == 1
    done = site.pgvigil.run("check")
    assert_says(done, "which it was owed", 'archive_command did not store WAL segment 0000000100', f'"{name}": this command')
    way = {title: state for title, state in steps(done).items() if "reaches" in title}
    assert sorted(way.values()) == ["ok", "warning"] and way[f'WAL reaches repository "{name}"'] == "warning", way
    assert "not in repository" not in site.backup(timeout=60).stderr


def test_check_does_not_wait_for_what_copy_brings(scratch):
    site = make(scratch, ("west", "later"), sections={"later": {"copy": "async"}})
    done = site.pgvigil.run("check")
    assert steps(done)['repository "later"'] == "ok" and steps(done)['WAL reaches repository "west"'] == "ok"
    assert re.search(r'skipped +WAL reaches repository "later": .*`pgvigil .*copy`', done.stdout)


def test_an_outage_of_as_many_as_are_required(scratch):
    site = make(scratch, archive={"require": 2})
    site.cluster.configure(archive_command="/bin/false")
    site.cluster.reload()
    name = site.cluster.scalar("select pg_walfile_name(pg_current_wal_lsn())")
    hide(site.places["east"])
    done = site.pgvigil.run("archive-push", site.cluster.data / "pg_wal" / name, check=3)
    assert done.stderr.count('repository "east"') == 1, done.stderr
    assert_says(done, 'detail: it is in 1 of the repositories, but "require" asks for 2')
    site.places["east"].mkdir()  # as a mount point is without its file system
    own(site.places["east"])
    done = site.pgvigil.run("archive-push", site.cluster.data / "pg_wal" / name, check=3)
    assert "pgvigil.json" in done.stderr and done.stderr.count('repository "east"') == 1, done.stderr
    site.places["east"].rmdir()
    show(site.places["east"])
    site.pgvigil.run("archive-push", site.cluster.data / "pg_wal" / name)
    assert owed(site, "east") == 0


def test_a_debt_that_cannot_be_noted_is_no_success(scratch):
    site = make(scratch)
    site.cluster.configure(archive_command="/bin/false")
    site.cluster.reload()
    path = site.cluster.data / "pg_wal" / site.cluster.scalar("select pg_walfile_name(pg_current_wal_lsn())")
    hide(site.places["east"])
    write_file(site.state_dir / "debt", "in the way")
    done = site.pgvigil.run("archive-push", path, check=False)
    assert done.rc in (2, 3) and "is owed" in done.stderr


def test_another_content_is_refused_whoever_has_it(scratch):
    site = make(scratch)
    site.cluster.configure(archive_command="/bin/false")
    site.cluster.reload()
    name = site.cluster.scalar("select pg_walfile_name(pg_current_wal_lsn())")
    data = (site.cluster.data / "pg_wal" / name).read_bytes()
    paths = []
    for number, content in enumerate((data, data[:-4] + b"else")):
        path = site.scratch.mkdir(f"copy-{number}") / name
        write_file(path, "")
        path.write_bytes(content)
        paths.append(path)
    hide(site.places["west"])
    site.pgvigil.run("archive-push", paths[0])
    show(site.places["west"])
    forget_outages(site)
    done = site.pgvigil.run("archive-push", paths[1], check=4)
    assert_says(done, "with another content", "east")
    assert not list(site.places["west"].rglob("*.zst*")), "it was stored where it could be"


def test_an_outage_during_a_backup(scratch):
    """One repository is gone for a backup: the other has it whole; copy brings it back, and then both have it."""
    site = make(scratch)
    first = site.backup()
    assert "not in repository" not in first.stderr
    hide(site.places["east"])
    second = site.backup("--quiet", check=3)
    assert_says(second, 'the backup is not in repository "east"', f"`pgvigil -c {site.config} copy --to east` brings it there",
                "is in 1 of 2 repositories only")
    assert second.stderr.splitlines()[-2].startswith("pgvigil: error: backup 2"), second.stderr
    show(site.places["east"])
    listed = {one["name"]: one for one in site.pgvigil.json("list")["repositories"]}
    assert len(listed["west"]["clusters"][0]["backups"]) == 2
    assert len(listed["east"]["clusters"][0]["backups"]) == 1
    done = site.pgvigil.run("copy", "--to", "east")
    assert re.search(r'"east" got \d+ objects \(.*, 1 backup\)', done.stderr)
    assert objects(site.places["west"]) == objects(site.places["east"])
    assert 'has all that "west" has' in site.pgvigil.run("copy", "--to", "east").stderr
    site.cluster.stop()
    one = restore_from(site, "east", "from-east")
    one.stop()


def test_an_async_copy_follows(scratch):
    site = make(scratch, ("west", "later"), sections={"later": {"copy": "async"}})
    site.backup()
    assert not objects(site.places["later"])
    site.cluster.switch_wal(archived=True)
    site.pgvigil.run("copy")
    assert objects(site.places["later"]) == objects(site.places["west"])
    # Interrupted and gone on with: every state on the way lists whole backups only.
    site.backup()
    site.cluster.switch_wal(archived=True)  # after the backup's history file
    run(["rm", "-r", *[path for path in (site.places["later"] / "main").glob("*/wal")]])
    site.pgvigil.run("copy", "--from", "west", "--to", "later", "--jobs", "1")
    assert objects(site.places["later"]) == objects(site.places["west"])


def test_copy_shows_how_far_it_is_and_goes_on_from_there(scratch):
    """On a terminal; what was there when it was interrupted is not brought again."""
    site = make(scratch, ("west", "later"), sections={"later": {"copy": "async", "rate_limit": "2 MB"}})
    site.cluster.sql("create table noise as select sha512(i::text::bytea) from generate_series(1, 40000) i")
    site.backup()
    site.cluster.switch_wal(archived=True)
    there = site.places["later"]

    def stored():
        return {name: (there / name).stat().st_mtime_ns for name in objects(there)}

    rc, shown = on_a_terminal(site.pgvigil, "copy", "--jobs", "1", until=r"[1-9]\d* %")
    assert rc == 3 and "\r" in shown and "copying to later: " in shown and "interrupted" in shown, (rc, shown)
    before = stored()
    assert before and not any("/backup/" in name for name in before)
    site.write_config({"repository later": {"rate_limit": None}})
    done = site.pgvigil.run("copy")
    after = stored()
    assert objects(there) == objects(site.places["west"]) and before.items() <= after.items()
    assert f'"later" got {len(after) - len(before)} objects' in done.stderr


def test_copy_brings_what_the_target_keeps(scratch):
    """Not what its retention would let go at once; but what a person keeps, for good."""
    site = make(scratch, ("west", "later"), sections={"later": {
        "copy": "async", "retention_window": "1 s", "retention_minimum": "1"}})
    ids = []
    for _ in range(3):
        site.backup()
        site.cluster.switch_wal(archived=True)
        time.sleep(1.1)
        ids.append(max(path.parent.name for path in site.places["west"].rglob("backup.json")))
    site.pgvigil.run("keep", ids[0])
    site.pgvigil.run("copy")
    there = site.places["later"]
    assert sorted(path.parent.name for path in there.rglob("backup.json")) == [ids[0], ids[2]]
    assert behind(site, "later")["objects"] == 0
    gone = {name for name in objects(site.places["west"]) if "/wal/" in name} - set(objects(there))
    assert gone, "WAL that only the second one needs"
    assert 'has all that "west" has' in site.pgvigil.run("copy").stderr
    fates = {one["id"]: one["fate"] for repository in site.pgvigil.json("expire", "--dry-run")["repositories"]
             if repository["name"] == "later" for one in repository["clusters"][0]["backups"]}
    assert set(fates) == {ids[0], ids[2]} and set(fates.values()) == {"stays"}
    site.cluster.stop()
    for number in (0, 2):
        site.restore(f"r{number}", "--repository", "later", "--backup", ids[number], "--target", "immediate").stop()


def behind(site, name):
    return next(one["behind"] for one in site.pgvigil.json("list", check=False)["repositories"] if one["name"] == name)


def test_how_far_one_is_behind(scratch):
    """In objects as copy would bring them, and in time."""
    site = make(scratch, ("west", "later"), sections={"later": {"copy": "async"}})
    site.backup()
    site.cluster.switch_wal(archived=True)  # after the backup's history file
    empty = site.pgvigil.run("list").stdout
    assert " copy` brings what the other repositories have." in empty and " backup` takes" not in empty
    site.pgvigil.run("copy")
    backup = next(site.places["later"].rglob("backup.json"))
    backup.rename(site.scratch.path / "away")
    assert "none yet: `" in (text := site.pgvigil.run("list").stdout) and " copy` brings those of the others" in text
    (site.scratch.path / "away").rename(backup)
    assert "Level with the others" in site.pgvigil.run("list").stdout
    level = behind(site, "later")
    assert level == {"ahead": None, "objects": 0, "bytes": 0, "backups": 0, "wal_files": 0, "seconds": 0}

    site.backup()
    site.cluster.sql("create table t (n int)")
    site.cluster.sql("select pg_sleep(2)")
    site.cluster.sql("insert into t values (1)")
    site.cluster.switch_wal(archived=True)
    missing = objects(site.places["west"]).keys() - objects(site.places["later"]).keys()
    one = behind(site, "later")
    assert one["ahead"] == "west" and one["objects"] == len(missing) and one["backups"] == 1
    assert one["wal_files"] == sum("/wal/" in name for name in missing) and 2 <= one["seconds"] < 60
    assert one["bytes"] >= sum(len(data) for name, data in objects(site.places["west"]).items()
                               if name in missing and ("/wal/" in name or "/pack/" in name))
    assert behind(site, "west")["objects"] == 0
    text = site.pgvigil.run("list").stdout
    assert re.search(rf'Behind "west" by {len(missing)} objects .*; 1 backup and {one["wal_files"]} WAL files', text)
    assert re.search(r"in time by [\d.]+ s", text)
    # One that cannot be read is no one to compare with, and nothing to wait for.
    hide(site.places["later"])
    assert behind(site, "west") is None
    show(site.places["later"])
    assert site.pgvigil.json("list", "--repository", "west")["repositories"][0]["behind"] is None


def test_copy_takes_from_whoever_has_it(scratch):
    """What one source lacks or has damaged comes from another; what none has holds up nothing else."""
    site = make(scratch, ("west", "east", "later"), sections={"later": {"copy": "async"}})
    hide(site.places["east"])
    site.backup(check=3)
    show(site.places["east"])
    forget_outages(site)
    hide(site.places["west"])
    second = site.backup(check=3)
    assert 'not in repository "west"' in second.stderr
    show(site.places["west"])
    site.pgvigil.run("copy")
    assert objects(site.places["west"]) == objects(site.places["east"]) == objects(site.places["later"])

    # A pack that west has damaged.
    first = sorted((site.places["west"] / "main").glob("*/backup/*"))[0].name
    run(["rm", "-r", *site.places["later"].glob(f"main/*/pack/{first}"), *site.places["later"].glob(f"main/*/backup/{first}")])
    pack = sorted(site.places["west"].glob(f"main/*/pack/{first}/*"))[0]
    whole = pack.read_bytes()
    pack.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    done = site.pgvigil.run("copy", "--to", "later")
    assert 'is damaged; repository "east" had it' in done.stderr
    assert objects(site.places["later"]) == objects(site.places["east"])

    # A WAL segment that nobody has whole: the backup that needs it is not copied, the other one is.
    run(["rm", "-r", *(site.places["later"] / "main").iterdir()])
    info = next(one for one in site.pgvigil.json("list", "--repository", "west")["repositories"][0]["clusters"][0]["backups"]
                if one["id"] == first)
    segment = site.cluster.scalar("select pg_walfile_name(%s)", info["start_lsn"])
    for name in ("west", "east"):
        (path,) = site.places[name].rglob(keys.stored(f"{segment}.zst"))
        data = path.read_bytes()
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    done = site.pgvigil.run("copy", "--to", "later", check=4)
    assert f"{segment}.zst" in done.stderr and f"could not copy backup {first}" in done.stderr
    assert re.search(r'repository "later" got \d+ objects \(.*, 1 backup\) from "west"; 1 WAL file and 1 backup could not be copied\n',
                     done.stderr)
    assert 'from "east"; 1 WAL file and 1 backup could not be copied\n' in done.stderr
    assert [path.parent.name for path in site.places["later"].rglob("backup.json")] == \
        [sorted((site.places["west"] / "main").glob("*/backup/*"))[1].name]


def test_two_hosts_that_took_the_same_id(scratch):
    """Each backup stays what it is where it is; neither passes for the other."""
    site = make(scratch)
    ahead = f"{int(time.time()) + 1000}\n"
    write_file(site.state_dir / "last-run", ahead)
    site.backup()
    one = next(site.places["east"].rglob("backup.json")).parent
    run(["rm", "-r", one, *site.places["east"].glob(f"main/*/pack/{one.name}"), *site.places["east"].glob("main/*/run")])
    hide(site.places["west"])
    write_file(site.state_dir / "last-run", ahead)
    site.backup(check=3)
    show(site.places["west"])
    done = site.pgvigil.run("copy", check=4)
    assert_says(done, f"backup {one.name} in repository", "is another one than that in repository",
                'from "east"; 1 backup could not be copied')
    assert "is another one" in site.pgvigil.run("list").stderr


def test_copy_refuses_damage(scratch):
    site = make(scratch, ("west", "later"), sections={"later": {"copy": "async"}})
    site.backup()
    pack = sorted(site.places["west"].rglob("pack/*/*"))[0]
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(data)
    done = site.pgvigil.run("copy", check=4)
    assert "is damaged" in done.stderr and "could not copy backup" in done.stderr
    assert 'from "west"; 1 backup could not be copied\n' in done.stderr
    assert not list(site.places["later"].rglob("backup.json"))


def test_copy_of_a_backup_whose_record_is_damaged(scratch):
    """What it needs cannot be told: where another one has the record the backup comes from there, else it is left out."""
    site = make(scratch, ("west", "east", "later"), sections={"later": {"copy": "async"}})
    site.backup()
    for name, rc in (("west", 0), ("east", 4)):
        (record,) = site.places[name].rglob("backup.json")
        data = bytearray(record.read_bytes())
        data[10] ^= 1
        record.write_bytes(data)
        done = site.pgvigil.run("copy", "--to", "later", check=rc)
        assert 'backup.json" in repository "west" is damaged' in done.stderr
        assert ("could not be copied" in done.stderr) == (rc != 0)
        listed = list(site.places["later"].rglob("backup.json"))
        assert len(listed) == (rc == 0)
        run(["rm", "-f", *listed])
    assert done.stderr.count("; 1 backup could not be copied") == 2


@pytest.mark.parametrize("args,words", (
    (("--to", "nobody"), 'there is no repository "nobody"'),
    (("--from", "nobody"), 'there is no repository "nobody"'),
    (("--from", "west", "--to", "west"), "to itself")))
def test_copy_of_nothing(scratch, args, words):
    site = make(scratch, start=False, init=False)
    assert words in site.pgvigil.run("copy", *args, check=2).stderr


def test_archive_get_takes_what_is_whole(scratch):
    """Damaged or missing in one repository: the next one has it."""
    site = make(scratch)
    segment = site.cluster.switch_wal(archived=True)
    got = scratch.path / "got"
    (damaged,) = site.places["west"].rglob(keys.stored(f"{segment}.zst"))
    whole = damaged.read_bytes()
    for content in (whole[:-200] + b"x" + whole[-199:], b"", None):
        if content is None:
            damaged.unlink()
        else:
            damaged.write_bytes(content)
        site.pgvigil.run("archive-get", segment, got)
        got.unlink()


@pytest.mark.parametrize("part", ("pack/*/*", "backup/*/manifest*", "backup/*/refs*"))
@pytest.mark.parametrize("how", ("missing", "damaged"))
def test_restore_takes_what_is_whole(scratch, part, how):
    site = make(scratch)
    site.cluster.sql("create table t as select generate_series(1, 5000) as i")
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    for path in site.places["west"].glob(f"main/*/{part}"):
        if how == "missing":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 3] ^= 1
            path.write_bytes(data)
    data = scratch.path / "r"
    done = site.pgvigil.run("restore", "--to", data)
    assert 'repository "east" had it' in done.stderr
    restored = scratch.adopt(data, "r")
    wait_recovery(restored.start(wait=False))
    assert restored.scalar("select count(*) from t") == 5000
    # From that one alone it is refused, and says so.
    assert "west" in site.pgvigil.run("restore", "--to", scratch.path / "alone", "--repository", "west",
                                      check=4).stderr
    # Both have the same wrong: nothing helps.
    for path in site.places["east"].glob(f"main/*/{part}"):
        path.unlink()
    assert site.pgvigil.run("restore", "--to", scratch.path / "none", check=4).stderr


def test_a_history_is_asked_for_again_and_again(scratch):
    """That one repository has it damaged, or not at all, is said once."""
    site = make(scratch)
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    promoted = site.restore("promoted", "--take-over")
    promoted.switch_wal(archived=True)
    promoted.stop()
    (history,) = site.places["west"].rglob("00000002.history.zst")
    whole = history.read_bytes()
    history.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    for number, said in enumerate(("is damaged: ", "there is no ")):
        done = site.pgvigil.run("restore", "--to", scratch.path / f"restored-{number}")
        assert done.stderr.count('repository "east" had it') == done.stderr.count("00000002.history") == 1, done.describe()
        assert said in done.stderr
        history.unlink(missing_ok=True)


def test_a_restore_is_noted_wherever_it_may_read(scratch):
    """An expire in any of them leaves alone what it needs; one that cannot be written to is read all the same."""
    site = make(scratch, ("west", "east", "north"))
    site.backup()
    backup = next(site.places["west"].glob("main/*/backup/*/backup.json")).parent.name
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    folders = [path for path in (site.places["north"], *site.places["north"].rglob("*")) if path.is_dir()]
    modes = {folder: folder.stat().st_mode & 0o7777 for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = site.pgvigil.run("restore", "--to", scratch.path / "r")
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert_says(done, 'the restore is not noted in repository "north"')
    assert done.stderr.count("warning") == 1, done.stderr
    for name, count in (("west", 1), ("east", 1), ("north", 0)):
        noted = [path.parent for path in site.places[name].glob("main/*/run/*/begin.json")
                 if b'"restore"' in (note := path.read_bytes()) and backup.encode() in note]
        assert len(noted) == count and all(list(run_.glob("end*")) for run_ in noted), (name, noted)


def test_restore_where_each_lacks_wal(scratch):
    """Recovery takes each segment from whoever has it: so what can be reached is what they have between them."""
    site = make(scratch)
    site.backup()
    site.cluster.sql("create table t (i int)")
    segments = []
    for number in range(4):
        site.cluster.sql("insert into t values (%s)", number)
        point = site.cluster.restore_point(f"point {number}")
        segments.append(site.cluster.switch_wal(archived=True))
    site.cluster.stop()
    for name, number in (("west", 1), ("west", 3), ("east", 2)):
        (gone,) = site.places[name].rglob(keys.stored(f"{segments[number]}.zst"))
        gone.unlink()
    for number, target in enumerate(([], ["--target-name", "point 3"], ["--target-lsn", format_lsn(point)])):
        restored = site.restore(f"restored-{number}", *target)
        assert restored.scalar("select count(*) from t") == 4
        restored.stop()
    place = scratch.path / "refused"
    for name, number in (("west", 1), ("east", 2)):
        alone = site.pgvigil.run("restore", "--to", place, "--repository", name, check=1)
        assert_says(alone, segments[number], f'is missing from repository "{name}", where later ones are')
    (gone,) = site.places["east"].rglob(keys.stored(f"{segments[1]}.zst"))
    gone.unlink()
    assert_says(site.pgvigil.run("restore", "--to", place, check=1), segments[1],
                'is missing from repositories "west" and "east", where later ones are')
    assert not place.exists()


def part(site, work):
    """The server and its clone each go on by work(region), cut off from the other region."""
    site.cluster.stop()
    twin = site.cluster.snapshot()
    for own_region, other in (("west", "east"), ("east", "west")):
        hide(site.places[other])
        site.cluster.start()
        work(own_region)
        site.cluster.stop()
        show(site.places[other])
        run(["rm", "-rf", site.state_dir / "debt"])
        forget_outages(site)
        if own_region == "west":
            site.cluster.set_back(twin)


def move_away(place, parted):
    """Timeline 1's WAL from this segment on, as the hints ask for."""
    for path in sorted(place.rglob("00000001????????????????*.zst*")):
        if path.name >= parted:
            path.unlink()


def test_two_servers_under_one_name(scratch):
    """One and its clone, each cut off from one region, archive different WAL under the same names."""
    site = make(scratch)
    site.backup()
    site.cluster.sql("create table t (i int)")
    moment = site.cluster.scalar("select clock_timestamp()::text")
    parted = site.cluster.restore_point("parted")
    site.cluster.switch_wal(archived=True)
    site.cluster.sql("insert into t values (0)")
    site.cluster.switch_wal(archived=True)

    def work(region):
        for _ in range(2 if region == "west" else 4):
            site.cluster.sql("insert into t select %s from generate_series(1, 1000)", 1 if region == "west" else 2)
            site.cluster.switch_wal(archived=True)
        if region == "east":
            site.backup(check=3)

    since = site.cluster.scalar("select clock_timestamp()::text")
    part(site, work)
    place = scratch.path / "refused"
    first, last = listed(site, "east")
    # The clone's own backup begins where the other's WAL has ended; what came before it tells.
    for args in ((), ("--backup", last), ("--backup", first), ("--target-time", "2100-01-01 00:00:00+00"),
                 ("--target-time", since)):
        done = site.pgvigil.run("restore", "--to", place, *args, check=False)
        assert done.rc == 4 and not place.exists(), done.stderr
        assert_says(done, 'repositories "west" and "east" have different files of the name "0000000100',
                    "--without east restores from what was archived into \"west\"")
    # Nor does copy make one of two.
    before = {name: objects(site.places[name]) for name in site.places}
    done = site.pgvigil.run("copy", check=4)
    assert_says(done, 'repositories "west" and "east" have different files of the name "0000000100',
                "nothing is copied, as that would make one WAL of two")
    assert {name: objects(site.places[name]) for name in site.places} == before
    assert_says(site.pgvigil.run("list", check=False), "nothing is copied, as that would make one WAL of two")
    # What lies before they parted is the same everywhere.
    for target in (("--target-lsn", format_lsn(parted)), ("--target-time", moment)):
        restored = site.restore(f"before-{target[0]}", *target)
        assert restored.scalar("select count(*) from t") == 0
        restored.stop()
    for name, other, rows in (("west", "east", {(0, 1), (1, 2000)}), ("east", "west", {(0, 1), (2, 4000)})):
        restored = site.restore(f"of-{name}", "--without", other)
        assert set(restored.sql("select i, count(*) from t group by i")) == rows
        restored.stop()


def test_a_backup_is_not_copied_to_another_servers_wal(scratch):
    """Every name of the WAL that it needs is there; what lies under them is not of its server."""
    site = make(scratch)
    site.backup()

    def work(region):
        if region == "east":
            site.backup(check=3)
        for _ in range(8 if region == "west" else 1):
            site.cluster.switch_wal(archived=True)

    part(site, work)
    (first,) = listed(site, "west")
    done = site.pgvigil.run("copy", "--from", "east", "--to", "west", check=4)
    assert_says(done, "have different files of the name", "nothing is copied")
    assert listed(site, "west") == [first] and len(listed(site, "east")) == 2


def take_up(site, west, east):
    """A timeline promoted at different points, each with so many segments, in a region of its own; returns the latter."""
    points = []
    for _ in range(3):
        points.append(site.cluster.restore_point(f"point {len(points)}"))
        site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    for region, other, point, count in (("west", "east", 0, west), ("east", "west", 2, east)):
        run(["rm", "-rf", site.state_dir / "debt", site.state_dir / "history"])
        forget_outages(site)
        hide(site.places[other])
        server = site.restore(f"of-{region}", "--take-over", "--without", other, "--target-lsn", format_lsn(points[point]))
        for _ in range(count):
            server.switch_wal(archived=True)
        if region == "west":
            server.stop()
        show(site.places[other])
    forget_outages(site)
    return server


def test_two_servers_that_took_up_one_timeline(scratch):
    """Promoted at different points, each archives into its own region; no segment of the timeline is in both."""
    site = make(scratch)
    site.backup()
    take_up(site, west=1, east=1).stop()
    run(["rm", "-rf", site.state_dir / "debt"])
    before = {name: objects(site.places[name]) for name in site.places}
    assert_says(site.pgvigil.run("copy", check=4), 'different files of the name "00000002.history"', "nothing is copied")
    assert {name: objects(site.places[name]) for name in site.places} == before
    done = site.pgvigil.run("restore", "--to", scratch.path / "refused", check=4)
    assert_says(done, 'different files of the name "00000002.history"')


def test_repair_takes_nothing_of_another_servers_timeline(scratch):
    """What is missing is all that the other one has of the timeline."""
    site = make(scratch)
    site.backup()
    take_up(site, west=5, east=1).stop()
    run(["rm", "-rf", site.state_dir / "debt"])
    (one,) = site.places["east"].glob("main/*/wal/00000002/0*/*")
    (site.places["west"] / one.relative_to(site.places["east"])).unlink()
    before = objects(site.places["west"])
    done = site.pgvigil.run("verify", "--repository", "west", "--repair", check=4)
    assert 'have different files of the name "00000002.history"' in done.stdout, done.describe()
    assert objects(site.places["west"]) == before


def test_nothing_is_stored_behind_another_servers_timeline(scratch):
    """The region that was away has got another history of the timeline: what it is owed is not of that one."""
    site = make(scratch)
    site.backup()
    server = take_up(site, west=1, east=4)
    before = objects(site.places["west"])
    segment = server.switch_wal(archived=False)
    done = site.pgvigil.run("archive-push", server.data / "pg_wal" / segment, check=4)
    assert_says(done, 'have different files of the name "00000002.history"', 'nothing is stored behind it in "west"')
    assert objects(site.places["west"]) == before
    run(["rm", "-rf", *site.places["west"].glob("main/*/wal/00000002")])
    server.wait_archived(segment)
    site.pgvigil.run("copy")
    assert owed(site, "west") == 0 and objects(site.places["west"]).keys() == objects(site.places["east"]).keys()


def test_repair_takes_nothing_of_another_server(scratch):
    """What is missing is there under its name, between segments of other WAL."""
    site = make(scratch)
    site.backup()
    segments = []

    def work(region):
        for _ in range(3):
            site.cluster.sql("select pg_logical_emit_message(false, 'region', %s)", region)
            segments.append(site.cluster.switch_wal(archived=True))

    part(site, work)
    for gone in segments[:2]:
        for path in site.places["west"].rglob(keys.stored(f"{gone}.zst")):
            path.unlink()
        before = objects(site.places["west"])
        done = site.pgvigil.run("verify", "--repository", "west", "--repair", check=4)
        assert "have different files of the name" in done.stdout + done.stderr, done.describe()
        assert objects(site.places["west"]) == before


def test_repair_keeps_what_was_archived_anew(scratch):
    """Set back, its later WAL moved away, it archives other WAL; an async repository still has the former, as had verify."""
    site = make(scratch, sections={"east": {"copy": "async"}})
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    snapshot = site.cluster.snapshot()
    site.cluster.start()
    site.cluster.sql("create table lost ()")
    parted = site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    site.pgvigil.run("copy")
    site.pgvigil.run("verify")
    site.cluster.set_back(snapshot)
    move_away(site.places["west"], parted)
    site.cluster.start()
    for _ in range(3):
        site.cluster.sql("select pg_logical_emit_message(false, 'going', 'on')")
        site.cluster.switch_wal(archived=True)
    before = objects(site.places["west"])
    for args in (("--repair",), ()):
        done = site.pgvigil.run("verify", "--repository", "west", *args, check=4)
        assert f"{parted}.zst" in done.stdout and "if it was replaced on purpose" in done.stdout, done.describe()
        assert objects(site.places["west"]) == before
    (site.state_dir / "verify.sqlite").unlink()
    site.pgvigil.run("verify", "--repository", "west")


def test_another_server_comes_back_after_the_restore(scratch):
    """Out of reach of the restore, so not compared; recovery must not go on with its WAL, which here links up."""
    site = make(scratch, settings={"autovacuum": "off", "full_page_writes": "off", "bgwriter_lru_maxpages": 0})
    site.cluster.sql("create table t (i int)")
    site.cluster.sql("insert into t values (0)")
    site.backup()
    site.cluster.switch_wal(archived=True)

    def work(region):
        for number in range(2 if region == "west" else 4):
            site.cluster.sql("insert into t values (%s)", number + (10 if region == "west" else 20))
            site.cluster.switch_wal(archived=True)

    part(site, work)
    hide(site.places["east"])
    restored = site.restore("restored", start=False)
    show(site.places["east"])
    restored.start(wait=False)
    wait_recovery(restored, "failed")
    log = restored.log_text()
    assert 'repositories "west" and "east" have different files of the name "0000000100' in log, log
    assert "--without east restores from what was archived into" in log, log


def test_a_backup_from_before_the_server_was_set_back(scratch):
    """Its WAL was moved away, as archive-push asks for; under the names there is what the server has written since."""
    site = make(scratch, names=("west",))
    site.cluster.sql("create table t (i int)")
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    snapshot = site.cluster.snapshot()
    site.cluster.start()
    for _ in range(3):
        site.cluster.sql("insert into t values (1)")
        site.cluster.switch_wal(archived=True)
    site.backup()
    site.cluster.stop()
    first, lost = listed(site, "west")
    restored = site.restore("before")
    restored.stop()
    site.cluster.set_back(snapshot)
    site.cluster.start()
    site.cluster.sql("insert into t values (2)")
    parted = site.cluster.switch_wal(archived=False)
    assert_says(site.pgvigil.run("archive-push", site.cluster.data / "pg_wal" / parted, check=4), "another content")
    move_away(site.places["west"], parted)
    for _ in range(8):
        site.cluster.sql("insert into t values (2)")
        site.cluster.switch_wal(archived=True)
    for args in ((), ("--backup", lost), ("--target", "immediate")):
        done = site.pgvigil.run("restore", "--to", scratch.path / "refused", *args, check=4)
        assert_says(done, f'in repository "west" is not that of backup {lost}', "--backup chooses another one",
                    f"move backup/{lost} away")
        assert not (scratch.path / "refused").exists()
    restored = site.restore("first", "--backup", first)
    assert set(restored.sql("select i, count(*) from t group by i")) == {(2, 9)}
    restored.stop()
    (gone,) = site.places["west"].glob(f"main/*/backup/{lost}")
    run(["rm", "-rf", gone])
    assert site.restore("again").scalar("select count(*) from t") == 9
    site.backup()
    site.pgvigil.run("verify", "--all")
    assert site.restore("newest").scalar("select count(*) from t") == 9


def test_restore_where_only_another_has_a_backup(scratch):
    """The newest backup that serves is taken, whoever has it; its repository is asked first then."""
    site = make(scratch)
    site.backup()
    (first,) = listed(site, "west")
    site.cluster.sql("create table t as select 1 as i")
    hide(site.places["west"])
    site.backup(check=3)
    show(site.places["west"])
    forget_outages(site)
    assert listed(site, "west") == [first]
    _, second = listed(site, "east")
    site.cluster.sql("insert into t values (2)")
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    taken = f'backup {second} is taken from repository "east": "west" does not have it'

    def restore(name, *args):
        done = site.pgvigil.run("restore", "--to", scratch.path / name, *args)
        restored = scratch.adopt(scratch.path / name, name)
        wait_recovery(restored.start(wait=False))
        assert sorted(restored.sql("select i from t")) == [(1,), (2,)]
        restored.stop()
        assert " had it" not in done.stderr
        return done

    assert taken in restore("newest").stderr
    assert taken in restore("asked-for", "--backup", second).stderr
    assert "is taken from" not in restore("first", "--backup", first).stderr
    assert "is taken from" not in restore("only-west", "--repository", "west").stderr
    refused = ["restore", "--to", scratch.path / "refused"]
    assert_says(site.pgvigil.run(*refused, "--repository", "west", "--backup", second, check=1),
                f'there is no backup {second} in repository "west"')
    assert_says(site.pgvigil.run(*refused, "--target-time", "2001-01-01 00:00:00+00", check=1),
                f'the first backup in repositories "west" and "east", {first}, ended at')
    # A damaged descriptor is as good as none, but for a warning.
    (path,) = site.places["west"].glob(f"main/*/backup/{first}/backup.json*")
    path.write_bytes(path.read_bytes()[:-1])
    assert_says(restore("damaged", "--backup", first), "backup.json", "is damaged",
                f'backup {first} is taken from repository "east"', hint=False)
    # Nothing at all in the first, as when it has just been made.
    for path in site.places["west"].iterdir():
        if path.name != "pgvigil.json":
            run(["rm", "-rf", path])
    assert taken in restore("made-anew").stderr


def test_restore_beside_another_cluster_of_the_name(scratch):
    """Another host calls its cluster the same, and stores into one of the two repositories, too."""
    site = make(scratch)
    site.cluster.sql("create table t as select 1 as i")
    site.backup()
    other = Site(scratch, name="other", own_identity=True,
                 config={"cluster": {"name": "main"}, "repository local": {"url": f"file://{site.places['east']}"}})
    other.cluster.sql("create table t as select 2 as i")
    other.backup()
    for one in (other, site):
        one.cluster.switch_wal(archived=True)
        one.cluster.stop()
    done = site.pgvigil.run("restore", "--to", scratch.path / "restored")
    restored = scratch.adopt(scratch.path / "restored", "restored")
    wait_recovery(restored.start(wait=False))
    assert restored.scalar("select i from t") == 1
    restored.stop()
    # Which it may have become, while the first repository was out of reach.
    assert_says(done, 'repository "east" has a newer backup', f"system identifier {other.cluster.system_identifier}",
                "--repository east restores what it is now")
    restored = site.restore("of-east", "--repository", "east")
    assert restored.scalar("select i from t") == 2
    restored.stop()
    assert "newer backup" not in site.pgvigil.run("restore", "--to", scratch.path / "asked-for", "--backup",
                                                  listed(site, "west")[0]).stderr


def test_restore_without_one(scratch):
    site = make(scratch)
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    hide(site.places["west"])
    done = site.pgvigil.run("restore", "--to", scratch.path / "r", check=3)
    assert "--without west" in done.stderr
    neither = site.pgvigil.run("restore", "--to", scratch.path / "r", "--without", "west", "--without", "east", check=2)
    assert_says(neither, "no repository is left")
    partial = site.pgvigil.run("restore", "--to", scratch.path / "r", "--without", "west", "--backup", "2026", check=2)
    assert_says(partial, "--backup", "20261120T020000Z", '"latest"')
    restored = site.restore("again", "--without", "west", "--backup", "latest")
    restored.stop()
    # Its restore_command did without it, too.
    assert re.search(r"--without[ \"']+west", restored.data.joinpath("postgresql.auto.conf").read_text())


def test_restore_tells_whom_recovery_will_miss(scratch):
    """Hours later the server would stop at the end of the WAL for want of one that the restore had done without."""
    site = make(scratch, ("west", "east", "north"), {"require": 2})
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    hide(site.places["east"])
    assert "restores without" not in site.pgvigil.run("restore", "--to", scratch.path / "one").stderr
    with_two = site.pgvigil.run("restore", "--to", scratch.path / "two", "--without", "north")
    assert_says(with_two, "recovery asks it, too", "as long as it cannot be asked: --without east restores without")
    hide(site.places["north"])
    assert_says(site.pgvigil.run("restore", "--to", scratch.path / "both"),
                "as long as it cannot be asked: --without east --without north restores without")
    show(site.places["north"])
    show(site.places["east"])
    identity = site.places["east"] / "pgvigil.json"
    identity.write_bytes(identity.read_bytes()[:-1])
    assert_says(site.pgvigil.run("restore", "--to", scratch.path / "damaged"),
                "as long as it cannot be asked: --without east restores without")
    restored = scratch.adopt(scratch.path / "damaged", "damaged")
    restored.start(wait=False)
    wait_recovery(restored, "failed")
    assert "to do without repository \"east\", add --without east to restore_command" in restored.log_text()


def test_absence_is_certain_only_when_enough_were_asked(scratch):
    site = make(scratch, archive={"require": 1})
    site.cluster.switch_wal(archived=True)
    got, segment = scratch.path / "got", "0000000100000000000000F0"
    assert site.pgvigil.run("archive-get", segment, got, check=False).rc == 1
    hide(site.places["east"])
    done = site.pgvigil.run("archive-get", segment, got, check=126)
    assert "--without east" in done.stderr
    assert site.pgvigil.run("archive-get", "--without", "east", segment, got, check=False).rc == 1
    # With two that must have it, one that is gone hides nothing.
    site.write_config({"archive": {"require": 2}})
    assert site.pgvigil.run("archive-get", segment, got, check=False).rc == 1
