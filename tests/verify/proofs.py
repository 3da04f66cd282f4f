"""Small problems and proofs about them, built by hand."""

import dataclasses
import itertools
from fractions import Fraction

import jax
import numpy as np

from activjax.verify import Clause, Leaf, Literal, Problem, Property, Tree, above

GAP = (
    np.array([[1, 0, 1], [0, 1, 1]], np.float32),
    np.array([[1], [1], [-1]], np.float32),
)


def two_layers(params, x):
    """One hidden layer without biases."""
    return jax.nn.relu(x @ params[0]) @ params[1]


def gap(bound):
    """Unsafe where relu(a) + relu(b) - relu(a + b) <= bound, on [-1, 1]^2; its minimum is 0."""
    box = -np.ones(2), np.ones(2)
    return Problem.from_model(two_layers, GAP, box, above([1], Fraction(bound)))


def mlp(params, x):
    """Any number of layers."""
    *hidden, (w, b) = params
    for v, c in hidden:
        x = jax.nn.relu(x @ v + c)
    return x @ w + b


def random_mlp(sizes, seed):
    """Its parameters."""
    rng = np.random.default_rng(seed)
    shapes = itertools.pairwise(sizes)
    return [((rng.normal(size=s) / np.sqrt(s[0])).astype(np.float32),
             (0.3 * rng.normal(size=s[1])).astype(np.float32)) for s in shapes]  # fmt: skip


def clauses(*rows):
    """A property from `(weights, bound)` of each clause's rows."""
    made = tuple(
        Clause(
            tuple(tuple(Fraction(float(v)) for v in w) for w, _ in clause),
            tuple(Fraction(b) for _, b in clause),
        )
        for clause in rows
    )
    return Property("as given", lambda n: made)


def full_tree(units):
    """The literals of all sign patterns of some units, as a tree."""
    for bits in itertools.product((False, True), repeat=len(units)):
        yield tuple(Literal("relu", u, s) for u, s in zip(units, bits, strict=True))


def proof(problem, units, paths=((),), assumed=()):
    """A tree with the same leaves in every case."""
    leaves = tuple(Leaf(tuple(p)) for p in paths)
    return Tree(
        problem.inputs, problem.outputs, units, problem.cases, (leaves,) * len(problem.cases),
        tuple(assumed), problem.digest,
    )  # fmt: skip


def change(tree, k, **changes):
    """With leaf k of the first case changed."""
    (leaves, *others) = tree.leaves
    leaf = dataclasses.replace(leaves[k], **changes)
    return dataclasses.replace(tree, leaves=((*leaves[:k], leaf, *leaves[k + 1 :]), *others))


def least_over(params, lower, upper, row):
    """The least `row @ y` of an MLP over a box, by a linear program for each sign pattern."""
    from scipy.optimize import linprog

    *hidden, (w, b) = [(np.asarray(v, float), np.asarray(c, float)) for v, c in params]
    found = np.inf
    sizes = [len(c) for _, c in hidden]
    for bits in itertools.product((0, 1), repeat=sum(sizes)):
        matrix, bias, at = np.eye(len(lower)), np.zeros(len(lower)), 0
        rows, sides = [], []
        for (v, c), n in zip(hidden, sizes, strict=True):
            sign = np.array(bits[at : at + n])
            at += n
            z, zb = matrix @ v, bias @ v + c
            rows.append(((1 - 2 * sign) * z).T)
            sides.append((2 * sign - 1) * zb)
            matrix, bias = z * sign, zb * sign
        goal = matrix @ w @ row
        ends = np.stack([lower, upper], 1)
        answer = linprog(goal, np.concatenate(rows), np.concatenate(sides), bounds=ends)
        if answer.status == 0:
            found = min(found, answer.fun + (bias @ w + b) @ row)
    return found
