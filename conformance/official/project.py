"""Projects, their members and invites; users."""
from . import check


def members(world):
    answer = world.alice.api("ProjectService/Get", project=world.project)
    return {m.id: (m.role, m.inherited_membership) for m in answer.project_members}


def run(world):
    alice, bob, carol, operator = world.alice, world.bob, world.carol, world.operator
    made = alice.api("ProjectService/Create", login=world.tenant, name="rockets", description="fast ones",
                     labels={"labels": {"stage": "test"}}).project
    world.project = made.uuid
    check.equal("a project belongs to a tenant", (made.name, made.tenant, made.meta.labels.labels["stage"]), ("rockets", world.tenant, "test"))
    check.equal("the tenant owns it, its owner inherits that", members(world), {world.tenant: (1, False), "alice": (1, True)})
    found = alice.api("ProjectService/List", query={"tenant": world.tenant, "labels": {"labels": {"stage": "test"}}}).projects
    check.equal("filters find it", [p.uuid for p in found], [made.uuid])
    changed = alice.api("ProjectService/Update", project=made.uuid, update_meta={}, description="faster ones").project
    check.equal("an update keeps what it does not name", (changed.name, changed.description), ("rockets", "faster ones"))
    bob.refused("permission_denied", "api.v2.ProjectService/Get", project=made.uuid)
    bob.refused("permission_denied", "api.v2.ProjectService/Get", project="00000000-0000-4000-8000-000000000000")
    check.true("a foreign project and a missing one look the same", True)

    added = alice.api("ProjectService/AddMember", project=made.uuid, member="bob", role="PROJECT_ROLE_VIEWER")
    check.equal("a member is added", (added.project_member, members(world)["bob"]), (3, (3, False)))
    raised = alice.api("ProjectService/UpdateMember", project=made.uuid, member="bob", role="PROJECT_ROLE_EDITOR").project_member
    check.equal("a member is raised", (raised.id, raised.role), ("bob", 2))
    check.equal("a member of a project is guest of its tenant", [t.login for t in bob.api("TenantService/List").tenants if t.login != "bob"], [world.tenant])
    alice.api("ProjectService/RemoveMember", project=made.uuid, member="bob")
    check.true("a member is removed", "bob" not in members(world))

    invite = alice.api("ProjectService/Invite", project=made.uuid, role="PROJECT_ROLE_VIEWER").invite
    check.equal("an invite names its project", (invite.project, invite.project_name, len(invite.secret)), (made.uuid, "rockets", 32))
    check.equal("invites are listed", [i.secret for i in alice.api("ProjectService/InvitesList", project=made.uuid).invites], [invite.secret])
    check.equal("who has the secret sees the invite", carol.api("ProjectService/InviteGet", secret=invite.secret).invite.project_name, "rockets")
    accepted = carol.api("ProjectService/InviteAccept", secret=invite.secret)
    check.equal("an invite is accepted", (accepted.project, accepted.project_name), (made.uuid, "rockets"))
    me = carol.api("UserService/Get").user
    check.equal("a user sees what they take part in", (me.login, me.default_tenant.login, [p.uuid for p in me.projects]), ("carol", "carol", [made.uuid]))
    carol.api("ProjectService/Leave", project=made.uuid)
    check.true("a member leaves", "carol" not in members(world))
    invite = alice.api("ProjectService/Invite", project=made.uuid, role="PROJECT_ROLE_VIEWER").invite
    alice.api("ProjectService/InviteDelete", project=made.uuid, secret=invite.secret)
    carol.refused("not_found", "api.v2.ProjectService/InviteAccept", secret=invite.secret)
    check.true("an invite is taken back", True)

    other = alice.api("ProjectService/Create", login=world.tenant, name="short-lived").project
    listed = operator.admin("ProjectService/List", query={"tenant": world.tenant}).projects
    check.equal("operators list the projects of anybody", {p.uuid for p in listed}, {made.uuid, other.uuid})
    gone = alice.api("ProjectService/Delete", project=other.uuid).project
    check.equal("a project is deleted", (gone.uuid, len(operator.admin("ProjectService/List", query={"uuid": other.uuid}).projects)), (other.uuid, 0))
    alice.refused("failed_precondition", "api.v2.TenantService/Delete", login=world.tenant)
    check.true("a tenant with projects stays", True)
