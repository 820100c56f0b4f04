//! What holds for every survey, also one that nobody thought of.

use proptest::prelude::*;

use super::*;

const STATES: [&str; 5] = ["UP", "DOWN", "MAINT", "DRAIN", "-"];

/// Up to six machines, each as EC2 and up to three HAProxy hosts have it.
fn surveys() -> impl Strategy<Value = Survey> {
    let life = prop_oneof![5 => Just("live"), 1 => Just("stopped"), 2 => Just("gone")];
    let mark = prop_oneof![8 => Just(""), 1 => Just(" keep"), 1 => Just(" standby")];
    let machine = (life, 0u64..1500, mark, any::<bool>(), any::<bool>());
    let lines = proptest::collection::vec((0usize..7, 0u64..1500), 6);
    let hosts = proptest::collection::vec((0u8..8, lines), 1..4);
    (proptest::collection::vec(machine, 0..7), hosts, any::<bool>()).prop_map(|(machines, hosts, sees)| {
        let mut ec2 = Vec::new();
        for (at, (life, age, mark, healthy, by_hand)) in machines.iter().enumerate() {
            if !by_hand || at > 1 {
                let healthy = if *healthy && *life == "live" { "!" } else { "" };
                ec2.push(format!("{healthy}{} {life} {age}{mark}", at + 1));
            }
        }
        let listing = |(silent, lines): &(u8, Vec<(usize, u64)>)| {
            let line = |at: usize| {
                let (state, since) = lines[at];
                let by_hand = if machines[at].4 && at <= 1 { "h" } else { "" };
                STATES
                    .get(state)
                    .map(|state| format!("{by_hand}{} {state} {since}", at + 1))
            };
            match silent {
                0 => "?".to_string(),
                _ => (0..machines.len().min(6))
                    .filter_map(line)
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        };
        let hosts: Vec<String> = hosts.iter().map(listing).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        Survey {
            sees,
            ..survey(&ec2.join(", "), &hosts)
        }
    })
}

fn is_up(survey: &Survey, id: &str) -> bool {
    let mut lines = survey.listings.iter().flatten().flatten();
    lines.any(|l| l.instance.as_deref() == Some(id) && l.state == State::Up)
}

/// As the hosts are once the fixes are made.
fn mended(survey: &Survey, fixes: &[(usize, Fix)]) -> Survey {
    let mut survey = survey.clone();
    for (at, fix) in fixes {
        let lines = survey.listings[*at].as_mut().expect("it answered");
        match fix {
            Fix::Remove { name, .. } => lines.retain(|l| l.name != *name),
            Fix::Enter(machine) => {
                lines.retain(|l| l.address != machine.host);
                lines.push(Listed {
                    name: format!("new-{}", machine.title()),
                    address: machine.host.clone(),
                    port: Some(machine.port),
                    instance: machine.instance.clone(),
                    state: State::Up,
                    since: Some(0),
                });
            }
        }
    }
    survey
}

proptest! {
    #[test]
    fn nothing_healthy_is_ever_terminated(survey in surveys()) {
        let Some(doomed) = plan(&survey, &rules(), &Memory::default(), None).terminate else { return Ok(()) };
        let instance = survey.instances.iter().find(|i| i.id == doomed.id).expect("EC2 lists it");
        prop_assert!(instance.life == Life::Live && !instance.keep && instance.in_service);
        prop_assert!(!is_up(&survey, &doomed.id) && survey.listings.iter().all(Result::is_ok));
        let listed = survey.listings.iter().flatten().flatten().any(|l| l.instance.as_ref() == Some(&doomed.id));
        let old = survey.age(instance) >= rules().boot_timeout;
        let sick = !survey.healthy.contains(&doomed.id);
        prop_assert!(listed || (old && sick && survey.sees));
        // Somebody else serves when one that is listed goes.
        prop_assert!(!listed || survey.listings.iter().flatten().flatten().any(|l| l.state == State::Up));
        let me = Machine { instance: Some(doomed.id.clone()), host: String::new(), port: 80 };
        let own = plan(&survey, &rules(), &Memory::default(), Some(&me)).terminate;
        prop_assert!(own.is_none_or(|other| other.id != doomed.id));
    }

    #[test]
    fn one_entry_stays_and_none_of_a_live_machine_goes(survey in surveys()) {
        let plan = plan(&survey, &rules(), &Memory::default(), None);
        for (at, fix) in &plan.fixes {
            let lines = survey.listings[*at].as_ref().expect("it answered");
            match fix {
                Fix::Remove { name, id } => {
                    let line = lines.iter().find(|l| l.name == *name).expect("it lists it");
                    prop_assert_eq!(line.instance.as_ref(), Some(id));
                    let gone = |i: &Instance| i.id == *id && i.life == Life::Gone;
                    prop_assert!(survey.instances.iter().any(gone));
                }
                Fix::Enter(machine) => {
                    let id = machine.instance.clone().unwrap_or_default();
                    let known = survey.instances.iter().find(|i| i.id == id);
                    prop_assert!(known.is_none_or(|i| i.life == Life::Live && !i.keep && i.in_service));
                    let lines = survey.listings.iter().flatten().flatten();
                    let said: Vec<State> = lines.filter(|l| l.address == machine.host).map(|l| l.state).collect();
                    let up = said.contains(&State::Up) || said.iter().all(|s| *s == State::Unknown);
                    let serves = (said.is_empty() && survey.healthy.contains(&id)) || (!said.is_empty() && up);
                    prop_assert!(serves);
                }
            }
        }
        let after = mended(&survey, &plan.fixes);
        for (before, after) in survey.listings.iter().zip(&after.listings) {
            let (Ok(before), Ok(after)) = (before, after) else { continue };
            prop_assert!(before.is_empty() || !after.is_empty());
        }
    }

    #[test]
    fn what_was_put_right_is_right(survey in surveys()) {
        let fixes = plan(&survey, &rules(), &Memory::default(), None).fixes;
        let after = mended(&survey, &fixes);
        let again = plan(&after, &rules(), &Memory::default(), None).fixes;
        prop_assert!(again.is_empty(), "{fixes:?}, then {again:?}");
    }

    #[test]
    fn there_are_never_more_than_max_hosts(survey in surveys(), most in 0usize..9) {
        let rules = Rules { max_hosts: most, cooldown: Duration::ZERO, ..rules() };
        let room = plan(&survey, &rules, &Memory::default(), None).room.unwrap_or(0);
        let live = survey.instances.iter().filter(|i| i.life == Life::Live && !i.keep && i.in_service).count();
        prop_assert!(room == 0 || room + live <= most);
    }

    #[test]
    fn nobody_leaves_whom_nobody_stays_for(survey in surveys(), number in 1usize..7) {
        let me = Machine { instance: Some(format!("i-{number}")), host: format!("10.0.0.{number}"), port: 80 };
        if may_leave(&survey, &rules(), &me).is_err() {
            return Ok(());
        }
        for lines in &survey.listings {
            let lines = lines.as_ref().expect("all were asked");
            let others = lines.iter().filter(|l| l.address != me.host);
            let serves = |l: &Listed| matches!(l.state, State::Up | State::Unknown);
            prop_assert!(lines.iter().all(|l| l.address != me.host) || others.filter(|l| serves(l)).count() > 0);
        }
    }
}
