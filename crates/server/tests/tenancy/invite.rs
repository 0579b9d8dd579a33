//! Invitations to tenants and projects.

use serde_json::{Value, json};
use store::Entity;
use store::invite::Kind;

use crate::world::{World, code, column, on_all, text};

/// The two kinds of invites behave alike.
struct Target<'a> {
    service: &'a str,
    field: &'a str,
    id: String,
    role: &'a str,
}

impl Target<'_> {
    fn method(&self, name: &str) -> String {
        format!("api.v2.{}/{name}", self.service)
    }

    fn invite(&self, world: &World, token: &str) -> String {
        let request = json!({self.field: self.id, "role": self.role});
        text(&world.ok(token, &self.method("Invite"), request)["invite"]["secret"])
    }

    fn open(&self, world: &World, token: &str) -> String {
        let request = json!({self.field: self.id});
        column(&world.ok(token, &self.method("InvitesList"), request)["invites"], "secret")
    }
}

fn targets(world: &World, alice: &str) -> [Target<'static>; 2] {
    let acme = world.organisation(alice, "Acme");
    let owner = world.organisation(alice, "Umbrella");
    // not of that tenant, whose members would take part in it
    let project = world.project(alice, &owner, "rockets");
    [
        Target { service: "TenantService", field: "login", id: acme, role: "TENANT_ROLE_EDITOR" },
        Target {
            service: "ProjectService",
            field: "project",
            id: project,
            role: "PROJECT_ROLE_EDITOR",
        },
    ]
}

fn secret(secret: &str) -> Value {
    json!({"secret": secret})
}

#[test]
fn an_invite_makes_one_member_once() {
    on_all(|world| {
        let (alice, bob, carol) = (world.login("alice"), world.login("bob"), world.login("carol"));
        for target in targets(world, &alice) {
            let request = json!({target.field: target.id});
            world.expect("invalid_argument", &alice, &target.method("Invite"), request.clone());
            let invite = target.invite(world, &alice);
            assert_eq!(target.open(world, &alice), invite);
            let seen =
                world.ok(&bob, &target.method("InviteGet"), secret(&invite))["invite"].clone();
            assert_eq!(seen["role"], target.role);
            assert_eq!(seen["tenant"], "alice");
            world.expect("permission_denied", &bob, &target.method("Get"), request.clone());

            let joined = world.ok(&bob, &target.method("InviteAccept"), secret(&invite));
            assert!(joined.to_string().contains(&target.id), "{joined}");
            world.ok(&bob, &target.method("Get"), request);
            for method in ["InviteGet", "InviteAccept"] {
                world.expect("not_found", &carol, &target.method(method), secret(&invite));
            }
            assert_eq!(target.open(world, &alice), "");
        }
    });
}

#[test]
fn an_invite_that_could_not_be_used_is_still_there() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        for target in targets(world, &alice) {
            let first = target.invite(world, &alice);
            world.ok(&bob, &target.method("InviteAccept"), secret(&first));
            let second = target.invite(world, &alice);
            world.expect("already_exists", &bob, &target.method("InviteAccept"), secret(&second));
            assert_eq!(target.open(world, &alice), second);
        }
        let mine = Target {
            service: "TenantService",
            field: "login",
            id: "alice".to_owned(),
            role: "TENANT_ROLE_VIEWER",
        };
        let invite = mine.invite(world, &alice);
        world.expect("invalid_argument", &alice, &mine.method("InviteAccept"), secret(&invite));
        assert_eq!(mine.open(world, &alice), invite);
    });
}

#[test]
fn of_ten_who_accept_at_once_one_joins() {
    on_all(|world| {
        let alice = world.login("alice");
        let users: Vec<_> = (0..10).map(|n| world.login(&format!("user{n}"))).collect();
        for target in targets(world, &alice) {
            let invite = target.invite(world, &alice);
            let answers = std::thread::scope(|scope| {
                let calls: Vec<_> = users
                    .iter()
                    .map(|user| {
                        scope.spawn(|| {
                            world.call(user, &target.method("InviteAccept"), secret(&invite))
                        })
                    })
                    .collect();
                calls.into_iter().map(|call| call.join().expect("call")).collect::<Vec<_>>()
            });
            let joined = answers.iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(joined, 1, "{answers:?}");
            for answer in answers.iter().filter(|answer| answer.is_err()) {
                assert!(["not_found", "aborted"].contains(&code(answer)), "{answer:?}");
            }
        }
    });
}

#[test]
fn an_invite_is_withdrawn_by_those_only_who_made_it() {
    on_all(|world| {
        let (alice, mallory) = (world.login("alice"), world.login("mallory"));
        let [tenant, project] = targets(world, &alice);
        let [foreign_tenant, foreign_project] = targets(world, &mallory);
        for (target, foreign) in [(tenant, foreign_tenant), (project, foreign_project)] {
            let invite = target.invite(world, &alice);
            let method = target.method("InviteDelete");
            let request = json!({foreign.field: foreign.id, "secret": invite});
            world.ok(&mallory, &method, request);
            assert_eq!(target.open(world, &alice), invite, "an invite of somebody else stays");
            let request = json!({target.field: target.id, "secret": invite});
            world.ok(&alice, &method, request.clone());
            world.ok(&alice, &method, request);
            assert_eq!(target.open(world, &alice), "");
        }
    });
}

#[test]
fn a_secret_opens_only_what_it_was_made_for() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let [tenant, project] = targets(world, &alice);
        let invite = tenant.invite(world, &alice);
        world.expect("not_found", &bob, &project.method("InviteAccept"), secret(&invite));
        let invite = project.invite(world, &alice);
        world.expect("not_found", &bob, &tenant.method("InviteGet"), secret(&invite));
        for wrong in ["", "short", "________________________________"] {
            for method in ["InviteGet", "InviteAccept"] {
                world.expect("invalid_argument", &bob, &tenant.method(method), secret(wrong));
            }
        }
    });
}

#[test]
fn an_expired_invite_is_none() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let [tenant, _] = targets(world, &alice);
        let old = "x".repeat(32);
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let body =
                json!({"secret": old, "targetTenant": tenant.id, "role": "TENANT_ROLE_OWNER"});
            let row = Entity::new(&old, body.to_string(), 1);
            store::invite::insert(&mut tx, Kind::Tenant, &tenant.id, &row, 2)
                .await
                .expect("insert");
            tx.commit().await.expect("commit");
        });
        for method in ["InviteGet", "InviteAccept"] {
            world.expect("not_found", &bob, &tenant.method(method), secret(&old));
        }
        assert_eq!(tenant.open(world, &alice), "");
        let fresh = tenant.invite(world, &alice);
        assert_eq!(tenant.open(world, &alice), fresh);
    });
}

#[test]
fn invites_end_with_what_they_lead_to() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let [tenant, project] = targets(world, &alice);
        let (to_tenant, to_project) = (tenant.invite(world, &alice), project.invite(world, &alice));
        world.ok(&alice, "api.v2.ProjectService/Delete", json!({"project": project.id}));
        world.expect("not_found", &bob, &project.method("InviteGet"), secret(&to_project));
        world.ok(&alice, "api.v2.TenantService/Delete", json!({"login": tenant.id}));
        world.expect("not_found", &bob, &tenant.method("InviteGet"), secret(&to_tenant));
    });
}
