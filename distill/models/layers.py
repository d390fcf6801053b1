"""The layers of a model in their order, for learning rates that fall with depth and for tuning only the
last."""

import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn

# open_clip's own towers, which have no matcher like timm's: what comes first, the numbered blocks, the rest.
_FIRST = re.compile(
    r"(conv1|conv2|conv3|bn1|bn2|bn3|patchnorm_pre_ln|class_embedding|positional_embedding|ln_pre)(\.|$)"
)
_NUMBERED = re.compile(r"(?:transformer\.resblocks\.|layer)(\d+)\.")


def layer_numbers(module: "nn.Module", *, coarse: bool) -> dict[str, int]:
    """The layer (0 … L - 1, from the input on) of every parameter of a backbone without classifier, by name.

    `coarse`: blocks of a transformer, stages of a convnet; else single blocks of both. Models of timm say it
    themselves (`group_matcher`), towers of open_clip that hold one as `trunk` too, its other towers are known
    by their names; of anything else each top-level part is a layer.
    """
    names = [name for name, _ in module.named_parameters()]
    trunk = getattr(module, "trunk", None)
    if hasattr(module, "group_matcher"):
        return _of_timm(module, coarse)
    if trunk is not None and hasattr(trunk, "group_matcher"):
        inner = {f"trunk.{name}": number for name, number in _of_timm(trunk, coarse).items()}
        last = max(inner.values(), default=0)
        return {name: inner.get(name, last) for name in names}
    if any(_NUMBERED.match(name) for name in names):
        return _dense({name: _order(name) for name in names})
    tops = list(dict.fromkeys(name.split(".")[0] for name in names))
    return {name: tops.index(name.split(".")[0]) for name in names}


def _of_timm(module: "nn.Module", coarse: bool) -> dict[str, int]:
    from timm.models import group_parameters

    matcher = cast(Any, module).group_matcher(coarse=coarse)
    found: dict[str, int] = group_parameters(module, matcher, reverse=True)
    return _dense(found)


def _order(name: str) -> int:
    numbered = _NUMBERED.match(name)
    if numbered:
        return 1 + int(numbered[1])
    return 0 if _FIRST.match(name) else 1 << 20


def _dense(order: dict[str, int]) -> dict[str, int]:
    """Numbered without gaps; what stands behind the blocks (a norm, a projection) goes with the last one."""
    blocks = sorted({number for number in order.values() if number < 1 << 20})
    return {name: blocks.index(min(number, blocks[-1])) for name, number in order.items()}
