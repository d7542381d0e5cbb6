"""What repositories in buckets cost: throwaway Ceph clusters with RGW on this machine (the recipe of the integration
tests), pgvigil into one of them and into two, and next to it what others need for the same: rclone, which puts the
objects of a directory repository, and curl, which puts one object after the other over one connection.
"""

import hashlib
import os
import random
import shutil
import socket
import statistics
from pathlib import Path

from benchlib.cluster import say
from benchlib.contestants import CLUSTER_CONF, LOCAL_REPOSITORY, Pgvigil, shell
from benchlib.measure import CommandFailed

RECIPES = Path(__file__).resolve().parent.parent.parent / "tests" / "integration" / "servers"
NEEDED = {"rclone": "rclone", "curl": "curl", "radosgw": "radosgw", "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd"}
KEY_ID, SECRET = "AKIDALICE00000000001", "alicesecret0000000000000000000000000001"    # the recipe's
REGIONS = ("west", "east")
BUCKET = "bench"
PORTS = 10              # that one server takes
PUT_BYTES = 16 << 20
PUTS = 5                # counted ones over one connection
SLOW = "20 MB"          # a second: what a rate limit does to the memory

BUCKET_REPOSITORY = """
[repository {region}]
url = s3://{bucket}/vigil
endpoint = {endpoint}
region = {region}
access_key_id = {key_id}
secret_access_key = {secret}
"""

RCLONE_CONF = """
[{region}]
type = s3
provider = Ceph
endpoint = {endpoint}
region = {region}
access_key_id = {key_id}
secret_access_key = {secret}
"""


def check_programs():
    missing = sorted(package for program, package in NEEDED.items()
                     if not shutil.which(program, path="/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"))
    if missing:
        raise CommandFailed(f"this needs more programs: apt-get install {' '.join(missing)}")


def free_ports():
    """The first of PORTS free ones in a row, below those the system hands out."""
    for _ in range(200):
        base = random.randrange(10000, 32000, PORTS)
        try:
            for port in range(base, base + PORTS):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return base
        except OSError:
            pass
    raise CommandFailed("no free ports")


class Server:
    """One RGW; everything lies in one directory, and the objects in memory."""

    def __init__(self, bench, region):
        self.bench, self.region = bench, region
        self.directory = bench.directory / f"rgw-{region}"
        self.port = free_ports()
        self.directory.mkdir(mode=0o700)
        bench.account.own(self.directory)
        self.recipe("up", self.port, region)
        self.rclone_conf = self.write("rclone.conf", RCLONE_CONF)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def recipe(self, what, *arguments):
        self.bench.run([RECIPES / f"rgw-{what}", self.directory, *arguments],
                       extra={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"})

    def settings(self, template):
        return template.format(region=self.region, endpoint=self.endpoint, bucket=BUCKET, key_id=KEY_ID, secret=SECRET)

    def write(self, name, template):
        path = self.directory / name
        path.write_text(self.settings(template), encoding="utf-8")
        path.chmod(0o600)
        self.bench.account.own(path)
        return path

    def rclone(self, *arguments):
        return ["rclone", "--config", self.rclone_conf, "--quiet", *arguments]

    def empty(self):
        """The bucket, made anew."""
        self.bench.run([*self.rclone("mkdir", f"{self.region}:{BUCKET}")])
        self.bench.run([*self.rclone("delete", f"{self.region}:{BUCKET}")])

    def stored(self):
        found = self.bench.run([*self.rclone("lsf", "-R", "--files-only", "--format", "sp", f"{self.region}:{BUCKET}")])
        return sum(int(size) for size, path in (line.split(";", 1) for line in found.splitlines())
                   if "/wal/" not in path)


class PgvigilBuckets(Pgvigil):
    """Into a bucket of each of these servers."""

    def __init__(self, bench, name, servers, rate_limit=None):
        self.name = self.archiver = name
        self.servers, self.rate_limit = servers, rate_limit
        super().__init__(bench)

    def configuration(self):
        limit = f"rate_limit = {self.rate_limit}\n" if self.rate_limit else ""
        return CLUSTER_CONF + "".join(server.settings(BUCKET_REPOSITORY) + limit for server in self.servers)

    def prepare(self, cluster):
        for server in self.servers:
            server.empty()
        super().prepare(cluster)

    def stored(self):
        return sum(server.stored() for server in self.servers)


class PgvigilRclone(Pgvigil):
    """Into a directory; then rclone puts all that is there into a bucket, as many objects at once as a backup does."""
    name = archiver = "pgvigil-rclone"

    def __init__(self, bench, server):
        self.server = server
        super().__init__(bench)

    def configuration(self):
        return CLUSTER_CONF + LOCAL_REPOSITORY

    def prepare(self, cluster):
        self.server.empty()
        super().prepare(cluster)

    def backup(self, cluster):
        put = self.server.rclone("copy", "--transfers", self.bench.jobs, "--checkers", self.bench.jobs, self.store,
                                 f"{self.server.region}:{BUCKET}")
        return shell(" && ".join(" ".join(map(str, command)) for command in (super().backup(cluster), put)))


# -- one object after the other ---------------------------------------------------------------------------------------

def curl_puts(bench, server, file, digest, prefix):
    """Seconds of each put but the first, which opens the connection. The digest costs curl nothing."""
    secret = server.write("curlrc", 'user = "{key_id}:{secret}"\n')
    argv = ["curl", "-q", "-sS", "-f", "-K", secret, "--aws-sigv4", f"aws:amz:{server.region}:s3", "-H",
            f"x-amz-content-sha256: {digest}", "-w", "%{time_total}\n"]
    for number in range(PUTS + 1):
        argv += ["-T", file, f"{server.endpoint}/{BUCKET}/{prefix}-{number}"]
    return [float(line) for line in bench.run(argv).split()][1:]


def own_puts(bench, file, prefix):
    return [float(line) for line in
            bench.run([bench.directory / "put", bench.directory / "pgvigil-put.conf", file, PUTS, prefix]).split()]


def measure_puts(bench, cluster, server):
    """{who: seconds of each put}, in turn."""
    contestant = PgvigilBuckets(bench, "pgvigil-put", [server])
    contestant.reset(cluster)
    cluster.archive_with("nobody")
    file = bench.directory / "object"
    content = os.urandom(PUT_BYTES)
    file.write_bytes(content)
    bench.account.own(file)
    digest = hashlib.sha256(content).hexdigest()
    seconds = {"pgvigil": [], "curl": []}
    for turn in range(bench.runs + 1):
        one = {"curl": curl_puts(bench, server, file, digest, f"curl-{turn}"),
               "pgvigil": own_puts(bench, file, f"own-{turn}")}
        if turn > 0:
            for who, found in one.items():
                seconds[who] += found
        say(f"puts, {'warming up' if turn == 0 else f'run {turn}'}: "
            + ", ".join(f"{who} {statistics.median(found) * 1000:.1f} ms" for who, found in one.items()))
    contestant.remove()
    return seconds


# -- all of it --------------------------------------------------------------------------------------------------------

def contestants(bench, servers):
    return [PgvigilRclone(bench, servers[0]), PgvigilBuckets(bench, "pgvigil-s3", servers[:1]),
            PgvigilBuckets(bench, "pgvigil-s3-two", servers),
            PgvigilBuckets(bench, "pgvigil-s3-slow", servers[:1], SLOW)]


def start(bench):
    say("starting two Ceph clusters")
    servers = []
    try:
        for region in REGIONS:
            servers.append(Server(bench, region))
    except BaseException:
        stop(servers)
        raise
    return servers


def stop(servers):
    for server in servers:
        server.recipe("down")
