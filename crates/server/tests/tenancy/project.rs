//! Projects, their members, and who takes part in what.

use serde_json::{Value, json};
use store::Entity;

use crate::world::{column, on_all, text};

/// `id:role`, with a star for an inherited membership.
fn members(got: &Value) -> String {
    let members = got["projectMembers"].as_array().expect("members");
    let one = |member: &Value| {
        let star = if member["inheritedMembership"] == json!(true) { "*" } else { "" };
        let role = text(&member["role"]).replace("PROJECT_ROLE_", "").to_lowercase();
        format!("{}:{role}{star}", text(&member["id"]))
    };
    members.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_project_is_made_read_changed_and_removed() {
    on_all(|world| {
        let alice = world.login("alice");
        let request = json!({"login": "alice", "name": "rockets", "description": "fast", "labels": {"labels": {"a": "1"}}});
        let made = world.ok(&alice, "api.v2.ProjectService/Create", request)["project"].clone();
        let id = text(&made["uuid"]);
        assert_eq!(made["tenant"], "alice");
        let got = world.ok(&alice, "api.v2.ProjectService/Get", json!({"project": id}));
        assert_eq!(got["project"], made);
        assert_eq!(members(&got), "alice:owner");

        let other = world.project(&alice, "alice", "cars");
        for (query, found) in [
            (json!({}), [id.as_str(), &other].join(" ")),
            (json!({"uuid": id}), id.clone()),
            (json!({"name": "cars"}), other.clone()),
            (json!({"tenant": "alice", "name": "rockets"}), id.clone()),
            (json!({"tenant": "bob"}), String::new()),
            (json!({"labels": {"labels": {"a": "1"}}}), id.clone()),
            (json!({"labels": {"labels": {"a": "2"}}}), String::new()),
        ] {
            for (token, method) in [
                (&alice, "api.v2.ProjectService/List"),
                (&world.admin(), "admin.v2.ProjectService/List"),
            ] {
                let listed = world.ok(token, method, json!({"query": query}));
                assert_eq!(column(&listed["projects"], "uuid"), found, "{method} {query}");
            }
        }

        let request = json!({"project": id, "updateMeta": {}, "name": "ROCKETS", "avatarUrl": "https://acme.test/a.png",
            "labels": {"replace": {"labels": {"b": "2"}}}});
        let changed = world.ok(&alice, "api.v2.ProjectService/Update", request)["project"].clone();
        assert_eq!(changed["name"], "ROCKETS");
        assert_eq!(changed["description"], "fast");
        assert_eq!(changed["avatarUrl"], "https://acme.test/a.png");
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2"}));

        let gone = world.ok(&alice, "api.v2.ProjectService/Delete", json!({"project": id}));
        assert_eq!(gone["project"], changed);
        world.expect(
            "permission_denied",
            &alice,
            "api.v2.ProjectService/Get",
            json!({"project": id}),
        );
        let admin = world.admin();
        world.expect("not_found", &admin, "api.v2.ProjectService/Get", json!({"project": id}));
        world.expect("not_found", &admin, "api.v2.ProjectService/Delete", json!({"project": id}));
        let request = json!({"login": "nobody", "name": "rockets"});
        world.expect("not_found", &admin, "api.v2.ProjectService/Create", request);
    });
}

#[test]
fn a_project_with_something_in_it_stays() {
    on_all(|world| {
        let alice = world.login("alice");
        let project = world.project(&alice, "alice", "rockets");
        let columns = |project: Option<&str>| {
            ["fra".into(), "r01".into(), "c1".into(), project.into(), project.into(), 1.into()]
        };
        let row = Entity::new("m1", "{}".to_owned(), 1);
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let columns = columns(Some(&project));
            store::machine::TABLE.insert(&mut tx, &row, &columns).await.expect("machine");
            tx.commit().await.expect("commit");
        });
        let answer =
            world.call(&alice, "api.v2.ProjectService/Delete", json!({"project": project}));
        let (code, message) = answer.expect_err("refused");
        assert_eq!(code, "failed_precondition");
        assert!(message.contains("machines (1)"), "{message}");
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let row = row.next("{}".to_owned(), 2);
            store::machine::TABLE.update(&mut tx, &row, &columns(None)).await.expect("machine");
            tx.commit().await.expect("commit");
        });
        world.ok(&alice, "api.v2.ProjectService/Delete", json!({"project": project}));
    });
}

#[test]
fn members_of_the_tenant_take_part_and_the_stronger_role_counts() {
    on_all(|world| {
        let (alice, bob, carol) = (world.login("alice"), world.login("bob"), world.login("carol"));
        let dave = world.login("dave");
        let acme = world.organisation(&alice, "Acme");
        world.member(&alice, &acme, "bob", "EDITOR");
        world.member(&alice, &acme, "carol", "VIEWER");
        world.member(&alice, &acme, "dave", "GUEST");
        let project = world.project(&alice, &acme, "rockets");
        let get = json!({"project": project});
        let rename = json!({"project": project, "updateMeta": {}, "name": "cars"});
        world.ok(&bob, "api.v2.ProjectService/Update", rename.clone());
        world.expect("permission_denied", &carol, "api.v2.ProjectService/Update", rename.clone());
        world.expect("permission_denied", &dave, "api.v2.ProjectService/Get", get.clone());
        let seen = world.ok(&carol, "api.v2.ProjectService/Get", get.clone());
        assert_eq!(members(&seen), format!("{acme}:owner alice:owner* bob:editor* carol:viewer*"));

        world.project_member(&alice, &project, "carol", "EDITOR");
        world.project_member(&alice, &project, "bob", "VIEWER");
        world.ok(&carol, "api.v2.ProjectService/Update", rename.clone());
        world.ok(&bob, "api.v2.ProjectService/Update", rename);
        let seen = world.ok(&alice, "api.v2.ProjectService/Get", get.clone());
        assert_eq!(members(&seen), format!("{acme}:owner alice:owner* bob:editor carol:editor"));

        // a guest of the tenant sees only who was asked into the project
        world.project_member(&alice, &project, "dave", "VIEWER");
        let seen = world.ok(&dave, "api.v2.ProjectService/Get", get);
        assert_eq!(members(&seen), format!("{acme}:owner bob:viewer carol:editor dave:viewer"));
    });
}

#[test]
fn only_direct_memberships_change_or_end_in_the_project() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        world.login("carol");
        let acme = world.organisation(&alice, "Acme");
        let project = world.project(&alice, &acme, "rockets");
        world.member(&alice, &acme, "bob", "OWNER");
        let update =
            |user: &str, role: &str| json!({"project": project, "member": user, "role": role});
        let member = |user: &str| json!({"project": project, "member": user});
        let own = json!({"project": project});
        let (change, remove) =
            ("api.v2.ProjectService/UpdateMember", "api.v2.ProjectService/RemoveMember");

        world.expect("not_found", &alice, remove, member("bob"));
        world.expect("not_found", &bob, "api.v2.ProjectService/Leave", own.clone());
        world.expect("invalid_argument", &alice, change, update("carol", "PROJECT_ROLE_VIEWER"));
        world.expect("invalid_argument", &alice, change, update("nobody", "PROJECT_ROLE_VIEWER"));
        let direct = world.ok(&alice, change, update("bob", "PROJECT_ROLE_UNSPECIFIED"));
        assert_eq!(direct["projectMember"]["role"], "PROJECT_ROLE_VIEWER");
        world.expect("invalid_argument", &alice, change, update("bob", "PROJECT_ROLE_UNSPECIFIED"));
        let direct = world.ok(&alice, change, update("bob", "PROJECT_ROLE_EDITOR"));
        assert_eq!(direct["projectMember"]["role"], "PROJECT_ROLE_EDITOR");
        world.ok(&bob, "api.v2.ProjectService/Leave", own.clone());
        world.ok(&bob, "api.v2.ProjectService/Get", own);

        let add = "api.v2.ProjectService/AddMember";
        world.expect("invalid_argument", &alice, add, update("carol", "PROJECT_ROLE_UNSPECIFIED"));
        world.expect("not_found", &alice, add, update("nobody", "PROJECT_ROLE_VIEWER"));
        let added = world.ok(&alice, add, update("carol", "PROJECT_ROLE_OWNER"));
        assert_eq!(added["projectMember"], "PROJECT_ROLE_OWNER");
        world.expect("already_exists", &alice, add, update("carol", "PROJECT_ROLE_VIEWER"));
        // carol and the tenant own it, then only one of them
        world.ok(&alice, remove, member(&acme));
        world.expect("failed_precondition", &alice, remove, member("carol"));
        world.expect("failed_precondition", &alice, change, update("carol", "PROJECT_ROLE_VIEWER"));
    });
}

#[test]
fn every_direct_member_may_leave() {
    on_all(|world| {
        let alice = world.login("alice");
        let project = world.project(&alice, "alice", "rockets");
        for role in ["OWNER", "EDITOR", "VIEWER"] {
            let bob = world.login("bob");
            world.project_member(&alice, &project, "bob", role);
            world.ok(&bob, "api.v2.ProjectService/Leave", json!({"project": project}));
            world.expect(
                "permission_denied",
                &bob,
                "api.v2.ProjectService/Get",
                json!({"project": project}),
            );
        }
    });
}

#[test]
fn a_user_sees_every_tenant_and_project_in_which_they_take_part() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let acme = world.organisation(&alice, "Acme");
        let umbrella = world.organisation(&alice, "Umbrella");
        let rockets = world.project(&alice, &acme, "rockets");
        let cars = world.project(&alice, &acme, "cars");
        let virus = world.project(&alice, &umbrella, "virus");
        world.project(&alice, "alice", "private");
        world.member(&alice, &acme, "bob", "VIEWER");
        world.project_member(&alice, &virus, "bob", "EDITOR");
        let set =
            json!({"login": "bob", "updateMeta": {}, "name": "Bob", "email": "bob@acme.test"});
        world.ok(&bob, "api.v2.TenantService/Update", set);

        let user = world.ok(&bob, "api.v2.UserService/Get", json!({}))["user"].clone();
        assert_eq!(user["login"], "bob");
        assert_eq!(user["name"], "Bob");
        assert_eq!(user["email"], "bob@acme.test");
        assert_eq!(user["defaultTenant"]["login"], "bob");
        let sorted = |mut ids: Vec<&str>| {
            ids.sort_unstable();
            ids.join(" ")
        };
        assert_eq!(column(&user["tenants"], "login"), sorted(vec![&acme, "bob", &umbrella]));
        assert_eq!(column(&user["projects"], "uuid"), sorted(vec![&rockets, &cars, &virus]));
        world.expect("unauthenticated", "", "api.v2.UserService/Get", json!({}));
    });
}
