"""The Dual Augmented Two-tower model (DAT)."""

from typing import ClassVar

from dualtower.data.columns import FeatureColumn, FeatureSpace
from dualtower.models.augmented import Augmented, Learned, LeaveOut
from dualtower.models.network import Network
from dualtower.models.trained import TrainedModel

FOLDS = 8
"""Training batches hold queries of one of so many folds; a_v leaves the batch's own fold out."""


class DAT(TrainedModel):
    """Two towers that each read an augmented vector of the other (AMM), aligned by category (CAL).

    `augmented = "leave_out"` (default) is Eq. 2's minimiser without the example at hand;
    `"learned"` is the paper's tables with the mimic loss; `"none"` switches AMM off.
    `lambda_ca = 0` switches CAL off. Paper: Yu et al., DLP-KDD 2021.
    """

    name: ClassVar[str] = "dat"
    augments: ClassVar[bool] = True

    def _make_network(
        self, space: FeatureSpace, item_features: dict[str, FeatureColumn]
    ) -> Network:
        return Network(self.config, space, item_features, self._augmented(space))

    def _augmented(self, space: FeatureSpace) -> Augmented | None:
        config = self.config
        if config.augmented == "none" or not (config.augmented_query or config.augmented_item):
            return None
        if config.augmented == "learned":
            return Learned(
                space.query_count,
                space.item_count,
                config.output_dim,
                config.augmented_dim,
                id_dropout=config.id_dropout,
            )
        return LeaveOut(
            space.item_count,
            config.output_dim,
            config.augmented_dim,
            folds=FOLDS,
            fade=config.augmented_fade,
            history_length=config.history_length,
        )
