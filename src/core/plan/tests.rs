//! The decisions, as a table: what EC2 has, what each HAProxy host lists, and what follows.

mod properties;

use super::replace::Whom;
use super::*;
use crate::error::Kind;

const NOW: u64 = 1_000_000;

fn rules() -> Rules {
    Rules {
        ec2: true,
        boot_timeout: Duration::from_secs(300),
        cooldown: Duration::from_secs(30),
        replace_after: Duration::from_secs(600),
        max_hosts: 10,
        min_hosts: 1,
        max_launches_per_day: 0,
        named: true,
        port: 80,
    }
}

/// `<number> live|stopped|gone <age or -> [keep] [standby]`; its address is 10.0.0.<number>.
fn instance(text: &str) -> Instance {
    let words: Vec<&str> = text.split(' ').collect();
    let life = match words[1] {
        "live" => Life::Live,
        "stopped" => Life::Stopped,
        _ => Life::Gone,
    };
    Instance {
        id: format!("i-{}", words[0]),
        life,
        address: (life != Life::Gone).then(|| format!("10.0.0.{}", words[0])),
        launched_at: words[2].parse::<u64>().ok().map(|age| NOW - age),
        keep: words.contains(&"keep"),
        image: "ami-1".into(),
        of_group: false,
        in_service: !words.contains(&"standby"),
    }
}

/// `<number>[@<number of its address>] <state> [<seconds>]`; `h<number>` is one entered by hand,
/// without an id.
fn line(text: &str) -> Listed {
    let words: Vec<&str> = text.split(' ').collect();
    let (who, address) = words[0].split_once('@').unwrap_or((words[0], words[0]));
    let by_hand = who.starts_with('h');
    let id = if by_hand { "-".into() } else { format!("i-{who}") };
    let since = words.get(2).unwrap_or(&"900");
    let address = address.trim_start_matches('h');
    Listed::parse(&format!("app{who} 10.0.0.{address} 80 {id} {} {since}", words[1])).unwrap()
}

/// Instances and lines, separated by commas; a host that says `?` did not answer. `!` before the
/// number of an instance: it is healthy from here, which sees the others.
fn survey(ec2: &str, hosts: &[&str]) -> Survey {
    let split = |text: &str| -> Vec<String> {
        let all = text.split(", ").filter(|t| !t.is_empty());
        all.map(String::from).collect()
    };
    let mut survey = Survey {
        now: NOW,
        sees: true,
        ..Survey::default()
    };
    for text in split(ec2) {
        let instance = instance(text.trim_start_matches('!'));
        if text.starts_with('!') {
            survey.healthy.insert(instance.id.clone());
        }
        survey.instances.push(instance);
    }
    survey.listings = hosts
        .iter()
        .map(|text| match *text {
            "?" => Err(Error::unavailable("lb", "no route to host")),
            _ => Ok(split(text).iter().map(|l| line(l)).collect()),
        })
        .collect();
    survey
}

/// Lines of `<why> | <instances> | <hosts, separated by slashes> | <what is due>`; `-` is nothing.
fn table(text: &str) -> impl Iterator<Item = (&str, Survey, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let hosts: Vec<&str> = cells[2]
            .split('/')
            .map(|host| if host.trim() == "-" { "" } else { host.trim() })
            .collect();
        (cells[0], survey(cells[1].trim_matches('-'), &hosts), cells[3])
    })
}

/// The plan in words.
fn words(survey: &Survey, rules: &Rules, memory: &Memory, me: Option<&str>) -> String {
    let me = me.map(|id| Machine {
        instance: Some(id.into()),
        host: id.replace("i-", "10.0.0."),
        port: 80,
    });
    let plan = plan(survey, rules, memory, me.as_ref());
    let mut all = Vec::new();
    for (at, fix) in plan.fixes {
        all.push(match fix {
            Fix::Enter(machine) => format!("lb{at} +{}", machine.title()),
            Fix::Remove { name, .. } => format!("lb{at} -{name}"),
        });
    }
    all.extend(plan.ask_again.then(|| "ask again".into()));
    all.extend(plan.terminate.map(|doomed| format!("end {}", doomed.id)));
    if plan.lacking > 0 {
        all.push(format!("lacks {}", plan.lacking));
    }
    if plan.room.is_err() {
        all.push("no room".into());
    }
    all.extend((!plan.amiss.is_empty()).then(|| "amiss".into()));
    all.join(", ")
}

#[test]
fn what_follows_from_a_survey() {
    for (why, survey, due) in table(
        "all is well | 1 live 900, 2 live 900 | 1 UP, 2 UP / 1 UP, 2 UP | -
         nothing at all | - | - | lacks 1
         it serves, and one lacks it | 1 live 900, 2 live 900 | 1 UP, 2 UP / 1 UP | lb1 +i-2
         whatever its age | 1 live 900, 2 live 9 | 1 UP, 2 UP / 1 UP | lb1 +i-2, no room
         it is DOWN where it is listed | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 9 / 1 UP | -
         a HAProxy host made anew | !1 live 900, !2 live 900, !3 live 900 | 1 UP | lb0 +i-2, lb0 +i-3
         an empty listing is filled | 1 live 900, 2 live 900 | 1 UP, 2 UP / - | lb1 +i-1, lb1 +i-2
         one that did not answer is left | 1 live 900, 2 live 900 | 1 UP, 2 UP / ? | -
         where none can say, entries count | 1 live 900, 2 live 900 | 1 -, 2 - / 1 - | lb1 +i-2
         by hand, without an id | - | h1 UP, h2 UP / h1 UP | lb1 +10.0.0.2
         one listed by id, one by hand, at one address | 1 live 900 | 1 UP / h1 UP | -
         # What is gone.
         gone, however many | 1 live 900, 2 gone 900, 3 gone 900 | 1 UP, 2 DOWN, 3 DOWN | lb0 -app2, lb0 -app3
         gone, and UP by a check of its new owner | 1 live 900, 2 gone 900 | 1 UP, 2 UP | lb0 -app2
         one entry always stays | 1 gone 900, 2 gone 900 | 1 DOWN, 2 DOWN | lb0 -app1, lacks 1
         unless another comes | 1 gone 900, !2 live 900 | 1 DOWN | lb0 +i-2, lb0 -app1, lacks 1
         # Addresses come again.
         its address has gone to another | 1 gone 900, !2 live 900, 3 live 900 | 1@2 UP, 3 UP | lb0 +i-2
         which does not serve yet | 1 gone 900, 2 live 9, 3 live 900 | 1@2 DOWN, 3 UP | lb0 -app1, no room
         and never does | 1 gone 900, 2 live 900, 3 live 900 | 1@2 DOWN, 3 UP | lb0 -app1, end i-2
         one HAProxy has the old one there, one the new | 1 gone 900, 2 live 900, 3 live 900 | 1@2 UP, 3 UP / 2 UP, 3 UP | lb0 +i-2
         one machine, two addresses | 1 live 900, 2 live 900 | 1 UP, 2 UP / 1 UP, 2@9 UP | -
         # What never served.
         it boots | 1 live 900, 2 live 299 | 1 UP | -
         it had its time | 1 live 900, 2 live 301 | 1 UP | end i-2
         one at a time | 1 live 900, 2 live 301, 3 live 400 | 1 UP | end i-2
         EC2 does not say when | 1 live 900, 2 live - | 1 UP | -
         not all could be asked | 1 live 900, 2 live 301 | 1 UP / ? | -
         one has no opinion: it lists nothing | 1 live 900, 2 live 301 | 1 UP / - | lb1 +i-1
         stopped ones are nobody's | 1 live 900, 2 stopped 900 | 1 UP | -
         nor is what a person keeps | 1 live 900, !2 live 900 keep, 3 live 900 keep | 1 UP | -
         nor who stands by in a group | 1 live 900, !2 live 900 standby, 3 live 900 standby | 1 UP | -
         # DOWN.
         it may come back | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 599 | -
         DOWN for too long | 1 live 900, 2 live 900, 3 live 900 | 1 UP, 2 DOWN 600, 3 UP | end i-2
         it came to the address lately | 1 live 900, 2 live 599 | 1 UP, h2 DOWN 900 | -
         one of two | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 600 | end i-2
         both, one of them here only | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 600 / 1 UP, 2 UP | -
         for as long as the last has it | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 600 / 1 UP, 2 DOWN 9 | -
         half of four: the fault is elsewhere | 1 live 900, 2 live 900, 3 live 900, 4 live 900 | 1 UP, 2 UP, 3 DOWN, 4 DOWN | amiss
         a zone is lost, the rest stays | 1 live 900, 2 live 900, 3 live 900, 4 live 900 | 1 UP, 2 UP, 3 DOWN, 4 DOWN 3 | amiss
         it may be the next to come back | 1 live 900, 2 live 900, 3 live 900 | 1 UP 3, 2 UP 29, 3 DOWN 601 | amiss
         the others are back, and it is not | 1 live 900, 2 live 900, 3 live 900 | 1 UP 30, 2 UP 30, 3 DOWN 630 | end i-3
         one HAProxy had lost them, one not | 1 live 900, 2 live 900 | 1 UP 3, 2 DOWN 601 / 1 UP, 2 DOWN 601 | end i-2
         new machines are no witnesses of it | 1 live 900, 2 live 900, 3 live 90 | 1 UP, 2 DOWN 601, 3 UP 9 | end i-2
         two of five are fewer than half | 1 live 900, 2 live 900, 3 live 900, 4 live 900, 5 live 900 | 1 UP, 2 UP, 3 UP, 4 DOWN, 5 DOWN | end i-4
         nobody else is UP | 1 live 900, 2 live 900 | 1 DOWN, 2 MAINT | lacks 1, amiss
         an operator's MAINT | 1 live 900, 2 live 900 | 1 UP, 2 MAINT | -
         MAINT here and DOWN there | 1 live 900, 2 live 900 | 1 UP, 2 MAINT / 1 UP, 2 DOWN | -
         by hand, DOWN: ended by itself only | 1 live 900 | 1 UP, h2 DOWN | -",
    ) {
        let words = words(&survey, &rules(), &Memory::default(), None);
        assert_eq!(words, due.trim_matches('-'), "{why}");
    }
}

#[test]
fn what_min_hosts_lacks() {
    for (why, survey, due) in table(
        "both serve | 1 live 900, 2 live 900 | 1 UP, 2 UP | 0
         one serves | 1 live 900 | 1 UP | 1
         a rolling restart | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 59 | 0
         DOWN for a minute | 1 live 900, 2 live 900 | 1 UP, 2 DOWN 60 | 1
         just entered where one cannot say | 1 live 900, 2 live 90 | 1 UP, 2 DOWN 2 / 1 -, 2 - | 0
         one boots | 1 live 900, 2 live 9 | 1 UP | 0
         it had its time | 1 live 900, 2 live 301 | 1 UP | 1
         it is stopped | 1 live 900, 2 stopped 900 | 1 UP, 2 DOWN | 1
         a person has taken it out | 1 live 900, 2 live 900 | 1 UP, 2 MAINT | 1
         a person keeps it | 1 live 900, 2 live 900 keep | 1 UP, 2 UP | 1
         gone, and listed | 1 live 900, 2 gone 900 | 1 UP, 2 UP | 1",
    ) {
        let rules = Rules {
            min_hosts: 2,
            ..rules()
        };
        let plan = plan(&survey, &rules, &Memory::default(), None);
        assert_eq!(plan.lacking.to_string(), due, "{why}");
    }
}

#[test]
fn how_many_more_there_may_be() {
    let day = Rules {
        max_hosts: 4,
        ..rules()
    };
    for (why, survey, due) in table(
        "none is there | - | - | 4
         entries and instances are one | 1 live 900 | 1 UP, h2 UP | 2
         what boots counts | 1 live 900, 2 live 90 | 1 UP | 2
         what is DOWN counts | 1 live 900, 2 live 900 | 1 UP, 2 DOWN | 2
         what is gone does not | 1 live 900, 2 gone 900 | 1 UP, 2 DOWN | 3
         nor what a person keeps | 1 live 900, 2 live 900 keep | 1 UP | 3
         nor what is stopped | 1 live 900, 2 stopped 900 | 1 UP | 3
         but an entry does | 1 live 900, 2 stopped 900 | 1 UP, 2 DOWN | 2
         nor who stands by | 1 live 900, 2 live 900 standby | 1 UP | 3
         full | 1 live 900, 2 live 900, 3 live 900, 4 live 900 | 1 UP | none
         a launch within the cooldown | 1 live 900, 2 gone 29 | 1 UP | none",
    ) {
        let plan = plan(&survey, &day, &Memory::default(), None);
        assert_eq!(
            plan.room.map_or("none".into(), |room| room.to_string()),
            due,
            "{why}"
        );
    }
}

#[test]
fn launches_of_the_last_day_count_also_those_that_came_to_nothing() {
    let s = survey("1 live 108000, 2 live 82800, 3 gone 1800", &["1 UP, 2 UP"]);
    let most = |max_launches_per_day| {
        let rules = Rules {
            max_launches_per_day,
            ..rules()
        };
        plan(&s, &rules, &Memory::default(), None)
            .room
            .map_err(|wait| wait.wait.as_secs())
    };
    assert_eq!(most(0), Ok(8));
    assert_eq!(most(3), Ok(1));
    assert_eq!(most(2), Err(3600), "until i-2 is a day old");
    assert_eq!(
        most(1),
        Err(3600),
        "the list is looked at again, since i-3 leaves it"
    );
}

#[test]
fn ids_that_ec2_does_not_know_are_asked_for_twice() {
    let known = |unknown: &[&str], asked_for: u64, hosts: &[&str]| {
        let mut survey = survey("1 live 900, 2 live 900", hosts);
        survey.unknown = unknown.iter().map(|id| id.to_string()).collect();
        let memory = Memory {
            unknown: unknown
                .iter()
                .map(|id| (id.to_string(), Duration::from_secs(asked_for)))
                .collect(),
            ..Memory::default()
        };
        words(&survey, &rules(), &memory, None)
    };
    let three = "1 UP, 2 UP, 3 DOWN 900";
    assert_eq!(known(&["i-3"], 0, &[three]), "ask again");
    assert_eq!(known(&["i-3"], 59, &[three]), "ask again");
    assert_eq!(known(&["i-3"], 60, &[three]), "lb0 -app3");
    assert_eq!(
        known(&["i-3"], 60, &["1 UP, 2 UP, 3 DOWN 9"]),
        "ask again",
        "younger than boot_timeout"
    );
    assert_eq!(
        known(&["i-3", "i-4"], 900, &["1 UP, 2 UP, 3 UP, 4 UP"]),
        "",
        "half of them"
    );
    assert_eq!(
        known(&["i-3"], 900, &["1 UP, 2 UP, 3 UP", "1 UP, 2 UP"]),
        "lb0 -app3",
        "and not entered"
    );
}

#[test]
fn nobody_ends_itself_nor_what_it_cannot_judge() {
    let s = survey("1 live 900, 2 live 900, 3 live 900", &["1 UP, 2 DOWN, 3 UP"]);
    let none = Memory::default();
    assert_eq!(words(&s, &rules(), &none, Some("i-1")), "end i-2");
    assert_eq!(words(&s, &rules(), &none, Some("i-2")), "", "not itself");
    let never = Rules {
        replace_after: Duration::ZERO,
        ..rules()
    };
    assert_eq!(words(&s, &never, &none, None), "");
    let refused = Memory {
        refused: vec!["i-2".into()],
        ..Memory::default()
    };
    assert_eq!(words(&s, &rules(), &refused, None), "", "refused lately");
    let mut s = survey("1 live 900, 2 live 900", &["1 UP"]);
    assert_eq!(words(&s, &rules(), &none, Some("i-2")), "", "not itself");
    let unnamed = Rules {
        named: false,
        ..rules()
    };
    assert_eq!(
        words(&s, &unnamed, &none, None),
        "amiss",
        "it may be another cluster's"
    );
    s.sees = false;
    assert_eq!(words(&s, &rules(), &none, None), "", "it reaches nobody");
}

#[test]
fn who_may_leave() {
    let may = |hosts: &[&str], min_hosts| {
        let me = Machine {
            instance: Some("i-1".into()),
            host: "10.0.0.1".into(),
            port: 80,
        };
        let rules = Rules { min_hosts, ..rules() };
        may_leave(&survey("1 live 900, 2 live 900, 3 gone 900", hosts), &rules, &me).is_ok()
    };
    assert!(may(&["1 UP, 2 UP"], 1));
    assert!(may(&["1 UP, h2 UP"], 1));
    assert!(!may(&["1 UP, 2 UP"], 2), "min_hosts");
    assert!(
        !may(&["1 UP, 2 DOWN 3"], 1),
        "who does not serve does not stay for it"
    );
    assert!(!may(&["1 UP, 2 MAINT"], 1));
    assert!(
        !may(&["1 MAINT, 2 UP", "1 UP, 2 UP"], 1),
        "whom a person has taken out"
    );
    assert!(!may(&["1 UP, 3 UP"], 1), "who is gone does not");
    assert!(!may(&["1 UP, 2 UP", "1 UP"], 1), "on every HAProxy");
    assert!(may(&["1 UP, 2 UP", "2 UP"], 1), "on every one that lists it");
    assert!(!may(&["1 UP, 2 UP", "?"], 1), "every one has its say");
    assert!(
        may(&["1 -, 2 -"], 1),
        "where HAProxy cannot be asked, entries count"
    );
    assert!(!may(&["1 UP, 2 -"], 1), "but not beside one that can");
    assert!(may(&[""], 0));
}

#[test]
fn does_the_machine_itself_serve() {
    let i_serve = |hosts: &[&str]| {
        let me = Machine {
            instance: Some("i-1".into()),
            host: "10.0.0.1".into(),
            port: 80,
        };
        plan(
            &survey("1 live 900", hosts),
            &rules(),
            &Memory::default(),
            Some(&me),
        )
        .i_serve
    };
    assert_eq!(i_serve(&["1 UP"]), Some(true));
    assert_eq!(i_serve(&["1 DOWN", "1 UP"]), Some(true));
    assert_eq!(i_serve(&["1 DOWN", "1 -"]), Some(false));
    assert_eq!(i_serve(&["1 -"]), Some(true));
    assert_eq!(i_serve(&["h1 DOWN"]), Some(false));
    assert_eq!(i_serve(&["h2 DOWN"]), None);
    assert_eq!(i_serve(&["2@1 UP"]), None, "somebody else at its address");
}

#[test]
fn the_fleet_is_sorted_and_counts_the_terminated() {
    let s = survey("2 gone 900, 1 live 900", &["1 UP"]);
    assert_eq!(plan(&s, &rules(), &Memory::default(), None).fleet, ["i-1", "i-2"]);
}

#[test]
fn a_token_follows_from_cluster_fleet_and_attempt() {
    let fleet = ["i-1".to_string()];
    let first = client_token("a", &fleet, Some("subnet-1"), None, 0);
    assert_eq!(first.len(), 64);
    assert_eq!(first, client_token("a", &fleet, Some("subnet-1"), None, 0));
    for other in [
        client_token("b", &fleet, Some("subnet-1"), None, 0),
        client_token("a", &[], Some("subnet-1"), None, 0),
        client_token("a", &fleet, Some("subnet-2"), None, 0),
        client_token("a", &fleet, Some("subnet-1"), Some("t3.small"), 0),
        client_token("a", &fleet, Some("subnet-1"), None, 1),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn replace_means_live_instances_of_the_cluster() {
    let mut survey = survey(
        "1 live 900, 2 live 900, 3 gone 900, 4 live 900 keep, 5 stopped 900",
        &["2 UP, 1 UP, 3 UP, 4 UP, 5 UP, h6 UP"],
    );
    survey.instances[1].image = "ami-2".into();
    let meant = |whom: Whom| {
        let found = whom.machines(&survey, 80);
        found.map(|all| all.iter().map(|m| m.title().to_string()).collect::<Vec<_>>())
    };
    let these = |names: &[&str]| Whom::These(names.iter().map(|n| (*n).into()).collect());
    assert_eq!(meant(Whom::All), Ok(vec!["i-2".into(), "i-1".into()]));
    assert_eq!(meant(Whom::NotImage("ami-1".into())), Ok(vec!["i-2".into()]));
    assert_eq!(
        meant(these(&["i-1", "app2"])),
        Ok(vec!["i-1".into(), "i-2".into()])
    );
    for other in ["app3", "i-4", "app5", "apph6", "i-7"] {
        assert_eq!(
            meant(these(&["i-1", other])).unwrap_err().kind(),
            Kind::Config,
            "{other}"
        );
    }
}
