"""`Scratch`: the directory of one test, and every cluster and directory that the test makes in it."""

import itertools

from . import system, template
from .cluster import Cluster
from .system import HarnessError

_ports = itertools.count(5433)  # only a part of socket names: nothing listens on TCP


class Scratch:
    """Use as a context manager (the fixture `scratch` does).

    Leaving it stops all servers, removes the directory unless `keep`, and raises HarnessError if a sanitizer
    reported anything into a server's log or a process was left running.
    """

    def __init__(self, keep=False, alone=False):
        """alone: a Site here has no second region, whatever the run wants."""
        self.path = system.new_dir("s")
        self.socket_dir = self.mkdir("sock")
        self.clusters = []
        self.keep = keep
        self.alone = alone
        self._closers = []
        longest = len(str(self.socket_dir / ".s.PGSQL.65535"))
        if longest >= 107:
            raise HarnessError(f"path too long for a socket: {self.socket_dir}")

    def mkdir(self, name):
        """A directory (mode 0700, of the servers' owner) in this one; `name` may have several parts."""
        path = self.path
        for part in str(name).split("/"):
            path = path / part
            if not path.exists():
                path.mkdir(mode=0o700)
                system.own(path)
        return path

    def cluster(self, name="main", *, wal_segsize=1, checksums=True, own_identity=False, settings=None,
                initdb=(), bin_dir=None, fsync=False):
        """A new cluster, not started. wal_segsize in MB, small for quick tests; `settings` go into postgresql.conf."""
        bin_dir = bin_dir or template.bindir()
        data = self.path / name
        template.make_data_directory(data, bin_dir, wal_segsize=wal_segsize, checksums=checksums,
                                     own_identity=own_identity, options=initdb)
        cluster = self.adopt(data, name, bin_dir=bin_dir)
        cluster.fsync = fsync
        cluster.configure(**(settings or {}))
        return cluster

    def adopt(self, data, name=None, *, bin_dir=None):
        """A Cluster for a data directory that is already there, with a port and log of its own."""
        cluster = Cluster(self, name or data.name, data, next(_ports), bin_dir)
        self.clusters.append(cluster)
        return cluster

    def at_close(self, function):
        """Called when the servers are stopped."""
        self._closers.append(function)

    def close(self):
        problems = []
        for cluster in self.clusters:
            try:
                cluster.destroy()
            except (HarnessError, OSError) as error:
                problems.append(str(error))
        for function in self._closers:
            function()
        for log in sorted(self.path.glob("*.log")):
            text = log.read_text(errors="replace")
            mark = system.sanitizer_mark(text)
            if mark:
                at = text.index(mark)
                problems.append(f"sanitizer report in {log}\n{text[max(0, at - 2000):at + 6000]}")
        left = system.lingering_in(self.path)
        if left:
            problems.append(f"processes left behind: {list(left.values())}")
            system.kill_all(left)
        if not self.keep:
            system.remove_tree(self.path)
        if problems:
            raise HarnessError("\n".join(problems))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
