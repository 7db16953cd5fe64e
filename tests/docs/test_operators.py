"""The examples of docs/operators.md."""

import pytest
import torch

import recblr


def test_quick_start() -> None:
    # [quick-start]
    import torch

    import recblr

    a = torch.rand(8, 1000, 64)  # (batch, time, channels)
    b = torch.randn(8, 1000, 64, requires_grad=True)

    h = recblr.scan(a, b)  # h[:, t] = a[:, t] * h[:, t - 1] + b[:, t]
    h.square().mean().backward()
    # [/quick-start]
    wanted = torch.zeros(8, 64)
    for t in range(1000):
        wanted = a[:, t] * wanted + b[:, t]
    torch.testing.assert_close(h[:, -1], wanted)
    assert b.grad is not None


def test_packed() -> None:
    # [packed]
    histories = [torch.rand(n, 64) for n in (3, 0, 1000)]
    b = torch.cat(histories)  # (1003, 64)
    offsets = torch.tensor([0, 3, 3, 1003])  # sequence s owns rows offsets[s]:offsets[s + 1]
    a = torch.rand_like(b)

    h, final = recblr.scan_with_final(a, b, offsets=offsets)  # final: (3, 64)
    # [/packed]
    alone = recblr.scan(a[3:], b[3:])
    assert torch.equal(h[3:], alone)
    assert not final[1].any()


def test_streaming() -> None:
    a, b = torch.rand(2, 30, 8), torch.rand(2, 30, 8)
    # [streaming]
    whole, final = recblr.scan_with_final(a, b)

    first, state = recblr.scan_with_final(a[:, :10], b[:, :10])
    rest, state = recblr.scan_with_final(a[:, 10:], b[:, 10:], initial=state)

    assert torch.equal(torch.cat([first, rest], 1), whole)
    assert torch.equal(state, final)
    # [/streaming]


def test_bdlru() -> None:
    # [bdlru]
    batch, time, channels = 4, 50, 16
    x, z = torch.randn(2, batch, time, channels)
    gates = torch.randn(batch, time, 2 * channels)  # r's pre-activations, then i's
    decay = torch.nn.functional.softplus(torch.randn(channels))  # (C,), at least 0, float32

    x, past = recblr.causal_conv1d(x, torch.randn(channels, 4))  # depthwise, then SiLU
    y, state = recblr.bdlru(x, gates, decay, z)

    # One more event, at constant cost: time is 1, the states go on.
    x_t, z_t, gates_t = torch.randn(4, 1, 16), torch.randn(4, 1, 16), torch.randn(4, 1, 32)
    weight = torch.randn(channels, 4)
    x_t, past = recblr.causal_conv1d(x_t, weight, initial=past)
    y_t, state = recblr.bdlru(x_t, gates_t, decay, z_t, initial=state)
    # [/bdlru]
    assert y.shape == (batch, time, channels)
    assert y_t.shape == (4, 1, 16)
    assert state.shape == (4, 16)
    assert past.shape == (4, 3, 16)


def test_complex() -> None:
    # [complex]
    modulus, phase = torch.rand(8), 3.14 * torch.rand(8)
    a = torch.polar(modulus, phase).expand(4, 100, 8)  # stride 0: nothing is copied
    b = torch.randn(4, 100, 8, dtype=torch.complex64)
    h = recblr.scan(a, b)
    # [/complex]
    torch.testing.assert_close(h[:, 1], a[:, 1] * b[:, 0] + b[:, 1])


def test_forward_mode() -> None:
    a, b = torch.rand(2, 5, 3, dtype=torch.float64), torch.rand(2, 5, 3, dtype=torch.float64)

    # [forward-mode]
    def energy(b: torch.Tensor) -> torch.Tensor:
        return recblr.scan(a, b).sin().square().sum()

    direction = torch.randn_like(b)
    slope = torch.func.jvp(energy, (b,), (direction,))[1]
    product = torch.func.jvp(torch.func.grad(energy), (b,), (direction,))[1]  # Hessian times direction
    # [/forward-mode]
    torch.testing.assert_close(slope, (torch.func.grad(energy)(b) * direction).sum())
    hessian = torch.func.hessian(energy)(b)
    torch.testing.assert_close(product, torch.einsum("ijkabc,abc->ijk", hessian, direction))


def test_torch_func() -> None:
    # [torch-func]
    layer = recblr.RecBLRLayer(16)
    parameters = dict(layer.named_parameters())

    def loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, parameters, (x.unsqueeze(0),)).square().mean()

    # The gradient of every sample of a batch at once.
    samples = torch.randn(32, 20, 16)
    gradients = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, samples)
    # [/torch-func]
    assert gradients["recurrent.bdlru.Lambda"].shape == (32, 32)


def test_export() -> None:
    # [export]
    class Model(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
            return torch.ops.recblr.scan(a, b, None, offsets)

    rows, boundaries = torch.export.Dim("rows"), torch.export.Dim("boundaries", min=3)
    program = torch.export.export(
        Model(),
        (torch.rand(6, 4), torch.rand(6, 4), torch.tensor([0, 2, 6])),
        dynamic_shapes=({0: rows}, {0: rows}, {0: boundaries}),
    )
    # [/export]
    a, b, offsets = torch.rand(9, 4), torch.rand(9, 4), torch.tensor([0, 3, 3, 9])
    assert torch.equal(program.module()(a, b, offsets), recblr.scan(a, b, offsets=offsets))


def test_checked_offsets() -> None:
    # [check-offsets]
    offsets = torch.tensor([0, 3, 2, 10])
    try:
        recblr.check_offsets(offsets, rows=10)
    except ValueError as error:
        print(error)  # check_offsets: offsets must not decrease, but offsets[2] is 2 after 3
    # [/check-offsets]
    with pytest.raises(ValueError, match=r"^check_offsets: offsets must not decrease, but offsets\[2\] is 2"):
        recblr.check_offsets(offsets, rows=10)


def test_numpy() -> None:
    # [numpy]
    import numpy as np

    from recblr._core import scan, scan_with_final  # needs no torch

    a, b = np.random.default_rng(0).random((2, 4, 100, 8), dtype=np.float32)
    h = scan(a, b)
    h, final = scan_with_final(a, b)
    # [/numpy]
    assert torch.equal(torch.from_numpy(h), recblr.scan(torch.from_numpy(a), torch.from_numpy(b)))
    assert np.array_equal(final, h[:, -1])
