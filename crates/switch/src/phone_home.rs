//! Installed systems tell by LLDP that they run. Anybody can send such a frame, so only the machine that the control
//! plane knows on that port is believed, and only while the port is allocated. Pure: frames and time are arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lldp::{ChassisId, Frame};
use uuid::Uuid;

use crate::desired::{Desired, Place};

/// The word by which an installed system is known.
const WORD: &str = "provisioned";
/// A machine repeats itself every few seconds; the control plane wants to know once a minute.
const REPEAT: Duration = Duration::from_secs(60);

/// What a frame means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The machine runs: tell the control plane.
    Home {
        /// Who.
        machine: Uuid,
        /// What it says.
        message: String,
    },
    /// Nothing new.
    Nothing,
    /// Not believed, for the log.
    Refused(String),
}

/// What was heard on each port.
#[derive(Debug, Default)]
pub struct PhoneHome {
    told: BTreeMap<String, Instant>,
}

impl PhoneHome {
    /// A frame came in.
    pub fn hear(&mut self, port: &str, frame: &Frame, desired: &Desired, now: Instant) -> Heard {
        let Some(message) = frame.system_description.as_ref().filter(|text| text.contains(WORD))
        else {
            return Heard::Nothing;
        };
        let Some(wish) = desired.ports.get(port) else {
            return Heard::Refused(format!("the control plane does not know port {port}"));
        };
        if !matches!(wish.place, Place::Tenant(_) | Place::Fabric) {
            // The next allocation of this port is to be told at once.
            self.told.remove(port);
            return Heard::Refused(format!("port {port} is not allocated"));
        }
        let Some(machine) = machine(frame) else {
            return Heard::Refused("it does not say which machine it is".to_owned());
        };
        if let Some(expected) = wish.machine
            && expected != machine
        {
            return Heard::Refused(format!(
                "it says that it is {machine}, but {expected} hangs on {port}"
            ));
        }
        if self.told.get(port).is_some_and(|told| now.duration_since(*told) < REPEAT) {
            return Heard::Nothing;
        }
        self.told.insert(port.to_owned(), now);
        Heard::Home { machine, message: message.clone() }
    }

    /// The control plane did not hear it: the next frame counts again.
    pub fn forget(&mut self, port: &str) {
        self.told.remove(port);
    }
}

/// The machine's id: its chassis or, as the installed system has it, its name.
fn machine(frame: &Frame) -> Option<Uuid> {
    let chassis = match &frame.chassis_id {
        ChassisId::Local(text) => Uuid::parse_str(text).ok(),
        _ => None,
    };
    chassis.or_else(|| Uuid::parse_str(frame.system_name.as_deref()?).ok())
}

#[cfg(test)]
mod tests {
    use lldp::PortId;

    use super::*;
    use crate::desired::tests::{nic, switch};

    const MACHINE: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

    fn frame(machine: &str, description: &str) -> Frame {
        let mut frame = Frame::new(
            ChassisId::Mac([2, 0, 0, 0, 0, 1]),
            PortId::InterfaceName("lan0".into()),
            30,
        );
        frame.system_name = Some(machine.to_owned());
        frame.system_description = Some(description.to_owned());
        frame
    }

    fn desired(vrf: Option<&str>, machine: Option<Uuid>) -> Desired {
        let mut desired = Desired::read(&switch(vec![nic("swp1", vrf, &[])]), 1);
        desired.ports.get_mut("swp1").unwrap().machine = machine;
        desired
    }

    fn home() -> Frame {
        frame(&MACHINE.to_string(), "provisioned since 2026-11-21T07:00:00Z")
    }

    #[test]
    fn at_once_and_then_once_a_minute() {
        let (mut ears, now) = (PhoneHome::default(), Instant::now());
        let desired = desired(Some("vrf1"), Some(MACHINE));
        let told = Heard::Home {
            machine: MACHINE,
            message: "provisioned since 2026-11-21T07:00:00Z".into(),
        };
        assert_eq!(ears.hear("swp1", &home(), &desired, now), told);
        assert_eq!(
            ears.hear("swp1", &home(), &desired, now + Duration::from_secs(59)),
            Heard::Nothing
        );
        assert_eq!(ears.hear("swp1", &home(), &desired, now + Duration::from_secs(60)), told);
        ears.forget("swp1");
        assert_eq!(ears.hear("swp1", &home(), &desired, now + Duration::from_secs(61)), told);
    }

    #[test]
    fn only_who_belongs_there() {
        let mut ears = PhoneHome::default();
        let mut hear = |port: &str, frame: &Frame, desired: &Desired| match ears.hear(
            port,
            frame,
            desired,
            Instant::now(),
        ) {
            Heard::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let other = Uuid::from_u128(7);
        assert!(
            hear("swp1", &home(), &desired(Some("vrf1"), Some(other))).contains("hangs on swp1")
        );
        assert!(hear("swp1", &home(), &desired(None, Some(MACHINE))).contains("not allocated"));
        assert!(
            hear("swp9", &home(), &desired(Some("vrf1"), Some(MACHINE))).contains("does not know")
        );
        assert!(
            hear("swp1", &frame("m1", "provisioned since x"), &desired(Some("vrf1"), None))
                .contains("which machine")
        );
    }

    #[test]
    fn installers_and_strangers_are_not_at_home() {
        let desired = desired(Some("vrf1"), Some(MACHINE));
        let installer = frame(&MACHINE.to_string(), "metal-installer waiting");
        assert_eq!(
            PhoneHome::default().hear("swp1", &installer, &desired, Instant::now()),
            Heard::Nothing
        );
    }

    #[test]
    fn the_chassis_counts_before_the_name() {
        let mut frame = home();
        frame.chassis_id = ChassisId::Local(MACHINE.to_string());
        frame.system_name = Some("m1".into());
        assert_eq!(machine(&frame), Some(MACHINE));
    }

    #[test]
    fn a_port_that_was_free_in_between_is_told_at_once() {
        let (mut ears, now) = (PhoneHome::default(), Instant::now());
        let (allocated, free) = (desired(Some("vrf1"), None), desired(None, None));
        assert!(matches!(ears.hear("swp1", &home(), &allocated, now), Heard::Home { .. }));
        assert!(matches!(ears.hear("swp1", &home(), &free, now), Heard::Refused(_)));
        assert!(matches!(ears.hear("swp1", &home(), &allocated, now), Heard::Home { .. }));
    }
}
