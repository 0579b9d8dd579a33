"""Machines on their way from power-on to the pool."""
import queue
import threading

from . import check
from .transports import Refused


def hardware(rack, port):
    nics = [{"name": f"eth{i}", "identifier": f"00:00:00:00:{port:02x}:{i:02x}",
             "neighbors": [{"name": f"swp{port}", "hostname": f"{rack}-{side}", "identifier": f"{rack}-{side}-{port}"}]} for i, side in enumerate("ab")]
    return {"memory": 2**33, "cpus": [{"cores": 4, "threads": 4, "vendor": "v", "model": "m"}],
            "disks": [{"name": "/dev/nvme0n1", "size": 10**10}], "nics": nics}


def event(world, uuid, kind):
    world.agent.infra("BootService/SendEvent", uuid=uuid, event={"event": f"MACHINE_PROVISIONING_EVENT_TYPE_{kind}", "message": "conformance"})


class Waiting:
    """A machine whose installer waits: its stream is read in the background."""

    def __init__(self, world, uuid, protocol=None):
        self.uuid, self._answers = uuid, queue.Queue()
        self._stream = world.agent.stream("infra.v2.BootService/Wait", protocol, uuid=uuid)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for answer in self._stream:
                self._answers.put(answer.allocation)
        except Refused as refused:
            self._answers.put(refused)

    def allocation(self):
        answer = self._answers.get(timeout=120)
        if isinstance(answer, Refused):
            raise SystemExit(f"FAILED Wait of {self.uuid}: {answer}")
        return answer


def run(world):
    agent, operator = world.agent, world.operator
    boot = agent.infra("BootService/Boot", mac="00:00:00:00:00:01", partition="fra-1")
    check.equal("what boots is told", (boot.kernel, list(boot.init_ram_disks), boot.cmdline), (f"{world.files}/kernel", [f"{world.files}/initrd"], "quiet"))
    world.waiting = {}
    for rack, port in [("r01", 1), ("r01", 2), ("r02", 1)]:
        uuid = world.uuid(rack, port)
        agent.infra("BootService/Dhcp", uuid=uuid, partition="fra-1")
        event(world, uuid, "PREPARING")
        event(world, uuid, "REGISTERING")
        known = agent.infra("BootService/Register", uuid=uuid, partition="fra-1", hardware=hardware(rack, port), metal_hammer_version="v1",
                            bios={"version": "1.0", "vendor": "v", "date": "2025"}, fru={"chassis_part_serial": f"serial-{rack}-{port}"})
        check.equal(f"machine {rack}/{port} registers and has a size", (known.uuid, known.size, known.partition), (uuid, "c1", "fra-1"))
        event(world, uuid, "WAITING")
        world.waiting[uuid] = Waiting(world, uuid)
        check.eventually("it waits", lambda: len(operator.admin("MachineService/List", query={"uuid": uuid, "waiting": True}).machines) == 1)
    agent.refused("invalid_argument", "infra.v2.BootService/SendEvent", uuid=uuid, event={"event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME"})
    agent.refused("failed_precondition", "infra.v2.BootService/Register", uuid=world.uuid("r01", 3), partition="fra-1", bios={"version": "1"},
                  hardware={**hardware("r01", 3), "nics": hardware("r01", 3)["nics"][:1]})
    check.true("a machine with one cable is refused", True)
    agent.refused("not_found", "infra.v2.BootService/Wait", uuid="00000000-0000-4000-8000-00000000dead")
    world.nobody.refused("unauthenticated", "infra.v2.BootService/Wait", uuid=uuid)
    world.alice.refused("permission_denied", "infra.v2.BootService/Wait", uuid=uuid)
    check.true("streams are refused like calls", True)
    password = agent.infra("BootService/SuperUserPassword", uuid=uuid)
    check.equal("installers are told the superuser's password", (password.feature_disabled, password.super_user_password), (False, "super-secret"))
    made = agent.infra("BootService/MachineToken", uuid=uuid, user="agents", expires={"seconds": 3600})
    machine = world.caller(made.secret)
    check.equal("a machine gets its own token", dict(made.token.machine_roles), {uuid: 1})
    check.equal("it speaks for itself", machine.infra("BootService/SuperUserPassword", uuid=uuid).super_user_password, "super-secret")
    machine.refused("permission_denied", "infra.v2.BootService/SuperUserPassword", uuid=world.uuid("r01", 2))
    check.true("and for no other", True)
