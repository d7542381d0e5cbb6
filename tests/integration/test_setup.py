"""init makes what is missing and nothing else; check proves the whole way and names what is wrong."""

import shutil
import time
from pathlib import Path

import pytest
from backup_tools import assert_says, snapshot, steps
from harness import Pgvigil, Site, wait_until, write_file

pytestmark = pytest.mark.alone  # another repository would help out

WANTED = ("wal_level", "archive_mode", "archive_command")


def new_setup(scratch, cluster, folder, url=None):
    """pgvigil with a configuration file that does not exist yet, and the arguments that make init write it."""
    pgvigil = Pgvigil(scratch.mkdir(folder) / "main.conf", cwd=scratch.path)
    return pgvigil, ["--pgdata", cluster.data, "--conninfo", cluster.conninfo,
                     "--url", url or f"file://{scratch.path / folder / 'repository'}",
                     "--state-dir", scratch.path / folder / "state"]


# -- init -----------------------------------------------------------------------------------------------------------

def test_init_makes_what_is_missing_and_leaves_the_rest(scratch):
    cluster = scratch.cluster().start()
    pgvigil, answers = new_setup(scratch, cluster, "new")
    done = pgvigil.run("init", *answers)
    assert f'made state directory "{scratch.path}/new/state"' in done.stderr
    assert f'made repository "local" at file://{scratch.path}/new/repository\n' in done.stderr
    assert all(f"{name} = '" in done.stdout for name in WANTED)
    assert "needs a restart" in done.stdout and "is set already" in done.stdout
    text = pgvigil.config.read_text()
    assert "name = main\n" in text and f"pgdata = {cluster.data}\n" in text and "[repository local]" in text
    assert pgvigil.config.stat().st_mode & 0o777 == 0o640
    assert (scratch.path / "new/repository/pgvigil.json").is_file()
    assert cluster.scalar("show archive_mode") == "off"
    assert not cluster.sql("select 1 from pg_file_settings where sourcefile like '%auto.conf'")

    before = snapshot(scratch.path / "new")
    again = pgvigil.run("init")
    assert "state directory" not in again.stderr
    assert again.stdout == done.stdout
    assert snapshot(scratch.path / "new") == before
    # What is there already is never touched, whatever is asked for; and that is said.
    other = pgvigil.run("init", *new_setup(scratch, cluster, "other")[1])
    assert "exists already" in other.stderr
    assert snapshot(scratch.path / "new") == before
    assert pgvigil.run("init", "--quiet").stderr == ""


def test_init_applies_the_settings(scratch):
    cluster = scratch.cluster().start()
    pgvigil, answers = new_setup(scratch, cluster, "new")
    done = pgvigil.run("init", "--apply", *answers)
    assert "after a restart" in done.stderr and f"pgvigil -c {pgvigil.config} check" in done.stderr
    cluster.restart()
    assert cluster.scalar("show archive_mode") == "on"
    assert cluster.scalar("show archive_command") == f'{pgvigil.program} -c {pgvigil.config} archive-push "%p"'
    assert set(steps(pgvigil.run("check")).values()) == {"ok"}
    lines = pgvigil.run("init").stdout.splitlines()[1:]
    assert len(lines) == 3 and all(line.endswith("# is set already") for line in lines)


def test_the_command_that_is_replaced_is_named(scratch):
    cluster = scratch.cluster()
    cluster.configure(archive_mode="on", archive_command="test -f %p")
    pgvigil, answers = new_setup(scratch, cluster.start(), "new")
    assert_says(pgvigil.run("init", "--apply", *answers), "archive_command was: test -f %p", "take a backup")
    assert "archive_command was" not in pgvigil.run("init", "--apply").stderr


def test_the_settings_shown_can_be_pasted_whatever_the_path(scratch):
    """A space, quotes, a percent sign and a backslash: the shell, the server and its file each read them otherwise."""
    cluster = scratch.cluster().start()
    pgvigil, answers = new_setup(scratch, cluster, "it's \"50%\" of \\n $HOME")
    shown = pgvigil.run("init", *answers).stdout
    with open(cluster.data / "postgresql.conf", "a") as conf:
        conf.write(shown)
    cluster.restart()
    assert set(steps(pgvigil.run("check")).values()) == {"ok"}
    pgvigil.run("init", "--apply")
    cluster.reload()
    assert set(steps(pgvigil.run("check")).values()) == {"ok"}


def test_init_refuses_a_place_that_is_not_its_own(scratch):
    cluster = scratch.cluster().start()
    foreign = scratch.mkdir("foreign")
    write_file(foreign / "somebody's", "work")
    pgvigil, answers = new_setup(scratch, cluster, "new", url=f"file://{foreign}")
    before = snapshot(foreign)
    assert_says(pgvigil.run("init", *answers, check=3), "is not empty", "somebody's", "directory of its own")
    assert snapshot(foreign) == before


@pytest.mark.parametrize("broken, pieces", [
    ({"--pgdata": "/nonexistent/data"}, ["/nonexistent/data"]),
    ({"--pgdata": "/tmp"}, ["/tmp", "data directory"]),
    ({"--pgdata": "relative"}, ["relative", "absolute"]),
    ({"--url": "/no/scheme"}, ["/no/scheme", "file://"]),
    ({"--url": "ftp://host/prefix"}, ["ftp://host/prefix"]),
    ({"--url": None}, ["there is no configuration file", "--url"]),
], ids=["no pgdata", "not a pgdata", "relative", "no scheme", "ftp", "no url"])
def test_init_writes_no_configuration_from_wrong_answers(scratch, broken, pieces):
    place = scratch.mkdir("new")
    answers = {"--pgdata": "/tmp", "--url": f"file://{place}/repository", "--state-dir": f"{place}/state"}
    if "--pgdata" not in broken:
        answers["--pgdata"] = scratch.cluster().data
    answers.update(broken)
    pgvigil = Pgvigil(place / "sub" / "main.conf", cwd=scratch.path)
    arguments = [word for item in answers.items() if item[1] for word in item]
    told = pgvigil.run("init", *arguments, check=2)
    assert_says(told, *pieces, hint="relative" not in broken.values())
    assert ", line " not in told.stderr
    assert list(place.iterdir()) == []


def test_init_without_a_server_still_shows_the_settings(make_site):
    site = make_site(start=False, init=False)
    done = site.pgvigil.run("init")
    assert all(f"{name} = '" in done.stdout for name in WANTED)
    assert_says(done, "could not connect", "is the server running")
    assert_says(site.pgvigil.run("init", "--apply", check=3), "could not connect")


# -- check ----------------------------------------------------------------------------------------------------------

def test_check_when_all_is_well(site):
    before = snapshot(site.state_dir)
    done = site.pgvigil.run("check")
    assert done.stderr == "" and len(steps(done)) == 7
    assert set(steps(done).values()) == {"ok"}, done.stdout
    # The segment is in the repository a moment before the server has heard that the command ended.
    wait_until(lambda: site.cluster.scalar("select archived_count from pg_stat_archiver") >= 1, 10,
               "the archiver's count")
    assert snapshot(site.state_dir).keys() >= before.keys()
    quiet = site.pgvigil.run("check", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.directory
def test_check_names_each_failure_with_its_cure(make_site, scratch):
    site = make_site(config={"archive": {"timeout": "10 min"}})
    good = site.config.read_text()
    command = site.cluster.scalar("show archive_command")

    def expect(failed, *pieces):
        done = site.pgvigil.run("check", check=1, timeout=30)
        assert steps(done).get(failed) == "FAILED", done.describe()
        assert_says(done, *pieces)
        return steps(done)

    def archive_command(value):
        site.cluster.configure(archive_command=value)
        site.cluster.reload()
        wait_until(lambda: site.cluster.scalar("show archive_command") == value, 10, "the new setting")

    archive_command("false # archive-push")
    expect('WAL reaches repository "local"', "did not arrive", "last attempt to archive failed")
    archive_command("cp %p /somewhere/else")
    outcome = expect('WAL reaches repository "local"', "does not call pgvigil", "cp %p /somewhere/else", "init --apply")
    assert outcome["archive settings"] == "warning"
    archive_command("true")
    outcome = expect('WAL reaches repository "local"', "the server says that it has archived it; archive_command does not call",
                     "init --apply")
    archive_command("true # archive-push")
    expect('WAL reaches repository "local"', "the server says that it has archived it", "does archive_command store into")
    archive_command("")
    outcome = expect("archive settings", "does not archive its WAL: archive_command is empty", "init --apply")
    assert outcome['WAL reaches repository "local"'] == "skipped"
    assert_says(site.backup(check=2), "archive_command is empty")
    archive_command(command)

    site.repository.rename(site.scratch.path / "away")
    outcome = expect('repository "local"', "does not exist", "mounted")
    assert outcome["server"] == "ok"
    (site.scratch.path / "away").rename(site.repository)

    site.cluster.sql("create role poor login")
    site.write_config({"cluster": {"conninfo": site.cluster.conninfo.replace("user=postgres", "user=poor")}})
    outcome = expect("rights for a backup", "pg_backup_start", "pg_switch_wal", "sql/role.sql")
    assert outcome["data directory"] == "ok"
    site.write_config({"cluster": {"conninfo": "host=/nonexistent"}})
    outcome = expect("server", "could not connect", "/nonexistent")
    assert outcome["data directory"] == "skipped" and outcome['repository "local"'] == "ok"
    site.write_config({"cluster": {"pgdata": scratch.path, "conninfo": site.cluster.conninfo}})
    expect("data directory", str(scratch.path))
    write_file(site.config, good)

    site.cluster.configure(archive_mode="off")
    site.cluster.restart()
    expect("archive settings", "archive_mode is off", "init --apply")
    site.cluster.stop()
    expect("server", "is the server running")


@pytest.mark.directory
def test_check_waits_for_all_repositories_at_once(make_site, scratch):
    """One deadline, however many there are, and one that has the segment is told meanwhile."""
    site = make_site(config={"archive": {"timeout": "6s"}, "repository second": {"url": f"file://{scratch.mkdir('second')}"}})
    site.cluster.configure(archive_command="sleep 8 # archive-push")
    site.cluster.reload()
    wait_until(lambda: site.cluster.scalar("show archive_command").startswith("sleep"), 10, "the new setting")
    began = time.monotonic()
    done = site.pgvigil.run("check", check=1)
    assert time.monotonic() - began < 11
    for name in ("local", "second"):
        assert steps(done)[f'WAL reaches repository "{name}"'] == "FAILED"
        assert_says(done, f'did not arrive in repository "{name}" within 6 s')


@pytest.mark.directory
def test_check_warns_of_another_configuration(make_site, scratch):
    """What archive_command names is compared as a file; what cannot be understood is not judged."""
    site = make_site()
    other = write_file(scratch.path / "other.conf", site.config.read_text())
    (scratch.path / "link.conf").symlink_to(site.config)

    def check(command, outcome):
        site.cluster.configure(archive_command=command)
        site.cluster.reload()
        wait_until(lambda: site.cluster.scalar("show archive_command") == command, 10, "the new setting")
        done = site.pgvigil.run("check", "--quiet")
        assert steps(done).get("archive settings", "ok") == outcome, done.describe()
        return done

    program = site.pgvigil.program
    done = check(f'{program} -c {other} archive-push "%p"', "warning")
    assert_says(done, "uses another configuration than", str(site.config), str(other), "init --apply",
                f"archive_command = '{program} -c {site.config} archive-push \"%p\"'; `pgvigil -c {site.config} init --apply`")
    assert "uses another configuration" in site.backup("--quiet").stderr
    for command in (f"{program} -c '{scratch.path}/link.conf' -v archive-push %p", f'X=1 {program} -c {other} archive-push "%p"',
                    f'c="{other}"; {program} -c "$c" archive-push "%p"', f'{program} -c "{site.config}" archive-push %p 2>&1'):
        check(command, "ok")


def test_the_role_that_is_shipped_is_enough(make_site):
    """sql/role.sql grants what check and backup need."""
    site = make_site()
    shipped = Path(__file__).parents[2] / "sql" / "role.sql"
    sql = write_file(site.scratch.path / "role.sql", shipped.read_text())  # where the servers' owner can read it
    site.cluster.tool("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", site.cluster.conninfo, "-f", sql)
    site.write_config({"cluster": {"conninfo": site.cluster.conninfo.replace("user=postgres", "user=pgvigil")}})
    assert set(steps(site.pgvigil.run("check")).values()) == {"ok"}
    site.backup()


@pytest.mark.directory
@pytest.mark.parametrize("what", ["repository", "state directory", "repository by a link"])
def test_places_within_the_data_directory(scratch, what):
    """A restore onto the directory took the repository that it read for files that the backup does not have."""
    site = Site(scratch)
    site.backup()
    inside = site.cluster.data / "pgvigil"
    place, text = (site.state_dir, "state directory") if what.startswith("state") else (site.repository, "repository")
    shutil.move(place, inside)
    if what.endswith("link"):
        place.symlink_to(site.cluster.data)
        inside = place / "pgvigil"
    site.write_config({"cluster": {"state_dir": inside}} if text.startswith("state") else
                      {"repository local": {"url": f"file://{inside}"}})
    before = snapshot(inside)
    for command in ("init", "backup"):
        assert_says(site.pgvigil.run(command, check=2), text, "lies in data directory", site.cluster.data)
    assert_says(site.pgvigil.run("check", check=1), "lies in data directory", hint=False)
    site.cluster.stop()
    assert_says(site.pgvigil.run("restore", "--delta", "--to", site.cluster.data, check=2), "lies in data directory")
    assert snapshot(inside).keys() >= before.keys()
