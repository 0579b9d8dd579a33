//! Who may make a token with which rights: nobody hands on what they do not have. Pure.
//!
//! A right may be handed on when the call by which it is asked for could do itself all that the right allows, now. So a demotion
//! or the end of a membership limits delegation at once, too.

use std::collections::{BTreeMap, BTreeSet};

use proto::api;
use proto::api::permissions_by_visibility::Visibility as Permissions;
use proto::method::{InfraRole, MachineRole, Method, ProjectRole, TenantRole, Visibility};

use super::rights::{self, Level, Membership, Rights, decide};

/// What a user is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Role in each project, own or inherited.
    pub projects: BTreeMap<String, ProjectRole>,
    /// Role in each tenant, own or as a guest.
    pub tenants: BTreeMap<String, TenantRole>,
    /// Which operator the role in the provider tenant allows to be.
    pub operator: Option<Level>,
}

/// Merges permissions by what they act on and checks that each method is what it is said to be.
///
/// # Errors
/// A sentence that names the method.
pub fn flatten(
    permissions: &[api::PermissionsByVisibility],
) -> Result<Vec<api::MethodPermission>, String> {
    let mut merged: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for entry in permissions.iter().filter_map(|entry| entry.visibility.as_ref()) {
        let (kind, subject, methods) = match entry {
            Permissions::Public(p) => (Kind::Public, "", &p.methods),
            Permissions::Self_(p) => (Kind::Self_, "", &p.methods),
            Permissions::Project(p) => (Kind::Project, p.project.as_str(), &p.methods),
            Permissions::Tenant(p) => (Kind::Tenant, p.login.as_str(), &p.methods),
            Permissions::Admin(p) => (Kind::Admin, "", &p.methods),
            Permissions::Machine(p) => (Kind::Machine, p.uuid.as_str(), &p.methods),
            Permissions::Infra(p) => (Kind::Infra, "", &p.methods),
        };
        for path in methods {
            let method = Method::find(path).ok_or_else(|| format!("there is no method {path}"))?;
            if Kind::of(method) != kind {
                return Err(format!("{path} is no {} method", kind.name()));
            }
            merged.entry(subject).or_default().insert(path);
        }
    }
    Ok(merged
        .into_iter()
        .map(|(subject, methods)| api::MethodPermission {
            subject: subject.to_owned(),
            methods: methods.into_iter().map(str::to_owned).collect(),
            ..Default::default()
        })
        .collect())
}

/// Whether a call with the rights of `session`, made by somebody who stands so, may hand on what `wish` says.
///
/// # Errors
/// A sentence that names the first right which may not be handed on.
pub fn check(wish: &api::Token, session: &Rights, standing: &Standing) -> Result<(), String> {
    let mut session = session.clone();
    if session.login {
        // a login becomes an operator only by asking for a token of its own, for a while
        session.admin = standing.operator;
    }
    let giver = Giver { session: &session, standing };
    if let Some(role) = wish.admin_role.and_then(|role| role.as_known()) {
        giver.admin(role)?;
    }
    if let Some(role) = wish.infra_role.and_then(|role| role.as_known()) {
        giver.infra(role)?;
    }
    for (project, role) in &wish.project_roles {
        let role = role.as_known().and_then(rights::project_role);
        giver.project(project, role.ok_or_else(|| unspecified("project", project))?)?;
    }
    for (tenant, role) in &wish.tenant_roles {
        let role = role.as_known().and_then(rights::tenant_role);
        giver.tenant(tenant, role.ok_or_else(|| unspecified("tenant", tenant))?)?;
    }
    for (machine, role) in &wish.machine_roles {
        let role = match role.as_known() {
            Some(api::MachineRole::MACHINE_ROLE_EDITOR) => MachineRole::Editor,
            Some(api::MachineRole::MACHINE_ROLE_VIEWER) => MachineRole::Viewer,
            _ => return Err(unspecified("machine", machine)),
        };
        giver.machine(machine, role)?;
    }
    for entry in &wish.permissions {
        for path in &entry.methods {
            giver.permission(&entry.subject, path)?;
        }
    }
    Ok(())
}

fn unspecified(kind: &str, subject: &str) -> String {
    format!("requested {kind} role for \"{subject}\" is not specified")
}

struct Giver<'a> {
    session: &'a Rights,
    standing: &'a Standing,
}

impl Giver<'_> {
    fn admin(&self, role: api::AdminRole) -> Result<(), String> {
        let wanted = match role {
            api::AdminRole::ADMIN_ROLE_EDITOR => Level::Editor,
            api::AdminRole::ADMIN_ROLE_VIEWER => Level::Viewer,
            api::AdminRole::ADMIN_ROLE_UNSPECIFIED => return Ok(()),
        };
        match self.session.admin {
            Some(have) if have <= wanted => Ok(()),
            Some(_) => Err("requested admin role is not allowed: only viewer is".to_owned()),
            None if self.session.login => Err(
                "requested admin role is not allowed: it takes a membership in the provider tenant"
                    .to_owned(),
            ),
            None => Err(
                "requested admin role is not allowed: the token of this call has none, use one of a login"
                    .to_owned(),
            ),
        }
    }

    fn infra(&self, role: api::InfraRole) -> Result<(), String> {
        let role = match role {
            api::InfraRole::INFRA_ROLE_EDITOR => InfraRole::Editor,
            api::InfraRole::INFRA_ROLE_VIEWER => InfraRole::Viewer,
            api::InfraRole::INFRA_ROLE_UNSPECIFIED => return Ok(()),
        };
        let all = granted(|method| method.infra_roles.contains(&role))
            .all(|method| self.may(method, "", Membership::default()));
        if all { Ok(()) } else { Err("requested infra role is not allowed".to_owned()) }
    }

    fn project(&self, project: &str, role: ProjectRole) -> Result<(), String> {
        let now = self.now(Kind::Project, project, self.session.projects.contains_key("*"));
        let all = granted(|method| method.project_roles.contains(&role))
            .all(|method| self.may(method, project, now));
        if all {
            Ok(())
        } else {
            Err(format!("requested project roles are not allowed: [{project}]"))
        }
    }

    fn tenant(&self, tenant: &str, role: TenantRole) -> Result<(), String> {
        let now = self.now(Kind::Tenant, tenant, self.session.tenants.contains_key("*"));
        let all = granted(|method| method.tenant_roles.contains(&role))
            .all(|method| self.may(method, tenant, now));
        if all {
            Ok(())
        } else {
            Err(format!("requested tenant roles are not allowed: [{tenant}]"))
        }
    }

    /// A role that no method lists is of no use yet; only an operator may hand it on.
    fn machine(&self, machine: &str, role: MachineRole) -> Result<(), String> {
        let mut methods = granted(|method| method.machine_roles.contains(&role)).peekable();
        let allowed = if methods.peek().is_none() {
            self.session.admin == Some(Level::Editor)
        } else {
            methods.all(|method| self.may(method, machine, Membership::default()))
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("requested machine roles are not allowed: [{machine}]"))
        }
    }

    fn permission(&self, subject: &str, path: &str) -> Result<(), String> {
        let method = Method::find(path).ok_or_else(|| format!("there is no method {path}"))?;
        if self.may(method, subject, self.now(Kind::of(method), subject, true)) {
            return Ok(());
        }
        Err(if subject.is_empty() {
            format!("requested permission for {path} is not allowed")
        } else {
            format!("requested permission for {path} on \"{subject}\" is not allowed")
        })
    }

    fn may(&self, method: &Method, subject: &str, now: Membership) -> bool {
        decide(method, subject, Some(self.session), now).is_ok()
    }

    /// What the giver is in a subject. The wildcard, where it may be asked for, stands for subjects in which the giver may become
    /// anything: what it allows is measured at each call.
    fn now(&self, kind: Kind, subject: &str, wildcard: bool) -> Membership {
        match (kind, subject) {
            (Kind::Project, "*") => {
                Membership { project: wildcard.then_some(ProjectRole::Owner), tenant: None }
            }
            (Kind::Tenant, "*") => {
                Membership { project: None, tenant: wildcard.then_some(TenantRole::Owner) }
            }
            (Kind::Project, project) => {
                Membership { project: self.standing.projects.get(project).copied(), tenant: None }
            }
            (Kind::Tenant, tenant) => {
                Membership { project: None, tenant: self.standing.tenants.get(tenant).copied() }
            }
            _ => Membership::default(),
        }
    }
}

fn granted(by: impl Fn(&Method) -> bool) -> impl Iterator<Item = &'static Method> {
    proto::method::METHODS.iter().filter(move |method| by(method))
}

/// The one scope of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Self_,
    Project,
    Tenant,
    Admin,
    Machine,
    Infra,
}

impl Kind {
    fn of(method: &Method) -> Self {
        match method.visibility {
            Visibility::Public => Self::Public,
            Visibility::Self_ => Self::Self_,
            Visibility::Unspecified if !method.project_roles.is_empty() => Self::Project,
            Visibility::Unspecified if !method.tenant_roles.is_empty() => Self::Tenant,
            Visibility::Unspecified if !method.machine_roles.is_empty() => Self::Machine,
            Visibility::Unspecified if !method.infra_roles.is_empty() => Self::Infra,
            Visibility::Unspecified => Self::Admin,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Self_ => "self",
            Self::Project => "project",
            Self::Tenant => "tenant",
            Self::Admin => "admin",
            Self::Machine => "machine",
            Self::Infra => "infra",
        }
    }
}
