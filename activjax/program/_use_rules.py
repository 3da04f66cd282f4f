"""The rules of `parameter_uses`: what is a view of a leaf, and which operations use one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from activjax.program import _compat
from activjax.program._argnums import Chosen
from activjax.program._describe import operation
from activjax.program._flow import Rules
from activjax.program._identities import IDENTITIES
from activjax.program._uses import Use, UseLoop
from activjax.program._views import View, view
from activjax.program._walk import Place
from activjax.program.curves import POINTWISE

Key = tuple[Any, ...]

_ELEMENTWISE = {
    *POINTWISE,
    *("rem", "pow", "integer_pow", "square", "exp", "exp2", "expm1", "log", "log1p", "log2"),
    *("logistic", "tanh", "sin", "cos", "tan", "sqrt", "rsqrt", "cbrt", "erf", "erfc", "erf_inv"),
    *("floor", "ceil", "round", "is_finite", "atan2", "real", "imag", "conj", "complex"),
}


@dataclass(frozen=True)
class Value:
    """What is known of a value.

    Attributes:
      views: the leaves that it may be, whole or in part.
      plain: whether it may also be something else.
      data: whether it depends on arguments that are no parameters.
      leaves: numbers of the leaves on which it depends.
      uses: keys of the uses on the way to it.
      changes: depths of the loops around in which it is not the same in every iteration.
    """

    views: frozenset[View] = frozenset()
    plain: bool = True
    data: bool = False
    leaves: frozenset[int] = frozenset()
    uses: frozenset[Key] = frozenset()
    changes: frozenset[int] = frozenset()


class UseRules(Rules[Value]):
    """The rule set; `uses` collects, by their keys, all that it meets.

    With `lookups` a lookup is a use even where its indices depend on nothing.
    """

    def __init__(self, leaves: Sequence[Chosen], *, lookups: bool = False) -> None:
        self.leaves, self.lookups = leaves, lookups
        self.uses: dict[Key, Use] = {}

    def parameter(self, i: int) -> Value:
        """The i-th leaf."""
        whole = View(i, tuple(range(len(self.leaves[i].shape))))
        return Value(frozenset({whole}), plain=False, leaves=frozenset({i}))

    def constant(self, value: Any) -> Value:
        """A constant depends on nothing."""
        return Value()

    def join(self, a: Value, b: Value) -> Value:
        """Either."""
        return replace(_mixed([a, b]), views=a.views | b.views, plain=a.plain or b.plain)

    def cross(self, eqn: _compat.Equation, how: str, i: int, state: Value, place: Place) -> Value:
        """A leaf that is scanned over is seen slice by slice."""
        depth = len(place.loops)
        changes = state.changes | {depth}
        if how == "const":
            return state
        if how == "carry":
            return replace(state, changes=changes)
        if how == "slice":
            views = frozenset(v.enter(depth) for v in state.views)
            return replace(state, views=views, changes=changes)
        if how == "shard":
            split = any(axis is not None for axis in _compat.shard_parts(eqn).in_specs[i])
            views = frozenset(v.shard(depth, split) for v in state.views)
            return replace(state, views=views, changes=changes if split else state.changes)
        if how == "rule":
            name = _compat.kind(eqn) or eqn.primitive.name
            return replace(state, views=frozenset(v.then(name, None, v.axes) for v in state.views))
        leave = View.stack if how == "stack" else View.leave
        views = frozenset(leave(v, depth) for v in state.views)
        return replace(state, views=views, changes=state.changes - {depth})

    def choose(
        self, eqn: _compat.Equation, index: Value, outs: list[Value], place: Place
    ) -> list[Value]:
        """What decides is a use, and the outputs depend on it."""
        keys = self._record(eqn, [index], 0, place, "other")
        extra = replace(index, uses=index.uses | keys)
        return [replace(_mixed([out, extra]), views=out.views, plain=out.plain) for out in outs]

    def ruled(
        self, eqn: _compat.Equation, states: list[Value], outs: list[Value], place: Place
    ) -> list[Value]:
        """A leaf that the function leaves alone may still have a derivative by its rule."""
        n = len(place.path)
        seen = {k[2].leaf for out in outs for k in out.uses if k[0][:n] == place.path}
        seen |= {v.leaf for out in outs for v in out.views}
        alone = [
            i for i, s in enumerate(states) if s.views and not {v.leaf for v in s.views} <= seen
        ]
        if not alone:
            return outs
        keys = frozenset().union(*(self._record(eqn, states, i, place, "other") for i in alone))
        leaves = frozenset(v.leaf for i in alone for v in states[i].views)
        return [replace(o, uses=o.uses | keys, leaves=o.leaves | leaves) for o in outs]

    def equation(self, eqn: _compat.Equation, states: list[Value], place: Place) -> list[Value]:
        """A view of a leaf stays one; anything else that meets it is a use."""
        if eqn.primitive.name in IDENTITIES and len(states) == len(eqn.outvars):
            if eqn.primitive.name != "stop_gradient":
                return states
            # the value is the leaf's, the derivative is not
            return [
                replace(s, views=frozenset(v.then("stop_gradient", None, v.axes) for v in s.views))
                for s in states
            ]
        keys: set[Key] = set()
        views: list[frozenset[View]] = [frozenset() for _ in eqn.outvars]
        for i, state in enumerate(states):
            if not state.views:
                continue
            # A table looked up by data is a use; at indices known beforehand it is but a part.
            fixed = i == 0 and not any(s.data or s.leaves for s in states[1:])
            fixed = fixed and not (self.lookups and eqn.primitive.name == "gather")
            if not fixed or any(view(eqn, v, 0) is None for v in state.views):
                keys |= self._record(eqn, states, i, place, _kind(eqn, i))
                continue
            index = frozenset().union(*(s.changes for s in states[1:]))
            for k in range(len(views)):
                parts = (view(eqn, v, k) for v in state.views)
                views[k] = frozenset(replace(v, indexed=v.indexed | index) for v in parts if v)
        mixed = _mixed(states)
        return [
            replace(
                mixed,
                views=v,
                plain=states[0].plain if v else True,
                uses=mixed.uses | keys,
            )
            for v in views
        ]

    def returned(self, state: Value, i: int) -> frozenset[Key]:
        """The uses that a leaf has as the i-th output of the program."""
        keys = set()
        for v in state.views:
            fields = {
                "primitive": "output",
                "place": Place(path=(_LAST, i)),
                "scope": "",
                "source": None,
                "functions": (),
                "operands": (),
            }
            keys.add(self._add(v, fields, "output", 0, [state], (), ()))
        return frozenset(keys)

    def _record(
        self, eqn: _compat.Equation, states: list[Value], i: int, place: Place, kind: str
    ) -> frozenset[Key]:
        words = [self._words(s) for s in states]
        words += ["-"] * (len(eqn.invars) - len(words))  # the operands of a branch
        fields = operation(eqn, place, words)
        sums, batch = _dense_axes(eqn, i) if kind == "dense" else ((), ())
        found = (
            self._add(v, fields, kind, i, states, sums, batch, _features(eqn, i, kind, v))
            for v in states[i].views
        )
        return frozenset(found)

    def _add(
        self,
        v: View,
        fields: dict[str, Any],
        kind: str,
        i: int,
        states: list[Value],
        sums: tuple[int, ...],
        batch: tuple[int, ...],
        features: tuple[Any, Any] = ((), ()),
    ) -> Key:
        leaf, place = self.leaves[v.leaf], fields["place"]
        rest = [s for j, s in enumerate(states) if j != i]
        others = frozenset().union(*(s.leaves for s in rest))
        key = (place.path, i, v)
        self.uses[key] = Use(
            **fields,
            leaf=leaf.path,
            shape=leaf.shape,
            dtype=leaf.dtype,
            kind=kind,
            operand=i,
            views=v.steps,
            axes=v.axes,
            contracting=sums,
            batch=batch,
            inputs=features[0],
            outputs=features[1],
            data=any(s.data for s in rest),
            others=tuple(self.leaves[n].path for n in sorted(others)),
            loops=tuple(
                UseLoop(x.name, x.length, _in_loop(v, depth)) for depth, x in enumerate(place.loops)
            ),
            sometimes=states[i].plain or len(states[i].views) > 1,
        )
        return key

    def _words(self, state: Value) -> str:
        if state.views:
            return " or ".join(sorted({self.leaves[v.leaf].path for v in state.views}))
        return "data" if state.data else "of parameters" if state.leaves else "constant"


def _in_loop(v: View, depth: int) -> str:
    return "sliced" if depth in v.sliced else "indexed" if depth in v.indexed else "shared"


_LAST = 1 << 62  # after every equation


def _mixed(states: Iterable[Value]) -> Value:
    """What depends on several values and is none of them."""
    states = list(states)
    return Value(
        data=any(s.data for s in states),
        leaves=frozenset().union(*(s.leaves for s in states)),
        uses=frozenset().union(*(s.uses for s in states)),
        changes=frozenset().union(*(s.changes for s in states)),
    )


def _kind(eqn: _compat.Equation, i: int) -> str:
    name = eqn.primitive.name
    if name == "dot_general":
        return "dense"
    if name == "conv_general_dilated":
        return "convolution"
    if name in ("gather", "dynamic_slice"):
        return "gather" if i == 0 else "other"
    return "elementwise" if name in _ELEMENTWISE else "other"


def _dense_axes(eqn: _compat.Equation, i: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    contracting, batch = eqn.params["dimension_numbers"]
    return tuple(contracting[i]), tuple(batch[i])


def _features(eqn: _compat.Equation, i: int, kind: str, v: View) -> tuple[Any, Any]:
    """The axes of the leaf that stand for input and for output features."""
    if kind == "dense":
        sums, batch = _dense_axes(eqn, i)
        free = (a for n, a in enumerate(v.axes) if n not in sums and n not in batch)
        return tuple(v.axes[n] for n in sums), tuple(free)
    if kind == "convolution" and i == 1:
        out, inner, *_ = eqn.params["dimension_numbers"].rhs_spec
        return (v.axes[inner],), (v.axes[out],)
    if kind == "gather":
        sizes = eqn.params["slice_sizes"]
        full = [n == m for n, m in zip(sizes, _compat.shape(eqn.invars[0]), strict=True)]
        looked_up = tuple(a for a, whole in zip(v.axes, full) if not whole)
        return looked_up, tuple(a for a, whole in zip(v.axes, full) if whole)
    return (), ()
