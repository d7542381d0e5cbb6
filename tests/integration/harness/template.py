"""Data directories fresh from initdb, made once per worker and copied from then on.

Copies share their system identifier; a test that needs two clusters of different identity asks for
`own_identity=True` where it makes the second one.
"""

import os
import re
from pathlib import Path

from . import system

SETTINGS = {
    "max_connections": 40, "shared_buffers": "32MB", "max_prepared_transactions": 20, "max_wal_senders": 10,
    "wal_level": "replica", "full_page_writes": "on", "synchronous_commit": "on", "timezone": "UTC",
    "log_timezone": "UTC", "log_line_prefix": "%m [%p] %b ", "log_checkpoints": "on",
}
_templates = {}


def bindir():
    """The PostgreSQL programs: PG_BINDIR, or else the newest version in Debian's place."""
    if os.environ.get("PG_BINDIR"):
        return Path(os.environ["PG_BINDIR"])
    versions = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if not versions:
        raise system.HarnessError("no PostgreSQL server in /usr/lib/postgresql, and PG_BINDIR is not set")
    return max(versions, key=lambda p: float(p.parent.name))


def major_version(bin_dir=None):
    """The major version of the server in `bin_dir`, such as 15."""
    done = system.run([(bin_dir or bindir()) / "postgres", "--version"])
    return int(re.search(r"\) (\d+)", done.stdout)[1])


def setting_line(name, value):
    """One line for postgresql.conf, the value quoted."""
    if isinstance(value, bool):
        value = "on" if value else "off"
    quoted = str(value).replace("'", "''")
    return f"{name} = '{quoted}'\n"


def make_data_directory(target, bin_dir, *, wal_segsize, checksums=True, own_identity=False, options=()):
    """Makes `target` a new data directory with SETTINGS and the extension amcheck; wal_segsize is in MB."""
    arguments = [*options, f"--wal-segsize={wal_segsize}"]
    if checksums:
        arguments += ["--data-checksums"]
    elif major_version(bin_dir) >= 18:
        arguments += ["--no-data-checksums"]
    if own_identity:
        _initdb(target, bin_dir, arguments)
        return
    key = (bin_dir, tuple(arguments))
    if key not in _templates:
        template = system.new_dir("template") / "data"
        _initdb(template, bin_dir, arguments)
        _templates[key] = template
    system.run(["cp", "-a", "--reflink=auto", _templates[key], target])


def _initdb(target, bin_dir, arguments):
    system.run([bin_dir / "initdb", "-D", target, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
                "--no-sync", *arguments])
    with open(Path(target) / "postgresql.conf", "a") as conf:
        conf.writelines(setting_line(*item) for item in SETTINGS.items())
    # amcheck must be there beforehand: a restored cluster that is paused in recovery cannot install it.
    for database in ("template1", "postgres"):
        system.run([bin_dir / "postgres", "--single", "-F", "-D", target, database],
                   stdin="create extension amcheck\n")
