"""Tokens of users and of operators."""
from . import check


def run(world):
    alice, operator = world.alice, world.operator
    made = alice.api("TokenService/Create", description="robot", expires={"seconds": 3600},
                     project_roles={world.project: "PROJECT_ROLE_VIEWER"}, labels={"labels": {"for": "ci"}},
                     permissions=[{"self": {"methods": ["/metalstack.api.v2.TokenService/Refresh"]}}])
    token = made.token
    check.equal("a token belongs to its maker", (token.user, token.description, check.named(token, "token_type"), token.expires.seconds - token.issued_at.seconds),
                ("alice", "robot", "API", 3600))
    robot = world.caller(made.secret)
    check.equal("its rights are what was asked for", robot.api("ProjectService/Get", project=world.project).project.name, "rockets")
    robot.refused("permission_denied", "api.v2.ProjectService/Update", project=world.project, update_meta={})
    check.true("and no more", True)
    listed = alice.api("TokenService/List", query={"description": "robot", "labels": {"labels": {"for": "ci"}}}).tokens
    check.equal("tokens are found", [t.uuid for t in listed], [token.uuid])
    check.equal("a token is read", alice.api("TokenService/Get", uuid=token.uuid).token.uuid, token.uuid)
    world.bob.refused("not_found", "api.v2.TokenService/Get", uuid=token.uuid)
    changed = alice.api("TokenService/Update", uuid=token.uuid, update_meta={}, description="better robot",
                        project_roles={world.project: "PROJECT_ROLE_EDITOR"},
                        permissions=[{"self": {"methods": ["/metalstack.api.v2.TokenService/Refresh"]}}]).token
    check.equal("a token is changed", (changed.description, dict(changed.project_roles)), ("better robot", {world.project: 2}))
    robot.api("ProjectService/Update", project=world.project, update_meta={}, description="by a robot")
    check.true("which counts at the next call", True)
    fresh = robot.api("TokenService/Refresh")
    check.true("a token refreshes itself", fresh.token.uuid != token.uuid and fresh.secret, fresh.token)
    check.equal("with the same rights", world.caller(fresh.secret).api("ProjectService/Get", project=world.project).project.description, "by a robot")
    alice.api("TokenService/Revoke", uuid=token.uuid)
    robot.refused("unauthenticated", "api.v2.ProjectService/Get", project=world.project)
    check.true("a revoked token is worth nothing at once", True)
    alice.refused("permission_denied", "api.v2.TokenService/Create", description="too much", admin_role="ADMIN_ROLE_EDITOR")
    check.true("nobody hands on what they do not have", True)

    wish = {"description": "given", "tenant_roles": {"*": "TENANT_ROLE_VIEWER"}}
    given = operator.admin("TokenService/Create", user="bob", token_create_request=wish)
    check.equal("operators make tokens for others", (given.token.user, dict(given.token.tenant_roles)), ("bob", {"*": 3}))
    listed = operator.admin("TokenService/List", query={"user": "bob", "description": "given"}).tokens
    check.equal("operators see them", [t.uuid for t in listed], [given.token.uuid])
    operator.admin("TokenService/Revoke", uuid=given.token.uuid, user="bob")
    world.caller(given.secret).refused("unauthenticated", "api.v2.TenantService/Get", login="bob")
    check.true("operators revoke them", True)
