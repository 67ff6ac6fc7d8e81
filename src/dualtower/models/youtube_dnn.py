"""YouTubeDNN: the mean of the history through one tower, against the weights of a softmax."""

from typing import ClassVar

from dualtower.errors import ConfigError
from dualtower.models.trained import TrainedModel


class YouTubeDNN(TrainedModel):
    """Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016.

    Candidate generation as in their section 3: the mean of the latest items' embeddings, beside the
    query's features and the context, through a tower into a softmax over the items. An item's
    vector is its row of the softmax's weights. docs/model.md names every deviation.
    """

    name: ClassVar[str] = "youtube_dnn"

    def _check(self) -> None:
        config = self.config
        if not config.history or config.history_form != "mean" or not config.query_tower:
            raise ConfigError(
                "model: youtube_dnn is a tower over the history's mean; set history = true, "
                'history_form = "mean" and query_tower = true, or name = "two_tower"'
            )
        if config.item_vectors == "tower":
            raise ConfigError(
                'model: youtube_dnn has no item tower; set item_vectors = "table", its own, or '
                '"embedding", the one that the history reads'
            )
