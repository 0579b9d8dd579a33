//! `lab status`: what runs where, as one page.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::control::{self, Request, State};
use crate::paths::Paths;
use crate::shape::Shape;
use crate::spec::Spec;
use crate::topology::{
    CONTROL_LINK, EXIT, EXIT_ADDRESS, Fabric, LEAVES, Machine, SERVICE_ADDRESS, api_url,
};
use crate::{api, ledger, power};

/// Prints the page.
///
/// # Errors
/// No lab runs.
pub fn status(paths: &Paths) -> Result<()> {
    let parts = control::ask(&paths.control(), &Request::List)?.parts;
    println!("{}", picture(Spec::load(paths)?.fabric));
    println!("{}", table(&parts, |pid| ledger_memory(paths, pid)));
    let runtime = tokio::runtime::Runtime::new()?;
    println!("{}", runtime.block_on(machines(paths))?);
    println!("API {}   metalctl: source {}", api_url(), paths.env().display());
    Ok(())
}

fn ledger_memory(paths: &Paths, name: &str) -> Option<u64> {
    ledger::find(&paths.run(), name)?.memory()
}

/// Where things are, drawn.
pub fn picture(fabric: Fabric) -> String {
    let [one, two] = LEAVES;
    if fabric == Fabric::Vm {
        return format!(
            "\
  host ── {EXIT_ADDRESS} ── {EXIT}: metal-server and images on {SERVICE_ADDRESS}
                            │ {CONTROL}
                          exit                     guest, FRR
                            │ BGP unnumbered, default route
                          spine                    guest, FRR
                 ┌──────────┴──────────┐
             {a:<16}      {b:<16}   guests, FRR, metal-switch, metal-boot
             {a4:<16}      {b4:<16}   boot network of free machines
                 └── swpN ── mN ── swpN ─┘       one QEMU each, a card to either leaf
",
            a = one.name(),
            b = two.name(),
            a4 = one.boot_address(),
            b4 = two.boot_address(),
            CONTROL = CONTROL_LINK[1],
        );
    }
    format!(
        "\
  host ── {EXIT_ADDRESS} ── {EXIT}: metal-server and images on {SERVICE_ADDRESS}, FRR
                            │ BGP unnumbered, default route
                 ┌──────────┴──────────┐
             {a}           {b}    FRR, metal-switch, metal-boot
             {a4}              {b4}       boot network of free machines
                 └── swpN ── mN ── swpN ─┘       one QEMU each, a card to either leaf
",
        a = one.namespace(),
        b = two.namespace(),
        a4 = one.boot_address(),
        b4 = two.boot_address(),
    )
}

fn table(parts: &[State], memory: impl Fn(&str) -> Option<u64>) -> String {
    let mut text = format!("{:<16} {:>8} {:>8} {:>9} {}\n", "part", "pid", "MiB", "up", "restarts");
    for part in parts {
        let pid = part.pid.map_or_else(|| "down".to_owned(), |pid| pid.to_string());
        let memory = memory(&part.name).map_or_else(|| "-".to_owned(), |mib| mib.to_string());
        let up = format!("{} s", part.seconds);
        writeln!(text, "{:<16} {pid:>8} {memory:>8} {up:>9} {}", part.name, part.restarts)
            .expect("text");
    }
    text
}

async fn machines(paths: &Paths) -> Result<String> {
    let client = api::client(paths, api::ADMIN)?.with_patience(Duration::from_secs(1));
    let mut text = String::new();
    for machine in Machine::every().filter(|m| Shape::load(paths, *m).is_ok()) {
        let power = if power::is_on(paths, machine) { "on" } else { "off" };
        let state = match api::machine(&client, &machine.uuid()).await {
            Ok(known) => api::describe(known.as_ref()),
            Err(error) => format!("{error:#}"),
        };
        writeln!(text, "{:<4} {} {power:<3} {state}", machine.to_string(), machine.uuid())?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_down_is_seen() {
        let part = |name: &str, pid| State { name: name.into(), pid, restarts: 2, seconds: 7 };
        let text = table(&[part("server", Some(17)), part("leaf01-boot", None)], |_| Some(30));
        expect_test::expect![[r#"
            part                  pid      MiB        up restarts
            server                 17       30       7 s 2
            leaf01-boot          down       30       7 s 2
        "#]]
        .assert_eq(&text);
    }
}
