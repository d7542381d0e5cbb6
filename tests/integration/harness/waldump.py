"""Runs pg_waldump over segments and parses what it prints."""

import re
from dataclasses import dataclass

from . import system
from .system import HarnessError
from .wal import format_lsn, parse_lsn, record_end

_LINE = re.compile(r"rmgr: (\S+) +len \(rec/tot\): +\d+/ *(\d+), tx: +(\d+), "
                   r"lsn: ([0-9A-F]+/[0-9A-F]+), prev [0-9A-F]+/[0-9A-F]+, desc: (.*)")
_END = re.compile(r"error in WAL record at ([0-9A-F]+/[0-9A-F]+)")


@dataclass(frozen=True)
class Record:
    """One WAL record: where it starts and ends, its resource manager, xid (0: none), and description."""

    lsn: int
    end: int
    rmgr: str
    xid: int
    desc: str


def dump(bin_dir, directory, first, last, segment_size, options=()):
    """The records of segments `first` to `last` (file names in `directory`).

    WAL that ends within the last segment is normal (one that a running server is still writing); an invalid
    record anywhere before raises HarnessError.
    """
    done = system.run([bin_dir / "pg_waldump", "-p", directory, *options, first, last], check=False,
                      env={"TZ": "UTC"})
    if done.rc != 0:
        stop = _END.search(done.stderr)
        if not stop or not _lies_in(parse_lsn(stop[1]), last, segment_size):
            raise HarnessError(f"pg_waldump failed\n{done.describe()}")
    return parse(done.stdout, segment_size)


def first_at_or_after(bin_dir, directory, lsn, timeline, segment_size):
    """The first record that starts at or after `lsn` (integer), or None if the WAL ends before."""
    done = system.run([bin_dir / "pg_waldump", "-p", directory, "-t", timeline, "-s", format_lsn(lsn), "-n", "1"],
                      check=False, env={"TZ": "UTC"})
    records = parse(done.stdout, segment_size)
    return records[0] if records else None


def parse(text, segment_size):
    """Records from pg_waldump's output; a line that begins no record continues the one before it."""
    found = []
    for line in text.split("\n"):
        match = _LINE.match(line)
        if match:
            found.append(list(match.groups()))
        elif found and line and not line.startswith("first record is after"):
            found[-1][4] += "\n" + line
    records = []
    for rmgr, length, xid, lsn, desc in found:
        start = parse_lsn(lsn)
        records.append(Record(start, record_end(start, int(length), segment_size), rmgr, int(xid), desc))
    return records


def _lies_in(lsn, segment, segment_size):
    per_id = (1 << 32) // segment_size
    return lsn // segment_size == int(segment[8:16], 16) * per_id + int(segment[16:], 16)
