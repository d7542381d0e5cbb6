"""Real S3 servers on loopback, and a client of the tests' own that shares nothing with pgvigil's.

`server("rgw")`, `server("swift")`, ... starts one (2 s) and keeps it for all tests of this worker process. A guard stops
it when the process ends in whatever way. Recipes: tests/integration/servers.
"""

import contextlib
import datetime
import functools
import hashlib
import hmac
import http.client
import random
import shutil
import socket
import ssl
import subprocess
import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from . import system
from .system import HarnessError

RECIPES = Path(__file__).resolve().parent.parent / "servers"
SECRETS = {"alice": "alicesecret0000000000000000000000000001", "bob": "bobsecret000000000000000000000000000001"}
PORTS = 10  # that one server takes

# What each kind is made of: recipe, programs it needs, prefix of key ids, environment.
KINDS = {
    "rgw": ("rgw", ("radosgw", "ceph-mon", "ceph-osd"), "AKID{}0000000000001"),
    "rgw2": ("rgw", ("radosgw", "ceph-mon", "ceph-osd"), "AKID{}0000000000001"),
    "swift": ("swift", ("swift-proxy-server", "swift-object-server", "memcached"), "{0}:{0}"),
}
REGIONS = {"rgw": "west", "rgw2": "east", "swift": "north"}


def available(kind):
    return all(shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") for program in KINDS[kind][1])


def recipe(name):
    return system.reachable(RECIPES) / name


def key_id(kind, user):
    pattern = KINDS[kind][2]
    return {"alice": "AKIDALICE00000000001", "bob": "AKIDBOB0000000000001"}[user] if "AKID" in pattern \
        else pattern.format(user)


def _free(base):
    for port in range(base, base + PORTS):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def free_ports():
    """The first of PORTS free ones in a row, below those the system hands out."""
    for _ in range(200):
        base = random.randrange(10000, 32000, PORTS)
        if _free(base):
            return base
    raise HarnessError("no free ports")


@dataclass
class Server:
    kind: str
    directory: Path
    port: int
    region: str

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self):
        """Ceph's alone."""
        return f"https://127.0.0.1:{self.port + 1}"

    @property
    def ca_file(self):
        return self.directory / "ca.pem"

    def client(self, user="alice"):
        return Client(self.endpoint, self.region, key_id(self.kind, user), SECRETS[user])

    def bucket(self, user="alice"):
        """A new one."""
        name = f"b{random.randrange(10**12):012d}"
        # Just started, some answer 503 for a moment.
        system.wait_until(lambda: self.client(user).request("PUT", f"/{name}", check=False)[0] == 200, 60, "a bucket",
                          pause=0.2)
        return name

    def section(self, bucket, user="alice", **more):
        """Keys of a [repository] in that bucket."""
        return {"url": f"s3://{bucket}/vigil", "endpoint": self.endpoint, "region": self.region,
                "access_key_id": key_id(self.kind, user), "secret_access_key": SECRETS[user], **more}

    def _recipe(self, what, *args):
        name = f"{KINDS[self.kind][0]}-{what}"
        done = subprocess.run([recipe(name), self.directory, *map(str, args)], cwd=self.directory,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                              env=system.environment({"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}), **system.identity())
        if done.returncode != 0:
            raise HarnessError(f"{name} failed\n{done.stdout}")

    def start(self):
        self._recipe("up", self.port, self.region)

    def stop(self):
        self._recipe("down")

    @contextlib.contextmanager
    def down(self):
        """Nobody answers meanwhile. RGW keeps its data."""
        system.run(["/bin/sh", "-c", 'kill -KILL "$(cat "$0")"', self.directory / "rgw.pid"])
        try:
            yield
        finally:
            self.start()


@functools.lru_cache(maxsize=None)
def server(kind):
    directory = system.new_dir(kind)
    if KINDS[kind][0] == "rgw":
        system.run([recipe("mkca"), directory])
    one = Server(kind, directory, free_ports(), REGIONS[kind])
    # The guard's standard input ends with this process, however that ends.
    subprocess.Popen(["/bin/sh", "-c", 'cat >/dev/null; exec "$0" "$1"', recipe(f"{KINDS[kind][0]}-down"), directory],
                     stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
                     start_new_session=True)
    one.start()
    return one


class Client:
    """Signs and sends; raises HarnessError for other answers than 2xx unless told."""

    def __init__(self, endpoint, region, access_key_id, secret):
        self.url = urllib.parse.urlsplit(endpoint)
        self.region = region
        self.access_key_id = access_key_id
        self.secret = secret
        self.service = "s3"

    @staticmethod
    def now():
        return datetime.datetime.now(datetime.timezone.utc)

    def _authorization(self, method, path, query, headers, payload):
        day = headers["x-amz-date"][:8]
        names = ";".join(sorted(headers))
        lines = [method, path, query, *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, payload]
        scope = f"{day}/{self.region}/{self.service}/aws4_request"
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        key = ("AWS4" + self.secret).encode()
        for part in (day, self.region, self.service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"

    def request(self, method, path, query=None, body=b"", check=True):
        """-> (status, headers, body)"""
        path = urllib.parse.quote(path, safe="/-._~")
        encoded = "&".join(f"{urllib.parse.quote(k, safe='-._~')}={urllib.parse.quote(str(v), safe='-._~')}"
                           for k, v in sorted((query or {}).items()))
        payload = hashlib.sha256(body).hexdigest()
        now = self.now().strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": self.url.netloc, "x-amz-content-sha256": payload, "x-amz-date": now}
        headers["authorization"] = self._authorization(method, path, encoded, headers, payload)
        connection = http.client.HTTPSConnection(self.url.netloc, context=ssl._create_unverified_context()) \
            if self.url.scheme == "https" else http.client.HTTPConnection(self.url.netloc)
        with contextlib.closing(connection):
            connection.request(method, f"{path}?{encoded}" if encoded else path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        if check and answer.status // 100 != 2:
            raise HarnessError(f"{method} {path}?{encoded}: {answer.status}\n{content.decode(errors='replace')}")
        return answer.status, dict(answer.getheaders()), content

    def list(self, bucket, prefix=""):
        """{name: size}"""
        found, after = {}, ""
        while True:
            query = {"list-type": 2, "prefix": prefix, **({"start-after": after} if after else {})}
            root = ElementTree.fromstring(self.request("GET", f"/{bucket}", query)[2])
            space = root.tag[:root.tag.index("}") + 1] if root.tag.startswith("{") else ""
            for one in root.findall(f"{space}Contents"):
                after = one.findtext(f"{space}Key")
                found[after] = int(one.findtext(f"{space}Size"))
            if root.findtext(f"{space}IsTruncated") != "true":
                return found

    def get(self, bucket, name):
        return self.request("GET", f"/{bucket}/{name}")[2]

    def put(self, bucket, name, body):
        self.request("PUT", f"/{bucket}/{name}", body=body)

    def delete(self, bucket, name):
        self.request("DELETE", f"/{bucket}/{name}")

    def assume_role(self, role):
        """Keys of a session, lent by Ceph's STS for an hour: {id, secret, token}."""
        sts = Client(self.url.geturl(), self.region, self.access_key_id, self.secret)
        sts.service = "sts"
        answer = ElementTree.fromstring(sts.request("POST", "/", body=urllib.parse.urlencode({
            "Action": "AssumeRole", "RoleArn": f"arn:aws:iam:::role/{role}", "RoleSessionName": "tests",
            "Version": "2011-06-15"}).encode())[2])
        return {key: answer.findtext(f".//{tag}") for key, tag in
                (("id", "AccessKeyId"), ("secret", "SecretAccessKey"), ("token", "SessionToken"))}


def download(client, bucket, prefix, directory):
    """All objects under prefix (with its slash) as files in directory, as any S3 tool would; returns it."""
    for name in client.list(bucket, prefix):
        path = Path(directory) / name[len(prefix):]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get(bucket, name))
    return Path(directory)
