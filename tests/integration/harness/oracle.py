"""`Oracle`: which transactions must be there after a restore, read from the WAL itself.

It reads the archived WAL with pg_waldump, independently of pgvigil, and follows the rules by which PostgreSQL
ends recovery (recoveryStopsBefore and recoveryStopsAfter in xlogrecovery.c). Recovery reads record after record
from the backup's start; the first record that meets the target's condition ends it, either before that record is
applied or after:

    lsn, inclusive    after the first record that starts at or after the target
    lsn, exclusive    before the first record that starts at or after the target
    xid, inclusive    after the commit or abort record of that transaction (equality: xids do not end in order)
    xid, exclusive    before that record
    time, inclusive   before the first commit or abort record stamped later than the target; stamps need not
                      rise along the WAL, and what follows that record is lost even if it is stamped earlier
    time, exclusive   before the first commit or abort record stamped at or after the target
    name              after the first restore point of that name (never exclusive)
    immediate         at consistency: after the record that marks the end of this very backup
    latest            at the end of the unbroken WAL of the timeline

Aborts of subtransactions are abort records too. A transaction is there exactly if its commit record is applied.
A target that the WAL does not reach, or that lies before consistency, is one that PostgreSQL refuses with FATAL:
NotReached and BeforeConsistency.
"""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from . import keys, system, template, waldump
from .system import HarnessError
from .wal import Chain, format_lsn, parse_lsn, segment_name

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_END_OF_XACT = re.compile(r"(COMMIT|ABORT)(?:_PREPARED (\d+):)? (\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")


class NotReached(HarnessError):
    """The WAL ends before the recovery target."""


class BeforeConsistency(HarnessError):
    """The target lies before the backup becomes consistent."""


@dataclass(frozen=True)
class XactEnd:
    """A commit or abort record. `lsn` and `end` delimit the record; `micros` is its stamp since 1970 in UTC."""

    lsn: int
    end: int
    xid: int
    micros: int
    committed: bool

    @property
    def time(self):
        """The stamp as text for a recovery target, to the microsecond."""
        return format_time(self.micros)


@dataclass(frozen=True)
class RestorePoint:
    lsn: int
    end: int
    name: str


@dataclass(frozen=True)
class Expected:
    """The outcome of a recovery: committed xids that must be there, and where it stops.

    `stop` is the LSN of the record where recovery stops; `after` says whether that record is applied.
    """

    xids: frozenset
    stop: int
    after: bool
    why: str


@dataclass(frozen=True)
class _Stop:
    """Recovery stops at the record that starts at `lsn`: after it is applied, or before."""

    lsn: int
    after: bool

    @property
    def limit(self):
        """All records that start before this are applied, no others."""
        return self.lsn + 1 if self.after else self.lsn

    def __str__(self):
        return f"{'after' if self.after else 'before'} the record at {format_lsn(self.lsn)}"


def format_time(micros):
    return (_EPOCH + datetime.timedelta(microseconds=micros)).strftime("%Y-%m-%d %H:%M:%S.%f+00")


def parse_time(value):
    """Microseconds since 1970 of a datetime with zone, or of ISO 8601 text (no zone: UTC)."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.timezone.utc)
    return (value - _EPOCH) // datetime.timedelta(microseconds=1)


class Oracle:
    """What the WAL in a directory of raw segments and history files says about one timeline.

    ends       all commit and abort records (XactEnd) in WAL order
    commits    those of them that commit transactions of the ledger (of all transactions without one)
    points     restore points in WAL order
    view       directory in which all segments carry this timeline's name, for pg_waldump
    """

    def __init__(self, wal_dir, *, ledger=None, timeline=None, bin_dir=None):
        self.bin_dir = bin_dir or template.bindir()
        self.chain = Chain.find(wal_dir, timeline)
        self.timeline = self.chain.timeline
        self.view = system.new_dir("oracle")
        self.chain.link(self.view)
        if ledger and not self._covers(ledger.since):
            raise HarnessError(f"the WAL in {wal_dir} does not hold the ledger's creation")
        records = self._dump("-r", "Transaction", "-r", "XLOG")
        self.ends = [end for end in map(_xact_end, records) if end]
        self.points = [RestorePoint(r.lsn, r.end, r.desc.removeprefix("RESTORE_POINT "))
                       for r in records if r.desc.startswith("RESTORE_POINT ")]
        self._backup_ends = [r for r in records if r.desc.startswith("BACKUP_END ")]
        writers = self._writers(ledger.relations) if ledger else None
        self.commits = [e for e in self.ends if e.committed and (writers is None or e.xid in writers)]

    @classmethod
    def of_repository(cls, root, cluster="main", **kwargs):
        """Reads the WAL objects of a pgvigil repository with zstd and openssl (not with pgvigil)."""
        return cls(decode_repository(root, cluster), **kwargs)

    def expect(self, *, start, lsn=None, xid=None, time=None, name=None, immediate=False, inclusive=True,
               consistent_at=None):
        """The outcome of restoring a backup to a target; without any, to the end of WAL.

        start          LSN where the backup's recovery begins (START WAL LOCATION of its label)
        lsn, xid       integers; `time` a datetime or text; at most one target may be given
        consistent_at  for a backup taken from a standby, which has no end record: its consistent LSN
        """
        run_end = next((end for first, _, end in self.chain.runs()
                        if first * self.chain.segment_size <= start < end), None)
        if run_end is None:
            raise NotReached(f"no WAL at the backup's start {format_lsn(start)}")
        ends = [e for e in self.ends if start <= e.lsn < run_end]
        points = [p for p in self.points if start <= p.lsn < run_end]
        consistency = self._consistency(start, run_end, consistent_at)
        if lsn is not None:
            what = f"lsn {format_lsn(lsn)}"
            stop = self._stop_at_lsn(max(lsn, start), run_end, inclusive)
        elif xid is not None:
            what = f"xid {xid}"
            stop = next((_Stop(e.lsn, inclusive) for e in ends if e.xid == xid & 0xFFFFFFFF), None)
        elif time is not None:
            what = f"time {time}"
            first_beyond = parse_time(time) + (1 if inclusive else 0)
            stop = next((_Stop(e.lsn, False) for e in ends if e.micros >= first_beyond), None)
        elif name is not None:
            what = f"name {name}"
            stop = next((_Stop(p.lsn, True) for p in points if p.name == name), None)
        elif immediate:
            what, stop = "immediate", consistency
        else:
            what, stop = "latest", _Stop(run_end, False)
        why = (f"from {format_lsn(start)} on timeline {self.timeline} to {what}, "
               f"{'inclusive' if inclusive else 'exclusive'}")
        if stop is None:
            raise NotReached(f"recovery does not reach its target: {why}")
        if stop.limit < consistency.limit:
            raise BeforeConsistency(f"recovery stops {stop}, before it is consistent: {why}")
        return Expected(frozenset(e.xid for e in self.commits if e.lsn < stop.limit), stop.lsn, stop.after,
                        f"{why}: stops {stop}")

    def _consistency(self, start, run_end, consistent_at):
        if consistent_at is not None:
            return _Stop(consistent_at, False)
        for record in self._backup_ends:
            if record.lsn < run_end and parse_lsn(record.desc.split()[1]) == start:
                return _Stop(record.lsn, True)
        raise NotReached(f"the WAL ends before the end of the backup that started at {format_lsn(start)}")

    def _stop_at_lsn(self, target, run_end, inclusive):
        record = waldump.first_at_or_after(self.bin_dir, self.view, target, self.timeline,
                                           self.chain.segment_size)
        return _Stop(record.lsn, inclusive) if record and record.lsn < run_end else None

    def _covers(self, lsn):
        return any(first * self.chain.segment_size <= lsn < end for first, _, end in self.chain.runs())

    def _writers(self, relations):
        """Xids that inserted into any of these relations ((tablespace, database, file) numbers)."""
        xids = set()
        for relation in relations:
            records = self._dump("-r", "Heap", "-r", "Heap2", "-R", "/".join(map(str, relation)))
            xids.update(r.xid for r in records if "INSERT" in r.desc.split(" ")[0])
        return xids

    def _dump(self, *options):
        size, records = self.chain.segment_size, []
        for first, last, end in self.chain.runs():
            names = [segment_name(self.timeline, number, size) for number in (first, last)]
            records += [r for r in waldump.dump(self.bin_dir, self.view, *names, size, options) if r.lsn < end]
        return records


def decode_repository(root, cluster="main"):
    """Decodes segments and history files of the only system identifier beneath <root>/<cluster>; where to."""
    found = list((Path(root) / cluster).glob("*/wal"))
    if len(found) != 1:
        raise HarnessError(f"expected WAL of one cluster beneath {root}/{cluster}, found {found}")
    target = system.new_dir("wal")
    for path in [*found[0].rglob("*.zst"), *found[0].rglob("*.zst" + keys.SUFFIX)]:
        name = path.name.removesuffix(keys.SUFFIX).removesuffix(".zst")
        if re.fullmatch(r"[0-9A-F]{24}|[0-9A-F]{8}\.history", name):
            (target / name).write_bytes(keys.unpacked(path.read_bytes()))
            system.own(target / name)
    return target


def _xact_end(record):
    match = _END_OF_XACT.match(record.desc) if record.rmgr == "Transaction" else None
    if not match:
        return None
    kind, prepared, stamp = match.groups()
    return XactEnd(record.lsn, record.end, int(prepared or record.xid), parse_time(stamp), kind == "COMMIT")

