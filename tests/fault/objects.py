"""What lies in a repository, judged without pgvigil: docs/FORMAT.md, zstd, sqlite3 and json.

`Stored` looks at the files of a repository directory as {path relative to it: bytes}, be they on a disk or in a
state that a crash could leave.
"""

import functools
import hashlib
import json
import os
import re
import sqlite3
import struct
import subprocess

TRAILER_SIZE = 128
KINDS = (  # of what an object's name says it is, by the number in the trailer
    (1, r"pgvigil\.json"),
    (2, r"wal/[0-9A-F]{8}/[0-9A-F]{16}/[0-9A-F]{24}\.zst"),
    (3, r"wal/[0-9A-F]{8}/[0-9A-F]{16}/[0-9A-F]{24}\.partial\.[0-9a-f]{16}\.zst"),
    (4, r"wal/[0-9A-F]{8}/[0-9A-F]{8}\.history\.zst"),
    (5, r"wal/[0-9A-F]{8}/[0-9A-F]{16}/[0-9A-F]{24}\.[0-9A-F]{8}\.backup\.zst"),
    (6, r"run/\w+/begin\.json"),
    (7, r"run/\w+/lease-\d+"),
    (8, r"pack/\w+/\d{8}\.zst"),
    (9, r"backup/\w+/manifest\.sqlite\.zst"),
    (10, r"backup/\w+/refs\.zst"),
    (11, r"backup/\w+/backup\.json"),
    (12, r"keep/\w+/\d+"),
    (13, r"expire/\w+/\d+"),
    (14, r"run/\w+/claim-\w+"),
    (15, r"run/\w+/end\.json"),
)
WAL_KINDS = (2, 3, 4, 5)


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


@functools.lru_cache(maxsize=512)
def unpack(stored):
    """What zstd makes of these bytes; None if it finds them damaged."""
    done = subprocess.run(["zstd", "-dqc"], input=stored, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout if done.returncode == 0 else None


def split(path):
    """(system identifier, object name) of a path in a repository; 0 for what belongs to no cluster."""
    parts = path.split("/", 2)
    if len(parts) == 3 and parts[1].isdigit():
        return int(parts[1]), parts[2]
    return 0, path


def kind_of(path):
    """The number of the kind that a name says; None for a name that no object has."""
    identifier, name = split(path)
    for kind, pattern in KINDS:
        if re.fullmatch(pattern, name) and (kind == 1) == (identifier == 0):
            return kind
    return None


@functools.lru_cache(maxsize=4096)
def problem(path, data):
    """Why these bytes are not the whole object of that name; None if they are."""
    kind, (identifier, name) = kind_of(path), split(path)
    if kind is None:
        return "no object has such a name"
    if len(data) < TRAILER_SIZE:
        return f"only {len(data)} bytes"
    trailer, body = data[-TRAILER_SIZE:], data[:-TRAILER_SIZE]
    magic, length, mark, its_kind, _, stored, raw = struct.unpack_from("<II8sIIQQ", trailer)
    if (magic, length, mark) != (0x184D2A5E, 120, b"pgvigil1") or crc32c(trailer[:124]) != _u32(trailer, 124):
        return "no trailer, or a damaged one"
    if its_kind != kind or stored != len(body) or trailer[40:72] != hashlib.sha256(body).digest():
        return "it does not fit its trailer"
    if trailer[104:120] != hashlib.sha256(f"{identifier}/{name}".encode()).digest()[:16]:
        return "it was stored under another name"
    if kind in WAL_KINDS:
        plain = unpack(data)
        if plain is None or len(plain) != raw or hashlib.sha256(plain).digest() != trailer[72:104]:
            return "its contents do not fit its trailer"
    return None


def _u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def _lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def names(root):
    """Of all objects in a repository on the disk."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != ".tmp"]
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in files)


class Stored:
    """The objects of a repository: {path: bytes}; what is in .tmp is none."""

    def __init__(self, files):
        self.files = {path: data for path, data in files.items() if not path.startswith(".tmp/")}

    @classmethod
    def on_disk(cls, root, wanted=lambda name: True):
        """`wanted`: which names to read."""
        return cls({name: (root / name).read_bytes() for name in names(root) if wanted(name)})

    def broken(self):
        """[(path, why)] of objects that are visible and not whole."""
        found = ((path, problem(path, data)) for path, data in self.files.items())
        return [(path, why) for path, why in found if why]

    def wal(self, file):
        """The bytes of a WAL file (PostgreSQL's name), or None; of partial ones all there are, as a set."""
        if file.endswith(".partial"):
            return {unpack(data) for path, data in self.files.items() if f"/{file}." in path}
        return next((unpack(data) for path, data in self.files.items() if path.endswith(f"/{file}.zst")), None)

    def backups(self):
        """{run: why the backup is not whole, None if it is} of all that have a backup.json."""
        return {path.split("/")[-2]: self._backup_problem(path, data) for path, data in self.files.items()
                if path.endswith("/backup.json")}

    def _backup_problem(self, path, data):
        why = problem(path, data)
        if why:
            return why
        backup = json.loads(data[:-TRAILER_SIZE])
        folder, cluster = path.rsplit("/", 1)[0], path.split("/backup/")[0]
        manifest, refs = self.files.get(f"{folder}/manifest.sqlite.zst"), self.files.get(f"{folder}/refs.zst")
        for name, content in (("manifest", manifest), ("refs", refs)):
            if content is None or hashlib.sha256(content[:-TRAILER_SIZE]).hexdigest() != backup[f"{name}_sha256"]:
                return f"{name} is missing, or not the one that backup.json means"
        return (self._manifest_problem(manifest, unpack(refs)) or self._packs_problem(cluster, unpack(refs))
                or self._wal_problem(cluster, backup))

    def _packs_problem(self, cluster, refs):
        for line in refs.decode().splitlines()[1:]:
            name, size, sha256, *_ = line.split("\t")
            data = self.files.get(f"{cluster}/{name}")
            if data is None or len(data) != int(size) or problem(f"{cluster}/{name}", data) \
                    or data[-TRAILER_SIZE:][40:72].hex() != sha256:
                return f"pack {name} is missing or not whole"
        return None

    def _wal_problem(self, cluster, backup):
        size = backup["wal_segment_size"]
        for number in range(_lsn(backup["start_lsn"]) // size, (_lsn(backup["stop_lsn"]) - 1) // size + 1):
            per_id = (1 << 32) // size
            name = f"{backup['timeline']:08X}{number // per_id:08X}{number % per_id:08X}"
            path = f"{cluster}/wal/{name[:8]}/{name[:16]}/{name}.zst"
            if path not in self.files or problem(path, self.files[path]):
                return f"WAL segment {name} is missing or not whole"
        return None

    @staticmethod
    def _manifest_problem(stored, refs):
        return _look_into_manifest(unpack(stored), refs)


@functools.lru_cache(maxsize=64)
def _look_into_manifest(plain, refs):
    packs = {line.split("\t")[0] for line in refs.decode().splitlines()[1:]}
    database = sqlite3.connect(":memory:")
    try:
        database.deserialize(plain)
        if database.execute("pragma integrity_check").fetchone() != ("ok",):
            return "the manifest is damaged"
        rows = database.execute("select path, kind, size, map_run, map_pack from file").fetchall()
    except (sqlite3.DatabaseError, OverflowError) as error:
        return f"the manifest is damaged: {error}"
    finally:
        database.close()
    for path, kind, size, run, number in rows:
        if number and f"pack/{run}/{number:08}.zst" not in packs:
            return f"the map of {path} is in a pack that refs does not name"
    if not any(path == "global/pg_control" for path, *_ in rows):
        return "the manifest has no global/pg_control"
    return None
