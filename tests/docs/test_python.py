"""The example of docs/python.md."""


def test_lengths() -> None:
    # [lengths]
    import torch

    import recblr

    layer = recblr.RecBLRLayer(16)
    sequences = [torch.randn(3, 16), torch.randn(5, 16)]

    packed = layer(torch.cat(sequences), offsets=torch.tensor([0, 3, 8]))
    padded = layer(torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True), lengths=torch.tensor([3, 5]))
    nested = layer(torch.nested.nested_tensor(sequences, layout=torch.jagged))
    # [/lengths]
    assert torch.equal(nested.values(), packed)
    assert torch.equal(torch.cat([padded[0, :3], padded[1]]), packed)
    assert not padded[0, 3:].any()
