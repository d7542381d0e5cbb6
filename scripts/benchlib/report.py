"""Medians, tables, the figures to be reached, and JSON."""

import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field

MEGABYTE = 1e6
RIVAL = "pgbackrest"
FLOOR = "tar|zstd"
RESTLESS = 0.1      # more CPU used by others than this part of a run's wall time and processors is worth a remark
UNSYNCED = 0.1      # so is a sync afterwards that takes longer than this part of the wall time


@dataclass
class Series:
    """The runs of one contestant in one step."""
    usages: list = field(default_factory=list)
    stored: list = field(default_factory=list)
    server_cpu: list = field(default_factory=list)
    sync_afterwards: list = field(default_factory=list)

    def add(self, usage, **more):
        self.usages.append(usage)
        for name, value in more.items():
            getattr(self, name).append(value)

    def values(self, name):
        return vars(self)[name] if name in vars(self) else [getattr(usage, name) for usage in self.usages]

    def median(self, name):
        values = self.values(name)
        return statistics.median(values) if values else None

    def peak(self):
        return max(usage.peak for usage in self.usages)

    def as_dict(self):
        summary = {name: {"median": self.median(name), "min": min(self.values(name)), "max": max(self.values(name))}
                   for name in ("wall", "cpu", "stored", "server_cpu", "sync_afterwards") if self.values(name)}
        return {**summary, "peak": self.peak(), "runs": [asdict(usage) for usage in self.usages]}


def ratio(step, name, of, to):
    """Median of one contestant by that of another, or None."""
    if of not in step or to not in step:
        return None
    above, below = step[of].median(name), step[to].median(name)
    return above / below if above is not None and below else None


# -- the table --------------------------------------------------------------------------------------------------------

HEADINGS = ("", "wall s", "min..max", "CPU s", "stored MB", "peak MB", "wall/" + RIVAL, "CPU/" + RIVAL, "wall/floor")


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def row(step, name):
    series = step[name]
    wall, stored = series.values("wall"), series.median("stored")
    digits = 2 if statistics.median(wall) >= 1 else 4
    return (name, number(statistics.median(wall), digits), f"{min(wall):.{digits}f}..{max(wall):.{digits}f}",
            number(series.median("cpu"), digits), number(stored / MEGABYTE if stored else None, 1),
            number(series.peak() / MEGABYTE, 0), number(ratio(step, "wall", name, RIVAL)),
            number(ratio(step, "cpu", name, RIVAL)), number(ratio(step, "wall", name, FLOOR)))


def table(title, step):
    rows = [HEADINGS, *(row(step, name) for name in step)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADINGS))]
    lines = [f"{title} ({min(len(series.usages) for series in step.values())} runs each, medians)"]
    for line in rows:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        lines.append("  " + "  ".join([line[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def remarks(results):
    """What makes figures doubtful."""
    found = []
    for title, step in results.items():
        for name, series in step.items():
            wall = series.median("wall")
            others = max(usage.others / usage.wall for usage in series.usages) / os.cpu_count()
            if others > RESTLESS and wall >= 1 and title != "memory":
                found.append(f"{title}, {name}: others (server and kernel included) took up to {others:.0%} of the "
                             "processors")
            late = series.median("sync_afterwards")
            if late is not None and late > UNSYNCED * wall:
                found.append(f"{title}, {name}: a sync right afterwards took {late:.2f} s more")
    return found


# -- what is to be reached --------------------------------------------------------------------------------------------

OWN = "pgvigil"
ENCRYPTED = "pgvigil-encrypted"
GOALS = (   # (step, what, whose, against whom, at most)
    ("backup", "wall", OWN, RIVAL, 0.75),
    ("backup", "wall", OWN, FLOOR, 1.0),
    ("backup", "stored", OWN, RIVAL, 1.05),
    ("restore into tmpfs", "cpu", OWN, RIVAL, 0.6),
    ("restore onto disk", "cpu", OWN, RIVAL, 0.6),
    ("restore into tmpfs", "wall", OWN, RIVAL, 0.6),
    ("restore onto disk", "wall", OWN, RIVAL, 0.85),
    ("archive-push", "wall", OWN, RIVAL, 0.8),
    ("archive-get", "wall", OWN, RIVAL, 0.7),
    ("tables: backup", "wall", OWN, RIVAL, 0.7),
    ("tables: restore", "wall", OWN, RIVAL, 0.7),
    ("encryption: backup", "cpu", ENCRYPTED, OWN, 1.10),
    ("encryption: restore", "cpu", ENCRYPTED, OWN, 1.15),
    ("changes: few rows", "wall", OWN, RIVAL, 0.6),
    ("changes: few rows", "stored", OWN, RIVAL, 0.4),
    ("changes: restore", "wall", "after many", "full", 1.3),
    ("changes: restore", "wall", "delta", "after many", 0.5),
    ("s3: backup", "wall", "pgvigil-s3", "pgvigil-rclone", 1.15),
    ("s3: backup", "cpu", "pgvigil-s3-two", "pgvigil-s3", 1.15),
    ("s3: backup", "peak", "pgvigil-s3-slow", "pgvigil-s3", 1.1),
)
PUT_LIMIT = 1.2         # times curl's
NOTHING_CHANGED = 0.5   # s
RETAINED = 2.2          # times a full backup and the changes between those that are kept
MEMORY_LIMIT = 256 * 1000 * 1000
TABLES_MEMORY = 1.3     # times the large database's


def put_goal(about):
    own, curl = (statistics.median(about["puts"][who]) for who in (OWN, "curl"))
    return {"goal": "s3: put of 16 MiB / curl's", "limit": PUT_LIMIT, "figure": own / curl, "met": own / curl <= PUT_LIMIT}


def nothing_changed_goal(step):
    figure = step[OWN].median("wall") - step["start, stop"].median("wall")
    return {"goal": "changes: none: wall beyond start and stop, s", "limit": NOTHING_CHANGED, "figure": figure,
            "met": figure <= NOTHING_CHANGED}


def retention_goals(found):
    """When all that has expired is gone, and at worst."""
    needed = found["full"] + found["changes"]
    return [{"goal": f"retention: stored {when} / a full backup and the changes", "limit": RETAINED,
             "figure": stored / needed, "met": stored <= RETAINED * needed}
            for when, stored in (("at the end", found["at_the_end"]), ("at most", max(found["stored"])))]


def goals(results, about):
    """What was to be reached and what came out, as far as it was measured."""
    found = [{"goal": f"{title}: {what} / {rival}", "limit": limit, "figure": figure, "met": figure <= limit}
             for title, what, whose, rival, limit in GOALS
             for figure in [ratio(results.get(title, {}), what, whose, rival)] if figure is not None]
    for small, large in (("tables: backup", "backup"), ("tables: restore", "restore onto disk")):
        if OWN in results.get(small, {}) and OWN in results.get(large, {}):
            figure = results[small][OWN].peak() / results[large][OWN].peak()
            found.append({"goal": f"{small}: peak memory / {large}'s", "limit": TABLES_MEMORY, "figure": figure,
                          "met": figure <= TABLES_MEMORY})
    if "changes: none" in results:
        found.append(nothing_changed_goal(results["changes: none"]))
    if "retention" in about:
        found += retention_goals(about["retention"])
    if "puts" in about:
        found.append(put_goal(about))
    own = [series.peak() for title, step in results.items() for name, series in step.items()
           if title == "memory" or name == OWN]
    if own:
        found.append({"goal": "peak memory of any command, MB", "limit": MEMORY_LIMIT / MEGABYTE,
                      "figure": max(own) / MEGABYTE, "met": max(own) <= MEMORY_LIMIT})
    return found


def goals_text(found):
    width = max((len(goal["goal"]) for goal in found), default=0)
    return "\n".join(f"  {goal['goal'].ljust(width)}  {goal['figure']:7.2f}  at most {goal['limit']:6.2f}  "
                     f"{'met' if goal['met'] else 'MISSED'}" for goal in found)


# -- JSON -------------------------------------------------------------------------------------------------------------

def first_line(argv):
    try:
        done = subprocess.run([str(argument) for argument in argv], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (done.stdout + done.stderr).strip().split("\n")[0]


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")


def file_system(directory):
    return first_line(["findmnt", "-no", "FSTYPE", "-T", directory])


def machine(bench):
    return {
        "processors": os.cpu_count(), "processor": processor(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(), "disk": file_system(bench.directory), "tmpfs": str(bench.tmpfs),
        "pgvigil": first_line([bench.directory / "pgvigil", "version"]),
        "pgbackrest": first_line(["pgbackrest", "version"]),
        "postgres": first_line([bench.bin / "postgres", "--version"]),
        "zstd": first_line(["zstd", "--version"]),
    }


def as_json(bench, about, results):
    ratios = {title: {name: {"wall/" + RIVAL: ratio(step, "wall", name, RIVAL),
                             "cpu/" + RIVAL: ratio(step, "cpu", name, RIVAL),
                             "stored/" + RIVAL: ratio(step, "stored", name, RIVAL),
                             "wall/" + FLOOR: ratio(step, "wall", name, FLOOR)} for name in step}
              for title, step in results.items()}
    return {"machine": machine(bench), "settings": {"jobs": bench.jobs, "runs": bench.runs, "size": bench.size},
            "databases": about, "ratios": ratios, "goals": goals(results, about), "remarks": remarks(results),
            "results": {title: {name: series.as_dict() for name, series in step.items()}
                        for title, step in results.items()}}
