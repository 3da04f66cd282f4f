"""Small indexes with known contents, for the tests of the index, of `find` and of the viewer."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np

from activjax.codebooks._index import Layout, write_index

LETTERS = [bytes([97 + i]) for i in range(20)]
LAYOUT = {"blocks/mlp/out": Layout((2,), 3, 50, 4), "embed": Layout((), 1, 7, 1)}


def batch(rng, examples=4, seq=6, layout=None, vocabulary=20, off=False):
    """Random tokens, choices without repeats (some -1 if `off`) and a mask with padding."""
    tokens = rng.integers(0, vocabulary, (examples, seq)).astype(np.int32)
    traces = {}
    for site, own in (layout or LAYOUT).items():
        shape = (*own.loops, examples, seq, own.groups)
        ids = rng.random((*shape, own.codes)).argsort(-1)[..., : own.k].astype(np.int32)
        if off:
            ids = np.where(rng.random((*shape, 1)) < 0.3, -1, ids)
        cosines = np.sort(rng.random(ids.shape, np.float32), -1)[..., ::-1]
        traces[site] = ids, cosines
    mask = rng.random((examples, seq)) > 0.3
    return tokens, traces, mask


def write(path, batches, layout=None, vocabulary=LETTERS, **options):
    """An index of some batches."""
    return write_index(path, layout or LAYOUT, batches, vocabulary=vocabulary, **options)


def one_site(path, texts, ids, codes, vocabulary=None, **options):
    """An index of texts of single bytes, for which `ids(text)` gives a code for each byte."""
    pieces = vocabulary or [bytes([i]) for i in range(256)]
    length = max(map(len, texts))
    tokens = np.zeros((len(texts), length), np.int32)
    chosen = np.zeros((len(texts), length, 1, 1), np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = list(text)
        chosen[row, : len(text), 0, 0] = ids(text)
        mask[row, : len(text)] = True
    layout = {"mlp": Layout((), 1, codes, 1)}
    traces = {"mlp": (chosen, np.ones(chosen.shape, np.float32))}
    return write_index(path, layout, [(tokens, traces, mask)], vocabulary=pieces, **options)


HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>&<!--"
VOCABULARY = [b"a", b" ", b"\n", b"\t", b"\xe2", b"\x82\xac", HOSTILE.encode(), b"\x00\x1b[31m",
              "\u202eb\u200b".encode(), b"\xff", "é".encode(), b""]  # fmt: skip


def small(path, vocabulary=VOCABULARY, **options):
    rng = np.random.default_rng(0)
    return write(
        path, [batch(rng, 9, 7, vocabulary=12, off=True)], vocabulary=vocabulary, **options
    )


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def browse(tmp_path, file, address="", *options, size="1280,800"):
    """Opens a page in Chromium until nothing is left to do: (elements, what its console said)."""
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={profile}", f"--window-size={size}",
         "--enable-logging=stderr", "--v=0", *(options or ("--virtual-time-budget=20000",)),
         "--dump-dom", f"{file.as_uri()}#{address}"],
        capture_output=True, encoding="utf-8", errors="replace", timeout=120, check=True,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Elements(done.stdout), said


def probed(page, script):
    """A copy of a page in which one more script runs, as a module at its end."""
    source = page.read_text("utf-8")
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    copy = page.with_name(f"probed-{page.name}")
    copy.write_text(source.replace("</body>", f'<script type="module">{script}</script></body>'))
    return copy


class Elements(HTMLParser):
    """A parsed page: every element as (tag, attributes, text), in their order."""

    VOID = ("img", "meta", "br", "input", "link")

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.source, self.all, self._open = source, [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.all.append(element)
        if tag not in self.VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, tag

    def handle_data(self, data):
        for element in self._open:
            element[2].append(data)

    def find(self, tag=None, **attributes):
        """(attributes, text) of the elements of a tag and with these attributes."""

        def fits(given):
            return all(
                value in (given.get("class") or "").split()
                if key == "class_"
                else given.get(key) == value
                for key, value in attributes.items()
            )

        return [
            (given, "".join(text))
            for name, given, text in self.all
            if tag in (None, name) and fits(given)
        ]

    def rows(self, label):
        """Texts of the cells of a table in the region of this name."""
        region = self.source[self.source.index(f'aria-label="{label}"') :]
        part = Elements("<table>" + region[region.index("<tbody") : region.index("</tbody>") + 8]
                        + "</table>")  # fmt: skip
        cells = [(name, "".join(text)) for name, _, text in part.all if name in ("tr", "td", "th")]
        rows = []
        for name, text in cells:
            if name == "tr":
                rows.append([])
            else:
                rows[-1].append(text)
        return rows
