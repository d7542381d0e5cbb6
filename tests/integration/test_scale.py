"""What grows with a database, and what must not. tests/scale/simulate.c makes repositories of large ones, without their
data; docs/PERFORMANCE.md has the figures at 10 TB."""

import os

import pytest
from backup_tools import peak
from harness import Site, keys, system

SMALL, LARGE = 40, 160  # GiB, that is 5 and 21 million blocks
GROWTH = 48e6           # bytes: 3 for each block more
PACKS = 64 << 20        # bytes: the small one's packs of maps are not full, and to decrypt one takes two more of its size
BACKUPS = 12


def simulate(scratch, size):
    site = Site(scratch, name=f"s{size}", start=False, config={"retention": {"window": "1d"}})
    system.run([system.reachable(os.environ["PGVIGIL_SIMULATE"]), site.config, size, BACKUPS - 3, 2])
    return site


def check_sound(site):
    """What is simulated passes every check that is possible without the data."""
    (cluster,) = site.pgvigil.json("list")["repositories"][0]["clusters"]
    assert len(cluster["backups"]) == BACKUPS and cluster["damage"] == []
    assert all(backup["wal_complete"] for backup in cluster["backups"])


def plan(site):
    """The peak of all before the first pack: there is no room for what is to be restored, or that pack is a hole."""
    most, done = peak(site.pgvigil, "restore", "--to", site.scratch.path / f"{site.name}-restored", "--jobs", "2", check=False)
    assert (done.rc == 3 and "not enough space" in done.stderr) or (done.rc == 4 and "/pack/" in done.stderr), \
        done.describe()
    return most


@pytest.mark.directory
def test_memory_does_not_grow_with_the_database(scratch):
    small, large = simulate(scratch, SMALL), simulate(scratch, LARGE)
    check_sound(small)
    for command in (("list",), ("expire", "--dry-run")):
        assert peak(large.pgvigil, *command)[0] < peak(small.pgvigil, *command)[0] + GROWTH, command
    assert plan(large) < plan(small) + GROWTH + (PACKS if keys.wanted() else 0)
