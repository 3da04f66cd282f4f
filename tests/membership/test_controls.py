import numpy as np
import pytest

from activjax import stats
from activjax.membership._attack import fit_attack
from activjax.membership._controls import blind, blind_features, permuted
from activjax.membership._duplicates import check_overlap, duplicates, near_duplicates


def test_bag_of_bytes_is_frequencies_and_length():
    F = blind_features(["aab", b"\x00\xff", ""])
    assert F.shape == (3, 257)
    assert F[0, ord("a")] == 2 / 3
    assert F[0, ord("b")] == 1 / 3
    assert F[1, 0] == F[1, 255] == 0.5
    assert F[:, :256].sum(1).tolist() == [1, 1, 0]
    assert F[:, 256].tolist() == [3, 2, 0]
    assert blind_features(["é"])[0, [0xC3, 0xA9, 256]].tolist() == [0.5, 0.5, 2]


def test_pixels_are_themselves():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(blind_features(x), x.reshape(2, 12))


@pytest.mark.parametrize(
    ("x", "match"),
    [
        ("text", "one text"),
        ([], "no examples"),
        (["a", 3], "example 1 is int"),
        (np.zeros(3), r"shape \[3\]"),
        (np.array(["a", "b"]), "list of str"),
    ],
)
def test_blind_features_refuse(x, match):
    with pytest.raises(ValueError, match=match):
        blind_features(x)


def texts(n, letters, seed):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(letters), 20)) for _ in range(n)]


def test_a_shift_between_members_and_others_is_flagged():
    member = np.arange(400) % 2 == 0
    x = np.array(texts(400, "abcd", 0), object)
    x[member] = texts(200, "abcde", 1)  # only members have an e
    x = x.tolist()
    found = blind(x[:200], member[:200], x[200:], member[200:])
    assert found.flagged
    assert found.auc.value > 0.9
    assert "measures that difference" in str(found)


def test_a_random_split_is_not():
    member = np.random.default_rng(2).random(400) < 0.5
    x = texts(400, "abcd", 0)
    found = blind(x[:200], member[:200], x[200:], member[200:])
    assert not found.flagged
    assert found.auc.low < 0.5 < found.auc.high
    pixels = np.random.default_rng(3).normal(size=(400, 4, 4))
    assert not blind(pixels[:200], member[:200], pixels[200:], member[200:]).flagged
    assert "no sign" in str(found)


def test_constant_data_have_no_blind_signal():
    member = np.arange(400) % 2 == 0
    found = blind(["same"] * 200, member[:200], ["same"] * 200, member[200:])
    assert found.auc.value == 0.5
    assert not found.flagged


def features(n=300, seed=0):
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    return rng.normal(size=(n, 3)) + 1.5 * member[:, None], member


def test_permuted_membership_teaches_nothing_however_strong_the_features():
    F, member = features()
    found = permuted(F[:150], member[:150], F[150:], member[150:], draws=40)
    assert found.aucs.shape == (40,)
    assert len(np.unique(found.aucs)) > 20
    assert found.low < 0.5 < found.high
    np.testing.assert_allclose(found.mean, found.aucs.mean())
    assert np.ptp(found.aucs) > 0.1  # one draw alone would say anything
    again = permuted(F[:150], member[:150], F[150:], member[150:], draws=40)
    np.testing.assert_array_equal(again.aucs, found.aucs)
    other = permuted(F[:150], member[:150], F[150:], member[150:], draws=40, seed=1)
    assert (other.aucs != found.aucs).any()
    assert "40 permutations" in str(found)


def test_permuted_aucs_are_those_of_attacks_on_shuffled_labels():
    F, member = features()
    found = permuted(F[:150], member[:150], F[150:], member[150:], draws=40, seed=5)
    rng = np.random.default_rng(5)
    truth = member[150:]
    for auc in found.aucs[:5]:
        attack = fit_attack(F[:150], rng.permutation(member[:150]))
        score = attack.score(F[150:])
        # two programs with a float32 fit: close pairs may change places
        close = (np.abs(score[truth][:, None] - score[~truth]) < 1e-5).mean()
        assert close < 0.01
        assert abs(auc - stats.auroc(score, truth).value) <= close


def test_permuted_refuses():
    F, member = features(40)
    with pytest.raises(ValueError, match="draws is 19, expected at least 20"):
        permuted(F[:20], member[:20], F[20:], member[20:], draws=19)
    with pytest.raises(ValueError, match=r"expected \[n, 3\]"):
        permuted(F[:20], member[:20], F[20:, :2], member[20:])
    F[30, 1] = np.nan
    with pytest.raises(ValueError, match="'feature 1' is nan in row 10"):
        permuted(F[:20], member[:20], F[20:], member[20:])


def test_duplicates_of_arrays_are_rows_that_are_equal():
    x = np.array([[[1.0, 2]], [[0, 0]], [[1, 2]], [[-0.0, 0]], [[2, 1]]])
    assert duplicates(x).tolist() == [0, 1, 0, 1, 2]


def test_duplicates_of_texts_are_equal_but_for_white_space():
    x = ["a  b", "b a", b"a b\n", "\ta\r\nb ", "A b", "ab"]
    assert duplicates(x).tolist() == [0, 1, 0, 0, 2, 3]


def test_duplicates_join_given_groups():
    x = ["a", "b", "c", "b", "d"]
    # 0 and 1 are of one document, 1 equals 3, 3 and 4 are of another: all one
    assert duplicates(x, groups=np.array([7, 7, 8, 9, 9])).tolist() == [0, 0, 1, 0, 0]
    assert duplicates(x, groups=np.arange(5)).tolist() == [0, 1, 2, 1, 3]
    with pytest.raises(ValueError, match=r"groups have shape \[2\]"):
        duplicates(x, groups=[0, 1])


def test_overlap_names_the_first_pair():
    groups = np.array([0, 1, 0, 2, 1])
    check_overlap([0, 1], [3], groups)
    check_overlap([0, 2], [1, 3, 4], groups)
    with pytest.raises(ValueError, match="test example 2 .* group 0, .* example 0 .*2 such"):
        check_overlap([0, 1], [3, 2, 4], groups)
    with pytest.raises(ValueError, match="example 1 .* both"):
        check_overlap([0, 1], [1, 3], np.arange(5))
    with pytest.raises(ValueError, match="row 5"):
        check_overlap([0, 5], [1], groups)


def jaccard(a, b, size=8):
    one, other = ({t[i : i + size] for i in range(max(len(t) - size + 1, 1))} for t in (a, b))
    return len(one & other) / len(one | other)


def test_near_duplicates_are_joined_by_the_jaccard_of_their_shingles():
    rng = np.random.default_rng(0)
    base = ["".join(rng.choice(list("abcdefgh"), 60)) for _ in range(12)]
    cut = [base[0][:58], base[1][10:], base[2][:30] + base[3][30:], "zz" + base[0]]
    x = base + cut
    for threshold in (0.3, 0.7, 0.95):
        wanted = np.arange(len(x))
        for i in range(len(x)):
            for j in range(i):
                if jaccard(x[i], x[j]) >= threshold:
                    wanted[wanted == wanted[i]] = wanted[j]
        same = near_duplicates(x, threshold=threshold)
        np.testing.assert_array_equal(same[:, None] == same, wanted[:, None] == wanted)
    assert len(set(near_duplicates(x, threshold=0.7).tolist())) == len(x) - 3


def test_near_duplicates_of_short_texts():
    assert near_duplicates(["abc", "abc", "abd", "", b""]).tolist() == [0, 0, 1, 2, 2]
    assert near_duplicates(["a\n b", "a b"]).tolist() == [0, 0]
    with pytest.raises(ValueError, match="threshold is 0"):
        near_duplicates(["a"], threshold=0)
    with pytest.raises(ValueError, match="size is 0"):
        near_duplicates(["a"], size=0)
