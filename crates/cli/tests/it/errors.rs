//! Bad input and bad surroundings: each says what is wrong and what to do next.

use expect_test::expect_file;

use crate::world::World;

#[test]
fn wrong_words() {
    let world = World::alone();
    let text = world.session(&[
        "machnie list",
        "machine lst",
        "cluster list",
        "image list --featur machine",
        "image list -o jason",
        "ip create --type fixed",
        "network create --length ten",
        "network create --type external",
        "explain imag",
        "explain image.urll",
        "call metalstack.api.v2.IPService/Lists",
        "context switch nowhere",
        "context add",
        "image list --timeout",
        "image list -o jsonpath={.id",
        "image list -o 'template={{ .id'",
    ]);
    expect_file!["../golden/wrong-words.txt"].assert_eq(&text);
}

#[test]
fn a_server_that_is_not_there() {
    let mut world = World::alone();
    let nowhere = world.session(&["image list"]);
    world.set("METAL_API_URL", "http://127.0.0.1:1");
    let away = world.session(&["image list", "image list -o json"]);
    world.set("METAL_API_URL", "ftp://example");
    let malformed = world.session(&["image list"]);
    let text = [nowhere, away, malformed].concat();
    expect_file!["../golden/away.txt"].assert_eq(&text);
}

#[test]
fn a_server_that_is_no_api() {
    let mut world = World::alone();
    let url = world.files().to_owned();
    world.set("METAL_API_URL", &url);
    let text = world.session(&["image list"]);
    expect_file!["../golden/no-api.txt"].assert_eq(&text);
}

#[test]
fn tokens_that_do_not_open() {
    let mut world = World::new();
    world.unset("METAL_TOKEN_FILE");
    let mut text = world.session(&["image list"]);
    world.set("METAL_TOKEN", "nonsense");
    text.push_str(&world.session(&["image list"]));
    let expired = world.old_token(3_600);
    world.set("METAL_TOKEN", &expired);
    text.push_str(&world.session(&["image list"]));
    let weak = world.old_token(0);
    world.set("METAL_TOKEN", &weak);
    text.push_str(&world.session(&["admin tenant list"]));
    world.unset("METAL_TOKEN");
    world.set("METAL_TOKEN_FILE", "/does/not/exist");
    text.push_str(&world.session(&["image list"]));
    expect_file!["../golden/tokens.txt"].assert_eq(&text);
}

#[test]
fn files_with_several_errors() {
    let world = World::new();
    world.write("bad.yaml", "kind: image\nid: debian-12\nurll: http://x\nfeatures: machine\nclassification: suported\n---\nkind: imgae\nid: a\n");
    world.write("broken.yaml", "kind: image\nid: [\n");
    world.write("empty.yaml", "# nothing\n");
    world.write(
        "size.yaml",
        "id: n1\nconstraints:\n- type: coers\n  min: many\n  max: 4\n  most: 5\n",
    );
    let text = world.session(&[
        "apply -f bad.yaml",
        "apply -f broken.yaml",
        "apply -f empty.yaml",
        "apply -f missing.yaml",
        "size create -f size.yaml",
    ]);
    expect_file!["../golden/bad-files.txt"].assert_eq(&text);
}
