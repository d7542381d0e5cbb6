"""Encrypted repositories: who can write, who can read, what can be seen, and what somebody with write access gets done.

Everything here is encrypted, whatever PGVIGIL_TEST_ENCRYPTION says of the other tests.
"""

import contextlib
import hashlib
import json
import re
import shutil
import signal
import struct
import time

import pytest
from backup_tools import Background, assert_says, only_backup
from forge import PACK, TRAILER, WAL, Copy, Forgery, mend
from harness import HarnessError, Pgvigil, Site, keys, own, run, wait_recovery, wait_until, write_file
from harness.pgvigil import config_text, merge

MARKER = "pgvigil-reads-the-tea-leaves"


@pytest.fixture(scope="module", autouse=True)
def encrypted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.VARIABLE, "1")
        yield


def keygen(scratch, name, *options, **kwargs):
    """A pair made by `pgvigil keygen`."""
    Pgvigil(None, cwd=scratch.path).run("keygen", scratch.path / name, *options, **kwargs)
    return scratch.path / f"{name}.key", scratch.path / f"{name}.crt"


def with_encryption(site, name, state=None, **section):
    """pgvigil with another [encryption] than the site's; state: another state directory."""
    cluster = {"state_dir": site.scratch.mkdir(state)} if state else {}
    sections = merge(site.sections, {"cluster": cluster, "encryption": None})
    sections["encryption"] = section or None
    return Pgvigil(write_file(site.scratch.path / f"{name}.conf", config_text(sections)), cwd=site.scratch.path,
                   before=site.pgvigil.before)


def files_with(text, *directories):
    """Files beneath the directories that have the text in name or content; zstd leaves short texts as they are."""
    needle = text.encode()
    return [path for directory in directories for path in directory.rglob("*")
            if text in path.name or (path.is_file() and needle in path.read_bytes())]


@pytest.fixture(scope="module")
def site(module_scratch):
    """A host with certificates alone; site.reader is pgvigil with a private key, site.plain what is in a segment."""
    alpha, beta = keygen(module_scratch, "alpha"), keygen(module_scratch, "beta", "--rsa")
    site = Site(module_scratch, config={
        "encryption": {"recipients": f"{alpha[1]}, {beta[1]}", "identity": None}, "retention": {"window": "1 d"}})
    site.alpha, site.beta = alpha, beta
    site.reader = with_encryption(site, "reader", recipients=alpha[1], identity=alpha[0])
    site.cluster.sql(f"create table t as select i, '{MARKER}-' || i as text from generate_series(1, 3000) i")
    site.cluster.sql("checkpoint")
    site.said = site.pgvigil.run("--verbose", "backup").stderr
    site.run = only_backup(site)["run"]
    site.cluster.sql(f"insert into t values (0, '{MARKER}')")
    site.segment = site.cluster.switch_wal(archived=True)
    site.cluster.sql("insert into t values (-1, 'later')")
    site.cluster.switch_wal(archived=True)
    return site


def archived(site, segment):
    return next(site.repository.rglob(f"{segment}.zst.cms"))


# -- who can write, who can read --------------------------------------------------------------------------------------

def test_the_certificates_suffice_to_write(site):
    """Backups and WAL came about without a private key; so do lists and checks. Reading says what it lacks."""
    listed = site.pgvigil.json("list")["repositories"][0]["clusters"][0]
    assert listed["backups"][0]["wal_complete"] and not listed["damage"]
    assert listed["restorable"][0]["last_transaction"] is None
    assert "to a moment that only a private key can tell" in site.pgvigil.run("list").stdout
    assert site.run in site.pgvigil.run("expire", "--dry-run").stdout
    found = site.pgvigil.json("verify", "--all")["repositories"][0]["clusters"][0]
    assert found["findings"] == [] and found["sealed_objects"] > 4 and found["backups_mapped"] == 0
    text = site.pgvigil.run("verify", "--all").stdout
    assert re.search(r"^ +encrypted +\d+ +checked as stored, but not what they hold: that takes a private key$", text, re.M), text
    assert "backups: 1, of which 0 were checked file by file this time\n" in text
    checked = site.pgvigil.run("check").stdout
    assert re.search(r'^ok +encryption: for "alpha" \(EC\), "beta" \(RSA\); without a private key this host cannot', checked,
                     re.M) and ", encrypted\n" in checked

    target = site.scratch.path / "without"
    for arguments in (("restore", "--to", target), ("restore", "--to", target, "--target-time", "2099-01-01 00:00:00Z")):
        assert_says(site.pgvigil.run(*arguments, check=2), "needs a private key", '"identity"', "recipients' certificates")
        assert not target.exists()
    got = site.scratch.path / "got"
    assert_says(site.pgvigil.run("archive-get", site.segment, got, check=126), "needs a private key", '"identity"')
    assert not got.exists()


def test_with_a_private_key(site):
    """The same repository: it restores, onto nothing and onto what is there, and verify looks into the objects."""
    restored = site.restore("read", "--target-timeline", "1", pgvigil=site.reader)
    assert restored.scalar("select count(*) from t where text like %s", MARKER + "%") == 3001
    assert restored.scalar("select text from t where i = -1") == "later"
    restored.stop("immediate")
    victim = next(path for path in (restored.data / "base").rglob("*") if path.is_file() and path.stat().st_size > 100000)
    victim.write_bytes(victim.read_bytes()[:-8192] + bytes(8192))
    site.reader.run("restore", "--delta", "--to", restored.data)
    restored.start(wait=False)
    wait_recovery(restored, "promoted", 60)
    assert restored.scalar("select count(*) from t") == 3002
    restored.stop("immediate")
    found = site.reader.json("verify", "--all")["repositories"][0]["clusters"][0]
    assert found["findings"] == [] and found["sealed_objects"] == 0 and found["backups_mapped"] == 1


def test_a_private_key_with_a_passphrase(site):
    """It restores with the passphrase alone, from a file or the environment."""
    key = site.scratch.path / "protected.key"
    if not key.exists():
        run(["openssl", "pkey", "-in", site.alpha[0], "-aes256", "-passout", "pass:open sesame", "-out", key])
        key.chmod(0o600)
    got = site.scratch.path / "got"
    get = ("archive-get", site.segment, got)
    plain = with_encryption(site, "protected", recipients=site.alpha[1], identity=key)
    assert_says(plain.run(*get, check=126), key, "is protected by a passphrase", "PGVIGIL_PASSPHRASE")
    assert_says(plain.run(*get, check=126, env={"PGVIGIL_PASSPHRASE": "wrong"}), key, "does not open")
    plain.run(*get, env={"PGVIGIL_PASSPHRASE": "open sesame"})
    got.unlink()
    needs, to = "the server's environment needs PGVIGIL_PASSPHRASE, too", site.scratch.path / "by-passphrase"
    assert needs in plain.run("restore", "--to", to, env={"PGVIGIL_PASSPHRASE": "open sesame"}).stderr
    shutil.rmtree(to)
    assert needs not in site.reader.run("restore", "--to", to, env={"PGVIGIL_PASSPHRASE": "of no use"}).stderr
    shutil.rmtree(to)
    key.chmod(0)
    assert_says(plain.run(*get, check=126), "Permission denied", "has mode 0000; pgvigil runs as", f"chmod u+r '{key}'")
    key.chmod(0o600)
    word = write_file(site.scratch.path / "sesame", "open sesame\n")
    by_file = with_encryption(site, "by-file", recipients=site.alpha[1], identity=key, identity_passphrase_file=word)
    by_file.run(*get)
    got.unlink()
    assert needs not in by_file.run("restore", "--to", to, env={"PGVIGIL_PASSPHRASE": "of no use"}).stderr
    shutil.rmtree(to)


def test_a_private_key_that_fits_nothing(site):
    stranger = keygen(site.scratch, f"stranger-{time.monotonic_ns()}")
    wrong = with_encryption(site, "wrong", recipients=site.alpha[1], identity=stranger[0])
    got = site.scratch.path / "got"
    says = ("the private key given does not open it", '"/CN=alpha"', '"/CN=beta"', '"identity"')
    assert_says(wrong.run("archive-get", site.segment, got, check=126), *says)
    assert_says(wrong.run("restore", "--to", site.scratch.path / "wrong", check=2), *says)
    assert not got.exists() and not (site.scratch.path / "wrong" / "global" / "pg_control").exists()
    done = wrong.run("check", check=1)
    assert_says(done, 'none of the private keys in "identity" belongs to a certificate')
    # verify can look into nothing, but finds nothing wrong either.
    found = wrong.json("verify", "--all")["repositories"][0]["clusters"][0]
    assert found["findings"] == [] and found["sealed_objects"] > 4


def test_a_wrong_key_is_no_absence(scratch):
    """One repository has the segment and no key for it, the other has lost it: that is not "surely absent"."""
    places = {name: scratch.mkdir(f"{name}-place") for name in ("west", "east")}
    site = Site(scratch, config={
        "repository local": None, "archive": {"require": 2}, "encryption": {"identity": None},
        **{f"repository {name}": {"url": f"file://{place}"} for name, place in places.items()}})
    segment = site.cluster.switch_wal(archived=True)
    next(places["east"].rglob(f"{segment}.zst.cms")).unlink()
    assert_says(site.pgvigil.run("archive-get", segment, scratch.path / "got", check=126), "needs a private key")


def test_openssl_opens_it(site):
    """As README says: the file that PostgreSQL handed over comes out, whichever of the private keys is taken."""
    got = site.scratch.path / "by-pgvigil"
    site.reader.run("archive-get", site.segment, got)
    for key, _ in (site.alpha, site.beta):
        by_hand = site.scratch.path / "by-hand"
        run(["sh", "-c", 'openssl cms -decrypt -inform DER -inkey "$1" -in "$2" | zstd -d > "$3"', "-", key,
             archived(site, site.segment), by_hand])
        assert by_hand.read_bytes() == got.read_bytes()
    assert MARKER.encode() in got.read_bytes()


def test_nothing_of_the_plaintext(site):
    """Not in names, objects, logs or what lies in the state and temporary directories; also when it was killed midway."""
    temporary = site.scratch.mkdir("temporary")
    places = (site.repository, site.state_dir, temporary)
    assert files_with(MARKER, site.cluster.data), "it is in the database"
    assert not files_with(MARKER, *places) and MARKER not in site.said
    # Compressed as it would be without encryption, it could not hide it.
    packs = [path.read_bytes() for path in site.repository.glob(f"*/*/pack/{site.run}/*.cms")]
    assert any(MARKER.encode() in keys.unpacked(pack, site.alpha[0]) for pack in packs)
    for name in site.repository.rglob("*"):
        assert not re.search(r"\.zst$", name.name) or name.name.startswith("refs.") or ".history." in name.name, name
    # Every stage of a backup and of pushes, cut off.
    for step in range(4):
        done = run(["sh", "-c", 'TMPDIR="$1" timeout -s KILL "$2" "$3" -v -c "$4" backup 2>&1', "-", temporary,
                    f"0.{2 + 3 * step}", *site.pgvigil.command[::2]], check=False, cwd=site.scratch.path)
        assert MARKER not in done.stdout + done.stderr
        assert not files_with(MARKER, *places)


def test_a_push_is_repeated_without_a_private_key(site):
    """Killed when the segment has just been stored: the next push knows its own, and stores nothing again."""
    site.cluster.sql("insert into t values (-2, 'again')")
    segment = site.cluster.switch_wal(archived=True)
    path, raw = archived(site, segment), site.scratch.path / segment
    got = site.scratch.path / "kept"
    site.reader.run("archive-get", segment, got)
    path.unlink()
    assert site.repository  # where it is gone now, too
    raw.write_bytes(got.read_bytes())
    own(raw)
    with Background(site.pgvigil, "archive-push", raw) as push:
        with contextlib.suppress(HarnessError):
            push.wait_for(lambda: site.repository and path.exists(), "the object", 20)
        with contextlib.suppress(ProcessLookupError):
            push.signal(signal.SIGKILL)
    before = path.read_bytes()
    site.pgvigil.run("archive-push", raw)
    assert path.read_bytes() == before
    # What only looks like it is refused, by the digest of what is in it.
    raw.write_bytes(got.read_bytes()[:-1] + b"\x01")
    assert_says(site.pgvigil.run("archive-push", raw, check=4), segment, hint=False)
    assert path.read_bytes() == before


def test_new_keys(scratch):
    """A new recipient: what is stored from then on opens with both keys, what was before with the old one."""
    old, new = keygen(scratch, "old"), keygen(scratch, "new")
    site = Site(scratch, config={"encryption": {"recipients": old[1], "identity": old[0]}})
    site.cluster.sql("create table t as select generate_series(1, 100) i")
    site.backup()
    before = site.cluster.switch_wal(archived=True)
    site.write_config({"encryption": {"recipients": f"{old[1]}, {new[1]}", "identity": f"{new[0]}, {old[0]}"}})
    site.cluster.sql("insert into t values (101)")
    after = site.cluster.switch_wal(archived=True)
    only_new = with_encryption(site, "only-new", recipients=new[1], identity=new[0])
    got = scratch.path / "got"
    site.pgvigil.run("archive-get", before, got)
    site.pgvigil.run("archive-get", after, got)
    only_new.run("archive-get", after, got)
    assert_says(only_new.run("archive-get", before, scratch.path / "none", check=126), '"/CN=old"', "does not open it")
    time.sleep(1.1)  # the next run's id
    site.backup(*full(site))
    runs = [one["id"] for one in site.pgvigil.json("list")["repositories"][0]["clusters"][0]["backups"]]
    site.cluster.switch_wal(archived=True)
    for pgvigil, run_id in ((site.pgvigil, runs[0]), (site.pgvigil, runs[1]), (only_new, runs[1])):
        restored = site.restore(f"r-{run_id}-{pgvigil is only_new}", "--backup", run_id, pgvigil=pgvigil)
        assert restored.scalar("select count(*) from t") == 101
        restored.stop("immediate")
    assert_says(only_new.run("restore", "--backup", runs[0], "--to", scratch.path / "r", check=2), '"/CN=old"')


def full(site):
    """A backup whose packs are all of the new recipients; without it some would be those of the backup before."""
    return ["--full"] if "--full" in site.pgvigil.run("help", "backup").stdout else []


def test_a_certificate_that_has_expired(site):
    """Backups must not stop on that day: it still serves, and check says so."""
    key, request, certificate = (site.scratch.path / f"expired.{end}" for end in ("key", "csr", "crt"))
    run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=yesterday",
         "-keyout", key, "-out", request])
    run(["openssl", "x509", "-req", "-in", request, "-signkey", key, "-days", "0", "-out", certificate])
    wait_until(lambda: run(["openssl", "x509", "-in", certificate, "-noout", "-checkend", "0"], check=False).rc != 0, 10,
               "the certificate to expire")
    key.chmod(0o600)
    site.write_config({"encryption": {"recipients": certificate}})
    site.cluster.sql("insert into t values (-3, 'expired')")
    segment = site.cluster.switch_wal(archived=True)
    assert '"yesterday" (EC, expired)' in site.pgvigil.run("check").stdout
    site.write_config({"encryption": {"recipients": f"{site.alpha[1]}, {site.beta[1]}"}})
    got = site.scratch.path / "expired"
    with_encryption(site, "expired", recipients=certificate, identity=key).run("archive-get", segment, got)
    assert b"expired" in got.read_bytes()
    # Nothing shall hang on that key, whatever test comes next.
    archived(site, segment).unlink()
    write_file(site.scratch.path / segment, "")
    (site.scratch.path / segment).write_bytes(got.read_bytes())
    site.pgvigil.run("archive-push", site.scratch.path / segment)


def test_keys_that_are_none(site):
    """Files that are missing, empty or of the wrong kind, each with what is the matter."""
    empty = write_file(site.scratch.path / "nothing", "")
    raw = site.scratch.path / "raw"
    site.reader.run("archive-get", site.segment, raw)
    for section, says in (({"recipients": site.alpha[0]}, "there is no certificate in"),
                          ({"recipients": empty}, "there is no certificate in"),
                          ({"recipients": site.scratch.path / "absent"}, "No such file")):
        pgvigil = with_encryption(site, "none", **section)
        archived_before = archived(site, site.segment).read_bytes()
        assert_says(pgvigil.run("check", check=1), says, hint=False)
        assert_says(pgvigil.run("backup", check=2), says, hint=False)
        assert archived(site, site.segment).read_bytes() == archived_before
    for identity, says in ((site.alpha[1], "can be used by others"), (empty, "there is no private key in"),
                           (site.scratch.path / "absent", "No such file")):
        pgvigil = with_encryption(site, "none", recipients=site.alpha[1], identity=identity)
        assert_says(pgvigil.run("archive-get", site.segment, site.scratch.path / "got", check=126), says, hint=False)


# -- encrypted and plain ----------------------------------------------------------------------------------------------

def test_mixing_is_refused(site, scratch):
    """Both ways, by every command, and whatever this host remembers."""
    plain_place = scratch.mkdir("plain")
    plain = with_encryption(site, "plain", state="plain-state")
    raw = scratch.path / site.segment
    site.reader.run("archive-get", site.segment, raw)
    for arguments, code in ((("init",), 2), (("list",), 2), (("backup",), 2), (("verify",), 2), (("archive-push", raw), 2),
                            (("archive-get", site.segment, scratch.path / "got"), 126)):
        assert_says(plain.run(*arguments, check=code), 'repository "', "is encrypted, but the configuration has no",
                    '"recipients"')
    assert all("refs" in path.name for path in site.repository.rglob("*.zst"))

    sections = merge(site.sections, {"repository local": {"url": f"file://{plain_place}"}, "repository far": None,
                                     "encryption": None, "cluster": {"state_dir": scratch.mkdir("plain-state-2")}})
    Pgvigil(write_file(scratch.path / "made.conf", config_text(sections))).run("init")
    for number, section in enumerate(({"recipients": site.alpha[1]}, {"identity": site.alpha[0]})):
        there = Pgvigil(write_file(scratch.path / f"there-{number}.conf", config_text(
            {**sections, "encryption": section, "cluster": {**sections["cluster"],
                                                            "state_dir": scratch.mkdir(f"fresh-{number}")}})))
        for command in ("init", "backup"):
            assert_says(there.run(command, check=2), "is not encrypted, but the configuration has keys",
                        f"`pgvigil -c {there.config} init`")
    assert [path.name for path in plain_place.rglob("*") if path.is_file()] == ["pgvigil.json"]


@pytest.mark.alone
def test_one_plain_repository_holds_up_no_encrypted_one(scratch):
    """A section too many, or one too few, is one repository's matter: WAL and backups go on to the others."""
    site = Site(scratch)
    plain = scratch.mkdir("plain")
    sections = {**site.sections, "repository local": {"url": f"file://{plain}"}, "encryption": None,
                "cluster": {**site.sections["cluster"], "state_dir": scratch.mkdir("plain-state")}}
    Pgvigil(write_file(scratch.path / "plain.conf", config_text(sections))).run("init")
    site.write_config({"repository second": {"url": f"file://{plain}"}})
    site.cluster.sql("create table t (i int)")
    segment = site.cluster.switch_wal(archived=True)
    assert archived(site, segment)
    done = site.pgvigil.run("archive-push", site.cluster.data / "pg_wal" / segment)
    assert_says(done, "could not store", 'repository "second"', "is not encrypted, but", "archiving continues without")
    assert_says(site.backup(check=3), "is not encrypted, but", "in 1 of 2 repositories only")
    assert [path.name for path in plain.rglob("*") if path.is_file()] == ["pgvigil.json"]


def test_copies_between_encrypted_repositories(scratch):
    """As they are, byte for byte, without a private key."""
    places = {name: scratch.mkdir(f"{name}-place") for name in ("west", "east")}
    site = Site(scratch, config={
        "repository local": None, "encryption": {"identity": None},
        "repository west": {"url": f"file://{places['west']}"},
        "repository east": {"url": f"file://{places['east']}", "copy": "async"}})
    site.cluster.sql("create table t as select generate_series(1, 100) i")
    site.backup()
    site.cluster.switch_wal(archived=True)
    site.pgvigil.run("copy")
    wanted, found = ({path.relative_to(place): path.read_bytes() for path in place.rglob("*")
                      if path.is_file() and path.name != "pgvigil.json" and "/run/" not in str(path)}
                     for place in places.values())
    assert wanted == found and sum(name.suffix == ".cms" for name in wanted) > 4
    site.pgvigil.run("verify", "--all", "--quiet")

    # How far one is behind in time is in WAL that only a private key opens: then it is not told.
    east = next(places["east"].rglob("backup.json"))
    for step in (None, "WAL", "backup"):
        if step == "WAL":
            site.cluster.sql("insert into t values (0)")
            site.cluster.switch_wal(archived=True)
        if step == "backup":
            site.backup()
        behind = {one["name"]: one["behind"] for one in site.pgvigil.json("list")["repositories"]}
        assert behind["west"]["seconds"] == 0 and (behind["east"]["objects"] > 0) == (step is not None)
        assert behind["east"]["seconds"] == (None if step else 0), step
        says = "; in time by what only a private key can tell\n" if step else "Level with the others"
        assert says in site.pgvigil.run("list").stdout
    east.rename(east.with_name("away"))  # that much can be told
    assert ", and nothing can be restored from here" in site.pgvigil.run("list").stdout
    east.with_name("away").rename(east)
    site.pgvigil.run("copy")

    # Damage is found, its cost told, and repaired as well.
    backup = next(places["west"].rglob("backup.json")).parent.name
    pack, manifest = (next(places["west"].rglob(pattern)) for pattern in ("pack/*/*.cms", "manifest.*.cms"))
    segment = sorted(places["west"].rglob("wal/*/*/*[0-9A-F].zst.cms"))[-2]
    names = (pack, manifest, segment)
    whole = {path: path.read_bytes() for path in names}
    pack.write_bytes(whole[pack][:100] + b"damage" + whole[pack][106:])
    manifest.unlink()
    segment.unlink()
    done = site.pgvigil.run("verify", "--all", "--json", "--repository", "west", check=4)
    found = {one["object"]: one for one in json.loads(done.stdout)["repositories"][0]["clusters"][0]["findings"]}
    assert {path.name.removesuffix(".cms") for path in names} == {name.rsplit("/", 1)[-1].removesuffix(".cms")
                                                                  for name in found}
    assert all(one["lost_backups"] == [backup] for name, one in found.items() if "/wal/" not in f"/{name}")
    site.pgvigil.run("verify", "--repair", "--repository", "west")
    assert {path: path.read_bytes() for path in names} == whole
    site.pgvigil.run("verify", "--all", "--quiet")


# -- what somebody who can write to the repository gets done ----------------------------------------------------------

@pytest.fixture
def copy(site):
    """A copy of the repository to do harm to, read with a private key."""
    with Copy(site, "harm") as copy:
        sections = merge(site.sections, {"repository local": {"url": f"file://{copy.path}"}, "repository far": None,
                                         "encryption": {"identity": site.alpha[0]},
                                         "cluster": {"state_dir": copy.state_dir}})
        write_file(copy.config, config_text(sections))
        copy.run = site.run
        yield copy


@pytest.fixture(scope="module")
def usual_key(site):
    """What forge.py encrypts and decrypts with is the site's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "usual", lambda: site.alpha)
        yield


def refused(copy, *says, code=4):
    target = copy.room / "target"
    assert_says(copy.pgvigil.run("restore", "--to", target, "--backup", copy.run, check=code), *says, hint=False)
    assert not (target / "global" / "pg_control").exists()


def get_refused(copy, segment, *says):
    assert_says(copy.pgvigil.run("archive-get", segment, copy.room / "got", check=126), *says, hint=False)
    assert not (copy.room / "got").exists()


def segment_object(copy, segment):
    return next(name for name in copy.names(WAL) if segment in name)


def resealed(copy, name, body, changes=None):
    """The object with another body and a trailer to match, but for what only a private key tells; or {offset: bytes}."""
    changes = changes or {}
    trailer = bytearray(copy.read(name)[-TRAILER:])
    fixed = {24: struct.pack("<Q", len(body)), 40: hashlib.sha256(body).digest(), **changes}
    for offset, value in fixed.items():
        trailer[offset:offset + len(value)] = value
    return bytes(body) + mend(trailer)


def test_plaintext_is_not_taken(copy, usual_key, site):
    """Neither in the place of an encrypted object, nor beside it under the name that it would have without encryption."""
    name = segment_object(copy, site.segment)
    plain = keys.opened(copy.read(name))
    stripped, disguised = resealed(copy, name, plain, {20: bytes(4)}), resealed(copy, name, plain)
    copy.write(name, stripped)
    get_refused(copy, site.segment, name, "is not encrypted, which it must be here")
    copy.write(name, disguised)
    get_refused(copy, site.segment, name, "cannot be decrypted", "CMS")

    before = copy.pgvigil.json("list")
    copy.write(name, None)
    with_plain_name = copy.folder / name
    with_plain_name.write_bytes(stripped)
    own(with_plain_name)
    later = copy.pgvigil.run("archive-get", site.segment, copy.room / "got", check=126)
    assert_says(later, "is missing", hint=False)
    assert copy.pgvigil.json("list", check=False) != before


def test_a_plain_pack_is_not_taken(copy, usual_key):
    pack = next(name for name in copy.names(PACK) if copy.run in name)
    copy.write(pack, resealed(copy, pack, keys.opened(copy.read(pack)), {20: bytes(4)}))
    refused(copy, pack, "is not encrypted, which it must be here")


def test_what_was_swapped_is_noticed(copy, usual_key, site):
    """With all digests that need no key put right: by what the contents say of themselves."""
    first, second = copy.names(WAL)[:2]
    body = {name: copy.read(name)[:-TRAILER] for name in (first, second)}
    digests = {name: copy.read(name)[-56:-24] for name in (first, second)}
    for name, other in ((first, second), (second, first)):
        copy.write(name, resealed(copy, name, body[other], {72: digests[other]}))
    get_refused(copy, first.split("/")[-1][:24], first, "which is not what its name says")


def test_swapped_packs_are_noticed(copy, usual_key):
    """The list of packs and backup.json forged to match."""
    forgery = Forgery(copy, copy.run)
    data = [fields for fields in forgery.refs if fields[3] == "data"]
    packs = {fields[0]: copy.read(fields[0])[:-TRAILER] for fields in forgery.refs}
    maps = next(fields for fields in forgery.refs if fields[3] == "map")
    for fields, other in ((data[0], maps), (maps, data[0])):
        sealed = resealed(copy, fields[0], packs[other[0]])
        copy.write(fields[0], sealed)
        fields[1], fields[2] = str(len(sealed)), hashlib.sha256(packs[other[0]]).hexdigest()
    forgery.commit()
    refused(copy, f'object "{maps[0]}" in repository', "is damaged")


def test_an_old_manifest_in_the_place_of_a_new_one(copy, usual_key):
    """A manifest that was this cluster's, but of another backup."""
    forgery = Forgery(copy, copy.run)
    forgery.rows.execute("update meta set value = '20200101T000000Z' where key = 'run'")
    forgery.commit()
    refused(copy, "manifest", "it is another backup's")


@pytest.mark.parametrize("change, says", (
    (lambda body: body[:-1] + bytes([body[-1] ^ 1]), "authentication tag"),
    (lambda body: body[:len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1:],
     "authentication tag"),
    (lambda body: body[:-1], "CMS structure"),
    (lambda body: body + body, "bytes"),
    (lambda body: body + b"\0", "CMS structure"),
    (lambda body: body + b"\x30\x82", "CMS structure"),
    (lambda body: body[:5], "CMS structure"),
    (lambda body: b"", "CMS structure"),
), ids=("tag", "content", "truncated", "doubled", "a byte more", "another header", "nothing but a header", "nothing"))
def test_damage_with_its_digest_right(copy, usual_key, site, change, says):
    name = segment_object(copy, site.segment)
    copy.write(name, resealed(copy, name, change(copy.read(name)[:-TRAILER])))
    get_refused(copy, site.segment, name, says)
    done = copy.pgvigil.run("verify", "--all", check=4)
    assert name in done.stdout


def test_what_is_for_somebody_else(copy, usual_key, site):
    """Encrypted anew for a key that nobody here has: said of the object, whatever reads it."""
    stranger = keygen(site.scratch, f"stranger-{time.monotonic_ns()}")
    says = ("the private key given does not open it", '/CN=stranger-')
    segment, manifest = segment_object(copy, site.segment), f"backup/{copy.run}/manifest.sqlite.zst"
    pack = next(name for name in copy.names(PACK) if copy.run in name)

    def give_away(name):
        body = keys.sealed(keys.opened(copy.read(name)), stranger[1])
        copy.write(name, resealed(copy, name, body))
        return body
    give_away(segment)
    get_refused(copy, site.segment, segment, *says)
    forgery = Forgery(copy, copy.run)
    fields = next(fields for fields in forgery.refs if fields[0] == pack)
    body = give_away(pack)
    fields[1], fields[2] = str(len(body) + TRAILER), hashlib.sha256(body).hexdigest()
    forgery.commit()
    refused(copy, pack, *says, code=2)
    body = give_away(manifest)
    info = json.loads(copy.read(f"backup/{copy.run}/backup.json")[:-TRAILER])
    info["manifest_sha256"] = hashlib.sha256(body).hexdigest()
    copy.seal(f"backup/{copy.run}/backup.json", json.dumps(info).encode())
    refused(copy, manifest, *says, code=2)


def test_it_cannot_be_made_plain(copy, usual_key):
    """pgvigil.json is replaced by one that says so: refused by what the host remembers, and by what it is configured for."""
    text = copy.read("pgvigil.json")[:-TRAILER].replace(b'"cms"', b'"none"')
    copy.pgvigil.run("list")
    copy.seal("pgvigil.json", text)
    for command in ("list", "backup"):
        assert_says(copy.pgvigil.run(command, check=False), "is not encrypted, but the configuration has keys")
