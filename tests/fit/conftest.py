import contextlib

import jax
import pytest


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
