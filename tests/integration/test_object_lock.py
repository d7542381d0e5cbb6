"""Object lock in a bucket of a real server: what is stored is held, and expire says so."""

import calendar
import hashlib
import http.client
import datetime
import time
import urllib.parse

import pytest
from backup_tools import assert_says
from harness import Site, s3


@pytest.fixture
def rgw():
    if not s3.available("rgw"):
        pytest.skip("the packages of rgw are not installed")
    return s3.server("rgw")


def make(scratch, section, **kwargs):
    return Site(scratch, config={"repository local": None, "repository west": section,
                                                "retention": {"window": "1 s"}}, **kwargs)


def locked_bucket(server):
    """A new one, made with object lock, which is a header that the harness does not send."""
    client, name = server.client(), f"lock{time.monotonic_ns()}"
    headers = {"host": urllib.parse.urlsplit(server.endpoint).netloc, "x-amz-bucket-object-lock-enabled": "true",
               "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(),
               "x-amz-date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")}
    headers["authorization"] = client._authorization("PUT", f"/{name}", "", headers, headers["x-amz-content-sha256"])
    connection = http.client.HTTPConnection(headers["host"])
    connection.request("PUT", f"/{name}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()
    return name


def test_object_lock(scratch, rgw):
    """The server holds what is stored, packs for twice as long; expire lets it alone and says so."""
    bucket, client = locked_bucket(rgw), rgw.client()
    site = make(scratch, rgw.section(bucket, object_lock="governance 1 d"))
    started = time.time()
    site.backup()
    days = {}
    for name in client.list(bucket):
        headers = {key.lower(): value for key, value in client.request("HEAD", f"/{bucket}/{name}")[1].items()}
        assert headers["x-amz-object-lock-mode"] == "GOVERNANCE", name
        until = time.strptime(headers["x-amz-object-lock-retain-until-date"][:19], "%Y-%m-%dT%H:%M:%S")
        days[name] = (calendar.timegm(until) - started) / 86400
    assert all(abs(left - (2 if "/pack/" in name else 1)) < 0.01 for name, left in days.items())
    assert any("/pack/" in name for name in days)
    found = site.pgvigil.json("expire", "--dry-run")["repositories"][0]
    assert found["versioned"]
    # A version that is locked cannot be removed by anybody with the rights of a writer.
    name = next(name for name in days if name.endswith("backup.json"))
    version = {key.lower(): value for key, value in client.request("HEAD", f"/{bucket}/{name}")[1].items()}["x-amz-version-id"]
    assert client.request("DELETE", f"/{bucket}/{name}", {"versionId": version}, check=False)[0] == 403


def test_a_bucket_without_object_lock(scratch, rgw):
    site = make(scratch, rgw.section(rgw.bucket(), object_lock="governance 1 d"), start=False, init=False)
    done = site.pgvigil.run("init", check=3)
    assert_says(done, "InvalidRequest", "made with object lock")
