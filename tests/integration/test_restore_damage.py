"""A repository that is damaged, foreign or away: nothing startable comes out, and the message names the object."""

import contextlib
import re

import pytest
from backup_tools import assert_says, backups, only_backup
from harness import Ledger, Site, assert_verifybackup, keys, own, parse_lsn, segment_name, wait_recovery

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
        assert_says(told, keys.called(newest.name), "it was met in the search for time",
                    "hint: look for the segment in pg_wal of the old primary: once the damaged object is moved away, ")
        assert "verify --repair" not in told.stderr and "cannot be restored" not in told.stderr
        assert not (stored.scratch.path / "wal").exists()
        assert_says(restore(stored, "wal", "--target-xid", "7", check=4), "it was met in the search for transaction 7",
                    "pg_wal of the old primary")


def begin_of_recovery(site):
    """The segment that the backup's checkpoint is in."""
    control = site.cluster.tool("pg_controldata", "-D", site.cluster.data).stdout
    size = int(re.search("Bytes per WAL segment: *([0-9]+)", control)[1])
    name = segment_name(1, parse_lsn(only_backup(site)["start_lsn"]) // size, size)
    return next(site.repository.rglob(keys.stored(f"{name}.zst")))


def test_the_segment_with_which_recovery_begins_is_damaged(stored):
    """It may be pushed anew before the server is started."""
    begin = begin_of_recovery(stored)
    with replaced(begin, flipped(begin.read_bytes(), 0.5)):
        done = stored.pgvigil.run("restore", "--to", stored.scratch.path / "begins-damaged")
        assert_says(done, begin.name[:24], "is damaged", "recovery begins in this segment, and cannot without it")


@pytest.mark.directory
def test_the_segment_with_which_recovery_begins_cannot_be_read(stored):
    begin = begin_of_recovery(stored)
    with replaced(begin, b""):
        begin.chmod(0)
        assert_says(restore(stored, "begins-unreadable", check=3), begin.name[:24], "Permission denied")
        assert not (stored.scratch.path / "begins-unreadable").exists()


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


# -- what would do instead ------------------------------------------------------------------------------------------

HERE = ("--target-name", "here")


@pytest.fixture
def chain(make_site):
    """A backup, one that builds on it, a full one, and a restore point behind them: site.runs."""
    site = make_site()
    site.cluster.sql("create table t as select 1 n")
    for args in ([], [], ["--full"]):
        site.backup(*args)
        site.cluster.sql("insert into t select max(n) + 1 from t")
        site.cluster.switch_wal()
    site.cluster.sql("select pg_create_restore_point('here')")
    site.cluster.sql("insert into t select max(n) + 1 from t")
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    site.runs = list(backups(site))
    return site


def pack(site, run):
    return objects(site, f"pack/{run}/*")[0]


def without_it(run):
    return f"hint: backup {run} does without it, and gets to the same target with more WAL to replay: " \
           f"run the restore again with --backup {run}"


def test_the_hint_that_is_followed(chain):
    """It named neither the backup that would do, nor that there is one."""
    _, second, third = chain.runs
    path = pack(chain, third)
    with replaced(path, flipped(path.read_bytes(), 0.5)):
        assert_says(restore(chain, "again", *HERE, check=4), keys.called(path.name),
                    f"{without_it(second)}, which removes what it restored so far")
        cluster = chain.restore("again", *HERE, "--backup", second)
        assert cluster.scalar("select max(n) from t") == 4


def test_what_an_older_backup_needs_is_looked_for(chain):
    first, second, third = chain.runs
    with replaced(pack(chain, third), None):
        with replaced(pack(chain, second), None):
            assert_says(restore(chain, "pack", *HERE, check=4), without_it(first))
        with replaced(objects(chain, f"backup/{second}/{keys.stored('manifest.sqlite.zst')}")[0], None):
            assert_says(restore(chain, "manifest", *HERE, check=4), without_it(first))
        with replaced(pack(chain, first), None):
            assert_says(restore(chain, "first", *HERE, check=4), "hint: no older backup is known to do without it; `pgvigil")
        with replaced(pack(chain, second), flipped(pack(chain, second).read_bytes(), 0.5)):
            chain.pgvigil.run("verify", check=4)
            assert_says(restore(chain, "known", *HERE, check=4), without_it(first))


def test_the_wal_of_an_older_backup_is_looked_for(chain):
    third = chain.runs[-1]
    before = segment_name(1, (parse_lsn(backups(chain)[third]["start_lsn"]) >> 20) - 1, 1 << 20)
    with replaced(pack(chain, third), None), replaced(objects(chain, f"wal/*/*/{keys.stored(before + '.zst')}")[0], None):
        assert_says(restore(chain, "gap", *HERE, check=4), "hint: no older backup is known to do without it")


def test_a_shared_pack_and_a_manifest(chain):
    first, second, third = chain.runs
    with replaced(pack(chain, first), None):
        assert_says(restore(chain, "shared", *HERE, "--backup", second, "--repository", "local", check=4),
                    "hint: no older backup is known to do without it; `pgvigil")
    with replaced(objects(chain, f"backup/{third}/{keys.stored('manifest.sqlite.zst')}")[0], b"nothing"):
        told = restore(chain, "manifest", "--target", "immediate", check=4)
        assert_says(told, f"hint: backup {second} does without it, and ends earlier: ")
        assert told.stderr.endswith(f"--backup {second}\n") and not (chain.scratch.path / "manifest").exists()


def stopped_with_two_backups(make_site, other):
    site = make_site(config={"repository second": {"url": f"file://{other}"}})
    site.backup()
    site.cluster.switch_wal()
    site.backup("--full")
    site.cluster.stop()
    return site, *backups(site)


def test_both_copies(make_site, scratch):
    other = scratch.mkdir("second")
    site, older, newer = stopped_with_two_backups(make_site, other)
    path = pack(site, newer)
    with replaced(path, None), replaced(other / path.relative_to(site.repository), None):
        assert_says(restore(site, "both", check=4), 'in repository "second"', without_it(older))


def test_the_other_repository_is_worth_asking(make_site, scratch):
    """An older backup may cost data, the other copy costs nothing."""
    site, older, newer = stopped_with_two_backups(make_site, scratch.mkdir("second"))
    with replaced(pack(site, newer), None):
        told = restore(site, "local", "--target", "immediate", "--repository", "local", check=4)
        assert_says(told, "hint: without --repository the other repositories are asked for it, too; else "
                          f"backup {older} does without it, and ends earlier")
        site.restore("any", "--target", "immediate", start=False)


def test_a_segment_damaged_in_both_copies(make_site, scratch):
    other = scratch.mkdir("second")
    site = make_site(config={"repository second": {"url": f"file://{other}"}})
    site.backup()
    segment = site.cluster.switch_wal()
    site.cluster.stop()
    with contextlib.ExitStack() as both:
        for root in (site.repository, other):
            path = next(root.rglob(keys.stored(f"{segment}.zst")))
            both.enter_context(replaced(path, flipped(path.read_bytes(), 0.5)))
        assert_says(restore(site, "both", "--target-xid", "7", check=4), keys.called(path.name),
                    "hint: verify --repair mends it where another repository has it; else look for the segment in pg_wal")
