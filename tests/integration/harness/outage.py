"""A second region that is killed in the middle of a test and comes back: PGVIGIL_TEST_REPOSITORY=rgw+rgw."""

import random
import threading

from . import s3

PATIENCE = (0.5, 4)  # s until it is killed
AWAY = 1             # s that nobody answers


class Outage:
    """Of the server that all sites of this process share; close() waits until it is back."""
    _one = threading.Lock()

    def __init__(self, server):
        self.server = server
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._strike, args=(random.uniform(*PATIENCE),))
        self.thread.start()

    def _strike(self, wait):
        if self.over.wait(wait):
            return
        with self._one, self.server.down():
            self.over.wait(AWAY)

    def close(self):
        self.over.set()
        self.thread.join()


def second_region(scratch, where):
    """Section of a repository "far" where the run wants two regions, else none; it is killed once."""
    if "+" not in where:
        return {}
    server = s3.server("rgw2")
    section = server.section(server.bucket())
    scratch.at_close(Outage(server).close)
    return {"repository far": section}
