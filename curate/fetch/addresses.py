"""Which addresses may be connected to.

A URL of a web crawl can name any host, and its owner decides where that name leads: to the machine itself,
to the local network, to a cloud's metadata service. So every address that a name resolves to is looked at,
and the connection is made to one of just these addresses, never to the name: a name that resolves
differently a moment later (DNS rebinding) gains nothing.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.fetch.reasons import ADDRESS, Failure

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Besides what `is_global` knows, which older releases of Python judge differently: relays into IPv4,
# discard-only, site-local, benchmarking, and Azure's host service, which has a public address.
_REFUSED = tuple(
    ipaddress.ip_network(one)
    for one in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class AddressRule:
    """What may be connected to: public addresses, `allowed` networks, or anything."""

    allow_all: bool = False
    allowed: tuple[Network, ...] = field(default=())

    @classmethod
    def of(cls, allow_all: bool, networks: Sequence[str]) -> "AddressRule":
        """From options: networks as text."""
        return cls(allow_all, tuple(ipaddress.ip_network(one, strict=False) for one in networks))

    def permits(self, text: str) -> bool:
        """Whether an address, as `getaddrinfo` writes it, may be connected to."""
        if self.allow_all:
            return True
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.allowed) or is_public(address)

    def resolve(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        """Family and socket address of everything that `host` resolves to.

        Raises Failure if one of them may not be connected to, even if others may; socket.gaierror.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for _, _, _, _, where in found:
            if not self.permits(str(where[0])):
                told = host if host == where[0] else f"{host} is {where[0]}, which"
                raise Failure(ADDRESS, f"{told} is not a public address")
        return [(family, where) for family, _, _, _, where in found]

    def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        """A connected TCP socket. The peer's address is looked at once more when it stands."""
        failed: OSError | None = None
        for family, where in self.resolve(host, port):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout)
                connection.connect(where)
                peer = str(connection.getpeername()[0])
                if not self.permits(peer):
                    raise Failure(ADDRESS, f"{host} led to {peer}, which is not a public address")
                return connection
            except OSError as error:
                connection.close()
                failed = error
            except BaseException:
                connection.close()
                raise
        raise failed or OSError(f"{host} has no address")


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet: no private, loopback, link-local, multicast,
    reserved or metadata-service address, and no IPv6 address that stands for such an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inside(address)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    if any(address in network for network in _REFUSED if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for: mapped, 6to4, NAT64, or the old compatible form."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    number = int(address)
    if address in _NAT64 or (number >> 32 == 0 and number > 1):
        with contextlib.suppress(ValueError):
            return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None
