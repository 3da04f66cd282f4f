"""What a perfect model of the concept language predicts."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from activjax.data.languages._language import blank_impossible

if TYPE_CHECKING:
    from activjax.data.languages._concept_world import World


def table(words: tuple[np.ndarray, list[Fraction]], vocab: int) -> np.ndarray:
    """`[rows, vocab]` probabilities of words given as ids by row and their shares."""
    ids, shares = words
    out = np.zeros((len(ids), vocab))
    np.add.at(out, (np.arange(len(ids))[:, None], ids), np.array([float(s) for s in shares]))
    return out


def next_distribution(language: World, tokens: np.ndarray) -> np.ndarray:
    """`[n, length, vocab]`; see `Concepts.next_distribution`."""
    n, length = tokens.shape
    if length > language.length:
        raise ValueError(f"tokens: expected at most {language.length} a row, got {length}")
    out = np.zeros((n, length, language.vocab))
    if n and length:
        first = tokens[:, min(1, length - 1)]
        special = {name: i for i, name in enumerate(language.tokens)}
        tell = first == special["tell"]
        prose = np.isin(first, language.category_ids)
        out[tell] = _tell(language, tokens[tell], special)
        out[prose] = _prose(language, tokens[prose], special)
        text = ~tell & ~prose
        out[text] = _text(language, tokens[text], special)
        out[:, 0] = _text(language, tokens[:1, :1], special)[0, 0]
        blank_impossible(out, tokens, tokens[:, :1] == language.bos)
    return out.astype(np.float32)


def _tell(language: World, tokens: np.ndarray, special: dict[str, int]) -> np.ndarray:
    out = np.zeros((*tokens.shape, language.vocab))
    words = table(language.answer_words, language.vocab)
    concept = np.zeros(len(tokens), np.int64)
    for t in range(1, tokens.shape[1]):
        if t == 1:
            out[:, t, special["about"]] = 1
        elif t == 2:
            out[:, t, language.name_ids] = 1 / language.concepts
        elif t == 3:
            out[:, t, special[":"]] = 1
            concept = np.clip(tokens[:, t] - language.name_ids[0], 0, language.concepts - 1)
        elif t < language.length - 2:
            out[:, t] = words[concept]
        else:
            out[:, t, language.eos if t == language.length - 2 else language.pad] = 1
    return out


def _prose(language: World, tokens: np.ndarray, special: dict[str, int]) -> np.ndarray:
    out = np.zeros((*tokens.shape, language.vocab))
    category = tokens[:, min(1, tokens.shape[1] - 1)] - language.category_ids[0]
    words = table(language.prose_words, language.vocab)[category]
    ends = {language.length - 3: special["."], language.length - 2: language.eos}
    for t in range(1, tokens.shape[1]):
        if t < language.length - 3:
            out[:, t] = words
        else:
            out[:, t, ends.get(t, language.pad)] = 1
    return out


def _text(language: World, tokens: np.ndarray, special: dict[str, int]) -> np.ndarray:
    """Documents that begin with a text; at the first position, all."""
    out = np.zeros((*tokens.shape, language.vocab))
    n, c, v = len(tokens), language.concepts, language.vocab
    shares = [float(s) for s in language.shares]
    tell, topic, prose, detect = (s / sum(shares) for s in shares)
    on = float(language.on_topic)
    # Sources of a text: each concept with "topic", each with "detect", fillers with "detect".
    fillers = np.zeros((1, v))
    fillers[0, language.filler_ids] = 1 / language.fillers
    words = [table(language.text_words(name), v) for name in (False, True)]
    words = np.concatenate([*words, fillers])
    weight = np.repeat([topic / c, detect * on / c, detect * (1 - on)], [c, c, 1])
    joint = np.tile(weight, (n, 1))
    low, high = language.text
    count = np.zeros((2 * c + 1, 10))  # P(the text has m words)
    count[:-1, low : high + 1] = 1 / (high - low + 1)
    count[-1, :9] = 1 / 9
    more = np.cumsum(count[:, ::-1], axis=1)[:, ::-1]
    more = np.concatenate([more[:, 1:], np.zeros((2 * c + 1, 1))], axis=1)  # P(more than m words)

    pairs = [("topic", "?"), ("detect", "thought"), ("thought", "?"), ("?", ":"), ("NO", "<eos>")]
    following = {special[a]: special[b] for a, b in pairs}
    following |= {language.eos: language.pad, language.pad: language.pad}
    following |= {int(name): language.eos for name in language.name_ids}  # an answer
    reading = np.ones(n, bool)  # still in the text
    asked = np.zeros(n, bool)  # whether it was about the topic
    ended = np.zeros((n, 2 * c + 1))
    for t in range(tokens.shape[1]):
        token = tokens[:, t]
        if t:
            is_word = words[:, token].any(axis=0)
            reading &= is_word
            joint = np.where(reading[:, None], joint * words[:, token].T, joint)
        if t < 9:
            p = (joint * more[:, t]) @ words
            stop = joint * count[:, t]
            p[:, special["."] if t else special["detect"]] += stop.sum(1)
            if t == 0:
                p[:, special["tell"]] += tell
                p[:, language.category_ids] += prose / language.categories
            with np.errstate(invalid="ignore"):
                out[reading, t] = (p / p.sum(1, keepdims=True))[reading]
            ended[reading] = stop[reading]
        done = ~reading
        for a, b in following.items():
            out[done & (token == a), t, b] = 1
        asked |= token == special["topic"]
        full_stop = done & (token == special["."])
        with np.errstate(invalid="ignore"):
            source = ended / ended.sum(1, keepdims=True)
        about = source[:, :c].sum(1)
        out[full_stop, t, special["topic"]] = about[full_stop]
        out[full_stop, t, special["detect"]] = 1 - about[full_stop]
        colon = done & (token == special[":"])
        out[colon & ~asked, t, language.no] = 1
        with np.errstate(invalid="ignore"):
            name = source[:, :c] / about[:, None]
        rows = np.flatnonzero(colon & asked)
        out[rows[:, None], t, language.name_ids] = name[rows]
    return out
