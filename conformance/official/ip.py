"""Addresses."""
from . import check


def run(world):
    operator, alice = world.operator, world.alice
    made = alice.api("IPService/Create", project=world.project, network=world.network, name="first", labels={"labels": {"use": "vip"}}).ip
    check.equal("an address is taken", (made.ip, check.named(made, "type"), made.project), ("10.0.0.1", "EPHEMERAL", world.project))
    six = alice.api("IPService/Create", project=world.project, network=world.network, address_family="IP_ADDRESS_FAMILY_V6", type="IP_TYPE_STATIC").ip
    check.equal("of either family", (six.ip, check.named(six, "type")), ("fd00::1", "STATIC"))
    named = alice.api("IPService/Create", project=world.project, network="internet", ip="212.34.83.7").ip
    check.equal("or a certain one", named.ip, "212.34.83.7")
    alice.refused("invalid_argument", "api.v2.IPService/Create", project=world.project, network="internet", ip="10.1.1.1")
    check.equal("it is read", alice.api("IPService/Get", ip=made.ip, project=world.project).ip, made)
    found = alice.api("IPService/List", project=world.project, query={"labels": {"labels": {"use": "vip"}}}).ips
    check.equal("labels find it", [i.ip for i in found], [made.ip])
    check.equal("a prefix finds it", [i.ip for i in alice.api("IPService/List", project=world.project, query={"parent_prefix_cidr": "10.0.0.0/22"}).ips], [made.ip])
    changed = alice.api("IPService/Update", ip=made.ip, project=world.project, update_meta={"updated_at": made.meta.updated_at}, type="IP_TYPE_STATIC").ip
    check.equal("an address becomes static", (check.named(changed, "type"), changed.name), ("STATIC", "first"))
    alice.refused("invalid_argument", "api.v2.IPService/Update", ip=made.ip, project=world.project, update_meta=check.FRESH, type="IP_TYPE_EPHEMERAL")
    check.true("for good", True)
    check.equal("operators see all", {i.ip for i in operator.admin("IPService/List", query={"project": world.project}).ips}, {made.ip, six.ip, named.ip})
    alice.refused("failed_precondition", "api.v2.NetworkService/Delete", id=world.network, project=world.project)
    check.true("a network with addresses stays", True)
    for ip in [made, six, named]:
        check.equal(f"{ip.ip} is given back", alice.api("IPService/Delete", ip=ip.ip, project=world.project).ip.uuid, ip.uuid)
    alice.refused("not_found", "api.v2.IPService/Get", ip=made.ip, project=world.project)
    check.equal("nothing is left", list(alice.api("IPService/List", project=world.project).ips), [])
