//! The HTTP server for firmware, iPXE and installers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use daemon::Shutdown;
use serde::Deserialize;

use crate::dhcp::{CONFIG_PATH, SCRIPT_PATH};
use crate::files;
use crate::loader;
use crate::machines::{Denied, Machines};
use crate::wire::Wire;

/// How long transfers may go on after the wish to end.
const FAREWELL: Duration = Duration::from_secs(3);
const TEXT: &str = "text/plain; charset=utf-8";

/// What the handlers need.
#[derive(Clone)]
struct App {
    machines: Arc<Machines>,
    wire: Wire,
    loaders: PathBuf,
}

/// Answers on a socket until `shutdown`. Identities are taken from the sender's address on the boot network.
///
/// # Errors
/// When the socket breaks.
pub async fn run(
    machines: Arc<Machines>,
    listener: tokio::net::TcpListener,
    loaders: PathBuf,
    wire: Wire,
    shutdown: Shutdown,
) -> io::Result<()> {
    let app = Router::new()
        .route(SCRIPT_PATH, get(script))
        .route(CONFIG_PATH, get(config))
        .route("/file/{id}/{name}", get(file))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/{loader}", get(loader))
        .with_state(App { machines, wire, loaders })
        .into_make_service_with_connect_info::<SocketAddr>();
    let wish = shutdown.clone();
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(wish.wait()).into_future() => served,
        () = async { shutdown.wait().await; tokio::time::sleep(FAREWELL).await } => Ok(()),
    }
}

async fn script(State(app): State<App>, ConnectInfo(from): ConnectInfo<SocketAddr>) -> Response {
    let script = app.machines.script(v4(from), app.wire).await;
    ([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")], script).into_response()
}

#[derive(Deserialize)]
struct Wanted {
    uuid: Option<String>,
}

async fn config(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let result = app.machines.configuration(v4(from), wanted.uuid.as_deref(), app.wire).await;
    let label = match &result {
        Ok(_) => "ok",
        Err(Denied::Later(_)) => "later",
        Err(_) => "denied",
    };
    metrics::counter!("boot_configs_total", "result" => label).increment(1);
    let denied = match result {
        Ok(configuration) => {
            return ([(header::CACHE_CONTROL, "no-store")], axum::Json(configuration))
                .into_response();
        }
        Err(denied) => denied,
    };
    tracing::warn!(address = %from.ip(), reason = %denied, "no configuration");
    let status = match denied {
        Denied::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    (status, [(header::CONTENT_TYPE, TEXT), (header::RETRY_AFTER, "2")], format!("{denied}\n"))
        .into_response()
}

async fn file(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path((id, name)): Path<(String, String)>,
) -> Response {
    let opened = match app.machines.files().open(&id).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(address = %from.ip(), name, %error, "a file was not served");
            let status = match error {
                files::Error::Unknown => StatusCode::NOT_FOUND,
                files::Error::Origin { .. } => StatusCode::BAD_GATEWAY,
                files::Error::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            return (status, format!("{error}\n")).into_response();
        }
    };
    metrics::counter!("boot_files_total", "cached" => if opened.cached { "yes" } else { "no" })
        .increment(1);
    tracing::info!(address = %from.ip(), name, cached = opened.cached, bytes = opened.length, "file");
    let length = opened.length;
    bytes(Body::from_stream(opened.stream()), length)
}

/// Boot loaders for UEFI HTTP boot, which asks for the length by HEAD first.
async fn loader(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
) -> Response {
    let Some(path) = loader::path(&app.loaders, &name) else {
        return (StatusCode::NOT_FOUND, "nothing is here\n").into_response();
    };
    match tokio::fs::read(&path).await {
        Ok(content) => {
            tracing::info!(address = %from.ip(), name, bytes = content.len(), "boot loader sent by HTTP");
            let length = content.len() as u64;
            bytes(Body::from(content), Some(length))
        }
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a boot loader cannot be read; is the package ipxe installed?");
            (StatusCode::NOT_FOUND, "no such boot loader\n").into_response()
        }
    }
}

fn bytes(body: Body, length: Option<u64>) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

/// Machines speak IPv4; nobody has a lease for the unspecified address.
fn v4(from: SocketAddr) -> Ipv4Addr {
    match from.ip().to_canonical() {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}
