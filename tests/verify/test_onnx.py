"""ONNX networks: outputs against ONNX Runtime's, files that are wrong."""

import hashlib
import json

import jax
import numpy as np
import pytest

from activjax.verify._problem import Case, Problem
from activjax.verify.formats import FormatError, read_onnx
from tests.verify import make_networks as make

NETWORKS = make.networks()


@pytest.fixture
def read(tmp_path):
    """Reads a network from bytes."""

    def reader(data, name="net.onnx"):
        path = tmp_path / name
        path.write_bytes(data)
        return read_onnx(path)

    return reader


def relu(**options):
    """A network of one rectifier."""
    return make.model([make.node("Relu", "x", "y")], {}, [1, 2], [1, 2], **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_onnx_runtime(name, read, data):
    known = json.loads((data / "reference.json").read_text())[name]
    assert hashlib.sha256(NETWORKS[name]).hexdigest() == known["sha256"]
    network = read(NETWORKS[name])
    xs = np.asarray(known["x"], np.float32).reshape(-1, *network.graph.example)
    run = jax.jit(jax.vmap(network.graph, (None, 0)))
    got = run(network.params, xs)
    with jax.enable_x64(True):  # as witnesses are replayed
        params = {key: value.astype(np.float64) for key, value in network.params.items()}
        exact = run(params, xs.astype(np.float64))
    assert exact.dtype == np.float64
    # sums of at most 100 float32 products below 4, in another order: 100 * 4 * 2^-24 = 2.4e-5
    for values in (got, exact):
        found = np.asarray(values).reshape(len(xs), -1)
        np.testing.assert_allclose(found, known["y"], atol=2.4e-5, rtol=0)


@pytest.mark.parametrize("name", make.COMMITTED)
def test_committed_networks_are_those_that_the_script_writes(name, data):
    assert (data / f"{name}.onnx").read_bytes() == NETWORKS[name]


def test_networks_of_one_shape_share_a_compiled_program(read, compilations):
    def network(scale):
        weights = {"a": np.full((3, 4), scale, "f4"), "b": np.full(4, 2 * scale, "f4")}
        nodes = [make.node("Gemm", "x a b", "1"), make.node("Relu", "1", "y")]
        return read(make.model(nodes, weights, [1, 3], [1, 4]), f"net{scale}.onnx")

    first, second = network(0.5), network(0.25)
    assert first.graph == second.graph
    assert hash(first.graph) == hash(second.graph)
    assert first.digest != second.digest
    run = jax.jit(lambda graph, params, x: graph(params, x), static_argnums=0)
    x = jax.device_put(np.ones(3, np.float32))
    np.testing.assert_array_equal(run(first.graph, first.params, x), np.full((1, 4), 2.5))
    with compilations() as seen:
        np.testing.assert_array_equal(run(second.graph, second.params, x), np.full((1, 4), 1.25))
    assert not seen


def test_other_attributes_are_another_graph(read):
    one, two = (
        make.model([make.node("LeakyRelu", "x", "y", alpha=alpha)], {}, [1, 2], [1, 2])
        for alpha in (0.25, 0.5)
    )
    assert read(one).graph != read(two).graph


def test_bounds_of_clip_are_part_of_the_graph(read):
    def network(high):
        bounds = {"low": np.asarray(0, "f4"), "high": np.asarray(high, "f4")}
        return read(make.model([make.node("Clip", "x low high", "y")], bounds, [1, 2], [1, 2]))

    assert network(1).graph != network(2).graph
    assert not network(1).params
    with pytest.raises(FormatError, match="'high' has NaN"):
        network(np.nan)


def test_names_become_safe_and_stay_apart(read):
    weights = {"l/a": np.ones((2, 2), "f4"), "l/b": np.ones(2, "f4"), "l_a": np.ones(2, "f4")}
    nodes = [
        make.node("MatMul", "x l/a", "1"),
        make.node("Add", "1 l/b", "2"),
        make.node("Add", "2 l_a", "y"),
    ]
    network = read(make.model(nodes, weights, [1, 2], [1, 2]))
    assert sorted(network.params) == ["l_a", "l_a_2", "l_b"]
    np.testing.assert_array_equal(network.graph(network.params, np.ones(2, np.float32)), [[4, 4]])


def test_numbers_that_are_not_finite_are_refused_by_the_problem(read):
    weights = {"weight.1": np.asarray([[1, np.nan], [0, 1]], "f4")}
    network = read(make.model([make.node("MatMul", "x weight.1", "y")], weights, [1, 2], [1, 2]))
    box = Case((0, 0), (1, 1), ())
    with pytest.raises(ValueError, match=r"weight\.1'\] has NaN or infinite"):
        Problem(network.graph, network.params, (2,), 2, (box,), network.digest, "net")


def test_files_that_are_cut_off_never_read(read):
    whole = NETWORKS["mlp"]
    for size in range(len(whole)):
        with pytest.raises(FormatError, match=r"net\.onnx"):
            read(whole[:size])


def test_outputs_that_nothing_reads_may_be_of_any_kind(read):
    network = read(_node("Dropout", "x", "y mask"))
    x = np.asarray([1, 2], np.float32)
    np.testing.assert_array_equal(network.graph(network.params, x), [x])


def test_damaged_bytes_read_or_raise_format_errors(read):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(NETWORKS["shapes"], np.uint8)
    refused = 0
    for _ in range(300):
        data = whole.copy()
        data[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        try:
            read(data.tobytes())
        except FormatError:
            refused += 1
    assert refused > 100


def _node(*args, shape=(1, 2), constants=None, **attributes):
    return make.model([make.node(*args, **attributes)], constants or {}, shape, [1, 2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no graph"),
        (b"not an ONNX file", "no ONNX"),
        (make.field(7, 5), "field 7 holds an integer, expected bytes"),
        (relu(opset=6), "operator set 6; expected 7 or later"),
        (relu(kind=11), "input 'x' has float64; expected float32"),
        (relu(output="z"), "no node computes the output 'z'"),
        (_node("Softmax", "x", "y"), r"'Softmax_y' \(Softmax\): the operator Softmax is not.*Relu"),
        (_node("Relu", "w", "y"), "reads 'w', which no node before it computes"),
        (_node("Relu", "x", "y", alpha=1.0), "attribute 'alpha' is not supported"),
        (_node("Relu", "x", "y", shape=[1, "n"]), "axis 1 of the input 'x' has no fixed size"),
        (_node("MatMul", "x w", "y", constants={"w": np.ones((3, 2), "f4")}),
         r"\(MatMul\): its operands of shapes \(1, 2\), \(3, 2\) do not fit"),
        (_node("Reshape", "x s", "y", constants={"s": np.asarray([3], "i8")}), "Reshape.*not fit"),
        (_node("Add", "x w", "y", constants={"w": np.ones(2, "f8")}), "'w' has type float64"),
        (_node("Pad", "x p", "y", constants={"p": np.ones(4, "i8")}, mode="edge"), "mode 'edge'"),
        (_node("LeakyRelu", "x", "y", alpha=float("nan")), "'alpha' is nan; expected a finite"),
        (_node("LeakyRelu", "x", "y", alpha="1"), "'alpha' is '1'; expected a number"),
        (_node("Gemm", "x w", "y", shape=[1, 1, 2], constants={"w": np.ones((2, 2), "f4")}),
         "its operands have 3 and 2 axes; expected 2"),
        (_node("Cast", "x", "y", to=7), "a cast to the type 7"),
        (_node("AveragePool", "x", "y", shape=[1, 1, 4], kernel_shape=[2], ceil_mode=1),
         "ceil_mode is not supported"),
        (_node("Conv", "x w", "y", shape=[1, 1, 4], constants={"w": np.ones((1, 1, 2), "f4")},
               pads=[1]), "its pads"),
        (_node("Gather", "x i", "y", constants={"i": np.asarray([2], "i8")}, axis=1), "below 2"),
        (_node("Dropout", "x", "mask y"), "output 'y' is not supported; only the first"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(data, message, read):
    with pytest.raises(FormatError, match=message) as caught:
        read(data)
    assert str(caught.value).startswith("net.onnx")


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_named(read):
    wrong = make.field(1, 3) + make.field(2, 1) + make.field(8, "w") + make.field(9, b"1234")
    graph = make.field(1, make.node("Add", "x w", "y")) + make.field(5, wrong)
    graph += make.field(11, make.value_info("x", [1, 3])) + make.field(
        12, make.value_info("y", [3])
    )
    with pytest.raises(FormatError, match="'w' has 4 bytes, expected 3 elements of 4"):
        read(make.field(7, graph))


def test_published_networks_have_known_shapes_and_one_program(acasxu):
    networks = [read_onnx(path) for path in sorted(acasxu.glob("ACAS*.onnx"))]
    assert len(networks) == 20
    assert len({network.graph for network in networks}) == 1
    assert len({network.digest for network in networks}) == 20
    assert {(n.graph.example, n.output_shape) for n in networks} == {((1, 1, 5), (1, 5))}
    mnist = read_onnx(acasxu / "mnist-net_256x2.onnx")
    assert (mnist.graph.example, mnist.output_shape) == ((784, 1), (1, 10))
