//! Errors for programs: every one has a reason, over each protocol.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use connectrpc::client::{ClientConfig, HttpClient};
use connectrpc::{ConnectError, ErrorCode, ErrorDetail, Protocol};
use hall::Hall;
use proto::api;
use serde_json::{Value, json};
use world::{World, on_all, on_sqlite, on_sqlite_with};

#[path = "machine/hall.rs"]
#[allow(dead_code, reason = "made for the tests of machines")]
mod hall;
#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

const TENANT: &str = "api.v2.TenantService/Get";

/// What was answered instead of a response: the whole JSON, and the header `retry-after`.
fn refused(world: &World, token: &str, method: &str, request: &Value) -> (Value, String) {
    refusal(world, token, method, request).unwrap_or_else(|| panic!("{method} was to be refused"))
}

/// The same, as far as it was refused.
fn refusal(world: &World, token: &str, method: &str, request: &Value) -> Option<(Value, String)> {
    let agent = world::agent();
    let mut post = agent
        .post(format!("{}/metalstack.{method}", world.url()))
        .header("content-type", "application/json");
    if !token.is_empty() {
        post = post.header("authorization", format!("Bearer {token}"));
    }
    let mut response = post.send(request.to_string()).expect("an answer");
    if response.status().is_success() {
        return None;
    }
    let wait = response.headers().get("retry-after").map(|value| value.to_str().expect("text"));
    let wait = wait.unwrap_or_default().to_owned();
    let text = response.body_mut().read_to_string().expect("text");
    Some((serde_json::from_str(&text).expect("JSON"), wait))
}

/// The readable form of a detail.
#[track_caller]
fn detail<'a>(error: &'a Value, kind: &str) -> &'a Value {
    let details = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<_> = details.iter().filter(|detail| detail["type"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {error}");
    &found[0]["debug"]
}

#[track_caller]
fn info(error: &Value) -> (String, Value) {
    let info = detail(error, "google.rpc.ErrorInfo");
    assert_eq!(info["domain"], "metal-stack.io");
    (world::text(&info["reason"]), info["metadata"].clone())
}

/// Asserts the reason of a refusal and what it tells beside.
#[track_caller]
fn check(world: &World, token: &str, method: &str, request: Value, reason: &str, told: Value) {
    let (error, _) = refused(world, token, method, &request);
    assert_eq!(info(&error), (reason.to_owned(), told), "{method}: {error}");
}

#[test]
fn each_refusal_has_its_reason() {
    on_all(|world| {
        let hall = Hall::new(world);
        let Hall { admin, user, project, network, .. } = &hall;
        let none = json!({});
        check(world, "", "admin.v2.ImageService/Usage", json!({}), "UNAUTHENTICATED", none.clone());
        check(
            world,
            "x.y.z",
            "admin.v2.ImageService/Usage",
            json!({}),
            "TOKEN_INVALID",
            none.clone(),
        );
        check(
            world,
            user,
            "admin.v2.ImageService/Usage",
            json!({}),
            "PERMISSION_DENIED",
            none.clone(),
        );
        let size = json!({"kind": "size", "id": "c9"});
        check(world, user, "api.v2.SizeService/Get", json!({"id": "c9"}), "NOT_FOUND", size);
        let request = json!({"size": {"id": "c1", "constraints": [
            {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "9", "max": "9"}]}});
        check(world, admin, "admin.v2.SizeService/Create", request, "ALREADY_EXISTS", none.clone());
        let request = json!({"id": "c1", "updateMeta": {"updatedAt": "2020-01-01T00:00:00Z"}});
        check(world, admin, "admin.v2.SizeService/Update", request, "CONFLICT", none.clone());
        let request = json!({"project": project});
        check(world, user, "api.v2.ProjectService/Delete", request, "IN_USE", none.clone());
        let create = json!({"project": project, "partition": "p1", "size": "c1", "image": "debian-12", "name": "web",
            "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE", "networks": [{"network": network}]});
        let place = json!({"size": "c1", "partition": "p1"});
        check(world, user, "api.v2.MachineService/Create", create, "NO_MACHINE_AVAILABLE", place);
        let request = json!({"project": project, "network": network, "ip": "1.1.1.1"});
        check(world, user, "api.v2.IPService/Create", request, "INVALID", none);
    });
}

#[test]
fn an_exhausted_network_says_so() {
    on_sqlite(|world| {
        let hall = Hall::new(world);
        hall.op(
            "NetworkService/Create",
            json!({"id": "tiny", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 105, "prefixes": ["192.0.2.0/30"],
                "destinationPrefixes": ["0.0.0.0/0"]}),
        );
        let request = json!({"project": hall.project, "network": "tiny"});
        let mut left = 4;
        let error = loop {
            match world.call(&hall.user, "api.v2.IPService/Create", request.clone()) {
                Ok(_) => left -= 1,
                Err(_) => break refused(world, &hall.user, "api.v2.IPService/Create", &request).0,
            }
            assert!(left > 0, "a /30 has no more than four addresses");
        };
        assert_eq!(info(&error), ("NO_ADDRESS_AVAILABLE".to_owned(), json!({"network": "tiny"})));
    });
}

#[test]
fn broken_rules_name_their_fields() {
    on_sqlite(|world| {
        let hall = Hall::new(world);
        let create = json!({"project": hall.project, "partition": "p1", "size": "c1", "image": "debian-12", "name": "x",
            "networks": [{"network": "n1"}, {"network": "n2", "ips": ["10.0.0.1", "nonsense"]}]});
        let (error, _) = refused(world, &hall.user, "api.v2.MachineService/Create", &create);
        assert_eq!(error["code"], "invalid_argument");
        assert_eq!(info(&error), ("INVALID_FIELDS".to_owned(), json!({})));
        let fields = &detail(&error, "google.rpc.BadRequest")["fieldViolations"];
        let fields = fields.as_array().expect("fields");
        let path = |field: &Value| world::text(&field["field"]);
        assert!(fields.iter().any(|field| path(field).starts_with("networks[1].ips")), "{error}");
        for field in fields {
            assert!(!world::text(&field["reason"]).is_empty(), "the rule: {field}");
            assert!(!world::text(&field["description"]).is_empty(), "the sentence: {field}");
        }
        let kinds = error["details"].as_array().expect("details");
        assert!(kinds.iter().any(|detail| detail["type"] == "buf.validate.Violations"), "{error}");

        let place = json!({"project": hall.project, "size": "c1", "image": "debian-12", "name": "web",
            "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE", "networks": [{"network": hall.network}]});
        let (error, _) = refused(world, &hall.user, "api.v2.MachineService/Create", &place);
        assert_eq!(info(&error).0, "INVALID");
        let field = &detail(&error, "google.rpc.BadRequest")["fieldViolations"][0];
        assert_eq!(field["field"], "partition");
    });
}

#[test]
fn who_calls_too_often_learns_when_to_go_on() {
    let few = |config: &mut server::Config| {
        config.rate = server::rate::Config { token_per_minute: 1, address_per_minute: 0 };
    };
    on_sqlite_with(few, |world| {
        let alice = world.login("alice");
        // a new minute may begin between two calls
        let ask = |_| refusal(world, &alice, TENANT, &json!({"login": "alice"}));
        let (error, wait) = (0..4).find_map(ask).expect("refused");
        assert_eq!(info(&error), ("RATE_LIMITED".to_owned(), json!({"limit": "1"})));
        let wait: u64 = wait.parse().expect("seconds");
        assert!((1..=60).contains(&wait));
        let delay = &detail(&error, "google.rpc.RetryInfo")["retryDelay"];
        assert_eq!(*delay, format!("{wait}s"));
    });
}

/// The error of a call with the generated client.
fn called(world: &World, protocol: Protocol, token: &str, id: &str) -> ConnectError {
    let uri: http::Uri = world.url().parse().expect("URL");
    let transport = HttpClient::plaintext_http2_only();
    let config = ClientConfig::new(uri)
        .with_protocol(protocol)
        .with_default_timeout(Duration::from_secs(120))
        .with_default_header("authorization", format!("Bearer {token}"));
    let client = api::SizeServiceClient::new(transport, config);
    let request = api::SizeServiceGetRequest { id: id.to_owned(), ..Default::default() };
    world.runtime.block_on(client.get(request)).expect_err("refused")
}

fn bytes(details: &[ErrorDetail], kind: &str) -> Option<Vec<u8>> {
    let detail =
        details.iter().find(|d| d.type_url.trim_start_matches("type.googleapis.com/") == kind)?;
    Some(STANDARD_NO_PAD.decode(detail.value.as_deref()?.trim_end_matches('=')).expect("base64"))
}

#[test]
fn the_details_are_the_same_over_every_protocol() {
    on_sqlite(|world| {
        let alice = world.login("alice");
        let wanted = b"\x0a\x09NOT_FOUND\x12\x0emetal-stack.io\x1a\x08\x0a\x02id\x12\x02c9\x1a\x0c\x0a\x04kind\x12\x04size";
        for protocol in [Protocol::Connect, Protocol::Grpc, Protocol::GrpcWeb] {
            let error = called(world, protocol, &alice, "c9");
            assert_eq!(error.code, ErrorCode::NotFound);
            let info = bytes(&error.details, "google.rpc.ErrorInfo").expect("a reason");
            assert_eq!(info, wanted, "{protocol:?}");

            let error = called(world, protocol, &alice, "");
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            let fields = bytes(&error.details, "google.rpc.BadRequest").expect("fields");
            assert!(fields.windows(2).any(|pair| pair == b"id"), "{protocol:?}: {fields:?}");
        }
    });
}

#[test]
fn a_refused_stream_has_a_reason_too() {
    on_sqlite(|world| {
        let alice = world.login("alice");
        let uri: http::Uri = world.url().parse().expect("URL");
        let config =
            ClientConfig::new(uri).with_default_header("authorization", format!("Bearer {alice}"));
        let client =
            proto::infra::BootServiceClient::new(HttpClient::plaintext_http2_only(), config);
        let error = world.runtime.block_on(async {
            let request = proto::infra::BootServiceWaitRequest {
                uuid: "00000000-0000-4000-8000-000000000001".to_owned(),
                ..Default::default()
            };
            match client.wait(request).await {
                Err(error) => error,
                Ok(mut stream) => match stream.message().await {
                    Err(error) => error,
                    Ok(_) => stream.error().cloned().expect("refused"),
                },
            }
        });
        assert_eq!(error.code, ErrorCode::PermissionDenied);
        let info = bytes(&error.details, "google.rpc.ErrorInfo").expect("a reason");
        assert!(info.starts_with(b"\x0a\x11PERMISSION_DENIED"), "{info:?}");
    });
}
