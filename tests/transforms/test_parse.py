"""Selectors and edits as a YAML file writes them."""

import chex
import jax
import jax.numpy as jnp
import pytest
import yaml

import activjax as aj
from tests.transforms import networks as nets

E = aj.edits

TEXT = """
- {site: blocks/post, layers: [0, 2], edit: {scale: 0.5}}
- {site: blocks/pre, loops: {layers: -1}, at: {d: 1}, edit: {add: 1}}
- {site: embed, edit: {chain: [{clamp: {high: 1}}, {top_k: {k: 3, by: magnitude}}]}}
- {site: "blocks/p*st", edit: {renorm: {add: [0.1, 0.2, 0.3, 0.4, 0.5]}}}
- {site: blocks/post, layers: [1, 3], edit: {add: {each: [[1], [2]]}}}
- {site: embed, at: {d: last}, edit: {clamp: [-1, 1]}}
- {site: blocks/post, edit: {project_out: [[1, 0, 0, 0, 0]]}}
"""


def test_a_yaml_file_says_what_code_says():
    by_hand = [
        (aj.select("blocks/post", layers=[0, 2]), E.scale(0.5)),
        (aj.select("blocks/pre", loops={"layers": -1}, at={"d": 1}), E.add(1)),
        ("embed", E.chain(E.clamp(high=1), E.top_k(3, by="magnitude"))),
        ("blocks/p*st", E.renorm(E.add([0.1, 0.2, 0.3, 0.4, 0.5]))),
        (aj.select("blocks/post", layers=[1, 3]), E.add(E.each([[1], [2]]))),
        (aj.select("embed", at={"d": -1}), E.clamp(-1, 1)),
        ("blocks/post", E.project_out([[1, 0, 0, 0, 0]])),
    ]
    p, x = nets.params(), nets.inputs()
    parsed = aj.parse_edits(yaml.safe_load(TEXT))
    got = aj.intervene(nets.scanned, parsed)(p, x)
    assert got == aj.intervene(nets.scanned, by_hand)(p, x)
    assert got != nets.scanned(p, x)
    for data in ("blocks/*", {"site": "blocks/*", "layers": [3]}):
        by_hand = aj.select(data) if isinstance(data, str) else aj.select(**data)
        chosen = (aj.parse_selector(data), by_hand)
        got, expected = (aj.capture(nets.scanned, s)(p, x)[1] for s in chosen)
        chex.assert_trees_all_equal(got, expected)


SELECT, EDIT, EDITS = aj.parse_selector, aj.parse_edit, aj.parse_edits


@pytest.mark.parametrize(
    ("parse", "data", "message"),
    [
        (SELECT, 3, "expected a glob or a mapping with `site`, got 3"),
        (SELECT, {"layers": 1}, "`site` must be a glob over site names, got None"),
        (SELECT, {"site": "a", "layer": 1}, "unknown key 'layer'; did you mean 'layers'"),
        (SELECT, {"site": "a", "layers": [1.5]}, "layers: expected whole numbers, got 1.5"),
        (SELECT, {"site": "a", "at": {"seq": True}}, "at: expected whole numbers, got True"),
        (EDIT, "scale", "expected one `name: values` such as `scale: 0.5`, got 'scale'"),
        (EDIT, {"scale": 1, "add": 2}, "expected one `name: values`"),
        (EDIT, {"scal": 1}, "edit 'scal': did you mean 'scale'"),
        (EDIT, {"add": "x"}, "edit 'add': add: expected a number or an array, got 'x'"),
        (EDIT, {"add": [1, [2, 3]]}, "edit 'add': add: expected a number or an array"),
        (EDIT, {"top_k": {"n": 3}}, "edit 'top_k': unknown key 'n'; keys: k, by"),
        (EDIT, {"top_k": {"k": 3, "by": "size"}}, "by='size'; expected 'value'"),
        (EDIT, {"patch_subspace": 1}, "edit 'patch_subspace': .*missing"),
        (EDIT, {"renorm": []}, "edit 'renorm': expected an edit"),
        (EDITS, {"a": 1}, "expected a list of mappings with `site` and `edit`"),
        (EDITS, [{"site": "a", "edit": {"scale": 1}}, {"site": "b"}], r"edits\[1\]: expect"),
        (EDITS, [{"site": "a", "edit": {"add": None}}], r"edits\[0\]: edit 'add'"),
    ],
)
def test_what_cannot_be_meant_is_said(parse, data, message):
    with pytest.raises(ValueError, match=message):
        parse(data)


def test_a_table_for_notebooks():
    html = aj.sites(nets.scanned)(nets.params(), nets.inputs())._repr_html_()
    assert html.startswith("<table><caption>4 sites, ")
    assert "<td>blocks/pre</td><td>float32</td><td>d=5</td><td>-</td><td>layers=6</td>" in html
    assert html.count("<tr>") == 5


def test_sites_that_a_gradient_computes_again_are_marked():
    def f(x):
        return jax.checkpoint(lambda x: (aj.tag(jnp.sin(x), "h") ** 2).sum())(x)

    (site,) = aj.sites(jax.grad(f))(jnp.ones(3))
    assert site.recomputed
    assert "read only" in repr(aj.sites(jax.grad(f))(jnp.ones(3)))
    assert not aj.sites(f)(jnp.ones(3))[0].recomputed
