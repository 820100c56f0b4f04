use super::*;

const NOW: u64 = 1_000_000;

fn rules() -> Rules {
    Rules {
        boot_timeout: Duration::from_secs(300),
        cooldown: Duration::from_secs(120),
        max_hosts: 3,
        min_hosts: 1,
        max_launches_per_day: 0,
        by_group: false,
    }
}

fn instance(id: &str, live: bool, age: u64) -> Instance {
    Instance {
        id: id.into(),
        live,
        gone: !live,
        address: Some(format!("10.0.0.{}", &id[2..])),
        launched_at: NOW - age,
    }
}

fn survey(instances: &[Instance], listings: &[Option<&str>]) -> Survey {
    Survey {
        now: NOW,
        instances: instances.to_vec(),
        listings: listings
            .iter()
            .map(|l| l.map(|text| text.lines().filter_map(Listed::parse).collect()))
            .collect(),
    }
}

#[test]
fn an_empty_fleet_launches() {
    assert_eq!(plan(&survey(&[], &[]), &rules()), Plan::Launch { fleet: vec![] });
}

#[test]
fn the_fleet_is_sorted_and_counts_the_terminated() {
    let s = survey(
        &[instance("i-2", false, 900), instance("i-1", true, 900)],
        &[Some("x 10.0.0.1 80 -")],
    );
    assert_eq!(
        plan(&s, &rules()),
        Plan::Launch {
            fleet: vec!["i-1".into(), "i-2".into()]
        }
    );
}

#[test]
fn a_young_orphan_is_adopted_even_when_a_haproxy_could_not_be_asked() {
    let orphan = instance("i-1", true, 100);
    let adopt = Plan::Adopt {
        instance: orphan.clone(),
        boot_time_left: Duration::from_secs(200),
    };
    assert_eq!(
        plan(
            &survey(std::slice::from_ref(&orphan), &[Some(""), None]),
            &rules()
        ),
        adopt
    );
    assert_eq!(plan(&survey(&[orphan], &[None]), &rules()), adopt);
}

#[test]
fn an_old_orphan_is_terminated_only_when_every_haproxy_was_asked() {
    let orphan = instance("i-1", true, 300);
    let clear = Plan::Clear {
        ids: vec!["i-1".into()],
    };
    assert_eq!(
        plan(
            &survey(std::slice::from_ref(&orphan), &[Some(""), Some("")]),
            &rules()
        ),
        clear
    );
    let unseen = plan(
        &survey(std::slice::from_ref(&orphan), &[Some(""), None]),
        &rules(),
    );
    assert_eq!(
        unseen,
        Plan::Launch {
            fleet: vec!["i-1".into()]
        }
    );
    let listed_on_one = plan(
        &survey(&[orphan], &[Some(""), Some("n 10.9.9.9 80 i-1")]),
        &rules(),
    );
    assert_eq!(
        listed_on_one,
        Plan::Launch {
            fleet: vec!["i-1".into()]
        }
    );
}

#[test]
fn an_old_orphan_of_a_group_is_adopted_when_every_haproxy_was_asked() {
    let by_group = Rules {
        by_group: true,
        ..rules()
    };
    let orphan = instance("i-1", true, 5000);
    let adopt = Plan::Adopt {
        instance: orphan.clone(),
        boot_time_left: Duration::from_secs(30),
    };
    assert_eq!(
        plan(&survey(std::slice::from_ref(&orphan), &[Some("")]), &by_group),
        adopt
    );
    let unseen = survey(&[orphan], &[Some(""), None]);
    assert_eq!(plan(&unseen, &by_group), plan(&unseen, &rules()));
}

#[test]
fn the_newest_launch_is_a_cooldown() {
    let s = survey(&[instance("i-1", false, 20)], &[]);
    assert!(matches!(plan(&s, &rules()), Plan::Wait { wait, .. } if wait == Duration::from_secs(100)));
    let listed = survey(&[instance("i-1", true, 20)], &[Some("n 10.0.0.1 80 i-1")]);
    assert!(matches!(plan(&listed, &rules()), Plan::Wait { .. }));
}

#[test]
fn never_over_max_hosts() {
    let instances: Vec<Instance> = (1..=3).map(|n| instance(&format!("i-{n}"), true, 900)).collect();
    let listing = "a 10.0.0.1 80 -\nb 10.0.0.2 80 -\nc 10.0.0.3 80 -";
    assert!(matches!(
        plan(&survey(&instances, &[Some(listing)]), &rules()),
        Plan::Wait { .. }
    ));
}

#[test]
fn launches_of_the_last_day_count_also_those_that_came_to_nothing() {
    let hour = 3600;
    let all = [
        instance("i-1", true, 30 * hour),
        instance("i-2", true, 23 * hour),
        instance("i-3", false, hour / 2),
    ];
    let s = survey(&all, &[Some("a 10.0.0.1 80 -\nb 10.0.0.2 80 -")]);
    let most = |max_launches_per_day| {
        let rules = Rules {
            max_launches_per_day,
            ..rules()
        };
        match plan(&s, &rules) {
            Plan::Wait { why, wait } => {
                assert!(why.contains("EC2 reports 2 launches in 24 hours"), "{why}");
                Some(wait.as_secs())
            }
            other => {
                assert!(matches!(other, Plan::Launch { .. }), "{other:?}");
                None
            }
        }
    };
    assert_eq!([most(0), most(3)], [None, None]);
    assert_eq!(most(2), Some(hour), "until i-2 is a day old");
    assert_eq!(
        most(1),
        Some(hour),
        "the list is looked at again, since i-3 leaves it"
    );
}

#[test]
fn a_host_that_was_away_is_brought_to_what_the_others_list() {
    let (old, new) = (instance("i-1", false, 9000), instance("i-2", true, 900));
    let here = "a 10.0.0.9 80 -\nb 10.0.0.2 8080 i-2";
    let back = "a 10.0.0.9 80 -\nb 10.0.0.1 80 i-1";
    let s = survey(&[old.clone(), new], &[Some(here), None, Some(back)]);
    let machine = Machine {
        instance: Some("i-2".into()),
        host: "10.0.0.2".into(),
        port: 8080,
    };
    let fixes = [(2, Fix::Add { machine }), (2, Fix::Remove { name: "b".into() })];
    assert_eq!(repairs(&s), fixes);
    let most = survey(&[old], &[Some("b 10.0.0.1 80 i-1")]);
    assert_eq!(repairs(&most), [], "not more than half of the entries");
    let orphan = survey(&[instance("i-3", true, 9)], &[Some("")]);
    assert_eq!(repairs(&orphan), [], "whom nobody lists, its launcher enters");
}

#[test]
fn a_listing_line_reads() {
    assert_eq!(Listed::parse("a 10.0.0.1 80 -").unwrap().instance, None);
    assert_eq!(Listed::parse("a 10.0.0.1 80"), None);
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
