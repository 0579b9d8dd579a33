//! The kernel's packet filter, through `nft`: what it has, and one transaction to change it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use netconf::firewall::rules::Table;
use serde_json::Value;

/// The program that speaks with the kernel.
#[derive(Clone, Debug)]
pub struct Filter {
    nft: PathBuf,
}

/// Our table as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// All that is in it and does not count by itself; equal texts are equal filters. Empty: there is no table.
    pub shape: String,
    /// What has a name, as `chain x`.
    pub objects: BTreeSet<String>,
    /// Packets and bytes of each counter.
    pub counters: BTreeMap<String, (u64, u64)>,
}

impl Filter {
    /// With this program.
    #[must_use]
    pub fn new(nft: &Path) -> Self {
        Self { nft: nft.to_owned() }
    }

    /// Looks at our table.
    ///
    /// # Errors
    /// `nft` does not run or its answer is not understood.
    pub fn observe(&self) -> Result<Observed> {
        let done = Command::new(&self.nft)
            .args(["-j", "list", "table", "inet", "metal"])
            .output()
            .with_context(|| format!("{} does not run", self.nft.display()))?;
        if !done.status.success() {
            let told = String::from_utf8_lossy(&done.stderr);
            if told.contains("No such file or directory") {
                return Ok(Observed::default());
            }
            bail!("nft cannot list the filter: {}", brief(&told));
        }
        read(&String::from_utf8_lossy(&done.stdout))
    }

    /// Loads a text in one transaction: all of it or nothing.
    ///
    /// # Errors
    /// What the kernel refuses, in nft's words.
    pub fn load(&self, text: &str) -> Result<()> {
        self.run(&["-f", "-"], text)
    }

    /// Whether the kernel would load a text.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn try_out(&self, text: &str) -> Result<()> {
        self.run(&["-c", "-f", "-"], text)
    }

    fn run(&self, arguments: &[&str], text: &str) -> Result<()> {
        let mut child = Command::new(&self.nft)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not run", self.nft.display()))?;
        // nft reads everything before it says anything; one that ends before says why, which tells more than that it did not read
        let stdin = child.stdin.take();
        let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
        let done = child.wait_with_output().context("nft does not end")?;
        if !done.status.success() {
            bail!("nft refuses the rules: {}", brief(&String::from_utf8_lossy(&done.stderr)));
        }
        written.context("nft does not read")
    }
}

/// What makes a router, of either family.
const FORWARDING: [&str; 2] =
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

/// Lets the kernel forward packets or not, whatever the filter says.
///
/// # Errors
/// A setting cannot be written; the other one was tried.
pub fn set_forwarding(on: bool) -> std::io::Result<()> {
    let [four, six] = FORWARDING.map(|path| std::fs::write(path, if on { "1" } else { "0" }));
    four.and(six)
}

/// Whether the kernel forwards packets of both families.
#[must_use]
pub fn forwards() -> bool {
    FORWARDING.iter().all(|path| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1"))
}

/// The first lines of what nft complains about, in one.
fn brief(told: &str) -> String {
    let lines: Vec<_> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[..lines.len().min(3)].join(" · ")
}

/// Understands `nft -j list table`.
///
/// # Errors
/// It is not what nft says.
pub fn read(json: &str) -> Result<Observed> {
    let mut value: Value = serde_json::from_str(json).context("nft's answer is no JSON")?;
    let items = value
        .get_mut("nftables")
        .and_then(Value::as_array_mut)
        .context("nft's answer holds no list")?;
    let mut observed = Observed::default();
    for item in items {
        let Some(fields) = item.as_object_mut() else { continue };
        let Some((kind, body)) = fields.iter_mut().next() else { continue };
        if kind == "metainfo" {
            continue;
        }
        let number =
            |body: &Value, field: &str| body.get(field).and_then(Value::as_u64).unwrap_or(0);
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind == "counter" {
            let counts = (number(body, "packets"), number(body, "bytes"));
            observed.counters.insert(name.clone(), counts);
        }
        if !matches!(kind.as_str(), "table" | "rule") {
            observed.objects.insert(format!("{kind} {name}"));
        }
        if let Some(body) = body.as_object_mut() {
            // what changes by itself
            for field in ["handle", "packets", "bytes", "elem"] {
                body.remove(field);
            }
        }
        observed.shape.push_str(&item.to_string());
        observed.shape.push('\n');
    }
    // the order of what is not a rule says nothing
    let (mut rules, mut rest): (Vec<_>, Vec<_>) =
        observed.shape.lines().map(str::to_owned).partition(|line| line.starts_with("{\"rule\""));
    rest.sort();
    rest.append(&mut rules);
    observed.shape = rest.join("\n");
    Ok(observed)
}

/// What is in the kernel's table beyond what should be, in an order in which it can be deleted: users before what they use.
#[must_use]
pub fn stale(observed: &Observed, table: &Table) -> Vec<String> {
    let wanted: BTreeSet<_> = table.objects().into_iter().collect();
    let mut stale: Vec<_> = observed.objects.difference(&wanted).cloned().collect();
    stale.sort_by_key(|object| !object.starts_with("chain"));
    stale
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "metal", "handle": 1}},
        {"counter": {"family": "inet", "name": "old", "table": "metal", "handle": 8, "packets": 3, "bytes": 180}},
        {"chain": {"family": "inet", "table": "metal", "name": "extra", "handle": 5}},
        {"set": {"family": "inet", "name": "connections4", "table": "metal", "type": "ipv4_addr", "handle": 9, "elem": ["10.0.0.1"]}},
        {"rule": {"family": "inet", "table": "metal", "chain": "extra", "handle": 6, "expr": [{"drop": null}]}}]}"#;

    #[test]
    fn what_counts_by_itself_is_no_change() {
        let one = read(LISTED).unwrap();
        let other = LISTED
            .replace("\"packets\": 3", "\"packets\": 9")
            .replace("\"handle\": 6", "\"handle\": 7")
            .replace("10.0.0.1", "10.0.0.2");
        let other = read(&other).unwrap();
        assert_eq!(one.shape, other.shape);
        assert_eq!((one.counters["old"], other.counters["old"].0), ((3, 180), 9));
        let opened = read(&LISTED.replace("\"drop\"", "\"accept\"")).unwrap();
        assert_ne!(one.shape, opened.shape);
        assert!(read("").is_err() && read("{}").is_err());
    }

    #[test]
    fn one_that_ends_before_it_reads_says_why() {
        // asked for a file that is not there, it does not look at its standard input
        let filter = Filter::new(Path::new("/bin/ls"));
        let error = format!("{:#}", filter.load(&"#\n".repeat(1 << 20)).unwrap_err());
        assert!(error.starts_with("nft refuses the rules: /bin/ls: "), "{error}");
    }

    #[test]
    fn what_is_too_much_goes() {
        let table = netconf::firewall::rules::drop_all(&Default::default());
        assert_eq!(stale(&read(LISTED).unwrap(), &table), ["chain extra", "counter old"]);
    }
}
