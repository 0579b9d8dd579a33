//! Tenants and their members.

use serde_json::json;

use crate::world::{code, column, on_all, text};

#[test]
fn an_organisation_is_made_read_changed_and_removed_by_its_owner() {
    on_all(|world| {
        let alice = world.login("alice");
        let request = json!({"name": "Acme", "description": "anvils", "labels": {"labels": {"a": "1", "b": "2"}}});
        let made = world.ok(&alice, "api.v2.TenantService/Create", request)["tenant"].clone();
        let acme = text(&made["login"]);
        assert_eq!(made["createdBy"], "alice");
        assert_eq!(made["meta"]["createdAt"], made["meta"]["updatedAt"]);

        let got = world.ok(&alice, "api.v2.TenantService/Get", json!({"login": acme}));
        assert_eq!(got["tenant"], made);
        assert_eq!(got["tenantMembers"][0]["id"], "alice");
        assert_eq!(got["tenantMembers"][0]["role"], "TENANT_ROLE_OWNER");

        let listed = world.ok(&alice, "api.v2.TenantService/List", json!({}));
        let mut both = [acme.as_str(), "alice"];
        both.sort_unstable();
        assert_eq!(column(&listed["tenants"], "login"), both.join(" "));
        for (query, found) in [
            (json!({"name": "Acme"}), 1),
            (json!({"login": acme}), 1),
            (json!({"labels": {"labels": {"a": "1"}}}), 1),
            (json!({"labels": {"labels": {"a": "1", "b": "2"}}}), 1),
            (json!({"labels": {"labels": {"a": "2"}}}), 0),
            (json!({"labels": {"labels": {"a": "1", "c": ""}}}), 0),
        ] {
            let listed = world.ok(&alice, "api.v2.TenantService/List", json!({"query": query}));
            let count = listed["tenants"].as_array().map_or(0, Vec::len);
            assert_eq!(count, found, "{query}");
        }
        let paged = json!({"query": {"paging": {"page": 0}}});
        world.expect("invalid_argument", &alice, "api.v2.TenantService/List", paged);

        let request = json!({"login": acme, "updateMeta": {}, "name": "Acme & Sons",
            "labels": {"patch": {"remove": ["a"], "update": {"labels": {"c": "3"}}}}});
        let changed = world.ok(&alice, "api.v2.TenantService/Update", request)["tenant"].clone();
        assert_eq!(changed["name"], "Acme & Sons");
        assert_eq!(changed["description"], "anvils");
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2", "c": "3"}));
        assert_eq!(changed["meta"]["generation"], "1");
        assert_ne!(changed["meta"]["updatedAt"], changed["meta"]["createdAt"]);

        let project = world.project(&alice, &acme, "rockets");
        world.expect(
            "failed_precondition",
            &alice,
            "api.v2.TenantService/Delete",
            json!({"login": acme}),
        );
        world.ok(&alice, "api.v2.ProjectService/Delete", json!({"project": project}));
        let gone = world.ok(&alice, "api.v2.TenantService/Delete", json!({"login": acme}));
        assert_eq!(gone["tenant"], changed);
        world.expect(
            "permission_denied",
            &alice,
            "api.v2.TenantService/Get",
            json!({"login": acme}),
        );
        let admin = world.admin();
        world.expect("not_found", &admin, "api.v2.TenantService/Get", json!({"login": acme}));
        world.expect("not_found", &admin, "api.v2.TenantService/Delete", json!({"login": acme}));
        world.expect(
            "invalid_argument",
            &alice,
            "api.v2.TenantService/Delete",
            json!({"login": "alice"}),
        );
    });
}

#[test]
fn whoever_is_the_last_owner_stays_one() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let acme = world.organisation(&alice, "Acme");
        world.member(&alice, &acme, "bob", "EDITOR");
        let demote =
            |user: &str| json!({"login": acme, "member": user, "role": "TENANT_ROLE_VIEWER"});
        let remove = |user: &str| json!({"login": acme, "member": user});
        world.expect(
            "failed_precondition",
            &alice,
            "api.v2.TenantService/UpdateMember",
            demote("alice"),
        );
        world.expect(
            "failed_precondition",
            &alice,
            "api.v2.TenantService/RemoveMember",
            remove("alice"),
        );
        world.expect(
            "failed_precondition",
            &alice,
            "api.v2.TenantService/Leave",
            json!({"login": acme}),
        );
        // the same role again is no demotion
        let same = json!({"login": acme, "member": "alice", "role": "TENANT_ROLE_OWNER"});
        world.ok(&alice, "api.v2.TenantService/UpdateMember", same);
        let promote = json!({"login": acme, "member": "bob", "role": "TENANT_ROLE_OWNER"});
        let promoted = world.ok(&alice, "api.v2.TenantService/UpdateMember", promote);
        assert_eq!(promoted["tenantMember"]["role"], "TENANT_ROLE_OWNER");
        world.ok(&alice, "api.v2.TenantService/Leave", json!({"login": acme}));
        world.expect(
            "permission_denied",
            &alice,
            "api.v2.TenantService/Leave",
            json!({"login": acme}),
        );
        world.expect(
            "failed_precondition",
            &bob,
            "api.v2.TenantService/Leave",
            json!({"login": acme}),
        );
        world.expect("not_found", &bob, "api.v2.TenantService/RemoveMember", remove("alice"));
        world.expect("not_found", &bob, "api.v2.TenantService/UpdateMember", demote("alice"));
    });
}

#[test]
fn a_personal_tenant_belongs_to_its_person() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        world.member(&alice, "alice", "bob", "OWNER");
        let demote = json!({"login": "alice", "member": "alice", "role": "TENANT_ROLE_VIEWER"});
        world.expect("failed_precondition", &bob, "api.v2.TenantService/UpdateMember", demote);
        let remove = json!({"login": "alice", "member": "alice"});
        world.expect("failed_precondition", &bob, "api.v2.TenantService/RemoveMember", remove);
        world.expect(
            "failed_precondition",
            &alice,
            "api.v2.TenantService/Leave",
            json!({"login": "alice"}),
        );
        // an operator cannot either
        let remove = json!({"tenant": "alice", "member": "alice"});
        world.expect(
            "failed_precondition",
            &world.admin(),
            "admin.v2.TenantService/RemoveMember",
            remove,
        );
    });
}

#[test]
fn every_member_may_leave() {
    on_all(|world| {
        let alice = world.login("alice");
        let acme = world.organisation(&alice, "Acme");
        for role in ["OWNER", "EDITOR", "VIEWER", "GUEST"] {
            let bob = world.login("bob");
            world.member(&alice, &acme, "bob", role);
            world.ok(&bob, "api.v2.TenantService/Leave", json!({"login": acme}));
            world.expect(
                "permission_denied",
                &bob,
                "api.v2.TenantService/Get",
                json!({"login": acme}),
            );
        }
    });
}

#[test]
fn members_are_added_once_exist_and_are_never_stronger_than_who_adds_them() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        world.login("carol");
        let acme = world.organisation(&alice, "Acme");
        world.member(&alice, &acme, "bob", "EDITOR");
        let add = |user: &str, role: &str| json!({"login": acme, "member": user, "role": role});
        let method = "api.v2.TenantService/AddMember";
        world.expect("invalid_argument", &alice, method, add("carol", "TENANT_ROLE_UNSPECIFIED"));
        world.expect("not_found", &alice, method, add("nobody", "TENANT_ROLE_VIEWER"));
        world.expect("already_exists", &alice, method, add("bob", "TENANT_ROLE_VIEWER"));
        world.expect("permission_denied", &bob, method, add("carol", "TENANT_ROLE_OWNER"));
        let added = world.ok(&bob, method, add("carol", "TENANT_ROLE_EDITOR"));
        assert_eq!(added["tenantMember"]["id"], "carol");
        let got = world.ok(&alice, "api.v2.TenantService/Get", json!({"login": acme}));
        assert_eq!(column(&got["tenantMembers"], "id"), "alice bob carol");
        let request = json!({"login": acme, "member": "carol", "role": "TENANT_ROLE_UNSPECIFIED"});
        world.expect("invalid_argument", &alice, "api.v2.TenantService/UpdateMember", request);
        let removed = json!({"login": acme, "member": "carol"});
        let removed = world.ok(&alice, "api.v2.TenantService/RemoveMember", removed);
        assert_eq!(removed["tenantMember"]["role"], "TENANT_ROLE_EDITOR");
    });
}

#[test]
fn a_guest_sees_of_a_tenant_only_what_stands_on_the_door() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let acme = world.organisation(&alice, "Acme");
        let set = json!({"login": acme, "updateMeta": {}, "email": "boss@acme.test", "description": "anvils",
            "labels": {"replace": {"labels": {"secret": "plan"}}}});
        world.ok(&alice, "api.v2.TenantService/Update", set);
        let project = world.project(&alice, &acme, "rockets");
        world.expect("permission_denied", &bob, "api.v2.TenantService/Get", json!({"login": acme}));
        world.project_member(&alice, &project, "bob", "VIEWER");

        let got = world.ok(&bob, "api.v2.TenantService/Get", json!({"login": acme}));
        assert_eq!(got["tenant"]["name"], "Acme");
        assert_eq!(got["tenant"]["description"], "anvils");
        for hidden in ["email", "createdBy"] {
            assert_eq!(got["tenant"].get(hidden), None, "{got}");
        }
        assert_eq!(got["tenant"]["meta"].get("labels"), None, "{got}");
        assert_eq!(got.get("tenantMembers"), None, "{got}");
        let listed =
            world.ok(&bob, "api.v2.TenantService/List", json!({"query": {"name": "Acme"}}));
        assert_eq!(listed["tenants"][0].get("email"), None, "{listed}");
        let by_label = json!({"query": {"labels": {"labels": {"secret": "plan"}}}});
        let listed = world.ok(&bob, "api.v2.TenantService/List", by_label);
        assert_eq!(listed.get("tenants"), None, "a label that cannot be seen cannot be guessed");

        let got = world.ok(&alice, "api.v2.TenantService/Get", json!({"login": acme}));
        let guest = &got["tenantMembers"][1];
        assert_eq!(guest["id"], "bob");
        assert_eq!(guest["role"], "TENANT_ROLE_GUEST");
        assert_eq!(guest["projects"], json!([project]));
        assert_eq!(
            column(&got["tenantMembers"], "id"),
            "alice bob",
            "a tenant is no guest of itself"
        );
    });
}

#[test]
fn operators_see_and_change_all_tenants() {
    on_all(|world| {
        let admin = world.admin();
        let method = "admin.v2.TenantService/Create";
        let made = world.ok(&admin, method, json!({"name": "Acme", "email": "boss@acme.test"}));
        let acme = text(&made["tenant"]["login"]);
        let got = world.ok(&admin, "api.v2.TenantService/Get", json!({"login": acme}));
        assert_eq!(column(&got["tenantMembers"], "id"), acme, "it owns itself");

        world.login("bob");
        let add = json!({"tenant": acme, "member": "bob", "role": "TENANT_ROLE_OWNER"});
        world.ok(&admin, "admin.v2.TenantService/AddMember", add.clone());
        world.expect("already_exists", &admin, "admin.v2.TenantService/AddMember", add);
        let missing = json!({"tenant": acme, "member": "nobody", "role": "TENANT_ROLE_OWNER"});
        world.expect("not_found", &admin, "admin.v2.TenantService/AddMember", missing);
        let missing = json!({"tenant": "nobody", "member": "bob", "role": "TENANT_ROLE_OWNER"});
        world.expect("not_found", &admin, "admin.v2.TenantService/AddMember", missing);
        let remove = json!({"tenant": acme, "member": "bob"});
        world.ok(&admin, "admin.v2.TenantService/RemoveMember", remove.clone());
        world.expect("not_found", &admin, "admin.v2.TenantService/RemoveMember", remove);

        let list = "admin.v2.TenantService/List";
        let all = world.ok(&admin, list, json!({}));
        let logins = column(&all["tenants"], "login");
        assert_eq!(all.get("nextPage"), None);
        let mut paged = Vec::new();
        let mut page = 0;
        loop {
            let query = json!({"query": {"paging": {"page": page, "count": 2}}});
            let answer = world.ok(&admin, list, query);
            paged.push(column(&answer["tenants"], "login"));
            match answer["nextPage"].as_str() {
                Some(next) => page = next.parse().expect("number"),
                None => break,
            }
        }
        assert_eq!(paged.join(" "), logins);
        assert!(paged.len() > 1);
        let named = world.ok(&admin, list, json!({"query": {"name": "Acme"}}));
        assert_eq!(column(&named["tenants"], "login"), acme);
        let bob = world.login("bob");
        world.expect("permission_denied", &bob, list, json!({}));
    });
}

#[test]
fn the_provider_tenant_is_there_and_stays() {
    on_all(|world| {
        let admin = world.admin();
        let got = world.ok(&admin, "api.v2.TenantService/Get", json!({"login": "metal-stack"}));
        let labels = &got["tenant"]["meta"]["labels"]["labels"];
        assert_eq!(labels["tenant.metal-stack.io/provider"], "true");
        assert_eq!(column(&got["tenantMembers"], "id"), "metal-stack operator");
        let delete = json!({"login": "metal-stack"});
        world.expect("failed_precondition", &admin, "api.v2.TenantService/Delete", delete);
    });
}

#[test]
fn users_cannot_give_a_tenant_the_labels_of_the_system() {
    on_all(|world| {
        let (alice, admin) = (world.login("alice"), world.admin());
        let labels = json!({"labels": {"tenant.metal-stack.io/machine-bootstrapper": ""}});
        let create = json!({"name": "Acme", "labels": labels});
        world.expect("permission_denied", &alice, "api.v2.TenantService/Create", create);
        let update = json!({"login": "alice", "updateMeta": {}, "labels": {"replace": labels}});
        world.expect("permission_denied", &alice, "api.v2.TenantService/Update", update.clone());
        world.ok(&admin, "api.v2.TenantService/Update", update);
        let rename = json!({"login": "alice", "updateMeta": {}, "name": "Alice"});
        world.ok(&alice, "api.v2.TenantService/Update", rename);
        let drop = json!({"login": "alice", "updateMeta": {}, "labels": {"replace": {}}});
        world.expect("permission_denied", &alice, "api.v2.TenantService/Update", drop);
    });
}

#[test]
fn a_tenant_that_is_removed_takes_its_tokens_with_it_but_nobody_s_last_owner() {
    on_all(|world| {
        let (alice, admin) = (world.login("alice"), world.admin());
        let acme = world.organisation(&alice, "Acme");
        world.expect(
            "failed_precondition",
            &admin,
            "api.v2.TenantService/Delete",
            json!({"login": "alice"}),
        );
        world.ok(&alice, "api.v2.TenantService/Delete", json!({"login": acme}));
        world.ok(&admin, "api.v2.TenantService/Delete", json!({"login": "alice"}));
        let answer = world.call(&alice, "api.v2.UserService/Get", json!({}));
        assert_eq!(code(&answer), "unauthenticated", "{answer:?}");
    });
}

#[test]
fn two_owners_who_remove_each_other_at_once_leave_one() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        for round in 0..5 {
            let acme = world.organisation(&alice, &format!("Acme {round}"));
            world.member(&alice, &acme, "bob", "OWNER");
            let method = "api.v2.TenantService/RemoveMember";
            let (a, b) = std::thread::scope(|scope| {
                let a = scope
                    .spawn(|| world.call(&alice, method, json!({"login": acme, "member": "bob"})));
                let b = scope
                    .spawn(|| world.call(&bob, method, json!({"login": acme, "member": "alice"})));
                (a.join().expect("alice"), b.join().expect("bob"))
            });
            let done = [&a, &b].iter().filter(|answer| answer.is_ok()).count();
            assert_eq!(done, 1, "{a:?} {b:?}");
            let got = world.ok(&world.admin(), "api.v2.TenantService/Get", json!({"login": acme}));
            assert_eq!(got["tenantMembers"].as_array().map(Vec::len), Some(1), "{got}");
        }
    });
}
