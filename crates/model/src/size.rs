//! Kinds of hardware: which machine is of which size.

mod glob;

pub use glob::Glob;

/// What part of the hardware a constraint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sum of cores over the processors whose model fits.
    Cores,
    /// Memory in bytes.
    Memory,
    /// Sum of bytes over the disks whose path fits.
    Storage,
    /// Number of GPUs whose model fits.
    Gpu,
}

/// A range for one part of the hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Which part.
    pub kind: Kind,
    /// Smallest value, included.
    pub min: u64,
    /// Greatest value, included.
    pub max: u64,
    /// For which models or paths; none: all.
    pub identifier: Option<Glob>,
}

/// Hardware as far as sizes ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Bytes.
    pub memory: u64,
    /// Model and cores of each processor.
    pub cpus: Vec<(String, u64)>,
    /// Path and bytes of each disk.
    pub disks: Vec<(String, u64)>,
    /// Model of each GPU.
    pub gpus: Vec<String>,
}

/// What is wrong with the constraints of one size, if something is.
///
/// # Errors
/// A sentence that names the constraint by its number, counted from 0.
pub fn check(constraints: &[Constraint]) -> Result<(), String> {
    for (i, constraint) in constraints.iter().enumerate() {
        let refuse =
            |what: &str| Err(format!("constraint {i} ({}): {what}", name(constraint.kind)));
        if constraint.min > constraint.max {
            return refuse("min is greater than max");
        }
        match constraint.kind {
            Kind::Gpu if constraint.identifier.is_none() => {
                return refuse("an identifier is required: the model of the GPU, or * for all");
            }
            Kind::Memory if constraint.identifier.is_some() => {
                return refuse("memory has no identifier: leave it out");
            }
            _ => {}
        }
        let once = matches!(constraint.kind, Kind::Memory | Kind::Cores);
        if once && constraints[..i].iter().any(|other| other.kind == constraint.kind) {
            return refuse("allowed only once in a size");
        }
    }
    Ok(())
}

/// Whether the hardware meets every constraint and no part of it is left uncovered: a machine with a GPU is never of a size
/// that names none.
#[must_use]
pub fn matches(constraints: &[Constraint], hardware: &Hardware) -> bool {
    let covered = |kind, name: &str| constraints.iter().any(|c| c.kind == kind && c.fits(name));
    constraints.iter().all(|c| (c.min..=c.max).contains(&c.measure(hardware)))
        && covered(Kind::Memory, "")
        && hardware.cpus.iter().all(|(model, _)| covered(Kind::Cores, model))
        && hardware.disks.iter().all(|(path, _)| covered(Kind::Storage, path))
        && hardware.gpus.iter().all(|model| covered(Kind::Gpu, model))
}

/// Whether one machine could be of both sizes. Ranges are compared per kind and identifier; different identifiers are taken for
/// different hardware. A size without constraints overlaps every other.
#[must_use]
pub fn overlap(a: &[Constraint], b: &[Constraint]) -> bool {
    if a.is_empty() || b.is_empty() {
        return true;
    }
    let subjects = |of: &[Constraint]| {
        let mut subjects: Vec<_> = of.iter().map(Constraint::subject).collect();
        subjects.sort();
        subjects.dedup();
        subjects
    };
    subjects(a) == subjects(b)
        && a.iter().all(|x| {
            b.iter()
                .filter(|y| x.subject() == y.subject())
                .all(|y| x.min <= y.max && y.min <= x.max)
        })
}

impl Constraint {
    fn subject(&self) -> (Kind, String) {
        (self.kind, self.identifier.as_ref().map_or("*", Glob::as_str).to_owned())
    }

    fn fits(&self, name: &str) -> bool {
        self.identifier.as_ref().is_none_or(|glob| glob.matches(name))
    }

    fn measure(&self, hardware: &Hardware) -> u64 {
        let sum = |parts: &[(String, u64)]| {
            parts
                .iter()
                .filter(|(name, _)| self.fits(name))
                .fold(0_u64, |sum, (_, amount)| sum.saturating_add(*amount))
        };
        match self.kind {
            Kind::Cores => sum(&hardware.cpus),
            Kind::Memory => hardware.memory,
            Kind::Storage => sum(&hardware.disks),
            Kind::Gpu => hardware.gpus.iter().filter(|model| self.fits(model)).count() as u64,
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Cores => "cores",
        Kind::Memory => "memory",
        Kind::Storage => "storage",
        Kind::Gpu => "gpu",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cores 1-4`, `storage 1-9 /dev/nvme*`; several with commas.
    fn size(text: &str) -> Vec<Constraint> {
        text.split(',')
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let kind = match words[0] {
                    "cores" => Kind::Cores,
                    "memory" => Kind::Memory,
                    "storage" => Kind::Storage,
                    _ => Kind::Gpu,
                };
                let (min, max) = words[1].split_once('-').expect("a range");
                let number = |text: &str| text.parse().expect("a number");
                let identifier = words.get(2).map(|text| Glob::parse(text).expect("a pattern"));
                Constraint { kind, min: number(min), max: number(max), identifier }
            })
            .collect()
    }

    fn hardware() -> Hardware {
        Hardware {
            memory: 8,
            cpus: vec![("Xeon".to_owned(), 4), ("Xeon".to_owned(), 4)],
            disks: vec![("/dev/sda".to_owned(), 10), ("/dev/nvme0n1".to_owned(), 100)],
            gpus: vec![],
        }
    }

    #[test]
    fn a_machine_fits_when_all_is_met_and_nothing_is_left() {
        let fits = |text: &str| matches(&size(text), &hardware());
        assert!(fits("cores 8-8, memory 8-8, storage 110-110"));
        assert!(fits("cores 1-9, memory 1-9, storage 10-10 /dev/sd*, storage 1-100 /dev/nvme*"));
        assert!(!fits("cores 1-7, memory 8-8, storage 110-110"), "too many cores");
        assert!(!fits("cores 8-8, memory 9-9, storage 110-110"), "too little memory");
        assert!(!fits("cores 8-8, memory 8-8, storage 10-10 /dev/sd*"), "a disk is left");
        assert!(!fits("cores 8-8, storage 110-110"), "memory is left");
        assert!(!fits("memory 8-8, storage 110-110"), "processors are left");
        assert!(!fits("cores 8-8 Epyc, memory 8-8, storage 110-110"), "another processor");
        assert!(!fits("cores 8-8, memory 8-8, storage 110-110, gpu 1-1 *"), "no GPU");
        assert!(!fits(""));
    }

    #[test]
    fn gpus_are_counted_by_model() {
        let mut hardware = hardware();
        hardware.gpus = vec!["H100".to_owned(), "H100".to_owned()];
        let base = "cores 8-8, memory 8-8, storage 110-110";
        assert!(!matches(&size(base), &hardware), "GPUs are left");
        assert!(matches(&size(&format!("{base}, gpu 2-2 H*")), &hardware));
        assert!(!matches(&size(&format!("{base}, gpu 1-1 H*")), &hardware));
        assert!(!matches(&size(&format!("{base}, gpu 2-2 A100")), &hardware));
    }

    #[test]
    fn wrong_constraints_are_named() {
        let refusal = |text: &str| check(&size(text)).expect_err(text);
        assert_eq!(
            check(&size("cores 1-2, memory 1-2, storage 1-2 a*, storage 1-2, gpu 1-1 *")),
            Ok(())
        );
        assert!(refusal("cores 1-2, memory 2-1").starts_with("constraint 1 (memory): min"));
        assert!(refusal("gpu 1-1").contains("identifier is required"));
        assert!(refusal("memory 1-1 x").contains("no identifier"));
        assert!(
            refusal("cores 1-1, cores 2-2").starts_with("constraint 1 (cores): allowed only once")
        );
        assert!(refusal("memory 1-1, memory 2-2").contains("only once"));
    }

    #[test]
    fn sizes_that_one_machine_could_meet_overlap() {
        let both = |a: &str, b: &str| {
            assert_eq!(overlap(&size(a), &size(b)), overlap(&size(b), &size(a)), "symmetric");
            overlap(&size(a), &size(b))
        };
        assert!(both("cores 1-4, memory 1-4", "cores 4-8, memory 2-3"));
        assert!(!both("cores 1-4, memory 1-4", "cores 5-8, memory 1-4"));
        assert!(!both("cores 1-4, memory 1-4", "cores 1-4, memory 5-8"));
        assert!(!both("cores 1-4", "cores 1-4, gpu 1-1 *"), "a GPU is never left uncovered");
        assert!(!both("gpu 1-1 A*", "gpu 1-1 H*"));
        assert!(both("gpu 1-1 A*", "gpu 1-2 A*"));
        assert!(both("storage 1-9 *", "storage 1-9"), "no identifier means all");
        let two = "storage 1-2 /dev/sd*, storage 8-9 /dev/nvme*";
        assert!(both(two, two), "several constraints of one kind");
        assert!(!both(two, "storage 1-2 /dev/sd*, storage 1-7 /dev/nvme*"));
        assert!(both("", "cores 1-1"));
    }
}
