"""Reading configs: what is accepted, and the exact words for everything that is not."""

import dataclasses
import textwrap

import pytest

from activjax.runs import ConfigError, config, contract, fields

EXPERIMENT = """
from __future__ import annotations
import dataclasses
from typing import Annotated, Literal
import pydantic
from activjax import runs

@dataclasses.dataclass(frozen=True)
class Mlp:
    kind: Literal["mlp"] = "mlp"
    width: int = 3

@dataclasses.dataclass(frozen=True)
class Cnn:
    kind: Literal["cnn"] = "cnn"
    channels: Annotated[int, pydantic.Field(ge=1)] = 3

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int
    lr: float = runs.traced(1e-3, ge=0, help="step size")
    width: int = runs.static(4, ge=1, le=512)
    act: Literal["relu", "gelu"] = "relu"
    model: Mlp | Cnn = Mlp()
    widths: tuple[int, ...] = (1, 2)
    limit: int | None = None
    either: int | str = 3
    deep: tuple[Mlp, ...] = ()
    flag: bool = False
    mode: str = runs.static("a", choices=("a", "b"))

def setup(config): ...
def init(static, hp, key): ...
def step(static, hp, state): ...
def finish(static, hp, states, out): ...
"""
KEYS = "steps, lr, width, act, model, widths, limit, either, deep, flag, mode"


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "exp.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)

    def load(text, *overrides, head="experiment: exp.py\nsteps: 3\n"):
        (tmp_path / "c.yaml").write_text(head + textwrap.dedent(text))
        return config.load("c.yaml", overrides)

    return load


def test_defaults_and_types(load):
    run = load("lr: 1\nmodel: {kind: cnn, channels: 2}\nwidths: [3, 4]\nlimit: 1_000")
    assert run.name == "c"
    assert run.seeds == (0,)
    assert run.checkpoint_seconds == 20
    assert run.config.lr == 1.0
    assert isinstance(run.config.lr, float)
    assert type(run.config.model).__name__ == "Cnn"
    assert run.config.widths == (3, 4)
    assert run.config.limit == 1000
    assert load("lr: 1e-3").config.lr == 0.001
    assert load("act: 'gelu'").config.act == "gelu"
    assert load("seeds: 3").seeds == (0, 1, 2)
    assert load("seeds: [5, 3]").seeds == (5, 3)


def test_overrides_read_like_a_file(load):
    run = load(
        "widths: [1, 2]",
        "lr=2e-2",
        "model.width=9",
        "widths.1=7",
        "either=abc",
        "seeds=2",
        "name=x",
    )
    assert run.config.lr == 0.02
    assert run.config.model.width == 9
    assert run.config.widths == (1, 7)
    assert run.config.either == "abc"
    assert (run.seeds, run.name) == ((0, 1), "x")


def test_the_id_depends_on_values_and_not_on_how_they_are_written(load):
    plain = load("").id
    assert len(plain) == 12
    assert load("lr: 1.0e-3\nwidth: 4\nseeds: [0]\ncheckpoint_seconds: 1\nname: other").id == plain
    assert load("lr: 2e-3").id != plain
    assert load("seeds: 2").id != plain
    assert load("lr: 1").id == load("lr: 1.0").id


def test_the_id_depends_on_sources_and_data(load, tmp_path):
    plain = load("").id
    (tmp_path / "exp.py").write_text(EXPERIMENT + "import beside\n")
    (tmp_path / "beside.py").write_text("x = 1\n")
    with_module = load("").id
    (tmp_path / "beside.py").write_text("x = 2\n")
    assert len({plain, with_module, load("").id}) == 3
    (tmp_path / "data.bin").write_bytes(b"1")
    (tmp_path / "exp.py").write_text(EXPERIMENT + "def data_files(config): return ['data.bin']\n")
    before = load("").id
    (tmp_path / "data.bin").write_bytes(b"2")
    assert load("").id != before
    (tmp_path / "data.bin").unlink()
    with pytest.raises(ConfigError, match="data_files: cannot read data.bin: No such file"):
        load("")


MALFORMED = {
    "misspelt key": (
        "lrr: 1",
        "c.yaml:3: lrr: unknown key; did you mean 'lr'? "
        f"(keys of exp.py: {KEYS}; of every run: experiment, name, seeds, checkpoint_seconds)",
    ),
    "several problems at once": (
        "width: 0\nflag: 1\nact: rlu",
        "c.yaml:3: width: expected a value >= 1 and <= 512, got 0",
        # the types are right before the ranges are looked at
        "c.yaml:4: flag: expected true or false, got 1",
        "c.yaml:5: act: expected one of 'relu', 'gelu', got the text 'rlu'; did you mean 'relu'?",
    ),
    "out of range": ("lr: -1", "c.yaml:3: lr: expected a value >= 0, got -1.0"),
    "not a number": ("lr: .nan", "c.yaml:3: lr: expected a value >= 0, got nan"),
    "bool for int": ("width: true", "c.yaml:3: width: expected an integer, got true"),
    "float for int": ("width: 3e2", "c.yaml:3: width: expected an integer, got 300.0"),
    "text for float": ("lr: fast", "c.yaml:3: lr: expected a number, got the text 'fast'"),
    "yes is text": ("flag: yes", "c.yaml:3: flag: expected true or false, got the text 'yes'"),
    "quoted number": ("width: '3'", "c.yaml:3: width: expected an integer, got the text '3'"),
    "nothing": ("width:", "c.yaml:3: width: expected an integer, got nothing (null)"),
    "union": ("either: 1.5", "c.yaml:3: either: expected an integer or text, got 1.5"),
    "choices": ("mode: c", "c.yaml:3: mode: expected one of 'a', 'b', got the text 'c'"),
    "optional": ("limit: x", "c.yaml:3: limit: expected an integer, got the text 'x'"),
    "list item": (
        "widths:\n  - 1\n  - x",
        "c.yaml:5: widths[1]: expected an integer, got the text 'x'",
    ),
    "no list": ("widths: 3", "c.yaml:3: widths: expected a list, got 3"),
    "no mapping": ("model: 3", "c.yaml:3: model: expected a mapping, got 3"),
    "unknown kind": (
        "model:\n  kind: cnnn\n  width: 3",
        "c.yaml:4: model.kind: expected one of 'mlp', 'cnn', got the text 'cnnn'; "
        "did you mean 'cnn'?",
    ),
    "key of the other kind": (
        "model:\n  kind: cnn\n  width: 3",
        "c.yaml:5: model.width: unknown key (keys: kind, channels)",
    ),
    "nested key": (
        "deep:\n  - width: 1\n  - wdth: 3",
        "c.yaml:5: deep[1].wdth: unknown key; did you mean 'width'? (keys: kind, width)",
    ),
    "nested range": (
        "model: {kind: cnn, channels: 0}",
        "c.yaml:3: model.channels: expected a value >= 1, got 0",
    ),
    "no seeds": (
        "seeds: 0",
        "c.yaml:3: seeds: expected a number of seeds from 1 to 100000 or a list of distinct "
        "integers >= 0, got 0",
    ),
    "too many seeds": (
        "seeds: 1000000000000",
        "c.yaml:3: seeds: expected a number of seeds from 1 to 100000 or a list of distinct "
        "integers >= 0, got 1000000000000",
    ),
    "seed twice": ("seeds: [1, 1]", "c.yaml:3: seeds[1]: seed 1 is given twice"),
    "negative seed": ("seeds: [-1]", "c.yaml:3: seeds[0]: expected 0 <= seed < 2**32, got -1"),
    "name": (
        "name: a/b",
        "c.yaml:3: name: expected letters, digits and _ . + - (it names a folder), "
        "got the text 'a/b'",
    ),
    "checkpoint_seconds": (
        "checkpoint_seconds: often",
        "c.yaml:3: checkpoint_seconds: expected a number >= 0, got the text 'often'",
    ),
    "key twice": ("steps: 4", "c.yaml:3: key 'steps' is given twice (first in line 2)"),
    "syntax": (
        "act: [1",
        "c.yaml:3:8: not valid YAML: while parsing a flow sequence, expected ',' or ']', "
        "but got '<stream end>'",
    ),
    "tag": (
        "act: !!python/object:os.system x",
        "c.yaml:3: tags are not supported, got tag:yaml.org,2002:python/object:os.system",
    ),
    "alias loop": ("act: &x [*x]", "c.yaml:3: an alias refers to the value it is part of"),
    "merge": ("<<: {a: 1}", "c.yaml:3: merge keys ('<<') are not supported: write the keys out"),
    "two documents": (
        "---\na: 1",
        "c.yaml:3:1: not valid YAML: expected a single document in the stream, "
        "but found another document",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(load, case):
    text, *lines = MALFORMED[case]
    if case == "several problems at once":
        lines = lines[1:]
    with pytest.raises(ConfigError) as error:
        load(text)
    assert str(error.value) == "\n".join(lines)


OVERRIDES = {
    "lr": "override `lr`: expected key=value, such as seeds=3",
    "lr=abc": "override `lr=abc`: lr: expected a number, got the text 'abc'",
    "model.widht=3": "override `model.widht=3`: model.widht: unknown key; did you mean 'width'? "
    "(keys: kind, width)",
    "widths.5=3": "override `widths.5=3`: widths is a list of 2; expected a position 0..1, got '5'",
    "experiment=x.py": "override `experiment=x.py`: the experiment is chosen by the config file",
    "act=[1": "override `act=[1`:1:3: not valid YAML: while parsing a flow sequence, "
    "expected ',' or ']', but got '<stream end>'",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_malformed_overrides(load, override):
    with pytest.raises(ConfigError) as error:
        load("widths: [1, 2]", override)
    assert str(error.value) == OVERRIDES[override]


def test_an_override_given_twice_is_refused(load):
    with pytest.raises(ConfigError, match="steps is given twice, first as `steps=3`"):
        load("", "steps=3", "steps=4")


HEADS = {
    "": "c.yaml: the file is empty, expected at least `experiment:`",
    "- a\n": "c.yaml: expected `key: value` lines, got the list ['a']",
    "experiment: exp.py\n": "c.yaml: missing key 'steps' (int)",
    "steps: 3\n": "c.yaml: missing key 'experiment' (a module or .py path)",
    "experimnt: exp.py\n": "c.yaml: missing key 'experiment' (a module or .py path); "
    "is 'experimnt' meant?",
    "experiment: 3\n": "c.yaml:1: experiment: expected a module or .py path, got 3",
    "experiment: expp.py\n": "c.yaml:1: experiment: no file expp.py in {here}; "
    "did you mean 'exp.py'?",
    "experiment: .\n": "c.yaml:1: experiment: expected a dotted module such as "
    "`my_package.experiment` or a path that ends in .py, got '.'",
    "experiment: no.such.thing\n": "c.yaml:1: experiment: no module 'no.such.thing' in this Python "
    "environment; a file is written as a path relative to the config, such as `my_experiment.py`",
    "experiment: exp\n": "c.yaml:1: experiment: no module 'exp' in this Python environment; "
    "there is a file, write `experiment: exp.py`",
}


@pytest.mark.parametrize("head", HEADS)
def test_malformed_heads(load, head, tmp_path):
    with pytest.raises(ConfigError) as error:
        load("", head=head)
    assert str(error.value) == HEADS[head].format(here=tmp_path)


def test_files_that_are_none(load, tmp_path):
    load("")
    for path, message in {
        "cc.yaml": "cc.yaml: no such file; did you mean 'c.yaml'?",
        "no/c.yaml": "no/c.yaml: no such file (there is no folder no)",
        ".": ".: this is a folder, expected a YAML file; it holds c.yaml",
    }.items():
        with pytest.raises(ConfigError) as error:
            config.load(path)
        assert str(error.value) == message
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        config.load("b.yaml")


def test_a_mapping_is_a_config_and_is_left_alone(load):
    load("")
    data = {"experiment": "exp.py", "name": "m", "steps": 2, "widths": [1, 2]}
    assert config.load(data, ["widths.0=5"]).config.widths == (5, 2)
    assert data["widths"] == [1, 2]
    with pytest.raises(ConfigError, match="config: missing key 'name'"):
        config.load({"experiment": "exp.py", "steps": 2})


CONTRACT = {
    "import numpy as np\n": "Config must be a frozen dataclass (@dataclass(frozen=True))",
    "Config = C\n": "neither main(config, out) nor setup(config), init(static, hp, key), "
    "step(static, hp, state), finish(static, hp, states, out)",
    "Config = C\ndef setup(c): ...\ndef init(s, h, k): ...\n": "defines setup, init but not "
    "step(static, hp, state), finish(static, hp, states, out)",
    "Config = C\ndef main(c, o): ...\ndef step(a, b, c): ...\n": "defines main and also step: an "
    "experiment has either main(config, out), or setup, init, step and finish",
    "Config = C\ndef main(config): ...\n": "main is defined as main(config), "
    "expected main(config, out)",
    "Config = C\nmain = 3\n": "main must be a function main(config, out)",
    "@dataclasses.dataclass(frozen=True)\nclass Config:\n    name: str = ''\n": (
        "Config.name: this name is reserved for the run's own settings (experiment, name, seeds, "
        "checkpoint_seconds, sweep, search); rename the field"
    ),
    "@dataclasses.dataclass(frozen=True)\nclass Config:\n    a: str = runs.traced('')\n": (
        "Config: field 'a' is traced but has type str; only float, int and bool can be traced"
    ),
}


@pytest.mark.parametrize("body", CONTRACT)
def test_modules_that_break_the_contract(tmp_path, body):
    head = (
        "import dataclasses\nfrom activjax import runs\n"
        "@dataclasses.dataclass(frozen=True)\nclass C:\n    n: int = 1\n"
    )
    (tmp_path / "exp.py").write_text(head + body)
    with pytest.raises(ConfigError) as error:
        contract.load("exp.py", tmp_path)
    assert str(error.value).removeprefix("exp.py: ").endswith(CONTRACT[body])


def test_a_module_that_raises_shows_its_own_traceback(tmp_path):
    (tmp_path / "exp.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    with pytest.raises(ConfigError) as error:
        contract.load("exp.py", tmp_path)
    assert str(error.value) == (
        f"experiment: {tmp_path}/exp.py cannot be imported:\n"
        f'  File "{tmp_path}/exp.py", line 4, in <module>\n    f()\n'
        f'  File "{tmp_path}/exp.py", line 2, in f\n    return 1 / 0\n'
        "           ~~^~~\nZeroDivisionError: division by zero"
    )
    (tmp_path / "exp.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=r"line 1\n    def f\(:\n .*\nSyntaxError"):
        contract.load("exp.py", tmp_path)


def test_bad_defaults_are_found(load, tmp_path):
    text = EXPERIMENT.replace(
        "width: int = runs.static(4, ge=1", "width: int = runs.static(4.5, ge=1"
    )
    (tmp_path / "exp.py").write_text(text)
    with pytest.raises(ConfigError, match=r"width: expected an integer, got 4.5"):
        load("")


@dataclasses.dataclass(frozen=True)
class Inner:
    momentum: float = fields.traced(0.9)
    kind: str = "sgd"


@dataclasses.dataclass(frozen=True)
class Outer:
    lr: float = fields.traced(0.1)
    inner: Inner = Inner()
    n: int = 3


def test_hp_is_nested_like_the_config():
    hp = fields.hyper(Outer(), lambda path, value: (path, value))
    assert hp.lr == (("lr",), 0.1)
    assert hp.inner.momentum == (("inner", "momentum"), 0.9)
    assert hp._fields == ("lr", "inner")
    assert type(fields.hyper(Outer(), lambda p, v: v)) is type(hp)


def test_setup_cannot_read_traced_fields():
    hidden = fields.hide_traced(Outer())
    assert hidden.n == 3
    assert hidden.inner.kind == "sgd"
    with pytest.raises(
        TypeError, match=r"'inner.momentum' is a traced field: .* hp.inner.momentum"
    ):
        hidden.inner.momentum * 2
    with pytest.raises(TypeError, match="'lr' is a traced field"):
        float(hidden.lr)
    assert Outer().lr == 0.1


def test_a_configs_own_check_is_told_in_its_own_words(tmp_path):
    (tmp_path / "own.py").write_text(
        "import dataclasses\n\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Config:\n"
        "    low: int = 0\n"
        "    high: int = 1\n\n"
        "    def __post_init__(self):\n"
        "        if self.low >= self.high:\n"
        "            raise ValueError(f'low {self.low} is not below high {self.high}')\n\n\n"
        "def main(config, out):\n    pass\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text("experiment: own.py\nlow: 3\nhigh: 2\n")
    with pytest.raises(ConfigError) as error:
        config.load(path)
    assert str(error.value) == f"{path}: low 3 is not below high 2"
