//! What the server answers: one file per entity, behind one gate.

mod audit;
mod bmc;
mod boot;
mod call;
mod component;
mod entity;
mod error;
mod event;
mod filesystem;
mod firewall;
mod gate;
mod health;
mod identity;
mod image;
mod installer;
mod invite;
mod ip;
mod machine;
mod measure;
mod method;
mod network;
mod partition;
mod project;
mod size;
mod size_image_constraint;
mod size_reservation;
mod stream;
mod switch;
mod task;
mod tenant;
mod timeline;
mod token;
mod user;
mod version;
mod vpn;

use std::sync::Arc;

use connectrpc::{ConnectRpcService, Router};
use ipnet::IpNet;
use proto::api::{MethodServiceExt, VersionServiceExt};
use store::Db;

pub use call::Call;
pub(crate) use call::{Either, service};
pub use error::{Error, Reason};
pub(crate) use gate::source_of;
pub use health::Cache as HealthCache;
pub use ip::together::Together;
pub(crate) use machine::record as machine_record;
pub(crate) use machine::release::work as release_next;

use crate::audit::Audit;
use crate::rate::Limiter;
use crate::vpn::Vpn;

/// What every handler may use.
#[derive(Debug)]
pub struct App {
    /// The one database.
    pub db: Db,
    /// Issuer and audience of tokens: the public URL of the server.
    pub issuer: String,
    /// Tokens whose signature was found good.
    pub proofs: crate::auth::Proofs,
    /// Which replica this is.
    pub replica: String,
    /// Ends streams and loops.
    pub shutdown: daemon::Shutdown,
    /// Password that installers set for the superuser of BMCs.
    pub bmc_superuser_password: Option<String>,
    /// Who called what.
    pub audit: Audit,
    /// How often somebody called.
    pub rate: Limiter,
    /// Proxies in front whose word about the caller's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Coordination server of the VPN, if there is one.
    pub vpn: Option<Arc<Vpn>>,
    /// The last answer about health.
    pub health: health::Cache,
    /// Addresses that are asked for at the same time.
    pub together: Together,
}

/// Everything that the server answers. A method that is not built answers `Unimplemented`.
///
/// # Errors
/// The embedded contract is unreadable.
pub fn service(app: &Arc<App>) -> anyhow::Result<ConnectRpcService> {
    let router = Router::new();
    let router = Arc::new(version::Handler).register(router);
    let router = Arc::new(method::Handler).register(router);
    let modules: &[fn(&Arc<App>, Router) -> Router] = &[
        audit::register,
        bmc::register,
        boot::register,
        component::register,
        event::register,
        filesystem::register,
        firewall::register,
        health::register,
        identity::register,
        image::register,
        installer::register,
        ip::register,
        machine::register,
        network::register,
        partition::register,
        project::register,
        size::register,
        size_image_constraint::register,
        size_reservation::register,
        switch::register,
        switch::watch::register,
        task::register,
        tenant::register,
        timeline::register,
        token::register,
        user::register,
        vpn::register,
    ];
    let router = modules.iter().fold(router, |router, register| register(app, router));
    let reflector =
        connectrpc_reflection::Reflector::from_descriptor_set_bytes(proto::DESCRIPTOR_SET)
            .map_err(|e| anyhow::anyhow!("embedded contract: {e:?}"))?;
    let router = connectrpc_reflection::install(router, reflector);
    let (router, _) = connectrpc_health::install_static(router, service_names());
    // the first one is the outermost
    Ok(ConnectRpcService::new(router)
        .with_interceptor(measure::Measure)
        .with_interceptor(gate::Gate { app: Arc::clone(app) }))
}

fn service_names() -> Vec<&'static str> {
    let mut names: Vec<_> = proto::method::METHODS
        .iter()
        .filter_map(|m| m.path.trim_start_matches('/').split('/').next())
        .collect();
    names.dedup();
    names
}
