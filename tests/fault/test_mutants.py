"""A program that lacks any one of its fsyncs, or does its steps in another order, breaks a promise, and it shows.

The mutants are made in the record, which is what is judged: a call that is not made leaves no other trace. One test
makes all records once; what it prints (-s, or when it fails) is the table of mutants.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from recorder import sites, without_site
from scenarios import Host
from scenarios_backup import ServerHost
from scenarios_retention import RetentionHost


SOURCES = Path(__file__).parent.parent.parent / "src"
EXCUSED = dict.fromkeys(["move_all_aside", "restore_seams_put"],
                        "matters where pg_wal is a link to another file system; the model has only one")


def record_everything(scratch):
    """Every way of changing a disk: [(scenario, its events)]."""
    host = Host(scratch)
    found = [host.new_segment(), host.all_kinds(), host.same_at_once(), host.seen_before_durable(), host.copied(),
             host.first_init(), *host.killed_inits(), host.list_before_durable(), host.written_configuration(),
             host.get()]
    server = ServerHost(scratch)
    found += [server.recorded_backup(), server.backup_sees_undurable_wal(), server.recorded_restore(),
              server.recorded_restore("over", killed=1500), server.recorded_delta()]
    retention = RetentionHost(server)
    found += [retention.marking(), retention.removing(), retention.removal_seen_before_durable(), retention.keeping(),
              retention.kept_before_durable(), retention.copying()]
    return [(scenario, scenario.recording.events()) for scenario in found]


def test_every_mutant_is_noticed(scratch):
    scenarios = record_everything(scratch)
    for scenario, events in scenarios:
        assert scenario.violation(events) is None
    table = {**lacking_a_sync(scenarios), **in_another_order(scenarios)}
    for mutant, why in table.items():
        print(f"{mutant}\n    {why or 'NOT NOTICED'}")
    missed = [mutant for mutant, why in table.items() if not why and mutant.split()[0] not in EXCUSED]
    assert not missed, "these keep all promises:\n" + "\n".join(missed)


def lacking_a_sync(scenarios):
    """{call of fsync or syncfs in the program: what breaks in some scenario without it, or None}."""
    found = {}
    for scenario, events in scenarios:
        for place in sites(events):
            found[place] = found.get(place) or scenario.violation(without_site(events, place))
    reached = set(re.findall(r"src/\w+/\w+\.c:\d+", " ".join(found)))
    assert reached, f"the program has no debugging information: {list(found)}"
    unreached = set(calls_in_the_source()) - reached
    assert not unreached, f"no scenario comes by these calls, so nobody knows what they are good for: {unreached}"
    return found


def calls_in_the_source():
    """Where fsync and its like are called: ["src/store/file.c:191", ...]."""
    for path in sorted(SOURCES.rglob("*.c")):
        function = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            start = re.match(r"\w[^;=]*?(\w+)\(", line)
            function = start[1] if start else function
            if re.search(r"\b(fsync|fdatasync|syncfs|sync_file_range|msync)\(", line) and function not in EXCUSED:
                yield f"src/{path.relative_to(SOURCES)}:{number}"


def in_another_order(scenarios):
    """{what is done too early: what breaks, or None}."""
    backup, push, restore, expire, copy = (
        of(scenarios, name) for name in ("backup", "push of a new segment", "restore", "expire", "copy"))
    syncs = [event for event in push[1] if event.kind == "fsync"]
    mark = next(event for event in push[1] if event.kind == "mark")
    behind = push[1][push[1].index(syncs[0]) + 1:-1]
    done = [event for event in restore[1] if event.kind == "mark"]
    unlinks = [event for event in restore[1] if event.kind == "unlink" and event.fields[1] == "pgvigil.restoring"]
    commit = about(backup[1], "backup.json")
    mutants = {f"backup.json before {name}": (backup, commit, naming(name))
               for name in ("refs.zst", "manifest.sqlite.zst", "00000001.zst")}
    mutants |= {
        "an object's name before its bytes are durable": (push, behind, lambda event: event is syncs[0]),
        "an object's directory synced before it is in it": (push, syncs[-1:], lambda event: event.kind == "rename"),
        "push acknowledged before the last sync": (push, [mark], lambda event: event is syncs[-1]),
        "pg_control before the rest is durable": (
            restore, [event for event in restore[1] if naming("pg_control")(event)],
            lambda event: event.kind == "syncfs"),
        "the mark of a restore removed before pg_control": (restore, unlinks, naming("pg_control")),
        "restore acknowledged before pg_control": (restore, done, naming("pg_control")),
        "the copy's backup.json before its packs": (copy, about(copy[1], "backup.json"), naming("00000001.zst")),
        "the copy acknowledged before its backup.json": (
            copy, [event for event in copy[1] if event.kind == "mark"], naming("backup.json")),
    }
    mutants |= {f"{name} of an expired backup removed before its backup.json": (
        expire, removal(expire[1], name), removing("backup.json"))
        for name in ("00000001.zst", "manifest.sqlite.zst", "refs.zst")}
    return {name: record[0].violation(moved(record[1], early, before))
            for name, (record, early, before) in mutants.items()}


def naming(name):
    return lambda event: event.kind == "rename" and event.fields[3] == name


def removing(name):
    return lambda event: event.kind == "unlink" and event.fields[1] == name


def removal(events, name):
    """An object's first removal, with its sync."""
    unlink = next(event for event in events if removing(name)(event))
    behind = events[events.index(unlink):]
    return [unlink, next(event for event in behind if event.kind == "fsync" and event.fields[0] == unlink.fields[0])]


def of(scenarios, name):
    return next(pair for pair in scenarios if pair[0].name == name)


def moved(events, early, before):
    """The record with some events moved before the first one that `before` (a function) is true of."""
    at = next(i for i, event in enumerate(events) if before(event))
    chosen = set(map(id, early))
    picked = [event for event in events[at:] if id(event) in chosen]
    assert picked
    return events[:at] + picked + [event for event in events[at:] if id(event) not in chosen]


def about(events, name):
    """All events that give an object this name: its own, its directories', and the syncs of those."""
    rename = next(event for event in events if event.kind == "rename" and event.fields[3] == name)
    inode, directory, at = rename.fields[4], rename.fields[2], events.index(rename)
    start = max(i for i, event in enumerate(events[:at]) if event.kind == "create" and event.fields[2] == inode)
    found = [event for event in events[start:at + 1] if inode in event.fields]
    found.append(next(event for event in events[at:] if event.kind == "fsync" and event.fields[0] == directory))
    for i in range(at, -1, -1):
        if events[i].kind == "mkdir" and events[i].fields[2] == directory:
            directory = events[i].fields[0]
            found += [events[i], next(e for e in events[i:] if e.kind == "fsync" and e.fields[0] == directory)]
    return found


def test_what_has_no_model_is_refused(scratch):
    scenario = Host(scratch).new_segment()
    with pytest.raises(NotImplementedError):
        list(scenario.states([replace(scenario.recording.events()[0], kind="levitate", fields=())]))
