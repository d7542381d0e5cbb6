"""Where credentials come from, and what happens when they end: stand-ins for the platform's endpoints lend what a real
server (RGW, its STS included) takes or refuses."""

import datetime
import http.server
import json
import threading
import urllib.parse

import pytest
from backup_tools import assert_says
from harness import Site, run, s3, write_file
from harness.proxy import FaultProxy, expired, slow

pytestmark = pytest.mark.skipif(not s3.available("rgw"), reason="the packages of rgw are not installed")

ALICE = {"id": s3.key_id("rgw", "alice"), "secret": s3.SECRETS["alice"], "token": ""}
BOB = {"id": s3.key_id("rgw", "bob"), "secret": s3.SECRETS["bob"], "token": ""}


class Lender(http.server.ThreadingHTTPServer):
    """The metadata service of an instance (IMDSv2), a container's endpoint, and STS for web identities, in one."""

    def __init__(self, *keys, lifetime=3600):
        super().__init__(("127.0.0.1", 0), _Lending)
        self.keys, self.lifetime = list(keys), lifetime
        self.asked = []  # paths
        self.lent = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def lend(self):
        """The next keys, at last always the same."""
        keys = self.keys[min(self.lent, len(self.keys) - 1)]
        self.lent += 1
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.lifetime)
        return keys, end.strftime("%Y-%m-%dT%H:%M:%SZ")

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class _Lending(http.server.BaseHTTPRequestHandler):
    def reply(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def as_json(self):
        keys, end = self.server.lend()
        self.reply(json.dumps({"AccessKeyId": keys["id"], "SecretAccessKey": keys["secret"], "Token": keys["token"],
                               "Expiration": end}))

    def as_xml(self):
        keys, end = self.server.lend()
        self.reply("<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
                   "<AssumeRoleWithWebIdentityResult><Credentials>"
                   f"<AccessKeyId>{keys['id']}</AccessKeyId><SecretAccessKey>{keys['secret']}</SecretAccessKey>"
                   f"<SessionToken>{keys['token']}</SessionToken><Expiration>{end}</Expiration></Credentials>"
                   "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")

    def do_PUT(self):
        self.server.asked.append(self.path)
        if self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]:
            self.reply("a-token")
        else:
            self.reply("", 400)

    def do_GET(self):
        self.server.asked.append(self.path)
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        if self.path.startswith("/latest/"):
            if self.headers["X-aws-ec2-metadata-token"] != "a-token":
                self.reply("", 401)  # as the service does where the first version is switched off
            elif self.path.endswith("/security-credentials/"):
                self.reply("backup-role\n")
            elif self.path.endswith("/backup-role"):
                self.as_json()
            else:
                self.reply("", 404)
        elif self.path == "/container" and self.headers["Authorization"] == "container-token":
            self.as_json()
        elif query.get("Action") == ["AssumeRoleWithWebIdentity"] and query["WebIdentityToken"] == ["web-token"] and \
                query["RoleArn"] == ["arn:aws:iam::1:role/backup"]:
            self.as_xml()
        else:
            self.reply("", 403)

    def log_message(self, *_):
        pass


@pytest.fixture
def rgw():
    return s3.server("rgw")


NOWHERE = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}


def sources(scratch, lender):
    """{source: (keys of the section, environment)}"""
    directory = scratch.mkdir("credentials")
    shared = write_file(directory / "shared", f"[default]\naws_access_key_id = nobody\naws_secret_access_key = x\n\n[backup]\n"
                        f"aws_access_key_id = {ALICE['id']}\naws_secret_access_key = {ALICE['secret']}\n")
    files = {"access_key_id_file": write_file(directory / "id", ALICE["id"] + "\n"),
             "secret_access_key_file": write_file(directory / "secret", ALICE["secret"] + "\n")}
    web = write_file(directory / "web", "web-token\n")
    token = write_file(directory / "token", "container-token\n")
    return {
        "configuration": ({"access_key_id": ALICE["id"], "secret_access_key": ALICE["secret"]}, NOWHERE),
        "files": (files, NOWHERE),
        "environment": ({}, {**NOWHERE, "AWS_ACCESS_KEY_ID": ALICE["id"], "AWS_SECRET_ACCESS_KEY": ALICE["secret"]}),
        "profile": ({"profile": "backup"}, {**NOWHERE, "AWS_SHARED_CREDENTIALS_FILE": shared}),
        "AWS_PROFILE": ({}, {**NOWHERE, "AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_PROFILE": "backup"}),
        "web identity": ({}, {**NOWHERE, "AWS_WEB_IDENTITY_TOKEN_FILE": web, "AWS_ROLE_ARN": "arn:aws:iam::1:role/backup",
                              "AWS_ENDPOINT_URL_STS": lender.url}),
        "container": ({}, {**NOWHERE, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{lender.url}/container",
                           "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}),
        "instance": ({}, {**NOWHERE, "AWS_EC2_METADATA_DISABLED": "false",
                          "AWS_EC2_METADATA_SERVICE_ENDPOINT": lender.url}),
    }


LENT = ("web identity", "container", "instance")
NONE = dict.fromkeys(("access_key_id", "secret_access_key"))


def test_every_source(scratch, rgw):
    """Each of them alone; those that a platform lends are a session's of the server's own STS."""
    session = rgw.client().assume_role("backup")
    site = Site(scratch, config={"repository local": None, "repository west": rgw.section(rgw.bucket())},
                settings={"archive_command": "/bin/true"})
    with Lender(session) as lender:
        for source, (section, environment) in sources(scratch, lender).items():
            site.write_config({"repository west": {**dict.fromkeys(
                ("access_key_id_file", "secret_access_key_file", "profile")), **NONE, **section}})
            lender.lent = 0
            done = site.pgvigil.run("list", env=environment)
            assert (lender.lent > 0) == (source in LENT), source
            assert session["secret"] not in done.stderr and ALICE["secret"] not in done.stderr
        assert "PUT" not in lender.asked and "/latest/api/token" in lender.asked

        # Nobody lends any.
        site.write_config({"repository west": {**NONE, "profile": None, "access_key_id_file": None,
                                               "secret_access_key_file": None}})
        assert_says(site.pgvigil.run("list", check=2, env=NOWHERE), 'no credentials for repository "west"', "access_key_id")
        lender.keys = [{"id": "", "secret": "", "token": ""}]
        assert_says(site.pgvigil.run("list", check=False, env={
            **NOWHERE, "AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": lender.url}),
            "the instance's metadata service", "holds no credentials")
        # A session that the server does not know.
        lender.keys = [{**session, "token": session["token"][:-8] + "AAAAAAA="}]
        assert_says(site.pgvigil.run("list", check=3, env={
            **NOWHERE, "AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": lender.url}),
            "server answered 40")


@pytest.fixture
def copying(scratch, rgw):
    """A site with a backup in a directory, to be copied into a bucket of alice's that bob may use, through a proxy."""
    bucket = rgw.bucket()
    rgw.client().request("PUT", f"/{bucket}", {"policy": ""}, json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/bob"]}, "Action": ["s3:*"],
         "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]}).encode())
    with FaultProxy(rgw.port) as proxy:
        site = Site(scratch, config={
            "repository local": None, "repository here": {"url": f"file://{scratch.mkdir('here')}"},
            "repository there": rgw.section(bucket, endpoint=proxy.endpoint, copy="async")})
        site.backup()
        site.proxy = proxy
        proxy.clear()
        yield site


def signers(proxy):
    """By whom the requests were signed, in order, without repetitions."""
    found = [key for key in proxy.signers if key]
    return [key for i, key in enumerate(found) if i == 0 or found[i - 1] != key]


def test_lent_ones_are_refused_midway(copying):
    """The server calls them expired before their time: others are fetched, and nothing fails."""
    with Lender(BOB, ALICE) as lender:
        copying.write_config({"repository there": NONE})
        copying.proxy.on("*", "", expired(BOB["id"]), times=None, skip=9)
        copying.pgvigil.run("copy", env={**NOWHERE, "AWS_EC2_METADATA_DISABLED": "false",
                                         "AWS_EC2_METADATA_SERVICE_ENDPOINT": lender.url})
        assert lender.lent == 2
    assert signers(copying.proxy)[:1] == [BOB["id"]] and signers(copying.proxy)[-1] == ALICE["id"]


def test_lent_ones_are_renewed_before_they_end(copying):
    with Lender(BOB, ALICE, lifetime=3) as lender:
        copying.write_config({"repository there": NONE})
        copying.proxy.on("*", "", slow(0.7), times=None)
        copying.pgvigil.run("copy", "--jobs", "1", env={**NOWHERE, "AWS_EC2_METADATA_DISABLED": "false",
                                                        "AWS_EC2_METADATA_SERVICE_ENDPOINT": lender.url})
        assert lender.lent >= 2
    assert signers(copying.proxy)[0] == BOB["id"] and signers(copying.proxy)[-1] == ALICE["id"]


def test_files_are_read_again(copying, scratch):
    """Somebody writes the files anew while a command runs."""
    files = {"access_key_id_file": scratch.path / "id", "secret_access_key_file": scratch.path / "secret"}

    def write(keys, *names):
        for name in names or files:
            value = keys["secret" if "secret" in name else "id"]
            write_file(files[name].with_suffix(".new"), value + "\n").rename(files[name])

    def begin(exchange):
        write(ALICE, "access_key_id_file")
        copying.proxy.on("*", "", end, times=None)
        end(exchange)

    def end(exchange):
        """Who has read the files between the two writes is refused once more."""
        if exchange.signer == ALICE["id"]:
            write(ALICE, "secret_access_key_file")
        expired(BOB["id"])(exchange)

    write(BOB)
    copying.write_config({"repository there": {**NONE, **files}})
    copying.proxy.on("PUT", "/wal/", begin)
    copying.pgvigil.run("copy", env=NOWHERE)
    assert signers(copying.proxy)[-1] == ALICE["id"]
    # Nobody writes others.
    write(BOB)
    run(["rm", "-r", copying.scratch.path / "main-state" / "repository"], check=False)
    copying.proxy.clear()
    copying.proxy.on("*", "", expired(BOB["id"]), times=None)
    assert_says(copying.pgvigil.run("copy", check=3, env=NOWHERE), "400 ExpiredToken", "renew them")
