import torch
from timm.utils import ModelEmaV3

from distill.loop.average import Average
from tests.distill.loop.toys import student


def test_it_is_timms_average() -> None:
    """Weights, running statistics, and the count of batches, which is a whole number."""
    one = student()
    ours, theirs = Average(one.module, 0.9), ModelEmaV3(one.module, decay=0.9, use_warmup=True)
    for step in range(1, 6):
        one.module(torch.randn(4, 3, 8, 8))
        with torch.no_grad():
            for parameter in one.module.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(one.module, step=step)
        theirs.update(one.module, step=step)
    for name, tensor in ours.module.state_dict().items():
        assert torch.equal(tensor, theirs.module.state_dict()[name])
    assert int(ours.module.state_dict()["1.num_batches_tracked"]) == 5
