use serde_json::json;

use crate::files::Files;
use crate::image::image;
use crate::size::size;
use crate::world::{column, on_all};

const CREATE: &str = "admin.v2.SizeImageConstraintService/Create";
const UPDATE: &str = "admin.v2.SizeImageConstraintService/Update";
const DELETE: &str = "admin.v2.SizeImageConstraintService/Delete";
const TRY: &str = "api.v2.SizeImageConstraintService/Try";

#[test]
fn a_constraint_says_which_images_fit() {
    on_all(|world| {
        let (admin, user) = (world.admin(), world.login("alice"));
        let files = Files::start();
        size(world, "c1-small", 4);
        size(world, "c1-large", 8);
        for id in ["debian-11.0.1", "debian-12.0.1", "alma-9.0.1"] {
            image(world, &files, id, "SUPPORTED");
        }
        let debian = json!([{"image": "debian", "semverMatch": ">= 12"}]);
        world.expect(
            "not_found",
            &admin,
            CREATE,
            json!({"size": "c1-none", "imageConstraints": debian}),
        );
        let wrong = json!([{"image": "debian", "semverMatch": ">=12"}]);
        world.expect(
            "invalid_argument",
            &admin,
            CREATE,
            json!({"size": "c1-small", "imageConstraints": wrong}),
        );
        world.ok(&admin, CREATE, json!({"size": "c1-small", "imageConstraints": debian}));
        world.expect(
            "already_exists",
            &admin,
            CREATE,
            json!({"size": "c1-small", "imageConstraints": debian}),
        );

        let check = |code: &str, size: &str, image: &str| {
            world.expect(code, &user, TRY, json!({"size": size, "image": image}));
        };
        check("ok", "c1-small", "debian-12.0.1");
        check("invalid_argument", "c1-small", "debian-11.0.1");
        check("ok", "c1-small", "alma-9.0.1");
        check("invalid_argument", "c1-small", "debian-12");
        check("not_found", "c1-small", "debian-13.0.1");
        check("not_found", "c1-large", "debian-12.0.1");
        check("not_found", "c1-none", "debian-12.0.1");

        world.expect(
            "failed_precondition",
            &admin,
            "admin.v2.SizeService/Delete",
            json!({"id": "c1-small"}),
        );
        let server = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        let all = json!([{"image": "debian", "semverMatch": "*"}]);
        world.ok(
            &admin,
            UPDATE,
            json!({"size": "c1-small", "updateMeta": server, "imageConstraints": all}),
        );
        check("ok", "c1-small", "debian-11.0.1");
        let list = world.ok(&admin, "admin.v2.SizeImageConstraintService/List", json!({}));
        assert_eq!(column(&list["sizeImageConstraints"], "size"), "c1-small");
        world.ok(&admin, DELETE, json!({"size": "c1-small"}));
        world.expect(
            "not_found",
            &admin,
            "admin.v2.SizeImageConstraintService/Get",
            json!({"size": "c1-small"}),
        );
        world.ok(&admin, "admin.v2.SizeService/Delete", json!({"id": "c1-small"}));
    });
}
