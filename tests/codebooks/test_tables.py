"""Tables of an index, against arrays of what was chosen."""

import numpy as np
import pytest

from activjax.codebooks._index import (
    coactivation,
    cooccurrence,
    token_counts,
    token_table,
    topic_coverage,
)
from tests.codebooks.pages import LETTERS, batch, write


def test_tables(tmp_path):
    rng = np.random.default_rng(5)
    index = write(tmp_path / "c", [batch(rng, 6, 12, off=True)])
    book, other = index.codebook("blocks/mlp/out", (0,), 1), index.codebook("embed")
    has = np.stack([(book.chosen(slice(None)) == c).any(1) for c in range(len(book))], 1)
    had = np.stack([(other.chosen(slice(None)) == c).any(1) for c in range(len(other))], 1)
    n = len(index.tokens)
    assert (coactivation(book).toarray() == has.T.astype(int) @ has).all()
    assert (coactivation(book, other).toarray() == has.T.astype(int) @ had).all()
    one_hot = np.eye(20, dtype=int)[index.tokens]
    assert (token_counts(index, book).toarray() == one_hot.T @ has).all()

    code = int(has.sum(0).argmax())
    rows = token_table(index, book.code(code), top=3)
    counts = one_hot.T @ has[:, code]
    assert [r.count for r in rows] == sorted(counts.tolist(), reverse=True)[:3]
    for row in rows:
        assert row.piece == LETTERS[row.token]
        assert row.lift == pytest.approx(
            (row.count / has[:, code].sum()) / (one_hot[:, row.token].sum() / n)
        )
    rows = cooccurrence(index, book.code(code), top=500, least=2)
    assert [r.lift for r in rows] == sorted((r.lift for r in rows), reverse=True)
    expected = 0
    for b in index.codebooks():
        member = np.stack([(b.chosen(slice(None)) == c).any(1) for c in range(len(b))], 1)
        both = (member & has[:, [code]]).sum(0)
        mine = {r.code.code: r for r in rows if r.code[:3] == (b.site, b.loop, b.group)}
        own = b.site == book.site and b.loop == book.loop and b.group == book.group
        wanted = {c for c in np.flatnonzero(both >= 2).tolist() if not (own and c == code)}
        assert set(mine) == wanted
        expected += len(wanted)
        for c, row in mine.items():
            assert row.both == both[c]
            assert row.lift == pytest.approx(both[c] * n / has[:, code].sum() / member[:, c].sum())
    assert len(rows) == expected > 5

    coverage = topic_coverage(index, book, share=0.2, least=3)
    lengths = np.diff(index.starts)
    shares = np.array([
        has[a:b].mean(0) for a, b in zip(index.starts[:-1], index.starts[1:]) if b - a >= 3
    ])  # fmt: skip
    assert len(shares) <= len(lengths)
    np.testing.assert_allclose(coverage.most, shares.max(0), rtol=1e-15)
    assert coverage.examples.tolist() == (shares > 0.2).sum(0).tolist()
    assert coverage.active.tolist() == (shares > 0).sum(0).tolist()
    assert set(coverage.candidates.tolist()) == set(np.flatnonzero((shares > 0.2).any(0)).tolist())
