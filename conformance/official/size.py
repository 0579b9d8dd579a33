"""Sizes."""
from . import check


def constraint(kind, least, most, **more):
    return {"type": f"SIZE_CONSTRAINT_TYPE_{kind}", "min": least, "max": most, **more}


def run(world):
    operator, alice = world.operator, world.alice
    wish = {"id": "c1", "name": "small", "description": "four cores", "meta": {"labels": {"labels": {"line": "c"}}}, "constraints": [
        constraint("CORES", 4, 4), constraint("MEMORY", 1, 2**40), constraint("STORAGE", 0, 2**40)]}
    made = operator.admin("SizeService/Create", size=wish).size
    check.equal("a size is created", (made.id, [(check.named(c, "type"), c.min, c.max) for c in made.constraints]),
                ("c1", [("CORES", 4, 4), ("MEMORY", 1, 2**40), ("STORAGE", 0, 2**40)]))
    text = operator.refused("invalid_argument", "admin.v2.SizeService/Create", size={**wish, "id": "c1-twin"})
    check.true("sizes do not overlap", "c1" in text, text)
    check.equal("users read it", alice.api("SizeService/Get", id="c1").size, made)
    check.equal("labels find it", [s.id for s in alice.api("SizeService/List", query={"labels": {"labels": {"line": "c"}}}).sizes], ["c1"])
    changed = operator.admin("SizeService/Update", id="c1", update_meta=check.FRESH, name="little").size
    check.equal("an update keeps what it does not name", (changed.name, len(changed.constraints)), ("little", 3))
    operator.admin("SizeService/Create", size={"id": "c9", "constraints": [constraint("CORES", 9, 9)]})
    check.equal("a size is deleted", operator.admin("SizeService/Delete", id="c9").size.id, "c9")
    alice.refused("not_found", "api.v2.SizeService/Get", id="c9")
