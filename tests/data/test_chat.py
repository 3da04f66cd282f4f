import json
import pickle
import re
import sys

import numpy as np
import pytest

from activjax import data

TEXTS = [f"Hello number {i}, how are you? Fine, and {i} more.\n" for i in range(60)]
USER, ASSISTANT = {"role": "user", "content": "Hi é"}, {"role": "assistant", "content": " a "}

# in the style of published ones
CHATML = """{% for m in messages %}{% if loop.first and m.role != 'system' %}
{{- '<|im_start|>system\nBe good.<|im_end|>\n' }}{% endif %}
{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%d %b %Y') %}
{%- endif %}
{{- 'Today: ' + date_string + '\\n' }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=1) }}
        {{- '\\n' }}
    {%- endfor %}
{%- endif %}
{%- for m in messages %}
    {{- '<|head|>' + m['role'] + '<|/head|>\\n\\n' + m['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{% generation %}"
    "{{ m.content + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)
GEMMA = """{{ bos_token }}
{%- set ns = namespace(role='') -%}
{%- for m in messages -%}
    {%- if m.skip -%}{%- continue -%}{%- endif -%}
    {%- set ns.role = 'model' if m.role == 'assistant' else m.role -%}
    {{ '<turn>' + ns.role + '\n' + m['content'] | trim + '</turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<turn>model\n' }}
{%- endif -%}
"""
PLAIN = """{% for m in messages %}
    {% if m.role == 'user' %}
  U: {{ m | tojson }} {{ m.missing }}|
    {% endif %}
    {# nothing #}
{% endfor %}
{{ pad_token }}{{ eos_token }}
"""
CASES = {
    "chatml": (
        CHATML,
        "<|im_start|>system\nBe good.<|im_end|>\n<|im_start|>user\nHi é<|im_end|>\n"
        "<|im_start|>assistant\n a <|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama3": (
        LLAMA3,
        '<s>Today: 1 Jan\n{\n "name": "é"\n}\n<|head|>user<|/head|>\n\nHi é<|eot|>'
        "<|head|>assistant<|/head|>\n\na<|eot|><|head|>assistant<|/head|>\n\n",
    ),
    "mistral": (MISTRAL, "<s>[INST] Hi é [/INST] a </s>"),
    "gemma": (GEMMA, "<s><turn>user\nHi é</turn>\n<turn>model\na</turn>\n<turn>model\n"),
    "plain": (PLAIN, '  U: {"role": "user", "content": "Hi é"} |\n</s>'),
}
VALUES = {"tools": [{"name": "é"}], "date_string": "1 Jan"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tokenizer.json with a beginning and an end, put around a text."""
    import tokenizers

    path = tmp_path_factory.mktemp("trained") / "tokenizer.json"
    data.train_bpe(TEXTS, 280, path=path)
    inner = tokenizers.Tokenizer.from_file(str(path))
    inner.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>"])
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
    )
    return inner.to_str()


@pytest.fixture
def load(trained, tmp_path):
    def load(template=None, *, names=None, **files):
        (tmp_path / "tokenizer.json").write_text(trained, encoding="utf-8")
        config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, **(names or {})}
        config |= {} if template is None else {"chat_template": template}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path = path.with_suffix(".jinja")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return data.load_tokenizer(tmp_path)

    return load


@pytest.mark.parametrize("family", CASES)
def test_templates_in_the_style_of_published_ones(load, family):
    template, want = CASES[family]
    assert load(template).chat([USER, ASSISTANT], **VALUES) == want


def test_what_a_template_is_given(load):
    tokenizer = load("{{ messages | tojson }}{{ add_generation_prompt }}{{ tools }}{{ more.x[1] }}")
    message = {"role": "user", "content": None, "calls": (1, True, 0.5, None, "<é>")}
    given = json.dumps([{"role": "user", "calls": [1, True, 0.5, None, "<é>"]}], ensure_ascii=False)
    got = tokenizer.chat([message], more={"x": [1, 2]}, add_generation_prompt=False)
    assert got == f"{given}FalseNone2"
    assert message["content"] is None
    tokenizer = load("{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ tools }}{{ dict(a=1).a }}")
    assert tokenizer.chat([USER], tools=[], bos_token="B") == "B</s>[]1"


def test_the_date_is_todays(load):
    text = load("{{ strftime_now('%Y-%m-%d') }}").chat([USER])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", text)


def test_a_template_of_several(load):
    both = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    tokenizer = load(both)
    assert tokenizer.chat([USER]) == tokenizer.chat([USER], tools=[]) == "d"
    assert tokenizer.chat([USER], tools=[{}]) == tokenizer.chat([USER], template="tool_use") == "t"
    assert tokenizer.chat([USER], tools=[{}], template="default") == "d"
    with pytest.raises(ValueError, match=r"no template 'defalt'.*did you mean 'default'"):
        tokenizer.chat([USER], template="defalt")
    with pytest.raises(ValueError, match="no template 'default', it has rag"):
        load([{"name": "rag", "template": ""}]).chat([USER])
    assert load("c", chat_template="file").chat([USER]) == "file"
    more = load("c", chat_template="file", additional_chat_templates__rag="r")
    assert (more.chat([USER]), more.chat([USER], template="rag")) == ("file", "r")


def test_without_a_template(load):
    for tokenizer in (load(), data.byte_tokenizer(), data.train_bpe(TEXTS, 260)):
        with pytest.raises(ValueError, match="has no chat template"):
            tokenizer.chat([USER])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a\n\n{{ raise_exception('no system') }}", "line 3: no system"),
        ("a\n{% if %}", "line 2: Expected an expression"),
        ("{{ 1 }}\n{{ messages[0].nothing.more }}", "line 2: .*no attribute 'nothing'"),
        ("\n\n\n{{ 1 / 0 }}", "line 4: division by zero"),
        ("{% include 'x' %}", "line 1: no loader"),
        ("{{ ''.__class__.__mro__ }}", "line 1: access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "line 1: access to attribute 'append'"),
        ("{% set _ = messages[0].update({'a': 1}) %}", "line 1: access to attribute 'update'"),
        ("{{ raise_exception.__globals__.x }}", "line 1: access to attribute '__globals__'"),
        ("{{ lipsum() }}", "line 1: 'lipsum' is undefined"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "no attribute may be '__class__'"),
        ("{{ namespace({'_x': 1}) }}", "no attribute may be '_x'"),
        ("{% for i in range(999999999) %}{% endfor %}", "Range too big"),
        (3, "expected a string, got int"),
        ([{"template": None}], "expected a string, got NoneType"),
    ],
)
def test_templates_that_fail(load, template, said):
    tokenizer = load(template)
    with pytest.raises(ValueError, match=f"template 'default'.*{said}"):
        tokenizer.chat([USER])
    assert tokenizer.encode("Hello").size  # it is the template alone that is no good


@pytest.mark.parametrize(
    ("messages", "more", "said"),
    [
        ([], {}, "at least one message"),
        ("Hi", {}, "expected a list such as .*got str"),
        (USER, {}, "expected a list such as .*got dict"),
        ([USER, "Hi"], {}, r"messages\[1\]: expected a dict with a 'role', got 'Hi'"),
        ([{"content": "x"}], {}, "a dict with a 'role'"),
        ([{"role": "user", "content": [np.ones(1)]}], {}, r"\['content'\]\[0\]: .*got ndarray"),
        ([USER], {"tools": {"name": "f"}}, "tools: expected a list of JSON schemas"),
        ([USER], {"tools": [print]}, "tools: expected a list of JSON schemas"),
        ([USER], {"helper": print}, "helper: expected text.*got builtin_function"),
    ],
)
def test_what_is_no_conversation(load, messages, more, said):
    with pytest.raises(ValueError, match=said):
        load("x").chat(messages, **more)


def test_ids_of_a_chat(load):
    tokenizer = load("{{ bos_token }}" + CHATML)
    ids = tokenizer.chat_tokens([USER], add_generation_prompt=False)
    assert ids.dtype == np.int32
    starts, begin = tokenizer.special["<|im_start|>"], tokenizer.special["<s>"]
    assert tokenizer.begin == (begin,)
    assert (ids == begin).sum() == 1
    assert ids[0] == begin
    assert (ids == starts).sum() == 2
    text = tokenizer.chat([USER], add_generation_prompt=False)
    assert ids.tolist() == tokenizer.encode(text, parse_special=True).tolist()
    assert starts not in tokenizer.encode(text)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.chat([USER]) == tokenizer.chat([USER])
    assert again.chat_tokens([USER]).tolist() == tokenizer.chat_tokens([USER]).tolist()
    at = data.find(tokenizer, text, "Hi é", parse_special=True)
    assert tokenizer.decode(ids[at]) == "Hi é"


def test_without_jinja(load, monkeypatch):
    from activjax.data import _chat

    tokenizer = load("x")
    _chat._environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"pip install 'activjax\[text\]'"):
        tokenizer.chat([USER])
    monkeypatch.undo()
    monkeypatch.setattr("jinja2.__version__", "3.1.5")
    with pytest.raises(ImportError, match=r"jinja2 3\.1\.6 or later"):
        tokenizer.chat([USER])
