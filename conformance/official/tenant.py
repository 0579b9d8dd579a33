"""Tenants, their members and invites, for users and for operators."""
from . import check


def members(world):
    answer = world.alice.api("TenantService/Get", login=world.tenant)
    return {m.id: m.role for m in answer.tenant_members}


def run(world):
    alice, bob, carol, operator = world.alice, world.bob, world.carol, world.operator
    made = alice.api("TenantService/Create", name="Acme", description="rockets", email="acme@example.com",
                     labels={"labels": {"colour": "red"}}).tenant
    world.tenant = made.login
    check.equal("a tenant is created for its caller", (made.name, made.created_by, made.meta.labels.labels["colour"]), ("Acme", "alice", "red"))
    check.equal("its maker owns it", members(world), {"alice": 1})
    check.equal("filters find it", [t.login for t in alice.api("TenantService/List", query={"name": "Acme"}).tenants], [made.login])
    check.equal("and only it", list(alice.api("TenantService/List", query={"labels": {"labels": {"colour": "blue"}}}).tenants), [])
    changed = alice.api("TenantService/Update", login=made.login, update_meta={}, description="bigger rockets",
                        labels={"patch": {"update": {"labels": {"size": "xl"}}, "remove": ["colour"]}}).tenant
    check.equal("an update keeps what it does not name",
                (changed.name, changed.description, dict(changed.meta.labels.labels), changed.meta.generation),
                ("Acme", "bigger rockets", {"size": "xl"}, made.meta.generation + 1))
    bob.refused("permission_denied", "api.v2.TenantService/Get", login=made.login)
    bob.refused("permission_denied", "api.v2.TenantService/Get", login="nobody-at-all")
    check.true("a foreign tenant and a missing one look the same", True)

    added = alice.api("TenantService/AddMember", login=made.login, member="bob", role="TENANT_ROLE_VIEWER").tenant_member
    check.equal("a member is added", (added.id, added.role), ("bob", 3))
    alice.refused("already_exists", "api.v2.TenantService/AddMember", login=made.login, member="bob", role="TENANT_ROLE_VIEWER")
    raised = alice.api("TenantService/UpdateMember", login=made.login, member="bob", role="TENANT_ROLE_EDITOR").tenant_member
    check.equal("a member is raised", raised.role, 2)
    removed = alice.api("TenantService/RemoveMember", login=made.login, member="bob").tenant_member
    check.equal("a member is removed", (removed.id, members(world)), ("bob", {"alice": 1}))
    alice.refused("failed_precondition", "api.v2.TenantService/Leave", login=made.login)
    check.true("the last owner stays", True)

    invite = alice.api("TenantService/Invite", login=made.login, role="TENANT_ROLE_VIEWER").invite
    check.equal("an invite names its tenant", (invite.target_tenant, invite.target_tenant_name, len(invite.secret)), (made.login, "Acme", 32))
    check.equal("invites are listed", [i.secret for i in alice.api("TenantService/InvitesList", login=made.login).invites], [invite.secret])
    seen = carol.api("TenantService/InviteGet", secret=invite.secret).invite
    check.equal("who has the secret sees the invite", (seen.target_tenant_name, seen.role), ("Acme", 3))
    accepted = carol.api("TenantService/InviteAccept", secret=invite.secret)
    check.equal("an invite is accepted", (accepted.tenant, accepted.tenant_name, members(world)), (made.login, "Acme", {"alice": 1, "carol": 3}))
    carol.refused("not_found", "api.v2.TenantService/InviteAccept", secret=invite.secret)
    check.true("an invite is used once", True)
    carol.api("TenantService/Leave", login=made.login)
    check.equal("a member leaves", members(world), {"alice": 1})
    invite = alice.api("TenantService/Invite", login=made.login, role="TENANT_ROLE_VIEWER").invite
    alice.api("TenantService/InviteDelete", login=made.login, secret=invite.secret)
    carol.refused("not_found", "api.v2.TenantService/InviteGet", secret=invite.secret)
    check.true("an invite is taken back", True)

    own = operator.admin("TenantService/Create", name="Provided", email="p@example.com", labels={"labels": {"by": "operator"}}).tenant
    check.equal("operators make tenants for others", (own.name, own.email), ("Provided", "p@example.com"))
    found = operator.admin("TenantService/List", query={"labels": {"labels": {"by": "operator"}}}).tenants
    check.equal("operators find every tenant", [t.login for t in found], [own.login])
    first = operator.admin("TenantService/List", query={"paging": {"page": 0, "count": 2}})
    check.equal("pages are full and name the next one", (len(first.tenants), first.HasField("next_page")), (2, True))
    added = operator.admin("TenantService/AddMember", tenant=own.login, member="carol", role="TENANT_ROLE_OWNER").tenant_member
    check.equal("operators add members", (added.id, added.role), ("carol", 1))
    removed = operator.admin("TenantService/RemoveMember", tenant=own.login, member="carol").tenant_member
    check.equal("operators remove members", removed.id, "carol")
    gone = operator.api("TenantService/Delete", login=own.login).tenant
    check.equal("a tenant is deleted", (gone.login, list(operator.admin("TenantService/List", query={"login": own.login}).tenants)), (own.login, []))
    alice.refused("invalid_argument", "api.v2.TenantService/Create", name="x")
