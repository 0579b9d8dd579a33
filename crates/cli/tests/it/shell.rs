//! Completion in the shells themselves, with what the server has.

use std::process::Command;

use crate::world::World;

/// A shell that is not installed is not tested, and that is said.
fn shell(world: &World, shell: &str, script: &str) -> Option<String> {
    let there = Command::new(shell).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("not tested: this machine has no {shell}");
        return None;
    }
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_metalctl")).parent().unwrap();
    let mut command = world.command("");
    let environment: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new(shell);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = command
        .env_clear()
        .envs(environment)
        .env("PATH", path)
        .args(["-c", script])
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shell}: {out}{err}");
    assert_eq!(err, "", "{shell}");
    Some(out)
}

#[test]
fn bash_zsh_and_fish_complete_live_values() {
    let world = World::new();
    let size = "{id: c1-large, constraints: [{type: cores, min: 1, max: 4}]}";
    let made = world.run("size create -f - -o name", size);
    assert_eq!(made.code, 0, "{}", made.err);
    let bash = "source <(metalctl completion bash)
        COMP_WORDS=(metalctl size describe c1); COMP_CWORD=3; _metalctl; echo \"${COMPREPLY[@]}\"
        COMP_WORDS=(metalctl mach); COMP_CWORD=1; _metalctl; echo \"${COMPREPLY[@]}\"";
    if let Some(out) = shell(&world, "bash", bash) {
        assert_eq!(out, "c1-large\nmachine\n");
    }
    let zsh = "compdef() { :; }
        _describe() { print -l -- ${(P)2}; }
        _files() { print files; }
        source <(metalctl completion zsh)
        words=(metalctl size describe c1); CURRENT=4; _metalctl
        words=(metalctl mach); CURRENT=2; _metalctl";
    if let Some(out) = shell(&world, "zsh", zsh) {
        let lines: Vec<&str> = out.lines().collect();
        assert!(
            matches!(lines[..], [size, machine] if size.starts_with("c1-large") && machine.starts_with("machine:Servers")),
            "{out}"
        );
    }
    let fish = "metalctl completion fish | source
        complete -C 'metalctl size describe c1'
        complete -C 'metalctl mach'";
    if let Some(out) = shell(&world, "fish", fish) {
        let words: Vec<&str> = out.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words, ["c1-large", "machine"], "{out}");
    }
}
