"""The ground under pgvigil's integration tests: real PostgreSQL clusters, a workload, and an oracle.

Fixtures (tests/integration/conftest.py)
    scratch      Scratch: a directory of the test's own; its servers are stopped and it is removed at the end
    site         Site: cluster archiving through pgvigil, repository, configuration, `pgvigil init` done
    make_site    function(name='main', settings={}, config={}, init=True, start=True, wal_segsize=1,
                 checksums=True, own_identity=False, initdb=(), fsync=False) -> Site, for anything unusual
    module_scratch   like scratch, for fixtures of a whole module: Site(module_scratch, ...)
Options: --keep leaves the directories. Environment: PGVIGIL (binary), PG_BINDIR (default: newest installed).

Scratch
    .path  .mkdir(name)  .cluster(name, wal_segsize=MB, checksums=, own_identity=, settings={}, initdb=[])
    .adopt(datadir, name)            Cluster for a directory that exists

Cluster (as user postgres when root; private socket, no TCP)
    .start(wait=True, options={})  .stop('fast'|'immediate'|'smart')  .restart()  .kill9()  .promote()
    .running  .exit_code  .pid  .data  .bindir  .conninfo  .port  .socket_dir  .system_identifier
    .sql(query, *params, db=)  .scalar(...)  .connect(db)         psycopg2, autocommit
    .insert_lsn()  .switch_wal(archived=True)  .wait_archived(segment)  .checkpoint()  .restore_point(name)
    .configure(**settings)  .reload()  .create_tablespace(name, in_place=False)
    .snapshot() -> copy  .set_back(copy)                          both of a server that is stopped
    .standby(name)  .base_backup(dir)  .tool('pg_...', *args)  .log_text()  .log_tail()  .backup_start

Site
    .cluster  .repository  .state_dir  .config  .pgvigil  .scratch
    .write_config({section: {key: value}}, path=None)  .backup(*args)
    .restore(name, *args, action='promote'|'pause'|'shutdown', start=True, want=None) -> Cluster
    .oracle(ledger, timeline=None) -> Oracle over the repository (decoded with zstd, not pgvigil)

Pgvigil(config)
    .run('backup', '--quiet', check=True|False|code, timeout=, env=) -> Completed(rc, stdout, stderr)
    .json('list')                    adds --json and parses; sanitizer reports always fail the test

Ledger.create(cluster, sessions=8, rate=30, seed=None)
    with ledger.running(): ...   or .start() .stop(lost_ok=False);  .pause() .resume() .wait(commits)
    .acked  .attempted  .unknown     by xid;  .attach(restored_cluster) goes on writing there

Oracle(wal_dir, ledger=, timeline=None)
    .ends  .commits (XactEnd: lsn, end, xid, micros, time, committed)  .points (lsn, end, name)
    .expect(start=LSN, lsn=|xid=|time=|name=|immediate=True, inclusive=True) -> Expected(xids, stop, after, why)
    raises NotReached or BeforeConsistency where PostgreSQL would refuse

Checks: assert_restored(cluster, expected, ledger=)  assert_amcheck(cluster)  assert_checksums(cluster) (stops it)
    assert_visibility(cluster) (writable)  assert_verifybackup(dir, bindir)
    compare_directories(a, b, ignore=()) -> list of differences
    write_recovery(dir, restore_command, **settings)  wait_recovery(cluster, want)  backup_start(dir)
    parse_lsn  format_lsn  format_time  parse_time  wait_until(condition, timeout, what)

s3.server('rgw'|'rgw2'|'swift') -> Server: real S3 servers   .endpoint  .tls_endpoint  .ca_file  .bucket()
    .section(bucket, user=) -> keys of a [repository]   .client(user) -> Client   .down() context manager
    .get  .put  .delete  .list(bucket, prefix)  .request(method, path, query, body);  s3.download(...)
keys: encrypted repositories   .stored(name)  .opened(data)  .unpacked(data)  .pair(directory, name)  .section(*pairs)
proxy.FaultProxy(port) .on('PUT', '/pack/', answer(503, 'SlowDown'), times=2) .clear() .endpoint .seen

A test of its own usually reads:

    def test_lsn(site):
        ledger = Ledger.create(site.cluster)
        with ledger.running():
            ledger.wait(50); site.backup(); ledger.wait(100)
        site.cluster.switch_wal()
        oracle = site.oracle(ledger)
        target = oracle.commits[-30]
        restored = site.restore("r", "--target-lsn", format_lsn(target.lsn))
        assert_restored(restored, oracle.expect(start=restored.backup_start, lsn=target.lsn), ledger=ledger)
        assert_amcheck(restored)
        assert_checksums(restored)
"""

from . import keys, mirror, s3
from .checks import (assert_amcheck, assert_checksums, assert_verifybackup, assert_visibility,
                     compare_directories)
from .cluster import Cluster
from .ledger import Ledger
from .oracle import (BeforeConsistency, Expected, NotReached, Oracle, XactEnd, decode_repository, format_time,
                     parse_time)
from .pgvigil import Pgvigil, config_text
from .recovery import backup_start, wait_recovery, write_recovery
from .restored import assert_restored, visible_xids
from .scratch import Scratch
from .site import Site
from .system import Completed, HarnessError, own, run, wait_until, write_file
from .template import bindir, major_version
from .wal import format_lsn, parse_lsn, parse_segment, segment_name

__all__ = [
    "BeforeConsistency", "Cluster", "Completed", "Expected", "HarnessError", "Ledger", "NotReached", "Oracle",
    "Pgvigil", "Scratch", "Site", "XactEnd", "assert_amcheck", "assert_checksums", "assert_restored",
    "assert_verifybackup", "assert_visibility", "backup_start", "bindir", "compare_directories", "config_text",
    "decode_repository", "format_lsn", "format_time", "keys", "major_version", "mirror", "own", "parse_lsn",
    "parse_segment", "parse_time", "run", "s3", "segment_name", "visible_xids", "wait_recovery", "wait_until",
    "write_file", "write_recovery",
]
