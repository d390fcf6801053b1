"""Whether two pictures, one laid over the other, show the same fine structure where they overlap.

Different photographs of one kind of scene hardly ever agree in their fine structure at the same place; except
that stripes agree with stripes wherever they are laid. So windows with corners count: where hardly any
agrees, nearly everything else has to. And a wall, a printed page or a woven cloth agrees, corners and all,
with another part of the same kind as soon as it is moved by a whole brick or line. It agrees less exactly
than a copy, though, and only for as far as the bricks are alike. So what lies only partly on the other needs
many corners, or agreement that is nearly exact; and few corners need close agreement in any case.

Windows with corners by the eigenvalues of the structure tensor after J. Shi and C. Tomasi, "Good features to
track" (1994).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_SAME, _CLOSE, _EXACT = 0.6, 0.8, 0.9
_LEAST_SEEN, _LEAST_CORNERS, _CONTRAST = 0.2, 0.1, 2.0
_CORNER = 0.15
_WITHOUT_CORNERS = 0.88
_FEW_CORNERS, _MOSTLY_CLOSE = 0.12, 0.85
_MANY_CORNERS, _MOSTLY_EXACT = 0.3, 0.75
_ALL_OF_ONE = 0.85


@dataclass(frozen=True)
class Agreeing:
    """What agrees of two pictures. Shares of the smaller one's area: `seen` agrees and has contrast,
    `corners` has corners as well, `covered` lies on the other. Shares of the contrast where they overlap:
    `overall` agrees, `close` closely, `exact` nearly exactly; `of_corners`: of that of windows with
    corners."""

    seen: float
    corners: float
    covered: float
    overall: float
    close: float
    exact: float
    of_corners: float

    @property
    def share(self) -> float:
        """How much is the same, 0 to 1: of windows with corners or of all, whichever is less, or of all where
        nearly all agrees; 0 where what agrees does not tell a copy from a texture."""
        if self.seen < _LEAST_SEEN or not self._unlike_stripes or not self._unlike_texture:
            return 0.0
        return self.overall if self.overall >= _WITHOUT_CORNERS else min(self.overall, self.of_corners)

    @property
    def _unlike_stripes(self) -> bool:
        return self.overall >= _WITHOUT_CORNERS or self.corners >= _LEAST_CORNERS

    @property
    def _unlike_texture(self) -> bool:
        if self.corners < _FEW_CORNERS and self.close < _MOSTLY_CLOSE:
            return False
        alike = self.exact >= _MOSTLY_EXACT and self.corners >= _LEAST_CORNERS
        return self.covered >= _ALL_OF_ONE or self.corners >= _MANY_CORNERS or alike


def same_detail(original: np.ndarray, copy: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> Agreeing:
    """Compare the fine structure of two pictures, (h, w) float32 each, in small windows.

    The original's pixel at p (y, x from the picture's centre) shows what the copy shows at `linear @ p +
    shift`.
    """
    laid = _laid_over(original.shape, copy, linear, shift)
    inside = ~np.isnan(laid)
    a, b = np.where(inside, original, 0), np.where(inside, laid, 0)
    count = np.maximum(_window(inside.astype(np.float32)), 1e-3)
    mean_a, mean_b = _window(a) / count, _window(b) / count
    variance_a = np.maximum(_window(a * a) / count - mean_a**2, 0)
    variance_b = np.maximum(_window(b * b) / count - mean_b**2, 0)
    covariance = _window(a * b) / count - mean_a * mean_b
    correlation = covariance / np.sqrt((variance_a + 1) * (variance_b + 1))
    contrast = np.minimum(np.sqrt(np.minimum(variance_a, variance_b)), 8.0)
    weight = np.where(inside & (count > 0.3), contrast, 0)
    corners = weight * (np.minimum(_cornerness(a), _cornerness(b)) > _CORNER)
    same = correlation > _SAME
    least = min(original.size, copy.size)
    of_copy = np.count_nonzero(inside) * abs(float(np.linalg.det(linear))) / copy.size
    return Agreeing(
        seen=np.count_nonzero(same & (weight > _CONTRAST)) / least,
        corners=np.count_nonzero(same & (corners > _CONTRAST)) / least,
        covered=max(float(inside.mean()), of_copy),
        overall=_share(weight, same),
        close=_share(weight, correlation > _CLOSE),
        exact=_share(weight, correlation > _EXACT),
        of_corners=_share(corners, same),
    )


def _share(weight: np.ndarray, chosen: np.ndarray) -> float:
    return float(weight[chosen].sum() / max(float(weight.sum()), 1e-6))


def _laid_over(shape: tuple[int, ...], copy: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The copy as the original's pixels see it, (h, w) float32; NaN outside of the copy."""
    offset = (np.array(copy.shape) - 1) / 2 + shift
    offset = offset - linear @ ((np.array(shape) - 1) / 2)
    laid = ndimage.affine_transform(copy, linear, offset, shape, order=1, cval=np.nan)
    return np.asarray(laid, np.float32)


def _window(values: np.ndarray) -> np.ndarray:
    """Sums over a small window around each pixel, weighted by distance."""
    return np.asarray(ndimage.gaussian_filter(values, 2.5, mode="constant", truncate=3.0))


def _cornerness(picture: np.ndarray) -> np.ndarray:
    """Least over largest eigenvalue of the structure tensor: 0 along stripes, 1 where no direction is."""
    down, right = np.gradient(picture)
    yy, xx, xy = _window(down * down), _window(right * right), _window(down * right)
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return np.asarray(((yy + xx) / 2 - spread) / ((yy + xx) / 2 + spread + 1e-6))
