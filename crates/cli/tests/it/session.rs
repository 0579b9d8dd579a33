//! What people do all day, as transcripts.

use expect_test::expect_file;

use crate::world::{World, compare};

#[test]
fn images_sizes_and_partitions() {
    let world = World::new();
    let url = world.files();
    let kernel = format!(
        "partition create --id lab --description 'the lab' --boot-configuration-image-url {url}/initrd --boot-configuration-kernel-url {url}/kernel --boot-configuration-commandline console=ttyS0 -o table"
    );
    let debian = format!(
        "image create --id debian-12.0.1 --url {url}/debian.tar.zst --name Debian --features machine --classification supported --expires-at 800d12h --labels os=debian,team=ops -o name"
    );
    let missing = format!(
        "image create --id debian-12.0.2 --url {url}/missing --features machine --classification supported --expires-at 365d"
    );
    let text = world.session(&[
        &kernel,
        "partition list -o wide",
        "size create --id n1-medium --constraints type=cores,min=1,max=4 --constraints type=memory,min=1GiB,max=8GiB -o name",
        "size list",
        "size describe n1-medium",
        "image list",
        &debian,
        &missing,
        "image list",
        "image list -o markdown --columns id,features",
        "image list --filter status=preview",
        "image list -l team=ops -o name",
        "image latest debian-12 -o name",
        "image describe debian-12.0.1 -o jsonpath='{.id} is {.classification}'",
        "image describe debian-12.0.1 -o 'template={{ .id }} {{ .features | join \",\" }}'",
        "image update debian-12.0.1 --description stable --add-labels x=y --remove-labels team -o jsonpath='{.description} {.meta.labels.labels}'",
        "image usage",
        "filesystem create -f - -o name <<< {id: default, filesystems: [{device: /dev/nvme0n1p1, format: vfat, path: /boot/efi}], disks: [{device: /dev/nvme0n1, partitions: [{number: 1, size: 500, gptType: ef00}]}], constraints: {sizes: [n1-medium], images: {debian: '>= 12'}}}",
        "filesystem list",
        "size-image-constraint create --size n1-medium --image-constraints image=debian,semver-match='>= 12' -o name",
        "size-image-constraint list",
        "size-image-constraint try --size n1-medium --image debian-12.0.1",
        "partition capacity",
        "image describe nothing",
        "size delete nothing",
        "image delete debian-12.0.1 -o name",
        "image list -o json",
    ]);
    compare(&expect_file!["../golden/catalog.txt"], &text);
}

#[test]
fn apply_diff_and_edit() {
    let mut world = World::new();
    let url = world.files().to_owned();
    let image = |classification: &str, owner: &str| {
        format!(
            "kind: image\nid: debian-12.0.1\nurl: {url}/debian\nfeatures: [machine]\nclassification: {classification}\nexpiresAt: 2099-01-01T00:00:00Z\nmeta:\n  labels:\n    labels:\n      owner: {owner}\n"
        )
    };
    let size = "kind: size\nid: n1\nconstraints:\n- type: cores\n  min: 1\n  max: 4\nmeta: {labels: {labels: {owner: ops}}}\n";
    world.write("one.yaml", &format!("{}---\n{size}", image("preview", "ops")));
    world.write("two.yaml", &image("supported", "ops"));
    world.write("editor", "#!/bin/sh\nsed -i 's/SUPPORTED/DEPRECATED/' \"$1\"\n");
    world.write("nothing", "#!/bin/sh\n");
    let sh = |name: &str| format!("sh {name}");
    world.set("EDITOR", &sh("editor"));
    let mut text = world.session(&[
        "diff -f one.yaml",
        "apply -f one.yaml --dry-run",
        "apply -f one.yaml",
        "apply -f one.yaml",
        "diff -f one.yaml",
        "diff -f two.yaml",
        "apply -f two.yaml",
        "edit image debian-12.0.1",
        "image list --columns id,status",
        "apply -f two.yaml --prune",
        "image describe debian-12.0.1 -o manifest",
        "edit image nothing",
    ]);
    world.set("EDITOR", &sh("nothing"));
    text.push_str(&world.session(&["edit image debian-12.0.1"]));
    compare(&expect_file!["../golden/apply.txt"], &text);
}

#[test]
fn contexts_projects_and_tokens() {
    let mut world = World::new();
    let mut text = world.session(&[
        "whoami",
        "project list",
        "project create --name web --description 'web shop' -o table",
        "project list",
        "project describe web",
        "project create --name mail --description 'post' -o name",
        "project member list -p web",
        "project invite create -p web --role viewer -o jsonpath={.role}",
        "project update web --description shop -o jsonpath={.description}",
        "project describe wbe",
        "token create --description ci --expires 8h --project-roles 00000000-0000-0000-0000-000000000000=editor -o jsonpath={.token.description}",
        "tenant list",
        "tenant member list",
        "method scoped -o json",
        "status",
        "ip list",
        "ip list -p web",
        "network list -p web",
    ]);
    let token = world.run(
        "token create --description ctx --expires 8h --admin-role editor -o jsonpath={.secret}",
        "",
    );
    let secret = token.out.trim().to_owned();
    assert!(secret.len() > 100, "{}", token.err);
    let url = world.url();
    world.unset("METAL_API_URL");
    world.unset("METAL_TOKEN_FILE");
    let login = world.run(&format!("login --token-stdin --api-url {url}"), &secret);
    assert_eq!(login.code, 0, "{}", login.err);
    text.push_str(&world.session(&[
        "context",
        "context add other --api-url http://127.0.0.1:1",
        "context list",
        "context other",
        "context -",
        "context set-project mail",
        "ip list",
        "context show",
        "--context other image list",
        "logout",
        "image list",
        "context remove other",
        "context list",
    ]));
    compare(&expect_file!["../golden/people.txt"], &text);
}

#[test]
fn machines_and_their_words() {
    let world = World::new();
    let text = world.session(&[
        "machine list",
        "machine list -o json",
        "firewall list",
        "machine describe 00000000-0000-0000-0000-000000000009",
        "machine describe",
        "machine power on 00000000-0000-0000-0000-000000000009",
        "machine wait 00000000-0000-0000-0000-000000000009",
        "machine wait 00000000-0000-0000-0000-000000000009 --for lunch",
        "machine create --hostname web01",
        "machine console 00000000-0000-0000-0000-000000000009",
        "machine bmc list",
        "machine issues",
        "switch list",
        "switch ports",
        "component list",
        "task queues",
        "machine power up 00000000-0000-0000-0000-000000000009",
        "audit list --login metal-stack --limit 0",
    ]);
    compare(&expect_file!["../golden/machines.txt"], &text);
}

#[test]
fn completion_knows_what_the_server_has() {
    let world = World::new();
    world.run("project create --name web --description shop", "");
    let text = world.session(&[
        "__complete -- pro",
        "__complete -- machine po",
        "__complete -- ip create --type ''",
        "__complete -- size describe ''",
        "completion fish",
    ]);
    compare(&expect_file!["../golden/completion.txt"], &text);
    let ids = world.run("__complete -- ip list -p ''", "");
    assert!(ids.out.contains("\tweb"), "{}{}", ids.out, ids.err);
}
