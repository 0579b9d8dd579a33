"""Management controllers: what they report, and what they are told to do."""
from . import check
from .transports import PROTOCOLS

GHOST = "00000000-0000-4000-8000-00000000beef"


def run(world, uuid):
    operator, alice, agent = world.operator, world.alice, world.agent
    refused = alice.refused("failed_precondition", "api.v2.MachineService/BMCCommand", uuid=uuid, project=world.project, command="MACHINE_BMC_COMMAND_ON")
    check.true("without a known BMC there are no commands", "BMC" in refused, refused)
    report = {"bmc": {"address": "10.2.0.1:623", "mac": "00:00:00:00:00:01", "user": "root", "password": "secret", "interface": "lan"},
              "power_metric": {"average_consumed_watts": 150.5}, "power_supplies": [{"health": "OK", "state": "Enabled"}],
              "led_state": {"value": "LED-ON"}, "fru": {"product_serial": "p-1"}}
    answer = agent.infra("BMCService/UpdateBMCInfo", partition="fra-1", bmc_reports=[{"uuid": uuid, **report}, {"uuid": GHOST, "bmc": {**report["bmc"], "address": "10.2.0.9:623"}}])
    check.equal("BMCs are reported", (list(answer.updated_machines), list(answer.created_machines)), ([uuid], [GHOST]))
    seen = operator.admin("MachineService/GetBMC", uuid=uuid).bmc_details
    check.equal("operators see it", (seen.bmc_report.bmc.user, seen.bmc_report.power_metric.average_consumed_watts, seen.bmc_report.fru.product_serial), ("root", 150.5, "p-1"))
    seen = alice.api("MachineService/GetBMC", uuid=uuid, project=world.project).bmc_details
    check.equal("users see that of their machine", seen.bmc_report.bmc.address, "10.2.0.1:623")
    listed = operator.admin("MachineService/ListBMC", query={"bmc": {"address": "10.2.0.1"}}).bmc_details
    check.equal("operators list them", [d.uuid for d in listed], [uuid])

    created = next(agent.stream("infra.v2.BMCService/WaitForBMCCommand", partition="fra-1"))
    check.equal("after the installation it boots from disk", check.named(created, "bmc_command"), "MACHINE_CREATED")
    agent.infra("BMCService/BMCCommandDone", command_id=created.command_id)
    for protocol in PROTOCOLS:
        task = alice.api("MachineService/BMCCommand", uuid=uuid, project=world.project, command="MACHINE_BMC_COMMAND_IDENTIFY_LED_ON").task_id
        told = next(agent.stream("infra.v2.BMCService/WaitForBMCCommand", protocol, partition="fra-1"))
        check.equal(f"a command comes over {protocol}", (told.uuid, check.named(told, "bmc_command"), told.command_id, told.machine_bmc.password), (uuid, "IDENTIFY_LED_ON", task, "secret"))
        agent.infra("BMCService/BMCCommandDone", command_id=told.command_id)
        check.equal("and is done", check.named(operator.admin("TaskService/Get", task_id=task).task, "state"), "COMPLETED")
    task = operator.admin("MachineService/BMCCommand", uuid=uuid, command="MACHINE_BMC_COMMAND_CYCLE").task_id
    told = next(agent.stream("infra.v2.BMCService/WaitForBMCCommand", partition="fra-1"))
    agent.infra("BMCService/BMCCommandDone", command_id=told.command_id, error="no answer from the BMC")
    info = operator.admin("TaskService/Get", task_id=task).task
    check.equal("a command that failed says why", (check.named(info, "state"), info.last_error), ("ARCHIVED", "no answer from the BMC"))
    agent.refused("not_found", "infra.v2.BMCService/WaitForBMCCommand", partition="nowhere")
    world.nobody.refused("unauthenticated", "infra.v2.BMCService/WaitForBMCCommand", partition="fra-1")
