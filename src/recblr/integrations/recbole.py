"""RecBLR as a model of RecBole: its data, its training loop, its evaluation, this model.

RecBole finds models by name among its own modules, so `register` puts this module there.  A program::

    from recbole.quick_start import run_recbole

    from recblr.integrations.recbole import register

    if __name__ == "__main__":
        register()
        run_recbole(
            model="RecBLR",
            dataset="ml-100k",
            config_dict={"loss_type": "CE", "train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 50},
        )

RecBole 1.2.1 wants ``pip install 'recblr[recbole]'`` in a virtual environment of its own, on Python 3.11,
and the environment variable ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``: it pickles its configuration into its
checkpoints, which PyTorch otherwise refuses to load.  Where RecBole takes a class, as in
``Config(model=RecBLR, ...)``, :class:`RecBLR` is that class, and nothing needs registering.

Settings, from a config_dict, a YAML file or the command line like all of RecBole's:

========================  =========================================================================
loss_type                 CE, over all items, with train_neg_sample_args None; or BPR
MAX_ITEM_LIST_LENGTH      how many events of a history count; RecBole's default is 50
hidden_size               width of items and layers, 64
num_layers                number of blocks, 2
expand                    the recurrence's width in multiples of hidden_size, 2
d_conv                    how many events the convolution sees, 4
dropout_prob              0.2
ffn_dropout               inside the feed-forward networks, as dropout_prob; the paper has none
released                  True: the authors' released code, with every difference from the paper
padding_leak              these differences, one by one; where given, they override `released`:
beta_epsilon              see :class:`recblr.nn.RecBLRConfig`
lambda_init
history_average           on unless `released`; the paper has none
========================  =========================================================================

Histories are packed, so padding costs nothing.  :meth:`RecBLR.to_recblr` is the way out of RecBole.
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
from recblr.nn.padding import pack, valid_positions

try:
    from recbole.model.abstract_recommender import SequentialRecommender
    from recbole.model.loss import BPRLoss
except ImportError as error:
    raise ImportError(
        f"recblr.integrations.recbole runs inside RecBole, which cannot be imported here ({error}); "
        "install it with pip install 'recblr[recbole]', best in a virtual environment of its own"
    ) from None

# RecBole's name of a setting, and ours.
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

    Once in a process, before RecBole is asked for the model; once more does no harm.
    """
    sys.modules["recbole.model.sequential_recommender.recblr"] = sys.modules[__name__]


class RecBLR(SequentialRecommender):  # type: ignore[misc]
    """RecBLR for RecBole's trainer; items are RecBole's, 0 being [PAD].

    Args:
        config: RecBole's configuration; the settings that count are listed above.
        dataset: RecBole's dataset, of which the number of items is taken.

    Raises:
        InputError: a setting that describes no model, by RecBole's name of it.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.loss_type = config["loss_type"]
        if self.loss_type not in ("CE", "BPR"):
            raise InputError(f"loss_type must be CE or BPR, but is {self.loss_type}")
        self.recblr = recblr.nn.RecBLR(self.n_items, _model_config(config))
        self.bpr_loss = BPRLoss()

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """What a history predicts its next item by.

        Args:
            item_seq: ``(B, L)`` items, padded on the right.
            item_seq_len: ``(B,)``, how many of each row are items, at least 1.

        Returns:
            ``(B, D)``.
        """
        items, offsets = pack(item_seq, valid_positions(item_seq_len, *item_seq.shape))
        hidden: Tensor = self.recblr(items, offsets=offsets)
        return hidden[offsets[1:] - 1]

    def calculate_loss(self, interaction: Any) -> Tensor:
        """The mean loss over a batch, a scalar."""
        hidden, wanted = self._after_history(interaction), interaction[self.POS_ITEM_ID]
        if self.loss_type == "CE":
            weight = self.recblr.item_embedding.weight
            # In float32 under RecBole's mixed precision (enable_amp) too, as PyTorch's own cross entropy is.
            with torch.autocast(hidden.device.type, enabled=False):
                return linear_cross_entropy(hidden.to(weight.dtype), weight, wanted)
        other = interaction[self.NEG_ITEM_ID]
        loss: Tensor = self.bpr_loss(self._scores_of(wanted, hidden), self._scores_of(other, hidden))
        return loss

    def predict(self, interaction: Any) -> Tensor:
        """The score of one item after each history, ``(B,)``."""
        return self._scores_of(interaction[self.ITEM_ID], self._after_history(interaction))

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """The scores of all items after each history, ``(B, n_items)``; RecBole ignores [PAD]'s."""
        return self.recblr.scores(self._after_history(interaction))

    def to_recblr(self) -> recblr.nn.RecBLR:
        """This package's model, in evaluation mode, without [PAD]: RecBole's item i is item i - 1.

        It can be saved with ``recblr.run.save_model``, which takes RecBole's ids of the items, recommended
        with, and served.
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
    """The model's hyper-parameters among RecBole's settings; those that are absent have our defaults."""
    settings = {ours: config[theirs] for theirs, ours in _SETTINGS.items() if config[theirs] is not None}
    make = RecBLRConfig.released if config["released"] else RecBLRConfig
    try:
        return make(max_length=config["MAX_ITEM_LIST_LENGTH"], **settings)
    except (TypeError, ValueError) as error:
        message = str(error)
        for theirs, ours in _SETTINGS.items():
            if message.startswith(f"{ours} "):
                message = message.replace(ours, theirs, 1)
        raise InputError(f"RecBole's settings describe no RecBLR: {message}") from None
