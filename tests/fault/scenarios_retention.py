"""Records of expire, keep and copy, which need no server once there are backups; see scenarios.py."""

import os
import re
import time

from harness import own, run

from objects import Stored, names
from recorder import Quick, Recording
from scenarios import Host, Scenario

RIPE = 2 * 3600 + 60  # seconds after which a mark is acted upon


class RetentionHost:
    """Two backups, in a repository that nobody else writes to; for one test module.

    server: a ServerHost, whose repository this is a copy of.
    """

    def __init__(self, server):
        self.server = server
        self.scratch = server.scratch
        self.area = self.scratch.mkdir("retention")
        self.west, self.east, self.state_dir = (self.area / name for name in ("west", "east", "state"))
        self.config = self.scratch.path / "retention.conf"
        server.site.write_config({"cluster": {"state_dir": self.state_dir},
                                  "repository local": {"url": f"file://{self.west}"},
                                  "repository east": {"url": f"file://{self.east}", "copy": "async"},
                                  "retention": {"window": "1 s"}}, path=self.config)
        self.pgvigil = Quick(self.config, cwd=self.scratch.path)
        self.source = self.scratch.mkdir("two-backups")
        for _ in range(2):
            server.pgvigil.run("backup", "--full")
            time.sleep(1.1)  # the first one ends before the window
        server.settle()
        run(["cp", "-a", f"{server.repository}/.", self.source])
        # That of a test which came before is none of the two.
        *_, self.first, self.second = sorted(Stored.on_disk(self.source).backups())

    def reset(self, *commands):
        """West has the two backups, east nothing; these commands have been run since."""
        run(["rm", "-rf", *self.area.iterdir()])
        for place in (self.west, self.east, self.state_dir):
            own(place.mkdir(mode=0o700) or place)
        run(["cp", "-a", f"{self.source}/.", self.west])
        self.pgvigil.run("init")
        for command in commands:
            self.pgvigil.run(*command)

    def age(self):
        """As if all had been stored earlier, by the only clock that expire goes by."""
        for repository in (self.west, self.east):
            for name in names(repository):
                status = os.stat(repository / name)
                os.utime(repository / name, (status.st_atime, status.st_mtime - RIPE))

    def record(self):
        return Recording(self.scratch, [self.west, self.east, self.state_dir])

    def put_state(self, state):
        state.tree.write({str(root): str(root) for root in (self.west, self.east, self.state_dir)}, Host.owner())

    # -- promises -----------------------------------------------------------------------------------------------

    def judge(self, state):
        wrong = []
        for repository in (self.west, self.east):
            stored = Stored(state.tree.below(str(repository)))
            wrong += [f"{path} is visible in {repository.name}, and {why}" for path, why in stored.broken()]
            wrong += [f"backup {backup} is visible in {repository.name}, and {why}"
                      for backup, why in stored.backups().items() if why]
            if repository == self.west:  # copies come without notes
                wrong += [f"{path} is there, and its run has no begin note" for path in orphans(stored)]
        west, east = ({path.split("/", 2)[-1] for path in state.tree.below(str(place))}
                      for place in (self.west, self.east))
        for mark in state.marks:
            wrong += [f"{name} is gone after \"{mark}\"" for name in self._due(mark) if name not in west]
            if mark == "copied" and f"backup/{self.second}/backup.json" not in east:
                wrong.append("the copy was acknowledged, and is not there")
        return wrong + [f"backup {self.second} is gone"] * (f"backup/{self.second}/backup.json" not in west)

    def _due(self, mark):
        return {"kept": [f"keep/{self.first}/1"], "unkept": [f"keep/{self.first}/2"],
                "marked": [f"expire/{self.first}/1"]}.get(mark, [])

    # -- expire -------------------------------------------------------------------------------------------------

    def _ripe(self):
        self.reset()
        self.age()
        self.pgvigil.run("expire", "--repository", "local")
        self.age()

    def _expire(self, recording, **more):
        return recording.run(self.pgvigil, "expire", "--repository", "local", **more)

    def marking(self):
        self.reset()
        self.age()
        recording = self.record()
        self._expire(recording, says="marked")
        return Scenario("expire marks", recording, self.judge, self.rerun_expire)

    def removing(self):
        self._ripe()
        recording = self.record()
        self._expire(recording)
        assert list(Stored.on_disk(self.west).backups()) == [self.second]
        return self._removal("expire", recording)

    def removal_seen_before_durable(self):
        """An expire ends between the removal of backup.json and its fsync; the next one finds it gone."""
        events = self.removing().recording.events()
        at = next(i for i, event in enumerate(events) if naming(event, "unlink", "backup.json"))
        number = sum(event.kind != "mark" for event in events[:at]) + 2
        self._ripe()
        recording = self.record()
        assert self._expire(recording, kill=number, check=False).rc == -9
        last = [event for event in recording.events() if event.kind != "killed"][-1]
        assert naming(last, "unlink", "backup.json"), last
        self.age()
        self._expire(recording)
        return self._removal("expire after one that was killed", recording)

    def _removal(self, name, recording):
        return Scenario(name, recording, self.judge, self.rerun_expire, single_limit=20,
                        prefer=lambda change: change.name == "backup.json")

    def rerun_expire(self, state):
        """The next ones, hours later, finish the work: what is left can be restored, and nothing else is left."""
        self.put_state(state)
        for _ in range(4):
            self.age()
            done = self.pgvigil.run("expire", "--repository", "local", check=False)
            if done.rc != 0:
                return [done.describe()]
        wrong = [f"{name} is still there" for name in names(self.west)
                 if self.first in name and "/run/" not in name]
        wrong += [f"{backup}: {why}" for backup, why in Stored.on_disk(self.west).backups().items() if why]
        return wrong + self.server.restores(self.pgvigil)

    # -- keep ---------------------------------------------------------------------------------------------------

    def keeping(self):
        self.reset()
        recording = self.record()
        recording.run(self.pgvigil, "keep", self.first, says="kept")
        recording.run(self.pgvigil, "unkeep", self.first, says="unkept")
        return Scenario("keep and unkeep", recording, self.judge, self.rerun_keep)

    def kept_before_durable(self):
        """Another one has stored the note and not yet made it durable; it never gets to it."""
        self.reset()
        recording = self.record()
        with recording.start(self.pgvigil, "keep", self.first, hold=("renamed", "1")) as first:
            recording.run(self.pgvigil, "keep", self.first, says="kept")
            first.kill()
        return Scenario("keep of what another keep has just noted", recording, self.judge, self.rerun_keep)

    def rerun_keep(self, state):
        """A backup that is kept does not expire."""
        self.put_state(state)
        done = self.pgvigil.run("keep", self.first, check=False)
        for _ in range(2):
            self.age()
            self.pgvigil.run("expire")
        there = Stored.on_disk(self.west).backups()
        return [] if done.rc == 0 and self.first in there else [done.describe()]

    # -- copy ---------------------------------------------------------------------------------------------------

    def copying(self):
        self.reset()
        recording = self.record()
        recording.run(self.pgvigil, "copy", says="copied")
        return Scenario("copy", recording, self.judge, self.rerun_copy, single_limit=12,
                        prefer=lambda change: change.name == "backup.json")

    def rerun_copy(self, state):
        self.put_state(state)
        done = self.pgvigil.run("copy", check=False)
        if done.rc != 0:
            return [done.describe()]
        backups = Stored.on_disk(self.east).backups()
        return [] if backups.get(self.second, "it is not there") is None else [f"{self.second}: {backups}"]


def naming(event, kind, name):
    return event.kind == kind and event.fields[1] == name


def orphans(stored):
    """Packs and parts of backups whose run has no begin note: its id could be taken again."""
    begun = {path.split("/")[-2] for path in stored.files if path.endswith("/begin.json")}
    owned = ((path, re.search(r"/(?:pack|backup)/(\w+)/", path)) for path in stored.files)
    return sorted(path for path, found in owned if found and found[1] not in begun)
