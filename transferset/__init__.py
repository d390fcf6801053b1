"""What both halves of transferset stand on: models, images, tars, labelled sets, safe writes, console and
report."""

import os

__version__ = "0.1.0"

# Before torch loads OpenMP. Threads that wait actively starve each other as soon as anything else runs on the
# cores: training on two busy cores was ten times slower than with this.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
