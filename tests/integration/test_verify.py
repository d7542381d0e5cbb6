"""verify: what is read when, what damage costs, and repairs from another repository. What each kind of damage is
answered with is in test_damage.py."""

import datetime
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest
from harness import Pgvigil, Site, keys, own, run, s3, write_file
from harness.proxy import FaultProxy, answer

pytestmark = pytest.mark.alone  # another repository would help out


def make(scratch, names=("west", "east"), **kwargs):
    """A site with a directory for each name; site.places tells where."""
    places = {name: scratch.mkdir(f"{name}-place") for name in names}
    config = {"repository local": None, **{f"repository {name}": {"url": f"file://{place}"}
                                           for name, place in places.items()}}
    site = Site(scratch, config=config, **kwargs)
    site.places = places
    return site


def stored(place):
    """{name: bytes} of what is the same in all repositories."""
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*"))
            if path.is_file() and path.name != "pgvigil.json" and "/run/" not in str(path) and ".tmp" not in path.parts}


def replace(place, name, data):
    """With the same owner and permissions; None deletes."""
    path = place / name
    if data is None:
        path.unlink()
        return
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    own(path)


def flipped(data):
    return data[:len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1:]


def cluster_of(result, name="west"):
    return next(one for one in result["repositories"] if one["name"] == name)["clusters"][0]


def findings(site, *args, name="west", check=False):
    return cluster_of(site.pgvigil.json("verify", "--repository", name, *args, check=check), name)["findings"]


def segment(name):
    return name.rsplit("/", 1)[-1].split(".")[0]


@pytest.fixture(scope="module")
def world(module_scratch):
    """Two backups and WAL before, between and behind them; `moments` are commits in the WAL's order."""
    site = make(module_scratch)
    site.moments = []

    def work(segments):
        for _ in range(segments):
            site.cluster.sql("insert into t values (1)")
            site.moments.append(site.cluster.scalar("select extract(epoch from clock_timestamp())"))
            site.cluster.switch_wal(archived=True)

    site.cluster.sql("create table t (n int)")
    work(1)
    site.first = backup_id(site)
    work(4)
    site.second = backup_id(site)
    work(3)
    site.cluster.stop()
    run(["sh", "-c", "sleep 0"])
    site.whole = stored(site.places["west"])
    assert site.whole == stored(site.places["east"])
    return site


def backup_id(site):
    return re.search(r"backup (\w{16}) is complete", site.backup().stderr).group(1)


@pytest.fixture
def site(world):
    """The world as it was, with nothing remembered."""
    def mend():
        for place in world.places.values():
            now = stored(place)
            for name in set(now) | set(world.whole):
                if now.get(name) != world.whole.get(name):
                    replace(place, name, world.whole.get(name))
        (world.state_dir / "verify.sqlite").unlink(missing_ok=True)
        shutil.rmtree(world.state_dir / "damage", ignore_errors=True)
    mend()
    yield world
    mend()


def some(site, pattern):
    return [name for name in site.whole if re.search(pattern, name)]


def between_backups(site):
    """WAL segments of the first backup's stretch that no backup needs, ascending."""
    names = some(site, r"/\w{24}\.zst(\.cms)?$")
    return names[-7:-5]


# -- what is read -----------------------------------------------------------------------------------------------------

def test_incremental(site):
    """At first everything, then what is new and a share of the oldest; after the period everything once more."""
    first = cluster_of(site.pgvigil.json("verify"))
    assert first["findings"] == [] and first["unread_objects"] == 0
    assert first["read_objects"] == first["objects"] and first["read_bytes"] == first["bytes"]
    assert first["backups"] == first["backups_mapped"] == 2
    again = cluster_of(site.pgvigil.json("verify"))
    assert again["read_objects"] <= 2 and again["read_bytes"] < first["bytes"] / 4

    def ages(days):
        with sqlite3.connect(site.state_dir / "verify.sqlite") as memory:
            memory.execute("update checked set at = at - ?", (int(days * 86400e6),))
        memory.close()

    read = 0
    for _ in range(33):  # daily runs for a month: each has a bounded cost, and nothing is left out
        ages(1)
        daily = cluster_of(site.pgvigil.json("verify"))
        assert daily["read_bytes"] <= first["bytes"] / 4 + max(len(data) for data in site.whole.values())
        read += daily["read_objects"]
    assert read >= first["objects"]
    with sqlite3.connect(site.state_dir / "verify.sqlite") as memory:
        assert memory.execute("select count(*) from checked where at < (strftime('%s') - 31 * 86400) * 1000000"
                              ).fetchone() == (0,)
    memory.close()


def test_sizes_are_seen_in_every_run(site):
    pack = some(site, r"pack/")[0]
    site.pgvigil.run("verify")
    replace(site.places["west"], pack, site.whole[pack] + b"x")
    (found,) = findings(site, check=4)
    assert found["object"] in pack and found["fault"] == "damaged" and "the lists of packs say" in found["why"]
    replace(site.places["west"], pack, None)
    (found,) = findings(site, check=4)
    assert found["fault"] == "missing" and set(found["lost_backups"]) <= {site.first, site.second}


def test_same_size_is_found_when_it_is_read(site):
    pack = some(site, r"pack/")[0]
    site.pgvigil.run("verify")
    replace(site.places["west"], pack, flipped(site.whole[pack]))
    assert [one["object"] for one in findings(site, "--all", check=4)] == [keys.called(pack.split("/", 2)[2])]
    # It stays known until it is mended, though the daily run would not have read it again.
    assert [one["object"] for one in findings(site, check=4)] == [keys.called(pack.split("/", 2)[2])]


def test_another_content_of_its_own_kind(site):
    """A segment that is sound, but not the one that was there: only who read it before can tell."""
    site.pgvigil.run("verify")
    with sqlite3.connect(site.state_dir / "verify.sqlite") as memory:
        memory.execute("update checked set sha256 = randomblob(32) where object like '%/wal/%'")
    memory.close()
    found = findings(site, "--all", check=4)
    assert found and all("has another content than when it was read before" in one["why"] for one in found)


def test_sample(site):
    done = site.pgvigil.run("verify", "--sample", "30%")
    seed = re.search(r"seed is (\d+)", done.stderr).group(1)
    one, other = (cluster_of(site.pgvigil.json("verify", "--sample", "30%", "--seed", seed)) for _ in range(2))
    assert one["read_objects"] == other["read_objects"] < one["objects"]
    for args in (("--sample", "0%"), ("--sample", "5"), ("--sample", "101%"), ("--sample", "nan%"),
                 ("--sample", "5%", "--all"), ("--seed", "1"), ("--repository", "nobody")):
        site.pgvigil.run("verify", *args, check=2)


@pytest.mark.parametrize("content", (b"", b"SQLite format 3\0" + bytes(5000), b"nothing", "flipped", "other table"),
                         ids=("empty", "header", "text", "flipped", "table"))
def test_a_damaged_memory_costs_time_only(site, content):
    memory = site.state_dir / "verify.sqlite"
    site.pgvigil.run("verify")
    if content == "other table":
        with sqlite3.connect(memory) as base:
            base.execute("drop table checked")
            base.execute("create table checked(x)")
        base.close()
    else:
        replace(site.state_dir, "verify.sqlite",
                bytes(len(memory.read_bytes()) // 2) + memory.read_bytes() if content == "flipped" else content)
    done = site.pgvigil.run("verify", "--json")
    assert '"findings": []' in done.stdout
    again = cluster_of(site.pgvigil.json("verify"))
    assert again["unread_objects"] == 0 and again["read_objects"] <= 2


def test_strays_are_told_and_left_alone(site):
    folder = site.places["west"] / some(site, r"pack/")[0].split("pack/")[0]
    names = ("README", "pack/notes.txt", "wal/00000001/other.zst", "backup/20260101T000000Z/x")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        write_file(folder / name, "mine")
    found = findings(site, "--all", check=0)
    assert {one["object"] for one in found} == set(names) and {one["fault"] for one in found} == {"stray"}
    for name in names:
        assert (folder / name).read_text() == "mine"
        (folder / name).unlink()


def test_quiet_and_text(site):
    done = site.pgvigil.run("verify", "--quiet", "--all")
    assert done.stdout == "" and done.stderr == ""
    done = site.pgvigil.run("verify", "--all")
    assert "Repository west" in done.stdout and "Repository east" in done.stdout and "nothing wrong" in done.stdout
    site.places["east"].rename(site.places["east"].with_name("gone"))
    try:
        done = site.pgvigil.run("verify", check=3)
        assert "could not be read to the end" in done.stdout and "nothing wrong" in done.stdout
    finally:
        site.places["east"].with_name("gone").rename(site.places["east"])


# -- what it costs ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("fault", ("damaged", "missing"))
def test_wal_that_is_lost_costs_a_stretch_of_time(site, fault):
    """Between the backups: what lies before can be restored from the first one, what comes later from the second."""
    lost = between_backups(site)
    for name in lost:
        replace(site.places["west"], name, flipped(site.whole[name]) if fault == "damaged" else None)
    found = findings(site, "--all", check=4)
    assert [one["fault"] for one in found] == [fault] * (2 if fault == "damaged" else 1)
    assert sum(one["count"] for one in found) == 2
    assert [one["lost_backups"] for one in found] == [[]] * len(found)
    (moment,) = found[0]["lost_moments"]
    done = site.pgvigil.run("verify", "--all", "--repository", "west", check=4)
    assert "cost: from this repository alone, no moment between" in done.stdout  # east was not looked at
    assert all(done.stdout.count(f"{fault}: {one['object']}") == 1 for one in found)
    assert re.fullmatch(r'pgvigil: error: 2 objects of repository "west" damaged or missing\npgvigil: hint: .*--repair.*\n',
                        done.stderr)
    # The stretch begins with the last transaction before it and ends with the second backup: restore agrees.
    last = datetime.datetime.fromisoformat(moment["from"].replace("Z", "+00:00"))
    restore = ("restore", "--to", site.scratch.path / f"before-{fault}", "--repository", "west", "--target-time")
    if fault == "missing":
        site.pgvigil.run(*restore, str(last + datetime.timedelta(microseconds=1)), check=1)
    site.pgvigil.run(*restore, str(last - datetime.timedelta(microseconds=1)))
    assert moment["from"] < moment["to"]
    listed = site.pgvigil.json("list", check=False)["repositories"][0]["clusters"][0]["backups"]
    assert moment["to"] == next(one["stop_time"] for one in listed if one["id"] == site.second)


def test_what_is_owed_is_no_damage(site):
    """It comes with the next pushes; what is missing without a debt beside it is told apart."""
    debts = site.state_dir / "debt" / "west"
    lost = between_backups(site)
    debts.mkdir(parents=True, exist_ok=True)
    for folder in (debts.parent, debts):
        own(folder)
    try:
        for number, name in enumerate(lost):
            replace(site.places["west"], name, None)
            _, identifier, called = keys.called(name).split("/", 2)
            replace(debts, f"{identifier}-{called}".replace("/", "+"), b"")
            found = findings(site, check=0)
            assert [(one["fault"], one["count"]) for one in found] == [("owed", number + 1)]
        done = site.pgvigil.run("verify", "--quiet")
        assert done.stdout.count("owed: ") == 1 and "no moment between" in done.stdout and done.stderr == ""
        max(debts.iterdir()).unlink()
        found = findings(site, check=4)
        assert [one["fault"] for one in found] == ["owed", "missing"]
        alone = site.write_config({"repository east": None}, path=site.scratch.path / "alone.conf")
        (found,) = cluster_of(Pgvigil(alone).json("verify", "--repository", "west", check=4))["findings"]
        assert (found["fault"], found["count"]) == ("missing", len(lost))  # nobody is left who could pay
        found = findings(site, "--repair", check=0)
        assert [(one["fault"], one["repaired"]) for one in found] == [("owed", 1), ("missing", 1)]
        assert stored(site.places["west"]) == site.whole
    finally:
        run(["rm", "-r", debts.parent])


def test_a_pack_that_all_backups_need(site):
    """Of the stretches that its backups leave, each in the one before, the widest is told; and that east has it."""
    packs = some(site, rf"pack/{site.first}/")
    for name in packs:
        replace(site.places["west"], name, None)
    found = findings(site, check=4)
    assert [one for one in found if one["lost_backups"] == [site.first, site.second]]
    listed = site.pgvigil.json("list", check=False)["repositories"][0]["clusters"][0]["backups"]
    assert all(one["lost_moments"] == [{"from": listed[0]["stop_time"], "to": None}] for one in found
               if one["lost_backups"] == [site.first, site.second])
    done = site.pgvigil.run("verify", check=4)
    assert re.search(rf"cost: from this repository alone, backups {site.first}, {site.second} cannot be restored; "
                     r"no moment after \S+ \S+ can be restored\n", done.stdout)
    for name in packs:
        replace(site.places["east"], name, None)
    done = site.pgvigil.run("verify", check=4)
    assert "alone" not in done.stdout and done.stdout.count(f"cost: backups {site.first}, {site.second} cannot") >= 2


def test_a_lost_backup_costs_only_what_nothing_else_reaches(site):
    """All packs of the second are gone: the first one leads to the same moments. Of the first: those up to the second
    are lost."""
    for run_id, costs in ((site.second, False), (site.first, True)):
        names = [name for name in some(site, rf"backup/{run_id}/manifest")]
        for name in names:
            replace(site.places["west"], name, None)
        (found,) = findings(site, check=4)
        assert found["lost_backups"] == [run_id]
        assert bool(found["lost_moments"]) == costs
        for name in names:
            replace(site.places["west"], name, site.whole[name])


def test_a_gap_that_costs_nothing_is_no_error(scratch):
    """No longer, once a later backup stands behind it, and those before it are gone or about to go."""
    site = make(scratch, ("west",))
    site.write_config({"retention": {"window": "1 s"}})

    def make_gap():
        site.cluster.switch_wal(archived=True)
        lost = site.cluster.switch_wal(archived=True)
        site.cluster.switch_wal(archived=True)
        next(site.places["west"].rglob(f"{lost}.zst*")).unlink()

    def look(check, **wanted):
        done = site.pgvigil.run("verify", check=check)
        found = findings(site, check=check)
        assert [(one["fault"], one["harmless"]) for one in found] == [("missing", check == 0)]
        assert [bool(one["lost_moments"]) for one in found] == [wanted["lost"]]
        assert (done.stderr == "") == (check == 0)
        quiet = site.pgvigil.run("verify", "--quiet", check=check)
        assert (quiet.stdout == "") == (check == 0) and quiet.stderr == done.stderr
        assert "--repair" not in done.stderr
        return done

    def age():
        time.sleep(1.1)
        for path in site.places["west"].rglob("*"):
            if path.is_file() and path.name != "pgvigil.json":
                os.utime(path, (time.time(), path.stat().st_mtime - 7300))

    make_gap()
    done = look(4, lost=False)
    assert "nothing by itself" in done.stdout and f"`pgvigil -c {site.config} backup` takes" in done.stderr
    site.backup()
    done = look(0, lost=False)
    assert "cost: nothing that could be restored: no backup that is to stay leads there" in done.stdout
    site.pgvigil.run("expire")  # WAL from before goes
    age()
    site.pgvigil.run("expire")
    assert findings(site, check=0) == []

    site.write_config({"retention": {"window": "1 d"}})
    make_gap()
    done = look(4, lost=True)
    assert "no moment after" in done.stdout and f"`pgvigil -c {site.config} backup` takes" in done.stderr
    assert "anew" not in done.stderr
    site.backup()
    done = look(4, lost=True)
    assert "no moment between" in done.stdout and "backup`" not in done.stderr
    assert "no error any more once the backups before it have expired" in done.stderr
    time.sleep(1.1)
    site.write_config({"retention": {"window": "1 s"}})
    site.pgvigil.run("expire")  # the first is marked now
    assert [one["expiring"] for one in cluster_of(site.pgvigil.json("list"))["backups"]] == [True, False]
    done = look(0, lost=True)
    assert "no moment between" in done.stdout and "which only backups lead to that are about to expire" in done.stdout
    make_gap()
    done = site.pgvigil.run("verify", check=4)
    assert re.search("error: 1 object of repository", done.stderr)


def test_gaps_behind_each_other(scratch):
    """What only another gap keeps recovery from costs nothing by itself, but is not harmless: also where the other one
    is owed, or lies on the timeline before."""
    site = make(scratch, ("west",))
    site.backup()
    standby = site.cluster.standby("standby")
    site.cluster.switch_wal(archived=True)
    lost = []
    for server in (site.cluster, site.cluster, standby, standby):
        if server is standby and standby.scalar("select pg_is_in_recovery()"):
            site.cluster.stop()
            standby.promote()
            standby.switch_wal(archived=True)
        lost.append(server.switch_wal(archived=True))
        server.switch_wal(archived=True)
    standby.stop()
    for name in lost:
        next(site.places["west"].rglob(f"{name}.zst*")).unlink()
    found = findings(site, check=4)
    assert sorted(segment(one["object"]) for one in found) == sorted(lost)
    assert [bool(one["lost_moments"]) for one in found] == [True, False, False, False]
    assert not any(one["harmless"] for one in found)


# -- what the next backup does about it -------------------------------------------------------------------------------

def test_the_next_backup_is_whole(scratch):
    """Where a pack is damaged, what is in it is stored anew; where it is only missing, it is copied from where it is."""
    site = make(scratch)
    site.cluster.sql("create table t as select generate_series(1, 1000) n")
    first = backup_id(site)
    name = next(name for name in stored(site.places["west"]) if f"pack/{first}/" in name)
    content = (site.places["west"] / name).read_bytes()
    replace(site.places["west"], name, None)
    site.pgvigil.run("verify", check=4)
    done = site.backup()
    assert "stored anew" not in done.stderr
    assert (site.places["west"] / name).read_bytes() == content
    replace(site.places["east"], name, flipped(content))
    done = site.pgvigil.run("verify", "--all", check=4)
    assert re.search(r"-c \S+ verify --repair --repository east` .*; else `pgvigil -c \S+ backup` ", done.stderr)
    last = re.search(r"stored anew\n(?s:.*)backup (\w{16}) is complete", site.backup().stderr).group(1)
    (found,) = findings(site, "--all", name="east", check=4)
    assert first in found["lost_backups"] and last not in found["lost_backups"]


# -- repairs ----------------------------------------------------------------------------------------------------------

def test_repair_everything(site):
    """Half of all objects damaged, missing, cut off or emptied; what each one was comes back byte for byte."""
    random.seed(5)
    chosen = random.sample(sorted(site.whole), len(site.whole) // 2)
    for name in chosen:
        replace(site.places["west"], name, random.choice(
            (flipped(site.whole[name]), None, site.whole[name][:-1], b"", bytes(len(site.whole[name])))))
    done = site.pgvigil.run("verify", "--all", "--repair", "--repository", "west", check=False)
    assert "its copy came from repository east" in done.stdout
    # Records and ends of the WAL that are gone leave no trace; those are for copy.
    site.pgvigil.run("copy", "--to", "west")
    site.pgvigil.run("verify", "--all", "--repair", "--repository", "west")
    assert stored(site.places["west"]) == site.whole == stored(site.places["east"])
    assert findings(site, "--all", check=0) == []


def test_repair_of_what_both_have_wrong(site):
    """It stays as it is, and is said to be lost, with what it costs."""
    lost = between_backups(site)[0]
    for place in site.places.values():
        replace(place, lost, flipped(site.whole[lost]))
    before = stored(site.places["west"])
    done = site.pgvigil.run("verify", "--all", check=4)
    assert "--repair" not in done.stderr and done.stderr.count("archive-push it from there; else ") == 2
    done = site.pgvigil.run("verify", "--all", "--repair", check=4)
    assert "--repair" not in done.stderr and done.stderr.count("archive-push it from there; else ") == 2
    assert "not repaired" in done.stdout and done.stdout.count("cost: no moment between") == 2
    assert stored(site.places["west"]) == before, "nothing is removed without a sound copy"
    replace(site.places["east"], lost, None)
    (found,) = findings(site, "--all", "--repair", check=4)
    assert found["repair_error"] == "no other repository has it"


@pytest.mark.parametrize("due", ("west", "east"))
def test_repair_that_meets_a_damaged_copy(site, due):
    """Both were sound; one has its turn to be read: of the other, verified before or after it, that is told as well."""
    pack = some(site, rf"pack/{site.second}/")[0]
    site.pgvigil.run("verify")
    for place in site.places.values():
        replace(place, pack, flipped(site.whole[pack]))
    ids = {one["name"]: one["id"] for one in site.pgvigil.json("list")["repositories"]}
    with sqlite3.connect(site.state_dir / "verify.sqlite") as memory:
        memory.execute("update checked set at = 0 where repository = ? and object like ?",
                       (ids[due], f"%{keys.called(pack.split('/', 2)[2])}"))
    memory.close()
    result = site.pgvigil.json("verify", "--repair", check=4)
    west, east = ([(one["object"], one["fault"], one["repaired"], one["lost_backups"], one["lost_moments"])
                   for one in cluster_of(result, name)["findings"]] for name in ("west", "east"))
    assert west == east == [(keys.called(pack.split("/", 2)[2]), "damaged", 0, [site.second], west[0][4])]
    listed = site.pgvigil.json("list", check=4)
    assert [cluster_of(listed, name)["backups"][-1]["damaged_objects"] for name in ("west", "east")] == [1, 1]
    done = site.pgvigil.run("restore", "--to", site.scratch.path / f"both-{due}", "--backup", site.second, check=4)
    assert all(re.search(rf'object "pack/.*" in repository "{name}" is damaged', done.stderr) for name in ("west", "east"))
    for name in ("west", "east"):
        replace(site.places[name], pack, site.whole[pack])
    site.pgvigil.run("verify", "--sample", "0.001%")
    assert [cluster_of(site.pgvigil.json("list"), name)["backups"][-1]["damaged_objects"] for name in ("west", "east")] == [0, 0]


def test_repair_takes_no_other_content(site):
    """East has another pack, sound in itself, under that name: it is not what the lists say."""
    packs = some(site, r"pack/")
    replace(site.places["west"], packs[0], flipped(site.whole[packs[0]]))
    replace(site.places["east"], packs[0], site.whole[packs[-1]])
    (found,) = findings(site, "--all", "--repair", check=4)
    assert found["repaired"] == 0 and "east" in found["repair_error"]


def test_repair_that_is_killed(site):
    """At some instant: nothing sound is ever lost, and the next one goes on."""
    names = some(site, r"pack/|/\w{24}\.zst(\.cms)?$")
    for name in names:
        replace(site.places["west"], name, flipped(site.whole[name]))
    for delay in (0.05, 0.1, 0.2, 0.3, 0.5):
        process = subprocess.Popen([*map(str, site.pgvigil.command), "verify", "--all", "--repair", "--repository",
                                    "west"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert stored(site.places["east"]) == site.whole
    site.pgvigil.run("verify", "--all", "--repair", "--repository", "west")
    assert stored(site.places["west"]) == site.whole


def test_repair_in_a_bucket(scratch):
    """Damaged, missing; the power goes between removal and put; without the right to delete."""
    if not s3.available("rgw"):
        pytest.skip("the packages of rgw are not installed")
    server = s3.server("rgw")
    bucket = server.bucket()
    with FaultProxy(server.port) as proxy:
        site = make(scratch, ("east",), init=False, start=False)
        site.write_config({"repository west": server.section(bucket, endpoint=proxy.endpoint, timeout="5 s")})
        site.pgvigil.run("init")
        site.cluster.start()
        site.cluster.sql("create table t as select generate_series(1, 1000) n")
        site.backup()
        site.cluster.switch_wal(archived=True)
        site.cluster.stop()
        client = server.client()
        names = {name: client.get(bucket, name) for name in client.list(bucket, "vigil/main/") if "/run/" not in name}
        pack = next(name for name in names if "/pack/" in name)
        wal = next(name for name in names if "/wal/" in name)

        def damage():
            for name in (pack, wal):
                client.delete(bucket, name)
                client.put(bucket, name, flipped(names[name]))

        def is_whole():
            return all(client.get(bucket, name) == data for name, data in names.items())

        damage()
        proxy.on("DELETE", "", answer(403, "AccessDenied"), times=None)
        done = site.pgvigil.run("verify", "--all", "--repair", "--repository", "west", check=4)
        assert "s3:DeleteObject" in done.stdout and "could not remove the damaged object" in done.stdout
        proxy.clear()
        proxy.on("PUT", "/pack/", answer(403, "AccessDenied"), times=None)
        done = site.pgvigil.run("verify", "--all", "--repair", "--repository", "west", check=4)
        assert pack not in client.list(bucket, "vigil/main/")
        proxy.clear()
        done = site.pgvigil.run("verify", "--repair", "--repository", "west")
        assert "its copy came from repository east" in done.stdout and done.stderr == ""
        assert is_whole()
        site.pgvigil.run("verify", "--all", "--quiet")
