"""Switches, for their agents and for operators."""
from . import check

PORTS = 4


def switch(rack, id, ports=PORTS, **more):
    nics = [{"name": f"swp{n}", "identifier": f"{id}-{n}"} for n in range(1, ports + 1)]
    return {"id": id, "rack": rack, "partition": "fra-1", "management_ip": "10.1.1.1", "description": id,
            "os": {"vendor": "SWITCH_OS_VENDOR_CUMULUS", "version": "5.0", "metal_core_version": "v1"}, "nics": nics, **more}


def run(world):
    operator, agent = world.operator, world.agent
    for rack in ["r01", "r02"]:
        for side in "ab":
            made = agent.infra("SwitchService/Register", switch=switch(rack, f"{rack}-{side}")).switch
            check.equal(f"switch {made.id} registers", (made.id, [n.name for n in made.nics]), (made.id, ["swp1", "swp2", "swp3", "swp4"]))
    agent.refused("failed_precondition", "infra.v2.SwitchService/Register", switch={**switch("r09", "r09-a"), "partition": "nowhere"})
    check.equal("its agent reads it", agent.infra("SwitchService/Get", id="r01-a").switch.rack, "r01")
    check.equal("operators read it", operator.admin("SwitchService/Get", id="r01-a").switch.description, "r01-a")
    check.equal("operators find them", [s.id for s in operator.admin("SwitchService/List", query={"rack": "r02"}).switches], ["r02-a", "r02-b"])
    before = operator.admin("SwitchService/Get", id="r01-a").switch
    changed = operator.admin("SwitchService/Update", id="r01-a", update_meta={"updated_at": before.meta.updated_at}, description="top of rack").switch
    check.equal("operators describe it", (changed.description, changed.management_ip), ("top of rack", "10.1.1.1"))
    wished = operator.admin("SwitchService/Port", id="r01-a", nic_name="swp4", status="SWITCH_PORT_STATUS_DOWN").switch
    check.equal("a port is wished down", check.named(wished.nics[3].state, "desired"), "DOWN")
    beat = agent.infra("SwitchService/Heartbeat", id="r01-a", duration={"nanos": 200_000_000},
                       port_states={f"swp{n}": "SWITCH_PORT_STATUS_DOWN" if n == 4 else "SWITCH_PORT_STATUS_UP" for n in range(1, PORTS + 1)},
                       bgp_port_states={"swp1": {"neighbor": "m1", "peer_group": "fabric", "vrf_name": "default", "bgp_state": "BGP_STATE_ESTABLISHED",
                                                 "bgp_timer_up_established": {"seconds": 1700000000}, "sent_prefix_counter": 3}})
    check.true("a heartbeat is noted", beat.last_sync.duration.nanos == 200_000_000 and not beat.HasField("last_sync_error"), beat)
    seen = operator.admin("SwitchService/Get", id="r01-a").switch
    check.equal("and fulfils the wish", (seen.nics[3].state.HasField("desired"), check.named(seen.nics[3].state, "actual"), seen.nics[0].bgp_port_state.sent_prefix_counter), (False, "DOWN", 3))
    failed = agent.infra("SwitchService/Heartbeat", id="r01-b", duration={"seconds": 1}, error="frr is down")
    check.equal("an agent tells what fails", failed.last_sync_error.error, "frr is down")


def migrate(world):
    """Needs machines at the rack r02."""
    operator, agent = world.operator, world.agent
    connected = operator.admin("SwitchService/ConnectedMachines", query={"rack": "r02"}).switches_with_machines
    check.equal("operators see what hangs where", {s.id: [c.machine.uuid for c in s.connections] for s in connected},
                {"r02-a": [world.uuid("r02", 1)], "r02-b": [world.uuid("r02", 1)]})
    agent.infra("SwitchService/Register", switch=switch("r02", "r02-c"))
    moved = operator.admin("SwitchService/Migrate", old_switch="r02-b", new_switch="r02-c").switch
    check.equal("a switch hands over to another", (moved.id, [c.machine_id for c in moved.machine_connections]), ("r02-c", [world.uuid("r02", 1)]))
    operator.refused("failed_precondition", "admin.v2.SwitchService/Delete", id="r02-c")
    check.true("a switch with machines stays", True)
    check.equal("a switch is deleted", operator.admin("SwitchService/Delete", id="r02-b").switch.id, "r02-b")
    operator.refused("not_found", "admin.v2.SwitchService/Get", id="r02-b")
