"""archive-push, archive-get and init: every state that a power cut could leave keeps the promises."""

import pytest

from recorder import Recording
from scenarios import Host, Scenario


@pytest.fixture
def host(scratch):
    return Host(scratch)


@pytest.mark.parametrize("name", ["new_segment", "all_kinds", "same_at_once", "seen_before_durable", "copied"])
def test_push(host, name):
    getattr(host, name)().check()


def test_push_killed_anywhere_then_again(host):
    for scenario in host.killed_pushes():
        scenario.check(reruns=1)


@pytest.mark.parametrize("name", ["first_init", "list_before_durable", "written_configuration"])
def test_init(host, name):
    getattr(host, name)().check()


def test_init_killed_anywhere_then_again(host):
    for scenario in host.killed_inits():
        scenario.check(reruns=1)


def test_get(host):
    host.get().check()
    host.get(host.segment).check()


def other_content(host):
    """The same segment of a server that went another way: the same header, another record."""
    data = bytearray(host.files[host.segment])
    data[-1] ^= 1
    folder = host.scratch.mkdir("elsewhere")
    host.put(folder / host.segment, bytes(data))
    return folder / host.segment, bytes(data)


@pytest.mark.parametrize("replace", [None, 1])
def test_two_contents_of_one_segment(host, replace):
    """The one that comes first is acknowledged, and stays. A program that renames without RENAME_NOREPLACE would lose
    it, and this test would notice."""
    path, _ = other_content(host)
    host.init()
    recording = Recording(host.scratch, [host.area])
    with recording.start(host.pgvigil, "archive-push", path, hold=("rename", f"{host.segment}.zst"),
                         replace=replace) as loser:
        host.push(recording, host.segment)
        code, text = loser.go_on()
    scenario = Scenario("two contents of one segment", recording, host.judge, host.rerun_push)
    if replace:
        assert scenario.violation(recording.events()), "a replacing rename was not noticed"
        return
    assert code == 4 and "with another content" in text
    scenario.check()
