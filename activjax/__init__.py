"""activjax: read, edit, enumerate and train through the activations of any JAX function."""

from activjax.stats import harvest as harvest
from activjax.transforms import (
    Selector as Selector,
    Site as Site,
    SiteError as SiteError,
    SiteTable as SiteTable,
    act_grads as act_grads,
    act_jvp as act_jvp,
    act_vjp as act_vjp,
    capture as capture,
    edits as edits,
    intervene as intervene,
    parse_edit as parse_edit,
    parse_edits as parse_edits,
    parse_selector as parse_selector,
    scan as scan,
    scope as scope,
    select as select,
    sites as sites,
    tag as tag,
    tag_modules as tag_modules,
    tag_primitives as tag_primitives,
)

__version__ = "0.1.0"
