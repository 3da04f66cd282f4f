"""With one process everything is there and does nothing; what cannot be is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from activjax import hosts


def test_one_process():
    assert hosts.part() == (0, 1)
    assert hosts.exchange({"a": 1}) == [{"a": 1}]
    assert hosts.first(lambda: 3) == 3
    hosts.wait()
    assert hosts.every(lambda: 3) == [3]
    assert hosts.here() == ""
    with pytest.raises(ZeroDivisionError):
        hosts.every(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        hosts.first(lambda: 1 // 0)


def test_arrays_of_one_process():
    mesh = hosts.mesh()
    assert mesh.size == 8
    x = hosts.together(np.arange(16.0).reshape(16, 1), mesh)
    assert not hosts.spread(x)
    assert x.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("data")), 2)
    np.testing.assert_array_equal(hosts.fetch(x)[:, 0], np.arange(16.0))
    tree = hosts.place(
        {"k": jax.random.key(0), "x": jnp.ones(3)}, NamedSharding(mesh, PartitionSpec())
    )
    assert len(tree["x"].devices()) == 8
    assert jnp.issubdtype(hosts.fetch(tree)["k"].dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("rows", [np.ones((12, 2)), np.float32(1)])
def test_rows_that_do_not_divide(rows):
    with pytest.raises(ValueError, match="give a multiple of 8"):
        hosts.together(rows, hosts.mesh())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"address": "a:1", "processes": 2}, "process missing"),
        ({"process": 0}, "address, processes missing"),
        ({"address": "a:1", "processes": 2, "process": 2}, "process 2 is not one of 0 to 1"),
    ],
)
def test_half_an_address_is_refused_at_once(given, message):
    with pytest.raises(hosts.HostsError, match=message):
        hosts.start(**given)
