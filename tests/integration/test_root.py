"""As root: pgvigil becomes the owner of the data, and leaves nothing of root's where that one needs it."""

import os
import subprocess

import pytest
from backup_tools import backups
from harness import Completed, HarnessError, system

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


def test_root_refuses_to_write_a_configuration_for_nobody(scratch):
    program = system.reachable(os.environ["PGVIGIL"])
    done = as_root(scratch, program, "-c", scratch.path / "etc" / "main.conf", "init",
                   "--url", f"file://{scratch.path}/repository", check=2)
    assert "refusing to set up as root" in done.stderr and "--pgdata" in done.stderr
    assert not (scratch.path / "etc").exists() and not (scratch.path / "repository").exists()
