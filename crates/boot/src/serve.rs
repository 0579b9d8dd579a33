//! The process: sockets on the boot interface, and what happens now and then.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use client::Client;
use daemon::Shutdown;
use futures::future::try_join_all;

use crate::config::Config;
use crate::control::Control;
use crate::dhcp::{Door, Mode};
use crate::files::Files;
use crate::machines::{Machines, Told};
use crate::socket::Interface;
use crate::store::Store;
use crate::wire::Wire;
use crate::{dhcp, http, ra, tftp};

/// Between looks at the interface.
const LOOK: Duration = Duration::from_secs(1);
const SAVE: Duration = Duration::from_secs(2);
/// Between questions about what the partition boots; each is an entry in the audit of the control plane.
const PREFETCH: Duration = Duration::from_secs(300);
const PREFETCH_AGAIN: Duration = Duration::from_secs(5);

/// Serves until `shutdown`.
///
/// # Errors
/// When something is wrong that waiting does not repair.
pub async fn run(config: &Config, shutdown: Shutdown) -> Result<()> {
    if let Some(address) = config.metrics_address {
        let address = daemon::metrics::serve(address, shutdown.clone()).await?;
        tracing::info!(%address, "metrics");
    }
    let machines = Arc::new(machines(config)?);
    let saving = tokio::spawn(save(machines.clone(), shutdown.clone()));
    let prefetching = tokio::spawn(prefetch(machines.clone(), shutdown.clone()));
    let mut result = Ok(());
    while !shutdown.is_set() && result.is_ok() {
        let Some(index) = interface(config, &shutdown).await else { break };
        result = on_interface(config, &machines, index, &shutdown).await;
        // whatever fails because the interface is gone is not wrong with us
        if let Err(error) = &result
            && ready(config) != Ok(index)
        {
            let error = format!("{error:#}");
            tracing::warn!(error, "the boot interface went while its services began");
            result = Ok(());
        }
    }
    shutdown.set();
    prefetching.abort();
    saving.await.context("saving")?;
    result
}

fn machines(config: &Config) -> Result<Machines> {
    let store = Store::new(&config.cache_dir).with_context(|| unusable(config))?;
    let files = Files::new(&config.cache_dir).with_context(|| unusable(config))?;
    Ok(Machines::new(config.settings()?, told(config)?, control(config)?, files, store))
}

fn unusable(config: &Config) -> String {
    format!("cache_dir: {} cannot be used", config.cache_dir.display())
}

fn told(config: &Config) -> Result<Told> {
    let pem = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .with_context(|| format!("machine.ca_cert_file: {} cannot be read", path.display()))
    };
    Ok(Told {
        partition: config.partition.clone(),
        api_url: config.machine_api_url().to_owned(),
        ntp_servers: config.machine.ntp_servers.clone(),
        ca_cert: config.machine.ca_cert_file.as_ref().map(pem).transpose()?,
    })
}

/// The control plane as the configuration says.
///
/// # Errors
/// When its URL or certificate cannot be used.
pub fn control(config: &Config) -> Result<Control> {
    let ca_cert = config.ca_cert_file.as_deref();
    let client = Client::of_agent(&config.api_url, &config.token_file, ca_cert)?;
    Ok(Control::new(
        client,
        config.partition.clone(),
        config.switch.clone(),
        config.machine_user.clone(),
    ))
}

/// Waits until the interface exists and has our address: at boot we may be earlier than the network.
async fn interface(config: &Config, shutdown: &Shutdown) -> Option<u32> {
    let mut told = false;
    loop {
        match ready(config) {
            Ok(index) => return Some(index),
            Err(reason) if !told => tracing::warn!(reason, "waiting for the boot interface"),
            Err(_) => {}
        }
        told = true;
        tokio::select! {
            () = shutdown.wait() => return None,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The index of the interface if it can be served.
///
/// # Errors
/// With a sentence that says what is missing.
pub fn ready(config: &Config) -> Result<u32, String> {
    let (name, own) = (&config.network.interface, config.network.address);
    let interface = Interface::find(name).map_err(|_| format!("there is no interface {name}"))?;
    match interface.addresses.contains(&own) {
        true => Ok(interface.index),
        false => Err(format!("interface {name} does not have the address {own}")),
    }
}

/// Serves on one incarnation of the interface, until it is gone or `shutdown`.
async fn on_interface(
    config: &Config,
    machines: &Arc<Machines>,
    index: u32,
    shutdown: &Shutdown,
) -> Result<()> {
    let (name, own, port) =
        (&config.network.interface, config.network.address, config.network.http_port);
    let wire = Wire::new(index);
    // sockets belong to the interface that was there when they were made
    let until = Shutdown::manual();
    let listener = listen(name, own, port).with_context(|| taken("HTTP", port))?;
    let tftp = tftp::server::Server {
        interface: name.clone(),
        address: own,
        directory: config.loader_dir.clone(),
    };
    let advertise = ra::server::Server { interface: name.clone(), prefix: config.ipv6_prefix()? };
    let mut doors = vec![Door::Dhcp];
    if config.settings()?.mode == Mode::Proxy {
        doors.push(Door::Pxe);
    }
    let dhcp = try_join_all(doors.into_iter().map(|door| {
        let serving = dhcp::server::run(machines.clone(), name, door, wire, until.clone());
        async move {
            serving.await.with_context(|| taken("DHCP", if door == Door::Dhcp { 67 } else { 4011 }))
        }
    }));
    tracing::info!(interface = name, address = %own, http_port = port, mode = ?machines.settings().mode, "serving");
    let watching = async {
        loop {
            tokio::select! {
                () = shutdown.wait() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            if ready(config) != Ok(index) {
                tracing::warn!(interface = name, "the boot interface is gone or changed");
                break;
            }
        }
        until.set();
        Ok(())
    };
    tokio::try_join!(
        watching,
        async { dhcp.await.map(|_| ()) },
        async {
            http::run(machines.clone(), listener, config.loader_dir.clone(), wire, until.clone())
                .await
                .context("HTTP")
        },
        async { tftp.run(until.clone()).await.with_context(|| taken("TFTP", 69)) },
        async { advertise.run(until.clone()).await.context("router advertisements") },
    )?;
    Ok(())
}

fn taken(what: &str, port: u16) -> String {
    format!(
        "{what} cannot be served on port {port}: is another server running, and do we have the capabilities NET_BIND_SERVICE and NET_RAW?"
    )
}

/// Hears on the boot interface only: whoever comes from elsewhere cannot even connect.
fn listen(interface: &str, own: Ipv4Addr, port: u16) -> io::Result<tokio::net::TcpListener> {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((own, port)).into())?;
    socket.listen(1024)?;
    tokio::net::TcpListener::from_std(socket.into())
}

async fn save(machines: Arc<Machines>, shutdown: Shutdown) {
    let store = || {
        let machines = machines.clone();
        async move {
            let saved = tokio::task::spawn_blocking(move || machines.save()).await?;
            saved.context("leases and machines could not be saved")
        }
    };
    daemon::every(shutdown, SAVE, store).await;
    if let Err(error) = store().await {
        tracing::error!(error = format!("{error:#}"), "what changed last is forgotten");
    }
}

async fn prefetch(machines: Arc<Machines>, shutdown: Shutdown) {
    let mut failing = false;
    while !shutdown.is_set() {
        let pause = match machines.prefetch().await {
            Ok(()) => {
                if failing {
                    tracing::info!("the control plane answers again");
                }
                failing = false;
                PREFETCH
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "what the partition boots is not at hand; asking again every few seconds"
                    );
                }
                failing = true;
                PREFETCH_AGAIN
            }
        };
        metrics::gauge!("boot_control_plane_answers").set(if failing { 0.0 } else { 1.0 });
        tokio::select! {
            () = shutdown.wait() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
