"""Whether one image is a copy of another, seen in their pixels: lay one over the other, then compare.

A copy may be a part of the original, flipped, scaled, framed, turned by a few degrees, re-encoded, recoloured
or written over. So a similarity of the whole says little. Here the copy's place in the original is searched
(flips, scales, turns and every shift, by the normalised cross-correlation of band-passed grey pictures), made
exact to fractions of a pixel, and then the fine structure of both is compared in small windows
(`transferset.detail`).

Method: normalised cross-correlation of overlapping parts in the Fourier domain after D. Padfield, "Masked
object registration in the Fourier domain" (2012); affine refinement (Gauss-Newton, weighted against what is
written over) after B. Lucas and T. Kanade (1981).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from transferset.detail import laid_over, same_detail
from transferset.sketch import COARSE_SIDE, SIDE, Sketch

SAME_PICTURE = 0.6
"""From this agreement on two images count as copies. Chosen on photographs of scenes: 60
originals with 26 kinds of copies, against 3,000 pairs of the most similar different photographs."""

_SCALES = tuple(1.14**step for step in range(-6, 5))
_TURNED_SCALES = (0.75, 1.25)
_FLIP = np.diag([1.0, -1.0])
_TURNS = tuple(np.radians([7.0, -7.0]))
_LEAST_OF_SMALLER, _LEAST_OF_ORIGINAL = 0.4, 0.15
_PLACEMENTS = 4
_STEPS, _TRIAL_STEPS, _TRIAL = 12, 3, 0.4
_MOST_STRETCH, _MOST_TURN = 1.35, 18.0
_THROUGHOUT = 0.9
_CERTAIN = 0.9


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a copy, scaled to the original's size of things, lies: the original's pixel at p (y, x from the
    picture's centre, in pixels of its `grey`) shows what the copy shows at `linear @ p + shift`."""

    copy: Sketch
    linear: np.ndarray
    shift: np.ndarray

    @property
    def plausible(self) -> bool:
        """Whether an edited copy may lie so: not sheared, stretched or turned much."""
        left, sizes, right = np.linalg.svd(self.linear)
        turned = left @ right
        angle = abs(np.degrees(np.arctan2(turned[1, 0], turned[0, 0])))
        return bool(sizes[0] <= _MOST_STRETCH * sizes[1] and min(angle, 180 - angle) <= _MOST_TURN)


def agreement(original: Sketch, copy: Sketch) -> float:
    """How much of what both images show where they overlap is the same, 0 to 1, for the best way to lay the
    second over the first. Compare with SAME_PICTURE."""
    return _agreement(original, _search(original, copy, _hypotheses(original, copy), _PLACEMENTS))


def promise(original: Sketch, copy: Sketch, scale: float, mirrored: bool) -> float:
    """A cheap first look at one way to lay the second over the first, -1 to 1: the correlation at the best
    shift for sizes near `scale` (of the original's), mirrored or not. It costs a twentieth of `agreement`,
    and proves nothing: it puts pairs in an order."""
    tried = _near(original, copy, scale, mirrored)
    ranks, _ = _correlate(original.coarse, copy, tried)
    areas = [height * width * (COARSE_SIDE / SIDE) ** 2 for (height, width), _ in tried]
    return float((ranks / np.sqrt(np.minimum(areas, original.coarse.size))).max())


def agreement_near(original: Sketch, copy: Sketch, scale: float, mirrored: bool) -> float:
    """`agreement` where it is known how the second would lie, at about this scale, mirrored or not; and
    stricter: 0 unless shades, edges and detail all correlate where the two overlap, so that two photographs
    of one horizon, or of two moles, don't pass. It costs a fifth, and misses what lies otherwise, or is
    written over."""
    return _agreement(
        original, _search(original, copy, _near(original, copy, scale, mirrored), 2), strict=True
    )


def _agreement(original: Sketch, placements: list[Placement], strict: bool = False) -> float:
    best = 0.0
    for placement in placements:
        refined = _refine(original.structure, placement)
        if refined is None or not refined.plausible:
            continue
        if strict and not _correlate_throughout(original, refined):
            continue
        copied = refined.copy.detail
        best = max(best, same_detail(original.detail, copied, refined.linear, refined.shift))
        if best > _CERTAIN:
            break
    return best


def _correlate_throughout(original: Sketch, placement: Placement) -> bool:
    copy = placement.copy
    pairs = ((original.grey, copy.grey), (original.structure, copy.structure), (original.detail, copy.detail))
    for one, other in pairs:
        laid = laid_over(one.shape, other, placement.linear, placement.shift)
        inside = ~np.isnan(laid)
        if np.count_nonzero(inside) < 100:
            return False
        a, b = one[inside] - one[inside].mean(), laid[inside] - laid[inside].mean()
        if a @ b < _THROUGHOUT * np.sqrt((a @ a) * (b @ b)):
            return False
    return True


def _near(
    original: Sketch, copy: Sketch, scale: float, mirrored: bool
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Hypotheses (see `_hypotheses`) near a scale."""
    linear = _FLIP if mirrored else np.eye(2)
    (tall, wide), (height, width) = original.grey.shape, copy.grey.shape
    sizes = [(scale * step * height, scale * step * width) for step in (0.9, 1.0, 1.1)]
    if abs(np.log(height * wide / (width * tall))) > 0.06:
        sizes.append((scale * tall, scale * wide))
    return [((max(8, round(down)), max(8, round(right))), linear) for down, right in sizes]


def _search(
    original: Sketch, copy: Sketch, tried: Sequence[tuple[tuple[int, int], np.ndarray]], most: int
) -> list[Placement]:
    """The most promising placements, best first, no two of them alike."""
    ranks, centres = _correlate(original.coarse, copy, tried)
    chosen: list[Placement] = []
    for number in np.argsort(-ranks, kind="stable").tolist():
        shape, linear = tried[number]
        one = Placement(copy.resized(shape), linear, -linear @ centres[number] * (SIDE / COARSE_SIDE))
        if ranks[number] > 0 and not any(_alike(one, other) for other in chosen):
            chosen.append(one)
        if len(chosen) == most:
            break
    return chosen


def _hypotheses(original: Sketch, copy: Sketch) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Sizes (h, w) of the copy in the original with the linear map back: mirrored or not, at every scale, and
    at some turned; and squeezed to the original's shape where its own is another one."""
    (tall, wide), (height, width) = original.grey.shape, copy.grey.shape
    plain, mirrored = np.eye(2), _FLIP
    found = []
    for scale in _SCALES:
        shape = max(8, round(scale * height)), max(8, round(scale * width))
        found += [(shape, plain), (shape, mirrored)]
        if _TURNED_SCALES[0] <= scale <= _TURNED_SCALES[1]:
            turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in _TURNS]
            found += [(shape, turn @ flip) for turn in turns for flip in (plain, mirrored)]
    if abs(np.log(height * wide / (width * tall))) > 0.06:
        found += [((tall, wide), plain), ((tall, wide), mirrored)]
    return found


def _draw(picture: np.ndarray, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture turned and mirrored, and where it has pixels, both (h, w) float32."""
    if linear[0, 1] == 0:
        return picture[:, :: int(linear[1, 1])], np.ones_like(picture)
    shape = np.ceil(np.abs(linear.T) @ np.array(picture.shape)).astype(int)
    offset = (np.array(picture.shape) - 1) / 2 - linear @ ((shape - 1) / 2)
    drawn, mask = (
        ndimage.affine_transform(one, linear, offset, tuple(shape), order=1)
        for one in (picture, np.ones_like(picture))
    )
    return drawn, mask


def _correlate(
    original: np.ndarray, copy: Sketch, tried: Sequence[tuple[tuple[int, int], np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """For each hypothesis its best place: rank (n,) (correlation times the square root of the overlap: little
    overlap correlates by chance) and the drawn copy's centre (n, 2) from the original's."""
    drawn = [_draw(copy.resized(shape).coarse, linear) for shape, linear in tried]
    shapes = np.array([picture.shape for picture, _ in drawn])
    size = tuple(fft.next_fast_len(int(length), True) for length in original.shape + shapes.max(axis=0))
    fixed = np.zeros((3, *size), np.float32)
    fixed[:, : original.shape[0], : original.shape[1]] = original, original**2, np.ones_like(original)
    moving = np.zeros((len(tried), 3, *size), np.float32)
    for place, (picture, mask) in zip(moving, drawn):
        place[:, : picture.shape[0], : picture.shape[1]] = picture, picture**2, mask
    f, m = np.conj(fft.rfft2(fixed)), fft.rfft2(moving)
    products = np.stack([m[:, 0] * f[0], m[:, 1] * f[2], m[:, 2] * f[1], m[:, 2] * f[2]])
    cross, copy_energy, energy, overlap = fft.irfft2(products, size)
    areas = moving[:, 2].sum(axis=(1, 2))
    least = np.maximum(
        _LEAST_OF_SMALLER * np.minimum(areas, original.size), _LEAST_OF_ORIGINAL * original.size
    )
    correlation = cross / np.sqrt(np.maximum(energy, 1e-2) * np.maximum(copy_energy, 1e-2))
    rank = np.where(overlap >= least[:, None, None], correlation * np.sqrt(np.maximum(overlap, 0)), -1)
    flat = rank.reshape(len(tried), -1)
    best = flat.argmax(axis=1)
    # rank[d]: the drawn copy's pixel p + d lies on the original's pixel p
    moved = np.column_stack(np.divmod(best, size[1]))
    moved -= np.where(moved >= shapes, size, 0)
    centres = (shapes - 1) / 2 - moved - (np.array(original.shape) - 1) / 2
    return flat[np.arange(len(tried)), best], centres


def _alike(one: Placement, other: Placement) -> bool:
    ratio = one.copy.grey.shape[0] / other.copy.grey.shape[0]
    return bool(
        abs(np.log(ratio)) < 0.2
        and np.abs(one.linear - other.linear).max() < 0.2
        and np.abs(one.shift - other.shift).max() < 5
    )


def _refine(original: np.ndarray, start: Placement) -> Placement | None:
    """The placement with least difference of the structures near `start`; None where the two part, or don't
    come together in the first few steps."""
    copy = start.copy.structure
    slopes = np.gradient(copy)
    grid = np.indices(original.shape).reshape(2, -1) - ((np.array(original.shape) - 1) / 2)[:, None]
    centre = ((np.array(copy.shape) - 1) / 2)[:, None]
    linear, shift = start.linear, start.shift
    for number in range(_STEPS):
        points = linear @ grid + shift[:, None] + centre
        inside = ((points >= 0) & (points <= 2 * centre)).all(axis=0)
        if np.count_nonzero(inside) < 100:
            return None
        points, near = points[:, inside], grid[:, inside] / SIDE
        seen, down, right = (
            ndimage.map_coordinates(one, points, order=1, prefilter=False) for one in (copy, *slopes)
        )
        wanted = original.reshape(-1)[inside]
        if number == _TRIAL_STEPS and wanted @ seen < _TRIAL * np.sqrt((wanted @ wanted) * (seen @ seen)):
            return None
        gain = min(max(float(wanted @ seen) / max(float(seen @ seen), 1e-6), 0.3), 3.0)
        missing = wanted - gain * seen
        weight = 1 / (1 + (missing / 0.5) ** 2)
        slope = gain * np.stack(
            [down * near[0], down * near[1], down, right * near[0], right * near[1], right]
        )
        weighted = slope * weight
        normal = weighted @ slope.T
        step = np.linalg.solve(normal + (1e-2 * np.trace(normal) / 6 + 1e-6) * np.eye(6), weighted @ missing)
        length = float(np.abs(step).max())
        step *= min(1.0, 2.0 / max(length, 1e-9))
        linear = linear + np.array([step[0:2], step[3:5]]) / SIDE
        shift = shift + step[[2, 5]]
        if length < 0.03:
            break
    return Placement(start.copy, linear, shift)
