"""Activation patterns of one ReLU unit on a data set, and shallow networks trained over them.

The patterns are the cells of a central hyperplane arrangement and the vertices of the zonotope
`Z = sum_i [0, x_i]`. Enumerations are exact and say how they were certified.
"""

from activjax.zonotope._cells import Cells as Cells, cells as cells, stream as stream
from activjax.zonotope._counted import count as count
from activjax.zonotope._neighbours import neighbours as neighbours
from activjax.zonotope._sample import Sample as Sample, sample as sample
from activjax.zonotope._search import Search as Search, local_search as local_search
from activjax.zonotope._select import select_vertices as select_vertices
from activjax.zonotope._solve import Fit as Fit, solve as solve
from activjax.zonotope._vertices import Vertices as Vertices, vertices as vertices
