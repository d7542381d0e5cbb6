"""`Site`: the usual set of a test with pgvigil: a cluster that archives, a repository, a configuration."""

from . import keys, mirror, outage, recovery, s3, system
from .oracle import Oracle
from .pgvigil import Pgvigil, config_text, merge


class Site:
    """Made in a Scratch: the cluster is running and `pgvigil init` has been done when the constructor returns.

    cluster, repository, state_dir, config (path), pgvigil (runner)
    """

    def __init__(self, scratch, *, name="main", settings=None, config=None, init=True, start=True, **cluster_options):
        """settings: for the server; config: {section: {key: value}} over the usual ones; init, start: whether.

        What remains goes to Scratch.cluster(): wal_segsize, checksums, own_identity, ...
        """
        self.scratch = scratch
        self.name = name
        self._repository = scratch.mkdir(f"{name}-repository")
        self._mirror = None
        self.state_dir = scratch.mkdir(f"{name}-state")
        self.config = scratch.path / f"{name}.conf"
        self.cluster = scratch.cluster(name, **cluster_options)
        self.sections = merge({
            "cluster": {"name": name, "pgdata": self.cluster.data, "conninfo": self.cluster.conninfo,
                        "state_dir": self.state_dir},
            "repository local": self._settle(mirror.wanted()),
            **({} if scratch.alone or "repository local" in (config or {}) else
               outage.second_region(scratch, mirror.wanted())),
            **({"encryption": keys.section()} if keys.wanted() else {}),
        }, config)
        self.write_config()
        self.pgvigil = Pgvigil(self.config, cwd=scratch.path, before=self._mirror and self._mirror.push,
                               outages="repository far" in self.sections)
        self.cluster.configure(**{
            "archive_mode": "on", "archive_command": f'{self.pgvigil.shell_command} archive-push "%p"',
            "restore_command": f'{self.pgvigil.shell_command} archive-get "%f" "%p"', **(settings or {})})
        if start:
            self.cluster.start()
        if init:
            self.pgvigil.run("init")

    def _settle(self, where):
        """Keys of the repository's section."""
        if where == "file":
            return {"url": f"file://{self._repository}"}
        server = s3.server(where.partition("+")[0])
        bucket = server.bucket()
        self._mirror = mirror.Mirror(server.client(), bucket, "vigil/", self._repository)
        return server.section(bucket)

    @property
    def repository(self):
        """A directory; of a bucket, one with the same files as it has now."""
        return self._mirror.pull() if self._mirror else self._repository

    @repository.setter
    def repository(self, directory):
        """For a test that moves it."""
        self._repository, self._mirror = directory, None

    def write_config(self, overrides=None, path=None):
        """Writes the configuration with more overrides, for good at the usual place, or another file at `path`."""
        sections = merge({k: v for k, v in self.sections.items() if v is not None}, overrides)
        if path is None:
            self.sections = sections
        return system.write_file(path or self.config, config_text(sections))

    def backup(self, *args, **kwargs):
        return self.pgvigil.run("backup", *args, **kwargs)

    def restore(self, name, *args, action="promote", start=True, want=None, timeout=120, pgvigil=None):
        """`pgvigil restore --to <directory called name> --action ... *args`; returns the new Cluster.

        It is started and awaited: `want` is how its recovery must end ('promoted', 'paused', 'shutdown',
        'failed'), by default what the action says. With start=False it is left as pgvigil made it. Its
        `backup_start` is set for Oracle.expect(start=...).
        """
        data = self.scratch.path / name
        (pgvigil or self.pgvigil).run("restore", "--to", data, "--action", action, *args, timeout=timeout)
        cluster = self.scratch.adopt(data, name, bin_dir=self.cluster.bindir)
        cluster.backup_start = recovery.backup_start(data)
        if start:
            cluster.start(wait=False)
            recovery.wait_recovery(cluster, want or {"promote": "promoted", "pause": "paused"}.get(action, action),
                                   timeout)
        return cluster

    def oracle(self, ledger=None, timeline=None):
        """An Oracle over what the repository holds now."""
        return Oracle.of_repository(self.repository, self.name, ledger=ledger, timeline=timeline,
                                    bin_dir=self.cluster.bindir)
