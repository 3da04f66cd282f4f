"""Every test runs on eight host devices, with strict dtype promotion; warnings are errors."""

import contextlib
import gc
import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: runs in .ci/full (pytest --slow)")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forget compiled programs before they take up all memory mappings that a process may have.

    Every program of XLA's CPU backend holds some; Linux allows 65,530, and past that the next
    compilation is a segmentation fault.
    """
    yield
    try:
        with open("/proc/self/maps") as maps:
            count = sum(1 for _ in maps)
    except OSError:
        return
    if count > 25_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def compilations():
    """`with compilations() as seen:` collects one entry for every program XLA compiles inside."""
    listening = []

    def listener(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            for seen in listening:
                seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listener)

    @contextlib.contextmanager
    def compilations():
        seen = []
        listening.append(seen)
        yield seen
        listening.remove(seen)

    yield compilations
    jax.monitoring.unregister_event_duration_listener(listener)
