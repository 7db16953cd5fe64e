"""By what the best epoch is chosen."""

SELECT_BY = "ndcg@10"
"""The metric, on the validation items, over the whole catalogue: the paper's protocol."""
