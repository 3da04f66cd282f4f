"""Reading and editing activations as transforms of functions, like `jax.grad`."""

from activjax.transforms import edits as edits
from activjax.transforms._capture import capture as capture
from activjax.transforms._gradients import (
    act_grads as act_grads,
    act_jvp as act_jvp,
    act_vjp as act_vjp,
)
from activjax.transforms._intervene import intervene as intervene
from activjax.transforms._modules import tag_modules as tag_modules
from activjax.transforms._names import SiteError as SiteError
from activjax.transforms._parse import (
    parse_edit as parse_edit,
    parse_edits as parse_edits,
    parse_selector as parse_selector,
)
from activjax.transforms._places import per_example as per_example
from activjax.transforms._primitives import tag_primitives as tag_primitives
from activjax.transforms._selectors import Selector as Selector, select as select
from activjax.transforms._sites import Site as Site, SiteTable as SiteTable, sites as sites
from activjax.transforms._tag import scan as scan, scope as scope, tag as tag
