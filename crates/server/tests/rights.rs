//! Who may call what, as the contract's method options say: the golden table of every method and role.

use std::fmt::Write as _;
use std::path::Path;

use proto::method::{METHODS, Visibility};
use proto::method::{ProjectRole, TenantRole};
use server::auth::{Level, Membership, Refusal, Rights, decide};

const NOBODY: Membership = Membership { project: None, tenant: None };

#[test]
fn the_table_of_rights_is_the_golden_one() {
    let mut text = String::new();
    for method in METHODS {
        write!(text, "{}", method.path).expect("string");
        match method.visibility {
            Visibility::Public => text.push_str(" public"),
            Visibility::Self_ => text.push_str(" self"),
            Visibility::Unspecified => {}
        }
        for (scope, roles) in [
            ("tenant", format!("{:?}", method.tenant_roles)),
            ("project", format!("{:?}", method.project_roles)),
            ("admin", format!("{:?}", method.admin_roles)),
            ("infra", format!("{:?}", method.infra_roles)),
            ("machine", format!("{:?}", method.machine_roles)),
        ] {
            if roles != "[]" {
                write!(text, " {scope}{}", roles.to_lowercase().replace(", ", "|"))
                    .expect("string");
            }
        }
        writeln!(text, " audit={:?}", method.auditing).expect("string");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().expect("folder")).expect("golden folder");
        std::fs::write(&golden, &text).expect("golden file");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        text == expected,
        "the table changed: run with UPDATE_GOLDEN=1 and review {}",
        golden.display()
    );
}

#[test]
fn every_method_has_exactly_one_scope() {
    for method in METHODS {
        let scopes = [
            method.visibility != Visibility::Unspecified,
            !method.tenant_roles.is_empty(),
            !method.project_roles.is_empty(),
            !method.admin_roles.is_empty(),
            !method.infra_roles.is_empty(),
            !method.machine_roles.is_empty(),
        ];
        assert_eq!(scopes.iter().filter(|s| **s).count(), 1, "{}", method.path);
    }
}

#[test]
fn nobody_without_a_token_gets_past_the_public_methods() {
    for method in METHODS {
        let expected = if method.visibility == Visibility::Public {
            Ok(())
        } else {
            Err(Refusal::Unauthenticated)
        };
        assert_eq!(decide(method, "*", None, NOBODY), expected, "{}", method.path);
    }
}

#[test]
fn a_machine_speaks_for_itself_only_also_on_streams() {
    let own = "00000000-0000-0000-0000-000000000001";
    let foreign = "00000000-0000-0000-0000-000000000002";
    let rights = Rights { machines: [(own.to_owned(), Level::Editor)].into(), ..Rights::default() };
    let machine_methods: Vec<_> = METHODS.iter().filter(|m| !m.machine_roles.is_empty()).collect();
    assert!(machine_methods.iter().any(|m| m.streaming), "Wait is a stream");
    for method in machine_methods {
        assert_eq!(decide(method, own, Some(&rights), NOBODY), Ok(()), "{}", method.path);
        assert_eq!(
            decide(method, foreign, Some(&rights), NOBODY),
            Err(Refusal::Denied),
            "{}",
            method.path
        );
        assert_eq!(
            decide(method, "", Some(&rights), NOBODY),
            Err(Refusal::Denied),
            "{}",
            method.path
        );
    }
}

#[test]
fn an_infra_editor_may_not_call_operator_or_tenant_methods() {
    let rights = Rights { infra: Some(Level::Editor), ..Rights::default() };
    for method in METHODS {
        let allowed = decide(method, "*", Some(&rights), NOBODY).is_ok();
        let expected =
            !method.infra_roles.is_empty() || method.visibility != Visibility::Unspecified;
        assert_eq!(allowed, expected, "{}", method.path);
    }
}

#[test]
fn an_admin_viewer_changes_nothing_that_only_editors_may() {
    let rights = Rights { admin: Some(Level::Viewer), ..Rights::default() };
    for method in METHODS.iter().filter(|m| !m.admin_roles.is_empty()) {
        let expected = method.admin_roles.contains(&proto::method::AdminRole::Viewer);
        assert_eq!(decide(method, "", Some(&rights), NOBODY).is_ok(), expected, "{}", method.path);
    }
}

const PROJECT: &str = "00000000-0000-0000-0000-00000000000a";

fn member(role: ProjectRole) -> Membership {
    Membership { project: Some(role), tenant: None }
}

#[test]
fn a_login_may_do_what_its_membership_says_and_nothing_else() {
    let rights = Rights { login: true, ..Rights::default() };
    for method in METHODS.iter().filter(|m| !m.project_roles.is_empty()) {
        for role in [ProjectRole::Owner, ProjectRole::Editor, ProjectRole::Viewer] {
            let allowed = decide(method, PROJECT, Some(&rights), member(role)).is_ok();
            let expected = method.project_roles.contains(&role) || method.path.ends_with("/Leave");
            assert_eq!(allowed, expected, "{} {role:?}", method.path);
        }
        assert_eq!(decide(method, PROJECT, Some(&rights), NOBODY), Err(Refusal::Denied));
    }
    for method in METHODS.iter().filter(|m| !m.tenant_roles.is_empty()) {
        let guest = Membership { project: None, tenant: Some(TenantRole::Guest) };
        let allowed = decide(method, "acme", Some(&rights), guest).is_ok();
        let expected =
            method.tenant_roles.contains(&TenantRole::Guest) || method.path.ends_with("/Leave");
        assert_eq!(allowed, expected, "{}", method.path);
    }
}

#[test]
fn only_leaving_is_open_to_more_members_than_the_options_list() {
    let rights = Rights { login: true, ..Rights::default() };
    let mut more = String::new();
    for method in METHODS {
        for role in [ProjectRole::Owner, ProjectRole::Editor, ProjectRole::Viewer] {
            let allowed = decide(method, PROJECT, Some(&rights), member(role)).is_ok();
            if !method.project_roles.is_empty() && allowed && !method.project_roles.contains(&role)
            {
                writeln!(more, "{} project {role:?}", method.path).expect("string");
            }
        }
        for role in [TenantRole::Owner, TenantRole::Editor, TenantRole::Viewer, TenantRole::Guest] {
            let now = Membership { project: None, tenant: Some(role) };
            let allowed = decide(method, "acme", Some(&rights), now).is_ok();
            if !method.tenant_roles.is_empty() && allowed && !method.tenant_roles.contains(&role) {
                writeln!(more, "{} tenant {role:?}", method.path).expect("string");
            }
        }
    }
    let expected = "\
/metalstack.api.v2.ProjectService/Leave project Owner
/metalstack.api.v2.ProjectService/Leave project Editor
/metalstack.api.v2.TenantService/Leave tenant Owner
/metalstack.api.v2.TenantService/Leave tenant Editor
/metalstack.api.v2.TenantService/Leave tenant Guest
";
    assert_eq!(more, expected);
}

#[test]
fn demoting_the_owner_of_an_api_token_weakens_the_token_at_once() {
    let rights =
        Rights { projects: [(PROJECT.to_owned(), ProjectRole::Owner)].into(), ..Rights::default() };
    for method in METHODS.iter().filter(|m| !m.project_roles.is_empty()) {
        let allowed = decide(method, PROJECT, Some(&rights), member(ProjectRole::Viewer)).is_ok();
        assert_eq!(allowed, method.project_roles.contains(&ProjectRole::Viewer), "{}", method.path);
        assert_eq!(decide(method, PROJECT, Some(&rights), NOBODY), Err(Refusal::Denied));
    }
}

#[test]
fn a_permission_names_method_and_subject_and_needs_membership() {
    let get = "/metalstack.api.v2.MachineService/Get";
    let rights = Rights {
        permissions: vec![(PROJECT.to_owned(), vec![get.to_owned()])],
        ..Rights::default()
    };
    for method in METHODS.iter().filter(|m| !m.project_roles.is_empty()) {
        let allowed = decide(method, PROJECT, Some(&rights), member(ProjectRole::Owner)).is_ok();
        assert_eq!(allowed, method.path == get, "{}", method.path);
        assert_eq!(
            decide(method, "other", Some(&rights), member(ProjectRole::Owner)),
            Err(Refusal::Denied)
        );
        assert_eq!(decide(method, PROJECT, Some(&rights), NOBODY), Err(Refusal::Denied));
    }
}
