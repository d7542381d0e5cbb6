"""Backups forged with all digests right, up to backup.json: nothing is written beside the target, and no memory wasted.

Whoever can write to the repository can make such backups; what they can not do is to harm the host that restores them.
"""

import contextlib
import os
import struct
import subprocess

import pytest
from backup_tools import snapshot
from forge import BLOCK, Copy, Forgery, bomb, compress, pack_up, remove, seconds_of, text_of
from harness import Completed, HarnessError, Site, own, system

pytestmark = pytest.mark.alone  # another repository would help out

MEMORY = 160 << 20  # bytes that a restore of a small backup may take in all


@pytest.fixture(scope="module")
def site(module_scratch):
    site = Site(module_scratch)
    site.cluster.sql("create table t as select generate_series(1, 3000) g")
    site.backup()
    site.cluster.switch_wal()
    site.cluster.stop()
    return site


@pytest.fixture
def forgery(site):
    with Copy(site, "copy") as copy:
        yield Forgery(copy, next((copy.folder / "backup").iterdir()).name)


def is_plain(binary):
    """A sanitizer's shadow memory would be counted as well."""
    with open(binary, "rb") as file:
        return b"__asan_init" not in file.read()


def measured(pgvigil, *args, timeout=60):
    """Runs pgvigil; returns Completed and the most memory it had (bytes)."""
    command = [str(part) for part in (*pgvigil.command, *args)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               cwd=pgvigil.cwd, env=system.environment(), start_new_session=True, umask=0o077,
                               **system.identity())
    timer = subprocess.Popen(["sh", "-c", f"sleep {timeout}; kill -9 {process.pid}"], start_new_session=True)
    try:
        text = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(timer.pid, 9)
        timer.wait()
        process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    done = Completed(command, process.returncode, "", text)
    if system.sanitizer_mark(text) or done.rc < 0:
        raise HarnessError(done.describe())
    return done, usage.ru_maxrss << 10


def attempt(forgery, code, *pieces, args=(), manifest=None, refs=None):
    """Restores the forged backup: refused with this code and these words, and nothing changed but the target."""
    copy = forgery.copy
    forgery.commit(manifest, refs)
    target = copy.room / "target"
    canary = copy.room / "canary"
    canary.mkdir(exist_ok=True)
    own(canary)
    (canary / "file").write_text("untouched")
    before = snapshot(canary, copy.folder / "backup", copy.folder / "pack")
    done, memory = measured(copy.pgvigil, "restore", "--quiet", "--to", target, *args)
    problems = [f"exit code {done.rc} instead of {code}"] if done.rc != code else []
    problems += [f"does not say {piece!r}" for piece in pieces if piece not in done.stderr]
    if not done.stderr.isprintable() and any(ord(c) < 32 and c != "\n" or c == "\x7f" for c in done.stderr):
        problems.append("control characters in its output")
    if (target / "global" / "pg_control").exists():
        problems.append("it left a pg_control")
    if snapshot(canary, copy.folder / "backup", copy.folder / "pack") != before:
        problems.append("it changed something beside the target")
    beside = set(os.listdir(copy.room)) - {"target", "canary", copy.path.name, f"{copy.path.name}-more"}
    if beside:
        problems.append(f"it made {beside} beside the target")
    left = [path for path in (copy.state_dir / "tmp").glob("*")] if (copy.state_dir / "tmp").exists() else []
    if left:
        problems.append(f"it left {left}")
    if is_plain(copy.pgvigil.program) and memory > MEMORY:
        problems.append(f"it took {memory >> 20} MB of memory")
    remove(target)
    assert not problems, f"{problems}\n{done.describe()}"
    return done


# -- rows of the manifest ---------------------------------------------------------------------------------------------

INSERT = ("insert into file(path, kind, size, modified, mode, crc32c, link, map_run, map_pack, map_frame_offset,"
          " map_frame_length, map_item_offset, map_item_length) select {} from file where path = 'base/1/1255'")
COLUMNS = ("path", "kind", "size", "modified", "mode", "crc32c", "link", "map_run", "map_pack", "map_frame_offset",
           "map_frame_length", "map_item_offset", "map_item_length")


def row(**values):
    """SQL that adds a row like that of base/1/1255 with some other values (SQL expressions)."""
    return INSERT.format(", ".join(str(values.get(column, column)) for column in COLUMNS))


def empty(path, kind="f"):
    """SQL that adds an empty file or a directory."""
    crc = 0 if kind in "fc" else "null"
    maps = {column: "null" for column in COLUMNS if column.startswith("map")}
    return row(path=f"'{path}'", kind=f"'{kind}'", size=0, crc32c=crc, link="null", **maps)


ROWS = {
    "up and out": (empty("../escaped"), "impossible path"),
    "up and out from within": (empty("base/../../escaped"), "impossible path"),
    "a directory up and out": (empty("../escaped", "d"), "impossible path"),
    "absolute": (empty("/tmp/pgvigil-escaped"), "impossible path"),
    "an empty path": (empty(""), "impossible path"),
    "an empty component": (empty("base//1"), "impossible path"),
    "a dot": (empty("./base"), "impossible path"),
    "a slash at the end": (empty("base/x/"), "impossible path"),
    "configuration up and out": (empty("/../../escaped", "c"), "impossible path"),
    "relative configuration": (empty("escaped", "c"), "impossible path"),
    "too long a path": (empty("base/" + "x" * 5000), "manifest"),
    "too long a component": (empty("base/" + "x" * 300), "impossible path"),
    "a file beneath a file": (empty("PG_VERSION/x"), "PG_VERSION/x"),
    "a file beneath nothing": (empty("nowhere/x"), "nowhere/x"),
    "a directory beneath a file": (empty("PG_VERSION/x", "d"), "PG_VERSION/x"),
    "a link that backup.json does not know": (
        row(path="'pg_tblspc/16400'", kind="'l'", size=0, crc32c="null", link="'/etc'",
            **{c: "null" for c in COLUMNS if c.startswith("map")}), "disagree"),
    "a link elsewhere": (
        row(path="'base/16400'", kind="'l'", size=0, crc32c="null", link="'/etc'",
            **{c: "null" for c in COLUMNS if c.startswith("map")}), "no place for a tablespace"),
    "a relative link": (
        row(path="'pg_tblspc/16400'", kind="'l'", size=0, crc32c="null", link="'../..'",
            **{c: "null" for c in COLUMNS if c.startswith("map")}), "impossible link"),
    "a file with a link": (row(path="'linked'", link="'/etc'"), "impossible link"),
    "an unknown kind": (row(path="'kind'", kind="'z'", crc32c="null"), "unknown kind"),
    "a long kind": (row(path="'kind'", kind="'file'"), "a value that cannot be"),
    "a directory with a size": (row(path="'sized'", kind="'d'", crc32c="null"), "impossible size"),
    "a huge size": (row(path="'huge'", size=1 << 62), "impossible size"),
    "a size just too large": (row(path="'huge'", size=(256 << 30) + 1), "impossible size"),
    "a negative size": (row(path="'negative'", size=-1), "a value that cannot be"),
    "a size without a map": (row(path="'mapless'", **{c: "null" for c in COLUMNS if c.startswith("map")}),
                             "impossible place of its map"),
    "half a map": (row(path="'half'", map_pack="null"), "a value that cannot be"),
    "no size but a map": (row(path="'mapped'", size=0), "a map of an empty file"),
    "special permissions": (row(path="'mode'", mode=0o107777), "a value that cannot be"),
    "negative permissions": (row(path="'mode'", mode=-1), "a value that cannot be"),
    "a CRC that is too large": (row(path="'crc'", crc32c=1 << 40), "a value that cannot be"),
    "no CRC": (row(path="'crc'", crc32c="null"), "a value that cannot be"),
    "a run that is none": (row(path="'run'", map_run="'../../x'"), "a value that cannot be"),
    "pack 0": (row(path="'pack'", map_pack=0), "a value that cannot be"),
    "a pack that is not in the list": (row(path="'pack'", map_pack=4294967295), "the backup's list of packs"),
    "a frame outside of its pack": (row(path="'frame'", map_frame_offset=33000000, map_frame_length=20), "frame"),
    "an item outside of its frame": (row(path="'item'", map_item_offset=4000000), "an item lies outside"),
    "an item of 4 GB": (row(path="'item'", map_item_length=4294967295), "impossible place of its map"),
    "the map of another file": (row(path="'other'"), "its map is that of another file"),
    "the size of another file": ("update file set size = size + 1 where path = 'base/1/1255'",
                                 "its map is that of another file"),
    "NUL in a path": (empty("base/x").replace("'base/x'", "cast(x'626173652f780079' as text)"), "manifest"),
    "control characters": (empty("../\x1b]0;title\x07"), "impossible path"),
    "no pg_control": ("delete from file where path = 'global/pg_control'", "global/pg_control"),
    "no rows": ("delete from file", "global/pg_control"),
    "text in a number": ("pragma writable_schema = on;"
                         "update sqlite_schema set sql = replace(sql, ' STRICT,', '') where name = 'file';"
                         "pragma writable_schema = reset;"
                         "update file set size = 'many' where path = 'PG_VERSION';"
                         "pragma writable_schema = on;"
                         "update sqlite_schema set sql = replace(sql, ') WITHOUT', ') STRICT, WITHOUT')"
                         " where name = 'file'", "manifest"),
}


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.replace(" ", "_"))
def test_a_row(forgery, case):
    sql, said = ROWS[case]
    forgery.rows.executescript(sql)
    attempt(forgery, 4, said)


# -- the manifest as a database ---------------------------------------------------------------------------------------

SCHEMAS = {
    "a trigger": "create trigger hostile after insert on file begin delete from file; end",
    "a view": "create view hostile as select * from file",
    "an index": "create index hostile on file(size)",
    "another table": "create table hostile(x)",
    "a generated column": "alter table file add column bad text generated always as (upper(path)) virtual",
    "another column": "alter table file add column bad text",
    "a renamed column": "alter table file rename column crc32c to crc",
    "a virtual table": "pragma writable_schema = on; insert into sqlite_schema(type, name, tbl_name, rootpage, sql)"
                       " values ('table', 'hostile', 'hostile', 0, 'create virtual table hostile using fts5(x)')",
    "a view in a table's place": "alter table file rename to old; create view file as select * from old",
    "a checked column": "pragma writable_schema = on; update sqlite_schema set sql ="
                        " replace(sql, 'mode INTEGER NOT NULL', 'mode INTEGER NOT NULL CHECK (load_extension(1))')",
    "a default that calls": "pragma writable_schema = on; update sqlite_schema set"
                            " sql = replace(sql, 'link TEXT', 'link TEXT DEFAULT (randomblob(1000000000))')",
    "a schema that is no SQL": "pragma writable_schema = on; update sqlite_schema set sql = 'hostile'",
    "a table in another's pages": "pragma writable_schema = on; update sqlite_schema set rootpage ="
                                  " (select rootpage from sqlite_schema where name = 'meta') where name = 'file'",
    "a table far away": "pragma writable_schema = on; update sqlite_schema set rootpage = 2147483646",
    "another application": "pragma application_id = 1",
    "another version": "pragma user_version = 2",
    "an unknown key": "insert into meta values ('hostile', '1')",
    "a key missing": "delete from meta where key = 'backup_label'",
    "a short secret": "update meta set value = 'abcd' where key = 'digest_secret'",
    "another secret": "update meta set value = replace(value, '0', '1') where key = 'digest_secret'",
    "a newer format": "update meta set value = '2' where key = 'format'",
    "a journal in WAL mode": "pragma journal_mode = wal",
}


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case.replace(" ", "_"))
def test_a_schema(forgery, case):
    forgery.rows.executescript(SCHEMAS[case])
    attempt(forgery, 4)


def test_broken_pages(forgery):
    """Bytes of the database changed where they hurt: what SQLite makes of them is refused, whatever it is."""
    forgery.rows.close()
    whole = forgery.file.read_bytes()
    one, other = b"base/1/1255", b"base/1/1249"
    assert whole.count(one) >= 1 and whole.count(other) >= 1
    changes = {
        "two rows of one path": whole.replace(one, other),
        "a page that is its own child": circle(whole),
        "cut off": whole[:len(whole) // 2],
        "no database": b"not a database" * 1000,
        "nothing": b"",
    }
    for what, data in changes.items():
        with Copy(forgery.copy.site, f"pages-{len(what)}") as copy:
            again = Forgery(copy, forgery.run)
            try:
                attempt(again, 4, manifest=pack_up(data))
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from None


def circle(database):
    """The first interior page of table `file` points to itself."""
    size = struct.unpack_from(">H", database, 16)[0]
    for at in range(size, len(database), size):
        if database[at] in (2, 5):
            page = bytearray(database[at:at + size])
            cells = struct.unpack_from(">H", page, 3)[0]
            for i in range(cells):
                cell = struct.unpack_from(">H", page, 12 + 2 * i)[0]
                struct.pack_into(">I", page, cell, at // size + 1)
            struct.pack_into(">I", page, 8, at // size + 1)
            return database[:at] + bytes(page) + database[at + size:]
    raise AssertionError("no interior page")


# -- maps -------------------------------------------------------------------------------------------------------------

FILE = "base/1/1255"


def leaf_change(change):
    """A forgery of the first leaf of FILE's map."""
    def make(forgery):
        leaves = [forgery.leaf(place) for place in forgery.root(FILE).places]
        change(forgery, leaves[0])
        forgery.put_map(FILE, leaves)
    return make


def root_change(change):
    def make(forgery):
        leaves = [forgery.leaf(place) for place in forgery.root(FILE).places]
        forgery.put_map(FILE, leaves, root=lambda root: change(forgery, root))
    return make


def data_frame(raw, claims=None):
    """The first run of FILE's map points to a frame of a new pack with these bytes."""
    def make(forgery):
        leaves = [forgery.leaf(place) for place in forgery.root(FILE).places]
        frame = claims if claims is not None else compress(raw)
        number = forgery.add_pack("data", frame, 32)
        leaves[0].runs[0][:4] = [seconds_of(forgery.run), number, 0, len(frame)]
        forgery.put_map(FILE, leaves)
    return make


def set_run(index, value):
    return leaf_change(lambda forgery, leaf: leaf.runs[0].__setitem__(index, value))


def other_leaf(forgery, leaf):
    other = forgery.leaf(forgery.root("base/1/1249").places[0])
    leaf.__dict__.update(other.__dict__)


def map_pack_as_data(forgery, leaf):
    place = forgery.root(FILE).places[0]
    leaf.runs[0][:4] = [place.run, place.pack, place.offset, place.length]


def zero_run(forgery, leaf):
    leaf.runs[0][:5] = [0, 0, 0, 0, 0]


def self_leaf(forgery, root):
    """The leaf is the frame that the root will lie in."""
    root.places[0].offset, root.places[0].length = root.places[0].offset + root.places[0].length, 60


def endless(forgery, root):
    """256 GiB, every leaf of which is the one leaf there is."""
    root.size, root.count = 256 << 30, 131072
    root.places = root.places[:1] * root.count
    forgery.rows.execute("update file set size = ? where path = ?", (root.size, FILE))


MAPS = {
    "a frame behind the pack's end": (set_run(2, 33000000), "lies outside of it"),
    "a frame across the pack's end": (set_run(3, 33000000), "lies outside of it"),
    "a frame within a frame": (leaf_change(lambda f, leaf: leaf.runs[0].__setitem__(2, leaf.runs[0][2] + 1)), "frame"),
    "an offset beyond 32 MiB": (set_run(2, 0xFFFFFFFF), "impossible run"),
    "an empty frame": (set_run(3, 0), "impossible run"),
    "a run of no blocks": (set_run(5, 0), "impossible run"),
    "a run of too many blocks": (set_run(5, 65535), "impossible run"),
    "a run behind its frame": (set_run(4, 65535), "impossible run"),
    "a run that begins late in its frame": (set_run(4, 1), "impossible run"),
    "a negative run id": (set_run(0, -5), "impossible run"),
    "a pack that is not in the list": (set_run(1, 77), "the backup's list of packs does not have"),
    "a map pack for data": (leaf_change(map_pack_as_data), "the backup's list of packs does not have data pack"),
    "blocks given to zeros": (leaf_change(zero_run), "are zeros by their map"),
    "blocks covered twice": (leaf_change(lambda f, leaf: leaf.runs.append(leaf.runs[-1])), "impossible run"),
    "blocks not covered": (leaf_change(lambda f, leaf: leaf.runs.pop()), "does not cover"),
    "runs swapped": (leaf_change(lambda f, leaf: leaf.runs.__setitem__(slice(0, 2), leaf.runs[1::-1])), "digest"),
    "a wrong digest": (leaf_change(lambda f, leaf: leaf.digests.__setitem__(0, 1)), "wrong digest"),
    "a block too few": (leaf_change(lambda f, leaf: leaf.digests.pop()), "map"),
    "a block too many": (leaf_change(lambda f, leaf: leaf.digests.append(1)), "map"),
    "the leaf of another file": (leaf_change(other_leaf), "leaf 0 of its map is another one"),
    "a leaf with another number": (leaf_change(lambda f, leaf: setattr(leaf, "number", 1)), "leaf 0 of its map"),
    "a leaf that is none": (leaf_change(lambda f, leaf: setattr(leaf, "magic", 1)), "no leaf where one should be"),
    "a root that is none": (root_change(lambda f, root: setattr(root, "magic", 1)), "no root where one should be"),
    "the root of another file": (root_change(lambda f, root: setattr(root, "key", 1)), "that of another file"),
    "a root of another size": (root_change(lambda f, root: setattr(root, "size", 1)), "that of another file"),
    "a root of no size": (root_change(lambda f, root: setattr(root, "size", 0)), "impossible counts"),
    "a root of 16 EiB": (root_change(lambda f, root: setattr(root, "size", 2**64 - 1)), "impossible counts"),
    "a root with more leaves than it has": (root_change(lambda f, root: setattr(root, "count", 131072)),
                                            "impossible counts"),
    "a leaf in the root's own frame": (root_change(self_leaf), "zstd frame is damaged"),
    "a leaf of no length": (root_change(lambda f, root: setattr(root.places[0], "item_length", 0)), "impossible leaf"),
    "a leaf of 4 GiB": (root_change(lambda f, root: setattr(root.places[0], "item_length", 2**32 - 1)),
                        "impossible leaf"),
    "a leaf behind its frame": (root_change(lambda f, root: setattr(root.places[0], "item", 4000000)),
                                "lies outside of its frame"),
    "a leaf in pack 0": (root_change(lambda f, root: setattr(root.places[0], "pack", 0)), "impossible leaf"),
    "256 GiB out of one leaf": (root_change(endless), "of its map is another one"),
    "a frame that is too short": (data_frame(bytes(BLOCK)), "too short for its map"),
    "a frame that is too long": (data_frame(bytes(1 << 20)), "could not decompress"),
    "a frame of a GiB": (data_frame(None, claims=bomb(1)), "could not decompress"),
    "a frame that claims 16 EiB": (data_frame(None, claims=struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**64 - 3) +
                                              b"\x01\x00\x00"), "frame"),
    "a frame with a huge window": (data_frame(None, claims=struct.pack("<IBB", 0xFD2FB528, 0, 0xFF) + b"\x01\x00\x00"),
                                   "frame"),
    "a skippable frame": (data_frame(None, claims=struct.pack("<II", 0x184D2A50, 4) + b"abcd"),
                          "does not start a zstd frame"),
    "no frame": (data_frame(None, claims=b"hostile" * 10), "does not start a zstd frame"),
}


@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.replace(" ", "_"))
def test_a_map(forgery, case):
    make, said = MAPS[case]
    make(forgery)
    attempt(forgery, 4, said)


@pytest.mark.parametrize("case, said", [
    ("a frame behind the pack's end", "but behind its end"), ("a pack that is not in the list", "is no data pack"),
    ("a map pack for data", "is no data pack"), ("blocks given to zeros", "is zeros by its map, but not by its digest"),
    ("blocks not covered", "does not cover"), ("the leaf of another file", "of its map is another one"),
    ("the root of another file", "that of another file"), ("a leaf behind its frame", "lies outside of its frame")])
def test_verify_reads_maps(forgery, case, said):
    """What the digests of objects cannot tell, as they are right."""
    MAPS[case][0](forgery)
    forgery.commit()
    (found,) = forgery.copy.pgvigil.json("verify", check=4)["repositories"][0]["clusters"][0]["findings"]
    assert found["object"].endswith("/manifest.sqlite.zst") and found["fault"] == "damaged"
    assert said in found["why"] and FILE in found["why"]
    assert found["lost_backups"] == [forgery.run]


@pytest.mark.parametrize("case, said", [
    ("a wrong digest", "it has another digest"), ("runs swapped", "it has another digest"),
    ("a frame within a frame", "there is no such frame"), ("a frame that is too short", "the frame has only 1 blocks"),
    ("other blocks", "it has another digest")])
def test_verify_compares_blocks(forgery, case, said):
    """The pack is whole by its trailer, and the map by its own; they do not fit each other. No copy mends that."""
    make = data_frame(os.urandom(32 * BLOCK)) if case == "other blocks" else MAPS[case][0]
    make(forgery)
    run, number = forgery.leaf(forgery.root(FILE).places[0]).runs[0][:2]
    forgery.commit()
    for args in (), (), ("--all", "--repair"):
        result = forgery.copy.pgvigil.json("verify", *args, check=4)["repositories"][0]["clusters"][0]
        (found,) = result["findings"]
        assert found["object"] == f"pack/{text_of(run)}/{number:08}.zst" and found["fault"] == "damaged"
        assert f"of file \"{FILE}\" is not what its map says: {said}" in found["why"]
        assert found["lost_backups"] == [forgery.run] and found["repaired"] == 0


def test_a_map_frame_of_a_gigabyte(forgery):
    frame = bomb(1)
    number = forgery.add_pack("map", frame)
    forgery.rows.execute("update file set map_run = ?, map_pack = ?, map_frame_offset = 0, map_frame_length = ?"
                         " where path = ?", (forgery.run, number, len(frame), FILE))
    attempt(forgery, 4, "could not decompress")


# -- the list of packs, backup.json -----------------------------------------------------------------------------------

def change_field(index, value):
    return lambda refs: refs[0].__setitem__(index, value)


LISTS = {
    "a name up and out": change_field(0, "pack/../../x"),
    "a run that is none": change_field(0, "pack/20261399T000000Z/00000001.zst"),
    "pack 0": lambda refs: refs[0].__setitem__(0, refs[0][0][:-12] + "00000000.zst"),
    "no size": change_field(1, "0"),
    "a negative size": change_field(1, "-1"),
    "a huge size": change_field(1, "99999999999999999999"),
    "another size": lambda refs: refs[0].__setitem__(1, str(int(refs[0][1]) - 1)),
    "another digest": change_field(2, "0" * 64),
    "no digest": change_field(2, "x" * 64),
    "an unknown kind": change_field(3, "code"),
    "the other kind": lambda refs: [fields.__setitem__(3, "map") for fields in refs],
    "more blocks used than there are": change_field(5, "4000000000"),
    "a field too many": lambda refs: refs[0].append("1"),
    "a field too few": lambda refs: refs[0].pop(),
    "a pack twice": lambda refs: refs.append(list(refs[0])),
    "no packs": lambda refs: refs.clear(),
}


@pytest.mark.parametrize("case", LISTS, ids=lambda case: case.replace(" ", "_"))
def test_a_list_of_packs(forgery, case):
    LISTS[case](forgery.refs)
    attempt(forgery, 4)


INFOS = {
    "another run": {"run": "20200101T000000Z"},
    "no run": {"run": "../../x"},
    "another cluster": {"system_identifier": "1"},
    "a newer format": {"format": 2},
    "no timeline": {"timeline": 0},
    "a timeline too high": {"timeline": 1 << 32},
    "a stop before the start": {"start_lsn": "F/0", "stop_lsn": "1/0"},
    "an LSN that is none": {"start_lsn": "../.."},
    "WAL far beyond": {"stop_lsn": "FFFFFFFF/FF000000"},
    "segments of no size": {"wal_segment_size": 0},
    "segments of an odd size": {"wal_segment_size": 12345},
    "a negative number of files": {"file_count": -1},
    "a real number": {"database_bytes": 1.5},
    "a huge number": {"database_bytes": 1 << 62},
    "text for a number": {"version_num": "150000"},
    "no tablespaces": {"tablespaces": None},
    "a relative tablespace": {"tablespaces": [{"oid": 16400, "location": "../x"}]},
    "a tablespace without OID": {"tablespaces": [{"oid": 0, "location": "/x"}]},
    "half a million tablespaces": {"tablespaces": [{"oid": 16400, "location": "/x"}] * 500000},
    "a digest that is none": {"manifest_sha256": "abc"},
    "a time that is none": {"stop_time": "yesterday"},
    "a time in another zone": {"stop_time": "2026-11-20T02:00:41+01:00"},
    "a deep list": {"page_error_list": None, "deep": None},
}


@pytest.mark.parametrize("case", INFOS, ids=lambda case: case.replace(" ", "_"))
def test_a_backup_json(forgery, case):
    forgery.commit()
    forgery = Forgery(forgery.copy, forgery.run)
    # commit() computes the digests: what is to be wrong goes over them.
    forgery.wrong = INFOS[case]
    attempt(forgery, 4)
    forgery.copy.pgvigil.run("list", check=4)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b"{}", b"[" * 100000, b'{"run": "\x00"}',
                                  b'{"run": 1, "run": 1}', b'"' + b"x" * (17 << 20) + b'"'], ids=range(9))
def test_a_backup_json_that_is_none(forgery, text):
    forgery.text = text
    attempt(forgery, 4)
    forgery.copy.pgvigil.run("list", check=4)


def test_tablespaces_where_something_is(forgery):
    """A forged location is not written to: it is neither empty nor left by a restore that failed."""
    canary = forgery.copy.room / "canary"
    forgery.wrong = {"tablespaces": [{"oid": 16400, "location": str(canary)}]}
    forgery.rows.executescript(
        row(path="'pg_tblspc/16400'", kind="'l'", size=0, crc32c="null", link=f"'{canary}'",
            **{c: "null" for c in COLUMNS if c.startswith("map")}))
    attempt(forgery, 2, "not empty")


def test_a_tablespace_without_its_link(forgery):
    """Its files would lie where no server looks for them."""
    forgery.wrong = {"tablespaces": [{"oid": 16400, "location": str(forgery.copy.room / "copy-more")}]}
    forgery.rows.executescript(empty("pg_tblspc/16400", "d"))
    attempt(forgery, 4, "disagree", "tablespaces")


# -- bombs ------------------------------------------------------------------------------------------------------------

def test_a_manifest_that_swells(forgery):
    """It is refused long before it fills the state directory."""
    attempt(forgery, 4, "manifest.sqlite.zst", manifest=bomb(15))


def test_a_list_of_packs_that_swells(forgery):
    attempt(forgery, 4, "refs.zst", refs=bomb(1))
