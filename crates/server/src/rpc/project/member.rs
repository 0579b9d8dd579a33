//! Members of projects, own ones and those inherited from the tenant.

use model::project::{Participant, participants};
use model::tenant::may_weaken;
use proto::api;
use proto::method::TenantRole;
use store::{Member, Tx, project};

use super::super::{Call, Error, tenant};
use super::hold;
use crate::auth::{Caller, rights};
use crate::wire;

/// What the token of a caller gives in the tenant of a project.
pub(super) async fn tenant_role(
    tx: &mut Tx,
    caller: &Caller,
    login: &str,
) -> Result<Option<TenantRole>, Error> {
    let now = store::tenant::role(tx, login, &caller.user).await?.and_then(rights::tenant_number);
    Ok(now.and_then(|now| caller.rights.tenant_role(login, now)))
}

/// Direct members and, if wanted, those of the tenant, ordered by login.
pub(super) async fn all(
    tx: &mut Tx,
    project: &api::Project,
    with_inherited: bool,
) -> Result<Vec<api::ProjectMember>, Error> {
    let participant = |inherited: bool| {
        move |member: Member| Participant {
            member: member.member,
            role: member.role,
            inherited,
            since_us: member.created_at_us,
        }
    };
    let direct =
        project::MEMBERS.list(tx, &project.uuid).await?.into_iter().map(participant(false));
    let inherited = if with_inherited {
        let guest = i64::from(api::TenantRole::Guest as i32);
        let mut members = store::tenant::MEMBERS.list(tx, &project.tenant).await?;
        members.retain(|member| member.role < guest);
        members
    } else {
        Vec::new()
    };
    let inherited = inherited.into_iter().map(participant(true));
    Ok(participants(direct, inherited).iter().map(message).collect())
}

fn message(participant: &Participant) -> api::ProjectMember {
    let since = wire::timestamp_us(participant.since_us);
    let meta = api::Meta {
        created_at: since.clone().into(),
        updated_at: since.clone().into(),
        ..Default::default()
    };
    api::ProjectMember {
        id: participant.member.clone(),
        role: i32::try_from(participant.role).unwrap_or_default().into(),
        inherited_membership: participant.inherited,
        created_at: since.into(),
        meta: meta.into(),
        ..Default::default()
    }
}

pub(super) async fn add(
    call: &Call,
    request: api::ProjectServiceAddMemberRequest,
) -> Result<api::ProjectServiceAddMemberResponse, Error> {
    if request.role == api::ProjectRole::Unspecified {
        return Err(unspecified());
    }
    let mut tx = call.write().await?;
    hold(&mut tx, &request.project).await?;
    tenant::read(&mut tx, &request.member).await?;
    if project::MEMBERS.get(&mut tx, &request.project, &request.member).await?.is_some() {
        return Err(Error::exists(format!(
            "\"{}\" is already a member of project \"{}\"",
            request.member, request.project
        )));
    }
    let member = Member {
        of: request.project,
        member: request.member,
        role: i64::from(request.role.to_i32()),
        created_at_us: call.now_us(),
    };
    project::MEMBERS.add(&mut tx, &member).await?;
    tx.commit().await?;
    Ok(api::ProjectServiceAddMemberResponse { project_member: request.role, ..Default::default() })
}

/// Changes a direct membership, or gives somebody who takes part in the tenant a direct one.
pub(super) async fn update(
    call: &Call,
    request: api::ProjectServiceUpdateMemberRequest,
) -> Result<api::ProjectServiceUpdateMemberResponse, Error> {
    let mut tx = call.write().await?;
    let (_, project) = hold(&mut tx, &request.project).await?;
    let wanted = i64::from(request.role.to_i32());
    let unspecified_role = request.role == api::ProjectRole::Unspecified;
    let member = match project::MEMBERS.get(&mut tx, &request.project, &request.member).await? {
        Some(_) if unspecified_role => return Err(unspecified()),
        Some(member) => {
            if wanted > i64::from(api::ProjectRole::Owner as i32) {
                check_weaken(&mut tx, &member).await?;
            }
            project::MEMBERS.set_role(&mut tx, &member.of, &member.member, wanted).await?;
            Member { role: wanted, ..member }
        }
        None => {
            if store::tenant::role(&mut tx, &project.tenant, &request.member).await?.is_none() {
                return Err(Error::invalid(format!(
                    "\"{}\" takes no part in project \"{}\" or its tenant: add or invite them",
                    request.member, request.project
                )));
            }
            let viewer = i64::from(api::ProjectRole::Viewer as i32);
            let member = Member {
                of: request.project,
                member: request.member,
                role: if unspecified_role { viewer } else { wanted },
                created_at_us: call.now_us(),
            };
            project::MEMBERS.add(&mut tx, &member).await?;
            member
        }
    };
    tx.commit().await?;
    let participant = Participant {
        member: member.member,
        role: member.role,
        inherited: false,
        since_us: member.created_at_us,
    };
    Ok(api::ProjectServiceUpdateMemberResponse {
        project_member: message(&participant).into(),
        ..Default::default()
    })
}

pub(super) async fn remove(
    call: &Call,
    request: api::ProjectServiceRemoveMemberRequest,
) -> Result<api::ProjectServiceRemoveMemberResponse, Error> {
    end(call, &request.project, &request.member).await?;
    Ok(api::ProjectServiceRemoveMemberResponse::default())
}

pub(super) async fn leave(
    call: &Call,
    request: api::ProjectServiceLeaveRequest,
) -> Result<api::ProjectServiceLeaveResponse, Error> {
    end(call, &request.project, &call.caller()?.user).await?;
    Ok(api::ProjectServiceLeaveResponse::default())
}

/// Ends a direct membership; an inherited one ends in the tenant.
async fn end(call: &Call, id: &str, member: &str) -> Result<(), Error> {
    let mut tx = call.write().await?;
    hold(&mut tx, id).await?;
    let found = project::MEMBERS.get(&mut tx, id, member).await?.ok_or_else(|| {
        Error::missing(format!("tenant \"{member}\" is not a member of project \"{id}\""))
    })?;
    check_weaken(&mut tx, &found).await?;
    project::MEMBERS.remove(&mut tx, id, member).await?;
    tx.commit().await?;
    Ok(())
}

async fn check_weaken(tx: &mut Tx, member: &Member) -> Result<(), Error> {
    let owner = i64::from(api::ProjectRole::Owner as i32);
    let members = project::MEMBERS.list(tx, &member.of).await?;
    let owners: Vec<_> =
        members.iter().filter(|m| m.role == owner).map(|m| m.member.as_str()).collect();
    may_weaken(&member.of, &member.member, &owners)
        .map_err(|reason| Error::precondition(reason.to_string()))
}

fn unspecified() -> Error {
    Error::invalid("role is not specified: use owner, editor or viewer")
}
