"""What both halves of transferset stand on: models, images, tars, labelled sets, safe writes, console and
report."""

__version__ = "0.1.0"
