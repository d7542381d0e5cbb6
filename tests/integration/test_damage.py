"""Every kind of stored object, damaged in every way: what each command answers, and that nothing startable comes out.

The table is `EXPECTED` (an object, a command, its exit codes, what it says) times `ways()`. A repository is made once
for the module; each row works on a copy. What is forged all the way up to backup.json is in test_forged.py.
"""

import json
import os
import random
from dataclasses import dataclass

import pytest
from forge import (BACKUP_HISTORY, END, FIELDS, HISTORY, IDENTITY, LEASE, MARK, PARTIAL, PATTERNS, TRAILER,
                   WAL, Copy, Forgery, kind_of, mend, remove, seal)
from harness import Site, keys, system

pytestmark = pytest.mark.alone  # another repository would help out

LEFT = "20260101T000000Z"  # a run that others go on with


@dataclass(frozen=True)
class World:
    """A repository with two backups on timeline 1 and WAL of timelines 1 and 2."""

    site: Site
    first: str
    second: str


@pytest.fixture(scope="module")
def world(module_scratch):
    site = Site(module_scratch)
    site.cluster.sql("create table t as select generate_series(1, 3000) g")
    site.backup()
    site.cluster.switch_wal()
    site.cluster.sql("insert into t values (0)")
    site.backup("--full")  # with packs of its own
    site.cluster.switch_wal()
    standby = site.cluster.standby("standby")
    site.cluster.sql("insert into t values (0)")
    system.wait_until(lambda: standby.scalar("select pg_last_wal_replay_lsn() >= %s::pg_lsn",
                                             site.cluster.scalar("select pg_current_wal_lsn()")), 30, "the standby")
    site.cluster.stop("immediate")
    standby.promote()
    for _ in range(2):
        standby.sql("insert into t values (1)")
        standby.switch_wal()
    system.wait_until(lambda: list(site.repository.rglob(keys.stored("*.partial.*.zst"))), 30, "the partial segment")
    standby.stop()
    first, second = sorted(path.parent.name for path in site.repository.rglob("backup.json"))
    for command in ("keep", "unkeep", "keep"):
        for backup in (first, second):
            site.pgvigil.run(command, backup)
    # No run here takes long enough to renew its lease, nor is one old enough to be marked, nor goes on with another's.
    for run in (first, second):
        put(site, f"run/{run}/lease-1", {"renewed": "2026-11-20T02:10:00.123456Z", "run": run})
        put(site, f"run/{run}/claim-{LEFT}", {"claimed": LEFT, "run": run})
    for number, note in ((1, "expire"), (2, "unexpire")):
        put(site, f"expire/{first}/{number}", {"host": "db1", "noted": "2026-11-20T09:00:00.123456Z", "note": note,
                                               "run": first, "user": "postgres"})
    return World(site, first, second)


def put(site, name, content):
    """Stores a plain JSON object."""
    with Copy(site, "plain") as copy:
        path = site.repository / copy.folder.relative_to(copy.path) / name
        for folder in (path.parent.parent, path.parent):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                system.own(folder)
        body = json.dumps(content, indent=2, sort_keys=True) + "\n"
        path.write_bytes(seal(copy.system_identifier, name, body.encode()))
        path.chmod(0o600)
        system.own(path)


# -- what is damaged ------------------------------------------------------------------------------------------------

def segments(copy, timeline):
    return [name for name in copy.names(WAL) if name.startswith(f"wal/{timeline:08}")]


def start_segment(copy, run):
    """The first segment that a backup needs."""
    start = Forgery(copy, run).info["start_lsn"].split("/")
    return next(name for name in segments(copy, 1)
                if name.endswith(f"{int(start[0], 16):08X}{int(start[1], 16) >> 20:08X}.zst"))


def pack_of(copy, run, kind):
    return next(fields[0] for fields in Forgery(copy, run).refs if fields[3] == kind)


OBJECTS = {  # label: its name
    "identity": lambda copy, world: "pgvigil.json",
    "segment of a backup": lambda copy, world: start_segment(copy, world.second),
    "segment behind the backups": lambda copy, world: segments(copy, 2)[0],
    "first segment": lambda copy, world: segments(copy, 1)[0],
    "newest segment": lambda copy, world: segments(copy, 2)[-1],
    "partial": lambda copy, world: copy.names(PARTIAL)[0],
    "history": lambda copy, world: copy.names(HISTORY)[0],
    "backup history": lambda copy, world: copy.names(BACKUP_HISTORY)[-1],
    "begin note": lambda copy, world: f"run/{world.second}/begin.json",
    "lease": lambda copy, world: f"run/{world.second}/lease-1",
    "claim": lambda copy, world: f"run/{world.second}/claim-{LEFT}",
    "end note": lambda copy, world: f"run/{world.second}/end.json",
    "data pack": lambda copy, world: pack_of(copy, world.second, "data"),
    "map pack": lambda copy, world: pack_of(copy, world.second, "map"),
    "manifest": lambda copy, world: f"backup/{world.second}/manifest.sqlite.zst",
    "refs": lambda copy, world: f"backup/{world.second}/refs.zst",
    "backup.json": lambda copy, world: f"backup/{world.second}/backup.json",
    "keep note": lambda copy, world: f"keep/{world.second}/3",
    "mark": lambda copy, world: copy.names(MARK)[-1],
}

# -- the ways -------------------------------------------------------------------------------------------------------

def flipped(data, at):
    broken = bytearray(data)
    broken[at] ^= 0x10
    return bytes(broken)


def trailer_changed(data, offset, length, *, mended):
    body, trailer = data[:-TRAILER], bytearray(data[-TRAILER:])
    trailer[offset] ^= 1
    trailer[offset + length - 1] ^= 0x40
    return body + (mend(trailer) if mended else bytes(trailer))


def another(copy, name):
    """Another object of the kind that there is, or the same contents stored under another name."""
    others = [other for other in copy.names(kind_of(name)) if other != name]
    if others:
        return copy.read(others[0])
    if kind_of(name) == IDENTITY:
        return None
    renamed = name.replace("00000002", "00000003").replace(".partial.", ".partial.0")
    return seal(copy.system_identifier, renamed, copy.read(name)[:-TRAILER])


def earlier(copy, world, name):
    """The object that the earlier backup, or for WAL the segment before, has at this place."""
    if world.second in name:
        before = copy.file(name.replace(world.second, world.first))
        return before.read_bytes() if before.exists() else None
    others = copy.names(kind_of(name))
    return copy.read(others[0]) if others[0] != name else None


def ways(copy, world, name):
    """{way: bytes, or None for a deleted object}."""
    whole = copy.read(name)
    body = whole[:-TRAILER]
    middle = len(body) // 2
    table = {
        "deleted": None,
        "flip first byte": flipped(whole, 0),
        "flip in the middle": flipped(whole, middle),
        "flip last byte of the body": flipped(whole, len(body) - 1),
        "truncated to nothing": b"",
        "truncated to half": whole[:len(whole) // 2],
        "truncated by one byte": whole[:-1],
        "truncated by the trailer": body,
        "one byte of the body gone": body[:-1] + whole[-TRAILER:],
        "only the trailer": whole[-TRAILER:],
        "extended by a byte": whole + b"\0",
        "extended by a byte before the trailer": body + b"\0" + whole[-TRAILER:],
        "extended by its trailer": whole + whole[-TRAILER:],
        "doubled": whole + whole,
        "zeros": bytes(len(whole)),
        "zeros with its trailer": bytes(len(body)) + whole[-TRAILER:],
        "zeros at the end": whole[:len(whole) - 300] + bytes(300),
        "noise": random.Random(1).randbytes(len(whole)),
        "another of its kind": another(copy, name),
        "of another cluster": None if kind_of(name) == IDENTITY else seal(copy.system_identifier + 1, name, body),
        "of an earlier run": earlier(copy, world, name),
        "of another kind": copy.read("pgvigil.json" if name != "pgvigil.json" else copy.names(LEASE)[0]),
    }
    for field, (offset, length) in FIELDS.items():
        table[f"trailer: {field}"] = trailer_changed(whole, offset, length, mended=False)
        if field != "crc":
            table[f"trailer: {field}, with its CRC right"] = trailer_changed(whole, offset, length, mended=True)
    return {way: data for way, data in table.items() if data is not None or way == "deleted"}


# Ways that some objects have not, as there is no other one of them (or, of pgvigil.json, in no other cluster). What is made
# of another repository's pgvigil.json is in test_bad_input.py.
LONELY = {
    "identity": {"another of its kind", "of another cluster", "of an earlier run"},
    "first segment": {"of an earlier run"}, "partial": {"of an earlier run"}, "history": {"of an earlier run"}}

# One row of each object, the first in which its damage matters, is tried with all ways, as the reader is the same; the
# others with these.
SOME_WAYS = ("deleted", "flip in the middle", "truncated to nothing", "truncated to half", "doubled",
             "zeros", "another of its kind", "trailer: stored sha256, with its CRC right",
             "trailer: raw sha256, with its CRC right")
# Of WAL that digest says which files are the same; what they hold is proven otherwise. Only verify compares them.
ONLY_VERIFY = "trailer: raw sha256, with its CRC right"

# -- what is expected -----------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Row:
    """What a command makes of a damaged object, and of a missing one; `says` and `missing` may name {parts}."""

    item: str
    command: str
    damaged: int
    deleted: int
    says: tuple = ("{name}",)
    missing: tuple = None


EXPECTED = [
    Row("identity", "restore", 4, 3, ("pgvigil.json", "local"), ("pgvigil.json", "local", "mounted")),
    Row("identity", "list", 4, 3, ("pgvigil.json", "local"), ("pgvigil.json", "local", "mounted")),
    Row("identity", "get segment", 126, 126, ("pgvigil.json", "local"), ("pgvigil.json", "local", "mounted")),
    # WAL: restore proves that it is there; its bytes are proven by archive-get, when recovery wants them.
    Row("segment of a backup", "get", 126, 126, missing=("{segment}", "is missing", "later WAL of timeline 1")),
    Row("segment of a backup", "restore", 0, 4, missing=("{segment}", "{second}", "is missing")),
    Row("segment of a backup", "list", 0, 4, missing=("{segment}", "{second}", "cannot be restored")),
    Row("segment behind the backups", "restore", 0, 1, missing=("{segment}", "is missing", "--target-lsn")),
    Row("segment behind the backups", "list", 0, 0),
    Row("first segment", "restore", 0, 0),
    Row("first segment", "list", 0, 0),
    Row("newest segment", "restore to a late time", 4, 1, missing=("ends before it",)),
    Row("newest segment", "get", 126, 1, missing=()),
    Row("newest segment", "list", 4, 0),
    Row("partial", "get", 126, 1, missing=()),
    Row("partial", "restore", 0, 0),
    Row("partial", "list", 0, 0),
    Row("history", "get", 126, 126, missing=("00000002.history", "is missing", "WAL of timeline 2")),
    Row("history", "restore", 4, 4, missing=("00000002.history", "timeline 2")),
    Row("history", "list", 4, 4, missing=("00000002.history",)),
    Row("backup history", "get", 126, 1, missing=()),
    Row("backup history", "restore", 0, 0),
    Row("backup history", "list", 0, 0),
    Row("begin note", "restore", 0, 0),
    Row("begin note", "list", 0, 0),
    Row("begin note", "get segment", 0, 0),
    Row("lease", "restore", 0, 0),
    Row("lease", "list", 0, 0),
    Row("claim", "restore", 0, 0),
    Row("claim", "list", 0, 0),
    Row("end note", "restore", 0, 0),
    Row("end note", "list", 0, 0),
    Row("data pack", "restore", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("data pack", "restore the first backup", 0, 0),
    Row("data pack", "list", 0, 0),
    Row("map pack", "restore", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("map pack", "list", 0, 0),
    Row("manifest", "restore", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("manifest", "list", 0, 0),
    Row("refs", "restore", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("refs", "list", 0, 0),
    # Without backup.json there is no backup; with a damaged one the earlier backup serves as well, with a warning.
    Row("backup.json", "restore that backup", 4, 1, ("{name}",), ("there is no backup {second}",)),
    Row("backup.json", "restore", 0, 0),
    Row("backup.json", "list", 4, 0),
    Row("backup.json", "get segment", 0, 0),
    # verify reads everything, and says what it costs. What is gone and needed by nothing that is there is not missed.
    # Of the switches only the names count.
    Row("keep note", "verify", 4, 0),
    Row("keep note", "list", 0, 0),
    Row("keep note", "restore", 0, 0),
    Row("mark", "verify", 4, 0),
    Row("mark", "list", 0, 0),
    Row("mark", "restore", 0, 0),
    Row("identity", "verify", 4, 3, ("pgvigil.json", "local"), ("pgvigil.json", "local", "mounted")),
    Row("segment of a backup", "verify", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("segment behind the backups", "verify", 4, 4, ("{name}", "no moment after ")),
    Row("first segment", "verify", 4, 0),
    Row("newest segment", "verify", 4, 0, ("{name}", "no moment after ")),
    Row("partial", "verify", 4, 0),
    Row("history", "verify", 4, 4),
    Row("backup history", "verify", 4, 0),
    Row("begin note", "verify", 4, 0),
    Row("lease", "verify", 4, 0),
    Row("claim", "verify", 4, 0),
    Row("end note", "verify", 4, 0),
    Row("data pack", "verify", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("map pack", "verify", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("manifest", "verify", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("refs", "verify", 4, 4, ("{name}", "backup {second} cannot be restored")),
    Row("backup.json", "verify", 4, 0, ("{name}", "backup {second} cannot be restored")),
]


def file_of(name):
    """The WAL file that an object stands for."""
    file = name.rsplit("/", 1)[-1].removesuffix(".zst")
    return file.split(".partial.")[0] + (".partial" if ".partial." in file else "")


def arguments(copy, world, name, command, target):
    if command.startswith("get"):
        wanted = name if command == "get" else start_segment(copy, world.second)
        return ["archive-get", file_of(wanted), target / "got"]
    restore = ["restore", "--quiet", "--to", target]
    return {"list": ["list"], "verify": ["verify", "--all"],
            "restore": restore,
            "restore that backup": [*restore, "--backup", world.second],
            "restore the first backup": [*restore, "--backup", world.first],
            "restore to a late time": [*restore, "--target-time", "2099-01-01 00:00:00Z"]}[command]


class Trial:
    """One kind of object in a copy of the repository, and commands tried on it."""

    def __init__(self, copy, world, row):
        self.copy, self.world, self.row = copy, world, row
        self.name = OBJECTS[row.item](copy, world)
        self.target = copy.room / "target"
        self.arguments = arguments(copy, world, self.name, row.command, self.target)
        self.runs = set(os.listdir(copy.folder / "run"))

    def attempt(self, way, data):
        """Why the command's answer is not the one that is expected, or None."""
        remove(self.target)
        if self.row.command.startswith("get"):
            system.own(self.target.mkdir() or self.target)
        wanted = self.row.deleted if data is None else self.row.damaged
        # What this host remembers of history files must not help.
        remove(self.copy.state_dir / "history")
        with self.copy.replaced(self.name, data):
            done = self.copy.pgvigil.run(*self.arguments, check=False, timeout=60)
        problems = [f"exit code {done.rc} instead of {wanted}"] if done.rc != wanted else []
        problems += [f"does not say {piece!r}" for piece in self.pieces(data, wanted) if piece not in done.stdout + done.stderr]
        problems += self.left_behind(wanted)
        self.tidy()
        return f"{self.row.item}, {way}, {self.row.command}: {problems}\n{done.describe()}" if problems else None

    def pieces(self, data, wanted):
        if wanted == 0:
            return []
        said = self.row.says if data is not None or self.row.missing is None else self.row.missing
        return [piece.format(name=self.name, second=self.world.second, segment=file_of(self.name)) for piece in said]

    def left_behind(self, wanted):
        """Nothing that a server would start on, or that recovery would take for WAL."""
        if wanted != 0 and self.row.command.startswith("restore"):
            return ["it left a pg_control"] if (self.target / "global" / "pg_control").exists() else []
        if wanted != 0 and self.row.command.startswith("get"):
            left = os.listdir(self.target)
            return [f"it left {left}"] if left else []
        if wanted == 0 and self.row.command.startswith("restore"):
            return [] if (self.target / "global" / "pg_control").exists() else ["no pg_control came out"]
        return []

    def tidy(self):
        for run in set(os.listdir(self.copy.folder / "run")) - self.runs:
            remove(self.copy.folder / "run" / run)
        remove(self.target)


@pytest.mark.parametrize("row", EXPECTED, ids=lambda row: f"{row.item}-{row.command}".replace(" ", "_"))
def test_table(world, row):
    with Copy(world.site, "copy") as copy:
        trial = Trial(copy, world, row)
        table = ways(copy, world, trial.name)
        if row is not next(other for other in EXPECTED if other.item == row.item and other.damaged != 0):
            table = {way: table[way] for way in SOME_WAYS if way in table}
        if kind_of(trial.name) in (WAL, PARTIAL, HISTORY, BACKUP_HISTORY) and row.command != "verify":
            del table[ONLY_VERIFY]
        problems = [trial.attempt(way, data) for way, data in table.items()]
        problems = [problem for problem in problems if problem]
        assert not problems, f"{len(problems)} of {len(table)}:\n" + "\n".join(problems[:6])


def test_every_kind_is_in_the_table(world):
    with Copy(world.site, "copy") as copy:
        kinds = {kind_of(name(copy, world)) for name in OBJECTS.values()}
    assert kinds == {kind for kind, _ in PATTERNS} == set(range(IDENTITY, END + 1))
    assert {row.item for row in EXPECTED if row.damaged != 0} == set(OBJECTS)


def test_every_way_is_tried_on_each(world):
    with Copy(world.site, "copy") as copy:
        tried = {item: set(ways(copy, world, name(copy, world))) for item, name in OBJECTS.items()}
    every = set.union(*tried.values())
    assert {item: every - ways for item, ways in tried.items() if ways != every} == LONELY


def test_the_whole_repository_is_sound(world):
    """Undamaged, every command of the table goes through: so that no row fails for another reason than its damage."""
    with Copy(world.site, "copy") as copy:
        for command in ("list", "verify", "restore", "restore that backup", "restore the first backup", "get segment"):
            target = copy.room / "target"
            if command.startswith("get"):
                system.own(target.mkdir() or target)
            copy.pgvigil.run(*arguments(copy, world, "", command, target))
            remove(target)
