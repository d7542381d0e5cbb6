"""Recovery settings for a data directory, and waiting for a recovery to come to its end."""

import re
import time
from pathlib import Path

import psycopg2

from . import system, template
from .system import HarnessError
from .wal import parse_lsn

OUTCOMES = ("promoted", "paused", "shutdown", "failed")


def write_recovery(data, restore_command, **settings):
    """Makes `data` recover from an archive at its next start, by the server's own settings.

    Used where pgvigil is not, as in the tests of the harness; e.g. recovery_target_lsn='0/3000028'.
    """
    with open(Path(data) / "postgresql.auto.conf", "a") as conf:
        for item in {"restore_command": restore_command, **settings}.items():
            conf.write(template.setting_line(*item))
    system.write_file(Path(data) / "recovery.signal", "")


def backup_start(data):
    """Where recovery of this directory begins, from its backup_label (also after the server renamed it)."""
    for name in ("backup_label", "backup_label.old"):
        path = Path(data) / name
        if path.exists():
            return parse_lsn(re.search(r"START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+)", path.read_text())[1])
    raise HarnessError(f"no backup_label in {data}")


def wait_recovery(cluster, want="promoted", timeout=90):
    """Waits for the recovery of a started cluster to end; `want` is how it must end, one of OUTCOMES.

    'shutdown' and 'failed' tell an orderly shutdown at the target from a server that gave up. Ends at once with
    HarnessError and the server's log if it comes out otherwise, or past the deadline.
    """
    if want not in OUTCOMES:
        raise ValueError(f"want must be one of {OUTCOMES}")
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        outcome = _outcome(cluster)
        if outcome == want:
            return cluster
        if outcome:
            raise HarnessError(f"recovery of {cluster.name}: wanted {want}, came out {outcome}\n{cluster.log_tail()}")
        time.sleep(0.02)
    raise HarnessError(f"recovery of {cluster.name} not {want} after {timeout} s\n{cluster.log_tail()}")


def _outcome(cluster):
    """One of OUTCOMES, or None while recovery is under way."""
    if not cluster.running:
        return "shutdown" if cluster.exit_code == 0 else "failed"
    try:
        in_recovery, paused = cluster.sql(
            "select pg_is_in_recovery(), case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() end")[0]
    except psycopg2.OperationalError:
        return None  # not consistent yet, or just going down
    except psycopg2.errors.ObjectNotInPrerequisiteState:
        return None  # promoted between the two calls
    if not in_recovery:
        return "promoted"
    return "paused" if paused == "paused" else None
