"""Filesystem layouts."""
from . import check


def layout(id, **more):
    return {"id": id, "disks": [{"device": "/dev/nvme0n1", "partitions": [{"number": 1, "label": "root", "size": 1000, "gpt_type": "GPT_TYPE_LINUX"}]}],
            "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_EXT4", "path": "/", "label": "root"}], **more}


def run(world):
    operator, alice = world.operator, world.alice
    made = operator.admin("FilesystemService/Create", filesystem_layout=layout(
        "default", name="default", constraints={"sizes": ["c1"], "images": {"debian": "*", "firewall": "*"}})).filesystem_layout
    check.equal("a layout is created", (made.id, made.disks[0].partitions[0].size, dict(made.constraints.images)),
                ("default", 1000, {"debian": "*", "firewall": "*"}))
    operator.refused("invalid_argument", "admin.v2.FilesystemService/Create", filesystem_layout=layout(
        "second", constraints={"sizes": ["c1"], "images": {"debian": ">= 12"}}))
    check.true("two layouts do not claim the same", True)
    check.equal("users read it", alice.api("FilesystemService/Get", id="default").filesystem_layout, made)
    operator.admin("FilesystemService/Create", filesystem_layout=layout("spare"))
    check.equal("layouts are listed", [l.id for l in alice.api("FilesystemService/List").filesystem_layouts], ["default", "spare"])
    check.equal("one is found by its id", [l.id for l in alice.api("FilesystemService/List", id="spare").filesystem_layouts], ["spare"])
    changed = operator.admin("FilesystemService/Update", id="spare", update_meta=check.FRESH, description="for later").filesystem_layout
    check.equal("an update keeps what it does not name", (changed.description, len(changed.disks)), ("for later", 1))
    found = operator.admin("FilesystemService/Match", size_and_image={"size": "c1", "image": "debian-12.0.20260101"}).filesystem_layout
    check.equal("size and image choose a layout", found.id, "default")
    check.equal("a layout is deleted", operator.admin("FilesystemService/Delete", id="spare").filesystem_layout.id, "spare")
    alice.refused("not_found", "api.v2.FilesystemService/Get", id="spare")
