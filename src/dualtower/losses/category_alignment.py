"""The category alignment loss: minor categories get the major one's second moments (Eq. 3)."""

import torch
from torch import Tensor


class RunningCovariances:
    """Each category's covariance over the latest batches, so that one batch's few rows are not all.

    C ← momentum · C before + (1 - momentum) · C of the batch; the first batch that shows two rows
    of a category gives its C whole. The gradient is as if the batch's C were all of it: else a
    momentum of .99 would be a hundredth of the weight. Memory: categories · dim² floats.
    """

    def __init__(
        self, category_count: int, dim: int, momentum: float, device: torch.device
    ) -> None:
        """Start without any.

        Args:
            category_count: one more than the largest category's number.
            dim: length of the vectors.
            momentum: share of what was known before that stays, in `[0, 1)`.
            device: where the vectors are.
        """
        self._values = torch.zeros(category_count, dim * dim, device=device)
        self._known = torch.zeros(category_count, dtype=torch.bool, device=device)
        self._momentum = momentum

    def clear(self) -> None:
        """Forget all."""
        self._known.zero_()

    def take_in(self, present: Tensor, covariances: Tensor, valid: Tensor) -> Tensor:
        """The running covariances of the batch's categories after this batch, which are kept.

        Args:
            present: category numbers, each once, `[categories]`.
            covariances: of the batch, `[categories, dim²]`.
            valid: whether the batch has two rows of it, `[categories]`; others stay as they are.

        Returns:
            `[categories, dim²]`.
        """
        before, own = self._values[present], covariances.detach()
        running = torch.where(
            self._known[present].unsqueeze(1), own.lerp(before, self._momentum), own
        )
        kept = present[valid]
        self._values[kept] = running[valid]
        self._known[kept] = True
        return running + covariances - own


def category_alignment(
    item_vectors: Tensor, categories: Tensor, running: RunningCovariances | None = None
) -> Tensor:
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
        running: covariances of earlier batches, which this one's are taken into (it changes); None:
            this batch alone counts, as in the paper.

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
    if running is not None:
        covariances = running.take_in(present, covariances, counts > 1)
    major = torch.nonzero(counts == counts.max())[0, 0]
    distances = (covariances[major] - covariances).square().sum(dim=1)
    return (distances * ((counts > 1) & (counts[major] > 1))).sum()
