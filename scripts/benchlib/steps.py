"""What is measured. A step runs its contestants in turn, in an order that rotates, and returns a Series of each.

The first run of each contestant is not counted: it warms what can be warm, and is where results are checked. Before
every counted run the page cache is filled with what is to be read and everything dirty is written out, so that nobody
pays for what came before.
"""

import ctypes
import os
import shutil
import subprocess
import time

from benchlib import changes, s3
from benchlib.cluster import make_large, make_segments, make_tables, say, tree_size
from benchlib.contestants import Floor, Pgbackrest, PgBasebackup, Pgvigil, PgvigilEncrypted, warm
from benchlib.measure import CommandFailed
from benchlib.report import Series

SEGMENTS_AT_LEAST = 20
SEGMENTS_WARM = 2
QUICK = 0.002           # s between two looks at the memory of what takes milliseconds
KEEP_FREE = 20 << 30    # bytes that what was restored before must leave free
TMPFS_MEMORY = 2.5      # available memory, times the database: it has to hold source, store and what is restored
FITS = 1.15             # a file system has to have as many times the room that is needed
NEVER_BACKED_UP = ("pg_internal.init", "pgsql_tmp")


def sync_file_system(directory):
    """Writes out what is dirty in the file system of a directory; returns how long it took."""
    started = time.perf_counter()
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), f"syncfs of {directory}")
    finally:
        os.close(handle)
    return time.perf_counter() - started


def turns(contestants, runs):
    """(run, contestant): run 0 is the one not counted; each run begins with another contestant."""
    for run in range(runs + 1):
        first = run % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            yield run, contestant


# -- backup -----------------------------------------------------------------------------------------------------------

def one_backup(bench, cluster, contestant):
    contestant.reset(cluster)
    warm(cluster.data)
    sync_file_system(bench.directory)
    server = cluster.server_cpu()
    usage = bench.measure(contestant.backup(cluster))
    server = cluster.server_cpu() - server
    rest = sync_file_system(contestant.store)
    cluster.wait_until_archived()
    cluster.archive_with("nobody")
    return {"usage": usage, "stored": contestant.stored(), "server_cpu": server, "sync_afterwards": rest}


def measure_backup(bench, cluster, contestants, runs, what="backup"):
    series = {contestant.name: Series() for contestant in contestants}
    for run, contestant in turns(contestants, runs):
        result = one_backup(bench, cluster, contestant)
        bench.progress(what, run, contestant.name, result["usage"])
        if run > 0:
            series[contestant.name].add(**result)
        if run < runs:
            contestant.remove()     # the last one's is what restores are made of
    return series


# -- restore ----------------------------------------------------------------------------------------------------------

def check_restored(cluster, target):
    """Nothing has changed since the backup: the relations must be there, byte for byte."""
    done = subprocess.run(["diff", "-rq", cluster.data / "base", target / "base"], capture_output=True, text=True,
                          check=False)
    wrong = [line for line in done.stdout.splitlines()
             if not (line.startswith("Only in") and line.rsplit(": ", 1)[1] in NEVER_BACKED_UP)]
    if wrong or done.stderr:
        raise CommandFailed("what was restored is not what was backed up:\n" + "\n".join(wrong[:10]) + done.stderr)


class Targets:
    """Directories to restore into. What was restored is removed as late as its file system has room for: on ext4
    without a journal, making a file costs more for some minutes after many have been removed, whoever makes it."""

    def __init__(self, bench, place, need):
        self.bench = bench
        self.top = place / f"{bench.directory.name}-restored"
        self.need = need
        self.in_memory = place == bench.tmpfs
        self.count = 0
        self.filled = []
        self.make_directory(self.top)

    def make_directory(self, path):
        path.mkdir(mode=0o700)
        self.bench.account.own(path)

    def new(self):
        while self.filled and (self.in_memory or not fits(self.top, self.need + KEEP_FREE)):
            shutil.rmtree(self.filled.pop(0))
        self.count += 1
        target = self.top / str(self.count)
        self.make_directory(target)
        self.filled.append(target)
        return target

    def remove(self):
        shutil.rmtree(self.top)


def one_restore(bench, cluster, contestant, targets, check):
    target = targets.new()
    warm(contestant.store)
    sync_file_system(bench.directory)
    sync_file_system(target)
    usage = bench.measure(contestant.restore(cluster, target))
    rest = sync_file_system(target)
    if check:
        check_restored(cluster, target)
    return {"usage": usage, "sync_afterwards": rest}


def ensure_backups(cluster, contestants):
    """Whoever's last backup is not in its store makes one."""
    for contestant in contestants:
        if not contestant.store.exists() or contestant.stored() == 0:
            one_backup(cluster.bench, cluster, contestant)


def measure_restore(bench, cluster, contestants, runs, place, what):
    ensure_backups(cluster, contestants)
    series = {contestant.name: Series() for contestant in contestants}
    targets = Targets(bench, place, tree_size(cluster.data))
    try:
        for run, contestant in turns(contestants, runs):
            result = one_restore(bench, cluster, contestant, targets, check=run == 0)
            bench.progress(what, run, contestant.name, result["usage"])
            if run > 0:
                series[contestant.name].add(**result)
    finally:
        targets.remove()
    return series


def fits(place, size):
    return place.is_dir() and shutil.disk_usage(place).free > size * FITS


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))


# -- archive-push and archive-get -------------------------------------------------------------------------------------

def measure_segments(bench, contestants, segments, one, what):
    """Every contestant handles every segment once, by one(contestant, segment); the order changes with each segment."""
    series = {contestant.name: Series() for contestant in contestants}
    for run, segment in enumerate(segments):
        first = run % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            usage = one(contestant, segment)
            if run >= SEGMENTS_WARM:
                series[contestant.name].add(usage=usage)
        bench.progress(what, run, "everybody", None)
    return series


def push_all(bench, cluster, contestants, segments):
    def push(contestant, segment):
        warm(segment)
        sync_file_system(bench.directory)
        return bench.measure(contestant.push(segment), cwd=cluster.data, interval=QUICK)

    for contestant in contestants:
        contestant.reset(cluster)
    cluster.archive_with("nobody")
    series = measure_segments(bench, contestants, segments, push, "archive-push")
    for contestant in contestants:
        series[contestant.name].stored = [tree_size(contestant.store) // len(segments)]
    return series


def get_all(bench, cluster, contestants, segments):
    target = bench.directory / "get" / "RECOVERYXLOG"

    def get(contestant, segment):
        target.unlink(missing_ok=True)
        warm(contestant.store)
        sync_file_system(bench.directory)
        usage = bench.measure(contestant.get(segment, target), cwd=cluster.data, interval=QUICK)
        if target.read_bytes() != segment.read_bytes():
            raise CommandFailed(f"{contestant.name} did not give back the segment {segment.name} that was pushed")
        return usage

    target.parent.mkdir(mode=0o700)
    bench.account.own(target.parent)
    return measure_segments(bench, contestants, segments, get, "archive-get")


# -- peak memory of every command -------------------------------------------------------------------------------------

def measure_memory(bench, cluster):
    """One run of each of pgvigil's commands, watched closely. Its wall times are not to be compared with anything."""
    pgvigil = Pgvigil(bench)
    segment = make_segments(cluster, 1)[0]
    target = bench.directory / "memory-restored"
    pgvigil.reset(cluster)
    bench.run(pgvigil.command("init", "--apply", "--quiet"))    # check wants its own archive_command
    cluster.sql("SELECT pg_reload_conf()")
    commands = {"backup": pgvigil.backup(cluster), "restore": pgvigil.restore(cluster, target),
                "archive-push": pgvigil.push(segment), "list": pgvigil.command("list"),
                "archive-get": pgvigil.get(segment, bench.directory / "memory-segment"),
                "check": pgvigil.command("check", "--quiet")}
    series = {}
    for name, argv in commands.items():
        series[name] = Series()
        series[name].add(usage=bench.measure(argv, cwd=cluster.data, interval=QUICK))
        bench.progress("memory", 1, name, series[name].usages[0])
    shutil.rmtree(target)
    pgvigil.remove()
    return series


# -- all of it --------------------------------------------------------------------------------------------------------

def run_large(bench, wanted, results, about):
    cluster, about["large"] = make_large(bench, bench.size)
    try:
        both = [Pgvigil(bench), Pgbackrest(bench)]
        if "push" in wanted or "get" in wanted:
            segments = make_segments(cluster, max(bench.runs, SEGMENTS_AT_LEAST) + SEGMENTS_WARM)
            results["archive-push"] = push_all(bench, cluster, both, segments)
            if "get" in wanted:
                results["archive-get"] = get_all(bench, cluster, both, segments)
            if "push" not in wanted:
                del results["archive-push"]
            for contestant in both:
                contestant.remove()
        if "backup" in wanted:
            results["backup"] = measure_backup(bench, cluster, [*both, PgBasebackup(bench), Floor(bench)], bench.runs)
        if "restore" in wanted:
            restore_large(bench, cluster, [*both, Floor(bench)], results, about)
        if "encryption" in wanted:
            measure_encryption(bench, cluster, results)
        if "changes" in wanted:
            changes.measure_changes(bench, cluster, results, about)
        if "s3" in wanted:
            measure_s3(bench, cluster, results, about)
        if "memory" in wanted:
            results["memory"] = measure_memory(bench, cluster)
    finally:
        if not bench.keep:
            cluster.remove()


def measure_encryption(bench, cluster, results):
    """What it adds to CPU seconds: into memory where there is room, as the disk's part of them only blurs it."""
    pair = [Pgvigil(bench), PgvigilEncrypted(bench)]
    results["encryption: backup"] = measure_backup(bench, cluster, pair, bench.runs, "encryption: backup")
    place = bench.tmpfs if has_room_in_memory(bench, cluster) else bench.directory
    results["encryption: restore"] = measure_restore(bench, cluster, pair, bench.runs, place, "encryption: restore")
    for contestant in pair:
        contestant.remove()


def measure_s3(bench, cluster, results, about):
    servers = s3.start(bench)
    try:
        everybody = s3.contestants(bench, servers)
        results["s3: backup"] = measure_backup(bench, cluster, everybody, bench.runs, "s3: backup")
        for contestant in everybody:
            contestant.remove()
        about["puts"] = s3.measure_puts(bench, cluster, servers[0])
    finally:
        s3.stop(servers)


def has_room_in_memory(bench, cluster):
    need = tree_size(cluster.data)
    return fits(bench.tmpfs, need) and available_memory() > need * TMPFS_MEMORY


def restore_large(bench, cluster, contestants, results, about):
    need = tree_size(cluster.data)
    if has_room_in_memory(bench, cluster):
        results["restore into tmpfs"] = measure_restore(bench, cluster, contestants, bench.runs, bench.tmpfs,
                                                        "restore into tmpfs")
    else:
        say(f"not measured: restore into tmpfs; {bench.tmpfs} (or the memory) has no room for {need / 1e9:.1f} GB")
    results["restore onto disk"] = measure_restore(bench, cluster, contestants, bench.runs, bench.directory,
                                                   "restore onto disk")


def run_tables(bench, results, about):
    cluster, about["tables"] = make_tables(bench, bench.tables)
    try:
        contestants = [Pgvigil(bench), Pgbackrest(bench), Floor(bench)]
        results["tables: backup"] = measure_backup(bench, cluster, contestants, bench.runs, "tables: backup")
        results["tables: restore"] = measure_restore(bench, cluster, contestants, bench.runs, bench.directory,
                                                     "tables: restore")
    finally:
        if not bench.keep:
            cluster.remove()
