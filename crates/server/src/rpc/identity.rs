//! `IdentityService`: whether who speaks on the boot network is who it claims to be.

use std::sync::Arc;

use connectrpc::Router;
use proto::ext::{self, IdentityServiceExt};

use super::machine::record;
use super::{App, Call, Error, service};

struct Handler(Arc<App>);

pub(super) fn register(app: &Arc<App>, router: Router) -> Router {
    Arc::new(Handler(Arc::clone(app))).register(router)
}

service! { ext::IdentityService {
    claim(IdentityServiceClaimRequest) -> IdentityServiceClaimResponse = claim;
} }

async fn claim(
    call: &Call,
    request: ext::IdentityServiceClaimRequest,
) -> Result<ext::IdentityServiceClaimResponse, Error> {
    let mut tx = call.read().await?;
    let Some(record) = record::get(&mut tx, &request.uuid).await? else {
        return Ok(ext::IdentityServiceClaimResponse { unknown: true, ..Default::default() });
    };
    let nics = record.machine.hardware.as_option().map_or(&[][..], |hardware| &hardware.nics);
    if nics.is_empty() {
        return Ok(ext::IdentityServiceClaimResponse { unknown: true, ..Default::default() });
    }
    let refuse = |why: String| {
        tracing::warn!(machine = request.uuid, mac = request.mac, why, "identity refused");
        Err(Error::precondition(why))
    };
    let holds = nics.iter().any(|nic| {
        nic.identifier.eq_ignore_ascii_case(&request.mac)
            || nic.mac.eq_ignore_ascii_case(&request.mac)
    });
    if !holds {
        return refuse(format!(
            "network card {} claims to be machine {}, which has no such card: a duplicate SMBIOS UUID, a replaced card, or an impostor; \
             if the card was replaced, let an operator delete the machine first",
            request.mac, request.uuid
        ));
    }
    let partition = record.partition();
    if !partition.is_empty() && partition != request.partition {
        return refuse(format!(
            "machine {} belongs to partition {partition}, not to {}",
            request.uuid, request.partition
        ));
    }
    if !request.switch.is_empty() && !request.port.is_empty() {
        let cables = store::switch::connections_of_machine(&mut tx, &record.row.id).await?;
        let known = cables.iter().any(|c| c.switch == request.switch);
        if known && !cables.iter().any(|c| c.switch == request.switch && c.nic == request.port) {
            return refuse(format!(
                "machine {} hangs on another port of {} than {}",
                request.uuid, request.switch, request.port
            ));
        }
    }
    Ok(ext::IdentityServiceClaimResponse::default())
}
