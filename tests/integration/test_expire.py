"""Retention: what goes and what stays, in a real repository; the reckoning itself is tested in tests/unit/repo."""

import contextlib
import json
import os
import re
import shutil
import time

import pytest
from backup_tools import Background, assert_says, backup_has_stopped, backups, resume_archiving, stop_archiving
from harness import Ledger, Site, run, system, wait_until
from harness.pgvigil import binary

pytestmark = pytest.mark.directory  # where a test can make objects old

HOUR = 3600
RIPE = 2 * HOUR + 60  # a mark may be acted upon after two hours


def make(scratch, window="1 s", **keys):
    return Site(scratch, config={"retention": {"window": window, **keys}})


def age(site, seconds=RIPE, only=""):
    """As if all that is stored had been stored earlier, by the only clock that expire goes by."""
    for path in objects(site):
        if only in str(path) and path.name != "pgvigil.json":
            status = path.stat()
            os.utime(path, (status.st_atime, status.st_mtime - seconds))


def objects(site, part=""):
    return sorted(path for path in site.repository.rglob("*")
                  if path.is_file() and ".tmp" not in path.parts and part in str(path))


def names(site, part):
    return [str(path.relative_to(site.repository)).split("/", 2)[2] for path in objects(site, part)]


def take(site, *args):
    """A backup that shares no packs, and an expire when it has ended before a window of a second; its id."""
    site.pgvigil.run("backup", *(args or ("--full",)))
    time.sleep(1.1)
    site.pgvigil.run("expire")
    return max(backups(site))


def sources(site, backup):
    """The runs that stored the packs which it needs."""
    (path,) = site.repository.glob(f"*/*/backup/{backup}/refs.zst")
    return {line.split("/")[1] for line in run(["zstd", "-dqc", path]).stdout.splitlines()[1:]}


def fates(site, *args):
    found = site.pgvigil.json("expire", "--dry-run", *args)["repositories"][0]["clusters"]
    return {one["id"]: one["fate"] for one in found[0]["backups"]}


def expire_twice(site):
    """Marks, waits, removes."""
    age(site)
    site.pgvigil.run("expire")
    age(site)
    return site.pgvigil.run("expire")


@contextlib.contextmanager
def late_clock(scratch, seconds=HOUR):
    """Environment of a host whose clock is late."""
    yield preloaded_clock(scratch, f"if (id == CLOCK_REALTIME) now->tv_sec -= {seconds};")


def preloaded_clock(scratch, change):
    """Environment of a program for which this C statement changes what the clock `id` says, *now."""
    source = scratch.path / "clock.c"
    source.write_text("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *now)
        {
            int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
            int result = next(id, now);
            CHANGE
            return result;
        }
    """.replace("CHANGE", change))
    library = system.new_dir("clock") / "clock.so"
    run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"])
    for path in (library, library.parent):
        path.chmod(0o755)
    needed = run(["ldd", binary()], check=False).stdout
    return {"LD_PRELOAD": " ".join([str(library)] + re.findall(r"=> (\S*lib(?:asan|tsan)\S*)", needed)),
           "ASAN_OPTIONS": ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0"]))}


def test_marked_first_and_removed_later(scratch):
    site = make(scratch)
    site.cluster.sql("create table t as select generate_series(1, 1000) i")
    first, second = take(site), take(site)
    packs = names(site, f"/pack/{first}/")
    assert fates(site) == {first: "waits", second: "stays"}
    site.pgvigil.run("expire")
    assert sorted(backups(site)) == [first, second]
    age(site)
    wal = len(names(site, "/wal/"))
    done = site.pgvigil.run("expire")
    assert_says(done, "removed 1 backup, ", hint=False)
    assert sorted(backups(site)) == [second]
    assert packs and not set(packs) & set(names(site, "/pack/"))
    assert not names(site, f"/backup/{first}/")
    assert len(names(site, "/wal/")) < wal
    site.restore("restored").stop()
    age(site)
    site.pgvigil.run("expire")
    assert not names(site, f"/expire/{first}/") and not names(site, f"/run/{first}/")
    assert names(site, f"/run/{second}/")


def test_what_verify_found_damaged_takes_nobodys_place(scratch):
    """A sound backup that was about to go stays instead of one that cannot be restored, until that is mended."""
    site = make(scratch)
    site.cluster.sql("create table t as select generate_series(1, 1000) i")
    first, second = take(site), take(site)
    assert fates(site) == {first: "waits", second: "stays"}
    pack = objects(site, f"/pack/{second}/")[0]
    content = pack.read_bytes()
    pack.write_bytes(content[:-1])
    site.pgvigil.run("verify", "--all", check=4)
    assert fates(site) == {first: "stays", second: "stays"}
    expire_twice(site)
    assert sorted(backups(site)) == [first, second]
    pack.write_bytes(content)
    site.pgvigil.run("verify", "--all")
    assert fates(site) == {first: "marked", second: "stays"}


def test_packs_of_a_backup_that_has_gone_stay_for_those_that_share_them(scratch):
    site = make(scratch)
    site.cluster.sql("create table t as select generate_series(1, 1000) i")
    first = take(site)
    site.cluster.sql("insert into t values (1001)")
    second = take(site, "--jobs", "2")
    expire_twice(site)
    age(site)
    site.pgvigil.run("expire")
    assert list(backups(site)) == [second]
    assert names(site, f"/pack/{first}/") and names(site, f"/run/{first}/")
    site.pgvigil.run("verify", "--all")
    restored = site.restore("again")
    assert restored.scalar("select count(*) from t") == 1001
    restored.stop()


def test_nothing_is_built_on_what_is_marked(scratch):
    """Not even by a host that knows no other backup: here one came from another host."""
    site = make(scratch)
    first = take(site)
    own = site.state_dir
    site.write_config({"cluster": {"state_dir": scratch.mkdir("another-host")}})
    second = take(site)
    assert fates(site)[first] == "waits"
    site.write_config({"cluster": {"state_dir": own}})
    site.pgvigil.run("backup")
    third = max(backups(site))
    assert sources(site, third) == {second, third}


def test_what_is_marked_can_be_restored_until_it_goes(scratch):
    """Its WAL stays as long as it is listed."""
    site = make(scratch, "1 d")
    old = take(site)
    site.cluster.switch_wal()
    site.cluster.switch_wal()
    take(site)
    site.write_config({"retention": {"window": "1 s"}})
    age(site)
    site.pgvigil.run("expire")
    assert fates(site)[old] == "waits"
    site.pgvigil.run("expire")
    site.restore("old", "--backup", old, "--target", "immediate").stop()


def test_nothing_goes_without_settings(scratch):
    site = Site(scratch)
    take(site), take(site)
    before = objects(site)
    age(site, 100 * 24 * HOUR)
    done = site.pgvigil.run("expire")
    assert_says(done, "no retention is configured", hint=False)
    assert objects(site) == before


def test_kept_backups_stay_with_the_wal_that_makes_them_consistent(scratch):
    site = make(scratch)
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(20)
        first = take(site)
        ledger.wait(20)
    site.cluster.switch_wal()
    with ledger.running():
        ledger.wait(20)
        second = take(site)
    site.cluster.switch_wal()
    assert_says(site.pgvigil.run("keep", first), "is kept", hint=False)
    assert_says(site.pgvigil.run("keep", first), "already", hint=False)
    expire_twice(site)
    assert sorted(backups(site)) == [first, second]
    listed = site.pgvigil.json("list")["repositories"][0]["clusters"][0]
    assert all(one["wal_complete"] for one in listed["backups"])
    assert listed["wal"]["timelines"][0]["gaps"], "WAL between the two backups is of no use"
    site.restore("first", "--backup", first, "--target", "immediate").stop()
    site.pgvigil.run("unkeep", first)
    expire_twice(site)
    assert sorted(backups(site)) == [second]


def test_keep_of_what_is_not_there(site):
    done = site.pgvigil.run("keep", "20200101T000000Z", check=1)
    assert_says(done, "there is no backup 20200101T000000Z")
    assert_says(site.pgvigil.run("keep", "yesterday", check=2), "no ID of a backup")
    assert_says(site.pgvigil.run("keep", "latest", check=1), "there is no backup yet", hint=False)
    assert not names(site, "/keep/")


def test_the_latest_is_kept(scratch):
    """Whichever repository has it; one that cannot be read might have a later one."""
    site = make(scratch)
    west, east = site.repository, scratch.mkdir("east-place")
    site.backup()
    site.write_config({"repository east": {"url": f"file://{east}"}})
    site.pgvigil.run("init")
    time.sleep(1)
    site.backup()
    latest = max(backups(site))
    assert_says(site.pgvigil.run("keep", "latest"), f"backup {latest} is kept in repository", '"east"', hint=False)
    for place in (west, east):
        (kept,) = place.glob("*/*/keep/*")
        assert kept.name.startswith(latest)
    east.rename(scratch.path / "away")
    done = site.pgvigil.run("unkeep", "latest", check=3)
    assert_says(done, "could not tell which backup is the latest", "by its ID")
    (scratch.path / "away").rename(east)
    assert_says(site.pgvigil.run("unkeep", "latest"), f"backup {latest} is no longer kept", hint=False)
    (note,) = east.glob(f"*/*/backup/{latest}/backup.json*")
    note.write_bytes(note.read_bytes()[:-1])
    done = site.pgvigil.run("keep", "latest", check=4)
    assert_says(done, "could not tell which backup is the latest", "is damaged", "by its ID")


def test_a_kept_backup_is_unmarked(scratch):
    site = make(scratch)
    first, second = take(site), take(site)
    assert fates(site)[first] == "waits"
    site.pgvigil.run("keep", first)
    site.pgvigil.run("expire")
    assert names(site, f"/expire/{first}/") == [f"expire/{first}/1", f"expire/{first}/2"]
    expire_twice(site)
    assert sorted(backups(site)) == [first, second]


def test_what_a_killed_backup_left_goes(scratch):
    site = make(scratch, "30 d")
    before = stop_archiving(site)
    with Background(site.pgvigil, "backup") as background:
        background.wait_for(lambda: backup_has_stopped(site), "pg_backup_stop")
        background.process.kill()
    resume_archiving(site, before)
    shutil.rmtree(site.state_dir / "cache")  # or the next backup would take over what is there
    killed = {name.split("/")[1] for name in names(site, "/pack/")}
    site.pgvigil.run("expire")
    assert names(site, "/pack/"), "it may still live"
    time.sleep(1)
    complete = take(site)
    age(site)
    site.pgvigil.run("expire")  # marks
    assert {name.split("/")[1] for name in names(site, "/pack/")} == killed | {complete}
    age(site)
    site.pgvigil.run("expire")
    assert {name.split("/")[1] for name in names(site, "/pack/")} == {complete}
    assert list(backups(site)) == [complete]


def test_it_needs_no_private_key(scratch):
    key, certificate = scratch.path / "key.pem", scratch.path / "certificate.pem"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=backup", "-keyout", key, "-out", certificate])
    for path in (key, certificate):
        system.own(path)
    site = Site(scratch, config={"retention": {"window": "1 s"}, "encryption": {
        "recipients": certificate, "identity": None}})
    first = take(site)
    site.cluster.switch_wal()
    second = take(site)
    assert names(site, "/pack/") and all(name.endswith(".cms") for name in names(site, "/pack/"))
    expire_twice(site)
    assert list(backups(site)) == [second] and not names(site, f"/pack/{first}/")
    site.write_config({"encryption": {"identity": key}})
    site.restore("restored").stop()


@pytest.mark.parametrize("where", ["backup", "pack"])
def test_without_the_right_to_delete(scratch, where):
    """It says so, and what is listed is whole; with the right it goes on."""
    site = make(scratch)
    first, second = take(site), take(site)
    age(site)
    place = next(site.repository.glob(f"*/*/{where}/{first}"))
    place.chmod(0o500)
    before = names(site, "/pack/") + names(site, "/backup/") + names(site, "/wal/")
    done = site.pgvigil.run("expire", check=3)
    assert_says(done, "could not remove", "must belong to the user")
    left = names(site, "/pack/") + names(site, "/backup/") + names(site, "/wal/")
    if where == "backup":
        assert sorted(backups(site)) == [first, second] and left == before
        site.restore("first", "--backup", first, "--target", "immediate").stop()
    else:
        assert list(backups(site)) == [second] and set(names(site, "/pack/")) <= set(before)
    site.pgvigil.run("verify", "--all")
    place.chmod(0o700)
    age(site)
    site.pgvigil.run("expire")
    assert list(backups(site)) == [second] and not names(site, f"/pack/{first}/")
    site.pgvigil.run("verify", "--all")


def test_damage_stops_it(scratch):
    site = make(scratch)
    first, second = take(site), take(site)
    path = next(site.repository.glob(f"*/*/backup/{second}/refs.zst"))
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    age(site)
    site.pgvigil.run("expire", check=4)
    age(site)
    done = site.pgvigil.run("expire", check=4)
    assert_says(done, "nothing is removed", second)
    assert sorted(backups(site)) == [first, second] and names(site, f"/pack/{first}/")
    path.write_bytes(whole)
    site.pgvigil.run("expire")
    assert list(backups(site)) == [second]


def test_what_is_locked_stays(scratch):
    """The backup for the time of the lock, its packs for twice as long."""
    site = make(scratch)
    first, second = take(site), take(site)
    site.write_config({"repository local": {"object_lock": "governance 1 d"}})
    age(site)
    assert fates(site) == {first: "locked", second: "stays"}
    site.pgvigil.run("expire")
    assert sorted(backups(site)) == [first, second]
    age(site, 25 * HOUR)
    site.pgvigil.run("expire")
    found = site.pgvigil.json("expire", "--dry-run")["repositories"][0]["clusters"][0]
    assert list(backups(site)) == [second] and names(site, f"/pack/{first}/")
    assert found["packs"]["locked"]["objects"] == len(names(site, f"/pack/{first}/"))
    age(site, 25 * HOUR)
    site.pgvigil.run("expire")
    assert not names(site, f"/pack/{first}/")


def test_nothing_is_built_on_packs_whose_lock_ends_before(scratch):
    """With a lock of a day packs are held for two: those of the last day, but for some hours, are shared."""
    site = make(scratch, "30 d")
    site.write_config({"repository local": {"object_lock": "governance 1 d"}})
    site.cluster.sql("create table t as select generate_series(1, 1000) i")

    with late_clock(scratch, 30 * HOUR) as env:
        site.pgvigil.run("backup", env=env)
    (old,) = backups(site)
    site.pgvigil.run("backup")
    _, second = sorted(backups(site))
    assert sources(site, old) == {old} and sources(site, second) == {second}
    site.pgvigil.run("backup")
    third = max(backups(site))
    assert sources(site, third) == {second, third}


def make_two(scratch, west=None, east=None, retention=None):
    """A site with two repositories, each with settings of its own; site.places tells where they are."""
    places = {name: scratch.mkdir(name) for name in ("west", "east")}
    site = Site(scratch, config={
        "repository local": None, "retention": retention,
        "repository west": {"url": f"file://{places['west']}", **(west or {})},
        "repository east": {"url": f"file://{places['east']}", **(east or {})}})
    site.places = places
    return site


def listed(site, name):
    return sorted(path.parent.name for path in site.places[name].glob("*/*/backup/*/backup.json"))


def stored(site, name, part=""):
    return sorted(str(path.relative_to(site.places[name])) for path in site.places[name].rglob("*")
                  if path.is_file() and "/run/" not in str(path) and part in str(path))


def ripen(site, name):
    """As age does, in one of several."""
    for path in site.places[name].rglob("*"):
        if path.is_file() and path.name != "pgvigil.json":
            os.utime(path, (time.time() - RIPE,) * 2)


def test_a_repair_does_not_bring_back_what_expired(scratch):
    site = make_two(scratch, west={"retention_window": "1 s"})
    first, second = (([site.pgvigil.run("backup"), site.cluster.switch_wal(), time.sleep(1.1)], listed(site, "west")[-1])
                     [-1] for _ in range(2))
    for _ in range(2):
        site.pgvigil.run("expire")
        ripen(site, "west")
    site.pgvigil.run("expire")
    assert listed(site, "west") == [second] and listed(site, "east") == [first, second]
    before = stored(site, "west")
    site.pgvigil.run("verify", "--all", "--repair")
    assert stored(site, "west") == before


def test_two_that_begin_at_the_same_moment(scratch):
    """Each saw the other and gave way, and nothing was ever removed where two hosts had the same line in their crontabs."""
    site = make(scratch)
    first, _ = take(site), take(site)
    site.pgvigil.run("expire")
    (*_, ended) = sorted(site.repository.glob("*/*/run/*/end.json"))
    aside = ended.rename(scratch.path / "end.json")  # it has just begun, on another host
    with Background(site.pgvigil, "expire", "--json") as expire:
        wait_until(lambda: sorted(site.repository.glob("*/*/run/*/end.json"))[-1] > ended, 60, "it has given way")
        aside.rename(ended)
        done = expire.finish()
    assert_says(done, "another expire", "trying again in a moment", hint=False)
    (cluster,) = json.loads(done.stdout)["repositories"][0]["clusters"]
    assert cluster["postponed"] is None and first in {one["id"] for one in cluster["backups"]}


@pytest.mark.parametrize("late", [0, -3 * HOUR])
def test_a_copy_waits_for_the_end_of_an_expire(scratch, late):
    """What of a backup's packs is in the target already, the expire may be about to remove. By a clock that took local time
    for UTC, the expire would be long dead."""
    site = make_two(scratch, east={"copy": "async"}, retention={"window": "1 d"})
    site.pgvigil.run("backup")
    site.pgvigil.run("expire", "--repository", "east")
    site.pgvigil.run("copy")
    site.pgvigil.run("backup")
    site.pgvigil.run("expire", "--repository", "east")
    (ended, *_) = sorted(site.places["east"].glob("*/*/run/*/end.json"), reverse=True)
    assert b'"expire"' in (ended.parent / "begin.json").read_bytes()
    aside = ended.rename(scratch.path / "end.json")  # it has not ended yet
    one = listed(site, "east")
    with late_clock(scratch, late) as env, Background(site.pgvigil, "copy", env=env) as copy:
        wait_until(lambda: len(list(site.places["east"].glob("*/*/run/*/begin.json"))) >
                   len(list(site.places["east"].glob("*/*/run/*/end.json"))) + 1, 60, "the copy has begun")
        time.sleep(1.5)
        assert listed(site, "east") == one
        aside.rename(ended)
        assert "waiting for the end of expire" in copy.finish().stderr
    assert listed(site, "east") == listed(site, "west")
    site.pgvigil.run("verify", "--all")


def test_a_debt_that_has_expired_everywhere_is_forgotten(scratch):
    site = make_two(scratch, west={"retention_window": "1 s"})
    gone = site.places["east"].with_name("gone")
    site.places["east"].rename(gone)
    site.pgvigil.run("backup", check=3)
    site.cluster.switch_wal(archived=True)
    owed = sorted((site.state_dir / "debt" / "east").iterdir())
    assert owed
    time.sleep(1.1)
    for _ in range(2):
        site.pgvigil.run("backup", check=3)
        time.sleep(1.1)
        site.pgvigil.run("expire", check=False)
        ripen(site, "west")
    site.pgvigil.run("expire", "--repository", "west")
    assert all(path.exists() for path in owed), "another one might have it"
    gone.rename(site.places["east"])
    done = site.pgvigil.run("expire")
    assert_says(done, "no longer owed", "expired in repository", hint=False)
    assert not owed[0].exists()
    run(["rm", "-rf", site.state_dir / "down"])  # as if a minute had passed
    site.pgvigil.run("copy")
    assert not list((site.state_dir / "debt" / "east").iterdir()), "what is still there was paid"


def test_an_unreachable_repository_is_named(scratch):
    places = {name: scratch.mkdir(name) for name in ("west", "east")}
    site = Site(scratch, config={
        "repository local": None, "retention": {"window": "1 s"},
        **{f"repository {name}": {"url": f"file://{place}"} for name, place in places.items()}})
    site.pgvigil.run("backup")
    time.sleep(1.1)
    site.pgvigil.run("backup")
    time.sleep(1.1)
    site.pgvigil.run("expire")
    places["west"].rename(places["west"].with_name("gone"))
    done = site.pgvigil.run("expire", check=3)
    assert_says(done, "west")
    for path in places["east"].rglob("*"):
        if path.is_file() and path.name != "pgvigil.json":
            os.utime(path, (time.time() - RIPE,) * 2)
    site.pgvigil.run("expire", check=3)
    assert len(list(places["east"].glob("*/*/backup/*/backup.json"))) == 1


def test_each_repository_has_its_own_settings(scratch):
    places = {name: scratch.mkdir(name) for name in ("west", "east")}
    site = Site(scratch, config={
        "repository local": None, "retention": {"window": "1 s"},
        "repository west": {"url": f"file://{places['west']}"},
        "repository east": {"url": f"file://{places['east']}", "retention_minimum": 5}})
    for _ in range(2):
        site.pgvigil.run("backup")
        time.sleep(1.1)
    site.pgvigil.run("expire")
    found = site.pgvigil.json("expire", "--dry-run")["repositories"]
    assert [[one["fate"] for one in each["clusters"][0]["backups"]] for each in found] == [["waits", "stays"],
                                                                                          ["stays", "stays"]]


def test_the_other_clock_is_wrong(scratch):
    """Everything would look old by it."""
    site = make(scratch)
    take(site)
    with late_clock(scratch) as env:
        done = site.pgvigil.run("expire", check=3, env=env)
    assert_says(done, "its clock says")


def test_a_configuration_without_window_is_refused(scratch):
    site = Site(scratch)
    site.write_config({"retention": {"daily": 7}})
    assert_says(site.pgvigil.run("expire", check=2), "no window")
