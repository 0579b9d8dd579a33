//! The two names of a port: SONiC's own, `Ethernet0`, which the kernel and FRR know, too, and the one on the front panel,
//! its alias: `Eth1/1`, `Ethernet1/1`, `Eth1/1(Port1)`. Everything in this agent and in the control plane is `Ethernet0`;
//! aliases are for people.

use std::collections::BTreeMap;

use super::schema::{self, Rows};

/// Ports with their aliases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    aliases: BTreeMap<String, String>,
}

impl Names {
    /// From the rows of CONFIG_DB.
    pub fn read(config: &Rows) -> Self {
        let port = |(key, fields): (&String, &schema::Fields)| {
            let name = key.strip_prefix("PORT|")?;
            Some((name.to_owned(), fields.get("alias").filter(|a| !a.is_empty())?.clone()))
        };
        Self { aliases: config.iter().filter_map(port).collect() }
    }

    /// For people: `Ethernet0 (Eth1/1)`.
    pub fn both(&self, name: &str) -> String {
        match self.aliases.get(name) {
            Some(alias) if alias != name => format!("{name} ({alias})"),
            _ => name.to_owned(),
        }
    }

    /// SONiC's name of what is printed at a port; whitespace, case and what stands in parentheses do not count.
    pub fn find(&self, alias: &str) -> Option<&str> {
        let wanted = plain(alias);
        let mut found = self.aliases.iter().filter(|(_, alias)| plain(alias) == wanted);
        let (name, _) = found.next()?;
        // Two that are called the same are called nothing.
        found.next().is_none().then_some(name)
    }

    /// What is wrong when a pattern or name of the configuration fits no port: perhaps it is an alias.
    pub fn hint(&self, name: &str) -> String {
        match self.find(name) {
            Some(port) => format!("{name} is printed on the switch; SONiC calls that port {port}"),
            None => format!("the port {name} is not there"),
        }
    }
}

fn plain(alias: &str) -> String {
    let alias = alias.split('(').next().unwrap_or(alias).trim().to_ascii_lowercase();
    // `Ethernet1/1` and `Eth1/1` are two ways to print the same.
    match alias.strip_prefix("ethernet") {
        Some(rest) => format!("eth{rest}"),
        None => alias,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ports: &[(&str, &str)]) -> Names {
        let row = |(name, alias): &(&str, &str)| {
            (format!("PORT|{name}"), [("alias".to_owned(), (*alias).to_owned())].into())
        };
        Names::read(&ports.iter().map(row).collect())
    }

    #[test]
    fn both_names_and_the_way_back() {
        let names = names(&[
            ("Ethernet0", "Eth1/1(Port1)"),
            ("Ethernet4", "Ethernet1/2"),
            ("Ethernet8", "etp3"),
            ("Ethernet12", "Ethernet12"),
        ]);
        assert_eq!(names.both("Ethernet0"), "Ethernet0 (Eth1/1(Port1))");
        assert_eq!(names.both("Ethernet12"), "Ethernet12");
        for (alias, name) in [
            ("Eth1/1", "Ethernet0"),
            ("Eth1/1(Port1)", "Ethernet0"),
            ("eth1/2", "Ethernet4"),
            ("Ethernet1/2", "Ethernet4"),
            ("etp3", "Ethernet8"),
        ] {
            assert_eq!(names.find(alias), Some(name), "{alias}");
        }
        assert_eq!(names.find("Eth1/10"), None);
        assert!(names.hint("Eth1/2").contains("calls that port Ethernet4"));
        assert_eq!(names.hint("Ethernet99"), "the port Ethernet99 is not there");
    }

    #[test]
    fn an_alias_of_two_ports_names_none() {
        assert_eq!(names(&[("Ethernet0", "Eth1"), ("Ethernet4", "eth1")]).find("Eth1"), None);
    }
}
