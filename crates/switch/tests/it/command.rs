//! What an operator types.

use std::process::{Command, Output};

use crate::world::World;

#[test]
fn plan_prints_and_check_finds() {
    let Some(world) = World::new() else { return };
    let file = world.folder.path().join("switch.toml");
    std::fs::write(&file, world.config_text("http://127.0.0.1:1")).unwrap();
    let run = |command: &str| -> Output {
        let program = env!("CARGO_BIN_EXE_metal-switch");
        let mut line = Command::new("ip");
        line.args(["netns", "exec", &world.space("leaf"), program, command, "--config"]);
        line.arg(&file).output().unwrap()
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();

    let before = world.vtysh("leaf", "show running-config");
    let plan = run("plan");
    assert_eq!(plan.status.code(), Some(2), "{plan:?}");
    assert!(
        text(&plan).contains("+ router bgp 4200000011 > neighbor up0 interface peer-group FABRIC")
    );
    assert_eq!(world.vtysh("leaf", "show running-config"), before);

    // The token is missing, all else is there.
    let check = run("check");
    assert_eq!(check.status.code(), Some(1));
    let bad: Vec<_> =
        text(&check).lines().filter(|l| l.starts_with("bad")).map(str::to_owned).collect();
    assert!(matches!(&bad[..], [token] if token.contains("token_file")), "{bad:?}");
    assert!(text(&check).contains("machine ports: swp1 swp2"));

    std::fs::write(&file, "id = 7").unwrap();
    let wrong = run("plan");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("switch.toml:1: id"), "{wrong:?}");
}
