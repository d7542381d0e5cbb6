"""As root: pgvigil becomes the owner of the data, and leaves nothing of root's where that one needs it."""

import grp
import os
import shlex
import subprocess

import pytest
from backup_tools import assert_says, backups, steps
from harness import Completed, HarnessError, system, wait_recovery

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def as_root(scratch, *args, check=0):
    done = subprocess.run([str(a) for a in args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", env=system.environment(), cwd=scratch.path, umask=0o022, timeout=120,
                          check=False)
    done = Completed(list(args), done.returncode, done.stdout, done.stderr)
    if done.rc != check or system.sanitizer_mark(done.stdout + done.stderr):
        raise HarnessError(f"expected exit code {check}\n{done.describe()}")
    return done


def roots(*places):
    """What belongs to root beneath these places."""
    found = []
    for place in places:
        for directory, names, files in os.walk(place):
            found += [os.path.join(directory, name) for name in [".", *names, *files]
                      if os.lstat(os.path.join(directory, name)).st_uid == 0]
    return found


def test_root_sets_up_and_works_for_the_owner(make_site, scratch):
    site = make_site(start=False, init=False)
    cluster = site.cluster
    os.chown(site.scratch.path, 0, 0)  # as /var/lib is: the owner can make nothing here
    os.chmod(site.scratch.path, 0o755)
    place = site.scratch.path / "new"
    config = place / "etc" / "main.conf"
    program = site.pgvigil.program
    command = [program, "-c", config]
    cluster.configure(archive_command=f'"{program}" -c {config} archive-push "%p"')
    os.chown(cluster.data / "postgresql.conf", system.owner().pw_uid, system.owner().pw_gid)
    cluster.start()
    as_root(scratch, *command, "init", "--pgdata", cluster.data, "--conninfo", cluster.conninfo,
            "--url", f"file://{place}/deep/repository", "--state-dir", place / "lib" / "state")
    status = config.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, system.owner().pw_gid, 0o640)

    repository, state = place / "deep" / "repository", place / "lib" / "state"
    assert roots(repository, state) == []
    as_root(scratch, *command, "check")
    as_root(scratch, *command, "backup")
    as_root(scratch, *command, "list")
    segment = sorted(p for p in (cluster.data / "pg_wal").iterdir() if len(p.name) == 24)[0]
    as_root(scratch, *command, "archive-push", segment)
    fetched = scratch.mkdir("fetched") / segment.name
    as_root(scratch, *command, "archive-get", segment.name, fetched)
    target = scratch.mkdir("restores") / "target"
    as_root(scratch, *command, "restore", "--to", target)
    assert len(list(repository.glob("*/*/backup/*/backup.json"))) == 1
    assert roots(repository, state, target, fetched.parent, cluster.data) == []
    as_root(scratch, *command, "init")
    assert roots(repository, state) == []


@pytest.mark.directory
def test_what_root_reads_and_the_owner_does_not(make_site, scratch):
    """check as root has read the configuration that archive_command cannot; the cure is the mode that init leaves."""
    site = make_site()
    os.chown(site.config, 0, 0)
    os.chmod(site.config, 0o640)
    user = system.owner()
    cure = f"chgrp {grp.getgrgid(user.pw_gid).gr_name} '{site.config}' && chmod 0640 '{site.config}'"
    done = as_root(scratch, *site.pgvigil.command, "check", check=1)
    assert_says(done, f"user {user.pw_name}, whom the server runs as, cannot read", f"as root: {cure}")
    assert steps(done)["archive settings"] == "FAILED" and steps(done)['WAL reaches repository "local"'] == "skipped"
    assert_says(site.pgvigil.run("check", check=2), "could not open", "belongs to user root and has mode 0640", f"as root: {cure}")
    subprocess.run(["sh", "-c", cure], check=True)
    assert set(steps(as_root(scratch, *site.pgvigil.command, "check")).values()) == {"ok"}


@pytest.mark.directory
def test_a_private_key_among_the_recipients_is_not_given_away(make_site, scratch):
    """It is named by mistake, and root's alone; for a certificate the same hint says how to make it readable."""
    site, file = make_site(init=False), scratch.path / "escrow.key"
    site.pgvigil.run("keygen", scratch.path / "escrow")
    site.write_config({"encryption": {"recipients": file.with_suffix(".crt"), "identity": None}})
    site.pgvigil.run("init")
    os.chown(file, 0, 0)
    site.write_config({"encryption": {"recipients": f"{file.with_suffix('.crt')}, {file}"}})
    assert_says(site.pgvigil.run("backup", check=2), f'could not open file "{file}": Permission denied',
                'hint: "recipients" names certificates (.crt), never private keys. Only if this is a certificate: as root: chown')
    scratch.mkdir("closed")
    os.chmod(file.rename(scratch.path / "closed" / "escrow.key").parent, 0o700)
    os.chown(scratch.path / "closed", 0, 0)
    site.write_config({"encryption": {"recipients": scratch.path / "closed" / "escrow.key"}})
    assert_says(site.pgvigil.run("backup", check=2), "Permission denied", 'hint: "recipients" names certificates (.crt), never')


def test_root_does_not_write_where_the_owner_could_lead_it(make_site, scratch):
    """A repository below a directory of the owner's is made by the owner."""
    site = make_site(init=False)
    site.write_config({"repository local": {"url": f"file://{site.repository}/a/b"},
                       "cluster": {"state_dir": site.state_dir / "c" / "d"}})
    as_root(scratch, *site.pgvigil.command, "init")
    assert roots(site.repository, site.state_dir) == []
    site.repository = site.repository / "a" / "b"
    site.backup()
    assert len(backups(site)) == 1


@pytest.mark.parametrize("command", [["backup"], ["check"], ["list"], ["archive-push", "/x/000000010000000000000001"]])
def test_root_is_refused_when_nothing_tells_whom_to_become(scratch, command):
    state = scratch.path / "state"
    config = scratch.path / "main.conf"
    config.write_text(f"[cluster]\nname = main\nstate_dir = {state}\n"
                      f"[repository r]\nurl = file://{scratch.path}/repo\n")
    before = sorted(os.listdir(scratch.path))
    program = system.reachable(os.environ["PGVIGIL"])
    done = as_root(scratch, program, "-c", config, *command, check=2)
    assert "refusing to run as root" in done.stderr and "hint: " in done.stderr
    assert "refusing to set up as root" in as_root(scratch, program, "-c", config, "init", check=2).stderr
    # Nor when what should tell belongs to root itself.
    data = scratch.path / "data"
    data.mkdir()
    config.write_text(config.read_text().replace("name = main\n", f"name = main\npgdata = {data}\n"))
    done = as_root(scratch, program, "-c", config, *command, check=2)
    assert "refusing to run as root" in done.stderr
    data.rmdir()
    assert sorted(os.listdir(scratch.path)) == before


def test_a_new_host_without_a_state_directory(site):
    """The repository has survived, and nobody has made anything of pgvigil's on the host yet."""
    site.cluster.sql("create table t as select 1 n")
    site.backup()
    segment = site.cluster.switch_wal()
    site.cluster.stop()
    at, temporary = site.scratch.path, site.scratch.mkdir("temporary")
    lib = site.scratch.mkdir("lib")
    os.chown(lib, 0, 0)
    os.chmod(lib, 0o755)
    state, target = lib / "main", at / "restored"
    site.write_config({"cluster": {"state_dir": state, "pgdata": None}})
    cure = f"as root: install -d -o {system.owner().pw_name} -m 700 '{state}'"
    for command in ("backup", "verify", "expire", "check", "copy", "keep 20260101T000000Z", "init",
                    f"restore --delta --to {target}"):
        assert_says(site.pgvigil.run(*command.split(), check=False), cure, "Permission denied")
    for command in (["list"], ["restore", "--to", target]):
        told = site.pgvigil.run(*command, env={"TMPDIR": str(temporary)})
        assert_says(told, "warning: going on without the state directory", cure)
        assert told.stderr.count("warning") == 1
    assert os.listdir(temporary) == os.listdir(lib) == []
    # In the place of the original it archives, which needs that directory.
    place = at / "in-place"
    site.write_config({"cluster": {"pgdata": place}})
    told = site.pgvigil.run("restore", "--to", place)
    assert_says(told, "the restored server archives, which fails as long as state directory", cure)
    assert f"/bin/pg_ctl -D '{place}' -l '{place}/start.log' start" in told.stderr
    site.write_config({"cluster": {"pgdata": None}})
    cluster = site.scratch.adopt(target, "restored", bin_dir=site.cluster.bindir)
    cluster.start(wait=False)
    wait_recovery(cluster, "promoted")
    assert cluster.scalar("select n from t") == 1
    cluster.stop()

    # One that can only be read still tells which repository it was.
    pin = state / "repository" / "local"
    pin.parent.mkdir(parents=True)
    pin.write_text("0123456789abcdef" * 2 + "\n")
    for path in (pin, pin.parent, state):
        os.chmod(path, 0o755)
    assert_says(site.pgvigil.run("list", check=3), "is not the one it was before", cure)
    # One of another user is as good as none, and so is what is closed in one that is not.
    for closed in (state, pin.parent):
        os.chmod(closed, 0o700)
        told = site.pgvigil.run("list")
        assert_says(told, "warning: going on without the state directory", cure)
        assert told.stderr.count("pgvigil: ") == 2, told.stderr
        site.pgvigil.run("archive-get", segment, cluster.data / "pg_wal" / "got")
        site.pgvigil.run("restore", "--to", at / f"again-{closed.name}", env={"TMPDIR": str(temporary)})
        os.chmod(closed, 0o755)
    pin.unlink()
    pin.parent.rmdir()
    subprocess.run(shlex.split(cure.removeprefix("as root: ")), check=True)
    assert "warning" not in site.pgvigil.run("list").stderr
    assert pin.exists()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_root_restores_into_what_root_has_made(site, mode):
    site.cluster.create_tablespace("elsewhere")
    site.backup()
    site.cluster.stop()
    at, user = site.scratch.path, system.owner().pw_name
    (new := at / "new").mkdir(mode=mode)
    (place := at / "place").mkdir(mode=mode)
    command = [*site.pgvigil.command, "restore", "--tablespace"]
    space = next(iter(os.listdir(site.cluster.data / "pg_tblspc")))
    told = as_root(site.scratch, *command, f"{space}={at}/space", "--to", new, check=2)
    assert_says(told, f'cannot restore to "{new}": it does not belong to user {user}', f"as root: chown {user}: '{new}'")
    (new / "letter").write_text("dear")
    if mode == 0o755:
        assert "chown" not in as_root(site.scratch, *command, f"{space}={at}/space", "--to", new, check=2).stderr
    (new / "letter").unlink()
    subprocess.run(["chown", f"{user}:", new], check=True)
    assert_says(as_root(site.scratch, *command, f"{space}={place}", "--to", new, check=2), f"chown {user}: '{place}'")
    os.chmod(place, 0o755)
    told = as_root(site.scratch, *command, f"{space}={at}/space", "--to", place / "inner", check=2)
    assert_says(told, "could not make directory", f"as root: install -d -o {user} -m 700 '{place}/inner'")
    assert os.listdir(new) == os.listdir(place) == []
    as_root(site.scratch, *command, f"{space}={at}/space", "--to", new)
    assert (new / "global" / "pg_control").exists()


def test_root_refuses_to_write_a_configuration_for_nobody(scratch):
    program = system.reachable(os.environ["PGVIGIL"])
    done = as_root(scratch, program, "-c", scratch.path / "etc" / "main.conf", "init",
                   "--url", f"file://{scratch.path}/repository", check=2)
    assert "refusing to set up as root" in done.stderr and "--pgdata" in done.stderr
    assert not (scratch.path / "etc").exists() and not (scratch.path / "repository").exists()
