"""activjax: read, edit, enumerate and train through the activations of any JAX function."""

from activjax.transforms import Selector as Selector
from activjax.transforms import Site as Site
from activjax.transforms import SiteError as SiteError
from activjax.transforms import SiteTable as SiteTable
from activjax.transforms import act_grads as act_grads
from activjax.transforms import act_vjp as act_vjp
from activjax.transforms import capture as capture
from activjax.transforms import edits as edits
from activjax.transforms import intervene as intervene
from activjax.transforms import scan as scan
from activjax.transforms import scope as scope
from activjax.transforms import select as select
from activjax.transforms import sites as sites
from activjax.transforms import tag as tag

__version__ = "0.1.0"
