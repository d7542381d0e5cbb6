"""A repository that is damaged, foreign or away: nothing startable comes out, and the message names the object."""

import contextlib

import pytest
from backup_tools import assert_says, only_backup
from harness import Ledger, Site, assert_verifybackup, keys, own, wait_recovery

pytestmark = pytest.mark.alone  # another repository would help out

PIECES = {
    "pack": keys.stored("pack/*/*.zst"),
    "manifest": keys.stored("backup/*/manifest.sqlite.zst"),
    "refs": "backup/*/refs.zst",
}


@pytest.fixture(scope="module")
def stored(module_scratch):
    site = Site(module_scratch)
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(30)
        site.backup("--jobs", "2")
    site.cluster.switch_wal()
    site.cluster.stop()
    return site


def objects(site, pattern):
    found = sorted(site.repository.glob(f"main/*/{pattern}"))
    assert found, pattern
    return found


def restore(site, name, *args, check):
    to = site.scratch.path / name
    done = site.pgvigil.run("restore", "--to", to, *args, check=check)
    assert not (to / "global" / "pg_control").exists()
    return done


@contextlib.contextmanager
def replaced(path, content):
    """The object has this content, or with None is absent, as long as the context lasts."""
    aside = path.with_name(f".{path.name}")
    path.rename(aside)
    try:
        if content is not None:
            path.write_bytes(content)
            own(path)
        yield
    finally:
        aside.rename(path)


def flipped(whole, where):
    broken = bytearray(whole)
    broken[int(len(whole) * where)] ^= 4
    return bytes(broken)


@pytest.mark.parametrize("where", [0.0, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("kind", PIECES)
def test_a_flipped_bit(stored, kind, where):
    for number, path in enumerate(objects(stored, PIECES[kind])):
        with replaced(path, flipped(path.read_bytes(), where)):
            assert_says(restore(stored, f"flip-{kind}-{where}-{number}", check=4), keys.called(path.name), hint=False)


@pytest.mark.parametrize("kind", PIECES)
def test_a_missing_or_shortened_object(stored, kind):
    path = objects(stored, PIECES[kind])[0]
    with replaced(path, path.read_bytes()[:-1]):
        assert_says(restore(stored, f"short-{kind}", check=4), keys.called(path.name), hint=False)
    with replaced(path, None):
        assert_says(restore(stored, f"gone-{kind}", check=4), keys.called(path.name), hint=False)


def test_one_object_in_the_place_of_another(stored):
    packs = objects(stored, PIECES["pack"])
    assert len(packs) > 1
    with replaced(packs[0], packs[1].read_bytes()):
        assert_says(restore(stored, "swapped", check=4), keys.called(packs[0].name), hint=False)


def test_damaged_backup_json(stored):
    path = objects(stored, "backup/*/backup.json")[0]
    run = path.parent.name
    with replaced(path, path.read_bytes().replace(b"timeline", b"timelime")):
        assert_says(restore(stored, "json", "--backup", run, check=4), run, hint=False)
        # Not asked for by name it is passed over with a warning; then there is none.
        assert_says(restore(stored, "json-any", check=4), "there is no backup", run)


@pytest.mark.directory
def test_an_unmounted_repository(stored):
    away = stored.repository.with_name("away")
    stored.repository.rename(away)
    try:
        assert_says(restore(stored, "unmounted", check=3), str(stored.repository))
        stored.repository.mkdir()
        assert_says(restore(stored, "empty", check=3), "pgvigil.json")
        stored.repository.rmdir()
    finally:
        away.rename(stored.repository)


def test_nothing_backed_up_yet(site):
    assert_says(restore(site, "nothing", check=1), 'there is no backup of cluster "main"')


def test_a_damaged_wal_segment_is_found_before_anything_is_written(stored):
    newest = sorted(path for path in stored.repository.rglob(keys.stored("?" * 24 + ".zst")))[-1]
    with replaced(newest, flipped(newest.read_bytes(), 0.5)):
        told = restore(stored, "wal", "--target-time", "2099-01-01 00:00:00Z", check=4)
        assert_says(told, keys.called(newest.name), hint=False)
        assert not (stored.scratch.path / "wal").exists()


def test_a_repository_that_cannot_be_written_to(stored):
    """A read-only copy is enough to restore from."""
    folders = [stored.repository, *(p for p in stored.repository.rglob("*") if p.is_dir())]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        cluster = stored.restore("readonly", start=False)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode & 0o7777)
    assert_verifybackup(cluster.data, cluster.bindir)
    wait_recovery(cluster.start(wait=False))
    assert only_backup(stored)
