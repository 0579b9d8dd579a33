"""Machines, for users and for operators: from the pool to their second user."""
from . import bmc, boot, check
from .transports import PROTOCOLS


def reserve(world):
    """Size reservations and the capacity of partitions, while nothing is allocated."""
    operator, alice = world.operator, world.alice
    made = operator.admin("SizeReservationService/Create", size_reservation={
        "name": "rockets first", "project": world.project, "size": "c1", "partitions": ["fra-1"], "amount": 1}).size_reservation
    check.equal("machines are reserved for a project", (made.project, made.size, made.amount), (world.project, "c1", 1))
    check.equal("its users see that", alice.api("SizeReservationService/Get", id=made.id, project=world.project).size_reservation, made)
    check.equal("in a list", [r.id for r in alice.api("SizeReservationService/List", project=world.project).size_reservations], [made.id])
    changed = operator.admin("SizeReservationService/Update", id=made.id, update_meta=check.FRESH, amount=2, partitions=["fra-1"]).size_reservation
    check.equal("a reservation is changed", (changed.amount, changed.name), (2, "rockets first"))
    check.equal("operators find it", [r.id for r in operator.admin("SizeReservationService/List", query={"size": "c1"}).size_reservations], [made.id])
    [partition] = operator.admin("PartitionService/Capacity", id="fra-1").partition_capacity
    [size] = partition.machine_size_capacities
    check.equal("the capacity counts them", (size.size, size.total, size.waiting, size.allocatable, size.free, size.reservations, size.remaining_reservations),
                ("c1", 3, 3, 3, 1, 2, 2))
    check.equal("a reservation is deleted", operator.admin("SizeReservationService/Delete", id=made.id).size_reservation.id, made.id)
    alice.refused("not_found", "api.v2.SizeReservationService/Get", id=made.id, project=world.project)


def request(world, **fields):
    return {"project": world.project, "name": "node", "hostname": "host1", "partition": "fra-1", "size": "c1", "image": "debian-12",
            "allocation_type": "MACHINE_ALLOCATION_TYPE_MACHINE", "networks": [{"network": world.network}], **fields}


def run(world):
    operator, alice, agent = world.operator, world.alice, world.agent
    alice.refused("invalid_argument", "api.v2.MachineService/Create", **request(world, networks=[]))
    alice.refused("not_found", "api.v2.MachineService/Create", **request(world, image="windows-11"))
    machine = alice.api("MachineService/Create", **request(
        world, networks=[{"network": world.network}, {"network": "internet"}], userdata="aGVsbG8=", labels={"labels": {"role": "web"}},
        ssh_public_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJm9sHqHc0bRrXQx0TzRSZ1Ppt4uUqJZ9iWlXJw1p7Yc me"])).machine
    allocation = machine.allocation
    check.equal("a machine is allocated", (allocation.hostname, allocation.created_by, allocation.image.id, allocation.filesystem_layout.id),
                ("host1", "alice", "debian-12.0.20260101", "default"))
    check.equal("with addresses of both families", [(n.network, list(n.ips)) for n in allocation.networks],
                [(world.network, ["10.0.0.1", "fd00::1"]), ("internet", ["212.34.83.1"])])
    told = world.waiting[machine.uuid].allocation()
    check.equal("its installer hears of it", (told.uuid, told.userdata, [n.asn for n in told.networks]),
                (allocation.uuid, "aGVsbG8=", [n.asn for n in allocation.networks]))
    for protocol in PROTOCOLS:
        again = boot.Waiting(world, machine.uuid, protocol).allocation()
        check.equal(f"a stream over {protocol} tells the same", again, told)
    boot.event(world, machine.uuid, "INSTALLING")
    agent.infra("BootService/InstallationSucceeded", uuid=machine.uuid, console_password="s3cret")
    boot.event(world, machine.uuid, "BOOTING_NEW_KERNEL")
    private = f"vrf{allocation.networks[0].vrf}"
    rack, port = world.place(machine.uuid)
    nics = {n.name: n for n in agent.infra("SwitchService/Get", id=f"{rack}-a").switch.nics}
    check.equal("its port is in the network of the tenant", (nics[f"swp{port}"].vrf, "10.0.0.0/22" in nics[f"swp{port}"].bgp_filter.cidrs), (private, True))
    sent = agent.infra("EventService/Send", events={machine.uuid: {"event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME", "message": "leaf"}})
    check.equal("it phones home", (sent.events, list(sent.failed)), (1, []))
    check.equal("the console has a password", operator.admin("MachineService/ConsolePassword", uuid=machine.uuid, reason="the network is down").password, "s3cret")

    read = alice.api("MachineService/Get", uuid=machine.uuid, project=world.project).machine
    check.equal("users read it", (check.named(read.recent_provisioning_events.events[0], "event"), check.named(read.status, "liveliness"), read.allocation.userdata),
                ("PHONED_HOME", "ALIVE", "aGVsbG8="))
    check.equal("and the hardware", (read.hardware.memory, read.rack), (2**33, rack))
    world.bob.refused("permission_denied", "api.v2.MachineService/Get", uuid=machine.uuid, project=world.project)
    for query in [{"allocation": {"hostname": "host1"}}, {"network": {"ips": ["10.0.0.1"]}}, {"fru": {"chassis_part_serial": f"serial-{rack}-{port}"}},
                  {"hardware": {"cpu_cores": 4}, "rack": rack}, {"allocation": {"labels": {"labels": {"role": "web"}}}}]:
        found = alice.api("MachineService/List", project=world.project, query=query).machines
        check.equal(f"found by {query}", [m.uuid for m in found], [machine.uuid])
    check.equal("operators read it", operator.admin("MachineService/Get", uuid=machine.uuid).machine.allocation.name, "node")
    changed = alice.api("MachineService/Update", uuid=machine.uuid, project=world.project, update_meta={"updated_at": read.meta.updated_at},
                        description="changed", labels={"patch": {"update": {"labels": {"tier": "1"}}}}).machine
    check.equal("users describe it", (changed.allocation.description, dict(changed.allocation.meta.labels.labels)), ("changed", {"role": "web", "tier": "1"}))
    usage = operator.admin("ImageService/Usage", query={"id": "debian-12.0.20260101"}).image_usage
    check.equal("its image is used", [list(u.used_by) for u in usage], [[machine.uuid]])
    found = operator.admin("FilesystemService/Match", machine_and_filesystemlayout={"machine": machine.uuid, "filesystem_layout": "default"}).filesystem_layout
    check.equal("its disks fit the layout", found.id, "default")
    bmc.run(world, machine.uuid)

    locked = operator.admin("MachineService/SetState", uuid=machine.uuid, state="MACHINE_STATE_LOCKED", description="evidence").machine
    check.equal("operators lock it", (check.named(locked.status.condition, "state"), locked.status.condition.issuer), ("LOCKED", "operator"))
    alice.refused("failed_precondition", "api.v2.MachineService/Delete", uuid=machine.uuid, project=world.project)
    operator.admin("MachineService/SetState", uuid=machine.uuid, state="MACHINE_STATE_AVAILABLE")
    issues = operator.admin("MachineService/Issues", query={"only": ["MACHINE_ISSUE_TYPE_BMC_WITHOUT_IP"]}).issues
    check.equal("machines without BMC are an issue", {i.uuid for i in issues}, {world.uuid("r01", 1), world.uuid("r01", 2), world.uuid("r02", 1)} - {machine.uuid})
    release(world, machine.uuid)


def release(world, uuid):
    operator, alice, agent = world.operator, world.alice, world.agent
    gone = alice.api("MachineService/Delete", uuid=uuid, project=world.project).machine
    task = gone.meta.deletion_task_id
    check.true("its release is a task", task, gone)
    info = operator.admin("TaskService/Get", task_id=task).task
    check.equal("operators look at it", (info.id, info.queue, info.type), (task, "machine", "machine:delete"))
    rack, _ = world.place(uuid)
    for side in "ab":
        agent.infra("SwitchService/Get", id=f"{rack}-{side}")
        agent.infra("SwitchService/Heartbeat", id=f"{rack}-{side}", duration={"nanos": 1})
    check.eventually("both switches confirm, and its addresses are free", lambda: not alice.api("IPService/List", project=world.project).ips)
    check.equal("the task is done", check.named(operator.admin("TaskService/Get", task_id=task).task, "state"), "COMPLETED")
    check.true("its queue is listed", "machine" in operator.admin("TaskService/Queues").queues)
    check.equal("tasks are listed", [t.id for t in operator.admin("TaskService/List", queue="machine").tasks], [task])
    operator.admin("TaskService/Delete", task_id=task)
    operator.refused("not_found", "admin.v2.TaskService/Get", task_id=task)
    check.equal("nobody has machines any more", list(alice.api("MachineService/List", project=world.project).machines), [])


def forget(world):
    """Operators delete what will never come back."""
    uuid = "00000000-0000-4000-8000-00000000beef"
    world.operator.refused("invalid_argument", "admin.v2.MachineService/Delete", uuid=world.uuid("r01", 1))
    check.true("a living machine stays", True)
    check.equal("a dead one is forgotten", world.operator.admin("MachineService/Delete", uuid=uuid).machine.uuid, uuid)
    world.operator.refused("not_found", "admin.v2.MachineService/Get", uuid=uuid)
