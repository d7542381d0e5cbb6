"""Two regions: one cut off at each request in turn, one that never answers, one that dies; what each one lists restores
from that one alone.

By default a few places are cut, chosen by a seed that is printed (FAULT_SEED repeats it); PGVIGIL_TEST_LONG=1 cuts all.
"""

import os
import random
import re
import signal
import subprocess
import time

import pytest
from harness import Ledger, Oracle, Site, assert_restored, compare_directories, decode_repository, run, s3, system
from harness.proxy import Exchange, FaultProxy, answer, reset, stall

LONG = bool(os.environ.get("PGVIGIL_TEST_LONG"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.randrange(10**9)

pytestmark = pytest.mark.skipif(not s3.available("rgw"), reason="the packages of rgw are not installed")


def forget_outages(site):
    """As if a minute had passed."""
    run(["rm", "-rf", site.state_dir / "down"])


def listed(site, name):
    """Ids of the backups there."""
    (one,) = site.pgvigil.json("list", "--repository", name)["repositories"]
    assert one["error"] is None
    return [backup["id"] for cluster in one["clusters"] for backup in cluster["backups"]]


@pytest.fixture
def regions(scratch):
    """west in a directory, east in a bucket behind a proxy: site, site.proxy, site.server, site.bucket."""
    server = s3.server("rgw")
    with FaultProxy(server.port) as proxy:
        place, bucket = scratch.mkdir("west-place"), server.bucket()
        site = Site(scratch, config={
            "repository local": None, "repository west": {"url": f"file://{place}"},
            "repository east": server.section(bucket, endpoint=proxy.endpoint, timeout="1 s")})
        site.proxy, site.server, site.bucket, site.place = proxy, server, bucket, place
        site.pgvigil.outages = True
        yield site


def restored(site, region, backup):
    """The directory that this region alone makes of it; it is not started."""
    target = site.scratch.path / f"{region}-{backup}"
    site.pgvigil.run("restore", "--to", target, "--repository", region, "--backup", backup, "--target", "immediate")
    return target


class Regions:
    """What was restored so far, so that each backup is looked at once in each region."""

    def __init__(self, site):
        self.site, self.seen = site, set()

    def check(self):
        """Every backup that east lists is what west has."""
        west = listed(self.site, "west")
        for backup in listed(self.site, "east"):
            if backup in self.seen:
                continue
            assert backup in west
            self.seen.add(backup)
            pair = [restored(self.site, region, backup) for region in ("west", "east")]
            assert not [difference for difference in compare_directories(*pair)
                        if not difference.startswith(("postgresql.auto.conf", "backup_manifest"))]
            run(["rm", "-r", *pair])
        return west


def places(rng, requests):
    """At which request to cut."""
    return range(requests + 1) if LONG else [rng.randrange(requests + 1)]


def test_one_region_cut_at_each_request(regions):
    """From its n-th request on during backup N, and again during N + 1; then copy levels them."""
    site, proxy = regions, regions.proxy
    rng = random.Random(SEED)
    print(f"FAULT_SEED={SEED}")
    site.cluster.sql("create table t as select i, md5(i::text) as x from generate_series(1, 3000) as i")
    proxy.clear()
    site.backup()
    requests, all_of = len(proxy.seen), Regions(site)
    count = 1
    for skip in places(rng, requests):
        for _ in range(2):
            site.cluster.sql("update t set x = x || 'y' where mod(i, 7) = %s", count % 7)
            proxy.clear()
            proxy.on("*", "", rng.choice((reset(0), reset(0, "answer"), answer(403, "AccessDenied"))), times=None, skip=skip)
            site.backup()
            forget_outages(site)
            count += 1
        proxy.clear()
        assert len(all_of.check()) == count
    site.pgvigil.run("copy", "--to", "east")
    assert len(all_of.check()) == count == len(listed(site, "east"))


def test_copy_killed_at_each_request(regions):
    """Whenever it is killed, what the target lists is whole, and the next copy goes on from there."""
    site, proxy = regions, regions.proxy
    rng = random.Random(SEED + 1)
    print(f"FAULT_SEED={SEED}")
    site.cluster.sql("create table t as select i, md5(i::text) as x from generate_series(1, 3000) as i")
    site.write_config({"repository east": {"copy": "async", "timeout": "20 s"}})
    for _ in range(2):
        site.backup()
    all_of = Regions(site)
    for skip in (range(60) if LONG else sorted(rng.sample(range(2, 40), 2))):
        proxy.clear()
        process = []

        def kill(exchange):
            process[0].send_signal(signal.SIGKILL)
            exchange.forward()

        proxy.on("*", "", kill, skip=skip)
        process.append(subprocess.Popen([*map(str, site.pgvigil.command), "copy"], cwd=site.scratch.path,
                                        env=system.environment(), stderr=subprocess.DEVNULL, umask=0o077,
                                        **system.identity()))
        process[0].wait(60)
        proxy.clear()
        all_of.check()
        if LONG:
            for name in site.server.client().list(site.bucket, "vigil/main/"):
                site.server.client().delete(site.bucket, name)
            all_of.seen.clear()
    site.pgvigil.run("copy")
    assert listed(site, "east") == listed(site, "west") == all_of.check()
    assert 'has all that "west" has' in site.pgvigil.run("copy").stderr


def test_a_region_that_never_answers_keeps_nobody_waiting(scratch):
    """It takes every connection and says nothing: a push uses a part of its time on it, the next ones none; recovery
    goes on with the other one, and so does list."""
    server = s3.server("rgw")
    with FaultProxy(server.port) as proxy:
        site = Site(scratch, config={
            "repository local": None, "archive": {"timeout": "8 s"},
            "repository east": server.section(server.bucket(), endpoint=proxy.endpoint),
            "repository west": {"url": f"file://{scratch.mkdir('west-place')}"}})
        segments = [site.cluster.switch_wal(archived=True)]
        proxy.on("*", "", stall(60), times=None)
        started = time.monotonic()
        segments.append(site.cluster.switch_wal(archived=True))
        assert 1 < time.monotonic() - started < 8
        started = time.monotonic()
        segments.append(site.cluster.switch_wal(archived=True))
        assert time.monotonic() - started < 3
        # It says who it is, and then nothing more.
        proxy.clear()
        forget_outages(site)
        proxy.on("GET", "pgvigil.json", Exchange.forward, times=None)
        proxy.on("*", "", stall(60), times=None)
        segments.append(site.cluster.switch_wal(archived=True))
        assert site.cluster.scalar("select failed_count from pg_stat_archiver") == 0

        proxy.clear()
        proxy.on("*", "", stall(60), times=None)
        forget_outages(site)
        got, started = scratch.path / "got", time.monotonic()
        for segment in segments:
            site.pgvigil.run("archive-get", segment, got)
        assert time.monotonic() - started < 25, "each segment waited"
        owed = {one["name"]: one["owed_wal_files"] for one in site.pgvigil.json("list", check=3)["repositories"]}
        assert owed == {"east": 3, "west": 0}


def test_a_region_that_is_known_to_be_down_costs_seconds(scratch):
    """Not all the time that an outage is given where nobody knows of it, when it is said who is waited for."""
    server = s3.server("rgw")
    with FaultProxy(server.port) as proxy:
        site = Site(scratch, config={
            "repository local": None, "archive": {"timeout": "2 s"},
            "repository east": server.section(server.bucket(), endpoint=proxy.endpoint, timeout="20 s"),
            "repository west": {"url": f"file://{scratch.mkdir('west-place')}"},
            "repository third": {"url": f"file://{scratch.mkdir('third-place')}", "copy": "async"}})
        proxy.on("*", "", answer(503, "SlowDown"), times=None)
        site.cluster.switch_wal(archived=True)  # the push notes it
        for command, code in (("backup", 3), ("copy --to third", 0)):
            started = time.monotonic()
            done = site.pgvigil.run(*command.split(), check=code)
            assert time.monotonic() - started < 15, done.describe()
        forget_outages(site)
        done = site.pgvigil.run("copy", "--to", "third")
        assert re.search("warning: .*503 SlowDown; trying again until 2", done.stderr), done.describe()


def test_a_region_dies_in_the_middle(scratch):
    west, east = s3.server("rgw"), s3.server("rgw2")
    site = Site(scratch, config={
        "repository local": None, "repository west": west.section(west.bucket()),
        "repository east": east.section(east.bucket(), timeout="2 s")})
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(40)
        site.backup()
        with east.down():
            ledger.wait(40)
            site.cluster.switch_wal(archived=True)
            second = site.backup(check=3)
            assert 'the backup is not in repository "east"' in second.stderr
        ledger.wait(40)
    forget_outages(site)
    site.pgvigil.run("copy")
    site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    for name, server in (("west", west), ("east", east)):
        bucket = site.sections[f"repository {name}"]["url"].split("/")[2]
        wal = decode_repository(s3.download(server.client(), bucket, "vigil/", scratch.mkdir(f"copy-{name}")), "main")
        oracle = Oracle(wal, ledger=ledger, bin_dir=site.cluster.bindir)
        restored = site.restore(f"from-{name}", "--repository", name)
        assert_restored(restored, oracle.expect(start=restored.backup_start), ledger=ledger)
        restored.stop("immediate")
