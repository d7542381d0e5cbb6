"""pytest's side of the harness: fixtures, options, and one directory for the whole run.

See the package `harness` for what tests can use.
"""

import atexit
import os
import signal
import sys

import pytest

sys.dont_write_bytecode = True  # the source tree stays as it is, whoever runs the tests

from harness import Scratch, Site, bindir, mirror, system  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--keep", action="store_true", help="leave the tests' directories behind")


def pytest_configure(config):
    config.addinivalue_line("markers", "directory: about what only a repository in a directory does")
    config.addinivalue_line("markers", "alone: about one repository, which no other one helps out")
    if hasattr(config, "workerinput"):
        return
    # The controller owns the run directory, so that it goes away even if a worker is killed.
    os.environ.pop(system.RUN_DIR_VARIABLE, None)
    system.run_dir()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if config.getoption("--keep"):
        atexit.unregister(system.remove_tree)


def pytest_collection_modifyitems(items):
    if mirror.wanted() == "file":
        return
    for item in items:
        if item.get_closest_marker("directory"):
            item.add_marker(pytest.mark.skip(reason="it is about a repository in a directory"))


def pytest_report_header(config):
    return f"PostgreSQL: {bindir()}, pgvigil: {os.environ.get('PGVIGIL')}, files: {system.run_dir()}"


@pytest.fixture
def scratch(request):
    with Scratch(keep=request.config.getoption("--keep"),
                 alone=request.node.get_closest_marker("alone") is not None) as one:
        yield one


@pytest.fixture(scope="module")
def module_scratch(request):
    with Scratch(keep=request.config.getoption("--keep"),
                 alone=request.node.get_closest_marker("alone") is not None) as one:
        yield one


@pytest.fixture
def make_site(scratch):
    return lambda **kwargs: Site(scratch, **kwargs)


@pytest.fixture
def site(make_site):
    return make_site()
