"""The command `curate`: parses and prints; every command is one library call.

Libraries are imported inside the commands, so that help and usage errors come at once.
"""

import importlib.metadata
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from curate.commands import bench, build_index, copies, fetch, info, refine, retrieve, suggest, upkeep
from transferset.entry_point import run_cli

COMMANDS_GROUP = "transferset.curate_commands"


class _Commands(TyperGroup):
    """Our commands and those that installed distributions contribute under `transferset.curate_commands`. A
    contributed one is imported when it is asked for."""

    def _contributed(self) -> dict[str, importlib.metadata.EntryPoint]:
        points = importlib.metadata.entry_points(group=COMMANDS_GROUP)
        return {point.name: point for point in points if point.name not in self.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(self._contributed())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        point = self._contributed().get(cmd_name)
        if point is None:
            return super().get_command(ctx, cmd_name)
        one = typer.Typer(add_completion=False, rich_markup_mode=None)
        one.command(cmd_name)(point.load())
        return typer.main.get_command(one)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Build an index from a pool of images, and retrieve transfer sets from it for a few labelled"
    " images.",
)


@app.callback()
def _curate() -> None:
    """Build an index from a pool of images, and retrieve transfer sets from it for a few labelled images."""


app.command("build-index")(build_index.build_index)
for command in (
    *(retrieve.retrieve, info.info),
    *(copies.calibrate, copies.guard, fetch.fetch),
    *(upkeep.forget, upkeep.compact, upkeep.verify),
    *(suggest.suggest, refine.refine, bench.bench),
):
    app.command()(command)


def main() -> NoReturn:
    """Entry point of the console script."""
    run_cli(app)


if __name__ == "__main__":
    main()
