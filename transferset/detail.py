"""Whether two pictures, one laid over the other, show the same fine structure where they overlap.

Different photographs of one kind of scene hardly ever agree in their fine structure at the same place; except
that stripes agree with stripes wherever they are laid. So windows with corners count: where hardly any
agrees, nearly everything else has to. And a brick wall or a printed page agrees, corners and all, with
another part of its kind. But then it agrees as well when it is moved by a brick or a line. So where a picture
repeats, its place has to be unique: the difference must be much less than at the best place elsewhere.
Nothing at all may differ in a pattern without blemishes, though: that is the same picture wherever it lies.

Method: windows with corners by the eigenvalues of the structure tensor after J. Shi and C. Tomasi, "Good
features to track" (1994); other places by masked normalised correlation after D. Padfield, "Masked object
registration in the Fourier domain" (2012); against the second-best place as D. Lowe's ratio test of matches
(2004).
"""

import numpy as np
from scipy import fft, ndimage

_SAME, _CONTRAST, _CORNER = 0.6, 2.0, 0.15
_LEAST_SEEN, _LEAST_CORNERS = 0.2, 0.1
_WITHOUT_CORNERS = 0.88
_REPEATS, _NEAR, _LEAST_OF_SMALLER = 0.5, 4, 0.4
_UNIQUE, _UNIQUE_WHOLE, _WHOLE = 0.3, 0.8, 0.9
_IDENTICAL = 0.99


def same_detail(original: np.ndarray, copy: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> float:
    """How much of the fine structure of two pictures, (h, w) float32 each, is the same where they overlap,
    0 to 1.

    The original's pixel at p (y, x from the picture's centre) shows what the copy shows at `linear @ p +
    shift`. It is the share of windows that correlate, weighted by their contrast: of those with corners in
    both, or of all, whichever is less; 0 where too little is seen, or too few corners agree and not nearly
    all else, or the place is one of several that agree as well.
    """
    laid = laid_over(original.shape, copy, linear, shift)
    inside = ~np.isnan(laid)
    least = min(original.size, copy.size)
    share = _windows(np.where(inside, original, 0), np.where(inside, laid, 0), inside, least)
    if share == 0:
        return 0.0
    here, elsewhere = places(original, laid)
    of_copy = np.count_nonzero(inside) * abs(float(np.linalg.det(linear))) / copy.size
    whole = max(float(inside.mean()), of_copy) >= _WHOLE
    allowed = _UNIQUE_WHOLE if whole else _UNIQUE
    unique = elsewhere < _REPEATS or here >= _IDENTICAL or 1 - here < allowed * (1 - elsewhere)
    return share if unique else 0.0


def laid_over(shape: tuple[int, ...], copy: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The copy as the original's pixels see it, (h, w) float32; NaN outside of the copy."""
    offset = (np.array(copy.shape) - 1) / 2 + shift
    offset = offset - linear @ ((np.array(shape) - 1) / 2)
    laid = ndimage.affine_transform(copy, linear, offset, shape, order=1, cval=np.nan)
    return np.asarray(laid, np.float32)


def _windows(a: np.ndarray, b: np.ndarray, inside: np.ndarray, least: int) -> float:
    count = np.maximum(_window(inside.astype(np.float32)), 1e-3)
    mean_a, mean_b = _window(a) / count, _window(b) / count
    variance_a = np.maximum(_window(a * a) / count - mean_a**2, 0)
    variance_b = np.maximum(_window(b * b) / count - mean_b**2, 0)
    covariance = _window(a * b) / count - mean_a * mean_b
    same = covariance > _SAME * np.sqrt((variance_a + 1) * (variance_b + 1))
    contrast = np.minimum(np.sqrt(np.minimum(variance_a, variance_b)), 8.0)
    weight = np.where(inside & (count > 0.3), contrast, 0)
    corners = weight * (np.minimum(_cornerness(a), _cornerness(b)) > _CORNER)
    if np.count_nonzero(same & (weight > _CONTRAST)) < _LEAST_SEEN * least:
        return 0.0
    overall = float(weight[same].sum() / weight.sum())
    if overall >= _WITHOUT_CORNERS:
        return overall
    if np.count_nonzero(same & (corners > _CONTRAST)) < _LEAST_CORNERS * least:
        return 0.0
    return min(overall, float(corners[same].sum() / corners.sum()))


def places(original: np.ndarray, laid: np.ndarray) -> tuple[float, float]:
    """How two pictures of one size, the second with NaN where it has nothing, correlate as they lie, and at
    best when the second is moved by more than a few pixels; both -1 to 1."""
    mask = ~np.isnan(laid)
    size = tuple(fft.next_fast_len(2 * length, True) for length in original.shape)
    moved = np.where(mask, laid, 0).astype(np.float32)
    f = np.conj(fft.rfft2(np.stack([original, original**2, np.ones_like(original)]), size))
    m = fft.rfft2(np.stack([moved, moved**2, mask.astype(np.float32)]), size)
    products = np.stack([f[0] * m[0], f[1] * m[2], f[2] * m[1], f[2] * m[2]])
    cross, energy, moved_energy, overlap = fft.irfft2(products, size)
    correlation = cross / np.sqrt(np.maximum(energy, 0.1) * np.maximum(moved_energy, 0.1))
    far = np.ones(size, bool)
    for rows in (slice(0, _NEAR + 1), slice(-_NEAR, None)):
        far[rows, : _NEAR + 1] = far[rows, -_NEAR:] = False
    enough = overlap >= _LEAST_OF_SMALLER * np.count_nonzero(mask)
    return float(correlation[0, 0]), float(correlation[far & enough].max(initial=-1))


def _window(values: np.ndarray) -> np.ndarray:
    """Sums over a small window around each pixel, weighted by distance."""
    return np.asarray(ndimage.gaussian_filter(values, 2.5, mode="constant", truncate=3.0))


def _cornerness(picture: np.ndarray) -> np.ndarray:
    """Least over largest eigenvalue of the structure tensor: 0 along stripes, 1 where no direction is."""
    down, right = np.gradient(picture)
    yy, xx, xy = _window(down * down), _window(right * right), _window(down * right)
    spread = np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return np.asarray(((yy + xx) / 2 - spread) / ((yy + xx) / 2 + spread + 1e-6))
