"""SASRec: causal self-attention over the query's items, scored against the same embeddings."""

from typing import ClassVar

from dualtower.errors import ConfigError
from dualtower.models.trained import TrainedModel


class SASRec(TrainedModel):
    """Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.

    The query's vector is what `attention_blocks` of causal self-attention make of its latest items,
    the item's vector is the embedding that the attention reads. Features, where there are any, are
    added to either. docs/model.md names every deviation.
    """

    name: ClassVar[str] = "sasrec"

    def _check(self) -> None:
        if not self.config.history or self.config.history_form != "attention":
            raise ConfigError(
                "model: sasrec is self-attention over the history; set history = true and "
                'history_form = "attention", or name = "two_tower"'
            )
