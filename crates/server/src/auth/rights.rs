//! The decision whether a caller may call a method: pure, from the contract's table of rights alone.

use std::collections::BTreeMap;

use buffa::EnumValue;
use proto::api;
use proto::method::{
    AdminRole, InfraRole, MachineRole, Method, ProjectRole, TenantRole, Visibility,
};

/// What a token may do, as its stored record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// A token of an interactive login carries no roles: its owner's memberships count.
    pub login: bool,
    /// Operator role.
    pub admin: Option<Level>,
    /// Agent role.
    pub infra: Option<Level>,
    /// Machine role per machine id; `*` stands for every machine.
    pub machines: BTreeMap<String, Level>,
    /// Role per project id; `*` stands for every project of the owner, also later ones.
    pub projects: BTreeMap<String, ProjectRole>,
    /// Role per tenant login; `*` stands for every tenant of the owner, also later ones.
    pub tenants: BTreeMap<String, TenantRole>,
    /// Methods per subject; `*` stands for every subject of the owner.
    pub permissions: Vec<(String, Vec<String>)>,
}

/// Methods that only give up the caller's own rights: every member may, whatever roles the contract lists. It lists viewers only,
/// so that owners and editors could never leave.
const LEAVE_PROJECT: &str = "/metalstack.api.v2.ProjectService/Leave";
const LEAVE_TENANT: &str = "/metalstack.api.v2.TenantService/Leave";

/// Strength of a role, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// May change things.
    Editor,
    /// May look at things.
    Viewer,
}

/// What the owner of a token is in the subject of a request, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Role in the project, own or inherited from its tenant.
    pub project: Option<ProjectRole>,
    /// Role in the tenant.
    pub tenant: Option<TenantRole>,
}

/// Which membership a decision needs, so that others are not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// None.
    Global,
    /// The one in the project that is the subject.
    Project,
    /// The one in the tenant that is the subject.
    Tenant,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no valid token and the method is not public.
    Unauthenticated,
    /// The token does not carry the right.
    Denied,
}

/// Of what kind the subject of a method is.
#[must_use]
pub fn scope(method: &Method) -> Scope {
    if !method.project_roles.is_empty() {
        Scope::Project
    } else if !method.tenant_roles.is_empty() {
        Scope::Tenant
    } else {
        Scope::Global
    }
}

/// May a caller with these rights (`None`: without a token) call `method` about `subject`?
///
/// # Errors
/// The reason of the refusal.
pub fn decide(
    method: &Method,
    subject: &str,
    caller: Option<&Rights>,
    now: Membership,
) -> Result<(), Refusal> {
    if method.visibility == Visibility::Public {
        return Ok(());
    }
    let rights = caller.ok_or(Refusal::Unauthenticated)?;
    let allowed = method.visibility == Visibility::Self_
        || admin(method, rights.admin)
        || infra(method, rights.infra)
        || machine(method, subject, rights)
        || project(method, subject, rights, now.project)
        || tenant(method, subject, rights, now.tenant)
        || (scope(method) == Scope::Global && permitted(method, subject, rights));
    if allowed { Ok(()) } else { Err(Refusal::Denied) }
}

/// May a caller with these rights call `method` about anything? Whoever could be a member of something is taken for its owner.
#[must_use]
pub fn decide_somewhere(method: &Method, caller: Option<&Rights>) -> bool {
    const SOMEWHERE: Membership =
        Membership { project: Some(ProjectRole::Owner), tenant: Some(TenantRole::Owner) };
    let subjects = caller.iter().flat_map(|rights| {
        let stated = rights.projects.keys().chain(rights.tenants.keys());
        let stated = stated.chain(rights.machines.keys());
        stated.chain(rights.permissions.iter().map(|(about, _)| about))
    });
    std::iter::once("*")
        .chain(subjects.map(String::as_str))
        .any(|subject| decide(method, subject, caller, SOMEWHERE).is_ok())
}

/// An admin editor may do everything; a viewer whatever lists any viewer role.
fn admin(method: &Method, level: Option<Level>) -> bool {
    match level {
        Some(Level::Editor) => true,
        Some(Level::Viewer) => {
            method.admin_roles.contains(&AdminRole::Viewer)
                || method.infra_roles.contains(&InfraRole::Viewer)
                || method.machine_roles.contains(&MachineRole::Viewer)
                || method.project_roles.contains(&ProjectRole::Viewer)
                || method.tenant_roles.contains(&TenantRole::Viewer)
        }
        None => false,
    }
}

fn infra(method: &Method, level: Option<Level>) -> bool {
    let role = match level {
        Some(Level::Editor) => InfraRole::Editor,
        Some(Level::Viewer) => InfraRole::Viewer,
        None => return false,
    };
    method.infra_roles.contains(&role)
}

fn machine(method: &Method, subject: &str, rights: &Rights) -> bool {
    let Some(level) = rights.machines.get(subject).or_else(|| rights.machines.get("*")) else {
        return false;
    };
    method.machine_roles.contains(&match level {
        Level::Editor => MachineRole::Editor,
        Level::Viewer => MachineRole::Viewer,
    })
}

/// The owner must be a member now; a token never gives more than its owner has, so that a demotion is effective at once.
fn project(method: &Method, subject: &str, rights: &Rights, now: Option<ProjectRole>) -> bool {
    let Some(now) = now else { return false };
    let grants = |role| method.path == LEAVE_PROJECT || method.project_roles.contains(&role);
    rights.project_role(subject, now).is_some_and(grants)
        || (grants(now) && permitted(method, subject, rights))
}

fn tenant(method: &Method, subject: &str, rights: &Rights, now: Option<TenantRole>) -> bool {
    let Some(now) = now else { return false };
    let grants = |role| method.path == LEAVE_TENANT || method.tenant_roles.contains(&role);
    rights.tenant_role(subject, now).is_some_and(grants)
        || (grants(now) && permitted(method, subject, rights))
}

/// What a role in the provider tenant makes of its member: owners may become editors, editors and viewers may become viewers.
#[must_use]
pub fn operator(role: Option<TenantRole>) -> Option<Level> {
    match role? {
        TenantRole::Owner => Some(Level::Editor),
        TenantRole::Editor | TenantRole::Viewer => Some(Level::Viewer),
        _ => None,
    }
}

impl Rights {
    /// The role that the token gives in a project where its owner has the role `now`: the weaker of the two.
    #[must_use]
    pub fn project_role(&self, project: &str, now: ProjectRole) -> Option<ProjectRole> {
        if self.login {
            return Some(now);
        }
        // a smaller number is a stronger role
        let stated = self.projects.get(project).or_else(|| self.projects.get("*"));
        stated.map(|role| (*role).max(now))
    }

    /// The role that the token gives in a tenant where its owner has the role `now`: the weaker of the two.
    #[must_use]
    pub fn tenant_role(&self, tenant: &str, now: TenantRole) -> Option<TenantRole> {
        if self.login {
            return Some(now);
        }
        let stated = self.tenants.get(tenant).or_else(|| self.tenants.get("*"));
        stated.map(|role| (*role).max(now))
    }

    /// Whether the token says that its owner is an operator.
    #[must_use]
    pub fn claims_operator(&self) -> bool {
        let for_operators = |path: &String| Method::find(path).is_some_and(is_for_operators);
        self.admin.is_some()
            || self.permissions.iter().any(|(_, methods)| methods.iter().any(for_operators))
    }

    /// Takes away what exceeds the operator that the owner may be now.
    pub fn limit_operator(&mut self, now: Option<Level>) {
        self.admin = match (self.admin, now) {
            (Some(stated), Some(now)) => Some(stated.max(now)),
            _ => None,
        };
        for (_, methods) in &mut self.permissions {
            methods.retain(|path| {
                Method::find(path)
                    .is_none_or(|method| !is_for_operators(method) || admin(method, now))
            });
        }
    }
}

fn is_for_operators(method: &Method) -> bool {
    !method.admin_roles.is_empty()
}

fn permitted(method: &Method, subject: &str, rights: &Rights) -> bool {
    rights.permissions.iter().any(|(about, methods)| {
        (about == subject || about == "*" || subject.is_empty())
            && methods.iter().any(|name| name == method.path)
    })
}

impl From<&api::Token> for Rights {
    fn from(token: &api::Token) -> Self {
        Self {
            login: token.token_type == api::TokenType::User,
            admin: token.admin_role.and_then(|role| match role.as_known()? {
                api::AdminRole::ADMIN_ROLE_EDITOR => Some(Level::Editor),
                api::AdminRole::ADMIN_ROLE_VIEWER => Some(Level::Viewer),
                api::AdminRole::ADMIN_ROLE_UNSPECIFIED => None,
            }),
            infra: token.infra_role.and_then(|role| match role.as_known()? {
                api::InfraRole::INFRA_ROLE_EDITOR => Some(Level::Editor),
                api::InfraRole::INFRA_ROLE_VIEWER => Some(Level::Viewer),
                api::InfraRole::INFRA_ROLE_UNSPECIFIED => None,
            }),
            machines: token
                .machine_roles
                .iter()
                .filter_map(|(uuid, role)| {
                    let level = match role.as_known()? {
                        api::MachineRole::MACHINE_ROLE_EDITOR => Level::Editor,
                        api::MachineRole::MACHINE_ROLE_VIEWER => Level::Viewer,
                        api::MachineRole::MACHINE_ROLE_UNSPECIFIED => return None,
                    };
                    Some((uuid.clone(), level))
                })
                .collect(),
            projects: token
                .project_roles
                .iter()
                .filter_map(|(id, role)| Some((id.clone(), project_role(role.as_known()?)?)))
                .collect(),
            tenants: token
                .tenant_roles
                .iter()
                .filter_map(|(id, role)| Some((id.clone(), tenant_role(role.as_known()?)?)))
                .collect(),
            permissions: token
                .permissions
                .iter()
                .map(|entry| (entry.subject.clone(), entry.methods.clone()))
                .collect(),
        }
    }
}

/// The role of the table of rights for the contract's.
#[must_use]
pub fn project_role(role: api::ProjectRole) -> Option<ProjectRole> {
    match role {
        api::ProjectRole::PROJECT_ROLE_OWNER => Some(ProjectRole::Owner),
        api::ProjectRole::PROJECT_ROLE_EDITOR => Some(ProjectRole::Editor),
        api::ProjectRole::PROJECT_ROLE_VIEWER => Some(ProjectRole::Viewer),
        api::ProjectRole::PROJECT_ROLE_UNSPECIFIED => None,
    }
}

/// The role of the table of rights for the contract's.
#[must_use]
pub fn tenant_role(role: api::TenantRole) -> Option<TenantRole> {
    match role {
        api::TenantRole::TENANT_ROLE_OWNER => Some(TenantRole::Owner),
        api::TenantRole::TENANT_ROLE_EDITOR => Some(TenantRole::Editor),
        api::TenantRole::TENANT_ROLE_VIEWER => Some(TenantRole::Viewer),
        api::TenantRole::TENANT_ROLE_GUEST => Some(TenantRole::Guest),
        api::TenantRole::TENANT_ROLE_UNSPECIFIED => None,
    }
}

/// The role of the table of rights for the contract's number, as the database holds it.
#[must_use]
pub fn project_number(number: i64) -> Option<ProjectRole> {
    project_role(EnumValue::from(i32::try_from(number).ok()?).as_known()?)
}

/// The role of the table of rights for the contract's number, as the database holds it.
#[must_use]
pub fn tenant_number(number: i64) -> Option<TenantRole> {
    tenant_role(EnumValue::from(i32::try_from(number).ok()?).as_known()?)
}
