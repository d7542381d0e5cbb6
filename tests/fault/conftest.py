"""pytest's side of the crash tests: the harness of tests/integration, with its fixtures and options.

Environment: FAULT_SEED, which random states and choices; FAULT_MIXES, how many random states there are at each point;
FAULT_RERUNS, how many states of each push and init pgvigil is started again from (0: all); FAULT_KILL_SECONDS, how long
test_kill.py goes on, or FAULT_KILLS, until how many kills; FAULT_HALTS, at how many calls test_halts.py halts each
command (0: at every one, which takes hours).
"""

import contextlib
import importlib.util
import sys
from pathlib import Path

sys.dont_write_bytecode = True
_integration = Path(__file__).parent.parent / "integration"
sys.path[:0] = [str(Path(__file__).parent), str(_integration)]

_spec = importlib.util.spec_from_file_location("integration_conftest", _integration / "conftest.py")
_shared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_shared)

pytest_report_header = _shared.pytest_report_header
scratch = _shared.scratch
module_scratch = _shared.module_scratch
make_site = _shared.make_site
site = _shared.site


def _is_loaded_already(config):
    own = str(_integration / "conftest.py")
    return any(getattr(plugin, "__file__", None) == own for plugin in config.pluginmanager.get_plugins())


def pytest_addoption(parser):
    with contextlib.suppress(ValueError):  # tests/integration is run as well
        _shared.pytest_addoption(parser)


def pytest_configure(config):
    if not _is_loaded_already(config):
        _shared.pytest_configure(config)
