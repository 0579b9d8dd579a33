//! Life of a machine between power-on and release, as its events tell it: a total function from what was last stored and what
//! comes now to what becomes of it. The table of all pairs is in `tests/provisioning.md`, as in the contract's reference.

/// What a machine, or somebody who sees it, tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Sign of life between two steps; never stored.
    Alive,
    /// The installer gave up.
    Crashed,
    /// The firmware asked what to boot.
    PxeBooting,
    /// A reboot on purpose.
    PlannedReboot,
    /// The installer runs.
    Preparing,
    /// The installer tells what it found.
    Registering,
    /// The machine can be allocated.
    Waiting,
    /// The installer writes the disks.
    Installing,
    /// The installed system is about to start.
    BootingNewKernel,
    /// The installed system runs.
    PhonedHome,
    /// The machine was released.
    MachineReclaim,
}

impl Event {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::Alive,
        Self::Crashed,
        Self::PxeBooting,
        Self::PlannedReboot,
        Self::Preparing,
        Self::Registering,
        Self::Waiting,
        Self::Installing,
        Self::BootingNewKernel,
        Self::PhonedHome,
        Self::MachineReclaim,
    ];

    /// The name that users read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "Alive",
            Self::Crashed => "Crashed",
            Self::PxeBooting => "PXE Booting",
            Self::PlannedReboot => "Planned Reboot",
            Self::Preparing => "Preparing",
            Self::Registering => "Registering",
            Self::Waiting => "Waiting",
            Self::Installing => "Installing",
            Self::BootingNewKernel => "Booting New Kernel",
            Self::PhonedHome => "Phoned Home",
            Self::MachineReclaim => "Machine Reclaim",
        }
    }
}

/// An operating system that was released may phone home for so long, because its last frames are still under way.
pub const RECLAIM_GRACE_US: i64 = 5 * 60 * 1_000_000;

/// What is known before an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// The newest stored event.
    pub newest: Option<Event>,
    /// When the last event came, stored or not, in microseconds.
    pub last_event_at_us: i64,
    /// It began again without reaching its goal.
    pub crash_loop: bool,
    /// The former system still ran after its release.
    pub failed_reclaim: bool,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As if it had never come.
    Ignore,
    /// Only the time of the last event changes.
    Time,
    /// It is stored.
    Store,
    /// It is stored and marked, because it makes no sense here.
    Unexpected,
    /// It makes no sense here and is a mere sign of life: marked as the last error, not stored.
    UnexpectedTime,
}

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happens to the event itself.
    pub keep: Keep,
    /// Whether the machine is in a crash loop now.
    pub crash_loop: bool,
    /// Whether its reclaim has failed now.
    pub failed_reclaim: bool,
    /// Whether the event becomes the last error.
    pub error: bool,
}

/// Judges an event.
#[must_use]
pub fn step(history: History, event: Event, now_us: i64) -> Step {
    use Event as E;
    let History { newest, last_event_at_us, crash_loop, failed_reclaim } = history;
    let at = |keep, crash_loop, failed_reclaim| Step {
        keep,
        crash_loop,
        failed_reclaim,
        error: matches!(keep, Keep::Unexpected | Keep::UnexpectedTime),
    };
    let stored = at(Keep::Store, crash_loop, failed_reclaim);
    let unexpected = at(Keep::Unexpected, crash_loop, failed_reclaim);
    let sign_of_life = at(Keep::Time, crash_loop, failed_reclaim);
    let grace = now_us - last_event_at_us < RECLAIM_GRACE_US;

    // what ends every state
    match event {
        E::PlannedReboot | E::MachineReclaim => return at(Keep::Store, false, failed_reclaim),
        _ => {}
    }
    let Some(state) = newest.filter(|newest| *newest != E::Alive) else {
        return match event {
            E::Alive => sign_of_life,
            E::Crashed => Step { error: true, ..at(Keep::Store, true, failed_reclaim) },
            E::PhonedHome => at(Keep::Store, false, failed_reclaim),
            E::PxeBooting | E::Preparing => at(Keep::Store, crash_loop, false),
            _ => stored,
        };
    };
    let settled =
        matches!(state, E::PhonedHome | E::PlannedReboot | E::MachineReclaim | E::Crashed);
    match (state, event) {
        (_, E::Alive) if settled => at(Keep::UnexpectedTime, crash_loop, failed_reclaim),
        (_, E::Alive) => sign_of_life,
        (_, E::Crashed) if settled => unexpected,
        (_, E::Crashed) => Step { error: true, ..at(Keep::Store, true, failed_reclaim) },

        (E::PxeBooting, E::PxeBooting) => at(Keep::Time, crash_loop, false),
        (E::PxeBooting | E::PlannedReboot | E::MachineReclaim | E::Crashed, E::Preparing)
        | (E::PlannedReboot | E::MachineReclaim | E::Crashed, E::PxeBooting) => {
            at(Keep::Store, crash_loop, false)
        }
        (_, E::PxeBooting | E::Preparing) => at(Keep::Unexpected, true, failed_reclaim),

        (E::Preparing, E::Registering)
        | (E::Registering, E::Waiting | E::Installing)
        | (E::Waiting, E::Installing)
        | (E::Installing, E::BootingNewKernel) => stored,
        (E::BootingNewKernel | E::PlannedReboot, E::PhonedHome) => {
            at(Keep::Store, false, failed_reclaim)
        }

        (E::PhonedHome, E::PhonedHome) => sign_of_life,
        (E::PxeBooting | E::Preparing | E::Registering | E::Waiting, E::PhonedHome) if grace => {
            at(Keep::Ignore, crash_loop, failed_reclaim)
        }
        (E::PxeBooting, E::PhonedHome) => at(Keep::Time, crash_loop, false),
        (E::Preparing, E::PhonedHome) => at(Keep::Store, crash_loop, false),
        (E::Registering | E::Waiting, E::PhonedHome) => stored,
        (E::MachineReclaim, E::PhonedHome) if now_us - last_event_at_us <= RECLAIM_GRACE_US => {
            at(Keep::Ignore, crash_loop, failed_reclaim)
        }
        (E::MachineReclaim, E::PhonedHome) => at(Keep::Time, crash_loop, true),
        _ => unexpected,
    }
}

/// The message of an event that came when it made no sense.
#[must_use]
pub fn unexpected_message(newest: Option<Event>, message: &str) -> String {
    let state = newest.map_or_else(|| "initial".to_owned(), |event| event.name().to_lowercase());
    let mark = format!("[unexpectedly received in state {state}]");
    if message.is_empty() { mark } else { format!("{mark}: {message}") }
}

/// What a machine in some state waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// What comes next, for a human.
    pub waiting_for: &'static str,
    /// By when that has happened on a machine that is well, in seconds after the event; `None` where it may rest for ever.
    pub within_s: Option<i64>,
    /// What to look at when it has not.
    pub hint: &'static str,
}

/// What comes after the newest stored event. Real servers need minutes for their firmware, so the times are those of hardware.
#[must_use]
pub fn outlook(newest: Option<Event>, allocated: bool) -> Outlook {
    let next =
        |waiting_for, within_s, hint| Outlook { waiting_for, within_s: Some(within_s), hint };
    let rest = |waiting_for| Outlook { waiting_for, within_s: None, hint: "" };
    match (newest, allocated) {
        (None | Some(Event::Alive), _) => rest("the machine to boot from the network"),
        (Some(Event::PlannedReboot), _) => next(
            "the firmware to boot from the network again",
            900,
            "look at the console: the firmware may wait for a key or boot from disk",
        ),
        (Some(Event::MachineReclaim), _) => next(
            "the switches to take the machine out of its network, then its BMC to reset it into the network boot",
            900,
            "look at the task of the release, the BMC and the boot order",
        ),
        (Some(Event::PxeBooting), _) => next(
            "kernel and installer to load",
            180,
            "look at the console and at the boot service: the kernel may not load",
        ),
        (Some(Event::Preparing), _) => next(
            "the installer to find its disks, network cards and switches",
            300,
            "look at the console: fewer than two switches may be heard by LLDP",
        ),
        (Some(Event::Registering), _) => next(
            "the installer to wipe the disks",
            1800,
            "look at the console: a large disk without secure erase takes long, a broken one for ever",
        ),
        (Some(Event::Waiting), false) => rest("somebody to allocate it"),
        (Some(Event::Waiting), true) => next(
            "the installer to begin with its allocation",
            60,
            "look at the log of the installer: it may have lost the control plane",
        ),
        (Some(Event::Installing), _) => next(
            "the image to be written to the disk",
            900,
            "look at the console: the image server may be slow or away",
        ),
        (Some(Event::BootingNewKernel), _) => next(
            "the installed system to boot and phone home",
            600,
            "look at the console: the image may not boot on this hardware or announce nothing by LLDP",
        ),
        (Some(Event::PhonedHome), true) => rest("nothing, the machine is in use"),
        (Some(Event::PhonedHome), false) => next(
            "the former system to end, the machine is free",
            300,
            "the BMC did not reset the machine: power it off or reset it by hand",
        ),
        (Some(Event::Crashed), _) => next(
            "the machine to boot again after the installer gave up",
            300,
            "the last error event and the console tell why",
        ),
    }
}
