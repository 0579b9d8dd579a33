//! Every method, called by everybody, about what is theirs, what is somebody else's and what does not exist.
//!
//! What is expected follows from the method options, in the words of this file and not by the server's own function.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::api;
use proto::method::{
    AdminRole, InfraRole, METHODS, MachineRole, Method, ProjectRole, TenantRole, Visibility,
};
use serde_json::{Value, json};
use store::Entity;
use store::Member;
use uuid::Uuid;

use crate::world::{Answer, World, code, on_all, on_postgres, on_sqlite};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Nobody,
    /// A token without any right, of a user without any membership.
    Bare,
    /// A member of the tenant that owns the project.
    Tenant(TenantRole, Kind),
    /// A direct member of the project.
    Project(ProjectRole, Kind),
    Admin(AdminRole),
    Infra(InfraRole),
    Machine(MachineRole),
}

/// With which token.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Login,
    /// One that states the role.
    Program,
}

/// About what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum About {
    Own,
    Foreign,
    Missing,
}

const ABOUT: [About; 3] = [About::Own, About::Foreign, About::Missing];

fn everybody() -> Vec<Who> {
    let mut all = vec![Who::Nobody, Who::Bare];
    for kind in [Kind::Login, Kind::Program] {
        for role in [TenantRole::Owner, TenantRole::Editor, TenantRole::Viewer, TenantRole::Guest] {
            all.push(Who::Tenant(role, kind));
        }
        for role in [ProjectRole::Owner, ProjectRole::Editor, ProjectRole::Viewer] {
            all.push(Who::Project(role, kind));
        }
    }
    all.extend([AdminRole::Editor, AdminRole::Viewer].map(Who::Admin));
    all.extend([InfraRole::Editor, InfraRole::Viewer].map(Who::Infra));
    all.extend([MachineRole::Editor, MachineRole::Viewer].map(Who::Machine));
    all
}

/// What a role in a tenant is in the tenant's projects.
fn inherited(role: TenantRole) -> Option<ProjectRole> {
    match role {
        TenantRole::Owner => Some(ProjectRole::Owner),
        TenantRole::Editor => Some(ProjectRole::Editor),
        TenantRole::Viewer => Some(ProjectRole::Viewer),
        _ => None,
    }
}

/// What the options say.
fn allowed(method: &Method, who: Who, about: About) -> bool {
    let own = about == About::Own;
    let leave = method.path.ends_with("/Leave");
    let project = |role| own && (method.project_roles.contains(&role) || leave);
    let tenant = |role| own && (method.tenant_roles.contains(&role) || leave);
    let project_method = !method.project_roles.is_empty();
    if method.visibility == Visibility::Public {
        return true;
    }
    if who == Who::Nobody {
        return false;
    }
    if method.visibility == Visibility::Self_ {
        return true;
    }
    match who {
        Who::Nobody | Who::Bare => false,
        // the program's token states a role in the tenant only
        Who::Tenant(role, Kind::Login) if project_method => inherited(role).is_some_and(project),
        Who::Tenant(_, Kind::Program) if project_method => false,
        Who::Tenant(role, _) => !method.tenant_roles.is_empty() && tenant(role),
        Who::Project(role, _) if project_method => project(role),
        // who is in a project is a guest of its tenant; the program's token states nothing about the tenant
        Who::Project(_, Kind::Login) => {
            !method.tenant_roles.is_empty() && tenant(TenantRole::Guest)
        }
        Who::Project(_, Kind::Program) => false,
        Who::Admin(AdminRole::Editor) => true,
        Who::Admin(_) => {
            method.admin_roles.contains(&AdminRole::Viewer)
                || method.infra_roles.contains(&InfraRole::Viewer)
                || method.machine_roles.contains(&MachineRole::Viewer)
                || method.project_roles.contains(&ProjectRole::Viewer)
                || method.tenant_roles.contains(&TenantRole::Viewer)
        }
        Who::Infra(role) => method.infra_roles.contains(&role),
        Who::Machine(role) => own && method.machine_roles.contains(&role),
    }
}

/// A caller with a tenant, a project and a machine of their own.
struct Cast {
    token: String,
    tenant: String,
    project: String,
    machine: String,
}

/// Makes a tenant with a project; the name of neither says anything.
fn stage(
    world: &World,
    members: &[(&str, Option<TenantRole>, Option<ProjectRole>)],
) -> (String, String) {
    let (tenant, project) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
    let row = |id: &str, body: Value| Entity::new(id, body.to_string(), 1);
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let body = json!({"login": tenant, "name": "a tenant"});
        store::tenant::TABLE.insert(&mut tx, &row(&tenant, body), &[]).await.expect("tenant");
        let body = json!({"uuid": project, "name": "a project", "tenant": tenant});
        let columns = [(&tenant).into()];
        store::project::TABLE
            .insert(&mut tx, &row(&project, body), &columns)
            .await
            .expect("project");
        let member = |of: &str, member: &str, role: i64| Member {
            of: of.to_owned(),
            member: member.to_owned(),
            role,
            created_at_us: 1,
        };
        // so that nobody is the last owner
        let owner = member(&tenant, &tenant, 1);
        store::tenant::MEMBERS.add(&mut tx, &owner).await.expect("owner");
        let owner = member(&project, &tenant, 1);
        store::project::MEMBERS.add(&mut tx, &owner).await.expect("owner");
        for (login, of_tenant, of_project) in members {
            if let Some(role) = of_tenant {
                let member = member(&tenant, login, *role as i64);
                store::tenant::MEMBERS.add(&mut tx, &member).await.expect("member");
            }
            if let Some(role) = of_project {
                let member = member(&project, login, *role as i64);
                store::project::MEMBERS.add(&mut tx, &member).await.expect("member");
            }
        }
        tx.commit().await.expect("commit");
    });
    (tenant, project)
}

fn cast(world: &World, who: Who) -> Cast {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let user = format!("user-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
    world.login(&user);
    let members: &[_] = match who {
        Who::Tenant(role, _) => &[(user.as_str(), Some(role), None)],
        Who::Project(role, _) => &[(user.as_str(), None, Some(role))],
        _ => &[],
    };
    let (tenant, project) = stage(world, members);
    let machine = Uuid::new_v4().to_string();
    let mut token =
        api::Token { user, token_type: api::TokenType::Api.into(), ..Default::default() };
    match who {
        Who::Nobody | Who::Bare => {}
        Who::Tenant(_, Kind::Login) | Who::Project(_, Kind::Login) => {
            token.token_type = api::TokenType::User.into();
        }
        Who::Tenant(role, _) => {
            token.tenant_roles.insert(tenant.clone(), (role as i32).into());
        }
        Who::Project(role, _) => {
            token.project_roles.insert(project.clone(), (role as i32).into());
        }
        Who::Admin(role) => token.admin_role = Some((role as i32).into()),
        Who::Infra(role) => token.infra_role = Some((role as i32).into()),
        Who::Machine(role) => {
            token.machine_roles.insert(machine.clone(), (role as i32).into());
        }
    }
    let token = if who == Who::Nobody { String::new() } else { world.token(token) };
    Cast { token, tenant, project, machine }
}

/// The field of a request that says about what it is.
fn field(method: &Method) -> Option<&'static str> {
    if !method.project_roles.is_empty() {
        Some("project")
    } else if !method.tenant_roles.is_empty() {
        Some("login")
    } else if !method.machine_roles.is_empty() {
        Some("uuid")
    } else {
        None
    }
}

fn id(method: &Method, cast: &Cast) -> String {
    match field(method) {
        Some("project") => cast.project.clone(),
        Some("login") => cast.tenant.clone(),
        _ => cast.machine.clone(),
    }
}

fn call(world: &World, token: &str, method: &Method, id: &str, wanted: bool) -> Answer {
    let request = field(method).map_or_else(|| json!({}), |field| json!({field: id}));
    if method.streaming && wanted {
        world.glance_at_stream(token, method.path, &request)
    } else if method.streaming {
        world.open_stream(token, method.path, &request)
    } else {
        world.call_path(token, method.path, &request)
    }
}

/// Whether a call may remove what it is about, or the caller from it.
fn removes(method: &Method) -> bool {
    ["/Delete", "/Leave", "/RemoveMember"].iter().any(|verb| method.path.ends_with(verb))
}

/// Whether the gate let the call in; what the handler makes of a request that is nearly empty does not matter here.
fn admitted(answer: &Answer) -> bool {
    match answer {
        Err((code, _)) if code == "unauthenticated" => false,
        Err((code, message)) => {
            !(code == "permission_denied" && message.starts_with("the token does not allow"))
        }
        Ok(_) => true,
    }
}

/// One method of those that have the same options: what the database knows is asked in the same way for all of them.
fn one_of_each() -> Vec<&'static Method> {
    let mut seen = BTreeSet::new();
    let options = |method: &Method| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {} {}",
            method.visibility,
            method.tenant_roles,
            method.project_roles,
            method.admin_roles,
            method.infra_roles,
            method.machine_roles,
            method.streaming,
            method.path.ends_with("/Leave"),
        )
    };
    METHODS.iter().filter(|method| seen.insert(options(method))).collect()
}

#[test]
fn every_method_lets_in_whom_its_options_name_and_says_nothing_about_what_is_foreign() {
    on_sqlite(|world| check_all(world, &METHODS.iter().collect::<Vec<_>>()));
}

#[test]
fn replicas_on_postgresql_let_in_the_same_callers() {
    let methods = one_of_each();
    assert!((15..60).contains(&methods.len()), "{}", methods.len());
    on_postgres(2, |world| check_all(world, &methods));
}

fn check_all(world: &World, methods: &[&'static Method]) {
    let mut wrong = Vec::new();
    let mut uncovered = Vec::new();
    let (tenant, project) = stage(world, &[]);
    let foreign =
        Cast { token: String::new(), tenant, project, machine: Uuid::new_v4().to_string() };
    for who in everybody() {
        let mut own = cast(world, who);
        for method in methods.iter().copied() {
            let mut hidden = Vec::new();
            for about in ABOUT {
                if field(method).is_none() && about != About::Own {
                    continue;
                }
                let wanted = allowed(method, who, about);
                let missing = Uuid::new_v4().to_string();
                let id = match about {
                    About::Own => id(method, &own),
                    // operators may do what they like: they get something that nobody else needs
                    About::Foreign if wanted && removes(method) => {
                        let (tenant, project) = stage(world, &[]);
                        id(method, &Cast { tenant, project, ..cast_like(&foreign) })
                    }
                    About::Foreign => id(method, &foreign),
                    About::Missing => missing,
                };
                let answer = call(world, &own.token, method, &id, wanted);
                if code(&answer) == "unimplemented" {
                    uncovered.push(method.path);
                } else if matches!(code(&answer), "internal" | "unknown") {
                    wrong.push(format!("{} {who:?} {about:?} fails: {answer:?}", method.path));
                } else if admitted(&answer) != wanted {
                    wrong.push(format!("{} {who:?} {about:?}: {answer:?}", method.path));
                }
                if about != About::Own && !wanted {
                    let answer = answer.map_err(|(code, text)| (code, text.replace(&id, "ID")));
                    hidden.push(answer);
                }
                // what was allowed may have removed it
                if wanted && about == About::Own && removes(method) {
                    own = cast(world, who);
                }
            }
            if let [foreign, missing] = hidden.as_slice()
                && foreign != missing
            {
                wrong.push(format!("{} {who:?}: {foreign:?} tells from {missing:?}", method.path));
            }
        }
    }
    uncovered.sort_unstable();
    uncovered.dedup();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(uncovered, [""; 0], "methods without a handler");
}

fn cast_like(cast: &Cast) -> Cast {
    Cast {
        token: cast.token.clone(),
        tenant: cast.tenant.clone(),
        project: cast.project.clone(),
        machine: cast.machine.clone(),
    }
}

#[test]
fn a_method_that_does_not_exist_is_unimplemented() {
    on_all(|world| {
        let answer =
            world.call_path(&world.admin(), "/metalstack.api.v2.TenantService/Nothing", &json!({}));
        assert_eq!(code(&answer), "unimplemented", "{answer:?}");
    });
}

/// A row of the list below: a method, a request of a member of `PROJECT`, and what `ID` stands for when it exists elsewhere and
/// when it does not.
fn tells(
    world: &World,
    token: &str,
    method: &str,
    request: &Value,
    ids: [&str; 2],
) -> Option<String> {
    let answers = ids.map(|id| {
        let request: Value =
            serde_json::from_str(&request.to_string().replace("ID", id)).expect("JSON");
        let answer = world.call(token, method, request);
        answer.map_err(|(code, text)| (code, text.replace(id, "ID")))
    });
    let [foreign, missing] = &answers;
    (foreign != missing || foreign.is_ok())
        .then(|| format!("{method}: foreign {foreign:?}, missing {missing:?}"))
}

#[test]
fn nobody_learns_from_inside_their_project_what_exists_in_others() {
    on_all(|world| {
        let (admin, alice, bob) = (world.admin(), world.login("alice"), world.login("bob"));
        let theirs = world.project(&alice, "alice", "theirs");
        let own = world.project(&bob, "bob", "own");
        let machine = Uuid::new_v4().to_string();
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let row = Entity::new("p1", json!({"id": "p1"}).to_string(), 1);
            store::partition::TABLE.insert(&mut tx, &row, &[]).await.expect("partition");
            let body = json!({"uuid": machine, "partition": {"id": "p1"},
                "allocation": {"uuid": machine, "project": theirs}});
            let row = Entity::new(&machine, body.to_string(), 1);
            let project = Some(theirs.as_str());
            let allocation = Some(machine.as_str());
            let columns =
                ["p1".into(), "".into(), "".into(), project.into(), allocation.into(), 1.into()];
            store::machine::TABLE.insert(&mut tx, &row, &columns).await.expect("machine");
            tx.commit().await.expect("commit");
        });
        for network in [
            json!({"id": "super", "type": "NETWORK_TYPE_SUPER", "partition": "p1", "prefixes": ["10.0.0.0/16"],
                "defaultChildPrefixLength": {"ipv4": 22}}),
            json!({"id": "internet", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 104, "prefixes": ["212.34.83.0/28"]}),
        ] {
            world.ok(&admin, "admin.v2.NetworkService/Create", network);
        }
        let request = json!({"project": theirs, "name": "private", "partition": "p1"});
        let network =
            world.ok(&alice, "api.v2.NetworkService/Create", request)["network"]["id"].clone();
        let network = network.as_str().expect("id");
        let request = json!({"project": theirs, "network": "internet"});
        let ip = world.ok(&alice, "api.v2.IPService/Create", request)["ip"]["ip"].clone();
        let token =
            world.ok(&alice, "api.v2.TokenService/Create", json!({}))["token"]["uuid"].clone();

        let missing = Uuid::new_v4().to_string();
        let machines = [machine.as_str(), &missing];
        let networks = [network, &missing];
        let ips = [ip.as_str().expect("ip"), "212.34.83.9"];
        let tokens = [token.as_str().expect("id"), &missing];
        let project = json!(own);
        let mut told = Vec::new();
        for (method, request, ids) in [
            ("api.v2.NetworkService/Get", json!({"project": project, "id": "ID"}), networks),
            (
                "api.v2.NetworkService/Update",
                json!({"project": project, "id": "ID", "updateMeta": {"lockingStrategy": 2}}),
                networks,
            ),
            ("api.v2.NetworkService/Delete", json!({"project": project, "id": "ID"}), networks),
            (
                "api.v2.NetworkService/Create",
                json!({"project": project, "parentNetwork": "ID"}),
                networks,
            ),
            ("api.v2.IPService/Create", json!({"project": project, "network": "ID"}), networks),
            (
                "api.v2.IPService/Create",
                json!({"project": project, "network": "internet", "machine": "ID"}),
                machines,
            ),
            ("api.v2.IPService/Get", json!({"project": project, "ip": "ID"}), ips),
            (
                "api.v2.IPService/Update",
                json!({"project": project, "ip": "ID", "updateMeta": {"lockingStrategy": 2}}),
                ips,
            ),
            ("api.v2.IPService/Delete", json!({"project": project, "ip": "ID"}), ips),
            ("api.v2.MachineService/Get", json!({"project": project, "uuid": "ID"}), machines),
            (
                "api.v2.MachineService/Update",
                json!({"project": project, "uuid": "ID", "updateMeta": {"lockingStrategy": 2}}),
                machines,
            ),
            ("api.v2.MachineService/Delete", json!({"project": project, "uuid": "ID"}), machines),
            ("api.v2.MachineService/GetBMC", json!({"project": project, "uuid": "ID"}), machines),
            (
                "api.v2.MachineService/BMCCommand",
                json!({"project": project, "uuid": "ID", "command": 1}),
                machines,
            ),
            ("api.v2.TokenService/Get", json!({"uuid": "ID"}), tokens),
            ("api.v2.TokenService/Update", json!({"uuid": "ID"}), tokens),
            ("api.v2.TokenService/Revoke", json!({"uuid": "ID"}), tokens),
        ] {
            told.extend(tells(world, &bob, method, &request, ids));
        }
        assert!(told.is_empty(), "{}", told.join("\n"));
        let timeline = |id: &str| {
            let request = json!({"project": own, "uuid": id});
            let answer = world.call_path(&bob, "/metal.v1.TimelineService/Get", &request);
            answer.map_err(|(code, text)| (code, text.replace(id, "ID")))
        };
        assert_eq!(timeline(&machine), timeline(&missing));
    });
}

#[test]
fn the_list_of_methods_names_what_the_token_may_call_somewhere() {
    on_all(|world| {
        let alice = world.login("alice");
        let project = world.project(&alice, "alice", "rockets");
        let wish = json!({"projectRoles": {&project: "PROJECT_ROLE_VIEWER"},
            "permissions": [{"tenant": {"login": "alice", "methods": ["/metalstack.api.v2.TenantService/Update"]}}]});
        let secret = world.ok(&alice, "api.v2.TokenService/Create", wish)["secret"].clone();
        let listed =
            world.ok(secret.as_str().expect("secret"), "api.v2.MethodService/List", json!({}));
        let listed: Vec<_> =
            listed["methods"].as_array().expect("list").iter().flat_map(Value::as_str).collect();
        for method in METHODS {
            let expected = method.visibility != Visibility::Unspecified
                || method.project_roles.contains(&ProjectRole::Viewer)
                || method.path.ends_with("TenantService/Update");
            assert_eq!(listed.contains(&method.path), expected, "{}", method.path);
        }
    });
}
