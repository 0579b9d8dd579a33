//! The client against a server in this process.
#![expect(refining_impl_trait, reason = "the services answer owned messages")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use client::{Client, Config, ConnectError, ErrorCode, TokenSource};
use connectrpc::{
    RequestContext, Response, Router, Server, ServiceRequest, ServiceResult, ServiceStream,
};
use proto::api::{
    VersionService, VersionServiceExt, VersionServiceGetRequest, VersionServiceGetResponse,
};
use proto::ext::{
    SwitchWatchService, SwitchWatchServiceConfirmRequest, SwitchWatchServiceConfirmResponse,
    SwitchWatchServiceExt, SwitchWatchServiceWatchRequest, SwitchWatchServiceWatchResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A server that remembers who called and fails on demand.
#[derive(Default)]
struct Fake {
    tokens: Mutex<Vec<Option<String>>>,
    /// Next calls to refuse as unavailable.
    away: AtomicU32,
    /// Token that is let in; anybody when `None`.
    wants: Mutex<Option<String>>,
    /// Watch streams opened.
    opened: AtomicU32,
}

impl VersionService for Fake {
    async fn get(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, VersionServiceGetRequest>,
    ) -> ServiceResult<VersionServiceGetResponse> {
        let token =
            ctx.headers().get("authorization").and_then(|v| v.to_str().ok()).map(str::to_owned);
        self.tokens.lock().unwrap().push(token.clone());
        if self.away.load(Ordering::SeqCst) > 0 {
            self.away.fetch_sub(1, Ordering::SeqCst);
            return Err(ConnectError::new(ErrorCode::Unavailable, "starting"));
        }
        let wants = self.wants.lock().unwrap().clone();
        if wants.is_some() && wants != token {
            return Err(ConnectError::new(ErrorCode::Unauthenticated, "who are you"));
        }
        Response::ok(VersionServiceGetResponse::default())
    }
}

impl SwitchWatchService for Fake {
    async fn watch(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, SwitchWatchServiceWatchRequest>,
    ) -> ServiceResult<ServiceStream<SwitchWatchServiceWatchResponse>> {
        let opened = u64::from(self.opened.fetch_add(1, Ordering::SeqCst));
        let answer = SwitchWatchServiceWatchResponse { generation: opened, ..Default::default() };
        let stream = futures::StreamExt::chain(
            futures::stream::iter([Ok(answer)]),
            futures::stream::pending::<Result<_, ConnectError>>(),
        );
        Response::stream_ok(stream)
    }

    async fn confirm(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, SwitchWatchServiceConfirmRequest>,
    ) -> ServiceResult<SwitchWatchServiceConfirmResponse> {
        Response::ok(SwitchWatchServiceConfirmResponse::default())
    }
}

/// A server with threads of its own, so that it can crash.
struct Running {
    address: String,
    runtime: Runtime,
}

impl Running {
    /// One that comes again at its address has one of its own: nobody else gets the port in between.
    fn start(fake: &Arc<Fake>, address: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let router = VersionServiceExt::register(fake.clone(), Router::new());
        let router = SwitchWatchServiceExt::register(fake.clone(), router);
        let address = address.to_owned();
        let (tell, told) = mpsc::channel();
        runtime.spawn(async move {
            // The port may still be held by connections of the server before.
            let bound = loop {
                match Server::bind(&address).await {
                    Ok(bound) => break bound,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            tell.send(bound.local_addr().unwrap().to_string()).unwrap();
            bound.serve(router).await.unwrap();
        });
        Self { address: told.recv().unwrap(), runtime }
    }

    fn client(&self, token: TokenSource) -> Client {
        client(&self.address, token)
    }

    /// Cuts all connections at once.
    fn crash(self) -> String {
        self.runtime.shutdown_background();
        self.address
    }
}

fn client(address: &str, token: TokenSource) -> Client {
    Client::new(Config { url: format!("http://{address}"), token, ca_cert_pem: None }).unwrap()
}

async fn call(client: &Client) -> Result<(), ConnectError> {
    client.version().get(VersionServiceGetRequest::default()).await.map(drop)
}

#[tokio::test]
async fn the_token_travels_and_is_read_again() {
    let fake = Arc::<Fake>::default();
    let server = Running::start(&fake, "127.0.0.1:0");
    call(&server.client(TokenSource::None)).await.unwrap();
    call(&server.client(TokenSource::Static("abc".into()))).await.unwrap();
    assert_eq!(*fake.tokens.lock().unwrap(), [None, Some("Bearer abc".into())]);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let with_file = server.client(TokenSource::File(path.clone()));
    let error = call(&with_file).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    assert!(error.to_string().contains("cannot be read"), "{error}");
    std::fs::write(&path, "one\n").unwrap();
    call(&with_file).await.unwrap();
    // Changed without a trace in the metadata: the refusal is what makes the client look again.
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "two\n").unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    *fake.wants.lock().unwrap() = Some("Bearer two".into());
    call(&with_file).await.unwrap();
    *fake.wants.lock().unwrap() = Some("Bearer three".into());
    let error = call(&with_file).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    server.crash();
}

#[tokio::test]
async fn unary_calls_wait_for_the_server() {
    let fake = Arc::<Fake>::default();
    let server = Running::start(&fake, "127.0.77.1:0");
    let client = server.client(TokenSource::None);
    fake.away.store(2, Ordering::SeqCst);
    call(&client).await.unwrap();
    assert_eq!(fake.tokens.lock().unwrap().len(), 3);

    let address = server.crash();
    let waiting = tokio::spawn(async move { call(&client).await });
    // it has asked in vain by then
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    let server = Running::start(&fake, &address);
    waiting.await.unwrap().unwrap();
    server.crash();
}

#[tokio::test]
async fn json_in_json_out() {
    let fake = Arc::<Fake>::default();
    let server = Running::start(&fake, "127.0.0.1:0");
    let client = server.client(TokenSource::Static("abc".into()));
    let path = "/metalstack.api.v2.VersionService/Get";
    let answer = client.call_json(path, &serde_json::json!({})).await.unwrap();
    assert_eq!(answer, serde_json::json!({}));
    assert_eq!(*fake.tokens.lock().unwrap(), [Some("Bearer abc".into())]);
    *fake.wants.lock().unwrap() = Some("Bearer other".into());
    let error = client.call_json(path, &serde_json::json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated);
    assert_eq!(error.message.as_deref(), Some("who are you"));
    let error = client.call_json("/nowhere/Get", &serde_json::json!({})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unimplemented, "{error}");
    server.crash();
}

#[tokio::test]
async fn patience_ends() {
    let fake = Arc::<Fake>::default();
    let address = Running::start(&fake, "127.0.77.3:0").crash();
    let started = Instant::now();
    let impatient = client(&address, TokenSource::None).with_patience(Duration::from_millis(300));
    let error = call(&impatient).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unavailable);
    // others wait for half a minute
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stream_is_opened_again_after_a_crash() {
    let fake = Arc::<Fake>::default();
    let server = Running::start(&fake, "127.0.77.2:0");
    let service = server.client(TokenSource::None).switch_watch();
    let (shutdown, down) = oneshot::channel::<()>();
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    let following = tokio::spawn(async move {
        let request = SwitchWatchServiceWatchRequest { id: "leaf01".into(), ..Default::default() };
        client::follow(
            "test",
            async { drop(down.await) },
            || service.watch(request.clone()),
            |answer| {
                send.send(answer.generation).unwrap();
                std::future::ready(())
            },
        )
        .await;
    });
    assert_eq!(receive.recv().await, Some(0));
    let address = server.crash();
    let server = Running::start(&fake, &address);
    assert_eq!(receive.recv().await, Some(1));
    assert!(!following.is_finished());
    shutdown.send(()).unwrap();
    following.await.unwrap();
    server.crash();
}

#[tokio::test]
async fn a_server_that_knows_only_http1() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let answer = if request[..length]
                    .starts_with(b"POST /metalstack.api.v2.VersionService/Get HTTP/1.1")
                {
                    "HTTP/1.1 200 OK\r\nContent-Type: application/proto\r\nContent-Length: 0\r\n\r\n"
                } else {
                    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.read(&mut request).await;
            });
        }
    });
    call(&client(&address, TokenSource::None)).await.unwrap();
}
