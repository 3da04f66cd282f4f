"""What a callable edit may ask about the place that it edits."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Array

from activjax.transforms._names import SiteError


@dataclass(frozen=True)
class Context:
    """What a callable edit may ask about the place it edits.

    Attributes:
      site: the site's name.
      loops: the traced index of each surrounding loop, by name.
      axes: names of the value's axes, or None.
      base_key: the key given to `intervene`, folded by site and loop, or None.
      seen: values of the sites met before, for `read`.
      apart: sites met before whose mapped axes cannot be matched with this one's.
    """

    site: str
    loops: dict[str, Array]
    axes: tuple[str, ...] | None
    base_key: Array | None
    seen: dict[str, Array]
    apart: tuple[str, ...] = ()

    def read(self, name: str) -> Array:
        """The value, in this example and iteration, of a site met before here or in a body around.

        A value that is not mapped is the same for all examples. Of one that `jax.vmap` maps inside
        the function the example is known only where the axes have names (`axis_name=`).

        Raises:
          SiteError: no such site stands before this one, or its example cannot be told.
        """
        if name in self.apart:
            raise SiteError(
                f"site {self.site!r}: ctx.read({name!r}): both are mapped by jax.vmap, and nothing "
                "tells which example of the one belongs to which of the other; name the axis "
                '(jax.vmap(f, axis_name="batch")), or intervene inside the vmap'
            )
        if name not in self.seen:
            raise SiteError(
                f"site {self.site!r}: ctx.read({name!r}) finds no such site before it in the same "
                f"body; there are: {', '.join(sorted(self.seen)) or 'none'}"
            )
        return self.seen[name]

    @property
    def key(self) -> Array:
        """A random key of this site and iteration: one for all mapped examples and all shards.

        Raises:
          SiteError: `intervene` was given no key.
        """
        if self.base_key is None:
            raise SiteError(
                f"site {self.site!r}: the edit asks for ctx.key; give one: intervene(..., key=key)"
            )
        return self.base_key
