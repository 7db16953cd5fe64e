"""RecBLR as a model of RecBole.  RecBole's data, training loop and evaluation run with this model.

RecBole finds models by name among its own modules, so `register` puts this module there.  Example::

    from recbole.quick_start import run_recbole

    from recblr.integrations.recbole import register

    if __name__ == "__main__":
        register()
        run_recbole(
            model="RecBLR",
            dataset="ml-100k",
            config_dict={"loss_type": "CE", "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 50},
        )

RecBole 1.2.1 needs Python 3.11 and a separate virtual environment with ``pip install 'recblr[recbole]'``.  It
also needs the environment variable ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``.  RecBole pickles its configuration
into its checkpoints, and PyTorch does not load such files without this variable.  Some functions of RecBole
take a class, for example ``Config(model=RecBLR, ...)``.  Give them :class:`RecBLR`; then `register` is not
needed.

Settings come from a config_dict, a YAML file or the command line, as all settings of RecBole do:

========================  =========================================================================
loss_type                 CE (over all items, with train_neg_sample_args None) or BPR
MAX_ITEM_LIST_LENGTH      the number of newest events of a history that count; default 50 (RecBole's)
hidden_size               the width of items and layers; default 64
num_layers                the number of blocks; default 2
expand                    the width of the recurrence, in multiples of hidden_size; default 2
d_conv                    the number of events that the convolution sees; default 4
dropout_prob              the dropout of the model; default 0.2
ffn_dropout               the dropout in the feed-forward networks; default dropout_prob (paper: none)
released                  True: as the authors' released code, with all differences from the paper
padding_leak              one of these differences, see :class:`recblr.nn.RecBLRConfig`
beta_epsilon              one of these differences
lambda_init               one of these differences
history_average           default True, but False with `released`; the paper has none
========================  =========================================================================

The model knows only the order of events: RecBole does not give times to sequential models.

The last four settings override `released`.

Histories are packed, so padding costs nothing.  :meth:`RecBLR.to_recblr` returns the model without RecBole.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import recblr.nn
from recblr.config import RecBLRConfig
from recblr.errors import InputError
from recblr.nn.losses import linear_cross_entropy
from recblr.nn.padding import pack

try:
    from recbole.model.abstract_recommender import SequentialRecommender
    from recbole.model.loss import BPRLoss
except ImportError as error:
    raise ImportError(
        f"recblr.integrations.recbole runs inside RecBole, which cannot be imported here ({error}); "
        "install it with pip install 'recblr[recbole]', best in a separate virtual environment"
    ) from None

# For each setting: RecBole's name, and our name.
_SETTINGS = {
    "hidden_size": "d_model",
    "num_layers": "num_layers",
    "expand": "expand",
    "d_conv": "d_conv",
    "dropout_prob": "dropout",
    "ffn_dropout": "ffn_dropout",
    "padding_leak": "padding_leak",
    "beta_epsilon": "beta_epsilon",
    "lambda_init": "lambda_init",
    "history_average": "history_average",
}


def register() -> None:
    """Let RecBole find "RecBLR" by name: in run_recbole, load_data_and_model and its hyper-parameter search.

    Call this once in a process, before RecBole looks for the model.  A second call does no harm.
    """
    sys.modules["recbole.model.sequential_recommender.recblr"] = sys.modules[__name__]


class RecBLR(SequentialRecommender):  # type: ignore[misc]
    """RecBLR for RecBole's trainer.  Items have RecBole's numbers, in which 0 is [PAD].

    Args:
        config: RecBole's configuration.  The module's documentation lists the settings that count.
        dataset: RecBole's dataset.  It gives the number of items.

    Raises:
        InputError: a setting is wrong.  The message has RecBole's name of the setting.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.loss_type = config["loss_type"]
        if self.loss_type not in ("CE", "BPR"):
            raise InputError(f"loss_type must be CE or BPR, but is {self.loss_type}")
        self.recblr = recblr.nn.RecBLR(self.n_items, _model_config(config))
        self.bpr_loss = BPRLoss()

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """The hidden vector after the last event of each history.

        Args:
            item_seq: ``(B, L)`` items, padded on the right.
            item_seq_len: ``(B,)``, the number of items in each row, at least 1.

        Returns:
            ``(B, D)``.
        """
        items, offsets, _ = pack(item_seq, item_seq_len)
        hidden: Tensor = self.recblr(items, offsets=offsets)
        return hidden[offsets[1:] - 1]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The mean loss over a batch, a scalar."""
        hidden, wanted = self._after_history(interaction), interaction[self.POS_ITEM_ID]
        if self.loss_type == "CE":
            weight = self.recblr.item_embedding.weight
            # RecBole's mixed precision (enable_amp) turns autocast on.  The loss still runs in float32, as
            # PyTorch's own cross entropy does.
            with torch.autocast(hidden.device.type, enabled=False):
                return linear_cross_entropy(hidden.to(weight.dtype), weight, wanted)
        other = interaction[self.NEG_ITEM_ID]
        loss: Tensor = self.bpr_loss(self._scores_of(wanted, hidden), self._scores_of(other, hidden))
        return loss

    def predict(self, interaction: Any) -> Tensor:
        """The score of one item after each history, ``(B,)``."""
        return self._scores_of(interaction[self.ITEM_ID], self._after_history(interaction))

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """The scores of all items after each history, ``(B, n_items)``.  RecBole ignores that of [PAD]."""
        return self.recblr.scores(self._after_history(interaction))

    def to_recblr(self) -> recblr.nn.RecBLR:
        """Return this package's model, in evaluation mode.

        It has no [PAD], so RecBole's item i is item i - 1 of this model.  ``recblr.run.save_model`` saves the
        model together with RecBole's ids of the items.  The saved model can recommend and be served.
        """
        model = recblr.nn.RecBLR(self.n_items - 1, self.recblr.config)
        weights = self.recblr.state_dict()
        weights["item_embedding.weight"] = weights["item_embedding.weight"][1:]
        model.load_state_dict(weights)
        return model.eval()

    def _after_history(self, interaction: Any) -> Tensor:
        hidden: Tensor = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return hidden

    def _scores_of(self, items: Tensor, hidden: Tensor) -> Tensor:
        return (hidden * F.embedding(items, self.recblr.item_embedding.weight)).sum(1)


def _model_config(config: Any) -> RecBLRConfig:
    """The model's hyper-parameters from RecBole's settings.  Missing settings have our defaults."""
    settings = {ours: config[theirs] for theirs, ours in _SETTINGS.items() if config[theirs] is not None}
    make = RecBLRConfig.released if config["released"] else RecBLRConfig
    try:
        return make(max_length=config["MAX_ITEM_LIST_LENGTH"], **settings)
    except (TypeError, ValueError) as error:
        message = str(error)
        for theirs, ours in _SETTINGS.items():
            if message.startswith(f"{ours} "):
                message = message.replace(ours, theirs, 1)
        raise InputError(f"RecBole's settings do not describe a RecBLR model: {message}") from None
