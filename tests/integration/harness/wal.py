"""WAL positions, segment names, timeline histories, and which file holds which part of a timeline's WAL."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .system import HarnessError

PAGE = 8192
SHORT_HEADER, LONG_HEADER = 24, 40  # of a WAL page; the long one is on the first page of a segment
_SEGMENT = re.compile(r"[0-9A-F]{24}")


def parse_lsn(text):
    """'16/B374D848' as an integer."""
    high, low = str(text).split("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn):
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_name(timeline, number, size):
    per_id = (1 << 32) // size
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def parse_segment(name, size):
    """(timeline, segment number) of a segment's file name."""
    return int(name[:8], 16), int(name[8:16], 16) * ((1 << 32) // size) + int(name[16:], 16)


def record_end(start, length, segment_size):
    """Where the record that starts at `start` ends: aligned to 8, page headers it runs across counted in."""
    left, at = (length + 7) & ~7, start
    while True:
        room = PAGE - at % PAGE
        if left <= room:
            return at + left
        left -= room
        at += room
        at += LONG_HEADER if at % segment_size == 0 else SHORT_HEADER


def read_history(directory, timeline):
    """The ancestors of a timeline, oldest first: [(timeline, LSN where it was left), ...]."""
    path = Path(directory) / f"{timeline:08X}.history"
    if timeline == 1:
        return []
    if not path.exists():
        raise HarnessError(f"no history file {path}")
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    found = [(int(words[0]), parse_lsn(words[1])) for words in lines if words]
    # A timeline may have been left for its child before where its parent had been left for it.
    return [(number, min(lsn for _, lsn in found[i:])) for i, (number, _) in enumerate(found)]


@dataclass
class Chain:
    """The WAL of one timeline and its ancestors: segment number -> file, as recovery would choose them.

    `limits` holds, for a segment that only an ancestor has although the timeline was left inside it, the LSN
    from which on its contents belong to another history.
    """

    timeline: int
    segment_size: int
    files: dict
    limits: dict

    @classmethod
    def find(cls, directory, timeline=None):
        """Looks through a directory of raw segments; `timeline` defaults to the newest there."""
        names = [name for name in os.listdir(directory) if _SEGMENT.fullmatch(name)]
        if not names:
            raise HarnessError(f"no WAL segments in {directory}")
        size = (Path(directory) / names[0]).stat().st_size
        if timeline is None:
            histories = [name[:8] for name in os.listdir(directory) if name.endswith(".history")]
            timeline = max(int(text, 16) for text in histories + [name[:8] for name in names])
        chain = cls(timeline, size, {}, {})
        begin = 0
        for tli, end in read_history(directory, timeline) + [(timeline, None)]:
            # A newer timeline's file is preferred for the segment in which its ancestor was left.
            for name in names:
                name_tli, number = parse_segment(name, size)
                if name_tli == tli and number >= begin // size and (end is None or number <= (end - 1) // size):
                    chain.files[number] = Path(directory) / name
                    chain.limits.pop(number, None)
                    if end is not None and end < (number + 1) * size:
                        chain.limits[number] = end
            begin = end or 0
        return chain

    def runs(self):
        """Unbroken runs of segments as (first number, last number, LSN where the run's WAL must end)."""
        runs = []
        for number in sorted(self.files):
            whole_before = runs and runs[-1][1] == number - 1 and number - 1 not in self.limits
            if whole_before:
                runs[-1] = (runs[-1][0], number)
            else:
                runs.append((number, number))
        return [(first, last, self.limits.get(last, (last + 1) * self.segment_size)) for first, last in runs]

    def link(self, directory):
        """Links all segments into `directory`, named as if this timeline had them all (so pg_waldump reads on)."""
        for number, path in self.files.items():
            (Path(directory) / segment_name(self.timeline, number, self.segment_size)).symlink_to(path.resolve())
