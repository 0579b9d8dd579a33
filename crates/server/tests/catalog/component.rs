use proto::api;
use serde_json::{Value, json};

use crate::world::{World, column, on_all, text};

const PING: &str = "infra.v2.ComponentService/Ping";
const LIST: &str = "admin.v2.ComponentService/List";
const GET: &str = "admin.v2.ComponentService/Get";

fn agent(world: &World) -> String {
    world.token(api::Token {
        user: "agent".to_owned(),
        token_type: api::TokenType::Api.into(),
        infra_role: Some(api::InfraRole::Editor.into()),
        ..Default::default()
    })
}

fn ping(kind: &str, identifier: &str, version: &str) -> Value {
    json!({"type": format!("COMPONENT_TYPE_{kind}"), "identifier": identifier, "startedAt": "2025-01-01T00:00:00Z",
        "interval": "300s", "version": {"version": version}})
}

#[test]
fn a_program_reports_itself_and_keeps_its_id() {
    on_all(|world| {
        let (admin, agent) = (world.admin(), agent(world));
        world.ok(&agent, PING, ping("METAL_CORE", "leaf01", "1.0"));
        world.ok(&agent, PING, ping("METAL_CORE", "leaf02", "1.0"));
        world.ok(&agent, PING, ping("PIXIECORE", "leaf01", "1.0"));
        world.expect("invalid_argument", &agent, PING, ping("UNSPECIFIED", "leaf01", "1.0"));
        world.expect(
            "permission_denied",
            &world.login("alice"),
            PING,
            ping("PIXIECORE", "x1", "1"),
        );

        let list =
            |query: Value| world.ok(&admin, LIST, json!({"query": query}))["components"].clone();
        assert_eq!(list(json!({})).as_array().map(Vec::len), Some(3));
        assert_eq!(
            column(&list(json!({"type": "COMPONENT_TYPE_METAL_CORE"})), "identifier"),
            "leaf01 leaf02"
        );
        let first = list(json!({"type": "COMPONENT_TYPE_PIXIECORE"}))[0].clone();
        let id = text(&first["uuid"]);
        assert_eq!(first["token"]["user"], "agent");

        world.ok(&agent, PING, ping("PIXIECORE", "leaf01", "2.0"));
        let again = world.ok(&admin, GET, json!({"uuid": id}))["component"].clone();
        assert_eq!(again["version"]["version"], "2.0");
        assert!(text(&again["reportedAt"]) > text(&first["reportedAt"]));
        world.ok(&admin, "admin.v2.ComponentService/Delete", json!({"uuid": id}));
        world.expect("not_found", &admin, GET, json!({"uuid": id}));
        world.ok(&agent, PING, ping("PIXIECORE", "leaf01", "2.0"));
        assert_eq!(list(json!({"identifier": "leaf01"})).as_array().map(Vec::len), Some(2));
    });
}

#[test]
fn health_names_each_part_and_there_is_no_vpn() {
    on_all(|world| {
        let services =
            world.ok("", "api.v2.HealthService/Get", json!({}))["health"]["services"].clone();
        assert_eq!(
            column(&services, "name"),
            "SERVICE_IPAM SERVICE_RETHINK SERVICE_TENANT_APISERVER SERVICE_MACHINES SERVICE_AUDIT SERVICE_REDIS SERVICE_TASKS"
        );
        for service in services.as_array().expect("a list") {
            assert_eq!(service["status"], "SERVICE_STATUS_HEALTHY", "{service}");
        }
        world.expect(
            "failed_precondition",
            &world.admin(),
            "admin.v2.VPNService/ListNodes",
            json!({}),
        );
        world.expect(
            "permission_denied",
            &world.login("alice"),
            "admin.v2.VPNService/ListNodes",
            json!({}),
        );
    });
}
