//! The VPN, with a real headscale (`cargo xtask test --go` builds it; without it those tests say that they were not run).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hall::Hall;
use jiff::Timestamp;
use proto::api;
use serde_json::{Value, json};
use server::vpn::{ApiKey, Config};
use store::vpn::Member;
use world::{World, on_all, on_sqlite, on_sqlite_with, text};

#[path = "machine/hall.rs"]
#[allow(dead_code, reason = "made for the tests of machines")]
mod hall;
#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

const POLL: Duration = Duration::from_millis(200);

/// A headscale that ends with the test.
struct Headscale {
    child: Child,
    url: String,
    key: String,
    agent: ureq::Agent,
    _folder: tempfile::TempDir,
}

impl Drop for Headscale {
    fn drop(&mut self) {
        // it may have ended by itself
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address").port()
}

/// Asks nobody outside of this machine.
fn config(folder: &Path, ports: [u16; 3]) -> String {
    let folder = folder.display();
    let [api, metrics, grpc] = ports;
    format!(
        "server_url: http://127.0.0.1:{api}
listen_addr: 127.0.0.1:{api}
metrics_listen_addr: 127.0.0.1:{metrics}
grpc_listen_addr: 127.0.0.1:{grpc}
noise: {{ private_key_path: {folder}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: \"fd7a:115c:a1e0::/48\", allocation: sequential }}
derp: {{ server: {{ enabled: false }}, urls: [], paths: [{folder}/derp.yaml], auto_update_enabled: false }}
disable_check_updates: true
database: {{ type: sqlite, sqlite: {{ path: {folder}/db.sqlite }} }}
policy: {{ mode: database }}
dns: {{ magic_dns: false, override_local_dns: false, base_domain: vpn.test }}
unix_socket: {folder}/headscale.sock
logtail: {{ enabled: false }}
"
    )
}

const RELAYS: &str = "regions: {900: {regionid: 900, regioncode: test, regionname: test, nodes: [{name: 900a, regionid: 900, hostname: 127.0.0.1}]}}\n";

impl Headscale {
    /// Nothing where it was not built.
    fn start() -> Option<Self> {
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/headscale/headscale");
        if !program.exists() {
            eprintln!("not run: headscale is not built, `cargo xtask test --go` does it");
            return None;
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let ports = [free_port(), free_port(), free_port()];
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, config(folder.path(), ports)).expect("written");
        std::fs::write(folder.path().join("derp.yaml"), RELAYS).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("log");
        let child = Command::new(&program)
            .arg("-c")
            .arg(&file)
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("headscale starts");
        let mut this = Self {
            child,
            url: format!("http://127.0.0.1:{}", ports[0]),
            key: String::new(),
            agent: world::agent(),
            _folder: folder,
        };
        let end = Instant::now() + Duration::from_secs(120);
        while this.key.is_empty() {
            assert!(Instant::now() < end, "headscale does not answer");
            std::thread::sleep(Duration::from_millis(100));
            this.key = Self::api_key(&program, &file).unwrap_or_default();
        }
        Some(this)
    }

    fn api_key(program: &PathBuf, file: &PathBuf) -> Option<String> {
        let made = Command::new(program)
            .arg("-c")
            .arg(file)
            .args(["apikeys", "create"])
            .stderr(Stdio::null())
            .output()
            .expect("headscale answers");
        let text = String::from_utf8(made.stdout).ok()?;
        text.lines().last().map(str::trim).filter(|k| k.starts_with("hskey")).map(str::to_owned)
    }

    fn get(&self, path: &str) -> Value {
        let get = self.agent.get(format!("{}/api/v1/{path}", self.url));
        let answer = get.header("authorization", format!("Bearer {}", self.key)).call();
        let text = answer.expect("an answer").body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).expect("JSON")
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let post = self.agent.post(format!("{}/api/v1/{path}", self.url));
        let answer =
            post.header("authorization", format!("Bearer {}", self.key)).send(body.to_string());
        let mut answer = answer.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        serde_json::from_str(&answer.body_mut().read_to_string().expect("text")).expect("JSON")
    }

    /// A node joins as headscale's own tests let it, without a client. Returns its number.
    fn join(&self, project: &str, name: &str) -> String {
        let key = &uuid::Uuid::new_v4().simple().to_string()[..24];
        self.post("debug/node", json!({"user": project, "key": key, "name": name}));
        let made = self.post(&format!("node/register?user={project}&key={key}"), json!({}));
        text(&made["node"]["id"])
    }

    fn forget(&self, node: &str) {
        let delete = self.agent.delete(format!("{}/api/v1/node/{node}", self.url));
        let answer = delete.header("authorization", format!("Bearer {}", self.key)).call();
        assert!(answer.expect("an answer").status().is_success());
    }

    /// Keys with which somebody can join.
    fn keys(&self) -> Vec<Value> {
        let keys = self.get("preauthkey")["preAuthKeys"].as_array().cloned().unwrap_or_default();
        let valid = |key: &Value| {
            text(&key["expiration"]).parse::<Timestamp>().expect("a time") > Timestamp::now()
        };
        keys.into_iter().filter(valid).collect()
    }

    fn config(&self) -> Config {
        Config {
            api_url: self.url.clone(),
            control_plane_url: "https://vpn.test".to_owned(),
            api_key: ApiKey::Value(self.key.clone()),
            poll: POLL,
        }
    }
}

/// A world whose firewalls join the VPN.
fn with_headscale(test: impl Fn(&Headscale, &Hall<'_>)) {
    let Some(headscale) = Headscale::start() else { return };
    on_sqlite_with(
        |config| config.vpn = Some(headscale.config()),
        |world| test(&headscale, &Hall::new(world)),
    );
}

fn firewall(hall: &Hall<'_>) -> Value {
    json!({"allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL", "image": "firewall-3",
        "networks": [{"network": hall.network}, {"network": "internet"}]})
}

#[test]
fn a_firewall_joins_is_seen_and_leaves_with_its_release() {
    with_headscale(|headscale, hall| {
        let world = hall.world;
        hall.rack("r1", 1);
        let waiting = hall.machine("r1", 1);
        let machine = hall.allocate(firewall(hall));
        let uuid = text(&machine["uuid"]);
        let vpn = &machine["allocation"]["vpn"];
        assert_eq!(vpn["controlPlaneAddress"], "https://vpn.test");
        let key = text(&vpn["authKey"]);
        assert!(waiting.allocation().vpn.auth_key == key, "the installer gets it");
        let keys = headscale.keys();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0]["user"]["name"], hall.project.as_str());
        assert_eq!((&keys[0]["reusable"], &keys[0]["ephemeral"]), (&json!(false), &json!(false)));
        let until: Timestamp = text(&keys[0]["expiration"]).parse().expect("a time");
        let left = until.duration_since(Timestamp::now()).as_secs();
        assert!((7100..=7200).contains(&left), "two hours, not {left} s");

        // defect 5: who may only look does not see it
        let viewer = world.login("vera");
        world.project_member(&hall.user, &hall.project, "vera", "VIEWER");
        let request = json!({"project": hall.project, "uuid": uuid});
        let seen = world.ok(&viewer, "api.v2.MachineService/Get", request.clone());
        assert_eq!(seen["machine"]["allocation"]["vpn"]["controlPlaneAddress"], "https://vpn.test");
        assert!(!seen.to_string().contains(&key));
        let operator = world.operator("olga", api::AdminRole::Viewer);
        let seen = world.ok(&operator, "admin.v2.MachineService/Get", json!({"uuid": uuid}));
        assert!(!seen.to_string().contains(&key));

        // it joins, and so does a computer of an operator
        let laptop = headscale.join(&hall.project, "laptop");
        let node = headscale.join(&hall.project, &uuid);
        let ips = || hall.machine_of(&uuid)["allocation"]["vpn"]["ips"].clone();
        hall.until("its addresses are shown", || {
            ips().as_array().is_some_and(|ips| ips.len() == 2)
        });
        let listed = hall.op("VPNService/ListNodes", json!({"project": hall.project}));
        let listed = listed["nodes"].as_array().expect("nodes");
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[1]["name"], uuid.as_str());
        assert_eq!(listed[1]["project"], hall.project.as_str());
        let nobody = hall.op("VPNService/ListNodes", json!({"project": "nobody"}));
        assert_eq!(nobody["nodes"], Value::Null);
        // gone at the other side, gone here
        headscale.forget(&node);
        hall.until("nothing is shown", || ips() == Value::Null);
        headscale.join(&hall.project, &uuid);
        hall.until("it is back", || ips() != Value::Null);

        // defect 27: nothing stays
        world.ok(&hall.user, "api.v2.MachineService/Delete", request);
        hall.confirm("r1");
        hall.until("only the laptop is left", || {
            let nodes = headscale.get("node")["nodes"].as_array().cloned().unwrap_or_default();
            nodes.len() == 1 && nodes[0]["id"] == laptop.as_str()
        });
        hall.until("its key is revoked", || headscale.keys().is_empty());
        let left = world.runtime.block_on(async {
            let mut tx = world.db.begin_read().await.expect("begin");
            store::vpn::all(&mut tx).await.expect("members")
        });
        assert!(left.is_empty() || left.iter().all(|member| member.released), "{left:?}");
    });
}

#[test]
fn a_firewall_that_is_not_made_leaves_no_key() {
    with_headscale(|headscale, hall| {
        let (code, sentence) =
            hall.create(hall.request_with(firewall(hall))).expect_err("none waits");
        assert_eq!(code, "resource_exhausted", "{sentence}");
        let all = headscale.get("preauthkey");
        assert_eq!(all["preAuthKeys"].as_array().map(Vec::len), Some(1), "{all}");
        assert_eq!(headscale.keys(), Vec::<Value>::new(), "revoked");
    });
}

#[test]
fn operators_get_keys_and_nobody_else_reads_them() {
    with_headscale(|headscale, hall| {
        let world = hall.world;
        let wish = json!({"project": hall.project, "reusable": true, "ephemeral": true, "expires": "600s",
            "reason": "the firewall does not answer"});
        let made = hall.op("VPNService/AuthKey", wish.clone());
        assert_eq!(made["address"], "https://vpn.test");
        let key = text(&made["authKey"]);
        let keys = headscale.keys();
        assert_eq!((&keys[0]["reusable"], &keys[0]["ephemeral"]), (&json!(true), &json!(true)));
        assert!(key.starts_with(text(&keys[0]["key"]).trim_end_matches('*').trim_end_matches('-')));
        hall.op("VPNService/AuthKey", wish);
        assert_eq!(headscale.get("user")["users"].as_array().map(Vec::len), Some(1));
        let nowhere = json!({"project": "00000000-0000-4000-8000-00000000dead", "reason": "to look what happens"});
        world.expect("not_found", &hall.admin, "admin.v2.VPNService/AuthKey", nowhere);
        let log = hall.op("AuditService/List", json!({}));
        assert!(log.to_string().contains("VPNService/AuthKey"));
        assert!(!log.to_string().contains(&key), "not in the audit log");
        hall.until("projects are kept apart", || {
            headscale.get("policy")["policy"].as_str().is_some_and(|p| p.contains("autogroup:self"))
        });
        let health = world.ok("", "api.v2.HealthService/Get", json!({}));
        assert_eq!(of_vpn(&health)["status"], "SERVICE_STATUS_HEALTHY");
    });
}

fn of_vpn(health: &Value) -> Value {
    let services = health["health"]["services"].as_array().expect("services");
    services.iter().find(|s| s["name"] == "SERVICE_VPN").cloned().unwrap_or_default()
}

#[test]
fn a_coordination_server_that_is_away_stops_firewalls_only() {
    let nobody = |config: &mut server::Config| {
        config.vpn = Some(Config {
            api_url: format!("http://127.0.0.1:{}", free_port()),
            control_plane_url: "https://vpn.test".to_owned(),
            api_key: ApiKey::Value("nothing".to_owned()),
            poll: POLL,
        });
    };
    on_sqlite_with(nobody, |world| {
        let hall = Hall::new(world);
        hall.rack("r1", 1);
        let _waiting = hall.machine("r1", 1);
        let (code, _) = hall.create(hall.request_with(firewall(&hall))).expect_err("away");
        assert_eq!(code, "unavailable");
        hall.allocate(json!({}));
        world.expect("unavailable", &hall.admin, "admin.v2.VPNService/ListNodes", json!({}));
        let health = world.ok("", "api.v2.HealthService/Get", json!({}));
        assert_eq!(of_vpn(&health)["status"], "SERVICE_STATUS_UNHEALTHY");
    });
}

#[test]
fn without_a_coordination_server_it_says_so() {
    on_sqlite(|world| {
        let admin = world.admin();
        world.expect("failed_precondition", &admin, "admin.v2.VPNService/ListNodes", json!({}));
        let health = world.ok("", "api.v2.HealthService/Get", json!({}));
        assert_eq!(of_vpn(&health), Value::Null);
    });
}

#[test]
fn members_are_remembered_until_they_are_forgotten() {
    on_all(|world: &World| {
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let member = Member {
                allocation: "a".to_owned(),
                machine: "m".to_owned(),
                project: "p".to_owned(),
                key_id: 7,
                joined_after_us: 1,
                released: false,
            };
            store::vpn::insert(&mut tx, &member).await.expect("insert");
            store::vpn::release(&mut tx, "b").await.expect("another one");
            assert_eq!(store::vpn::all(&mut tx).await.expect("all"), std::slice::from_ref(&member));
            store::vpn::release(&mut tx, "a").await.expect("release");
            let released = Member { released: true, ..member };
            assert_eq!(store::vpn::all(&mut tx).await.expect("all"), [released]);
            store::vpn::delete(&mut tx, "a").await.expect("delete");
            assert_eq!(store::vpn::all(&mut tx).await.expect("all"), []);
        });
    });
}
