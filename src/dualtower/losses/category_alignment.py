"""The category alignment loss: minor categories get the major one's second moments (Eq. 3)."""

import torch
from torch import Tensor


def category_alignment(item_vectors: Tensor, categories: Tensor) -> Tensor:
    """Eq. 3: Σ_i ‖C(S_major) - C(S_i)‖²_F over the other categories of the batch.

    The major category is the one with most rows in the batch; of several such, the one with the
    lowest number. C is the covariance with n - 1 in its denominator. The covariance of a single
    row is undefined, so categories with fewer than two rows are left out; with fewer than two
    categories left the loss is 0. The gradient reaches the vectors of the major and of the minor
    categories alike.

    Args:
        item_vectors: p_v, `[n, dim]` floats. Memory grows as n · dim².
        categories: category of each row, `[n]` int64. Every number counts as a category: leave
            rows out whose category is unknown.

    Returns:
        The sum over the minor categories, a scalar.

    Raises:
        ValueError: the shapes do not fit.
    """
    if item_vectors.ndim != 2 or categories.shape != item_vectors.shape[:1]:
        raise ValueError(
            "category_alignment takes item_vectors [n, dim] and categories [n]; "
            f"given {list(item_vectors.shape)} and {list(categories.shape)}"
        )
    if len(item_vectors) == 0:
        return item_vectors.sum()
    dim = item_vectors.shape[1]
    present, index = torch.unique(categories, sorted=True, return_inverse=True)
    counts = torch.bincount(index, minlength=len(present))
    sums = item_vectors.new_zeros(len(present), dim).index_add(0, index, item_vectors)
    centred = item_vectors - (sums / counts.unsqueeze(1))[index]
    products = (centred.unsqueeze(2) * centred.unsqueeze(1)).flatten(1)
    scatter = item_vectors.new_zeros(len(present), dim * dim).index_add(0, index, products)
    covariances = scatter / (counts - 1).clamp(min=1).unsqueeze(1)
    major = torch.nonzero(counts == counts.max())[0, 0]
    distances = (covariances[major] - covariances).square().sum(dim=1)
    return (distances * ((counts > 1) & (counts[major] > 1))).sum()
