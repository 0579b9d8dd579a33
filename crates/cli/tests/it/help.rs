//! The help of every command in one file, so that a changed word is seen.

use expect_test::expect_file;

use crate::world::World;

#[test]
fn the_help_of_all_commands() {
    let world = World::alone();
    let done = world.run("__help", "");
    assert_eq!(done.code, 0, "{}", done.err);
    expect_file!["../golden/help.txt"].assert_eq(&done.out);
}

#[test]
fn every_command_has_an_example() {
    let world = World::alone();
    let help = world.run("__help", "").out;
    for page in help.split("\n=== ").skip(1) {
        let name = page.lines().next().unwrap();
        assert!(page.contains("Examples:") || page.contains("Commands:"), "{name} has no example");
    }
}
