"""Binary cross-entropy over positives and their sampled negatives (Eq. 4)."""

from torch import Tensor
from torch.nn import functional

from dualtower.losses.shares import shares


def binary_cross_entropy(
    positive: Tensor, negative: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Eq. 4: every positive and every negative is one labelled pair, all weighed alike.

    loss_p = -1/T · Σ (y log σ(s) + (1 - y) log(1 - σ(s))), T = batch · (S + 1), computed from the
    logits s as softplus(∓s), which neither overflows nor loses small values. The gradient is
    (σ(s) - y) / T for each logit. Duplicating the batch does not change the loss.

    Args:
        positive: logits of the positives, `[batch]`.
        negative: logits of each positive's S negatives, `[batch, S]`; S may be 0.
        weights: of the positives, `[batch]`; each weighs its positive and that one's negatives
            alike. None: all count the same.

    Returns:
        The mean over the T pairs, with `weights` the weighted mean; a scalar.

    Raises:
        ValueError: the shapes are others, or the batch is empty.
    """
    if positive.ndim != 1 or negative.ndim != 2 or len(positive) != len(negative):
        raise ValueError(
            "binary_cross_entropy takes positive [batch] and negative [batch, S]; "
            f"given {list(positive.shape)} and {list(negative.shape)}"
        )
    pairs = positive.numel() + negative.numel()
    if pairs == 0:
        raise ValueError("binary_cross_entropy needs at least one positive; the batch is empty")
    if weights is not None:
        losses = functional.softplus(-positive) + functional.softplus(negative).sum(1)
        return (shares(weights, len(positive)) * losses).sum() / (1 + negative.shape[1])
    return (functional.softplus(-positive).sum() + functional.softplus(negative).sum()) / pairs
