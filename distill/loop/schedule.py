"""Learning rate and averaging as functions of the step: nothing to save, nothing to restore."""

import math

_LOOKS_BACK = 0.05


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the share `warmup` of the steps, then a cosine to zero (Loshchilov, Hutter, 2017).

    `step` counts from 0; the first step has a positive rate, the last one is the smallest.
    """
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return peak * (step + 1) / rising
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def averaging_decay(steps: int) -> float:
    """Decay of an exponential moving average of the weights that looks back over a twentieth of a run.

    Between 0.9 (runs of up to 200 steps) and 0.9998.
    """
    return min(0.9998, 1.0 - 1.0 / max(10.0, _LOOKS_BACK * steps))
