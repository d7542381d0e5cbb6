"""A repository in a bucket as the directory that the tests look into, and change things in.

`pull` makes the directory what the bucket is, `push` brings what a test changed there into the bucket. Site does the one
whenever a test asks for its repository, and the other before pgvigil runs.
"""

import os
from pathlib import Path

from . import system


class Mirror:
    def __init__(self, client, bucket, prefix, directory):
        self.client, self.bucket, self.prefix, self.directory = client, bucket, prefix, Path(directory)
        self.known = {}  # what both have: {name: (size, mtime in ns)}

    def _files(self):
        return {str(path.relative_to(self.directory)): path for path in self.directory.rglob("*")
                if path.is_file() and not path.is_symlink()}

    @staticmethod
    def _mark(path):
        info = path.stat()
        return info.st_size, info.st_mtime_ns

    def pull(self):
        self.push()
        there = {name[len(self.prefix):]: size for name, size in self.client.list(self.bucket, self.prefix).items()}
        for name in set(self.known) - set(there):
            (self.directory / name).unlink(missing_ok=True)
            del self.known[name]
        for name in set(there) - set(self.known):
            path = self.directory / name
            for parent in reversed(path.relative_to(self.directory).parents[:-1]):
                folder = self.directory / parent
                if not folder.exists():
                    folder.mkdir(mode=0o700)
                    system.own(folder)
            path.write_bytes(self.client.get(self.bucket, self.prefix + name))
            path.chmod(0o600)
            system.own(path)
            self.known[name] = self._mark(path)
        return self.directory

    def push(self):
        files = self._files()
        for name, path in files.items():
            if self.known.get(name) != self._mark(path):
                self.client.put(self.bucket, self.prefix + name, path.read_bytes())
                self.known[name] = self._mark(path)
        for name in set(self.known) - set(files):
            self.client.delete(self.bucket, self.prefix + name)
            del self.known[name]


def wanted():
    """Where the repositories of this run are: file, rgw, swift, or in two regions rgw+rgw."""
    return os.environ.get("PGVIGIL_TEST_REPOSITORY", "file")
