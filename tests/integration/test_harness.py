"""Tests of the oracle and the ledger, with pg_basebackup and cp in pgvigil's place.

The oracle must agree with what PostgreSQL does for every kind of recovery target, and whatever is meant to notice
a fault must notice one that is put there. (The rest of the harness is tested in test_harness_tools.py.)
"""

import copy
import dataclasses
import os

import pytest
from harness import (BeforeConsistency, HarnessError, Ledger, NotReached, Oracle, assert_amcheck, assert_checksums,
                     assert_restored, backup_start, decode_repository, format_lsn, format_time, run,
                     visible_xids, wait_recovery, write_recovery)
from harness.wal import Chain, read_history, segment_name
from harness.waldump import dump


class Scene:
    """A cluster that archives with cp, a base backup taken under load, and the archive that goes with it."""

    def __init__(self, scratch):
        self.archive = scratch.mkdir("archive")
        self.cluster = scratch.cluster(settings={
            "archive_mode": "on", "archive_command": self.archive_command()})
        self.cluster.start()
        self.ledger = Ledger.create(self.cluster, rate=60)
        with self.ledger.running():
            self.ledger.wait(50)
            self.base = self.cluster.base_backup(scratch.path / "base")
            for _ in range(2):
                self.ledger.wait(60)
                self.cluster.restore_point("twice")
                self.cluster.switch_wal(archived=False)
            self.ledger.wait(60)
        self.cluster.switch_wal()
        self.start = backup_start(self.base)
        self.oracle = Oracle(self.archive, ledger=self.ledger, timeline=1)
        self.later = [c for c in self.oracle.commits if c.lsn > self.oracle.points[0].end]

    def archive_command(self):
        return f'test ! -f "{self.archive}/%f" && cp "%p" "{self.archive}/%f"'

    def restore(self, scratch, target, *, want="promoted", name="restored", inclusive=True, segments=(), **settings):
        """Restores the base backup and these segments; `target` as for Oracle.expect, empty for latest."""
        data = scratch.path / name
        run(["cp", "-a", "--reflink=auto", self.base, data])
        for segment in segments:
            run(["cp", "-p", f"{self.archive}/{segment}", data / "pg_wal"])
        action = {"paused": "pause", "shutdown": "shutdown"}.get(want, "promote")
        settings = {"archive_mode": "off", "recovery_target_action": action, "recovery_target_timeline": "1",
                    "recovery_target_inclusive": inclusive, **settings}
        for kind, value in target.items():
            if kind == "immediate":
                settings["recovery_target"] = "immediate"
            else:
                settings[f"recovery_target_{kind}"] = format_lsn(value) if kind == "lsn" else value
        write_recovery(data, f'cp "{self.archive}/%f" "%p"', **settings)
        return wait_recovery(scratch.adopt(data).start(wait=False), want)


@pytest.fixture(scope="module")
def scene(module_scratch):
    return Scene(module_scratch)


def middle(scene):
    """A commit some segments from the end whose predecessor among all commit and abort records has an earlier stamp."""
    ends = scene.oracle.ends
    return next(c for c in scene.later[len(scene.later) // 3:] if ends[ends.index(c) - 1].micros < c.micros)


def an_abort(scene):
    return next(e for e in scene.oracle.ends if not e.committed and e.lsn > scene.later[10].lsn)


TARGETS = {
    "lsn-of-commit": lambda s: {"lsn": middle(s).lsn},
    "lsn-inside-commit": lambda s: {"lsn": middle(s).lsn + 8},
    "time-of-commit": lambda s: {"time": middle(s).time},
    "xid-of-commit": lambda s: {"xid": middle(s).xid},
    "xid-of-abort": lambda s: {"xid": an_abort(s).xid},
}


@pytest.mark.parametrize("inclusive", [True, False], ids=["inclusive", "exclusive"])
@pytest.mark.parametrize("kind", TARGETS)
def test_target(scene, scratch, kind, inclusive):
    target = TARGETS[kind](scene)
    expected = scene.oracle.expect(start=scene.start, inclusive=inclusive, **target)
    restored = scene.restore(scratch, target, inclusive=inclusive, want="paused")
    assert_restored(restored, expected, ledger=scene.ledger)
    assert 50 < len(expected.xids) < len(scene.oracle.commits)


def test_inclusive_differs_from_exclusive_by_the_commit(scene):
    commit = middle(scene)
    for target in ({"lsn": commit.lsn}, {"xid": commit.xid}, {"time": commit.time}):
        with_it, without = (scene.oracle.expect(start=scene.start, inclusive=i, **target).xids for i in (True, False))
        assert commit.xid in with_it - without
        if "time" not in target:
            assert with_it - without == {commit.xid}


def test_time_stops_at_the_first_later_stamp_although_earlier_ones_follow(scene):
    """Stamps need not rise along the WAL; here one commit is given a stamp later than all others."""
    oracle = copy.copy(scene.oracle)
    odd, latest = middle(scene), max(end.micros for end in oracle.ends)
    oracle.ends = [dataclasses.replace(end, micros=latest + 1) if end is odd else end for end in oracle.ends]
    expected = oracle.expect(start=scene.start, time=format_time(latest))
    assert (expected.stop, expected.after) == (odd.lsn, False)
    assert len(expected.xids) < len(oracle.commits)
    with pytest.raises(NotReached):
        oracle.expect(start=scene.start, time=format_time(latest + 1))


def test_name_stops_at_the_first_of_that_name(scene, scratch):
    assert [p.name for p in scene.oracle.points] == ["twice", "twice"]
    expected = scene.oracle.expect(start=scene.start, name="twice")
    assert expected.stop == scene.oracle.points[0].lsn
    restored = scene.restore(scratch, {"name": "twice"}, want="paused")
    assert_restored(restored, expected, ledger=scene.ledger)


def test_immediate_with_a_shutdown_between(scene, scratch):
    expected = scene.oracle.expect(start=scene.start, immediate=True)
    restored = scene.restore(scratch, {"immediate": True}, want="shutdown")
    assert not restored.running
    restored.start(wait=False, options={"recovery_target_action": "promote"})
    wait_recovery(restored, "promoted")
    assert_restored(restored, expected, ledger=scene.ledger)


def test_latest(scene, scratch):
    expected = scene.oracle.expect(start=scene.start)
    assert expected.xids == set(scene.ledger.acked) == {c.xid for c in scene.oracle.commits}
    restored = scene.restore(scratch, {})
    assert_restored(restored, expected, ledger=scene.ledger)
    assert_amcheck(restored)
    assert_checksums(restored)


def test_targets_that_recovery_refuses(scene, scratch):
    last, first = scene.oracle.ends[-1], scene.oracle.commits[0]
    out_of_reach = {"time": "2999-01-01 00:00:00+00"}
    with pytest.raises(NotReached):
        scene.oracle.expect(start=scene.start, **out_of_reach)
    scene.restore(scratch, out_of_reach, want="failed", name="far")
    for target in ({"lsn": last.end + (1 << 30)}, {"xid": last.xid + 1000}, {"name": "other"}, {"xid": first.xid}):
        with pytest.raises(NotReached):
            scene.oracle.expect(start=scene.start, **target)
    too_early = {"lsn": scene.start}
    with pytest.raises(BeforeConsistency):
        scene.oracle.expect(start=scene.start, **too_early)
    scene.restore(scratch, too_early, want="failed", name="early")
    with pytest.raises(BeforeConsistency):
        scene.oracle.expect(start=scene.start, time=first.time)


def test_another_timeline(scene, scratch):
    """Promoted in the middle, written to, archived; then restored along the new timeline."""
    left_at = middle(scene)
    forked = copy.copy(scene)
    forked.archive = scratch.mkdir("archive")
    run(["cp", "-a", f"{scene.archive}/.", forked.archive])
    second = forked.restore(scratch, {"lsn": left_at.lsn}, name="second", archive_mode="on",
                            archive_command=forked.archive_command())
    ledger = scene.ledger.attach(second)
    with ledger.running():
        ledger.wait(40)
    second.switch_wal()

    oracle = Oracle(forked.archive, ledger=ledger)
    assert oracle.timeline == 2
    assert read_history(forked.archive, 2)[0][1] >= left_at.end
    expected = oracle.expect(start=scene.start)
    before = scene.oracle.expect(start=scene.start, lsn=left_at.lsn).xids
    assert expected.xids == before | set(ledger.acked)
    assert_restored(second, expected, ledger=ledger)

    target = {"xid": oracle.commits[-10].xid}
    # A transaction prepared in this segment before the fork and ended after it is looked for in the old timeline's file.
    parted = segment_name(1, left_at.lsn // oracle.chain.segment_size, oracle.chain.segment_size)
    third = forked.restore(scratch, target, name="third", segments=[parted], recovery_target_timeline="2")
    assert_restored(third, oracle.expect(start=scene.start, **target), ledger=ledger)
    first = forked.restore(scratch, {}, name="first")
    along_first = Oracle(forked.archive, ledger=ledger, timeline=1).expect(start=scene.start)
    assert along_first.xids == scene.oracle.expect(start=scene.start).xids
    assert_restored(first, along_first, ledger=scene.ledger)
    with pytest.raises(HarnessError, match="(?s)missing.*surplus"):
        assert_restored(third, along_first, ledger=scene.ledger)


def test_wal_ends_at_a_gap(scene, scratch):
    gapped = scratch.mkdir("gapped")
    run(["cp", "-a", f"{scene.archive}/.", gapped])
    size = scene.oracle.chain.segment_size
    lost = middle(scene).lsn // size
    assert scene.oracle.commits[-1].lsn // size > lost
    (gapped / segment_name(1, lost, size)).unlink()
    oracle = Oracle(gapped, ledger=scene.ledger, timeline=1)
    expected = oracle.expect(start=scene.start)
    assert expected.xids == {c.xid for c in scene.oracle.commits if c.end <= lost * size}
    assert oracle.commits[-1] == scene.oracle.commits[-1]
    with pytest.raises(NotReached):
        oracle.expect(start=scene.start, xid=scene.oracle.commits[-1].xid)


def test_damaged_wal_in_the_middle_is_an_error(scene, scratch):
    damaged = scratch.mkdir("damaged")
    run(["cp", "-a", f"{scene.archive}/.", damaged])
    size = scene.oracle.chain.segment_size
    with open(damaged / segment_name(1, middle(scene).lsn // size, size), "r+b") as segment:
        segment.seek(middle(scene).lsn % size)
        segment.write(b"\xff" * 16)
    with pytest.raises(HarnessError, match="pg_waldump failed"):
        Oracle(damaged, ledger=scene.ledger, timeline=1)


def test_faults_in_a_restored_cluster_are_noticed(scene, scratch):
    expected = scene.oracle.expect(start=scene.start)
    restored = scene.restore(scratch, {})
    victim = middle(scene).xid

    def fails_with(pattern, damage, repair):
        restored.sql(damage)
        with pytest.raises(HarnessError, match=pattern):
            assert_restored(restored, expected, ledger=scene.ledger)
        restored.sql(repair)

    restored.sql("create table saved as select * from ledger")
    fails_with(rf"missing 1 of \d+ transactions: {victim} \(acknowledged\)",
               f"delete from ledger where xid = {victim}",
               f"insert into ledger select * from saved where xid = {victim}")
    fails_with("surplus beyond 1 of .*: 4000000000",
               "insert into ledger values (4000000000, 0, 0, 0, 1)", "delete from ledger where xid = 4000000000")
    fails_with("there in part", f"update ledger set rows = rows + 1 where xid = {victim}",
               f"update ledger set rows = rows - 1 where xid = {victim}")
    fails_with("differs from its digest", f"update ledger set digest = 'x' || digest where xid = {victim}",
               f"update ledger set digest = substr(digest, 2) where xid = {victim}")
    fails_with("balances that do not follow", "update account set balance = balance + 1 - 2 * (id % 2) where id < 3",
               "update account set balance = balance - 1 + 2 * (id % 2) where id < 3")
    fails_with("accounts with", "update account set balance = balance + 1 where id = 1",
               "update account set balance = balance - 1 where id = 1")
    assert_restored(restored, expected, ledger=scene.ledger)

    surplus = dataclasses.replace(expected, xids=expected.xids - {victim})
    with pytest.raises(HarnessError, match=rf"surplus .*: {victim}"):
        assert_restored(restored, surplus)

    # An index that misses a row: the row is written while the index pretends not to be ready.
    ready = "update pg_index set indisready = {} where indexrelid = 'ledger_xid'::regclass"
    restored.sql(ready.format(False))
    restored.sql(f"update ledger set xid = xid, payload = payload || '', rows = rows where xid = {victim}")
    restored.sql(f"delete from ledger where xid = {victim}")
    restored.sql(f"insert into ledger select * from saved where xid = {victim}")
    restored.sql(ready.format(True))
    with pytest.raises(HarnessError, match="index on ledger .xid. and its table disagree"):
        assert_restored(restored, expected)
    with pytest.raises(HarnessError, match="pg_amcheck complains"):
        assert_amcheck(restored)


def test_oracle_and_acknowledgements_agree(scene):
    committed = {c.xid for c in scene.oracle.commits}
    assert committed == set(scene.ledger.acked) and not scene.ledger.unknown
    assert committed < set(scene.ledger.attempted)  # some were rolled back
    assert visible_xids(scene.cluster) == committed
    assert any(not e.committed for e in scene.oracle.ends)


def test_records_follow_one_another(scene):
    """record_end() is right: each record starts where the one before ends, page headers apart."""
    oracle = scene.oracle
    size, numbers = oracle.chain.segment_size, sorted(oracle.chain.files)
    records = dump(oracle.bin_dir, oracle.view, segment_name(1, numbers[0], size),
                   segment_name(1, numbers[-1], size), size)
    assert len(records) > 1000
    for one, following in zip(records, records[1:]):
        if "SWITCH" not in one.desc:
            header = 0 if one.end % 8192 else 40 if one.end % size == 0 else 24
            assert one.end + header == following.lsn


def test_oracle_reads_a_repository(scene, scratch):
    """Objects as pgvigil lays them out: zstd with a skippable frame at the end."""
    root = scratch.mkdir("repository")
    for name in sorted(os.listdir(scene.archive)):
        folder = "wal" if name.endswith(".history") else f"wal/{name[:8]}/{name[:16]}"
        target = scratch.mkdir(f"repository/main/7000000000000000000/{folder}") / f"{name}.zst"
        run(["zstd", "-q", scene.archive / name, "-o", target])
        with open(target, "ab") as stored:
            stored.write(b"\x50\x2a\x4d\x18" + (8).to_bytes(4, "little") + b"trailer.")
    oracle = Oracle.of_repository(root, ledger=scene.ledger, timeline=1)
    assert oracle.commits == scene.oracle.commits
    decoded = Chain.find(decode_repository(root), 1)
    assert decoded.files.keys() == scene.oracle.chain.files.keys()
