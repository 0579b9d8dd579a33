//! Numbers, one machine at a time, so that they mean something on two cores.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use super::provision::median;
use super::stage::Stage;
use super::timeline;
use crate::power;
use crate::topology::Machine;

pub(super) async fn play(stage: &Stage, rounds: u8) -> Result<String> {
    stage.all_wait().await?;
    let machine = Machine { number: 1 };
    // the others would take the processor
    for other in Machine::all(stage.spec.machines).skip(1) {
        power::off(&stage.paths, other)?;
    }
    let mut numbers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        power::off(&stage.paths, machine)?;
        let before = event_count(stage, machine).await?;
        let begin = Instant::now();
        power::on(&stage.paths, machine)?;
        stage
            .until(machine, super::stage::TO_WAITING, "waiting anew", |m| {
                crate::api::waits(m) && last_time(m) > before
            })
            .await?;
        put(&mut numbers, "power-on → waiting", begin.elapsed().as_secs_f64());

        let wish = stage.wish(machine, &format!("bench-{round}"));
        let begin = Instant::now();
        stage.create(&wish).await?;
        put(&mut numbers, "create call", begin.elapsed().as_secs_f64());
        stage.until_phoned_home(machine).await?;
        put(&mut numbers, "allocate → phoned home", begin.elapsed().as_secs_f64());
        for phase in timeline::print(stage, machine, &wish.project).await? {
            put(&mut numbers, &format!("  {}", phase.name), timeline::duration(&phase));
        }
        let begin = Instant::now();
        stage.give_back(machine, &wish.project).await?;
        put(&mut numbers, "delete → waiting", begin.elapsed().as_secs_f64());
    }
    for other in Machine::all(stage.spec.machines).skip(1) {
        power::on(&stage.paths, other)?;
    }
    Ok(table(&mut numbers, rounds))
}

fn put(numbers: &mut BTreeMap<String, Vec<f64>>, name: &str, seconds: f64) {
    numbers.entry(name.to_owned()).or_default().push(seconds);
}

/// Time of the newest event: a state that was there before does not count.
fn last_time(machine: &proto::api::Machine) -> (i64, i32) {
    let events = machine.recent_provisioning_events.as_option();
    let time = events.and_then(|events| events.last_event_time.as_option());
    time.map_or((0, 0), |time| (time.seconds, time.nanos))
}

async fn event_count(stage: &Stage, machine: Machine) -> Result<(i64, i32)> {
    Ok(last_time(&stage.look(machine).await?))
}

fn table(numbers: &mut BTreeMap<String, Vec<f64>>, rounds: u8) -> String {
    let mut text = format!("{:<28}{:>9}{:>9}   ({rounds} rounds)\n", "seconds", "p50", "max");
    for (name, values) in numbers {
        values.sort_by(f64::total_cmp);
        let max = values.last().copied().unwrap_or_default();
        text.push_str(&format!("{name:<28}{:>9.2}{max:>9.2}\n", median(values)));
    }
    text.trim_end().to_owned()
}
