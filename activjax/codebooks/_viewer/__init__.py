"""One HTML page that shows an index of codes."""

from activjax.codebooks._viewer._page import write_page as write_page
from activjax.codebooks._viewer._run import run_index as run_index
from activjax.codebooks._viewer._view import (
    View as View,
    load_view as load_view,
    save_view as save_view,
)
