"""`Ledger`: a workload of concurrent sessions whose every transaction can be accounted for afterwards.

Each transaction, whatever else it does, inserts rows into table `ledger` with its own xid, session and sequence
number and how many rows it has there, and moves an amount between two accounts; the first row says between which.
So from the rows that are visible one can tell exactly which transactions are there, whether each is there as a
whole, and what every balance must be.

Shapes: one or several rows; rows in a released savepoint; rows in a savepoint rolled back; rows of up to 24 kB
out of line (TOAST); transactions rolled back, failed, or committed in two phases. Balances and the indexed column
`last_xid` are updated in place, so pages are changed and not only appended.
"""

import contextlib
import os
import random
import threading
import time

import psycopg2

from .system import HarnessError, wait_until

ACCOUNTS = 200
OPENING = 1000
_SCHEMA = f"""
create table ledger (
    xid bigint not null, session int not null, seq int not null, row int not null, rows int not null,
    source int, target int, amount int, digest text, payload text,
    primary key (session, seq, row));
alter table ledger alter column payload set storage external;
create index ledger_xid on ledger (xid);
create table account (id int primary key, balance bigint not null, last_xid bigint not null);
create index account_last_xid on account (last_xid);
insert into account select i, {OPENING}, 0 from generate_series(1, {ACCOUNTS}) i;
"""
_INSERT = """
insert into ledger select pg_current_xact_id()::text::bigint, %(session)s, %(seq)s, g, %(rows)s,
    case g when 0 then %(source)s end, case g when 0 then %(target)s end, case g when 0 then %(amount)s end,
    case g when 0 then md5(%(payload)s) end, case g when 0 then %(payload)s end
from generate_series(%(low)s, %(high)s) g returning xid
"""
_MOVE = "update account set balance = balance + %s, last_xid = pg_current_xact_id()::text::bigint where id = %s"


class Ledger:
    """Sessions writing to one cluster. Make it with create() or, on a restored cluster, attach().

    acked      xid -> (session, seq) of transactions whose commit the server has acknowledged
    attempted  xid -> (session, seq) of all that got as far as having an xid
    unknown    xids whose commit was under way when the connection broke
    relations  (tablespace, database, file) numbers of table ledger, for the oracle
    since      insert position before the ledger was made: the WAL the oracle needs begins there
    """

    def __init__(self, cluster, *, sessions=8, rate=30.0, seed=None):
        """rate: transactions a second of each session, at most."""
        self.cluster = cluster
        self.sessions = sessions
        self.rate = rate
        self.seed = seed if seed is not None else random.SystemRandom().randrange(1 << 32)
        self.acked, self.attempted, self.unknown = {}, {}, set()
        self.relations, self.since = [], None
        self._first_session = 1
        self._threads, self._failures = [], []
        self._lock = threading.Condition()
        self._busy = 0
        self._paused = self._stopping = False
        print(f"ledger seed: {self.seed}")

    @classmethod
    def create(cls, cluster, **kwargs):
        """Makes the tables in database postgres; sessions are started by start() or running()."""
        ledger = cls(cluster, **kwargs)
        ledger.since = cluster.insert_lsn()
        cluster.sql(_SCHEMA)
        ledger._note_relation()
        return ledger

    def attach(self, cluster, **kwargs):
        """A ledger that goes on in a restored (promoted) copy of this one's cluster; what it does is its own. What that
        was restored to the middle of, two-phase commits, would hold its locks for good and is rolled back."""
        for (gid,) in cluster.sql("select gid from pg_prepared_xacts where gid like 'ledger-%'"):
            cluster.sql(f"rollback prepared '{gid}'")
        ledger = Ledger(cluster, **{"sessions": self.sessions, "rate": self.rate, "seed": self.seed + 1, **kwargs})
        ledger.since, ledger.relations = self.since, list(self.relations)
        ledger._note_relation()
        ledger._first_session = 1 + cluster.scalar("select coalesce(max(session), 0) from ledger")
        return ledger

    def _note_relation(self):
        found = self.cluster.sql("""
            select coalesce(nullif(c.reltablespace, 0), d.dattablespace)::int, d.oid::int,
                   pg_relation_filenode(c.oid)::int
            from pg_class c, pg_database d where c.oid = 'ledger'::regclass and d.datname = current_database()""")
        self.relations = sorted(set(self.relations) | set(found))

    # -- running it -----------------------------------------------------------------------------------------

    def start(self):
        if self._threads:
            raise HarnessError("the ledger is running already")
        self._stopping = False
        numbers = range(self._first_session, self._first_session + self.sessions)
        self._first_session += self.sessions
        self._threads = [threading.Thread(target=self._session, args=(n,), daemon=True) for n in numbers]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self, *, lost_ok=False):
        """Ends all sessions between two transactions. A session that failed raises here, unless lost_ok."""
        with self._lock:
            self._stopping, self._paused = True, False
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                raise HarnessError("a session of the ledger does not end")
        self._threads = []
        failures, self._failures = self._failures, []
        if failures and not lost_ok:
            raise HarnessError(f"sessions of the ledger failed: {failures[0]!r}") from failures[0]

    @contextlib.contextmanager
    def running(self):
        """start() ... stop(), also when the body fails."""
        self.start()
        try:
            yield self
        except BaseException:
            self.stop(lost_ok=True)
            raise
        self.stop()

    def pause(self):
        """Returns when no transaction is under way; none begins until resume()."""
        with self._lock:
            self._paused = True
            if not self._lock.wait_for(lambda: self._busy == 0, 60):
                raise HarnessError("a transaction of the ledger does not end")

    def resume(self):
        with self._lock:
            self._paused = False
            self._lock.notify_all()

    def wait(self, commits, timeout=60):
        """Waits until so many more transactions have been acknowledged."""
        goal = len(self.acked) + commits
        wait_until(lambda: len(self.acked) >= goal or self._failures, timeout, f"{commits} commits of the ledger")
        if self._failures:
            raise HarnessError(f"a session of the ledger failed: {self._failures[0]!r}")

    # -- one session ----------------------------------------------------------------------------------------

    def _session(self, number):
        rng = random.Random(f"{self.seed}/{number}")
        try:
            connection = self.cluster.connect()
            with contextlib.closing(connection), connection.cursor() as cursor:
                seq = 0
                while self._enter():
                    try:
                        seq += 1
                        self._transaction(cursor, number, seq, rng)
                    finally:
                        self._leave()
                    time.sleep(rng.uniform(0.2, 1.8) / self.rate)
        except Exception as error:  # whatever it is, stop() hands it on to the test
            self._failures.append(error)

    def _enter(self):
        with self._lock:
            self._lock.wait_for(lambda: not self._paused or self._stopping)
            if self._stopping:
                return False
            self._busy += 1
            return True

    def _leave(self):
        with self._lock:
            self._busy -= 1
            self._lock.notify_all()

    def _transaction(self, cursor, session, seq, rng):
        top, nested = rng.choice((1, 1, 1, 2, 5)), rng.choice((0, 0, 0, 1, 3))
        large = rng.random() < 0.1
        source, target = rng.sample(range(1, ACCOUNTS + 1), 2)
        values = {"session": session, "seq": seq, "rows": top + nested, "low": 0, "high": top - 1,
                  "source": source, "target": target, "amount": rng.randint(1, 100),
                  "payload": os.urandom(rng.randint(2048, 12288) if large else rng.randint(0, 40)).hex()}
        cursor.execute("begin")
        cursor.execute(_INSERT, values)
        xid = cursor.fetchone()[0]
        self.attempted[xid] = (session, seq)
        # In order of id, so that two sessions cannot deadlock.
        for account, sign in sorted(((source, -1), (target, 1))):
            cursor.execute(_MOVE, (sign * values["amount"], account))
        if rng.random() < 0.15:
            cursor.execute("savepoint doomed")
            cursor.execute(_INSERT, {**values, "low": 100, "high": 100 + rng.randint(0, 3)})
            cursor.execute("rollback to doomed")
        if nested:
            cursor.execute("savepoint nested")
            cursor.execute(_INSERT, {**values, "low": top, "high": top + nested - 1})
            cursor.execute("release nested")
        self._finish(cursor, xid, session, seq, rng.random())

    def _finish(self, cursor, xid, session, seq, dice):
        if dice < 0.08:
            cursor.execute("rollback")
        elif dice < 0.12:
            with contextlib.suppress(psycopg2.errors.DivisionByZero):
                cursor.execute("select 1 / 0")
            cursor.execute("rollback")
        else:
            commands = ["commit"]
            if dice < 0.17:
                commands = [f"prepare transaction 'ledger-{xid}'",
                            f"{'rollback' if dice < 0.13 else 'commit'} prepared 'ledger-{xid}'"]
            try:
                for command in commands:
                    cursor.execute(command)
            except psycopg2.OperationalError:
                self.unknown.add(xid)
                raise
            if commands[-1].startswith("commit"):
                self.acked[xid] = (session, seq)
