"""The command `distill`: parses and prints; every command is one library call."""

from typing import NoReturn

import typer

from distill.commands.adapt import adapt
from distill.commands.check import check
from distill.commands.compare import compare
from distill.commands.evaluate import evaluate
from distill.commands.export import export
from distill.commands.finetune import finetune
from distill.commands.label import label
from distill.commands.plan import plan
from distill.commands.predict import predict
from distill.commands.replay import replay
from distill.commands.students import students
from distill.commands.train import train
from transferset.entry_point import run_cli

app = typer.Typer(
    help="Train a small model from a transfer set and a few labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    *(adapt, plan, label, train, finetune, evaluate, export, predict),
    *(compare, students, check, replay),
):
    app.command()(command)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
