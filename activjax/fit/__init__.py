"""Closed-form and convex fits: pure functions of arrays that can be jitted and mapped.

Each returns a small frozen pytree, most with a `predict` or `transform`. To map it, map both:
`jax.vmap(lambda fit, X: fit.predict(X))(fits, Xs)`.
"""

from activjax.fit._kmeans import KMeans as KMeans, kmeans as kmeans, majority_vote as majority_vote
from activjax.fit._lda import LDA as LDA, lda as lda
from activjax.fit._linear_program import (
    Certificate as Certificate,
    LinearProgram as LinearProgram,
    linear_program as linear_program,
)
from activjax.fit._logistic import Logistic as Logistic, logistic as logistic
from activjax.fit._mean_difference import (
    MeanDifference as MeanDifference,
    mean_difference as mean_difference,
)
from activjax.fit._neighbours import knn as knn, pairwise_sq_euclidean as pairwise_sq_euclidean
from activjax.fit._pattern import activation_pattern as activation_pattern
from activjax.fit._pca import (
    PCA as PCA,
    Standardise as Standardise,
    pca as pca,
    standardise as standardise,
)
from activjax.fit._probe import Probe as Probe, probe as probe
from activjax.fit._procrustes import Procrustes as Procrustes, procrustes as procrustes
from activjax.fit._ridge import (
    Linear as Linear,
    ridge as ridge,
    ridge_from_moments as ridge_from_moments,
)
from activjax.fit._threads import one_blas_thread as one_blas_thread
