"""Runs pgvigil, and writes its configuration."""

import json
import os

from . import system
from .system import HarnessError


def binary():
    """The pgvigil under test: environment variable PGVIGIL."""
    path = os.environ.get("PGVIGIL")
    if not path:
        raise HarnessError("environment variable PGVIGIL must name the pgvigil binary to test")
    return system.reachable(path)


def config_text(sections):
    """INI text of {section: {key: value}}; a section or a value that is None is left out."""
    lines = []
    for section, keys in sections.items():
        if keys is not None:
            lines += [f"[{section}]"] + [f"{k} = {v}" for k, v in keys.items() if v is not None] + [""]
    return "\n".join(lines)


def merge(sections, overrides):
    """`sections` with the keys of `overrides` put over them; a section that is None goes."""
    merged = {name: dict(keys) for name, keys in sections.items()}
    for name, keys in (overrides or {}).items():
        merged[name] = None if keys is None else {**(merged.get(name) or {}), **keys}
    return merged


class Pgvigil:
    """pgvigil with a configuration file (None: without -c). `program` stands in for the binary in tests; `before` is
    called before each run. With `outages`, a backup that misses a repository is none that failed."""

    def __init__(self, config, *, program=None, cwd=None, before=None, outages=False):
        self.before = before
        self.outages = outages
        self.config = config
        self.program = program or binary()
        self.cwd = cwd

    @property
    def command(self):
        return [self.program] + (["-c", self.config] if self.config else [])

    @property
    def shell_command(self):
        """For archive_command and restore_command."""
        return " ".join(f'"{part}"' if i != 1 else str(part) for i, part in enumerate(self.command))

    def run(self, *args, check=True, timeout=180, env=None, stdin=None):
        """Runs a subcommand as the servers' owner; returns Completed (rc, stdout, stderr).

        check: True wants exit code 0, an integer that one, False any. Hanging, an unwanted exit code, a signal
        (unless check is False) and any sanitizer report raise HarnessError with all that was printed.
        """
        if self.before:
            self.before()
        lenient = self.outages and check is True
        done = system.run([*self.command, *args], check=False if lenient else check, timeout=timeout, env=env, cwd=self.cwd,
                          stdin=stdin)
        if lenient and done.rc != 0 and not self.only_missed(args, done):
            raise HarnessError(done.describe())
        return done

    def only_missed(self, args, done):
        """Was this a backup that missed a repository, where that is no failure?"""
        return self.outages and "backup" in args and done.rc == 3 and " repositories only" in done.stderr

    def json(self, *args, **kwargs):
        """Runs with --json added and parses what comes on stdout; nothing else may be there."""
        done = self.run(*args, "--json", **kwargs)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise HarnessError(f"not JSON: {error}\n{done.describe()}") from None
