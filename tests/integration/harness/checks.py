"""PostgreSQL's own checkers as assertions, and a page-by-page comparison of directories."""

import os
from pathlib import Path

from . import system
from .system import HarnessError
from .wal import PAGE


def assert_amcheck(cluster):
    """pg_amcheck over all databases: tables, TOAST, and indexes against their tables."""
    options = ["--all", "--heapallindexed"]
    if not cluster.scalar("select pg_is_in_recovery()"):
        # Where recovery has stopped between PREPARE TRANSACTION and its end, parent checks would wait for its locks.
        for gid, database in cluster.sql("select gid, database from pg_prepared_xacts"):
            cluster.sql("rollback prepared %s", gid, db=database)
        # Databases other than postgres and template1 may lack the extension; parent checks need real locks.
        options += ["--install-missing", "--parent-check"]
    done = cluster.tool("pg_amcheck", "-h", cluster.socket_dir, "-p", cluster.port, "-U", "postgres", *options,
                        check=False)
    if done.rc != 0 or done.stdout.strip():
        raise HarnessError(f"pg_amcheck complains about {cluster.name}\n{done.describe()}")


_VISIBILITY = """
select 'pg_check_visible', c.oid::regclass::text, t::text from heap c, pg_check_visible(c.oid) t
union all select 'pg_check_frozen', c.oid::regclass::text, t::text from heap c, pg_check_frozen(c.oid) t
union all select 'page and map disagree', c.oid::regclass::text, blkno::text from heap c, pg_visibility(c.oid)
    where all_visible and not pd_all_visible"""


def assert_visibility(cluster):
    """What the visibility maps of all databases say is so. The cluster has left recovery, and nobody else works in it."""
    wrong = []
    # Where recovery ended in the middle of DROP DATABASE, there is one that nobody can connect to.
    for name, in cluster.sql("select datname from pg_database where datallowconn and datconnlimit <> -2 order by 1"):
        cluster.sql("create extension if not exists pg_visibility", db=name)
        found = cluster.sql("with heap as materialized (select oid from pg_class where relkind in ('r', 'm', 't'))"
                            + _VISIBILITY, db=name)
        wrong += [f"{name}: " + " ".join(row) for row in found]
    if wrong:
        raise HarnessError("\n".join([f"visibility maps of {cluster.name} are wrong:", *wrong[:20]]))


def assert_checksums(cluster):
    """Stops the cluster cleanly (if it runs) and checks every page's checksum with pg_checksums."""
    cluster.stop("fast")
    done = cluster.tool("pg_checksums", "--check", "-D", cluster.data, check=False)
    if done.rc != 0:
        raise HarnessError(f"pg_checksums complains about {cluster.name}\n{done.describe()}")


def assert_verifybackup(data, bin_dir):
    """pg_verifybackup without WAL over a restored directory that has not been started yet."""
    done = system.run([bin_dir / "pg_verifybackup", "-n", data], check=False)
    if done.rc != 0:
        raise HarnessError(f"pg_verifybackup complains about {data}\n{done.describe()}")


def compare_directories(left, right, ignore=()):
    """Differences between two trees, as readable lines; none if they are alike.

    Compares which paths exist and of what kind, the targets of links, and files page by page (8 KiB). `ignore`:
    relative paths to pass over, with all that is beneath them.
    """
    left, right = Path(left), Path(right)
    ours, theirs = _tree(left, ignore), _tree(right, ignore)
    lines = [f"only in {left}: {name}" for name in sorted(ours.keys() - theirs.keys())]
    lines += [f"only in {right}: {name}" for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        if ours[name] != theirs[name]:
            lines.append(f"{name}: {ours[name]} against {theirs[name]}")
        elif ours[name] == "file":
            lines += _compare_files(name, left / name, right / name)
    return lines


def _tree(root, ignore):
    found = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory) / name
            relative = path.relative_to(root)
            if any(relative.is_relative_to(pattern) for pattern in ignore):
                continue
            kind = f"link to {os.readlink(path)}" if path.is_symlink() else "directory" if path.is_dir() else "file"
            found[str(relative)] = kind
    return found


def _compare_files(name, left, right):
    a, b = left.read_bytes(), right.read_bytes()
    if a == b:
        return []
    pages = [n for n in range((max(len(a), len(b)) + PAGE - 1) // PAGE)
             if a[n * PAGE:(n + 1) * PAGE] != b[n * PAGE:(n + 1) * PAGE]]
    size = f", sizes {len(a)} and {len(b)}" if len(a) != len(b) else ""
    return [f"{name}: {len(pages)} pages differ{size}: {pages[:20]}"]
