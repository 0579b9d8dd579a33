use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::files::Files;
use crate::world::{World, column, on_all};

const CREATE: &str = "admin.v2.ImageService/Create";
const UPDATE: &str = "admin.v2.ImageService/Update";
const DELETE: &str = "admin.v2.ImageService/Delete";
const LIST: &str = "api.v2.ImageService/List";
const LATEST: &str = "api.v2.ImageService/Latest";

/// An image of this classification.
pub(crate) fn image(world: &World, files: &Files, id: &str, classification: &str) -> Value {
    let image = json!({
        "id": id, "url": files.there(), "features": ["IMAGE_FEATURE_MACHINE"],
        "classification": format!("IMAGE_CLASSIFICATION_{classification}"),
    });
    world.ok(&world.admin(), CREATE, json!({"image": image}))["image"].clone()
}

#[test]
fn an_image_is_made_changed_found_and_removed() {
    on_all(|world| {
        let (admin, user) = (world.admin(), world.login("alice"));
        let files = Files::start();
        let made = image(world, &files, "debian-12.0.20250101", "UNSPECIFIED");
        assert_eq!(made["classification"], "IMAGE_CLASSIFICATION_PREVIEW");
        let expires: Timestamp =
            made["expiresAt"].as_str().expect("a time").parse().expect("a time");
        let days = expires
            .since(Timestamp::now())
            .expect("a span")
            .total(jiff::Unit::Hour)
            .expect("hours")
            / 24.0;
        assert!((89.9..90.1).contains(&days), "{days}");

        image(world, &files, "debian-12.0.20250301", "SUPPORTED");
        image(world, &files, "debian-9.0.20250101", "DEPRECATED");
        image(world, &files, "alma-9.0.1", "SUPPORTED");
        let list = |query| column(&world.ok(&user, LIST, json!({"query": query}))["images"], "id");
        assert_eq!(
            list(json!({})),
            "alma-9.0.1 debian-12.0.20250301 debian-12.0.20250101 debian-9.0.20250101",
            "newest first, by number and not by letter"
        );
        assert_eq!(list(json!({"os": "alma"})), "alma-9.0.1");
        assert_eq!(list(json!({"version": "9.0.1"})), "alma-9.0.1");
        assert_eq!(
            list(json!({"classification": "IMAGE_CLASSIFICATION_DEPRECATED"})),
            "debian-9.0.20250101"
        );
        assert_eq!(list(json!({"feature": "IMAGE_FEATURE_FIREWALL"})), "");

        let latest = |request: Value| {
            world.call(&user, LATEST, request).map(|answer| answer["image"]["id"].clone()).ok()
        };
        assert_eq!(latest(json!({"os": "debian-12"})), Some(json!("debian-12.0.20250301")));
        assert_eq!(
            latest(json!({"os": "debian-12.0.20250101"})),
            Some(json!("debian-12.0.20250101"))
        );
        let preview =
            json!({"os": "debian-12.0", "classification": "IMAGE_CLASSIFICATION_PREVIEW"});
        assert_eq!(latest(preview), Some(json!("debian-12.0.20250101")));
        assert_eq!(latest(json!({"os": "debian-11"})), None);

        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let update = json!({"id": "alma-9.0.1", "updateMeta": server, "features": ["IMAGE_FEATURE_FIREWALL"]});
        let changed = world.ok(&admin, UPDATE, update)["image"].clone();
        assert_eq!(changed["features"], json!(["IMAGE_FEATURE_FIREWALL"]));
        assert_eq!(changed["classification"], "IMAGE_CLASSIFICATION_SUPPORTED", "it stays");
        let missing = json!({"id": "alma-9.0.1", "updateMeta": server, "url": files.missing()});
        world.expect("invalid_argument", &admin, UPDATE, missing);

        let usage =
            world.ok(&admin, "admin.v2.ImageService/Usage", json!({"query": {"os": "alma"}}));
        assert_eq!(usage["imageUsage"][0]["image"]["id"], "alma-9.0.1");
        world.ok(&admin, DELETE, json!({"id": "alma-9.0.1"}));
        world.expect("not_found", &user, "api.v2.ImageService/Get", json!({"id": "alma-9.0.1"}));
    });
}

#[test]
fn an_image_that_nobody_could_install_is_refused() {
    on_all(|world| {
        let admin = world.admin();
        let files = Files::start();
        let refuse = |change: &dyn Fn(&mut Value), sentence: &str| {
            let mut image = json!({
                "id": "debian-12.0.1", "url": files.there(), "features": ["IMAGE_FEATURE_MACHINE"],
            });
            change(&mut image);
            let answer = world.call(&admin, CREATE, json!({"image": image}));
            let (code, message) = answer.expect_err(sentence);
            assert_eq!(code, "invalid_argument", "{message}");
            assert!(message.contains(sentence), "{message}");
        };
        refuse(&|image| image["url"] = json!(files.missing()), "404");
        refuse(&|image| image["url"] = json!(Files::nobody()), "not accessible");
        refuse(&|image| image["url"] = json!("oci://registry.test/debian"), "http://");
        refuse(&|image| image["id"] = json!("debian"), "OS-VERSION");
        refuse(&|image| image["id"] = json!("debian-1.2.3.4"), "OS-VERSION");
        refuse(&|image| image["features"] = json!([]), "at least one");
        let past = Timestamp::now().checked_sub(1.hour()).expect("a time").to_string();
        refuse(&|image| image["expiresAt"] = json!(past), "future");
    });
}
