"""Losses and their gradients belong to one function, also where torch has a fused path for inference alone."""

import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE


class Padded(nn.Module):
    """A transformer with a padding mask, averaged over all positions."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.embed, self.body, self.head = nn.Embedding(12, 8), nn.TransformerEncoder(layer, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x), src_key_padding_mask=x == 0).mean(1))


def test_a_padded_transformer_has_the_gradient_of_its_risk() -> None:
    x = torch.randint(1, 12, (12, 6))
    x[::2, 4:], x[::3, 3:] = 0, 0
    objective = uw.Objective(Padded().to(DOUBLE).eval(), uw.losses.CrossEntropy(), (x, torch.arange(12) % 2), l2=0.01)
    direction, step = torch.randn(objective.p, dtype=DOUBLE), 1e-5
    ahead, back = (objective.risk(objective.params + sign * step * direction) for sign in (1, -1))
    assert abs(float(objective.gradient() @ direction) - (ahead - back) / (2 * step)) < 1e-6
    with torch.enable_grad():  # as in training
        outputs = objective.model(x)
    torch.testing.assert_close(objective.outputs(), outputs.detach())
    assert torch.backends.mha.get_fastpath_enabled()


def test_recurrent_layers_are_differentiated_without_cudnn_and_evaluated_as_torch_is_set() -> None:
    seen: list[tuple[bool, bool]] = []

    class Watched(nn.LSTM):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((torch.is_grad_enabled(), torch.backends.cudnn.enabled))
            return super().forward(x)[0][:, -1]

    model = nn.Sequential(Watched(3, 4, batch_first=True), nn.Linear(4, 2)).double().eval()
    data = torch.randn(6, 5, 3, dtype=torch.float64), torch.arange(6) % 2
    before = torch.backends.cudnn.enabled
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data, l2=0.1)
    objective.gradient()
    uw.curvature.Hessian().of(objective).apply(torch.ones(2, objective.p, dtype=torch.float64))
    assert torch.backends.cudnn.enabled == before
    assert {enabled for graded, enabled in seen if graded} == {False}
    assert {enabled for graded, enabled in seen if not graded} == {before}
