"""A backup that was interrupted has not been in vain: the next one stores only what the packs of the first do not hold."""

import contextlib
import datetime
import os
import re
import shutil
import signal
import time

import pytest
from backup_tools import Background, backups, make_endless
from harness import Site, keys, run, system
from test_changes import assert_whole, refs, take
from test_expire import RIPE, late_clock, preloaded_clock

pytestmark = pytest.mark.alone  # what another repository lacks would not be taken over

MB = 1024 * 1024
PACK = 31 * MB  # what one holds of what cannot be compressed, or a little more


@pytest.fixture
def quiet(make_site):
    return make_site(settings={"autovacuum": "off", "bgwriter_lru_maxpages": 0, "checkpoint_timeout": "1h"})


def make_ballast(site, megabytes=100, name="ballast"):
    """A file that is read before all others and fills packs."""
    path = site.cluster.data / name
    path.write_bytes(os.urandom(megabytes * MB))
    path.chmod(0o600)
    return system.own(path)


def run_packs(root, backup=None):
    """{run: bytes of its packs} in a repository, or of one."""
    found = {}
    for path in root.glob("*/*/pack/*/*"):
        found[path.parent.name] = found.get(path.parent.name, 0) + path.stat().st_size
    return found if backup is None else found.get(backup, 0)


@contextlib.contextmanager
def interrupted(site, packs, *args, env=None):
    """A backup that has stored so many packs, and now stands still at a file that does not end."""
    before = set(run_packs(site.repository))
    endless = make_endless(site)
    endless = endless.rename(endless.with_name("ballast-that-does-not-end"))

    def stored():
        return len([path for path in site.repository.glob("*/*/pack/*/*") if path.parent.name not in before])
    with Background(site.pgvigil, "backup", "--jobs", "1", *args, env=env) as background:
        background.wait_for(lambda: background.has_open(endless), "the file that does not end", 120)
        background.wait_for(lambda: stored() >= packs, "so many packs", 120)
        assert stored() == packs
        background.name = max(set(run_packs(site.repository)) - before)
        endless.unlink()
        yield background


def kill(site, packs=3, *args, env=None):
    """The run of a backup that was killed when it had stored so many packs."""
    with interrupted(site, packs, *args, env=env) as background:
        background.signal(signal.SIGKILL)
        background.finish(check=-signal.SIGKILL)
        return background.name


def runs_of(site, backup):
    return {name.split("/")[1] for name, *_ in refs(site, backup)}


@pytest.mark.parametrize("base", ["none", "a backup", "--full"])
def test_what_is_there_is_not_stored_again(quiet, base):
    full = ["--full"] if base == "--full" else []
    first = take(quiet)[0]["run"] if base != "none" else None
    path = make_ballast(quiet)
    dead = kill(quiet, 3, *full)
    with open(path, "r+b") as file:  # of 12,800 blocks a tenth has changed by the next time, and the file has grown
        for number in range(0, 12800, 10):
            file.seek(number * 8192)
            file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(os.urandom(MB))
    second, done, copy = take(quiet, "--jobs", "2", *full)
    assert f"goes on where backup {dead} was interrupted: 3 packs" in done.stderr
    assert run_packs(quiet.repository, dead) > 3 * PACK
    assert 10 * MB < second["stored_bytes"] < 26 * MB  # that, and what the dead one had not stored yet
    assert runs_of(quiet, second) == {dead, second["run"]} | ({first} if base == "a backup" else set())
    assert_whole(quiet, second, copy)
    third, done, copy = take(quiet)
    assert "interrupted" not in done.stderr and third["stored_bytes"] < MB
    assert_whole(quiet, third, copy)
    quiet.pgvigil.run("verify", "--all")


def test_killed_again(quiet):
    make_ballast(quiet, 40, "ballast-1")
    first = kill(quiet, 1)
    make_ballast(quiet, 60, "ballast-2")
    second = kill(quiet, 2)
    last, done, copy = take(quiet)
    assert f"goes on where backup {second} was interrupted: 3 packs" in done.stderr
    assert runs_of(quiet, last) == {first, second, last["run"]} and last["stored_bytes"] < 15 * MB
    assert_whole(quiet, last, copy)


@pytest.mark.parametrize("how", [["--full"], []])
def test_full_takes_over_only_from_full(quiet, how):
    first, _, _ = take(quiet)
    make_ballast(quiet, 40)
    kill(quiet, 1, *([] if how else ["--full"]))
    second, done, _ = take(quiet, "--jobs", "1", *how)
    assert "interrupted" not in done.stderr
    assert runs_of(quiet, second) == {second["run"]} | (set() if how else {first["run"]})


@pytest.mark.parametrize("loss", ["the list", "a pack", "damage"])
def test_what_is_lost_is_stored_again(quiet, loss):
    make_ballast(quiet)
    dead = kill(quiet)
    path = quiet.state_dir / "cache" / "unfinished"
    if loss == "the list":
        path.unlink()
    elif loss == "a pack":
        sorted(quiet.repository.glob(f"*/*/pack/{dead}/*"))[1].unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    second, done, copy = take(quiet, "--jobs", "1")
    wanted = {"the list": 0, "a pack": 2, "damage": 2}[loss]
    assert (f": {wanted} packs" in done.stderr) == (wanted > 0)
    assert second["stored_bytes"] > (100 - 33 * wanted) * MB
    assert_whole(quiet, second, copy)


def test_one_of_two_repositories_lacks_some(scratch):
    """What is taken over lies in both."""
    places = {name: scratch.mkdir(name) for name in ("west", "east")}
    site = Site(scratch, config={"repository local": None,
                                 **{f"repository {name}": {"url": f"file://{place}"} for name, place in places.items()}})
    site.repository = places["west"]
    make_ballast(site)
    dead = kill(site)
    sorted(places["east"].glob(f"*/*/pack/{dead}/*"))[1].unlink()
    done = site.pgvigil.run("backup")
    assert f"goes on where backup {dead} was interrupted: 2 packs" in done.stderr
    (last,) = backups(site).values()
    assert run_packs(places["east"], last["run"]) == run_packs(places["west"], last["run"]) < 50 * MB
    copy = scratch.path / "copy"
    site.cluster.stop()
    shutil.copytree(site.cluster.data, copy, symlinks=True, ignore=shutil.ignore_patterns("pg_wal"))
    for name in places:
        restored = site.restore(f"from-{name}", "--repository", name, "--target", "immediate", start=False)
        assert (restored.data / "ballast").read_bytes() == (copy / "ballast").read_bytes()


def age(site, seconds, but=None):
    """As if all had been stored so long ago, but for WAL and the notes of one run."""
    for path in site.repository.rglob("*"):
        if path.is_file() and path.name != "pgvigil.json" and not {but, "wal"} & set(path.parts):
            os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.directory  # where a test can make objects old
def test_what_expire_has_marked_is_left_alone(quiet):
    quiet.write_config({"retention": {"window": "30 d"}})
    make_ballast(quiet, 40)
    dead = kill(quiet, 1)
    age(quiet, 8 * 24 * 3600)  # so long that nobody is waited for any more
    quiet.pgvigil.run("expire")
    second, done, copy = take(quiet, "--jobs", "1")
    assert "interrupted" not in done.stderr and runs_of(quiet, second) == {second["run"]}
    age(quiet, RIPE)
    quiet.pgvigil.run("expire")
    assert set(run_packs(quiet.repository)) == {second["run"]}, dead
    assert_whole(quiet, second, copy)


def test_expire_tells_until_when_a_killed_run_counts(quiet):
    """Nobody can see from outside that it is dead; and the end of the base is the moment that list shows."""
    quiet.write_config({"retention": {"window": "30 d"}})
    base = take(quiet)[0]["run"]
    make_ballast(quiet, 40)
    dead = kill(quiet, 1)
    before = time.time()
    text = quiet.pgvigil.run("expire", "--dry-run").stdout
    told = re.search(rf"{base} .*needed by run {dead} on host {re.escape(os.uname().nodename)}, which is under way; "
                     r"if it was killed, it is waited for until (\S+ \S+)\n", text)
    assert told, text
    until = datetime.datetime.fromisoformat(told[1])
    (cluster,) = quiet.pgvigil.json("expire", "--dry-run")["repositories"][0]["clusters"]
    held = datetime.datetime.fromisoformat(cluster["backups"][0]["held_until"].replace("Z", "+00:00"))
    assert 0 <= (until - held).total_seconds() < 1 and 60 < until.timestamp() - before < 24 * 3600
    finished = re.search(rf"{base} +(\S+ \S+?) ", quiet.pgvigil.run("list").stdout)[1]
    assert re.search(rf"{base} +{re.escape(finished)} ", text), text


@pytest.mark.directory  # where a test can make objects old
def test_expire_leaves_what_is_being_taken_over(quiet):
    """While the next backup is under way, and what it needs of it when that is done."""
    quiet.write_config({"retention": {"window": "30 d"}})
    make_ballast(quiet, 70, "ballast-1")
    make_ballast(quiet, 40, "ballast-2")
    dead = kill(quiet)
    make_ballast(quiet, 70, "ballast-1")  # so that the second pack is of no use
    with interrupted(quiet, 2) as background:
        background.signal(signal.SIGSTOP)
        for _ in range(2):
            age(quiet, 8 * 24 * 3600, but=background.name)
            quiet.pgvigil.run("expire")
        assert len(list(quiet.repository.glob(f"*/*/pack/{dead}/*"))) == 3
        background.signal(signal.SIGKILL)
        background.finish(check=-signal.SIGKILL)
    last, done, copy = take(quiet, "--jobs", "1")
    assert f"goes on where backup {background.name} was interrupted: 5 packs" in done.stderr
    for _ in range(2):
        age(quiet, RIPE)
        quiet.pgvigil.run("expire")
    needed = {name for name, *_ in refs(quiet, last)}
    assert {str(path.relative_to(quiet.repository)).split("/", 2)[2].removesuffix(keys.SUFFIX)
            for path in quiet.repository.glob("*/*/pack/*/*")} == needed
    assert dead in runs_of(quiet, last) and len([name for name in needed if f"/{dead}/" in name]) < 3
    assert_whole(quiet, last, copy)


@pytest.mark.directory  # where a test can make objects old
def test_one_that_was_only_asleep_may_not_commit(scratch, quiet):
    """Its lease has lapsed when it wakes up: others have taken over what it stored, and expire has been there."""
    quiet.write_config({"retention": {"window": "30 d"}})
    make_ballast(quiet, 40)
    jump = scratch.path / "jump"
    env = preloaded_clock(
        scratch, f'if (id == CLOCK_BOOTTIME && access("{jump}", F_OK) == 0) now->tv_sec += 3 * 3600;')
    with interrupted(quiet, 1, env=env) as background:
        background.signal(signal.SIGSTOP)
        state = scratch.mkdir("another-host") / "state"
        run(["cp", "-a", quiet.state_dir, state])
        with quiet_config(quiet, state):
            age(quiet, RIPE)
            second, done, copy = take(quiet, "--jobs", "1")
            assert f"goes on where backup {background.name} was interrupted" in done.stderr
            for _ in range(2):
                age(quiet, RIPE)
                quiet.pgvigil.run("expire")
        jump.touch()
        background.signal(signal.SIGCONT)
        assert "has lapsed" in background.finish(check=3, timeout=120).stderr
    assert list(backups(quiet)) == [second["run"]]
    assert_whole(quiet, second, copy)


@contextlib.contextmanager
def quiet_config(site, state):
    before = site.state_dir
    site.write_config({"cluster": {"state_dir": state}})
    yield
    site.write_config({"cluster": {"state_dir": before}})


@pytest.mark.directory  # where any repository can have a lock
def test_packs_whose_lock_ends_before_are_left_alone(scratch, quiet):
    quiet.write_config({"repository local": {"object_lock": "governance 1 d"}})
    make_ballast(quiet, 40)
    with late_clock(scratch, 30 * 3600) as env:
        kill(quiet, 1, env=env)
    second, done, _ = take(quiet, "--jobs", "1")
    assert "interrupted" not in done.stderr and runs_of(quiet, second) == {second["run"]}


def make_keys(scratch, name):
    key, certificate = scratch.path / f"{name}.key", scratch.path / f"{name}.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", f"/CN={name}", "-keyout", key, "-out", certificate])
    return [system.own(path) for path in (key, certificate)]


@pytest.mark.parametrize("which", ["the same", "others"])
def test_without_the_private_key(scratch, make_site, which):
    """Also when it is for others that is encrypted now: they could not read the older packs."""
    old, new = make_keys(scratch, "old"), make_keys(scratch, "new")
    site = make_site(config={"encryption": {"recipients": old[1]}})
    make_ballast(site, 40)
    dead = kill(site, 1)
    key, certificate = old if which == "the same" else new
    site.write_config({"encryption": {"recipients": certificate}})
    second, done, copy = take(site)
    taken_over = f"goes on where backup {dead} was interrupted" in done.stderr
    assert taken_over == (which == "the same") and (second["stored_bytes"] < 20 * MB) == taken_over
    site.write_config({"encryption": {"identity": key}})
    assert_whole(site, second, copy)
