//! The table of all states and events, as text.

use std::fmt::Write;

use expect_test::expect_file;
use model::provisioning::{Event, History, Keep, RECLAIM_GRACE_US, outlook, step};
use proptest::prelude::*;

fn cell(state: Option<Event>, event: Event, silent_us: i64) -> String {
    let from = |crash_loop, failed_reclaim| {
        let history = History { newest: state, last_event_at_us: 0, crash_loop, failed_reclaim };
        step(history, event, silent_us)
    };
    let (clear, set) = (from(false, false), from(true, true));
    let mut text = match clear.keep {
        Keep::Ignore => "–",
        Keep::Time => "t",
        Keep::Store => "+",
        Keep::Unexpected => "✗",
        Keep::UnexpectedTime => "✗t",
    }
    .to_owned();
    for (name, before, after) in
        [("CL", clear.crash_loop, set.crash_loop), ("FR", clear.failed_reclaim, set.failed_reclaim)]
    {
        match (before, after) {
            (true, true) => write!(text, " {name}=1").unwrap(),
            (false, false) => write!(text, " {name}=0").unwrap(),
            _ => {}
        }
    }
    text
}

#[test]
fn every_state_and_event() {
    let mut text = "# What becomes of an event\n\n\
        `+` stored, `t` only the time, `–` ignored, `✗` stored as unexpected, `✗t` unexpected and not stored; CL crash loop, FR failed reclaim.\n\
        Behind `/`: when the last event is 5 minutes old or more.\n\n"
        .to_owned();
    text += "| from |";
    for event in Event::ALL {
        write!(text, " {} |", event.name()).unwrap();
    }
    text += "\n|---|";
    text += &"---|".repeat(Event::ALL.len());
    let states = std::iter::once(None).chain(Event::ALL.into_iter().skip(1).map(Some));
    for state in states {
        write!(text, "\n| {} |", state.map_or("Initial", Event::name)).unwrap();
        for event in Event::ALL {
            let (early, late) = (cell(state, event, 0), cell(state, event, RECLAIM_GRACE_US + 1));
            if early == late {
                write!(text, " {early} |").unwrap();
            } else {
                write!(text, " {early} / {late} |").unwrap();
            }
        }
    }
    text += "\n";
    expect_file!["provisioning.md"].assert_eq(&text);
}

proptest! {
    /// Whatever happened before, a machine that goes the whole way has no flag left.
    #[test]
    fn the_whole_way_clears_all_flags(events in proptest::collection::vec((0_usize..11, 0_i64..900_000_000), 0..40)) {
        let mut history = History { newest: None, last_event_at_us: 0, crash_loop: false, failed_reclaim: false };
        let mut now = 0;
        let mut go = |history: &mut History, event: Event, after: i64| {
            now += after;
            let step = step(*history, event, now);
            if matches!(step.keep, Keep::Store | Keep::Unexpected) { history.newest = Some(event); }
            if step.keep != Keep::Ignore { history.last_event_at_us = now; }
            history.crash_loop = step.crash_loop;
            history.failed_reclaim = step.failed_reclaim;
        };
        for (event, after) in events { go(&mut history, Event::ALL[event], after); }
        for event in [Event::MachineReclaim, Event::PxeBooting, Event::Preparing, Event::Registering, Event::Waiting, Event::Installing, Event::BootingNewKernel, Event::PhonedHome] {
            go(&mut history, event, 1_000_000);
        }
        prop_assert_eq!(history.newest, Some(Event::PhonedHome));
        prop_assert!(!history.crash_loop && !history.failed_reclaim);
    }
}

#[test]
fn every_state_says_what_comes_next() {
    let mut text = "# What a machine waits for\n\n\
        Its deadline in seconds after the event; none where it may rest for ever.\n\n\
        | newest event | free | allocated | hint when overdue |\n|---|---|---|---|\n"
        .to_owned();
    for state in std::iter::once(None).chain(Event::ALL.into_iter().map(Some)) {
        let cell = |allocated| {
            let found = outlook(state, allocated);
            let deadline = found.within_s.map_or(String::new(), |s| format!(" ({s} s)"));
            format!("{}{deadline}", found.waiting_for)
        };
        let hints = [outlook(state, false).hint, outlook(state, true).hint];
        let hint = if hints[0] == hints[1] { hints[0].to_owned() } else { hints.concat() };
        let name = state.map_or("none", Event::name);
        writeln!(text, "| {name} | {} | {} | {hint} |", cell(false), cell(true)).unwrap();
        assert!(outlook(state, true).within_s.is_none() || !hint.is_empty(), "{name}");
    }
    expect_file!["outlook.md"].assert_eq(&text);
}
