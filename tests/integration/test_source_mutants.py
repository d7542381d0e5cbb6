"""A program that lacks one of the rules that keep data safe fails a test: the smallest one that is about that rule.

Each mutant is one changed line: that source is compiled anew and linked with the rest of build/asan (or PGVIGIL_BUILD).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import system

pytestmark = pytest.mark.directory  # the same wherever the repository is

TOP = Path(__file__).parent.parent.parent
BUILD = Path(os.environ.get("PGVIGIL_BUILD", TOP / "build" / "asan"))
MUTANTS = {
    "expire ignores leases": (
        "repo/runs.c", "entry->lives = entry->lives && now - entry->seen < RUNS_PATIENCE;", "entry->lives = false;",
        "unit runs"),
    "a run ignores that its lease has lapsed": (
        "repo/run.c", "bool lapsed = run->lapsed;", "bool lapsed = false;", "unit run"),
    "expire removes what is not marked": (
        "job/expire_inventory.c", "return marks_expired(inventory->marks, run) &&",
        "return !marks_expired(inventory->marks, run) ||",
        "test_expire.py::test_marked_first_and_removed_later"),
    "expire does not wait after marking": (
        "job/expire_inventory.c", "marks_expired_at(inventory->marks, run) >= RUNS_PATIENCE", "0 >= 0",
        "test_expire.py::test_marked_first_and_removed_later"),
    "expire does not ask who builds on what": (
        "repo/runs.c", "if (runs->entries[i].lives && runs_holds(&runs->entries[i], run))", "if (false)", "unit runs"),
    "a backup builds on what is marked": (
        "job/backup_base.c", "*marked = marks_expired(marks, run);", "*marked = false;",
        "test_expire.py::test_nothing_is_built_on_what_is_marked"),
    "a backup takes over what is marked": (
        "job/backup_takeover.c", "if (marks_expired(context, run))", "if (false)",
        "test_takeover.py::test_what_expire_has_marked_is_left_alone"),
    "a file that was just written to is not read again": (
        "repo/known_files.c", "facts->changed <= (meta->started - SETTLED) * 1000", "facts->changed > 0",
        "unit known_files"),
    "a file with another ctime is not read again": (
        "repo/known_files.c", "file->facts.changed == facts->changed", "facts->changed > 0", "unit known_files"),
    "all digests are the same": (
        "job/backup_leaf.c", "earlier->leaf.digests[index] == digest &&", "(digest | 1) != 0 &&",
        "test_changes.py::test_only_what_changed_is_stored"),
    "a backup takes another file's leaf": (
        "repo/map_cache.c", "(leaf->key == key && leaf->number == number &&", "(", "unit map_cache"),
    "a restore takes any leaf": (
        "job/map_walk.c", "if (leaf->key != file->key || leaf->number != wanted->number ||", "if (false &&",
        "test_forged.py::test_a_map[the_leaf_of_another_file]"),
}


def variables(*names):
    """What they are in the build's Makefile."""
    said = subprocess.run(["make", "-s", "-C", BUILD, "--no-print-directory", "--eval", "print-%:;@: $(info $($*))",
                           *[f"print-{name}" for name in names]], check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(zip(names, said.splitlines()))


def built(mutant):
    """The program, pgvigil's or that of the unit tests, in a directory that servers reach."""
    source, before, after, test = MUTANTS[mutant]
    text = (TOP / "src" / source).read_text()
    assert text.count(before) == 1, f"{source} has changed: what is the line of {mutant!r} now?"
    place = system.new_dir("mutant")
    place.chmod(0o755)
    changed = place / Path(source).name
    changed.write_text(text.replace(before, after))
    program = "tests_unit_unit" if test.startswith("unit ") else "pgvigil"
    found = variables("COMPILE", "CCLD", "AM_CFLAGS", "CFLAGS", "AM_LDFLAGS", "LDFLAGS", "LIBS", f"{program}_OBJECTS",
                      f"{program}_LDADD")
    compiled, linked = changed.with_suffix(".o"), place / program
    shell(f"{found['COMPILE']} -w -c -o {compiled} {changed}")
    shell(" ".join([found[name] for name in ("CCLD", "AM_CFLAGS", "CFLAGS", "AM_LDFLAGS", "LDFLAGS")] + [
        f"-o {linked}", found[f"{program}_OBJECTS"], str(compiled), found[f"{program}_LDADD"], found["LIBS"]]))
    linked.chmod(0o755)
    return linked


def shell(command):
    subprocess.run(command, shell=True, cwd=BUILD, check=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.replace(" ", "_"))
def test_it_is_noticed(mutant):
    test, program = MUTANTS[mutant][3], built(mutant)
    if test.startswith("unit "):
        # What a unit test makes stays when it fails, as it should.
        done = subprocess.run([program, test.split()[1]],
                              env={**os.environ, "srcdir": str(TOP), "TMPDIR": str(program.parent)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 1 and "Failures: 0" not in done.stdout, done.stdout
        return
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q",
                           Path(__file__).with_name(test)], env={**os.environ, "PGVIGIL": str(program)},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
