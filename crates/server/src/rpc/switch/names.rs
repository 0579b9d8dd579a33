//! Port names of switches of different makes.

use model::port_name::{self, Naming};
use proto::api;

use crate::rpc::Error;

fn naming(switch: &api::Switch) -> Option<Naming> {
    let vendor = switch.os.as_option().and_then(|os| os.vendor.as_known());
    match vendor {
        Some(api::SwitchOSVendor::SWITCH_OS_VENDOR_CUMULUS) => Some(Naming::Cumulus),
        Some(api::SwitchOSVendor::SWITCH_OS_VENDOR_SONIC) => Some(Naming::Sonic),
        _ => None,
    }
}

/// A word that is the same for corresponding ports of two switches.
pub(super) fn canonical(port: &str, switch: &api::Switch) -> Result<String, Error> {
    match naming(switch) {
        Some(naming) => port_name::line(port, naming)
            .map(|line| format!("lane {line:05}"))
            .map_err(|e| Error::precondition(format!("switch {}: {e}", switch.id))),
        None => Ok(port.to_owned()),
    }
}

/// The name of a port of `from` on `to`.
pub(super) fn translate(port: &str, from: &api::Switch, to: &api::Switch) -> Result<String, Error> {
    match (naming(from), naming(to)) {
        (Some(a), Some(b)) => {
            let all: Vec<&str> = from.nics.iter().map(|nic| nic.name.as_str()).collect();
            port_name::translate(port, &all, a, b)
                .map_err(|e| Error::precondition(format!("switch {}: {e}", from.id)))
        }
        _ => Ok(port.to_owned()),
    }
}
