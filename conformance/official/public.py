"""Version, health, methods: what anybody may ask."""
from . import check
from .transports import methods


def run(world):
    version = world.nobody.api("VersionService/Get").version
    check.true("version needs no token", version.version, version)
    health = world.nobody.api("HealthService/Get").health
    check.equal("every part is healthy", {check.named(s, "status") for s in health.services}, {"HEALTHY"})
    listed = world.nobody.api("MethodService/List").methods
    check.equal("without a token only the public methods are listed", list(listed), [
        "/metalstack.api.v2.HealthService/Get", "/metalstack.api.v2.MethodService/List", "/metalstack.api.v2.VersionService/Get"])
    listed = world.operator.api("MethodService/List").methods
    check.equal("an operator may call every method of the contract",
                sorted(m for m in listed if m.startswith("/metalstack.")), sorted(methods()))
    scoped = world.agent.api("MethodService/TokenScopedList")
    check.equal("a token tells its own rights", (check.named(scoped, "infra_role"), dict(scoped.machine_roles)), ("EDITOR", {"*": 1}))
    world.nobody.refused("unauthenticated", "api.v2.MethodService/TokenScopedList")
    forged = world.caller(world.operator.token[:-6] + "AAAAAA")
    forged.refused("unauthenticated", "api.v2.MethodService/TokenScopedList")
    check.true("a forged signature is refused", True)
    world.agent.refused("permission_denied", "admin.v2.MachineService/List")
    check.true("agents are no operators", True)
