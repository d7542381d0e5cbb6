"""Every state that a power cut could leave, made from the log of record.c.

The file system modelled is the worst that POSIX allows:

- Bytes written, and sizes changed, are certain only after an fsync of that file (or syncfs). Until then a file may
  have them all, none, some sectors of 512 bytes (others keep what was there, or hold zeros), or the new size with
  zeros in it.
- An entry of a directory (made, renamed, linked, removed) is certain only after an fsync of that directory. Until
  then each is there or not, independently of all others: a later one may have survived without an earlier one.
- A rename is atomic: the old name never goes without the new one having come. That the new one is certain does not
  make it certain that the old one has gone.
- fsync of a file says nothing of its name; fsync of a directory nothing of what is in its files.

A crash may come before any operation. Which states are looked at:

    at every prefix             nothing that was not synced has survived; everything has
    before every sync, and at   each pending entry alone survives, or alone is lost; all of that with pending data
    the end                     whole, lost, zeroed, torn; and seeded random mixes

That is enough for the single losses at every prefix too: between two syncs what may be lost only grows, so each
state possible at some prefix is also possible just before the next sync.
"""

import copy
import hashlib
import os
import random
import stat
from dataclasses import dataclass, field

SECTOR = 512
SYNCS = ("fsync", "syncfs")
VARIANTS = ("whole", "lost", "zero", "torn")


@dataclass(frozen=True)
class Event:
    """One line of the log. `stack`: of a sync, where it was called from, innermost first."""

    pid: int
    kind: str
    fields: tuple
    data: bytes = b""

    @property
    def stack(self):
        return self.fields[1].split(",") if self.kind in SYNCS else []


def parse(log):
    """The events of a log (bytes)."""
    events, at = [], 0
    while at < len(log):
        end = log.index(b"\n", at)
        pid, kind, *fields, length = log[at:end].decode().split("\t")
        at = end + 1 + int(length)
        if log[at:at + 1] != b"\n":
            raise ValueError(f"the log is damaged near byte {end}")
        if kind == "unsupported":
            raise NotImplementedError(f"the recorded program used {fields[0]}, which the replayer has no model of")
        events.append(Event(int(pid), kind, tuple(fields), log[end + 1:at]))
        at += 1
    return events


class Blob:
    """Bytes and their digest."""

    __slots__ = ("data", "digest")

    def __init__(self, data):
        self.data = data
        self.digest = hashlib.sha256(data).digest()


class Tree:
    """A state: {path: None for a directory, Blob for a file, str for a symbolic link}."""

    def __init__(self, paths):
        self.paths = paths
        text = hashlib.sha256()
        for path in sorted(paths):
            node = paths[path]
            text.update(path.encode(errors="surrogateescape") + b"\0")
            text.update(node.digest if isinstance(node, Blob) else repr(node).encode())
        self.key = text.digest()

    def below(self, root):
        """{relative path: bytes} of the files below a directory."""
        prefix = f"{root}/"
        return {path[len(prefix):]: node.data for path, node in self.paths.items()
                if isinstance(node, Blob) and path.startswith(prefix)}

    def __contains__(self, path):
        return str(path) in self.paths

    def data(self, path):
        """The bytes of a file; None if there is none."""
        node = self.paths.get(str(path))
        return node.data if isinstance(node, Blob) else None

    def write(self, places, owner):
        """Puts this state on the disk for `owner` (user id, group id): {root: where it is to be}."""
        for place in places.values():
            _empty(place)
        for path in sorted(self.paths):
            root = next((root for root in places if path.startswith(f"{root}/")), None)
            if root is not None:
                place = places[root] + path[len(root):]
                _make(place, self.paths[path])
                if os.geteuid() == 0:
                    os.lchown(place, *owner)


def _empty(root):
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _empty(entry.path)
                os.rmdir(entry.path)
            else:
                os.unlink(entry.path)


def _make(path, node):
    if node is None:
        os.mkdir(path, 0o700)
    elif isinstance(node, str):
        os.symlink(node, path)
    else:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(node.data)


@dataclass
class File:
    """A file: what is durable of it, and what has been written since: (offset, bytes) or (size, None)."""

    durable: bytes = b""
    pending: list = field(default_factory=list)
    cache: dict = field(default_factory=dict)
    number: int = 0

    def change(self, at, data):
        self.pending.append((at, data))
        self.cache.clear()

    def sync(self):
        if self.pending:
            self.durable = self._written(self.pending)
            self.pending = []
            self.cache.clear()

    def blob(self, variant, seed):
        if not self.pending:
            variant = "lost"
        key = (variant, seed) if variant == "torn" else variant
        if key not in self.cache:
            self.cache[key] = Blob(self._variant(variant, seed))
        return self.cache[key]

    def _variant(self, variant, seed):
        if variant == "lost":
            return self.durable
        if variant == "zero":
            return self._written([(at, data and bytes(len(data))) for at, data in self.pending])
        if variant == "torn":
            return self._torn(random.Random(f"{seed} {self.number} {len(self.pending)}"))
        return self._written(self.pending)

    def _torn(self, rng):
        whole = self._written(self.pending)
        if rng.random() < 0.5:  # cut off at some sector, as if written from the front
            cut = rng.randrange(0, len(whole) + SECTOR, SECTOR)
            return whole[:cut] + self.durable[cut:]
        torn = bytearray(whole)  # a run of sectors is not there, whatever comes behind it
        first = rng.randrange(0, len(whole) + 1, SECTOR)
        last = min(first + rng.choice((1, 2, 16, 256)) * SECTOR, len(whole))
        torn[first:last] = self.durable[first:last].ljust(last - first, b"\0")
        return bytes(torn)

    def _written(self, changes):
        content = bytearray(self.durable)
        for at, data in changes:
            if data is None:
                content = content[:at].ljust(at, b"\0")
            else:
                if len(content) < at:
                    content.extend(bytes(at - len(content)))
                content[at:at + len(data)] = data
        return bytes(content)


@dataclass
class Directory:
    """A directory's durable entries: {name: node}."""

    entries: dict = field(default_factory=dict)


@dataclass(eq=False)
class Change:
    """An entry changed and not yet durable. `needs`: the other half of a rename, without which it cannot be."""

    directory: Directory
    name: str
    node: object  # None: removed
    needs: object = None


class Model:
    """What is durable and what is pending at one moment of a record."""

    def __init__(self, roots):
        self.nodes = {}
        self.roots = {}
        self.pending = []
        self._numbers = 0
        for root in roots:
            self.roots[str(root)] = self._read(str(root))

    def _read(self, path):
        """What is there before the recording begins is durable."""
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            return self._know(status.st_ino, os.readlink(path))
        if not stat.S_ISDIR(status.st_mode):
            with open(path, "rb") as file:
                return self._know(status.st_ino, File(file.read()))
        directory = self._know(status.st_ino, Directory())
        for name in os.listdir(path):
            directory.entries[name] = self._read(os.path.join(path, name))
        return directory

    def _know(self, inode, node):
        self.nodes[int(inode)] = node
        if isinstance(node, File):
            self._numbers += 1
            node.number = self._numbers
        return node

    def copy(self):
        made = Model([])
        made.nodes, made.roots = copy.deepcopy((self.nodes, self.roots))
        made._numbers = self._numbers
        return made

    def apply(self, event):
        handler = getattr(self, "_" + event.kind, None)
        if handler is None:
            raise NotImplementedError(f"no model of {event.kind}")
        handler(event, *event.fields)

    def _set(self, inode, name, node, needs=None):
        directory = self.nodes[int(inode)]
        change = Change(directory, name, node, needs)
        self.pending.append(change)
        return change

    def _create(self, event, directory, name, inode):
        self._set(directory, name, self._know(inode, File()))

    def _mkdir(self, event, directory, name, inode):
        self._set(directory, name, self._know(inode, Directory()))

    def _symlink(self, event, directory, name, inode):
        self._set(directory, name, self._know(inode, event.data.decode()))

    def _link(self, event, directory, name, inode):
        self._set(directory, name, self.nodes[int(inode)])

    def _unlink(self, event, directory, name):
        self._set(directory, name, None)

    def _rename(self, event, from_directory, from_name, to_directory, to_name, inode):
        new = self._set(to_directory, to_name, self.nodes[int(inode)])
        self._set(from_directory, from_name, None, needs=new)

    def _write(self, event, inode, at):
        # A file without a name (O_TMPFILE) is met here for the first time.
        node = self.nodes.get(int(inode)) or self._know(inode, File())
        node.change(int(at), event.data)

    def _size(self, event, inode, size):
        node = self.nodes.get(int(inode)) or self._know(inode, File())
        node.change(int(size), None)

    def _fsync(self, event, inode, stack):
        node = self.nodes.get(int(inode))
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Directory):
            self._persist([c for c in self.pending if c.directory is node])

    def _syncfs(self, event, inode, stack):
        self._persist(list(self.pending))
        for node in self.nodes.values():
            if isinstance(node, File):
                node.sync()

    def _mark(self, event, text):
        """An acknowledgement or a remark of the test: changes nothing on disk."""

    def _killed(self, event):
        """The process ended here: what it wrote is in the system's memory still."""

    def _persist(self, changes):
        done = set(map(id, changes)) | {id(c.needs) for c in changes if c.needs}
        for change in self.pending:
            if id(change) in done:
                if change.node is None:
                    change.directory.entries.pop(change.name, None)
                else:
                    change.directory.entries[change.name] = change.node
        self.pending = [c for c in self.pending if id(c) not in done]

    def everything(self):
        """The state in which nothing is lost."""
        return self.tree(set(self.pending), "whole")

    def dirty(self):
        """Is there a file with bytes that may be lost?"""
        return any(isinstance(node, File) and node.pending for node in self.nodes.values())

    def tree(self, survives, variant, seed=0):
        """The state in which the pending changes in `survives` have survived; `variant` is that of all files'
        pending data, or a function from a file to one."""
        changed = {}
        for change in self.pending:
            if change in survives and (change.needs is None or change.needs in survives
                                       or change.needs not in self.pending):
                entries = changed.setdefault(id(change.directory), dict(change.directory.entries))
                entries[change.name] = change.node
        choose = variant if callable(variant) else lambda file: variant
        paths = {}
        for root, node in self.roots.items():
            self._collect(root, node, changed, choose, seed, paths)
        return Tree(paths)

    def _collect(self, path, node, changed, choose, seed, paths):
        if isinstance(node, File):
            paths[path] = node.blob(choose(node), seed)
        elif isinstance(node, str):
            paths[path] = node
        else:
            paths[path] = None
            for name, inner in changed.get(id(node), node.entries).items():
                if inner is not None:
                    self._collect(f"{path}/{name}", inner, changed, choose, seed, paths)

    def with_the_way(self, change):
        """A pending change and the pending ones that make the directories that lead to it."""
        found, todo = set(), [change]
        while todo:
            one = todo.pop()
            if one in found:
                continue
            found.add(one)
            todo += [c for c in self.pending if c.node is one.directory]
            if one.needs in self.pending:
                todo.append(one.needs)
        return found


@dataclass(frozen=True)
class State:
    """A crash: the tree, what had been acknowledged by then, and where it was, for messages."""

    tree: Tree
    marks: tuple
    at: int
    what: str


def crash_states(events, model, *, seed=1, mixes=4, single_limit=60, prefer=lambda change: False,
                 every=lambda event: True):
    """Yields each State once (by tree and marks).

    model: made of the directories before the recording began; it is left as it is. mixes: random states at each
    point. single_limit: of more pending changes than that only a random choice is taken singly, and those that
    `prefer` wants. every: at which prefixes (after which event) the two extremes are looked at.
    """
    model = model.copy()
    rng = random.Random(f"crash {seed}")
    seen, marks = set(), []

    def fresh(at, candidates):
        for what, tree in candidates:
            if (tree.key, len(marks)) not in seen:
                seen.add((tree.key, len(marks)))
                yield State(tree, tuple(marks), at, what)

    for at, event in enumerate(events):
        if event.kind in SYNCS:
            yield from fresh(at, _maximal(model, rng, mixes, single_limit, prefer))
        model.apply(event)
        if event.kind == "mark":
            marks.append(event.fields[0])
        elif every(event):
            yield from fresh(at + 1, _extremes(model))
    yield from fresh(len(events), _maximal(model, rng, mixes, single_limit, prefer))


def _extremes(model):
    yield "nothing survived", model.tree(set(), "lost")
    yield "everything survived", model.everything()


def _maximal(model, rng, mixes, single_limit, prefer):
    yield from _extremes(model)
    everything = set(model.pending)
    variants = VARIANTS if model.dirty() else ("whole",)
    chosen = list(model.pending)
    if len(chosen) > single_limit:
        preferred = [change for change in chosen if prefer(change)]
        chosen = preferred + rng.sample([change for change in chosen if not prefer(change)], single_limit)
    for variant in variants:
        seed = rng.random()
        yield f"all names, data {variant}", model.tree(everything, variant, seed)
        for change in chosen:
            only = model.with_the_way(change)
            yield f"only {_say(change)}, data {variant}", model.tree(only, variant, seed)
            yield f"all but {_say(change)}, data {variant}", model.tree(everything - {change}, variant, seed)
    for number in range(mixes if chosen or len(variants) > 1 else 0):
        seed, share = rng.random(), rng.choice((0.2, 0.5, 0.8))
        survives = {change for change in model.pending if rng.random() < share}
        pick = random.Random(seed)
        yield f"mix {number} ({seed})", model.tree(survives, lambda file: pick.choice(VARIANTS), seed)


def _say(change):
    return f"{'no ' if change.node is None else ''}{change.name}"
