use serde_json::{Value, json};

use crate::files::Files;
use crate::image::image;
use crate::size::size;
use crate::world::on_all;

const CREATE: &str = "admin.v2.FilesystemService/Create";
const UPDATE: &str = "admin.v2.FilesystemService/Update";
const DELETE: &str = "admin.v2.FilesystemService/Delete";
const MATCH: &str = "admin.v2.FilesystemService/Match";

fn layout(id: &str, size: &str, os: &str, versions: &str) -> Value {
    json!({"filesystemLayout": {
        "id": id,
        "disks": [{"device": "/dev/nvme0n1", "partitions": [
            {"number": 1, "label": "efi", "size": "500", "gptType": "GPT_TYPE_BOOT"},
            {"number": 2, "label": "root", "gptType": "GPT_TYPE_LINUX"},
        ]}],
        "filesystems": [
            {"device": "/dev/nvme0n1p1", "format": "FORMAT_VFAT", "path": "/boot/efi", "label": "efi"},
            {"device": "/dev/nvme0n1p2", "format": "FORMAT_EXT4", "path": "/", "label": "root"},
            {"device": "tmpfs", "format": "FORMAT_TMPFS", "path": "/tmp"},
        ],
        "constraints": {"sizes": [size], "images": {os: versions}},
    }})
}

#[test]
fn a_layout_is_chosen_by_size_and_image() {
    on_all(|world| {
        let (admin, user) = (world.admin(), world.login("alice"));
        let files = Files::start();
        size(world, "c1-small", 4);
        image(world, &files, "debian-12.0.1", "SUPPORTED");
        image(world, &files, "debian-13.0.1", "SUPPORTED");
        world.ok(&admin, CREATE, layout("default", "c1-small", "debian", "< 13"));
        world.expect(
            "already_exists",
            &admin,
            CREATE,
            layout("default", "c1-other", "debian", "*"),
        );
        world.expect(
            "invalid_argument",
            &admin,
            CREATE,
            layout("second", "c1-small", "debian", ">= 12"),
        );
        world.ok(&admin, CREATE, layout("second", "c1-small", "debian", ">= 14"));

        let matches = |image: &str| {
            let request = json!({"sizeAndImage": {"size": "c1-small", "image": image}});
            world.call(&admin, MATCH, request).map(|a| a["filesystemLayout"]["id"].clone())
        };
        assert_eq!(matches("debian-12.0.1"), Ok(json!("default")));
        assert_eq!(matches("debian-13.0.1").expect_err("none").0, "not_found");
        assert_eq!(matches("debian-99.0.1").expect_err("no image").0, "not_found");

        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let wider = json!({"id": "second", "updateMeta": server,
            "constraints": {"sizes": ["c1-small"], "images": {"debian": "*"}}});
        world.expect("invalid_argument", &admin, UPDATE, wider);
        let moved = json!({"id": "second", "updateMeta": server, "description": "for 13",
            "constraints": {"sizes": ["c1-small"], "images": {"debian": ">= 13"}}});
        let changed = world.ok(&admin, UPDATE, moved)["filesystemLayout"].clone();
        assert_eq!(changed["disks"].as_array().map(Vec::len), Some(1), "what is absent stays");
        assert_eq!(matches("debian-13.0.1"), Ok(json!("second")));

        let list = world.ok(&user, "api.v2.FilesystemService/List", json!({}));
        assert_eq!(list["filesystemLayouts"].as_array().map(Vec::len), Some(2));
        world.ok(&admin, DELETE, json!({"id": "second"}));
        world.expect("not_found", &user, "api.v2.FilesystemService/Get", json!({"id": "second"}));
    });
}

#[test]
fn a_layout_that_contradicts_itself_is_refused() {
    on_all(|world| {
        let admin = world.admin();
        let refuse = |path: &str, value: Value, sentence: &str| {
            let mut request = layout("default", "c1-small", "debian", "*");
            *request["filesystemLayout"].pointer_mut(path).expect(path) = value;
            let (code, message) = world.call(&admin, CREATE, request).expect_err(sentence);
            assert_eq!(code, "invalid_argument", "{message}");
            assert!(message.contains(sentence), "{message}");
        };
        refuse("/filesystems/1/device", json!("/dev/nvme0n1p3"), "/dev/nvme0n1p3");
        refuse("/disks/0/partitions/0/size", json!("0"), "only the last");
        refuse("/disks/0/partitions/0/gptType", json!("GPT_TYPE_UNSPECIFIED"), "");
        refuse("/constraints/images/debian", json!(">12"), ">12");
        refuse("/constraints/sizes", json!(["*"]), "no wildcard");
    });
}
