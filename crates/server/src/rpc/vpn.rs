//! `VPNService`: there is no VPN control plane to talk to, and it says so.

use std::sync::Arc;

use connectrpc::Router;
use proto::admin;

use super::{App, Call, Error, service};

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    admin::VpnServiceExt::register(Arc::new(Handler(Arc::clone(app))), router)
}

service! { admin::VpnService {
    auth_key(VPNServiceAuthKeyRequest) -> VPNServiceAuthKeyResponse = auth_key;
    list_nodes(VPNServiceListNodesRequest) -> VPNServiceListNodesResponse = list_nodes;
}}

fn disabled() -> Error {
    Error::precondition("vpn is currently disabled: this control plane manages none")
}

async fn auth_key(
    _: &Call,
    _: admin::VPNServiceAuthKeyRequest,
) -> Result<admin::VPNServiceAuthKeyResponse, Error> {
    Err(disabled())
}

async fn list_nodes(
    _: &Call,
    _: admin::VPNServiceListNodesRequest,
) -> Result<admin::VPNServiceListNodesResponse, Error> {
    Err(disabled())
}
