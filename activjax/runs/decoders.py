"""Which decoder an experiment is about: a piece of its `Config`.

    from activjax.runs import decoders

    model: str | decoders.Pretrained | decoders.Saved = "demo"

takes, in a file or as an override,

    model: {kind: pretrained, path: checkpoints/pythia-70m}    # a published model
    model: {kind: saved, path: runs/lm_stdlib/1f.../model}     # what training.save_model wrote
    model: checkpoints/pythia-70m                              # a folder of either format

and `decoders.of(config.model)` says which of both it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from activjax.runs.errors import ConfigError
from activjax.runs.fields import static

if TYPE_CHECKING:
    from activjax.models import Loaded

_PUBLISHED = "config.json"
#: For the help of a field.
HELP = "a folder, {kind: pretrained, path: ...}, {kind: saved, path: ...}"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A published model: `models.load`.

    Attributes:
      path: its folder, relative to the working directory, or a name of the hub.
      revision: branch, tag or commit, for a name of the hub.
      dtype: of activations; None for that of the parameters.
      param_dtype: of parameters; None for that of the files, or what the experiment needs.
      kind: "pretrained".
    """

    path: str = static(help="a folder with config.json, or a name of the hub")
    revision: str | None = static(None, help="branch, tag or commit, for a name of the hub")
    dtype: Literal["float32", "bfloat16", "float16"] | None = static(
        None, help="of activations; null for that of the parameters"
    )
    param_dtype: Literal["float32", "bfloat16", "float16"] | None = static(
        None, help="null for that of the files, or what is needed"
    )
    kind: Literal["pretrained"] = "pretrained"

    def load(self, *, param_dtype: str | None = None) -> Loaded:
        """The decoder, its parameters and its tokenizer.

        Args:
          param_dtype: what to take where the config says nothing.

        Raises:
          ConfigError: no such folder, files that cannot be read or used, an encoder, no tokenizer
            or one that has ids which the model has not.
        """
        with _named():
            found = self._loaded(param_dtype=self.param_dtype or param_dtype)
            return _complete(self.path, found)

    def abstract(self) -> Loaded:
        """The same with `jax.ShapeDtypeStruct`s for parameters; `config.json` is all it needs.

        The tokenizer is None where its files are not there.

        Raises:
          ConfigError: as `load`.
        """
        with _named():
            return self._loaded(param_dtype=self.param_dtype, abstract=True)

    def files(self) -> list[Path]:
        """What the model consists of, for `data_files`: a name of the hub is downloaded.

        Raises:
          ConfigError: no such folder, or not of a published model.
        """
        from activjax.data import tokenizer_files
        from activjax.models.published._where import folder_of

        with _named():
            folder = folder_of(self.path, self.revision)
            self._check(folder)
            weights = [*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
            return [folder / _PUBLISHED, *sorted(weights), *tokenizer_files(folder)]

    def _check(self, folder: Path) -> None:
        if folder.is_dir() and not (folder / _PUBLISHED).is_file():
            raise FileNotFoundError(f"{folder}: no {_PUBLISHED} there{_hint(folder)}")

    def _loaded(self, **asked: Any) -> Loaded:
        from activjax import models

        self._check(Path(self.path).expanduser())
        fields: dict[str, Any] = {} if self.dtype is None else {"dtype": self.dtype}
        found = models.load(self.path, revision=self.revision, **asked, **fields)
        if not isinstance(found.model, models.Decoder):
            raise ValueError(
                f"{self.path}: an {type(found.model).__name__.lower()}, expected a decoder: this "
                "experiment is about next tokens"
            )
        return found


@dataclasses.dataclass(frozen=True)
class Saved:
    """A decoder that `training.save_model` wrote.

    Attributes:
      path: its folder, relative to the working directory.
      kind: "saved".
    """

    path: str = static(help="a folder with model.json")
    kind: Literal["saved"] = "saved"

    def load(self, *, param_dtype: str | None = None) -> Loaded:
        """The decoder, its parameters and its tokenizer.

        Args:
          param_dtype: what parameters are turned into; None for what they are.

        Raises:
          ConfigError: no such folder, or a damaged one.
        """
        import jax

        from activjax import models, training

        with _named():
            found = _complete(self.path, training.load_model(self.path))
        config = found.model.config
        if param_dtype in (None, config.param_dtype):
            return found
        config = dataclasses.replace(config, param_dtype=param_dtype)
        params = jax.tree.map(lambda a: a.astype(param_dtype), found.params)
        return found._replace(model=models.decoder(config), params=params)

    def abstract(self) -> Loaded:
        """The same with `jax.ShapeDtypeStruct`s for parameters.

        Raises:
          ConfigError: as `load`.
        """
        from activjax import training

        with _named():
            return training.load_model(self.path, abstract=True)

    def files(self) -> list[Path]:
        """What the model consists of, for `data_files`.

        Raises:
          ConfigError: no such folder, or not of a saved model.
        """
        from activjax.data import tokenizer_files
        from activjax.training.model_folder import ABOUT, PARAMS

        folder = Path(self.path).expanduser()
        if not (folder / ABOUT).is_file():
            raise ConfigError(f"model: {folder}: no {ABOUT} there{_hint(folder)}")
        params = sorted(p for p in (folder / PARAMS).rglob("*") if p.is_file())
        return [folder / ABOUT, *params, *tokenizer_files(folder)]


def of(model: str | Pretrained | Saved) -> Pretrained | Saved:
    """The decoder that a config names; a text is a folder of either format.

    Raises:
      ConfigError: a text that names no such folder.
    """
    from activjax.training.model_folder import ABOUT

    if not isinstance(model, str):
        return model
    folder = Path(model).expanduser()
    found = [name for name in (ABOUT, _PUBLISHED) if (folder / name).is_file()]
    if len(found) == 1:
        return Saved(model) if found[0] == ABOUT else Pretrained(model)
    if found:
        raise ConfigError(
            f"model: {folder} has both {ABOUT} and {_PUBLISHED}; say which is meant: "
            f"{{kind: saved, path: {model}}} or {{kind: pretrained, path: {model}}}"
        )
    raise ConfigError(
        f"model: {folder}: no {ABOUT} there (of training.save_model) and no {_PUBLISHED} (of a "
        f"published model){_hint(folder)}; a name of the hub is {{kind: pretrained, path: {model}}}"
    )


def _hint(folder: Path) -> str:
    """Where else a model may be meant to be."""
    from activjax.training.model_folder import ABOUT

    kinds = {ABOUT: "saved", _PUBLISHED: "pretrained"}
    for name, kind in kinds.items():
        if (folder / name).is_file():
            return f", but {name}: write kind: {kind}"
    if not folder.is_dir():
        return " (no such folder)"
    for name in kinds:
        for path in sorted(folder.glob(f"*/{name}")):
            return f"; there is one in {path.parent}"
    return ""


def _complete(path: str, found: Loaded) -> Loaded:
    """What was loaded, if there is a tokenizer that fits."""
    from activjax.training.model_folder import check_vocabulary

    if found.tokenizer is None:
        raise ValueError(
            f"{path}: no tokenizer there (tokenizer.json, or vocab.json and merges.txt): put that "
            "of the model beside it"
        )
    check_vocabulary(path, found.tokenizer, found.model.config.vocab)
    return found


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What is wrong with a folder, as a problem of the config: without a traceback."""
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ConfigError(f"model: {error}") from error
