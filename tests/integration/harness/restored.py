"""`assert_restored`: does a cluster hold exactly the transactions that the oracle expects, each one whole?"""

from .ledger import ACCOUNTS, OPENING
from .system import HarnessError

_SHOWN = 12


def assert_restored(cluster, expected, *, ledger=None):
    """Compares the visible ledger of a running cluster (in recovery or not) with `expected` (of Oracle.expect).

    Raises HarnessError that lists missing and surplus xids, transactions that are there in part, payloads that
    do not match their digest, balances that do not follow from the transactions, and indexes that disagree with
    their table. With `ledger`, each missing xid is marked if its commit had been acknowledged.
    """
    problems = (_transactions(cluster, expected, ledger) + _contents(cluster) + _balances(cluster)
                + _indexes(cluster))
    if problems:
        raise HarnessError("\n".join([f"cluster {cluster.name} is not as expected ({expected.why})", *problems]))


def visible_xids(cluster):
    """The xids of the ledger's transactions that are visible."""
    return {row[0] for row in cluster.sql("select distinct xid from ledger")}


def _transactions(cluster, expected, ledger):
    visible = visible_xids(cluster)
    acked = ledger.acked if ledger else {}

    def listed(what, xids):
        shown = [f"{xid}{' (acknowledged)' if xid in acked else ''}" for xid in sorted(xids)[:_SHOWN]]
        more = f" and {len(xids) - _SHOWN} more" if len(xids) > _SHOWN else ""
        return [f"{what} {len(xids)} of {len(expected.xids)} transactions: {', '.join(shown)}{more}"] if xids else []

    return listed("missing", expected.xids - visible) + listed("surplus beyond", visible - expected.xids)


def _contents(cluster):
    torn = cluster.sql("""
        select xid, count(*), min(rows) from ledger group by xid, session, seq
        having count(*) <> min(rows) or min(rows) <> max(rows) or min(row) <> 0 or max(row) <> min(rows) - 1""")
    wrong = cluster.sql("select xid from ledger where row = 0 and digest is distinct from md5(payload)")
    return ([f"transactions there in part (xid, rows, should have): {torn[:_SHOWN]}"] if torn else []) + \
           ([f"payload differs from its digest in xids {[row[0] for row in wrong[:_SHOWN]]}"] if wrong else [])


def _balances(cluster):
    total, count = cluster.sql("select sum(balance), count(*) from account")[0]
    wrong = cluster.sql(f"""
        with moved as (select id, sum(amount) as amount
                       from (select source, -amount from ledger where row = 0
                             union all select target, amount from ledger where row = 0) m (id, amount) group by id)
        select a.id, a.balance, {OPENING} + coalesce(m.amount, 0)
        from account a left join moved m using (id) where a.balance <> {OPENING} + coalesce(m.amount, 0)""")
    problems = []
    if (total, count) != (ACCOUNTS * OPENING, ACCOUNTS):
        problems.append(f"{count} accounts with {total} in all, should be {ACCOUNTS} with {ACCOUNTS * OPENING}")
    if wrong:
        problems.append(f"balances that do not follow from the ledger (id, is, should be): {wrong[:_SHOWN]}")
    return problems


def _indexes(cluster):
    problems = []
    for table, key, column in (("ledger", "session, seq, row", "xid"), ("ledger", "xid, session, seq, row", "xid"),
                               ("account", "id", "balance"), ("account", "last_xid, id", "balance")):
        by_heap = _read(cluster, "set enable_indexscan = off; set enable_indexonlyscan = off; "
                                 "set enable_bitmapscan = off", f"select {key}, {column} from {table}")
        lead = key.split(",")[0]
        by_index = _read(cluster, "set enable_seqscan = off; set enable_sort = on",
                         f"select {key}, {column} from {table} where {lead} >= 0")
        if by_heap != by_index:
            difference = sorted(set(by_heap) ^ set(by_index))
            problems.append(f"index on {table} ({lead}) and its table disagree: {difference[:_SHOWN]}")
    return problems


def _read(cluster, settings, query):
    return sorted(cluster.sql(f"{settings}; {query}"))
