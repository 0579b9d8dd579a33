//! `VPNService`: keys and members of the VPN through which operators reach firewalls.

use std::sync::Arc;
use std::time::Duration;

use connectrpc::Router;
use proto::{admin, api};

use super::{App, Call, Error, Reason, service};
use crate::vpn::{Terms, Vpn};
use crate::wire;

/// How long a key can be used when the request does not say.
const LIFE: Duration = Duration::from_secs(3600);

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    admin::VpnServiceExt::register(Arc::new(Handler(Arc::clone(app))), router)
}

service! { admin::VpnService {
    auth_key(VPNServiceAuthKeyRequest) -> VPNServiceAuthKeyResponse = auth_key;
    list_nodes(VPNServiceListNodesRequest) -> VPNServiceListNodesResponse = list_nodes;
}}

fn coordination(call: &Call) -> Result<&Vpn, Error> {
    call.app.vpn.as_deref().ok_or_else(|| {
        let sentence = "vpn is currently disabled: this control plane has no coordination server";
        Error::reason(Reason::Disabled, sentence)
    })
}

async fn auth_key(
    call: &Call,
    request: admin::VPNServiceAuthKeyRequest,
) -> Result<admin::VPNServiceAuthKeyResponse, Error> {
    let vpn = coordination(call)?;
    let mut tx = call.read().await?;
    if store::project::TABLE.get(&mut tx, &request.project).await?.is_none() {
        return Err(Error::not_found("project", &request.project));
    }
    drop(tx);
    let life = match request.expires.as_option() {
        Some(life) => Duration::from_micros(wire::duration_us(life).unsigned_abs()),
        None => LIFE,
    };
    let terms = Terms { life, ephemeral: request.ephemeral, reusable: request.reusable };
    let key = vpn.key(&request.project, terms).await?;
    Ok(admin::VPNServiceAuthKeyResponse {
        address: vpn.control_plane_url().to_owned(),
        auth_key: key.key,
        ephemeral: request.ephemeral,
        reusable: request.reusable,
        expires_at: wire::timestamp_us(key.expiration.as_microsecond()).into(),
        created_at: wire::timestamp_us(key.created_at.as_microsecond()).into(),
        ..Default::default()
    })
}

async fn list_nodes(
    call: &Call,
    request: admin::VPNServiceListNodesRequest,
) -> Result<admin::VPNServiceListNodesResponse, Error> {
    let mut nodes = coordination(call)?.nodes().await?;
    nodes.retain(|node| wire::asks(request.project.as_ref(), node.user.name.as_str()));
    nodes.sort_by_key(|node| node.id);
    let nodes = nodes
        .into_iter()
        .map(|node| api::VPNNode {
            id: node.id.unsigned_abs(),
            name: node.name,
            project: node.user.name,
            ip_addresses: node.ip_addresses,
            last_seen: node.last_seen.map(|at| wire::timestamp_us(at.as_microsecond())).into(),
            online: node.online,
            ..Default::default()
        })
        .collect();
    Ok(admin::VPNServiceListNodesResponse { nodes, ..Default::default() })
}
