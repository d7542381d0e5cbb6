"""expire, keep and copy: every state that a power cut could leave keeps the promises."""

import pytest

from scenarios_backup import ServerHost
from scenarios_retention import RetentionHost


@pytest.fixture(scope="module")
def host(module_scratch):
    return RetentionHost(ServerHost(module_scratch))


@pytest.mark.parametrize("name", ["marking", "removing", "removal_seen_before_durable", "keeping", "kept_before_durable",
                                  "copying"])
def test_retention(host, name):
    getattr(host, name)().check(reruns=5)
