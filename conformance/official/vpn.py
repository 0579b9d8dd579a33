"""The VPN: without a coordination server it says so."""
from . import check


def run(world):
    text = world.operator.refused("failed_precondition", "admin.v2.VPNService/AuthKey", project=world.project, expires={"seconds": 3600}, reason="looking into the firewall")
    check.true("no keys without a coordination server", "vpn" in text.lower(), text)
    world.operator.refused("failed_precondition", "admin.v2.VPNService/ListNodes")
    check.true("and no nodes", True)
