"""Which images may be installed on which sizes."""
from . import check


def run(world):
    operator, alice = world.operator, world.alice
    made = operator.admin("SizeImageConstraintService/Create", size="c1", name="old ones",
                          image_constraints=[{"image": "debian", "semver_match": ">= 12"}]).size_image_constraint
    check.equal("a constraint is created", (made.size, [(c.image, c.semver_match) for c in made.image_constraints]), ("c1", [("debian", ">= 12")]))
    check.equal("it is read", operator.admin("SizeImageConstraintService/Get", size="c1").size_image_constraint, made)
    check.equal("it is found by its name", [c.size for c in operator.admin(
        "SizeImageConstraintService/List", query={"name": "old ones"}).size_image_constraints], ["c1"])
    alice.api("SizeImageConstraintService/Try", size="c1", image="debian-12.0.20260101")
    check.true("an image that fits is told so", True)
    changed = operator.admin("SizeImageConstraintService/Update", size="c1", update_meta=check.FRESH,
                             image_constraints=[{"image": "debian", "semver_match": ">= 13"}]).size_image_constraint
    check.equal("a constraint is changed", changed.image_constraints[0].semver_match, ">= 13")
    text = alice.refused("invalid_argument", "api.v2.SizeImageConstraintService/Try", size="c1", image="debian-12.0.20260101")
    check.true("an image that does not fit is told why", ">= 13" in text, text)
    check.equal("a constraint is deleted", operator.admin("SizeImageConstraintService/Delete", size="c1").size_image_constraint.size, "c1")
    operator.refused("not_found", "admin.v2.SizeImageConstraintService/Get", size="c1")
