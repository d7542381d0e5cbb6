"""No room, no memory, no descriptors, disks that cannot be read, a server that goes away, signals at any moment.

Whatever runs short, a command ends with the right exit code and a message that says what and why, nothing half-written
is to be seen, and the next run works. tests/fault/inject.c makes single calls fail; PGVIGIL_SHORTAGE_SEED (environment)
chooses which, PGVIGIL_SHORTAGE_SAMPLES how many of each.
"""

import contextlib
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from backup_tools import Background, assert_says, backups, make_endless
from forge import memory_directory, remove
from harness import HarnessError, Site, assert_verifybackup, keys, own, run, system, wait_until
from harness.pgvigil import binary

pytestmark = pytest.mark.alone  # another repository would help out

SEED = int(os.environ.get("PGVIGIL_SHORTAGE_SEED", "20261120"))
SAMPLES = int(os.environ.get("PGVIGIL_SHORTAGE_SAMPLES", "4"))
ENOENT, EIO, ENOMEM, EACCES, ENFILE, EMFILE, ENOSPC, EAGAIN = 2, 5, 12, 13, 23, 24, 28, 11
DEADLINE = 120  # seconds; nothing here takes more than a few, but what else runs may
INJECT = Path(__file__).parent.parent / "fault" / "inject.c"


# -- faults -----------------------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def library():
    """inject.so, compiled for this run of the tests (this worker)."""
    target = system.new_dir("inject") / "inject.so"
    run([os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra",
         "-Werror", system.reachable(INJECT), "-o", target, "-ldl", "-lpthread"])
    for path in (target, target.parent):
        path.chmod(0o755)
    return target


@functools.lru_cache(maxsize=None)
def preload():
    """In front of the sanitizers' runtime, which then must not complain of that: it has an allocator too."""
    needed = run(["ldd", binary()], check=False).stdout
    return " ".join([str(library())] + re.findall(r"=> (\S*lib(?:asan|tsan)\S*)", needed))


class Faults:
    """Runs pgvigil with calls that fail."""

    def __init__(self, pgvigil, room):
        self.pgvigil = pgvigil
        self.count_file = room / "count"

    def run(self, *args, call, part="-", which=0, error=EIO, cwd=None):
        """which: number of the call that fails, or '5+'; 0 counts only.

        The sanitizer speaks on stderr here, not in a file as in the other tests: sweep() has to see whether it was its
        own runtime that got no memory.
        """
        env = {"LD_PRELOAD": preload(), "PGVIGIL_INJECT": f"{call} {part} {which} {error}",
               "PGVIGIL_INJECT_COUNT": str(self.count_file)}
        for name, further in (("ASAN_OPTIONS", ["verify_asan_link_order=0", "allocator_may_return_null=1"]),
                              ("UBSAN_OPTIONS", [])):
            env[name] = ":".join(filter(None, [os.environ.get(name), *further, "log_path=stderr"]))
        self.count_file.unlink(missing_ok=True)
        return system.run([*self.pgvigil.command, *args], check=False, timeout=DEADLINE, env=env,
                          cwd=cwd or self.pgvigil.cwd)

    def calls(self):
        """How many calls fitted in the last run: with several threads that is not always the same."""
        return max((int(line) for line in self.count_file.read_text().split()), default=0)

    def count(self, *args, **kwargs):
        """How many calls fit when none fails."""
        done = self.run(*args, **kwargs)
        assert done.rc == 0, done.describe()
        return self.calls()


def sample(count, seed):
    """Numbers from 1 to count: the first ones, the last one, some in between."""
    chosen = random.Random(f"{SEED} {seed}")
    return sorted({1, 2, count, *(chosen.randint(1, count) for _ in range(SAMPLES))} & set(range(1, count + 1)))


# -- a site whose every command can be tried again and again ----------------------------------------------------------

class Stage:
    """A repository, a state directory and a target in memory, a backup in the repository, a segment to push."""

    def __init__(self, scratch):
        self.room = memory_directory(scratch)
        self.repository = self.room / "repository"
        self.state = self.room / "state"
        self.target = self.room / "target"
        for path in (self.repository, self.state):
            own(path.mkdir(mode=0o700) or path)
        self.site = Site(scratch, config={"repository local": {"url": f"file://{self.repository}"},
                                          "cluster": {"state_dir": self.state}, "backup": {"jobs": 2}})
        self.site.repository = self.repository
        cluster = self.site.cluster
        cluster.sql("create table t as select generate_series(1, 3000) g")
        self.site.backup("--quiet")
        segment = cluster.switch_wal()
        self.object = next(self.repository.rglob(keys.stored(f"{segment}.zst")))
        self.sealed = self.object.read_bytes()
        self.stored = segment
        self.faults = Faults(self.site.pgvigil, self.room)
        self.before = self.backups()

    def backups(self):
        return set(backups(self.site))

    def arguments(self, command):
        """A command ready to be run once more: nothing of the last time is there."""
        remove(self.target)
        if command == "archive-get":
            own(self.target.mkdir() or self.target)
            return [command, self.stored, self.target / "got"]
        if command == "archive-push":
            self.object.unlink(missing_ok=True)
            return [command, self.raw_segment()]
        if command == "restore":
            return [command, "--quiet", "--to", self.target]
        return [command, "--quiet"] if command == "backup" else [command]

    def is_whole(self):
        """Can it be read by others?"""
        return subprocess.run(["zstd", "-tq"], input=keys.opened(self.object.read_bytes()), check=False).returncode == 0

    @functools.lru_cache(maxsize=None)
    def raw_segment(self):
        path = self.room / "wal" / self.stored
        own(path.parent.mkdir() or path.parent)
        with open(path, "wb") as file:
            file.write(keys.unpacked(self.sealed))
        return own(path)

    def directory(self, command):
        """Where PostgreSQL would run it."""
        return self.site.cluster.data if command.startswith("archive") else None

    def check(self, command, done):
        """Why this end of a command is wrong, or None. An end with 0 must be a true one."""
        failed = 126 if command == "archive-get" else 3
        if done.rc not in (0, failed):
            return f"exit code {done.rc}"
        if done.rc != 0 and "pgvigil: error: " not in done.stderr:
            return "no message"
        return self.check_state(command, done.rc == 0, done.stderr)

    def check_state(self, command, succeeded, said=""):
        fresh = self.backups() - self.before
        # If only the last sync fails, the backup is whole, but it is not certain that it stays. And a lack of memory
        # ends it where it is, which may be behind the commit.
        late = "/backup.json" in said or "out of memory" in said
        if command == "backup" and len(fresh) != succeeded and not (len(fresh) == 1 and late):
            return f"{len(fresh)} new backups are to be seen"
        self.drop_backups(fresh)
        if command == "archive-get":
            left = set(os.listdir(self.target))
            if "out of memory" in said:  # it ends where it is; the next archive-get takes that name
                left -= {"got.pgvigil-tmp"}
            if left != ({"got"} if succeeded else set()) and not ("out of memory" in said and left == {"got"}):
                return f"it left {left}"
        if command == "archive-get" and (self.target / "got").exists() and (self.target / "got").read_bytes() != \
                self.raw_segment().read_bytes():
            return "it delivered something else"
        if command == "archive-push":
            there = self.object.exists()
            if succeeded and not there or there and not self.is_whole():
                return "the segment is not stored, or not whole"
        if command == "restore" and (self.target / "global" / "pg_control").exists() != succeeded:
            if succeeded or "out of memory" not in said:
                return "there is no pg_control" if succeeded else "it left a pg_control"
            (self.target / "pgvigil.restoring").unlink(missing_ok=True)  # it goes after pg_control has come
            assert_verifybackup(self.target, self.site.cluster.bindir)
        return None

    def drop_backups(self, runs):
        for one in runs:
            for path in self.repository.glob(f"*/*/*/{one}"):
                remove(path)

    def works(self, command):
        """The next run, with nothing failing."""
        done = system.run([*self.site.pgvigil.command, *self.arguments(command)], timeout=DEADLINE,
                          cwd=self.directory(command) or self.site.pgvigil.cwd)
        wrong = self.check(command, done)
        assert not wrong, f"{wrong}\n{done.describe()}"
        self.tidy()

    def forget(self):
        """A run that died of something that is not pgvigil's, perhaps behind the commit."""
        self.drop_backups(self.backups() - self.before)
        self.tidy()

    def tidy(self):
        """What the many runs would otherwise heap up."""
        remove(self.target)
        for path in self.repository.glob("*/*/*/*"):
            if path.parent.name in ("run", "pack", "backup") and path.name not in self.before:
                remove(path)
        if not self.object.exists():
            self.object.write_bytes(self.sealed)
            own(self.object).chmod(0o600)


@pytest.fixture(scope="module")
def stage(module_scratch):
    one = Stage(module_scratch)
    yield one
    one.site.cluster.stop()
    system.remove_tree(one.room)


# Faults without memory that are not pgvigil's: the sanitizer's own thread; and how glibc ends a program when an assertion
# of its own, or its dynamic linker at a thread's first use of a loaded library's variable, finds no memory.
FOREIGN_FAULT = "AddressSanitizer: CHECK failed: sanitizer_"
ABORTS_OF_GLIBC = (
    (-signal.SIGABRT, "Unexpected error.\n"),
    (127, "cannot allocate memory for thread-local data: ABORT\n"),
)

COMMANDS = ("backup", "restore", "archive-push", "archive-get", "list")


# The last that a run stores, when its work is done: it is warned of, and that is all.
NOT_ENDED = "could not note that the run has ended"


def sweep(stage, command, call, part, error, *, strict=False, says=None, samples=None):
    """Lets single calls fail, one in each run; strict: then the command must fail too."""
    where = {"cwd": stage.directory(command)}
    count = stage.faults.count(*stage.arguments(command), call=call, part=part, **where)
    stage.check_state(command, True)
    assert count > 0, f"{command} makes no {call} calls on {part}"
    problems = []
    for which in samples or sample(count, f"{command} {call} {part}"):
        try:
            done = stage.faults.run(*stage.arguments(command), call=call, part=part, which=which, error=error, **where)
        except HarnessError as error_of_run:
            if FOREIGN_FAULT not in str(error_of_run):
                raise
            stage.forget()
            continue
        if call == "memory" and (done.rc, done.stderr) in ABORTS_OF_GLIBC:
            stage.forget()
            continue
        wrong = stage.check(command, done)
        if not wrong and strict and done.rc == 0 and NOT_ENDED not in done.stderr and stage.faults.calls() >= which:
            wrong = "it made nothing of it"
        if not wrong and done.rc != 0 and says and not any(word in done.stderr for word in says.split("|")):
            wrong = f"it does not say {says!r}"
        if wrong:
            problems.append(f"{command}, {call} {which} of {count} on {part}: {wrong}\n{done.describe()}")
        stage.tidy()
    assert not problems, f"seed {SEED}: {len(problems)} problems\n" + "\n".join(problems[:5])
    stage.works(command)


# -- calls that fail --------------------------------------------------------------------------------------------------

CALLS = [  # command, call, part of the path, errno, must the command fail, what it says
    ("backup", "write", "repository", ENOSPC, True, "No space left on device"),
    ("backup", "sync", "repository", EIO, True, "Input/output error"),
    ("backup", "name", "repository", ENOSPC, True, "No space left on device"),
    ("backup", "open", "repository", EMFILE, False, "Too many open files"),
    ("backup", "read", "main/base", EIO, True, "Input/output error"),
    ("backup", "read", "main/global", EIO, True, "Input/output error"),
    ("backup", "open", "main/base", EACCES, True, "Permission denied"),
    ("backup", "write", "state", ENOSPC, False, "No space left on device|disk is full"),
    ("restore", "write", "target", ENOSPC, True, "No space left on device"),
    ("restore", "sync", "target", EIO, True, "Input/output error"),
    ("restore", "name", "target", EIO, True, "Input/output error"),
    ("restore", "open", "target", EMFILE, True, "Too many open files"),
    ("restore", "read", "repository", EIO, True, "Input/output error"),
    ("restore", "write", "state", ENOSPC, False, "No space left on device"),  # the last id of a run is only a hint
    ("restore", "write", "repository", ENOSPC, False, None),  # where it only notes that it runs
    ("archive-push", "write", "repository", ENOSPC, True, "No space left on device"),
    ("archive-push", "sync", "repository", EIO, True, "Input/output error"),
    ("archive-push", "name", "repository", EIO, True, "Input/output error"),
    ("archive-push", "open", "repository", EMFILE, False, "Too many open files"),
    ("archive-push", "read", "wal/", EIO, True, "Input/output error"),
    ("archive-get", "read", "repository", EIO, True, "Input/output error"),
    ("archive-get", "open", "repository", EACCES, True, "Permission denied"),
    ("archive-get", "write", "target", ENOSPC, True, "No space left on device"),
    ("archive-get", "name", "target", EIO, True, "Input/output error"),
    ("list", "read", "repository", EIO, True, "Input/output error"),
    ("list", "open", "repository", ENFILE, True, "Too many open files"),
]


@pytest.mark.parametrize("command, call, part, error, strict, says", CALLS,
                         ids=lambda value: str(value).replace("/", "_") if isinstance(value, str) else None)
def test_a_call_fails(stage, command, call, part, error, strict, says):
    sweep(stage, command, call, part, error, strict=strict, says=says)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_no_threads(stage, command):
    sweep(stage, command, "thread", "-", EAGAIN, says="Resource temporarily unavailable")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_memory(stage, command):
    """Any allocation may fail, the program's own or a library's."""
    count = stage.faults.count(*stage.arguments(command), call="memory", cwd=stage.directory(command))
    stage.check_state(command, True)
    chosen = random.Random(f"{SEED} memory {command}")
    samples = {1, count, *(int(count ** (i / 10)) for i in range(3, 11)),
               *(chosen.randint(1, count) for _ in range(SAMPLES))}
    sweep(stage, command, "memory", "-", ENOMEM, samples=sorted(samples))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_more_memory(stage, command):
    """From some moment on, every allocation fails: even the message has to do without."""
    count = stage.faults.count(*stage.arguments(command), call="memory", cwd=stage.directory(command))
    stage.check_state(command, True)
    sweep(stage, command, "memory", "-", ENOMEM, samples=[f"{n}+" for n in sample(count, f"all {command}")])


@pytest.mark.parametrize("command", COMMANDS)
def test_few_descriptors(stage, command):
    """From none to spare to plenty."""
    for limit in (4, 5, 6, 7, 8, 9, 10, 12, 15, 20):
        arguments = ["prlimit", f"--nofile={limit}", *stage.site.pgvigil.command, *stage.arguments(command)]
        done = system.run(arguments, check=False, timeout=DEADLINE,
                          cwd=stage.directory(command) or stage.site.pgvigil.cwd)
        if done.rc == 127 or "error while loading shared libraries" in done.stderr:
            continue  # not even the loader could open anything
        wrong = stage.check(command, done)
        assert not wrong, f"{limit} descriptors: {wrong}\n{done.describe()}"
        assert done.rc == 0 or "open files" in done.stderr, done.describe()
        stage.tidy()
    stage.works(command)


# -- disks that are full ----------------------------------------------------------------------------------------------

@contextlib.contextmanager
def small_disk(path, kilobytes):
    """A file system of its own at `path`."""
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    path.mkdir(exist_ok=True)
    own(path)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "none", path], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    own(path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(directory, leave):
    """Leaves so many bytes free; returns the file that takes the rest."""
    filler = directory / "filler"
    with open(filler, "wb") as file:
        with contextlib.suppress(OSError):
            while shutil.disk_usage(directory).free > leave:
                file.write(bytes(min(1 << 16, max(4096, shutil.disk_usage(directory).free - leave))))
                file.flush()
    return filler


def test_a_full_repository(make_site, scratch):
    with small_disk(scratch.path / "disk", 20000) as disk:
        site = make_site(config={"repository local": {"url": f"file://{disk}/repository"}})
        site.repository = disk / "repository"
        site.cluster.switch_wal()
        filler = fill(disk, 50000)
        assert_says(site.backup("--quiet", check=3), "No space left on device", "repository", hint=False)
        segment = site.cluster.switch_wal(archived=False)
        path = site.cluster.data / "pg_wal" / segment
        site.cluster.sql("select pg_logical_emit_message(false, 'x', string_agg(md5(g::text), '')) "
                         "from generate_series(1, 15000) g")
        big = site.cluster.data / "pg_wal" / site.cluster.switch_wal(archived=False)
        refused = system.run([*site.pgvigil.command, "archive-push", big], check=3, cwd=site.cluster.data)
        assert_says(refused, "No space left on device", big.name, hint=False)
        assert backups(site) == {} and not list(site.repository.rglob(f"{big.name}*.zst*"))
        site.pgvigil.run("list")
        filler.unlink()
        site.cluster.wait_archived(segment)
        site.cluster.wait_archived(big.name)
        assert path.name == segment
        site.backup("--quiet")
        assert len(backups(site)) == 1
        site.cluster.stop()


def test_a_full_state_directory(make_site, scratch):
    """It costs what needs it, not the archiving."""
    with small_disk(scratch.path / "disk", 8000) as disk:
        site = make_site(config={"cluster": {"state_dir": disk / "state"}})
        site.backup("--quiet")
        filler = fill(disk, 0)
        segment = site.cluster.switch_wal()
        got = scratch.mkdir("got") / segment
        system.run([*site.pgvigil.command, "archive-get", segment, got], cwd=site.cluster.data)
        site.pgvigil.run("list")
        target = scratch.path / "target"
        assert_says(site.pgvigil.run("restore", "--to", target, check=3), "No space left on device", str(disk),
                    hint=False)
        assert not (target / "global").exists() and not list((disk / "state" / "tmp").glob("*"))
        done = site.backup("--quiet", check=False)
        if done.rc != 0:
            assert done.rc == 3
            assert "disk is full" in done.stderr or "No space left on device" in done.stderr
            assert_says(done, str(disk), hint=False)
        filler.unlink()
        site.backup("--quiet")
        site.restore("restored")
        site.cluster.stop()


def test_a_full_target_and_a_full_tablespace(make_site, scratch):
    site = make_site()
    site.cluster.create_tablespace("space")
    site.cluster.sql("create table t tablespace space as select md5(g::text) from generate_series(1, 40000) g")
    site.backup("--quiet")
    site.cluster.switch_wal()
    site.cluster.stop()
    with small_disk(scratch.path / "disk", 4000) as disk, small_disk(scratch.path / "other", 400) as other:
        there = scratch.path / "there"
        for arguments in (["--to", disk / "data", "--tablespace", f"space={there}"],
                          ["--to", scratch.path / "data", "--tablespace", f"space={other}/t"]):
            arguments[3] = arguments[3].replace("space=", f"{tablespace(site)}=")
            told = site.pgvigil.run("restore", *arguments, check=3)
            remove(there)
            small = disk if disk in Path(arguments[1]).parents else other
            assert_says(told, "not enough space for", str(small), "free")
            assert not (Path(arguments[1]) / "global" / "pg_control").exists()
    # There is room now.
    site.pgvigil.run("restore", "--to", scratch.path / "data", "--tablespace", f"{tablespace(site)}={there}")
    assert_verifybackup(scratch.path / "data", site.cluster.bindir)


def tablespace(site):
    return next(iter(backups(site).values()))["tablespaces"][0]["oid"]


# -- the data directory, and its server -------------------------------------------------------------------------------

def test_unreadable_files(site):
    """Neither left out in silence, nor a reason to stop half-way without a word."""
    path = site.cluster.data / site.cluster.scalar("select pg_relation_filepath('pg_proc')")
    folder = site.cluster.data / "base" / "1"
    for one, mode in ((path, 0o600), (folder, 0o700)):
        one.chmod(0)
        try:
            assert_says(site.backup(check=3), "Permission denied", one.name, hint=False)
        finally:
            one.chmod(mode)
        assert backups(site) == {}
    site.backup()
    assert len(backups(site)) == 1


@pytest.fixture
def halfway(site):
    """A backup in the middle of a file that it would never get through."""
    endless = make_endless(site)
    with Background(site.pgvigil, "backup", "--jobs", "2") as background:
        background.wait_for(lambda: background.has_open(endless), "it reads the endless file")
        yield site, background, endless


@pytest.mark.parametrize("mode", ["fast", "immediate", "restart"])
def test_the_server_goes_away_during_a_backup(halfway, mode):
    site, background, endless = halfway
    if mode == "restart":
        site.cluster.restart("immediate")
    else:
        site.cluster.stop(mode)
    os.truncate(endless, 0)
    done = background.finish(check=3, timeout=DEADLINE)
    assert_says(done, "server", hint=False)
    assert backups(site) == {}
    endless.unlink()
    if mode != "restart":
        site.cluster.start()
    site.backup()
    assert len(backups(site)) == 1


def test_a_standby_is_promoted_during_its_backup(site, scratch):
    standby = site.cluster.standby("standby")
    site.cluster.sql("create table t ()")
    site.write_config({"cluster": {"pgdata": standby.data, "conninfo": standby.conninfo}})
    endless = standby.data / "endless"
    with open(endless, "wb") as file:
        file.truncate(1 << 40)
    endless.chmod(0o600)
    own(endless)
    with Background(site.pgvigil, "backup") as background:
        background.wait_for(lambda: background.has_open(endless), "it reads the endless file")
        site.cluster.stop("immediate")
        standby.promote()
        os.truncate(endless, 0)
        done = background.finish(check=3, timeout=DEADLINE)
    assert_says(done, "promoted", hint=False)
    assert backups(site) == {}
    endless.unlink()
    site.backup()
    assert len(backups(site)) == 1


# -- signals ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("command", [*COMMANDS, "check"])
def test_a_signal_at_any_time(stage, command, number):
    """It ends soon, as if nothing had been; PostgreSQL must not take its end for an answer."""
    chosen = random.Random(f"{SEED} signal {command} {number}")
    started = time.monotonic()
    stage.works(command)
    whole = time.monotonic() - started
    for _ in range(SAMPLES):
        arguments = [str(part) for part in (*stage.site.pgvigil.command, *stage.arguments(command))]
        delay = chosen.uniform(0, whole)
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.STDOUT, cwd=stage.directory(command) or stage.site.pgvigil.cwd,
                                   env=system.environment(), start_new_session=True, umask=0o077, **system.identity())
        try:
            time.sleep(delay)
            process.send_signal(number)
            sent = time.monotonic()
            text, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
            process.wait()
        told = f"{number} after {delay:.3f} s, seed {SEED}: exit code {process.returncode}\n{text}"
        assert time.monotonic() - sent < 10, told
        assert not system.sanitizer_mark(text), told
        assert process.returncode in (0, -number) or \
            (process.returncode == 3 and f"interrupted by {number.name}" in text), told
        if command in ("archive-get", "archive-push") and process.returncode < 0:
            remove(stage.target)  # what it left there has no name that counts
            continue
        wrong = stage.check_state(command, process.returncode == 0)
        assert not wrong, f"{wrong}\n{told}"
        stage.tidy()
    sessions = "select count(*) from pg_stat_activity where application_name like 'pgvigil%%'"
    wait_until(lambda: stage.site.cluster.scalar(sessions) == 0, 10, "its sessions to end")
    stage.works(command)


def test_the_harness_can_tell_a_failure(stage):
    """A sweep in which nothing can fail, or whose failure is taken for success, must not pass."""
    with pytest.raises(AssertionError):
        sweep(stage, "archive-get", "sync", "-", EIO)
    with pytest.raises((AssertionError, HarnessError)):
        sweep(stage, "archive-get", "read", "repository", EIO, says="something else")
