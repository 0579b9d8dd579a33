//! What the control plane says, in order. Pure: time is an argument, saving is the caller's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::api;

use crate::desired::{Admin, Desired};
use crate::saved::Saved;

/// A message of the past arrives once and is gone. Who insists on a smaller generation for so long has been set back,
/// for instance by a restored backup.
const INSISTENCE: Duration = Duration::from_secs(120);

/// What was said last.
#[derive(Debug)]
pub(crate) struct Intake {
    saved: Saved,
    desired: Option<Arc<Desired>>,
    older_since: Option<Instant>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is to be saved and applied.
    New(Arc<Desired>),
    /// It was known.
    Same,
    /// It is of the past.
    Old,
}

impl Intake {
    /// Goes on from what was saved.
    pub(crate) fn new(saved: Saved) -> Self {
        let desired =
            saved.switch.as_ref().map(|switch| Arc::new(Desired::read(switch, saved.generation)));
        Self { saved, desired, older_since: None }
    }

    pub(crate) fn desired(&self) -> Option<Arc<Desired>> {
        self.desired.clone()
    }

    pub(crate) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The control plane answered a registration. If it had forgotten this switch, or is at an earlier generation, it
    /// counts from the beginning: it has a new database.
    pub(crate) fn registered(&mut self, generation: u64, forgotten: bool) {
        if forgotten || generation < self.saved.generation {
            self.saved.generation = 0;
        }
    }

    /// The control plane said how the switch should be. Without a generation it was asked directly and is right.
    pub(crate) fn offer(
        &mut self,
        switch: api::Switch,
        generation: Option<u64>,
        now: Instant,
    ) -> Taken {
        let generation = generation.unwrap_or(self.saved.generation);
        if generation < self.saved.generation {
            let since = *self.older_since.get_or_insert(now);
            if now.duration_since(since) < INSISTENCE {
                return Taken::Old;
            }
            tracing::warn!(
                known = self.saved.generation,
                generation,
                "the control plane insists on an older generation; was it restored from a backup?"
            );
        }
        self.older_since = None;
        let desired = Desired::read(&switch, generation);
        if self.desired.as_deref() == Some(&desired) {
            return Taken::Same;
        }
        for (name, port) in &desired.ports {
            match port.admin {
                Some(Admin::Down) => {
                    self.saved.down.insert(name.clone());
                }
                Some(Admin::Up) => {
                    self.saved.down.remove(name);
                }
                None => {}
            }
        }
        let desired = Arc::new(desired);
        self.saved.generation = generation;
        self.saved.switch = Some(switch);
        self.desired = Some(desired.clone());
        Taken::New(desired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::tests::{nic, switch};

    fn say(vrf: Option<&str>) -> api::Switch {
        switch(vec![nic("swp1", vrf, &[])])
    }

    #[test]
    fn the_past_is_ignored_unless_somebody_insists() {
        let (mut intake, start) = (Intake::new(Saved::default()), Instant::now());
        assert!(matches!(intake.offer(say(Some("vrf1")), Some(5), start), Taken::New(_)));
        assert_eq!(intake.offer(say(Some("vrf1")), Some(5), start), Taken::Same);
        assert_eq!(intake.offer(say(None), Some(4), start), Taken::Old);
        // Once in a while a late message: no insistence.
        assert!(matches!(intake.offer(say(Some("vrf1")), Some(6), start), Taken::New(_)));
        let later = start + Duration::from_secs(100);
        assert_eq!(intake.offer(say(None), Some(4), later), Taken::Old);
        assert_eq!(intake.offer(say(None), Some(4), later + Duration::from_secs(119)), Taken::Old);
        let insisted = intake.offer(say(None), Some(4), later + Duration::from_secs(120));
        assert!(matches!(insisted, Taken::New(desired) if desired.generation == 4));
    }

    #[test]
    fn a_control_plane_that_has_forgotten_counts_anew() {
        let (mut intake, now) = (Intake::new(Saved::default()), Instant::now());
        intake.offer(say(Some("vrf1")), Some(5), now);
        intake.registered(5, false);
        assert_eq!(intake.offer(say(None), Some(0), now), Taken::Old);
        intake.registered(0, false);
        assert!(
            matches!(intake.offer(say(None), Some(0), now), Taken::New(d) if d.generation == 0)
        );
        intake.offer(say(Some("vrf1")), Some(5), now);
        intake.registered(5, true);
        assert!(matches!(intake.offer(say(None), Some(0), now), Taken::New(_)));
    }

    #[test]
    fn who_is_asked_directly_is_right() {
        let mut intake = Intake::new(Saved { generation: 9, ..Saved::default() });
        let Taken::New(desired) = intake.offer(say(None), None, Instant::now()) else { panic!() };
        assert_eq!(desired.generation, 9);
    }

    #[test]
    fn a_wish_outlives_its_message() {
        let wish = |status: Option<api::SwitchPortStatus>| {
            let mut nic = nic("swp1", None, &[]);
            nic.state =
                api::NicState { desired: status.map(Into::into), ..Default::default() }.into();
            switch(vec![nic])
        };
        let mut intake = Intake::new(Saved::default());
        intake.offer(
            wish(Some(api::SwitchPortStatus::SWITCH_PORT_STATUS_DOWN)),
            Some(1),
            Instant::now(),
        );
        intake.offer(wish(None), Some(2), Instant::now());
        assert!(intake.saved().down.contains("swp1"));
        intake.offer(
            wish(Some(api::SwitchPortStatus::SWITCH_PORT_STATUS_UP)),
            Some(3),
            Instant::now(),
        );
        assert!(intake.saved().down.is_empty());
    }

    #[test]
    fn what_was_saved_counts_from_the_start() {
        let saved = Saved { generation: 3, switch: Some(say(Some("vrf7"))), ..Saved::default() };
        let mut intake = Intake::new(saved);
        assert_eq!(intake.desired().unwrap().generation, 3);
        assert_eq!(intake.offer(say(Some("vrf7")), Some(3), Instant::now()), Taken::Same);
    }
}
