"""Repositories in buckets of real S3 servers: the whole way, what they refuse, bad days, bad configurations."""

import hashlib
import http.server
import json
import os
import re
import threading
import time
import urllib.parse

import pytest
from backup_tools import assert_says
from harness import (Ledger, Oracle, Pgvigil, Site, assert_amcheck, assert_restored, assert_verifybackup, compare_directories,
                     config_text, decode_repository, format_lsn, run, s3, write_file)
from harness.proxy import FaultProxy, answer

SERVERS = ("rgw", "swift")


def need(kind):
    if not s3.available(kind):
        pytest.skip(f"the packages of {kind} are not installed")
    return s3.server(kind)


@pytest.fixture(params=SERVERS)
def server(request):
    return need(request.param)


@pytest.fixture
def rgw():
    return need("rgw")


def make(scratch, section, **kwargs):
    return Site(scratch, config={"repository local": None, "repository west": section}, **kwargs)


def local_copy(site, server, scratch, name="copy"):
    """The repository as files, fetched by the tests' own client."""
    bucket = site.sections["repository west"]["url"].split("/")[2]
    return s3.download(server.client(), bucket, "vigil/", scratch.mkdir(name))


def segment_file(site, number, content=None):
    """A WAL segment of this cluster that PostgreSQL has not archived, in a directory of its own."""
    # At the very start of a segment, versions before 17 name the one before; so does this in all.
    name = site.cluster.scalar("select pg_walfile_name(pg_current_wal_lsn() - 1)")
    path = site.scratch.mkdir(f"segment-{number}") / name
    data = bytearray((site.cluster.data / "pg_wal" / name).read_bytes())
    if content:
        data[-8:] = content
    write_file(path, "")
    path.write_bytes(data)
    return path


# -- the whole way ----------------------------------------------------------------------------------------------------

def test_the_whole_way(scratch, server):
    site = make(scratch, server.section(server.bucket()))
    ledger = Ledger.create(site.cluster)
    with ledger.running():
        ledger.wait(40)
        site.backup("--jobs", "2")
        ledger.wait(60)
    site.cluster.switch_wal()
    assert site.pgvigil.run("check").rc == 0
    copy = local_copy(site, server, scratch)
    oracle = Oracle(decode_repository(copy, "main"), ledger=ledger, bin_dir=site.cluster.bindir)
    target = oracle.commits[-20]
    site.cluster.stop()

    restored = site.restore("r", "--target-lsn", format_lsn(target.lsn))
    assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=target.lsn), ledger=ledger)
    assert_amcheck(restored)
    plain = site.restore("plain", start=False)
    assert_verifybackup(plain.data, site.cluster.bindir)
    listed = site.pgvigil.json("list")["repositories"][0]
    assert len(listed["clusters"][0]["backups"]) == 1

    # What any S3 tool fetches is a repository in a directory, and restores the same.
    site.write_config({"repository west": {"url": f"file://{copy}", **dict.fromkeys(
        ("endpoint", "region", "access_key_id", "secret_access_key"))}})
    run(["rm", "-r", site.state_dir / "repository"])
    again = site.restore("again", start=False)
    assert not [difference for difference in compare_directories(plain.data, again.data)
                if not difference.startswith(("postgresql.auto.conf", "backup_manifest"))]


def test_nothing_is_overwritten(scratch, server):
    site = make(scratch, server.section(server.bucket()), settings={"archive_command": "/bin/false"})
    first, other = segment_file(site, 1), segment_file(site, 2, b"another!")
    site.pgvigil.run("archive-push", first)
    site.pgvigil.run("archive-push", first)
    refused = site.pgvigil.run("archive-push", other, check=False)
    assert refused.rc not in (0,) and refused.rc < 126
    assert "with another content" in refused.stderr
    got = scratch.path / "got"
    site.pgvigil.run("archive-get", first.name, got)
    assert got.read_bytes() == first.read_bytes()


def test_conformance(server):
    """The suite that every store passes; scripts/test names the unit tests' program."""
    unit = os.environ.get("PGVIGIL_UNIT")
    if not unit:
        pytest.skip("PGVIGIL_UNIT names no program of unit tests")
    run([unit, "conformance"], timeout=600, env={"CK_TIMEOUT_MULTIPLIER": "60",
        "PGVIGIL_TEST_S3_URL": f"s3://{server.bucket()}/conformance", "PGVIGIL_TEST_S3_ENDPOINT": server.endpoint,
        "PGVIGIL_TEST_S3_REGION": server.region, "AWS_ACCESS_KEY_ID": s3.key_id(server.kind, "alice"),
        "AWS_SECRET_ACCESS_KEY": s3.SECRETS["alice"]})


def test_tls_with_an_own_authority(scratch, rgw):
    bucket = rgw.bucket()
    site = make(scratch, rgw.section(bucket, endpoint=rgw.tls_endpoint, ca_file=rgw.ca_file))
    site.backup()
    site.write_config({"repository west": {"ca_file": None}})
    assert_says(site.pgvigil.run("list", check=3), "certificate", "ca_file")
    run([s3.recipe("mkca"), scratch.mkdir("another-authority")])
    site.write_config({"repository west": {"ca_file": scratch.path / "another-authority" / "ca.pem"}})
    assert_says(site.pgvigil.run("list", check=3), "certificate", "ca_file")
    # The bucket in the host's name.
    port = rgw.tls_endpoint.rsplit(":", 1)[1]
    site.write_config({"repository west": {"ca_file": rgw.ca_file, "path_style": "no",
                                           "endpoint": f"https://s3.localhost:{port}"}})
    assert site.pgvigil.json("list")["repositories"][0]["clusters"]


def test_storage_classes(scratch, rgw):
    bucket = rgw.bucket()
    site = make(scratch, rgw.section(bucket, storage_class="STANDARD_IA", storage_class_wal="GLACIER"))
    site.backup()
    client = rgw.client()
    classes = {name: {k.lower(): v for k, v in client.request("HEAD", f"/{bucket}/{name}")[1].items()}.get(
        "x-amz-storage-class", "STANDARD") for name in client.list(bucket)}

    def of(pattern):
        return {found for name, found in classes.items() if re.search(pattern, name)}

    assert of("/pack/") == of("manifest") == {"STANDARD_IA"}
    assert of(r"/[0-9A-F]{24}\.zst(\.cms)?$") == {"GLACIER"}
    assert of(r"\.json$") == of("refs") == {"STANDARD"}


def test_the_server_encrypts(scratch, rgw):
    """With the key that is named, whatever is stored; RGW has one for tests, and refuses others."""
    bucket = rgw.bucket()
    site = make(scratch, rgw.section(bucket, sse="aws:kms", kms_key_id="testkey-1"))
    site.backup()
    client = rgw.client()
    for name in client.list(bucket):
        headers = {k.lower(): v for k, v in client.request("HEAD", f"/{bucket}/{name}")[1].items()}
        assert (headers.get("x-amz-server-side-encryption"),
                headers.get("x-amz-server-side-encryption-aws-kms-key-id")) == ("aws:kms", "testkey-1"), name
    site.restore("r", start=False)
    site.write_config({"repository west": {"kms_key_id": "nobodys-key"}})
    assert_says(site.backup(check=3), "could not write object", "server answered 4", hint=False)


def test_the_server_is_told_to_encrypt(scratch, server):
    """With keys of its own: whatever is put says so, and signs it. Swift has none, and RGW since Ceph 17 wants a vault for
    them: that is said."""
    refusals = {"swift": ("501 NotImplemented", "Server-side encryption is not supported"), "rgw": ("400 InvalidArgument",)}
    heads = []

    def listen(exchange):
        heads.append(exchange.head.decode())
        exchange.forward()

    with FaultProxy(server.port) as proxy:
        proxy.on("PUT", "", listen, times=None)
        site = make(scratch, server.section(server.bucket(), endpoint=proxy.endpoint, sse="AES256"), init=False)
        done = site.pgvigil.run("init", check=False)
        if done.rc == 0 and server.kind == "rgw":
            site.backup()
        else:
            assert done.rc == 3
            assert_says(done, *refusals[server.kind], hint=False)
        site.cluster.stop()
    assert heads
    for head in heads:
        assert re.search(r"(?im)^x-amz-server-side-encryption: *AES256\r$", head), head
        assert re.search(r"(?im)^authorization: .*SignedHeaders=[^,]*;x-amz-server-side-encryption[,;]", head), head


def test_credentials_of_the_environment(scratch, rgw):
    """Credentials come from the environment here."""
    cluster = scratch.cluster().start()
    pgvigil = Pgvigil(scratch.path / "new.conf", cwd=scratch.path)
    environment = {"AWS_ACCESS_KEY_ID": s3.key_id("rgw", "alice"), "AWS_SECRET_ACCESS_KEY": s3.SECRETS["alice"]}
    bucket = rgw.bucket()
    write_file(pgvigil.config, config_text({
        "cluster": {"name": "main", "pgdata": cluster.data, "conninfo": cluster.conninfo,
                    "state_dir": scratch.path / "state"},
        "repository main": {"url": f"s3://{bucket}/vigil", "endpoint": rgw.endpoint}}))
    done = pgvigil.run("init", env=environment)
    assert f"made repository \"main\" at s3://{bucket}/vigil" in done.stderr
    assert pgvigil.json("list", env=environment)["repositories"]


# -- rights -----------------------------------------------------------------------------------------------------------

RIGHTS = ("s3:GetObject", "s3:ListBucket", "s3:PutObject")


def allow(server, bucket, actions, denied=()):
    """bob may do this, and nothing else, in alice's bucket."""
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": effect, "Principal": {"AWS": ["arn:aws:iam:::user/bob"]}, "Action": list(which),
         "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
        for effect, which in (("Allow", actions), ("Deny", denied)) if which]}
    server.client().request("PUT", f"/{bucket}", {"policy": ""}, json.dumps(policy).encode())


def test_three_rights_suffice(scratch, rgw):
    bucket = rgw.bucket()
    allow(rgw, bucket, RIGHTS)
    site = make(scratch, rgw.section(bucket, user="bob"))
    assert rgw.client("bob").request("DELETE", f"/{bucket}/vigil/pgvigil.json", check=False)[0] == 403
    site.backup()
    site.cluster.switch_wal()
    site.pgvigil.run("check")
    site.cluster.stop()
    site.restore("r").stop()


def test_two_rights_suffice_to_read(scratch, rgw):
    """What conf/pgvigil.conf.sample says of commands that only read; a restore says what it does without."""
    bucket = rgw.bucket()
    site = make(scratch, rgw.section(bucket))
    site.write_config({"repository later": {"url": f"file://{scratch.mkdir('later')}", "copy": "async"}})
    site.pgvigil.run("init")
    site.backup()
    segment = site.cluster.switch_wal(archived=True)
    site.cluster.stop()
    allow(rgw, bucket, ("s3:GetObject", "s3:ListBucket"))
    site.write_config({"repository west": {"access_key_id": s3.key_id("rgw", "bob"),
                                           "secret_access_key": s3.SECRETS["bob"]}})
    site.pgvigil.run("list")
    site.pgvigil.run("archive-get", segment, scratch.path / "got")
    site.pgvigil.run("copy", "--from", "west", "--to", "later")
    done = site.pgvigil.run("restore", "--to", scratch.path / "r", "--repository", "west")
    assert_says(done, "the restore is not noted", "403 AccessDenied")
    assert (scratch.path / "r" / "global" / "pg_control").exists()


@pytest.mark.parametrize("missing", RIGHTS)
def test_a_right_is_missing(scratch, rgw, missing):
    bucket = rgw.bucket()
    allow(rgw, bucket, RIGHTS, [missing])
    site = make(scratch, rgw.section(bucket, user="bob"), init=False, settings={"archive_command": "/bin/true"})
    done = site.pgvigil.run("init", check=3)
    assert_says(done, "403 AccessDenied", "s3:ListBucket")


def test_expire_needs_a_fourth(scratch, rgw):
    """Without it nothing goes, and it says what it lacks. Marks are made two hours old on their way here."""
    bucket = rgw.bucket()
    allow(rgw, bucket, RIGHTS)
    client = rgw.client()

    def backdated(exchange):
        query = {"list-type": 2, "prefix": urllib.parse.unquote(re.search(r"prefix=([^&]*)", exchange.path)[1])}
        text = client.request("GET", f"/{bucket}", query)[2].decode()
        past = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 3 * 3600))
        answer(200, body=re.sub(r"(<LastModified>)[^<]*", rf"\g<1>{past}", text))(exchange)

    with FaultProxy(rgw.port) as proxy:
        site = make(scratch, rgw.section(bucket, user="bob", endpoint=proxy.endpoint))
        site.write_config({"retention": {"window": "1 s"}})
        for _ in range(2):
            site.pgvigil.run("backup", "--full")
        time.sleep(2.1)  # the window, judged by the server's clock, which tells whole seconds
        site.pgvigil.run("expire")
        before = set(client.list(bucket, "vigil/main/"))
        assert [name for name in before if "/expire/" in name], "one is marked"
        proxy.on("GET", r"prefix=[^&]*expire", backdated, times=None)
        done = site.pgvigil.run("expire", check=3)
        assert_says(done, "could not remove", "AccessDenied", "s3:DeleteObject")
        assert before <= set(client.list(bucket, "vigil/main/"))
        site.pgvigil.run("verify", "--all")
        allow(rgw, bucket, (*RIGHTS, "s3:DeleteObject"))
        done = site.pgvigil.run("expire")
        assert_says(done, "removed 1 backup", hint=False)
        site.pgvigil.run("verify", "--all")


# -- bad configurations -----------------------------------------------------------------------------------------------

BAD = {
    "bucket": ({"url": "s3://nobodys-bucket/vigil"}, ("404 NoSuchBucket", "make the bucket")),
    "key": ({"access_key_id": "NOBODY"}, ("403 InvalidAccessKeyId", "does not know this access_key_id")),
    "secret": ({"secret_access_key": "wrong"}, ("403 SignatureDoesNotMatch", "does not belong to access_key_id")),
    "endpoint": ({"endpoint": "http://127.0.0.1:9"}, ("127.0.0.1:9", "attempts", "is the endpoint right")),
    "host": ({"endpoint": "http://nobody.invalid"}, ("nobody.invalid", "is the endpoint right")),
    "style": ({"endpoint": "http://127.0.0.1:9", "path_style": "no"},
              (".127.0.0.1", "path_style = yes asks the endpoint itself; or is the endpoint wrong?")),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_configuration(scratch, rgw, what):
    change, words = BAD[what]
    site = make(scratch, rgw.section(rgw.bucket(), timeout="2 s"))
    site.write_config({"repository west": change})
    started = time.monotonic()
    for command in (("list",), ("backup",)):
        done = site.pgvigil.run(*command, check=3)
        assert_says(done, *words)
        assert s3.SECRETS["alice"] not in done.stdout + done.stderr
    assert time.monotonic() - started < 30


def test_plain_and_tls_taken_for_each_other(scratch, rgw):
    """TLS to a port of plain HTTP is not tried again; the other way round it may be a server that just stops."""
    tls = rgw.section(rgw.bucket(), timeout="3 s", endpoint=rgw.tls_endpoint, ca_file=rgw.ca_file)
    site = make(scratch, tls)
    site.write_config({"repository west": {"endpoint": rgw.endpoint.replace("http://", "https://")}})
    done = site.pgvigil.run("list", check=3)
    assert_says(done, "wrong version number", '"endpoint" must begin with http://')
    assert "attempts" not in done.stderr
    site.write_config({"repository west": {"endpoint": rgw.tls_endpoint.replace("https://", "http://")}})
    assert_says(site.pgvigil.run("list", check=3), "no answer from", '"endpoint" must begin with https://')


def test_wrong_region(scratch):
    swift = need("swift")
    site = make(scratch, swift.section(swift.bucket()))
    site.write_config({"repository west": {"region": "south"}})
    assert_says(site.pgvigil.run("list", check=3), "AuthorizationHeaderMalformed", "set region = north")


def test_a_readable_secret_is_refused(scratch, rgw):
    site = make(scratch, rgw.section(rgw.bucket()))
    site.config.chmod(0o644)
    assert_says(site.pgvigil.run("list", check=2), "secret_access_key", "chmod o=")


def test_no_server_of_s3(scratch, rgw):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<html><body>Welcome to our network</body></html>"
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    site = make(scratch, rgw.section(rgw.bucket(), timeout="2 s"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, daemon=True).start()
        site.write_config({"repository west": {"endpoint": f"http://127.0.0.1:{page.server_address[1]}"}})
        for page.status, rc in ((404, 3), (403, 3), (502, 3)):
            assert_says(site.pgvigil.run("list", check=rc), f"server answered {page.status}", "does not speak S3")
            got = site.pgvigil.run("archive-get", "00000001000000000000000A", scratch.path / "x", check=126)
            assert not (scratch.path / "x").exists() and got.stderr
        page.status = 200
        assert site.pgvigil.run("list", check=False).rc in (3, 4)
        page.shutdown()


def test_another_clusters_bucket(scratch, rgw):
    """A bucket that is not empty is not settled in; one that is another's after init is noticed."""
    bucket, other = rgw.bucket(), rgw.bucket()
    rgw.client().put(bucket, "vigil/somebody/elses", b"x")
    site = make(scratch, rgw.section(bucket), init=False, settings={"archive_command": "/bin/true"})
    assert_says(site.pgvigil.run("init", check=3), "is not empty and no repository of pgvigil")
    site.write_config({"repository west": {"url": f"s3://{other}/vigil"}})
    site.pgvigil.run("init")
    for name in rgw.client().list(other):
        rgw.client().delete(other, name)
    for command in ("list", "init"):
        done = site.pgvigil.run(command, check=3)
        assert_says(done, 'there is no "pgvigil.json"', "has the bucket been emptied, and the URL as it was")
        assert "file system" not in done.stderr and done.stderr.count("it was ") == 1
    third = rgw.bucket()
    make(scratch, rgw.section(third), name="second")
    site.write_config({"repository west": {"url": f"s3://{third}/vigil"}})
    assert_says(site.pgvigil.run("backup", check=3), "is not the one it was before")
