"""Bad days between pgvigil and a bucket: what networks, proxies and servers do wrong, each alone and all at once. No
promise may break, and what does not pass is named.

The default run has all faults at once, at random (FAULT_SEED repeats it), and each kind that must end in a message;
PGVIGIL_TEST_LONG=1 also waits out each kind of fault by itself.
"""

import datetime
import hashlib
import os
import random
import threading
import time

import pytest
from backup_tools import assert_says
from harness import compare_directories, s3, wait_recovery
from harness.proxy import (FaultProxy, answer, corrupt, corrupt_request, drip, lost_answer, reset, slow, stall, truncate,
                           wrong_etag)
from test_s3 import make, segment_file

LONG = bool(os.environ.get("PGVIGIL_TEST_LONG"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.randrange(10**9)

pytestmark = pytest.mark.skipif(not s3.available("rgw"), reason="the packages of rgw are not installed")


@pytest.fixture
def rgw():
    return s3.server("rgw")


@pytest.fixture
def west(scratch, rgw):
    """A site whose repository is reached through a fault proxy."""
    with FaultProxy(rgw.port) as proxy:
        site = make(scratch, rgw.section(rgw.bucket(), endpoint=proxy.endpoint, timeout="20 s"))
        site.proxy, site.server = proxy, rgw
        site.bucket = site.sections["repository west"]["url"].split("/")[2]
        yield site


# -- what passes ------------------------------------------------------------------------------------------------------

def weather(rng, chance):
    """With this chance a request meets one of the faults, at a random byte of it or of its answer."""
    lock = threading.Lock()

    def draw(length):
        at = rng.randrange(length + 1)
        return rng.choice((
            answer(500, "InternalError"), answer(503, "SlowDown", {"Retry-After": "1"}), answer(429, "TooManyRequests"),
            answer(502, body="<html>Bad Gateway</html>"), answer(408, "RequestTimeout"), reset(at), reset(at, "answer"),
            truncate(at), lost_answer(), corrupt_request(at), slow(rng.random()), wrong_etag()))

    def act(exchange):
        with lock:
            fault = draw(max(exchange.length, 3000)) if rng.random() < chance else None
        (fault or type(exchange).forward)(exchange)
    return act


def test_bad_weather(west, scratch):
    """A third of all requests goes wrong. Everything succeeds all the same, and nothing is other than it should be."""
    print(f"FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    west.write_config({"repository west": {"timeout": "2 min"}, "archive": {"timeout": "2 min"},
                       "repository later": {"url": f"file://{scratch.mkdir('later')}", "copy": "async"}})
    west.pgvigil.run("init")
    west.cluster.sql("create table t as select i, md5(i::text) as x from generate_series(1, 20000) as i")
    west.proxy.on("*", "", weather(rng, 1 / 3), times=None)
    west.backup()
    segment = west.cluster.switch_wal(archived=True, timeout=150)
    west.pgvigil.run("list")
    west.pgvigil.run("archive-get", segment, scratch.path / "got")
    west.restore("storm", "--repository", "west", start=False)
    west.pgvigil.run("copy")
    assert len(west.proxy.seen) > 50
    west.proxy.clear()
    west.restore("calm", "--repository", "west", start=False)
    west.restore("later-on", "--repository", "later", start=False)
    for other in ("storm", "later-on"):
        assert not [line for line in compare_directories(scratch.path / "calm", scratch.path / other)
                    if not line.startswith(("postgresql.auto.conf", "backup_manifest"))]
    restored = wait_recovery(scratch.adopt(scratch.path / "storm", "storm").start(wait=False))
    assert restored.scalar("select count(*) from t") == 20000


PASSING = {
    "500": answer(500, "InternalError"),
    "503": answer(503, "SlowDown", {"Retry-After": "1"}),
    "429": answer(429, "TooManyRequests"),
    "html 502": answer(502, body="<html>Bad Gateway</html>"),
    "reset at once": reset(0),
    "reset in the request": reset(2000),
    "reset in the answer": reset(100, "answer"),
    "reset before the answer's body": reset(0, "answer"),
    "answer lost": lost_answer(),
    "answer cut short": truncate(100),
    "408": answer(408, "RequestTimeout"),
    "corrupted on its way there": corrupt_request(100),
    "wrong ETag": wrong_etag(),
    "slow": slow(1.5),
}


@pytest.mark.skipif(not LONG, reason="PGVIGIL_TEST_LONG is not set")
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_waited_for(west, fault):
    """Each kind of request meets the fault twice; the backup restores byte for byte as the server has it."""
    west.cluster.sql("create table t as select generate_series(1, 20000) as i")
    for method in ("GET", "PUT", "HEAD"):
        west.proxy.on(method, "", PASSING[fault], times=2)
    west.proxy.on("PUT", "/pack/", PASSING[fault], times=2)
    west.proxy.on("PUT", "backup.json", PASSING[fault])
    west.backup()
    west.proxy.clear()
    west.proxy.on("PUT", "/wal/", PASSING[fault], times=2)
    west.cluster.switch_wal()
    west.proxy.clear()
    for path in ("", "/pack/", "/wal/", "manifest"):
        west.proxy.on("GET", path, PASSING[fault], times=2)
    assert west.restore("r").scalar("select count(*) from t") == 20000


# -- what does not ----------------------------------------------------------------------------------------------------

FAILING = {
    "503": (answer(503, "SlowDown"), ("server answered 503 SlowDown", " attempt")),
    "reset": (reset(0), (" attempt",)),
    "403": (answer(403, "AccessDenied"), ("server answered 403 AccessDenied", "s3:PutObject")),
    "skew": (answer(403, "RequestTimeTooSkewed", {"Date": "Tue, 24 Nov 2026 14:45:00 GMT"}),
             ("RequestTimeTooSkewed", "set this host's clock", "Tue, 24 Nov 2026 14:45:00 GMT")),
    "expired": (answer(400, "ExpiredToken"), ("ExpiredToken", "renew them")),
    "quota": (answer(507, "QuotaExceeded"), ("QuotaExceeded", "raise the quota")),
    "stall": (stall(30), (" attempt",)),
    "corrupted": (corrupt_request(1000), ("server answered 400 XAmzContentSHA256Mismatch", " attempt")),
}


def test_what_does_not_pass_is_said(west):
    """Packs meet it for good: the backup fails, says why, and is not listed; the next one is whole."""
    west.write_config({"repository west": {"timeout": "2 s"}})
    for fault, words in FAILING.values():
        west.proxy.clear()
        west.proxy.on("PUT", "/pack/", fault, times=None)
        started = time.monotonic()
        assert_says(west.backup(check=3), "could not write object", *words)
        assert time.monotonic() - started < 60
    assert not west.pgvigil.json("list")["repositories"][0]["clusters"][0]["backups"]
    west.proxy.clear()
    west.backup()
    west.restore("r").stop()


def test_a_burst_is_waited_out(west):
    """As long as the server says, and longer each time."""
    west.proxy.on("PUT", "/pack/.*/00000001", answer(503, "SlowDown", {"Retry-After": "2"}), times=2)
    started = time.monotonic()
    west.backup()
    assert time.monotonic() - started > 4
    west.proxy.clear()
    west.proxy.on("PUT", "/pack/", answer(503, "SlowDown", {"Retry-After": "3600"}))
    assert_says(west.backup(check=3), "server answered 503 SlowDown")


def test_every_command_says_why(west, scratch):
    """A server that is down for good, asked by each command; afterwards all is as before."""
    west.write_config({"repository west": {"timeout": "2 s"}, "archive": {"timeout": "3 s"},
                       "repository later": {"url": f"file://{scratch.mkdir('later')}", "copy": "async"}})
    west.pgvigil.run("init")
    west.backup()
    segment = west.cluster.switch_wal(archived=True)
    west.cluster.configure(archive_command="/bin/false")
    west.cluster.reload()
    commands = ((("archive-push", segment_file(west, 1)), 3), (("archive-get", segment, scratch.path / "got"), 126),
                (("list",), 3), (("restore", "--to", scratch.path / "r", "--repository", "west"), 3),
                (("copy", "--from", "west"), 3), (("backup",), 3))
    for number, (command, rc) in enumerate(commands):
        west.proxy.on("*", "", (answer(503, "ServiceUnavailable"), stall(20))[number % 2], times=None)
        started = time.monotonic()
        assert_says(west.pgvigil.run(*command, check=rc), " attempt")
        assert time.monotonic() - started < 30
        west.proxy.clear()
    west.cluster.configure(archive_command=f'{west.pgvigil.shell_command} archive-push "%p"')
    west.cluster.reload()
    for command, _ in commands:
        west.pgvigil.run(*command)


def test_an_answer_that_only_drips(west):
    """Bytes come, but so slowly that nobody can wait for them."""
    west.write_config({"repository west": {"timeout": "4 s"}})
    west.backup()
    west.proxy.on("GET", "/pack/", drip(100), times=None)
    started = time.monotonic()
    assert_says(west.pgvigil.run("restore", "--to", west.scratch.path / "r", check=3), "/pack/", " attempt")
    assert time.monotonic() - started < 60


def test_push_gives_up_before_its_deadline(west):
    west.write_config({"archive": {"timeout": "3 s"}, "repository west": {"timeout": "10 min"}})
    west.cluster.configure(archive_command="/bin/false")
    west.cluster.reload()
    path = segment_file(west, 1)
    west.proxy.on("*", "", answer(503, "SlowDown"), times=None)
    started = time.monotonic()
    done = west.pgvigil.run("archive-push", path, check=3)
    assert time.monotonic() - started < 8
    assert_says(done, "503 SlowDown", " attempt")
    west.proxy.clear()
    west.pgvigil.run("archive-push", path)


def test_damage_on_the_way_is_noticed(west):
    west.backup()
    for path in ("/pack/", "manifest", "/wal/"):
        west.proxy.on("GET", path, corrupt(200), times=None)
    done = west.pgvigil.run("restore", "--to", west.scratch.path / "r", check=4)
    assert "damaged" in done.stderr
    assert not (west.scratch.path / "r" / "global" / "pg_control").exists()
    west.proxy.clear()
    west.restore("again").stop()


def test_a_clock_that_is_off(rgw):
    """What the faults above call skew is what the server says."""
    client = rgw.client()
    client.now = lambda: datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)
    status, headers, body = client.request("GET", f"/{rgw.bucket()}", check=False)
    assert status == 403 and b"<Code>RequestTimeTooSkewed</Code>" in body and "Date" in headers


def test_the_server_goes_and_comes_back(scratch, rgw):
    """In the middle of a backup, for three seconds."""
    site = make(scratch, rgw.section(rgw.bucket(), timeout="1 min"))
    site.cluster.sql("create table t as select i, repeat(md5(i::text), 20) as x from generate_series(1, 60000) as i")
    with FaultProxy(rgw.port) as proxy:
        site.write_config({"repository west": {"endpoint": proxy.endpoint}})
        went = threading.Event()

        def go_away(exchange):
            if not went.is_set():
                went.set()
                with rgw.down():
                    proxy.stopping.wait(3)
            exchange.forward()

        proxy.on("PUT", "/pack/", go_away, skip=1)
        site.backup(timeout=180)
        assert went.is_set()
        assert site.restore("r").scalar("select count(*) from t") == 60000


def test_the_signed_digest_is_that_of_the_object(west):
    """The server was told the SHA-256 of what it was to store; what it has, has it, trailer included."""
    west.backup()
    client, bucket = west.server.client(), west.bucket
    for name in client.list(bucket):
        data = client.get(bucket, name)
        # The trailer names the digest of all before it.
        assert hashlib.sha256(data[:-128]).digest() in data[-128:], name
