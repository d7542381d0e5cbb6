"""Objects of a repository read, changed and made without pgvigil, their trailers and digests right: docs/FORMAT.md.

`Copy` is a copy of a site's repository to do harm to; `Forgery` changes a backup in it so that only what was meant to
be wrong is wrong.
"""

import atexit
import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from harness import Pgvigil, keys, own, run, system

TRAILER = 128
BLOCK = 8192
LEAF_BLOCKS = 256
(IDENTITY, WAL, PARTIAL, HISTORY, BACKUP_HISTORY, BEGIN, LEASE, PACK, MANIFEST, REFS, BACKUP, KEEP, MARK, CLAIM,
 END) = range(1, 16)
FIELDS = {  # of a trailer: offset, length
    "magic": (0, 4), "length": (4, 4), "mark": (8, 8), "kind": (16, 4), "flags": (20, 4), "stored length": (24, 8),
    "raw length": (32, 8), "stored sha256": (40, 32), "raw sha256": (72, 32), "name": (104, 16), "zero": (120, 4),
    "crc": (124, 4)}
PATTERNS = (
    (IDENTITY, r"pgvigil\.json"),
    (WAL, r"wal/\w{8}/\w{16}/\w{24}\.zst"),
    (PARTIAL, r"wal/\w{8}/\w{16}/\w{24}\.partial\.\w+\.zst"),
    (HISTORY, r"wal/\w{8}/\w{8}\.history\.zst"),
    (BACKUP_HISTORY, r"wal/\w{8}/\w{16}/\w{24}\.\w{8}\.backup\.zst"),
    (BEGIN, r"run/\w{16}/begin\.json"),
    (LEASE, r"run/\w{16}/lease-\d+"),
    (PACK, r"pack/\w{16}/\d{8}\.zst"),
    (MANIFEST, r"backup/\w{16}/manifest\.sqlite\.zst"),
    (REFS, r"backup/\w{16}/refs\.zst"),
    (BACKUP, r"backup/\w{16}/backup\.json"),
    (KEEP, r"keep/\w{16}/\d+"),
    (MARK, r"expire/\w{16}/\d+"),
    (CLAIM, r"run/\w{16}/claim-\w{16}"),
    (END, r"run/\w{16}/end\.json"))
SECRET = (WAL, PARTIAL, BACKUP_HISTORY, PACK, MANIFEST)  # kinds that are encrypted where anything is


# -- digests and zstd -----------------------------------------------------------------------------------------------

@functools.lru_cache(maxsize=None)
def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(data):
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@functools.lru_cache(maxsize=None)
def _xxhash():
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits_withSecret.restype = ctypes.c_uint64
    library.XXH3_64bits_withSecret.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return library


def digest(data, secret):
    """The digest of a block, or of a path (as a key)."""
    return _xxhash().XXH3_64bits_withSecret(bytes(data), len(data), secret, len(secret))


@functools.lru_cache(maxsize=None)
def _zstd():
    library = ctypes.CDLL("libzstd.so.1")
    for name in ("ZSTD_compress", "ZSTD_decompress", "ZSTD_compressBound"):
        getattr(library, name).restype = ctypes.c_size_t
    return library


def compress(raw):
    """One zstd frame with its content size, as in packs."""
    room = _zstd().ZSTD_compressBound(ctypes.c_size_t(len(raw)))
    out = ctypes.create_string_buffer(room)
    length = _zstd().ZSTD_compress(out, ctypes.c_size_t(room), bytes(raw), ctypes.c_size_t(len(raw)), 1)
    return out.raw[:length]


def decompress(frame, room=4 << 20):
    out = ctypes.create_string_buffer(room)
    length = _zstd().ZSTD_decompress(out, ctypes.c_size_t(room), bytes(frame), ctypes.c_size_t(len(frame)))
    assert length <= room, "no frame"
    return out.raw[:length]


def pack_up(raw):
    """What is in an object that is compressed as a whole: a frame with a checksum."""
    return subprocess.run(["zstd", "-qc1"], input=bytes(raw), stdout=subprocess.PIPE, check=True).stdout


def unpack(stored):
    """What `zstd -d` makes of a whole object."""
    return subprocess.run(["zstd", "-dqc"], input=stored, stdout=subprocess.PIPE, check=True).stdout


def bomb(gigabytes):
    """Frames that give so many GiB of zeros: some kilobytes each."""
    frame = _bomb_frame()
    return frame * gigabytes


@functools.lru_cache(maxsize=None)
def _bomb_frame():
    command = "head -c 1073741824 /dev/zero | zstd -qc -T1 -1"
    return subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=True).stdout


# -- objects --------------------------------------------------------------------------------------------------------

def kind_of(name):
    return next(kind for kind, pattern in PATTERNS if re.fullmatch(pattern, name))


def mend(trailer):
    """The trailer with its CRC made anew."""
    return bytes(trailer[:124]) + struct.pack("<I", crc32c(trailer[:124]))


def stored(name):
    """How the object of that name is called in this run."""
    return keys.stored(name) if kind_of(name) in SECRET else name


def seal(system_identifier, name, body, raw=None):
    """The whole object of that name, `body` being what is stored; `raw` is what is in it, or how many bytes."""
    kind = kind_of(name)
    encrypted = stored(name) != name
    if raw is None:
        content = keys.opened(body)
        raw = unpack(content) if kind in (WAL, PARTIAL, HISTORY, BACKUP_HISTORY, MANIFEST, REFS) else content
    raw_length = raw if isinstance(raw, int) else len(raw)
    sha = hashlib.sha256(raw).digest() if kind in (WAL, PARTIAL, HISTORY, BACKUP_HISTORY) else bytes(32)
    whose = 0 if kind == IDENTITY else system_identifier
    trailer = struct.pack("<II8sIIQQ", 0x184D2A5E, 120, b"pgvigil1", kind, int(encrypted), len(body), raw_length)
    trailer += hashlib.sha256(body).digest() + sha + hashlib.sha256(f"{whose}/{stored(name)}".encode()).digest()[:16]
    return bytes(body) + mend(trailer + bytes(8))


def memory_directory(scratch):
    """A new directory in memory, or where there is none (or little) in the scratch directory; of the servers' owner."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30:
        path = Path(tempfile.mkdtemp(prefix=f"{system.run_dir().name}-", dir=memory))
        atexit.register(remove, path)
        return own(path)
    return scratch.mkdir(f"room-{time.monotonic_ns()}")


class Copy:
    """A copy of a site's repository with a state directory and a configuration of its own.

    It lies in memory where that can be, as nothing here is about a disk. `room` is a directory to restore to.
    """

    def __init__(self, site, name):
        self.site = site
        self.room = memory_directory(site.scratch)
        self.path = self.room / name
        run(["cp", "-a", site.repository, self.path])
        self.state_dir = site.scratch.mkdir(f"{name}-state")
        self.config = site.write_config({"repository local": {"url": f"file://{self.path}"},
                                         "cluster": {"state_dir": self.state_dir}},
                                        path=site.scratch.path / f"{name}.conf")
        self.pgvigil = Pgvigil(self.config, cwd=site.scratch.path)
        self.folder = next(path for path in (self.path / site.name).iterdir())
        self.system_identifier = int(self.folder.name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        system.remove_tree(self.room)
        system.remove_tree(self.state_dir)

    def names(self, kind):
        """Names (within the cluster) of all objects of a kind, sorted."""
        if kind == IDENTITY:
            return ["pgvigil.json"]
        pattern = dict(PATTERNS)[kind]
        found = (str(path.relative_to(self.folder)).removesuffix(keys.SUFFIX)
                 for path in self.folder.rglob("*") if path.is_file())
        return sorted(name for name in found if re.fullmatch(pattern, name))

    def file(self, name):
        return (self.path if name == "pgvigil.json" else self.folder) / stored(name)

    def read(self, name):
        return self.file(name).read_bytes()

    def content(self, name):
        """What is stored, decrypted where need be; perhaps with its trailer."""
        return keys.opened(self.read(name))

    def write(self, name, data):
        """Puts other bytes in the place of an object, or with None removes it; the links to it stay as they are."""
        path = self.file(name)
        path.unlink(missing_ok=True)
        if data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)
            own(path)

    def seal(self, name, content, raw=None):
        """Stores this content under the name, encrypted where it must be; returns the bytes before its trailer."""
        body = content if stored(name) == name else keys.sealed(content)
        self.write(name, seal(self.system_identifier, name, body, raw))
        return body

    @contextlib.contextmanager
    def replaced(self, name, data):
        """The object has these bytes, or with None is absent, as long as the context lasts."""
        path = self.file(name)
        aside = path.with_name(f".{path.name}")
        os.rename(path, aside)
        try:
            self.write(name, data)
            yield
        finally:
            os.replace(aside, path)


# -- backups ---------------------------------------------------------------------------------------------------------

class Forgery:
    """The parts of one backup, to be changed; commit() stores them with all digests above them right.

    info: backup.json as a dictionary; rows: the manifest, an SQLite connection; refs: lines of fields; wrong: what is
    to stand in backup.json whatever the digests are; text: or its bytes.
    """

    def __init__(self, copy, run_id):
        self.copy = copy
        self.run = run_id
        self.folder = f"backup/{run_id}"
        self.wrong, self.text = {}, None
        self.info = json.loads(copy.read(f"{self.folder}/backup.json")[:-TRAILER])
        text = unpack(copy.content(f"{self.folder}/refs.zst")).decode()
        self.refs = [line.split("\t") for line in text.splitlines()[1:]]
        self.file = copy.site.scratch.path / f"{copy.path.name}.sqlite"
        self.file.write_bytes(unpack(copy.content(f"{self.folder}/manifest.sqlite.zst")))
        self.rows = sqlite3.connect(self.file, isolation_level=None)
        self.secret = bytes.fromhex(self.rows.execute("select value from meta where key = 'digest_secret'")
                                    .fetchone()[0])

    def commit(self, manifest=None, refs=None):
        """manifest, refs: stored bytes to put in the place of those that the changed parts would give."""
        self.rows.close()
        if manifest is None:
            manifest = pack_up(self.file.read_bytes())
        if refs is None:
            self.refs.sort(key=lambda fields: fields[0])
            refs = pack_up(("pgvigil refs 1\n" + "".join("\t".join(f) + "\n" for f in self.refs)).encode())
        self.file.unlink()
        for part, content in (("manifest.sqlite.zst", manifest), ("refs.zst", refs)):
            body = self.copy.seal(f"{self.folder}/{part}", content, self.raw(content))
            self.info[f"{part.split('.')[0]}_sha256"] = hashlib.sha256(body).hexdigest()
        self.info.update(self.wrong)
        self.copy.seal(f"{self.folder}/backup.json",
                       json.dumps(self.info).encode() if self.text is None else self.text)

    @staticmethod
    def raw(stored):
        """The raw length; a bomb's is not found out by trying."""
        if len(stored) > 20000 and stored[:4] == _bomb_frame()[:4] and stored[:64] == _bomb_frame()[:64]:
            return len(stored) // len(_bomb_frame()) << 30
        return len(unpack(stored))

    # -- packs

    def add_pack(self, kind, body, blocks=0):
        """Stores a pack of this run and puts it into the list; returns its number."""
        numbers = [int(fields[0].split("/")[2][:8]) for fields in self.refs]
        number = max(numbers) + 1
        name = f"pack/{self.run}/{number:08}.zst"
        body = self.copy.seal(name, body)
        self.refs.append([name, str(len(body) + TRAILER), hashlib.sha256(body).hexdigest(), kind, str(blocks),
                          str(blocks)])
        return number

    def frame(self, run_id, number, offset, length):
        """The raw bytes of a frame."""
        pack = self.copy.content(f"pack/{run_id}/{number:08}.zst")
        return decompress(pack[offset:offset + length])

    # -- maps

    def root(self, path):
        """The root of a file's map."""
        row = self.rows.execute("select map_run, map_pack, map_frame_offset, map_frame_length, map_item_offset,"
                                " map_item_length from file where path = ?", (path,)).fetchone()
        raw = self.frame(*row[:4])
        return Root(raw[row[4]:row[4] + row[5]])

    def leaf(self, place):
        raw = self.frame(text_of(place.run), place.pack, place.offset, place.length)
        return Leaf(raw[place.item:place.item + place.item_length])


    def put_map(self, path, leaves, root=None, items=None):
        """Stores the leaves (Leaf or bytes) and a root naming them, and makes the file's row point to it.

        root: function that changes the Root before it is stored.
        """
        raw, places = b"", []
        for leaf in leaves:
            item = leaf if isinstance(leaf, bytes) else leaf.encode()
            places.append((len(raw), len(item)))
            raw += item
        leaf_frame = compress(raw)
        made = self.root(path)
        number = max(int(fields[0].split("/")[2][:8]) for fields in self.refs) + 1
        made.places = [Place(seconds_of(self.run), number, 0, len(leaf_frame), *place) for place in places]
        if root:
            root(made)
        item = made if isinstance(made, bytes) else made.encode()
        root_frame = compress(item)
        assert self.add_pack("map", leaf_frame + root_frame) == number
        self.rows.execute("update file set map_run = ?, map_pack = ?, map_frame_offset = ?, map_frame_length = ?,"
                          " map_item_offset = 0, map_item_length = ? where path = ?",
                          (self.run, number, len(leaf_frame), len(root_frame), len(item), path))


def seconds_of(run_id):
    return int(time.mktime(time.strptime(run_id, "%Y%m%dT%H%M%SZ"))) - time.timezone


def text_of(seconds):
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


class Place:
    """A frame and an item in it."""

    def __init__(self, run_seconds, pack, offset, length, item, item_length):
        self.run, self.pack, self.offset, self.length = run_seconds, pack, offset, length
        self.item, self.item_length = item, item_length

    def encode(self):
        return struct.pack("<qIIIII", self.run, self.pack, self.offset, self.length, self.item, self.item_length)


class Root:
    def __init__(self, data):
        self.magic, self.key, self.size, self.count = struct.unpack_from("<IQQI", data)
        self.places = [Place(*struct.unpack_from("<qIIIII", data, 24 + 28 * i)) for i in range(self.count)]

    def encode(self):
        return struct.pack("<IQQI", self.magic, self.key, self.size, self.count) + \
            b"".join(place.encode() for place in self.places)


class Leaf:
    """digests: list of numbers; runs: lists [run, pack, offset, length, first, count]."""

    def __init__(self, data):
        self.magic, self.key, self.number, blocks, runs = struct.unpack_from("<IQIHH", data)
        self.digests = list(struct.unpack_from(f"<{blocks}Q", data, 20))
        self.runs = [list(struct.unpack_from("<qIIIHH", data, 20 + 8 * blocks + 24 * i)) for i in range(runs)]

    def encode(self):
        return struct.pack("<IQIHH", self.magic, self.key, self.number, len(self.digests), len(self.runs)) + \
            struct.pack(f"<{len(self.digests)}Q", *self.digests) + \
            b"".join(struct.pack("<qIIIHH", *one) for one in self.runs)


def remove(path):
    shutil.rmtree(Path(path), ignore_errors=True)
