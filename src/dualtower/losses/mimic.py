"""The mimic loss that teaches an augmented vector the other tower's output (Eq. 2)."""

from torch import Tensor

from dualtower.losses.shares import shares


def mimic(
    augmented: Tensor,
    embedding: Tensor,
    negatives_per_positive: int,
    weights: Tensor | None = None,
) -> Tensor:
    """Eq. 2 for one side: squared distance from the augmented vector to the other tower's output.

    loss_u = 1/T · Σ ‖a_u - p_v‖² over the positives (a negative pair contributes 0), with
    T = batch · (negatives_per_positive + 1) as in Eq. 4; for loss_v pass a_v and p_u. The square
    is summed over the dimensions, not averaged. The embedding is held fixed (stop gradient): the
    gradient 2 (a - p) / T reaches the augmented vector only. Duplicating the batch does not change
    the loss.

    Args:
        augmented: a_u or a_v of each positive, `[batch, dim]`: the vector that its tower was fed.
        embedding: p_v or p_u of the same positive, from the other tower, `[batch, dim]`.
        negatives_per_positive: S, how many negative pairs the loss of Eq. 4 has per positive.
        weights: of the positives, `[batch]`; None: all count the same.

    Returns:
        The mean over the T pairs, with `weights` the weighted mean; a scalar.

    Raises:
        ValueError: the shapes differ or are not `[batch, dim]`, the batch is empty, or S is
            negative.
    """
    if augmented.ndim != 2 or augmented.shape != embedding.shape or len(augmented) == 0:
        raise ValueError(
            "mimic takes augmented and embedding of one shape [batch, dim], batch at least 1; "
            f"given {list(augmented.shape)} and {list(embedding.shape)}"
        )
    if negatives_per_positive < 0:
        raise ValueError(f"negatives_per_positive must be at least 0: {negatives_per_positive}")
    if weights is not None:
        distances = (augmented - embedding.detach()).square().sum(1)
        share = shares(weights, len(augmented))
        return (share * distances).sum() / (negatives_per_positive + 1)
    pairs = len(augmented) * (negatives_per_positive + 1)
    return (augmented - embedding.detach()).square().sum() / pairs
