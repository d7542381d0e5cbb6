"""What is recorded: pgvigil's ways of changing a disk, and what must hold in every state they may leave.

A Scenario is a record with a judge. `judge(state)` gives the broken promises of a state, looked at without pgvigil;
`rerun(state)` puts it on the disk, starts pgvigil again from there, and gives what went wrong.
"""

import os
import random
import re
import shutil
from dataclasses import dataclass

from harness import bindir, config_text, own, run, system, write_file
from harness.template import make_data_directory

from objects import Stored
from recorder import Quick, Recording
from replay import crash_states

MIXES = int(os.environ.get("FAULT_MIXES", "4"))
SEED = int(os.environ.get("FAULT_SEED", "1"))
RERUNS = int(os.environ.get("FAULT_RERUNS", "12"))


@dataclass
class Scenario:
    """`judge` and `rerun` (None: there is none) take a State and return a list of texts, empty if all is well."""

    name: str
    recording: Recording
    judge: object
    rerun: object = None
    every: object = staticmethod(lambda event: True)
    single_limit: int = 60
    prefer: object = staticmethod(lambda change: False)

    def __post_init__(self):
        self.recording.verify()

    def states(self, events=None, mixes=None):
        return crash_states(self.recording.events() if events is None else events, self.recording.model, seed=SEED,
                            mixes=MIXES if mixes is None else mixes, every=self.every, single_limit=self.single_limit,
                            prefer=self.prefer)

    def violation(self, events):
        """The first broken promise in the states of another record (a mutant's); None if all are kept."""
        for state in self.states(events, mixes=2):
            wrong = self.judge(state)
            if wrong:
                return f"{self.name}, event {state.at}, {state.what}: {wrong[0]}"
        return None

    def check(self, reruns=None):
        """Judges all states, starts again from some; raises AssertionError. Returns how many it were of each."""
        limit = RERUNS if reruns is None else reruns
        states, failures = list(self.states()), []
        for state in states:
            failures += [f"event {state.at}, {state.what}: {wrong}" for wrong in self.judge(state)]
        by_tree = list({state.tree.key: state for state in states}.values())
        chosen = by_tree
        if 0 < limit < len(by_tree):  # the last one has all that was acknowledged
            chosen = random.Random(SEED).sample(by_tree[:-1], limit - 1) + by_tree[-1:]
        for state in chosen if self.rerun else []:
            failures += [f"event {state.at}, {state.what}, started again: {wrong}" for wrong in self.rerun(state)]
        print(f"{self.name}: {len(self.recording.events())} events, {len(states)} states judged, "
              f"{len(chosen) if self.rerun else 0} of {len(by_tree)} started again (seed {SEED})")
        assert not failures, f"{self.name} (seed {SEED}):\n" + "\n".join(failures[:20])
        return len(states), len(chosen)


def record_kills(prepare, limit=200):
    """Calls prepare(n) for n = 1, 2, ...: it records a run that is killed at its n-th operation and what comes
    after, and returns a Scenario, or None once the run comes to its end before it is killed. Yields them."""
    for number in range(1, limit):
        scenario = prepare(number)
        if scenario is None:
            return
        yield scenario
    raise AssertionError(f"a process made more than {limit} operations")


class Host:
    """A data directory, a place for the repository and the local state, and the configuration. No server runs."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.data = scratch.path / "data"
        make_data_directory(self.data, bindir(), wal_segsize=1)
        self.area = scratch.mkdir("area")
        self.repository = self.area / "srv" / "repository"
        self.state_dir = self.area / "lib" / "state"
        self.config = scratch.path / "main.conf"
        self.configure()
        self.pgvigil = Quick(self.config, cwd=self.data)
        self.files = {}
        self._make_wal()

    def configure(self, repository=None):
        write_file(self.config, config_text({
            "cluster": {"name": "main", "pgdata": self.data, "state_dir": self.state_dir,
                        "conninfo": "host=/nonexistent"},
            "repository local": {"url": f"file://{repository or self.repository}"}}))

    def _make_wal(self):
        """One file of each kind, by PostgreSQL's name, in pg_wal; contents in self.files."""
        folder = self.data / "pg_wal"
        self.segment = next(name for name in sorted(os.listdir(folder)) if re.fullmatch("[0-9A-F]{24}", name))
        segment = (folder / self.segment).read_bytes()
        self.files[self.segment] = segment
        self.files["00000002.history"] = b"1\t0/1000000\tno recovery target specified\n"
        self.files[f"{self.segment}.00000028.backup"] = b"START WAL LOCATION: 0/1000028 (file 0)\n"
        self.files[f"{self.segment}.partial"] = segment
        for name, data in self.files.items():
            self.put(folder / name, data)

    @staticmethod
    def put(path, data):
        path.write_bytes(data)
        path.chmod(0o600)
        own(path)

    def reset(self):
        """Nothing is there, as before init."""
        for path in self.area.iterdir():
            shutil.rmtree(path)

    def init(self):
        self.reset()
        self.pgvigil.run("init")

    def record(self):
        return Recording(self.scratch, [self.area])

    # -- promises -----------------------------------------------------------------------------------------------

    def identity(self, tree):
        """The id in pgvigil.json, the pinned one; None for what is not there."""
        data, pin = tree.data(self.repository / "pgvigil.json"), tree.data(self.state_dir / "repository" / "local")
        found = re.search(rb'"id": "([0-9a-f]{32})"', data or b"")
        return found and found[1].decode(), pin and pin.decode(errors="replace")

    def judge(self, state):
        stored = Stored(state.tree.below(str(self.repository)))
        wrong = [f"{path} is visible, and {why}" for path, why in stored.broken()]
        wrong += self._judge_identity(state)
        for mark in state.marks:
            what, _, name = mark.partition(" ")
            if what == "pushed":
                wrong += self._judge_pushed(stored, name)
        return wrong

    def _judge_identity(self, state):
        identity, pin = self.identity(state.tree)
        wrong = []
        if pin is not None and identity is None:
            wrong.append("a repository's id is pinned, and there is no repository")
        elif pin is not None and pin != f"{identity}\n":
            wrong.append(f"the pinned id is {pin!r}, the repository's {identity}")
        if "initialized" in state.marks and identity is None:
            wrong.append("init was acknowledged, and there is no repository")
        return wrong

    def _judge_pushed(self, stored, name):
        found = stored.wal(name)
        right = self.files[name]
        if right == found or (isinstance(found, set) and right in found):
            return []
        return [f"{name} was acknowledged, and {'its content is another' if found else 'is not there'}"]

    def put_state(self, state):
        state.tree.write({str(self.area): str(self.area)}, self.owner())

    def rerun_push(self, state):
        """Pushed and fetched; the local state is as it is or lost, by turns."""
        wrong = []
        self.put_state(state)
        if state.tree.key[0] % 2:
            shutil.rmtree(self.state_dir, ignore_errors=True)
            self._make_state_dir()
        for name in (self.segment, "00000002.history"):
            wrong += self._push_and_get(name)
        return wrong + [f"{path}: {why}" for path, why in Stored.on_disk(self.repository).broken()]

    def _push_and_get(self, name):
        target = self.scratch.path / "fetched"
        target.unlink(missing_ok=True)
        for args in (("archive-push", f"pg_wal/{name}"), ("archive-get", name, target)):
            done = self.pgvigil.run(*args, check=False)
            if done.rc != 0:
                return [f"{args[0]} {name}: {done.describe()}"]
        return [] if target.read_bytes() == self.files[name] else [f"archive-get delivered another {name}"]

    def rerun_init(self, state):
        """init can be run again, and then push works; the local state is as it is or lost, by turns."""
        self.put_state(state)
        if state.tree.key[0] % 2:
            shutil.rmtree(self.state_dir, ignore_errors=True)
        done = self.pgvigil.run("init", check=False)
        return ([] if done.rc == 0 else [done.describe()]) + self._push_and_get(self.segment)

    def _make_state_dir(self):
        if not self.state_dir.parent.exists():
            own(self.state_dir.parent.mkdir() or self.state_dir.parent)
        self.state_dir.mkdir(mode=0o700)
        own(self.state_dir)

    @staticmethod
    def owner():
        user = system.owner()
        return user.pw_uid, user.pw_gid

    # -- archive-push -------------------------------------------------------------------------------------------

    def push(self, recording, name, **more):
        return recording.run(self.pgvigil, "archive-push", f"pg_wal/{name}", says=f"pushed {name}", **more)

    def new_segment(self):
        self.init()
        recording = self.record()
        self.push(recording, self.segment)
        return Scenario("push of a new segment", recording, self.judge, self.rerun_push)

    def all_kinds(self):
        self.init()
        recording = self.record()
        for name in self.files:
            self.push(recording, name)
        return Scenario("push of every kind of file", recording, self.judge, self.rerun_push)

    def killed_pushes(self):
        def prepare(number):
            self.init()
            recording = self.record()
            if self.push(recording, self.segment, kill=number, check=False).rc == 0:
                return None
            self.push(recording, self.segment)
            return Scenario(f"push killed at operation {number}, then again", recording, self.judge, self.rerun_push)
        return record_kills(prepare)

    def same_at_once(self):
        """The other one stores the segment just before this one would."""
        self.init()
        recording = self.record()
        with recording.start(self.pgvigil, "archive-push", f"pg_wal/{self.segment}",
                             hold=("rename", f"{self.segment}.zst")) as first:
            self.push(recording, self.segment)
            code, text = first.go_on(f"pushed {self.segment}")
            assert code == 0, text
        return Scenario("two pushes of one segment", recording, self.judge, self.rerun_push)

    def seen_before_durable(self):
        """A push finds what another one has named, and not yet made durable; that one never gets to it."""
        self.init()
        recording = self.record()
        with recording.start(self.pgvigil, "archive-push", f"pg_wal/{self.segment}",
                             hold=("renamed", f"{self.segment}.zst")) as first:
            self.push(recording, self.segment)
            first.kill()
        return Scenario("push of what another push has just named", recording, self.judge, self.rerun_push)

    def copied(self):
        """A copy of the repository, made by something that syncs nothing but its root, is in use at once. Nobody but
        its maker answers for the copy; but what push then acknowledges must be there."""
        self.init()
        self.pgvigil.run("archive-push", f"pg_wal/{self.segment}")
        copy = self.scratch.path / "copy.py"
        write_file(copy, "import os, sys\nsource, target = sys.argv[1:]\n"
                   "os.mkdir(target)\nparent = os.open(os.path.dirname(target), os.O_RDONLY)\nos.fsync(parent)\n"
                   "for folder, names, files in os.walk(source):\n"
                   "    there = target + folder[len(source):]\n    os.path.exists(there) or os.mkdir(there)\n"
                   "    for name in files:\n"
                   "        fd = os.open(f'{there}/{name}', os.O_CREAT | os.O_WRONLY, 0o600)\n"
                   "        os.write(fd, open(f'{folder}/{name}', 'rb').read())\n")
        original, self.repository = self.repository, self.area / "copy"
        self.configure()
        recording = self.record()
        run(["/usr/bin/python3", copy, original, self.repository], env=recording.environment())
        self.push(recording, self.segment)

        def judge(state, repository=self.repository):
            stored = Stored(state.tree.below(str(repository)))
            return [wrong for mark in state.marks for wrong in self._judge_pushed(stored, mark.split()[1])]

        self.repository = original
        self.configure()
        return Scenario("push into a copy of a repository", recording, judge)

    # -- init ---------------------------------------------------------------------------------------------------

    def first_init(self):
        self.reset()
        recording = self.record()
        recording.run(self.pgvigil, "init", says="initialized")
        return Scenario("init", recording, self.judge, self.rerun_init)

    def killed_inits(self):
        def prepare(number):
            self.reset()
            recording = self.record()
            if recording.run(self.pgvigil, "init", kill=number, check=False).rc == 0:
                return None
            recording.run(self.pgvigil, "init", says="initialized")
            return Scenario(f"init killed at operation {number}, then again", recording, self.judge, self.rerun_init)
        return record_kills(prepare)

    def list_before_durable(self):
        """Another command comes while init has named pgvigil.json, and not yet made it durable."""
        self.reset()
        recording = self.record()
        with recording.start(self.pgvigil, "init", hold=("renamed", "pgvigil.json")) as first:
            recording.run(self.pgvigil, "list", check=False)
            first.kill()
        return Scenario("list while init is at work", recording, self.judge, self.rerun_init)

    def written_configuration(self):
        """The file that init writes; it goes on to /var/lib, which may or may not be ours."""
        self.reset()
        recording = self.record()
        config = self.area / "etc" / "pgvigil" / "new.conf"
        url = f"file://{self.repository}"
        done = recording.run(Quick(config, cwd=self.data), "init", "--pgdata", self.data, "--url", url, check=False,
                             kill=None)
        assert "wrote configuration" in done.stderr, done.describe()
        recording.mark("configured")
        right = config.read_bytes()

        def judge(state):
            there = state.tree.data(config)
            if there is None:
                return ["the configuration was written, and is not there"] if state.marks else []
            return [] if there == right else ["the configuration is not whole"]

        return Scenario("init writes a configuration", recording, judge)

    # -- archive-get --------------------------------------------------------------------------------------------

    def get(self, name="00000002.history"):
        """Delivered under the final name only when whole; the host remembers history files."""
        self.init()
        self.pgvigil.run("archive-push", f"pg_wal/{name}")
        wal = self.area / "pg_wal"
        own(wal.mkdir() or wal)
        recording = self.record()
        recording.run(self.pgvigil, "archive-get", name, wal / "RECOVERY", says=f"got {name}")
        memory = self.state_dir / "history"

        def judge(state):
            remembered = [data for path, data in state.tree.below(str(memory)).items() if path.endswith(".history")]
            wrong = ["a remembered history is not whole"] * (remembered not in ([], [self.files[name]]))
            # The server fetches again after a power cut, but not after a mere end of this process.
            if state.what == "everything survived":
                there = state.tree.data(wal / "RECOVERY")
                if there != self.files[name] and (there is not None or state.marks):
                    wrong.append("what was delivered is not whole")
            return wrong

        def rerun(state):
            self.put_state(state)
            done = self.pgvigil.run("archive-get", name, wal / "RECOVERY", check=False)
            if done.rc != 0:
                return [done.describe()]
            return [] if (wal / "RECOVERY").read_bytes() == self.files[name] else ["another content was delivered"]

        return Scenario(f"get of {name}", recording, judge, rerun)
