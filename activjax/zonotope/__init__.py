"""Activation patterns of one ReLU unit on a data set, and shallow networks trained over them.

The patterns are the cells of a central hyperplane arrangement and the vertices of the zonotope
`Z = sum_i [0, x_i]`. Enumerations are exact and say how they were certified.
"""

