"""The learning rate over a run."""

import math

from recblr.config import TrainingConfig

FINAL_LEARNING_RATE = 0.01  # of the highest, at the end of the cosine


def learning_rate(config: TrainingConfig, before: float, after: float) -> float:
    """The rate of a step, given the shares of the whole run (0 to 1) that are done before and after it.

    It rises linearly over the first ``config.warmup`` of the run, to ``config.learning_rate``; from there it
    stays, or falls along half a cosine to FINAL_LEARNING_RATE of it at the end.
    """
    if after < config.warmup:
        return config.learning_rate * after / config.warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = max(0.0, (before - config.warmup) / (1 - config.warmup))
    falling = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * falling)
