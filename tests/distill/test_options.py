"""What the help says of defaults is what holds."""

from typing import Any, get_args

from distill import options
from distill.commands import finetune, plan, train
from distill.data.views import AUGMENTATIONS
from distill.stages.finetune_inputs import BASELINE_EPOCHS, BASELINE_LR, FROM_RUN_EPOCHS, FROM_RUN_LR
from distill.stages.train_inputs import DEFAULT_EPOCHS, RANDOM_LR, WEIGHTS_LR


def help_of(option: Any) -> str:
    return str(get_args(option)[1].help)


def test_lengths() -> None:
    for option in (train.TrainEpochs, plan.PlannedEpochs):
        assert f"default: {DEFAULT_EPOCHS:g}." in help_of(option)
    assert f"default: {FROM_RUN_EPOCHS:g} with --from, else {BASELINE_EPOCHS:g}." in help_of(
        finetune.TunedEpochs
    )


def test_learning_rates() -> None:
    def told(rate: float) -> str:
        return f"{rate:.0e}".replace("e-0", "e-")

    assert f"{told(RANDOM_LR)} from random weights, else {told(WEIGHTS_LR)}." in help_of(train.TrainLr)
    assert f"{told(FROM_RUN_LR)} with --from, else {told(BASELINE_LR)}." in help_of(finetune.TunedLr)


def test_augmentations() -> None:
    for name in ("light", "standard", "strong"):
        smallest = round(100 * AUGMENTATIONS[name].scale[0])
        assert f"{smallest} %" in options.AUGMENTATIONS and name in options.AUGMENTATIONS
