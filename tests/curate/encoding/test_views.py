import numpy as np

from curate.encoding.views import COPY_VIEWS, VIEWS_VERSION, views


def test_stored_vectors_are_of_these_views() -> None:
    """Whoever changes a view, or their order, raises VIEWS_VERSION, and then what is expected here: the size
    of each and a pixel of its upper left quarter, of a picture that brightens to the right and downwards."""
    rows, columns = np.mgrid[:40, :60]
    picture = np.stack([4 * columns, 6 * rows, np.full((40, 60), 90)], axis=2).astype(np.uint8)
    expected = [
        ((40, 60), (60, 60, 90)),
        ((40, 60), (176, 60, 90)),
        ((40, 60), (63, 63, 63)),
        ((20, 30), (58, 63, 90)),
        ((20, 30), (65, 65, 65)),
        ((28, 42), (76, 78, 90)),
        ((28, 42), (40, 42, 90)),
        ((28, 42), (112, 42, 90)),
        ((28, 42), (40, 114, 90)),
        ((28, 42), (112, 114, 90)),
        ((14, 21), (78, 75, 90)),
        ((14, 21), (42, 39, 90)),
        ((14, 21), (114, 39, 90)),
        ((14, 21), (42, 111, 90)),
        ((14, 21), (114, 111, 90)),
        ((50, 70), (48, 42, 90)),
        ((50, 70), (48, 42, 90)),
        ((24, 34), (50, 51, 90)),
        ((24, 34), (50, 51, 90)),
        ((24, 34), (50, 51, 90)),
    ]
    found = views(picture)
    assert (len(found), VIEWS_VERSION) == (COPY_VIEWS, 1)
    for view, ((height, width), pixel) in zip(found, expected, strict=True):
        assert view.shape == (height, width, 3)
        np.testing.assert_allclose(view[height // 4, width // 4], pixel, atol=2)
