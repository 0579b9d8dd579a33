//! Tokens: who may make which, and what becomes of them.

use proto::api;
use serde_json::{Value, json};

use crate::world::{World, code, column, on_all, text};

const CREATE: &str = "api.v2.TokenService/Create";
const MACHINE: &str = "00000000-0000-0000-0000-0000000000a1";
const PROJECT_GET: &str = "/metalstack.api.v2.ProjectService/Get";
const PROJECT_UPDATE: &str = "/metalstack.api.v2.ProjectService/Update";
const TENANT_GET: &str = "/metalstack.api.v2.TenantService/Get";
const TENANT_LIST: &str = "/metalstack.api.v2.TenantService/List";
const VERSION_GET: &str = "/metalstack.api.v2.VersionService/Get";
const ADMIN_TENANTS: &str = "/metalstack.admin.v2.TenantService/List";

/// The secret of a new token.
#[track_caller]
fn made(world: &World, token: &str, request: Value) -> String {
    text(&world.ok(token, CREATE, request)["secret"])
}

#[test]
fn a_token_is_made_found_changed_and_revoked_by_its_owner_only() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let project = world.project(&alice, "alice", "rockets");
        let request = json!({"description": "ci", "expires": "3600s", "labels": {"labels": {"a": "1"}},
            "projectRoles": {&project: "PROJECT_ROLE_VIEWER"}});
        let created = world.ok(&alice, CREATE, request);
        let (secret, token) = (text(&created["secret"]), created["token"].clone());
        let uuid = text(&token["uuid"]);
        assert_eq!(token["user"], "alice");
        assert_eq!(token["tokenType"], "TOKEN_TYPE_API");
        assert_eq!(token["meta"]["generation"], "1");
        assert_eq!(token["meta"]["createdAt"], token["issuedAt"]);
        assert!(!token.to_string().contains(&secret));
        let read = json!({"project": project});
        let rename = json!({"project": project, "updateMeta": {}, "name": "cars"});
        world.ok(&secret, "api.v2.ProjectService/Get", read.clone());
        world.expect("permission_denied", &secret, "api.v2.ProjectService/Update", rename.clone());

        let get = json!({"uuid": uuid});
        assert_eq!(world.ok(&alice, "api.v2.TokenService/Get", get.clone())["token"], token);
        world.expect("not_found", &bob, "api.v2.TokenService/Get", get.clone());
        world.expect("not_found", &bob, "api.v2.TokenService/Revoke", get.clone());
        world.expect("not_found", &bob, "api.v2.TokenService/Update", get.clone());
        for (query, found) in [
            (json!({"description": "ci"}), true),
            (json!({"uuid": uuid}), true),
            (json!({"labels": {"labels": {"a": "1"}}}), true),
            (json!({"tokenType": "TOKEN_TYPE_API"}), true),
            (json!({"labels": {"labels": {"a": "2"}}}), false),
            (json!({"description": "c"}), false),
            (json!({"user": "bob"}), false),
        ] {
            let listed = world.ok(&alice, "api.v2.TokenService/List", json!({"query": query}));
            let wanted = if found { uuid.as_str() } else { "" };
            assert_eq!(column(&listed["tokens"], "uuid"), wanted, "{query}");
        }
        let of_bob = world.ok(&bob, "api.v2.TokenService/List", json!({}));
        assert!(!of_bob.to_string().contains(&uuid));

        let request = json!({"uuid": uuid, "description": "cd", "projectRoles": {&project: "PROJECT_ROLE_EDITOR"},
            "labels": {"replace": {"labels": {"b": "2"}}}});
        let changed = world.ok(&alice, "api.v2.TokenService/Update", request)["token"].clone();
        assert_eq!(changed["description"], "cd");
        assert_eq!(changed["meta"]["labels"]["labels"], json!({"b": "2"}));
        assert_eq!(changed["meta"]["generation"], "2");
        assert_eq!(changed["expires"], token["expires"]);
        world.ok(&secret, "api.v2.ProjectService/Update", rename);

        world.ok(&alice, "api.v2.TokenService/Revoke", get.clone());
        world.expect("unauthenticated", &secret, "api.v2.ProjectService/Get", read);
        world.expect("not_found", &alice, "api.v2.TokenService/Get", get.clone());
        world.expect("not_found", &alice, "api.v2.TokenService/Revoke", get);
    });
}

#[test]
fn a_token_is_valid_for_as_long_as_asked_for_within_the_bounds() {
    on_all(|world| {
        let alice = world.login("alice");
        let seconds = |request: Value| {
            let token = world.ok(&alice, CREATE, request)["token"].clone();
            let time =
                |field: &str| -> jiff::Timestamp { text(&token[field]).parse().expect("time") };
            time("expires").as_second() - time("issuedAt").as_second()
        };
        assert_eq!(seconds(json!({})), 8 * 3600);
        assert_eq!(seconds(json!({"expires": "600s"})), 600);
        assert_eq!(seconds(json!({"expires": "31536000s"})), 31_536_000);
        for wrong in ["599s", "0s", "-1s", "31536001s"] {
            world.expect("invalid_argument", &alice, CREATE, json!({"expires": wrong}));
        }
    });
}

#[test]
fn a_login_hands_on_what_its_user_is_and_nothing_more() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let own = world.project(&alice, "alice", "own");
        let acme = world.organisation(&bob, "Acme");
        let viewed = world.project(&bob, &acme, "viewed");
        let foreign = world.project(&bob, "bob", "foreign");
        world.member(&bob, &acme, "alice", "VIEWER");
        let nowhere = "00000000-0000-0000-0000-000000000000";
        let project =
            |id: &str, role: &str| json!({"projectRoles": {id: format!("PROJECT_ROLE_{role}")}});
        let tenant =
            |id: &str, role: &str| json!({"tenantRoles": {id: format!("TENANT_ROLE_{role}")}});
        let on_project = |id: &str, method: &str| json!({"permissions": [{"project": {"project": id, "methods": [method]}}]});
        let on_tenant = |id: &str, method: &str| json!({"permissions": [{"tenant": {"login": id, "methods": [method]}}]});
        let of = |kind: &str, method: &str| json!({"permissions": [{kind: {"methods": [method]}}]});
        for (wish, allowed) in [
            (json!({}), true),
            (project(&own, "OWNER"), true),
            (project(&own, "EDITOR"), true),
            (project(&own, "UNSPECIFIED"), false),
            (project(&viewed, "VIEWER"), true),
            (project(&viewed, "EDITOR"), false),
            (project(&foreign, "VIEWER"), false),
            (project(nowhere, "VIEWER"), false),
            (project("*", "VIEWER"), false),
            (tenant("alice", "OWNER"), true),
            (tenant("alice", "GUEST"), true),
            (tenant(&acme, "VIEWER"), true),
            (tenant(&acme, "OWNER"), false),
            (tenant("bob", "GUEST"), false),
            (tenant("nobody", "GUEST"), false),
            (tenant("*", "GUEST"), false),
            (tenant("alice", "UNSPECIFIED"), false),
            (json!({"machineRoles": {MACHINE: "MACHINE_ROLE_EDITOR"}}), false),
            (json!({"machineRoles": {MACHINE: "MACHINE_ROLE_VIEWER"}}), false),
            (json!({"machineRoles": {"*": "MACHINE_ROLE_EDITOR"}}), false),
            (json!({"infraRole": "INFRA_ROLE_VIEWER"}), false),
            (json!({"infraRole": "INFRA_ROLE_UNSPECIFIED"}), true),
            (json!({"adminRole": "ADMIN_ROLE_VIEWER"}), false),
            (json!({"adminRole": "ADMIN_ROLE_UNSPECIFIED"}), true),
            (on_project(&own, PROJECT_UPDATE), true),
            (on_project(&viewed, PROJECT_GET), true),
            (on_project(&viewed, PROJECT_UPDATE), false),
            (on_project(&foreign, PROJECT_GET), false),
            (on_project("*", PROJECT_UPDATE), true),
            (on_project(&own, TENANT_GET), false),
            (on_project(&own, "/metalstack.api.v2.ProjectService/Nothing"), false),
            (on_tenant("alice", TENANT_GET), true),
            (on_tenant("bob", TENANT_GET), false),
            (on_tenant("*", TENANT_GET), true),
            (on_tenant("alice", PROJECT_GET), false),
            (of("self", TENANT_LIST), true),
            (of("public", VERSION_GET), true),
            (of("self", VERSION_GET), false),
            (of("public", TENANT_LIST), false),
            (of("admin", ADMIN_TENANTS), false),
            (of("infra", "/metalstack.infra.v2.SwitchService/Get"), false),
        ] {
            let answer = world.call(&alice, CREATE, wish.clone());
            let wanted = if allowed { "ok" } else { "permission_denied" };
            assert_eq!(code(&answer), wanted, "{wish}: {answer:?}");
        }
    });
}

#[test]
fn a_wildcard_permission_reaches_as_far_as_the_membership_also_in_later_projects() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let wish = json!({"permissions": [{"project": {"project": "*", "methods": [PROJECT_GET, PROJECT_GET]}}]});
        let created = world.ok(&alice, CREATE, wish);
        let stored = json!([{"subject": "*", "methods": [PROJECT_GET]}]);
        assert_eq!(created["token"]["permissions"], stored);
        let token = text(&created["secret"]);
        let later = world.project(&alice, "alice", "later");
        let foreign = world.project(&bob, "bob", "foreign");
        world.ok(&token, "api.v2.ProjectService/Get", json!({"project": later}));
        world.expect(
            "permission_denied",
            &token,
            "api.v2.ProjectService/Get",
            json!({"project": foreign}),
        );
        world.expect(
            "permission_denied",
            &token,
            "api.v2.ProjectService/Delete",
            json!({"project": later}),
        );
    });
}

#[test]
fn a_token_for_programs_hands_on_no_more_than_it_has() {
    on_all(|world| {
        let alice = world.login("alice");
        let project = world.project(&alice, "alice", "rockets");
        let role = |role: &str| json!({"projectRoles": {&project: format!("PROJECT_ROLE_{role}")}});
        let bare = made(world, &alice, json!({}));
        let viewer = made(world, &alice, role("VIEWER"));
        let permitted =
            json!({"permissions": [{"project": {"project": &project, "methods": [PROJECT_GET]}}]});
        let single = made(world, &alice, permitted.clone());
        world.ok(&bare, CREATE, json!({}));
        world.expect("permission_denied", &bare, CREATE, role("VIEWER"));
        world.expect("permission_denied", &bare, CREATE, permitted.clone());
        world.ok(&viewer, CREATE, role("VIEWER"));
        world.ok(&viewer, CREATE, permitted.clone());
        world.expect("permission_denied", &viewer, CREATE, role("EDITOR"));
        world.ok(&single, CREATE, permitted);
        world.expect("permission_denied", &single, CREATE, role("VIEWER"));

        let agent = world.token(api::Token {
            user: "agent".to_owned(),
            token_type: api::TokenType::Api.into(),
            infra_role: Some(api::InfraRole::Viewer.into()),
            machine_roles: [(MACHINE.to_owned(), api::MachineRole::Editor.into())]
                .into_iter()
                .collect(),
            project_roles: [("*".to_owned(), api::ProjectRole::Viewer.into())]
                .into_iter()
                .collect(),
            ..Default::default()
        });
        world.ok(&agent, CREATE, json!({"machineRoles": {MACHINE: "MACHINE_ROLE_EDITOR"}}));
        world.expect(
            "permission_denied",
            &agent,
            CREATE,
            json!({"machineRoles": {"*": "MACHINE_ROLE_EDITOR"}}),
        );
        world.ok(&agent, CREATE, json!({"infraRole": "INFRA_ROLE_VIEWER"}));
        world.expect(
            "permission_denied",
            &agent,
            CREATE,
            json!({"infraRole": "INFRA_ROLE_EDITOR"}),
        );
        world.ok(&agent, CREATE, json!({"projectRoles": {"*": "PROJECT_ROLE_VIEWER"}}));
        world.expect(
            "permission_denied",
            &agent,
            CREATE,
            json!({"projectRoles": {"*": "PROJECT_ROLE_EDITOR"}}),
        );
    });
}

#[test]
fn what_a_user_loses_their_tokens_lose_at_once() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let acme = world.organisation(&alice, "Acme");
        let project = world.project(&alice, &acme, "rockets");
        world.member(&alice, &acme, "bob", "OWNER");
        let wish = json!({"projectRoles": {&project: "PROJECT_ROLE_OWNER"}, "tenantRoles": {&acme: "TENANT_ROLE_OWNER"}});
        let token = made(world, &bob, wish);
        let rename = json!({"project": project, "updateMeta": {}, "name": "cars"});
        world.ok(&token, "api.v2.ProjectService/Update", rename.clone());
        let demote = json!({"login": acme, "member": "bob", "role": "TENANT_ROLE_VIEWER"});
        world.ok(&alice, "api.v2.TenantService/UpdateMember", demote);
        for token in [&token, &bob] {
            world.expect(
                "permission_denied",
                token,
                "api.v2.ProjectService/Update",
                rename.clone(),
            );
            world.ok(token, "api.v2.ProjectService/Get", json!({"project": project}));
        }
        world.ok(
            &alice,
            "api.v2.TenantService/RemoveMember",
            json!({"login": acme, "member": "bob"}),
        );
        for token in [&token, &bob] {
            world.expect(
                "permission_denied",
                token,
                "api.v2.ProjectService/Get",
                json!({"project": project}),
            );
            world.expect(
                "permission_denied",
                token,
                "api.v2.TenantService/Get",
                json!({"login": acme}),
            );
        }
    });
}

#[test]
fn a_login_becomes_the_operator_that_its_role_in_the_provider_tenant_allows() {
    on_all(|world| {
        let provider = world.login("metal-stack");
        let user = world.login("bob");
        let wish = |role: &str| json!({"adminRole": format!("ADMIN_ROLE_{role}")});
        for (role, viewer, editor) in [
            ("GUEST", false, false),
            ("VIEWER", true, false),
            ("EDITOR", true, false),
            ("OWNER", true, true),
        ] {
            world.member(&provider, "metal-stack", "bob", role);
            for (wanted, allowed) in [("VIEWER", viewer), ("EDITOR", editor)] {
                let answer = world.call(&user, CREATE, wish(wanted));
                let code_wanted = if allowed { "ok" } else { "permission_denied" };
                assert_eq!(code(&answer), code_wanted, "{role} {wanted}: {answer:?}");
            }
            let remove = json!({"login": "metal-stack", "member": "bob"});
            world.ok(&provider, "api.v2.TenantService/RemoveMember", remove);
        }
        // a token for programs does not raise itself, whoever its user is
        let bare = made(world, &provider, json!({}));
        world.expect("permission_denied", &bare, CREATE, wish("VIEWER"));
        let viewer = made(world, &provider, wish("VIEWER"));
        world.expect("permission_denied", &viewer, CREATE, wish("EDITOR"));
        world.ok(&viewer, CREATE, wish("VIEWER"));
    });
}

#[test]
fn who_is_no_operator_any_more_has_no_operators_token_any_more() {
    on_all(|world| {
        let provider = world.login("metal-stack");
        let operator = world.operator("bob", api::AdminRole::Editor);
        let permission = json!({"permissions": [{"admin": {"methods": [ADMIN_TENANTS]}}]});
        let single = made(world, &operator, permission);
        let (list, create) = ("admin.v2.TenantService/List", "admin.v2.TenantService/Create");
        let demote = json!({"login": "metal-stack", "member": "bob", "role": "TENANT_ROLE_VIEWER"});
        world.ok(&operator, create, json!({"name": "Acme"}));
        world.ok(&provider, "api.v2.TenantService/UpdateMember", demote);
        world.expect("permission_denied", &operator, create, json!({"name": "Acme"}));
        world.ok(&operator, list, json!({}));
        world.ok(&single, list, json!({}));
        let remove = json!({"login": "metal-stack", "member": "bob"});
        world.ok(&provider, "api.v2.TenantService/RemoveMember", remove);
        for token in [&operator, &single] {
            world.expect("permission_denied", token, list, json!({}));
        }
    });
}

#[test]
fn updating_a_token_is_checked_like_making_one() {
    on_all(|world| {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let project = world.project(&alice, "alice", "rockets");
        let foreign = world.project(&bob, "bob", "foreign");
        let method = "api.v2.TokenService/Update";
        let roles = json!({"projectRoles": {&project: "PROJECT_ROLE_VIEWER"}});
        let token = text(&world.ok(&alice, CREATE, roles)["token"]["uuid"]);
        for (code, mut wish) in [
            ("permission_denied", json!({"projectRoles": {&foreign: "PROJECT_ROLE_VIEWER"}})),
            ("permission_denied", json!({"projectRoles": {&project: "PROJECT_ROLE_UNSPECIFIED"}})),
            ("permission_denied", json!({"tenantRoles": {"bob": "TENANT_ROLE_GUEST"}})),
            ("permission_denied", json!({"machineRoles": {MACHINE: "MACHINE_ROLE_EDITOR"}})),
            ("permission_denied", json!({"infraRole": "INFRA_ROLE_EDITOR"})),
            ("permission_denied", json!({"adminRole": "ADMIN_ROLE_VIEWER"})),
            (
                "permission_denied",
                json!({"permissions": [{"admin": {"methods": [ADMIN_TENANTS]}}]}),
            ),
            ("invalid_argument", json!({"updateMeta": {"updatedAt": "2026-01-01T00:00:00Z"}})),
            ("ok", json!({"updateMeta": {}, "adminRole": "ADMIN_ROLE_UNSPECIFIED"})),
            ("ok", json!({"tenantRoles": {"alice": "TENANT_ROLE_OWNER"}})),
        ] {
            wish["uuid"] = json!(token);
            world.expect(code, &alice, method, wish);
        }
        let got = world.ok(&alice, "api.v2.TokenService/Get", json!({"uuid": token}));
        assert_eq!(got["token"]["projectRoles"], json!({&project: "PROJECT_ROLE_VIEWER"}), "stays");
        let query = json!({"query": {"tokenType": "TOKEN_TYPE_USER"}});
        let login = column(&world.ok(&alice, "api.v2.TokenService/List", query)["tokens"], "uuid");
        world.expect("failed_precondition", &alice, method, json!({"uuid": login}));
        let missing = json!({"uuid": "00000000-0000-0000-0000-000000000000"});
        world.expect("not_found", &alice, method, missing);
    });
}

#[test]
fn a_refreshed_token_is_a_new_one_with_the_same_rights() {
    on_all(|world| {
        let alice = world.login("alice");
        let project = world.project(&alice, "alice", "rockets");
        let wish = json!({"description": "ci", "expires": "1200s", "labels": {"labels": {"a": "1"}},
            "permissions": [{"self": {"methods": [TENANT_LIST]}}],
            "projectRoles": {&project: "PROJECT_ROLE_VIEWER"}});
        let first = world.ok(&alice, CREATE, wish);
        let second = world.ok(&text(&first["secret"]), "api.v2.TokenService/Refresh", json!({}));
        let (old, new) = (&first["token"], &second["token"]);
        assert_ne!(old["uuid"], new["uuid"]);
        for field in ["user", "description", "permissions", "projectRoles", "tokenType"] {
            assert_eq!(old[field], new[field], "{field}");
        }
        assert_eq!(old["meta"]["labels"], new["meta"]["labels"]);
        let life = |token: &Value| {
            let time =
                |field: &str| -> jiff::Timestamp { text(&token[field]).parse().expect("time") };
            time("expires").as_second() - time("issuedAt").as_second()
        };
        assert_eq!(life(new), 1200);
        for secret in [&first["secret"], &second["secret"]] {
            let get = json!({"project": project});
            world.ok(&text(secret), "api.v2.ProjectService/Get", get);
        }
        let login = world.ok(&alice, "api.v2.TokenService/Refresh", json!({}));
        assert_eq!(login["token"]["tokenType"], "TOKEN_TYPE_USER");
        let get = json!({"project": project});
        world.ok(&text(&login["secret"]), "api.v2.ProjectService/Get", get);
    });
}

#[test]
fn operators_make_list_and_revoke_tokens_of_all_users() {
    on_all(|world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        let project = world.project(&alice, "alice", "rockets");
        let method = "admin.v2.TokenService/Create";
        let wish = json!({"projectRoles": {&project: "PROJECT_ROLE_VIEWER"}});
        let created =
            world.ok(&admin, method, json!({"user": "alice", "tokenCreateRequest": wish}));
        assert_eq!(created["token"]["user"], "alice");
        let secret = text(&created["secret"]);
        world.ok(&secret, "api.v2.ProjectService/Get", json!({"project": project}));
        let own = world.ok(&admin, method, json!({"tokenCreateRequest": {}}));
        assert_eq!(own["token"]["user"], "operator");
        world.expect(
            "not_found",
            &admin,
            method,
            json!({"user": "nobody", "tokenCreateRequest": {}}),
        );
        world.expect("invalid_argument", &admin, method, json!({"user": "alice"}));
        let unknown = json!({"permissions": [{"self": {"methods": ["/metalstack.api.v2.TenantService/Nothing"]}}]});
        world.expect("permission_denied", &admin, method, json!({"tokenCreateRequest": unknown}));
        let absent =
            json!({"permissions": [{"tenant": {"login": "nobody", "methods": [TENANT_GET]}}]});
        world.expect("permission_denied", &admin, method, json!({"tokenCreateRequest": absent}));
        world.expect("permission_denied", &alice, method, json!({"tokenCreateRequest": {}}));

        let uuid = text(&created["token"]["uuid"]);
        let list = "admin.v2.TokenService/List";
        let query = json!({"query": {"user": "alice", "tokenType": "TOKEN_TYPE_API"}});
        assert_eq!(column(&world.ok(&admin, list, query)["tokens"], "uuid"), uuid);
        let all = world.ok(&admin, list, json!({}));
        assert!(all["tokens"].as_array().is_some_and(|tokens| tokens.len() >= 4), "{all}");
        let revoke = "admin.v2.TokenService/Revoke";
        world.expect("not_found", &admin, revoke, json!({"uuid": uuid, "user": "bob"}));
        world.ok(&admin, revoke, json!({"uuid": uuid, "user": "alice"}));
        world.expect(
            "unauthenticated",
            &secret,
            "api.v2.ProjectService/Get",
            json!({"project": project}),
        );
        world.expect("not_found", &admin, revoke, json!({"uuid": uuid, "user": "alice"}));
    });
}
