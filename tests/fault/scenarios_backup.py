"""Records of backup and restore, with a real server; see scenarios.py."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from backup_tools import Background, backup_has_stopped, resume_archiving, stop_archiving
from harness import Site, own, wait_until, write_file

from objects import Stored
from recorder import Quick, Recording
from scenarios import Host, Scenario


class ServerHost:
    """A small running cluster with a tablespace, archiving into a repository; for one test module."""

    def __init__(self, scratch):
        self.site = Site(scratch, wal_segsize=1)
        self.scratch = scratch
        self.repository, self.state_dir = self.site.repository, self.site.state_dir
        self.pgvigil = Quick(self.site.config, cwd=scratch.path)
        self.site.pgvigil = self.pgvigil
        self.cluster = self.site.cluster
        self.location = self.cluster.create_tablespace("other")
        self.cluster.sql("create table here (i int, t text)")
        self.cluster.sql("create table there (i int) tablespace other")
        self.cluster.sql("insert into here select i, repeat('x', i % 300) from generate_series(1, 3000) i")
        self.cluster.sql("insert into there select generate_series(1, 3000)")
        self.cluster.switch_wal()

    @contextlib.contextmanager
    def recorded_archiving(self, recording):
        """The server's archive_command is recorded as well, and marks what it acknowledges."""
        env = "".join(f"export {key}='{value}'\n" for key, value in recording.environment().items())
        program = " ".join(f"'{part}'" for part in self.pgvigil.command)
        command = write_file(self.scratch.path / "recorded-push",
                             f"#!/bin/sh\n{env}{program} archive-push \"$1\" || exit\nunset LD_PRELOAD\n"
                             f"printf '0\\tmark\\tpushed %s\\t0\\n\\n' \"${{1##*/}}\" >>'{recording.log}'\n",
                             mode=0o700)
        before = stop_archiving(self.site)
        resume_archiving(self.site, f"{command} %p")
        wait_until(lambda: str(command) in self.cluster.scalar("show archive_command"), 10, "the new setting")
        yield
        self.settle()
        stop_archiving(self.site)
        resume_archiving(self.site, before)

    # -- backup -------------------------------------------------------------------------------------------------

    def judge_backup(self, state):
        stored = Stored(state.tree.below(str(self.repository)))
        wrong = [f"{path} is visible, and {why}" for path, why in stored.broken()]
        backups = stored.backups()
        wrong += [f"backup {run} is visible, and {why}" for run, why in backups.items() if why]
        for mark in state.marks:
            what, name = mark.split(" ", 1)
            if what == "pushed" and stored.wal(name) is None:
                wrong.append(f"{name} was acknowledged, and is not there")
            elif what == "completed" and backups.get(name, "it is not there"):
                wrong.append(f"backup {name} was acknowledged, and {backups.get(name, 'it is not there')}")
        return wrong

    def recorded_backup(self):
        self.settle()
        recording = Recording(self.scratch, [self.repository, self.state_dir])
        with self.recorded_archiving(recording):
            done = recording.run(self.pgvigil, "backup")
            recording.mark("completed " + re.search(r"backup (\w+) is complete", done.stderr)[1])
        return Scenario("backup", recording, self.judge_backup, self.rerun_list, single_limit=20)

    def backup_sees_undurable_wal(self):
        """The last segment that a backup waits for has got its name, and its directory was not synced yet."""
        self.settle()
        recording = Recording(self.scratch, [self.repository, self.state_dir])
        before = stop_archiving(self.site)
        with Background(_Recorded(self.pgvigil, recording), "backup") as backup:
            backup.wait_for(lambda: backup_has_stopped(self.site), "pg_backup_stop")
            pg_wal = self.cluster.data / "pg_wal"
            ready = sorted(path.stem for path in (pg_wal / "archive_status").glob("*.ready"))
            *others, last = [name for name in ready if re.fullmatch("[0-9A-F]{24}", name)]
            for name in others:
                recording.run(self.pgvigil, "archive-push", pg_wal / name, says=f"pushed {name}")
            with recording.start(self.pgvigil, "archive-push", pg_wal / last, hold=("renamed", f"{last}.zst")) as push:
                done = backup.finish()
                recording.mark("completed " + re.search(r"backup (\w+) is complete", done.stderr)[1])
                push.kill()
        # Before the server archives anything that is not recorded.
        scenario = Scenario("backup that sees WAL which is not durable yet", recording, self.judge_backup,
                            self.rerun_list, single_limit=20)
        resume_archiving(self.site, before)
        return scenario

    def elsewhere(self, state):
        """The state in directories of its own, so that the server's WAL does not get into it; returns the runner."""
        places = {str(root): str(self.scratch.mkdir(f"again/{root.name}"))
                  for root in (self.repository, self.state_dir)}
        state.tree.write(places, Host.owner())
        repository, state_dir = places.values()
        config = self.scratch.path / "again.conf"
        self.site.write_config({"cluster": {"state_dir": state_dir},
                                "repository local": {"url": f"file://{repository}"}}, path=config)
        return Quick(config, cwd=self.scratch.path), Path(repository)

    def rerun_list(self, state):
        """`list` shows exactly what is whole."""
        pgvigil, repository = self.elsewhere(state)
        done = pgvigil.run("list", "--json", check=False)
        whole = {run for run, why in Stored.on_disk(repository).backups().items() if not why}
        shown = set(re.findall(r'"id": "(\d{8}T\d{6}Z)"', done.stdout))
        if done.rc != 0 or shown != whole:
            return [f"list shows {sorted(shown)}, whole are {sorted(whole)}\n{done.describe()}"]
        return []

    def rerun_backup(self, state):
        """The next backup is fine, and can be restored, whatever was there."""
        pgvigil, repository = self.elsewhere(state)
        before = stop_archiving(self.site)
        resume_archiving(self.site, f"{pgvigil.shell_command} archive-push %p")
        wait_until(lambda: str(pgvigil.config) in self.cluster.scalar("show archive_command"), 10, "the new setting")
        done = pgvigil.run("backup", check=False)
        self.settle()
        stop_archiving(self.site)
        resume_archiving(self.site, before)
        wrong = [] if done.rc == 0 else [done.describe()]
        wrong += [f"{run}: {why}" for run, why in Stored.on_disk(repository).backups().items() if why]
        return wrong + self.restores(pgvigil)

    def restores(self, pgvigil):
        out = self.scratch.mkdir("again/out")
        shutil.rmtree(out)
        self.scratch.mkdir("again/out")
        done = pgvigil.run("restore", "--to", out / "data", "--tablespace", f"{self.location}={out}/tablespace",
                           "--target", "immediate", check=False)
        if done.rc != 0:
            return [done.describe()]
        # Directories outside are not followed by pg_verifybackup of older versions, the link to the tablespace is.
        done = self.cluster.tool("pg_verifybackup", "-n", out / "data", check=False)
        return [] if done.rc == 0 else [done.describe()]

    def settle(self):
        """The server has no more to archive just now."""
        status = self.cluster.data / "pg_wal" / "archive_status"
        wait_until(lambda: not list(status.glob("*.ready")), 30, "the server to archive its WAL")

    # -- restore ------------------------------------------------------------------------------------------------

    def recorded_restore(self, name="restored", killed=None):
        """Into a directory, with the tablespace into another one; first one that is killed at its operation number
        `killed`, so that there are remains to clear away."""
        out = self.scratch.mkdir(f"{name}-out")
        self.targets = (out / "data", out / "tablespace")
        recording = Recording(self.scratch, [out])
        if killed:
            assert recording.run(self.pgvigil, *self._restore_arguments(), kill=killed, check=False).rc == -9
        recording.run(self.pgvigil, *self._restore_arguments(), says="restored")
        right, targets = read_tree(out), [str(target) for target in self.targets]

        def judge(state):
            return _judge_restore(state, right, targets)

        return Scenario("restore" + (f" over one killed at operation {killed}" if killed else ""), recording, judge,
                        lambda state: self._rerun_restore(state, out, right), single_limit=12,
                        prefer=lambda change: change.name in ("data", "tablespace", "pgvigil.restoring", "pg_control"),
                        every=lambda event: event.kind not in ("write", "size", "create", "unlink"))

    def recorded_delta(self):
        """Onto a directory in which a relation is damaged and pg_wal holds a segment that is nowhere else."""
        out = self.scratch.mkdir("delta-out")
        self.targets = (out / "data", out / "tablespace")
        self.pgvigil.run(*self._restore_arguments())
        data = self.targets[0]
        relation = max((data / "base").glob("*/*"), key=lambda path: path.stat().st_size)
        with open(relation, "r+b") as file:
            file.write(b"damage")
        own(write_file(data / "pg_wal" / DELTA_SEGMENT, DELTA_WAL))
        own(write_file(data / "foreign", "foreign"))
        old = read_tree(out)
        recording = Recording(self.scratch, [out])
        recording.run(self.pgvigil, *self._restore_arguments(), "--delta", says="restored")
        right = read_tree(out)
        return Scenario("restore --delta", recording, lambda state: _judge_delta(state, old, right, data),
                        single_limit=12, prefer=lambda change: change.name in ("pgvigil.delta", "pg_control"),
                        every=lambda event: event.kind not in ("write", "size", "create", "unlink"))

    def _restore_arguments(self):
        target, tablespace = self.targets
        return ("restore", "--to", target, "--tablespace", f"{self.location}={tablespace}", "--target", "immediate")

    def _rerun_restore(self, state, out, right):
        """A target that is not complete can be restored into again, without clearing it by hand."""
        state.tree.write({str(out): str(out)}, Host.owner())
        if f"{self.targets[0]}/global/pg_control" in state.tree:
            return []
        done = self.pgvigil.run(*self._restore_arguments(), check=False)
        if done.rc != 0:
            return [done.describe()]
        return differences(read_tree(out), right)


class _Recorded:
    """Looks like a Pgvigil to Background, and runs it recorded."""

    def __init__(self, pgvigil, recording):
        env = [f"{key}={value}" for key, value in recording.environment().items()]
        self.command, self.cwd = ["env", *env, *pgvigil.command], pgvigil.cwd


def read_tree(root):
    """{path: bytes, None for a directory, str for a link} of everything below."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isdir(path):
                found[path] = None
            else:
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


VARYING = re.compile(r"/(postgresql\.auto\.conf|backup_manifest)$")  # the time of the restore is in them


def differences(found, right, ignore=VARYING):
    wrong = [f"{path} is missing" for path in right.keys() - found.keys()]
    wrong += [f"{path} should not be there" for path in found.keys() - right.keys()]
    wrong += [f"{path} differs" for path in right.keys() & found.keys()
              if right[path] != found[path] and not ignore.search(path)]
    return sorted(wrong)


def _judge_restore(state, right, targets):
    target = targets[0]
    control = f"{target}/global/pg_control"
    if control not in state.tree:
        wrong = ["the restore was acknowledged, and there is no global/pg_control"] if state.marks else []
        return wrong + _judge_remains(state, targets)
    found = {path: getattr(node, "data", node) for path, node in state.tree.paths.items() if path in right}
    wrong = [f"there is a pg_control, and {text}" for text in differences(found, right, re.compile("$ "))]
    if state.marks:
        extra = [path for path in state.tree.paths if path.startswith(tuple(targets)) and path not in right
                 and path not in targets]
        wrong += [f"the restore was acknowledged, and {path} is still there" for path in extra]
    return wrong[:5]


DELTA_SEGMENT, DELTA_WAL = "0000000100000000000000AA", "WAL that was never archived"


def _judge_delta(state, old, right, data):
    """With a pg_control all is as it was, or all is as it shall be; without, the mark says whose it is."""
    found = {path: getattr(node, "data", node) for path, node in state.tree.paths.items() if path != str(data.parent)}
    wrong = []
    if DELTA_WAL.encode() not in found.values():
        wrong.append("the WAL that was there is lost")
    if f"{data}/global/pg_control" not in found:
        mark = found.get(f"{data}/pgvigil.delta") or b""
        if b"system identifier" not in mark:
            wrong.append("there is no pg_control, and nothing says whose directory it is")
        if state.marks:
            wrong.append("the restore was acknowledged, and there is no pg_control")
        return wrong
    # A rename may have survived without the old name having gone.
    ours = re.compile(r"/pgvigil\.delta$|/\.pgvigil-\w+$|/pg_wal/|/pg_control\.pgvigil-tmp$")
    shown = {path: data for path, data in found.items() if not ours.search(path)}
    before, after = (differences(shown, {path: data for path, data in tree.items() if not ours.search(path)},
                                 re.compile("$ ")) for tree in (old, right))
    if after and (before or state.marks):
        wrong.append(f"there is a pg_control, and {after[0]}")
    return wrong


def _judge_remains(state, targets):
    """What a crash leaves must be known for what it is by the next restore: a tablespace by the target's own mark."""
    marks = [state.tree.data(f"{target}/pgvigil.restoring") for target in targets]
    for target, mark in zip(targets, marks):
        others = [path for path in state.tree.paths
                  if path.startswith(f"{target}/") and "pgvigil.restoring" not in path]
        if others and (mark is None or (target != targets[0] and (mark != marks[0] or not mark))):
            return [f"{target} holds {len(others)} files, and nothing says that they are remains of a restore"]
    return []
