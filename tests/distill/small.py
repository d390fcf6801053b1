"""What small, cheap work of `distill` is made of: a tiny model, one thread, and the classes of the noise."""

from distill.loop.execution import Execution

TINY = "timm:test_efficientnet@none"
ONE_THREAD = Execution(device="cpu", threads=1, workers=1)
CHANNELS = ("blue", "green", "red")
