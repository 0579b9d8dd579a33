"""Programs that report themselves."""
from . import check


def run(world):
    for version in ["v1", "v2"]:
        world.agent.infra("ComponentService/Ping", type="COMPONENT_TYPE_METAL_CORE", identifier="leaf01", started_at={"seconds": 1700000000},
                          interval={"seconds": 60}, version={"version": version})
    listed = world.operator.admin("ComponentService/List", query={"identifier": "leaf01"}).components
    check.equal("a program reports itself once", [(c.identifier, c.version.version, c.interval.seconds) for c in listed], [("leaf01", "v2", 60)])
    one = world.operator.admin("ComponentService/Get", uuid=listed[0].uuid).component
    check.equal("it is read", (one, one.token.user), (listed[0], "agents"))
    check.equal("it is forgotten", world.operator.admin("ComponentService/Delete", uuid=one.uuid).component.uuid, one.uuid)
    world.operator.refused("not_found", "admin.v2.ComponentService/Get", uuid=one.uuid)
