"""Where clients connect from, as far as shares of the queues are concerned."""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address


@lru_cache(4096)
def network_of(address: str) -> str:
    """Return the address, or for IPv6 its network of 64 bits: one host can use all addresses of such a network.

    Args:
        address: an IP address as the system writes it, perhaps with a zone; or any other text, which stays as it is.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
