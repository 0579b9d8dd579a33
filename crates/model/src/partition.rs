//! Partitions: how many of their machines are in use, free or faulty.

use std::collections::BTreeMap;

use crate::size_reservation::{self, Reserved};

/// What a machine did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// The installed operating system runs.
    PhonedHome,
    /// It waits for an allocation.
    Waiting,
    /// Anything else, or never heard of.
    Other,
}

/// A machine as far as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its id.
    pub id: String,
    /// Its size.
    pub size: String,
    /// To which project it belongs; none: free.
    pub project: Option<String>,
    /// Newest event.
    pub doing: Doing,
    /// Waits, alive, and nothing holds it back.
    pub electable: bool,
    /// Has an issue that is more than an unexpected last event.
    pub faulty: bool,
}

/// Numbers of machines of one size in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// All machines.
    pub total: u64,
    /// Newest event is Phoned Home.
    pub phoned_home: u64,
    /// Newest event is Waiting.
    pub waiting: u64,
    /// Ids of those with another newest event.
    pub other: Vec<String>,
    /// Belong to a project.
    pub allocated: u64,
    /// Free and could be taken now.
    pub allocatable: u64,
    /// Of those, what is not kept for other projects.
    pub free: u64,
    /// Neither allocated nor allocatable.
    pub unavailable: u64,
    /// Ids of those with issues.
    pub faulty: Vec<String>,
    /// Sum of what projects were promised.
    pub reserved: u64,
    /// How much of it they have.
    pub reserved_used: u64,
}

/// Counts the machines of one partition by size. `project` is for whom free machines are counted; its own reservations keep
/// none from it.
#[must_use]
pub fn capacity(
    machines: &[Machine],
    reserved: &BTreeMap<String, Vec<Reserved>>,
    project: Option<&str>,
) -> BTreeMap<String, Capacity> {
    let mut sizes: BTreeMap<String, (Capacity, BTreeMap<String, u64>)> = BTreeMap::new();
    for machine in machines {
        let (capacity, allocated) = sizes.entry(machine.size.clone()).or_default();
        capacity.count(machine);
        if let Some(project) = &machine.project {
            *allocated.entry(project.clone()).or_default() += 1;
        }
    }
    sizes
        .into_iter()
        .map(|(size, (mut capacity, allocated))| {
            let promises = reserved.get(&size).map_or(&[][..], Vec::as_slice);
            capacity.reserved = promises.iter().map(|r| r.amount).sum();
            capacity.reserved_used = size_reservation::used(promises, &allocated);
            let kept = size_reservation::kept_from(project, promises, &allocated);
            capacity.free = capacity.allocatable.saturating_sub(kept);
            (size, capacity)
        })
        .collect()
}

impl Capacity {
    fn count(&mut self, machine: &Machine) {
        self.total += 1;
        match machine.doing {
            Doing::PhonedHome => self.phoned_home += 1,
            Doing::Waiting => self.waiting += 1,
            Doing::Other => self.other.push(machine.id.clone()),
        }
        match (&machine.project, machine.electable) {
            (Some(_), _) => self.allocated += 1,
            (None, true) => self.allocatable += 1,
            (None, false) => self.unavailable += 1,
        }
        if machine.faulty {
            self.faulty.push(machine.id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `id size owner doing`, where `owner` is a project, `free` or `held`.
    fn machines(text: &str) -> Vec<Machine> {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                Machine {
                    id: words[0].to_owned(),
                    size: words[1].to_owned(),
                    project: Some(words[2].to_owned()).filter(|w| w != "free" && w != "held"),
                    electable: words[2] == "free",
                    doing: match words[3] {
                        "home" => Doing::PhonedHome,
                        "waiting" => Doing::Waiting,
                        _ => Doing::Other,
                    },
                    faulty: words.contains(&"faulty"),
                }
            })
            .collect()
    }

    fn promise(project: &str, amount: u64) -> Reserved {
        Reserved { project: project.to_owned(), amount }
    }

    #[test]
    fn every_machine_is_counted_once_by_use_and_once_by_event() {
        let machines = machines(
            "m1 c1 a home
             m2 c1 free waiting
             m3 c1 held dead faulty
             m4 c2 b home faulty",
        );
        let sizes = capacity(&machines, &BTreeMap::new(), None);
        assert_eq!(sizes.len(), 2);
        let expected = Capacity {
            total: 3,
            phoned_home: 1,
            waiting: 1,
            other: vec!["m3".to_owned()],
            allocated: 1,
            allocatable: 1,
            free: 1,
            unavailable: 1,
            faulty: vec!["m3".to_owned()],
            ..Capacity::default()
        };
        assert_eq!(sizes["c1"], expected);
        assert_eq!(sizes["c2"].faulty, ["m4"]);
    }

    #[test]
    fn reservations_keep_machines_from_others_only() {
        let machines = machines(
            "m1 c1 a home
             m2 c1 free waiting
             m3 c1 free waiting
             m4 c1 free waiting",
        );
        let reserved = BTreeMap::from([("c1".to_owned(), vec![promise("a", 2), promise("b", 1)])]);
        let free = |project| capacity(&machines, &reserved, project)["c1"].free;
        assert_eq!(free(None), 1);
        assert_eq!(free(Some("a")), 2);
        assert_eq!(free(Some("b")), 2);
        assert_eq!(free(Some("c")), 1);
        let all = capacity(&machines, &reserved, None);
        assert_eq!((all["c1"].reserved, all["c1"].reserved_used), (3, 1));

        let much = BTreeMap::from([("c1".to_owned(), vec![promise("b", 9)])]);
        assert_eq!(capacity(&machines, &much, None)["c1"].free, 0, "never below 0");
    }
}
