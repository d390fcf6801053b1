"""Only public addresses are connected to, and only those that were looked at."""

import ipaddress
import socket

import pytest

from curate.fetch.addresses import AddressRule, is_public
from curate.fetch.reasons import ADDRESS, Failure


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1",
        "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255", "240.0.0.1",
        "100.64.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.9", "2001:db8::1",
        "::1", "::", "fe80::1", "fec0::1", "fc00::1", "100::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not AddressRule().permits(address)
    assert AddressRule(allow_all=True).permits(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_a_public_address(address: str) -> None:
    assert is_public(ipaddress.ip_address(address)) and AddressRule().permits(address)


def test_a_scope_changes_nothing_and_nonsense_is_refused() -> None:
    assert not AddressRule().permits("fe80::1%eth0")
    assert not AddressRule().permits("somewhere")


def test_a_network_can_be_allowed() -> None:
    rule = AddressRule.of(False, ["10.1.0.0/16", "127.0.0.1"])
    assert rule.permits("10.1.2.3") and rule.permits("127.0.0.1")
    assert not rule.permits("10.2.0.1") and not rule.permits("127.0.0.2")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "::1"])
def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    with pytest.raises(Failure) as caught:
        AddressRule().resolve(host, 80)
    assert caught.value.reason == ADDRESS


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that its owner controls: public first, private behind it."""
    _resolve_to(monkeypatch, ["1.1.1.1", "192.168.0.1"])
    with pytest.raises(Failure, match=r"example\.org is 192\.168\.0\.1"):
        AddressRule().resolve("example.org", 80)


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer would be another one, and is never asked for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = _resolve_to(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        connection = AddressRule.of(False, ["127.0.0.1"]).connect("example.org", port, 5)
        with connection:
            assert connection.getpeername() == ("127.0.0.1", port)
        assert asked == ["example.org"]


def test_the_next_address_is_tried_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        _resolve_to(monkeypatch, ["127.0.0.9", "127.0.0.1"])
        with AddressRule(allow_all=True).connect("example.org", port, 5) as connection:
            assert connection.getpeername()[0] == "127.0.0.1"


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    asked: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked
