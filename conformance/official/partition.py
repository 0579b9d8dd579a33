"""Partitions."""
from . import check


def run(world):
    operator, alice = world.operator, world.alice
    boot = {"image_url": f"{world.files}/initrd", "kernel_url": f"{world.files}/kernel", "commandline": "quiet"}
    made = operator.admin("PartitionService/Create", partition={
        "id": "fra-1", "description": "first", "boot_configuration": boot, "dns_servers": [{"ip": "1.1.1.1"}],
        "ntp_servers": [{"address": "ntp.example.com"}], "mgmt_service_addresses": ["10.0.0.1:1234", "mgmt.example.com"],
        "meta": {"labels": {"labels": {"country": "de"}}}}).partition
    check.equal("a partition is created", (made.id, made.boot_configuration.commandline, list(made.mgmt_service_addresses)),
                ("fra-1", "quiet", ["10.0.0.1:1234", "mgmt.example.com"]))
    operator.refused("already_exists", "admin.v2.PartitionService/Create", partition={"id": "fra-1"})
    check.true("only once", True)
    text = operator.refused("invalid_argument", "admin.v2.PartitionService/Create", partition={
        "id": "fra-2", "boot_configuration": {**boot, "kernel_url": f"{world.files}/missing"}})
    check.true("a kernel that cannot be fetched is refused", "missing" in text, text)
    check.equal("users read it", alice.api("PartitionService/Get", id="fra-1").partition, made)
    check.equal("labels find it", [p.id for p in alice.api("PartitionService/List", query={"labels": {"labels": {"country": "de"}}}).partitions], ["fra-1"])
    changed = operator.admin("PartitionService/Update", id="fra-1", update_meta={"updated_at": made.meta.updated_at}, description="the first").partition
    check.equal("an update keeps what it does not name", (changed.description, changed.dns_servers[0].ip), ("the first", "1.1.1.1"))
    operator.refused("aborted", "admin.v2.PartitionService/Update", id="fra-1", update_meta={"updated_at": made.meta.updated_at}, description="late")
    check.true("who read an older one is told so", True)
    operator.admin("PartitionService/Create", partition={"id": "ber-1"})
    check.equal("a partition is deleted", operator.admin("PartitionService/Delete", id="ber-1").partition.id, "ber-1")
    alice.refused("not_found", "api.v2.PartitionService/Get", id="ber-1")
    alice.refused("permission_denied", "admin.v2.PartitionService/Delete", id="fra-1")
