"""backup and restore: every state that a power cut could leave keeps the promises."""

import pytest

from scenarios_backup import ServerHost


@pytest.fixture(scope="module")
def host(module_scratch):
    return ServerHost(module_scratch)


@pytest.fixture(scope="module")
def backup(host):
    return host.recorded_backup()


def test_backup(backup):
    backup.check(reruns=8)


def test_next_backup(host, backup):
    """From some of the states another backup is taken."""
    backup.rerun, before = host.rerun_backup, backup.rerun
    backup.check(reruns=3)
    backup.rerun = before


def test_backup_sees_undurable_wal(host):
    host.backup_sees_undurable_wal().check(reruns=2)


def test_restore(host, backup):
    host.recorded_restore().check(reruns=4)


def test_delta_restore(host, backup):
    host.recorded_delta().check()


def test_restore_over_remains(host, backup):
    host.recorded_restore("again-restored", killed=1500).check(reruns=4)
