//! Where the seconds went, as the control plane recorded it.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use proto::ext::{Phase, TimelineServiceGetRequest};

use super::stage::Stage;
use crate::topology::Machine;

/// Prints the phases of an allocated machine.
pub(super) async fn print(stage: &Stage, machine: Machine, project: &str) -> Result<Vec<Phase>> {
    let request = TimelineServiceGetRequest {
        uuid: machine.uuid(),
        project: project.to_owned(),
        ..Default::default()
    };
    let answer = stage.client.timeline().get(request).await.context("timeline")?.into_owned();
    println!("{}", table(&machine.to_string(), &answer.phases));
    Ok(answer.phases)
}

fn seconds(phase: &Phase) -> Option<f64> {
    let start = phase.started_at.as_option()?;
    #[expect(clippy::cast_precision_loss, reason = "times of day fit")]
    Some(start.seconds as f64 + f64::from(start.nanos) / 1e9)
}

/// How long a phase took, in seconds.
pub(super) fn duration(phase: &Phase) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "phases are short")]
    phase.duration.as_option().map_or(0.0, |d| d.seconds as f64 + f64::from(d.nanos) / 1e9)
}

/// Start counts from the first phase.
pub(super) fn table(machine: &str, phases: &[Phase]) -> String {
    let zero = phases.iter().filter_map(seconds).fold(f64::INFINITY, f64::min);
    let mut text = format!("{machine:<6}{:<18}{:>9} {:>9}", "phase", "start", "duration");
    for phase in phases {
        let start = seconds(phase).map_or_else(|| "-".to_owned(), |s| format!("{:.1} s", s - zero));
        let took = format!("{:.1} s", duration(phase));
        write!(text, "\n      {:<18}{start:>9} {took:>9}  {}", phase.name, phase.message)
            .expect("text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_count_from_the_first() {
        let phase = |name: &str, seconds: i64, nanos: i32, took: i64, message: &str| Phase {
            name: name.into(),
            started_at: buffa_types::google::protobuf::Timestamp {
                seconds,
                nanos,
                ..Default::default()
            }
            .into(),
            duration: buffa_types::google::protobuf::Duration {
                seconds: took,
                ..Default::default()
            }
            .into(),
            message: message.into(),
            ..Default::default()
        };
        let phases = [
            phase("partition", 100, 500_000_000, 1, ""),
            phase("image", 101, 750_000_000, 12, "57 MiB"),
            Phase { name: "odd".into(), ..Default::default() },
        ];
        expect_test::expect![[r#"
            m1    phase                 start  duration
                  partition             0.0 s     1.0 s  
                  image                 1.2 s    12.0 s  57 MiB
                  odd                       -     0.0 s  "#]]
        .assert_eq(&table("m1", &phases));
    }
}
