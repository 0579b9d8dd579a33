//! A partition full of machines that wait, and people who want them.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use proto::api;
use serde_json::{Value, json};
use store::{Db, Entity};

use crate::http::Client;

pub(crate) const ISSUER: &str = "http://metal.bench";
const PROJECTS: usize = 256;
/// Machines of a rack.
const RACK: u64 = 20;

pub(crate) struct Hall {
    /// Token of the owner of the projects.
    pub(crate) user: String,
    /// Each with its network.
    pub(crate) projects: Vec<(String, String)>,
}

/// Fills the database of a server that runs: catalog, projects and networks by its API, the machines by SQL.
pub(crate) async fn fill(url: &str, address: SocketAddr, pool: u64) -> Hall {
    let db = Db::open(url).await.expect("database");
    let user = token(&db, "bench", None).await;
    let admin = token(&db, "operator", Some(api::AdminRole::Editor)).await;
    catalog(&db).await;
    machines(url, pool);
    drop(db);

    let mut client = Client::connect(address).await;
    for (method, request) in [
        (
            "SizeService/Create",
            json!({"size": {"id": "c1", "constraints": [
            {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "4", "max": "4"},
            {"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1", "max": "1099511627776"},
            {"type": "SIZE_CONSTRAINT_TYPE_STORAGE", "min": "0", "max": "1099511627776"}]}}),
        ),
        (
            "FilesystemService/Create",
            json!({"filesystemLayout": {
            "id": "default",
            "disks": [{"device": "/dev/nvme0n1", "partitions": [{"number": 1, "label": "root", "size": "1000", "gptType": "GPT_TYPE_LINUX"}]}],
            "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
            "constraints": {"sizes": ["c1"], "images": {"debian": "*"}}}}),
        ),
        (
            "NetworkService/Create",
            json!({"id": "super", "type": "NETWORK_TYPE_SUPER", "partition": "p1",
            "prefixes": ["10.0.0.0/8"], "defaultChildPrefixLength": {"ipv4": 22}}),
        ),
    ] {
        client.call(&admin, &format!("admin.v2.{method}"), &request).await;
    }
    let mut projects = Vec::new();
    for number in 0..PROJECTS {
        let request = json!({"login": "bench", "name": format!("p{number}")});
        let made = client.value(&user, "api.v2.ProjectService/Create", &request).await;
        let project = text(&made["project"]["uuid"]);
        let request = json!({"project": project, "partition": "p1", "name": "private"});
        let made = client.value(&user, "api.v2.NetworkService/Create", &request).await;
        projects.push((project, text(&made["network"]["id"])));
    }
    Hall { user, projects }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

async fn token(db: &Db, user: &str, role: Option<api::AdminRole>) -> String {
    let mut tx = db.begin_write().await.expect("begin");
    let kind = if role.is_some() { api::TokenType::Api } else { api::TokenType::User };
    let mut token = api::Token {
        user: user.to_owned(),
        token_type: kind.into(),
        admin_role: role.map(Into::into),
        ..Default::default()
    };
    let life = Duration::from_secs(3600);
    let now = jiff::Timestamp::now();
    let secret = server::bootstrap::first_token(&mut tx, ISSUER, &mut token, life, now).await;
    tx.commit().await.expect("commit");
    secret.expect("token")
}

/// What has URLs is stored directly: nobody is asked whether they can be reached.
async fn catalog(db: &Db) {
    let mut tx = db.begin_write().await.expect("begin");
    let partition = json!({"id": "p1", "dnsServers": [{"ip": "1.1.1.1"}],
        "bootConfiguration": {"imageUrl": "http://i", "kernelUrl": "http://k", "commandline": "quiet"}});
    let row = Entity::new("p1", partition.to_string(), 1);
    store::partition::TABLE.insert(&mut tx, &row, &[]).await.expect("partition");
    let id = "debian-12.0.1";
    let image = json!({"id": id, "url": "http://images/x.tar.zst", "features": ["IMAGE_FEATURE_MACHINE"],
        "classification": "IMAGE_CLASSIFICATION_SUPPORTED", "expiresAt": "2999-01-01T00:00:00Z"});
    let row = Entity::new(id, image.to_string(), 1);
    store::image::TABLE
        .insert(&mut tx, &row, &["debian".into(), i64::MAX.into()])
        .await
        .expect("image");
    tx.commit().await.expect("commit");
}

/// Racks with two switches each, machines that hang on both, and their places in the pool.
fn machines(url: &str, pool: u64) {
    let nic = |side: &str, number: u32| {
        json!({"name": format!("eth{number}"), "identifier": format!("0{number}:@MAC"), "neighbors": [
            {"name": "swp1", "hostname": format!("@RACK-{side}"), "identifier": format!("@RACK-{side}-1")}]})
    };
    let body = json!({"uuid": "@UUID", "rack": "@RACK", "partition": {"id": "p1"}, "size": {"id": "c1"},
        "hardware": {"memory": "8589934592", "cpus": [{"cores": 4, "threads": 4, "vendor": "v", "model": "m"}],
            "disks": [{"name": "/dev/nvme0n1", "size": "10000000000"}], "nics": [nic("a", 0), nic("b", 1)]},
        "status": {"condition": {"state": "MACHINE_STATE_AVAILABLE"}}});
    let sql = format!(
        "BEGIN;
         CREATE TEMP TABLE seed AS SELECT n, n / {RACK} AS rack_number, 'rack-' || n / {RACK} AS rack,
            '00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0') AS id FROM generate_series(0, {pool} - 1) AS n;
         INSERT INTO switch (id, body, generation, created_at, updated_at, partition, rack)
            SELECT r.rack || side, json_build_object('id', r.rack || side)::text, 0, 1, 1, 'p1', r.rack
            FROM (SELECT DISTINCT rack FROM seed) AS r, unnest(ARRAY['-a', '-b']) AS side;
         INSERT INTO machine (id, body, generation, created_at, updated_at, partition, rack, size, project, allocation, state)
            SELECT id, replace(replace(replace('{body}', '@UUID', id), '@RACK', rack), '@MAC', lpad(to_hex(n), 12, '0')),
            0, 1, 1, 'p1', rack, 'c1', NULL, NULL, {available} FROM seed;
         INSERT INTO switch_connection (switch, nic, machine)
            SELECT rack || side, 'swp' || n % {RACK}, id FROM seed, unnest(ARRAY['-a', '-b']) AS side;
         INSERT INTO replica (id, expires_at) VALUES ('bench', 9000000000000000);
         INSERT INTO waiting (machine, partition, size, rack, electable, position, replica, stream)
            SELECT id, 'p1', 'c1', rack, true, (random() * 9e18)::bigint, 'bench', id FROM seed;
         COMMIT;
         ANALYZE;",
        available = api::MachineState::Available as i32,
    );
    let done = Command::new("psql")
        .args([url, "-q", "-v", "ON_ERROR_STOP=1", "-c", &sql])
        .status()
        .expect("psql starts");
    assert!(done.success(), "machines cannot be stored");
}
