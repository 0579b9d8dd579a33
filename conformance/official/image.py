"""Images."""
from . import check


def run(world):
    operator, alice = world.operator, world.alice
    url = f"{world.files}/image.tar.zst"
    for id, feature in [("debian-12.0.20250101", "MACHINE"), ("debian-12.0.20260101", "MACHINE"), ("firewall-3.0.20260101", "FIREWALL")]:
        made = operator.admin("ImageService/Create", image={"id": id, "url": url, "name": id, "features": [f"IMAGE_FEATURE_{feature}"],
                                                            "classification": "IMAGE_CLASSIFICATION_SUPPORTED"}).image
        check.equal(f"image {id} is created", (made.id, check.named(made, "classification")), (id, "SUPPORTED"))
    check.true("images expire", made.expires_at.seconds > made.meta.created_at.seconds + 80 * 86400, made)
    operator.refused("invalid_argument", "admin.v2.ImageService/Create", image={"id": "debian-13.0.1", "url": f"{world.files}/missing", "features": ["IMAGE_FEATURE_MACHINE"]})
    operator.refused("invalid_argument", "admin.v2.ImageService/Create", image={"id": "debian-13.0.1", "url": url})
    check.equal("users read one", alice.api("ImageService/Get", id="debian-12.0.20250101").image.url, url)
    check.equal("they are listed by system, newest first", [i.id for i in alice.api("ImageService/List", query={"os": "debian"}).images],
                ["debian-12.0.20260101", "debian-12.0.20250101"])
    check.equal("a feature finds one", [i.id for i in alice.api("ImageService/List", query={"feature": "IMAGE_FEATURE_FIREWALL"}).images], ["firewall-3.0.20260101"])
    check.equal("the short name means the newest", alice.api("ImageService/Latest", os="debian-12").image.id, "debian-12.0.20260101")
    changed = operator.admin("ImageService/Update", id="debian-12.0.20250101", update_meta=check.FRESH,
                             classification="IMAGE_CLASSIFICATION_DEPRECATED").image
    check.equal("an update keeps what it does not name", (check.named(changed, "classification"), changed.url), ("DEPRECATED", url))
    usage = operator.admin("ImageService/Usage", query={"os": "debian"}).image_usage
    check.equal("nobody uses them yet", [(u.image.id, list(u.used_by)) for u in usage], [("debian-12.0.20260101", []), ("debian-12.0.20250101", [])])
    check.equal("an image is deleted", operator.admin("ImageService/Delete", id="debian-12.0.20250101").image.id, "debian-12.0.20250101")
    alice.refused("not_found", "api.v2.ImageService/Get", id="debian-12.0.20250101")
