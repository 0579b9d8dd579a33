"""Networks."""
from . import check


def run(world):
    operator, alice = world.operator, world.alice
    made = operator.admin("NetworkService/Create", id="super", type="NETWORK_TYPE_SUPER", partition="fra-1", prefixes=["10.0.0.0/16", "fd00::/48"],
                          default_child_prefix_length={"ipv4": 22, "ipv6": 64}, additional_announcable_cidrs=["10.240.0.0/12"]).network
    check.equal("a super network is created", (made.id, list(made.prefixes)), ("super", ["10.0.0.0/16", "fd00::/48"]))
    operator.admin("NetworkService/Create", id="internet", type="NETWORK_TYPE_EXTERNAL", vrf=104, prefixes=["212.34.83.0/27"],
                   destination_prefixes=["0.0.0.0/0"], nat_type="NAT_TYPE_IPV4_MASQUERADE")
    operator.admin("NetworkService/Create", id="underlay", type="NETWORK_TYPE_UNDERLAY", partition="fra-1", prefixes=["10.253.0.0/24"])
    text = operator.refused("invalid_argument", "admin.v2.NetworkService/Create", id="crooked", type="NETWORK_TYPE_EXTERNAL", vrf=9, prefixes=["10.9.0.1/16"])
    check.true("a prefix with host bits is refused, with the right one", "10.9.0.0/16" in text, text)
    operator.refused("already_exists", "admin.v2.NetworkService/Create", id="thief", type="NETWORK_TYPE_EXTERNAL", vrf=9, prefixes=["10.0.128.0/17"])
    check.true("prefixes do not overlap", True)
    private = alice.api("NetworkService/Create", project=world.project, partition="fra-1", name="private", labels={"labels": {"tier": "db"}}).network
    world.network = private.id
    check.equal("a private network is carved out of it",
                (check.named(private, "type"), private.parent_network, list(private.prefixes)), ("CHILD", "super", ["10.0.0.0/22", "fd00::/64"]))
    small = alice.api("NetworkService/Create", project=world.project, parent_network="super", length={"ipv4": 28}, address_family="NETWORK_ADDRESS_FAMILY_V4").network
    check.equal("of any length", list(small.prefixes), ["10.0.4.0/28"])
    check.equal("users read it", alice.api("NetworkService/Get", id=private.id, project=world.project).network.name, "private")
    alice.refused("not_found", "api.v2.NetworkService/Get", id="super", project=world.project)
    check.equal("labels find it", [n.id for n in alice.api("NetworkService/List", project=world.project, query={"labels": {"labels": {"tier": "db"}}}).networks], [private.id])
    base = alice.api("NetworkService/ListBaseNetworks", project=world.project).networks
    check.true("users see what they may attach to", {"internet", "super", private.id} <= {n.id for n in base}, base)
    changed = alice.api("NetworkService/Update", id=private.id, project=world.project, update_meta={"updated_at": private.meta.updated_at}, description="data").network
    check.equal("users describe it", (changed.name, changed.description), ("private", "data"))
    changed = operator.admin("NetworkService/Update", id="internet", update_meta=check.FRESH, prefixes=["212.34.83.0/27", "212.34.84.0/27"]).network
    check.equal("operators add prefixes", list(changed.prefixes), ["212.34.83.0/27", "212.34.84.0/27"])
    check.equal("operators read it", operator.admin("NetworkService/Get", id="internet").network, changed)
    check.equal("operators find it", [n.id for n in operator.admin("NetworkService/List", query={"prefixes": ["212.34.84.0/27"]}).networks], ["internet"])
    check.equal("a private network is deleted", alice.api("NetworkService/Delete", id=small.id, project=world.project).network.id, small.id)
    operator.admin("NetworkService/Create", id="short", type="NETWORK_TYPE_EXTERNAL", vrf=200, prefixes=["10.99.0.0/24"])
    check.equal("operators delete one", operator.admin("NetworkService/Delete", id="short").network.id, "short")
    operator.refused("failed_precondition", "admin.v2.NetworkService/Delete", id="super")
    check.true("a network with children stays", True)
