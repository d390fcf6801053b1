import json

import pytest

from curate.pools.metadata import Metadata, parse_metadata


def test_caption_url_and_the_rest_are_told_apart():
    data = json.dumps({"caption": "a cat", "url": "http://x/1.jpg", "width": 3, "key": "000"}).encode()
    found = parse_metadata(data, None)
    assert (found.caption, found.url) == ("a cat", "http://x/1.jpg")
    assert json.loads(found.extra or "") == {"key": "000", "width": 3}


def test_a_text_file_is_the_caption_and_another_one_in_the_json_is_kept():
    found = parse_metadata(b'{"caption": "machine"}', b"human\n")
    assert found == Metadata("human", None, '{"caption":"machine"}')
    assert parse_metadata(b'{"caption": "same"}', b"same") == Metadata("same", None, None)
    assert parse_metadata(b'{"caption": null}', b"human") == Metadata("human", None, None)


def test_nothing_is_nothing():
    assert parse_metadata(None, None) == Metadata()
    assert parse_metadata(b'{"caption": null}', b"  \n") == Metadata()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "cut", "binary", "deep"]
)
def test_what_is_not_json_is_a_problem_and_the_caption_stays(data):
    assert parse_metadata(data, b"human") == Metadata("human", problem="the metadata is not JSON")


def test_a_list_is_a_problem():
    assert parse_metadata(b"[1]", None).problem == "the metadata is not a JSON object"


def test_strange_strings_become_storable():
    found = parse_metadata(b'{"caption": "a\\ud800b", "url": 3, "x": NaN, "y": "\\ud800"}', None)
    assert found.caption == "a\\ud800b"
    assert found.url is None
    assert json.loads(found.extra or "") == {"url": 3, "x": None, "y": "\\ud800"}
