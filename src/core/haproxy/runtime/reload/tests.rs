use super::*;
use crate::core::haproxy::entry::Entry;
use crate::core::haproxy::runtime::balance::advice;
use crate::core::haproxy::runtime::drift::{differences, misplaced};
use crate::core::haproxy::runtime::somebody_stays::leaves_nobody;
use crate::core::haproxy::runtime::{drop_idle, move_to, replies};
use crate::core::haproxy::template::render;
use proptest::prelude::*;

const TEMPLATE: &str = "\
# $SERVERS
defaults
    default-server inter 200ms
frontend web
    default_backend servers
backend servers
    balance roundrobin
    $SERVERS
";

const PATTERN: &str = "server $NAME $IP:$PORT check";

fn entries(names: &BTreeSet<String>) -> Vec<Entry> {
    names
        .iter()
        .map(|n| Entry::parse(n, "10.0.0.5 80 -").unwrap())
        .collect()
}

fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|n| (*n).to_string()).collect()
}

fn file_of(template: &str, pattern: &str, list: &BTreeSet<String>) -> String {
    let numbers = list
        .iter()
        .map(|name| (name.clone(), u32::from(name.as_bytes()[0])))
        .collect();
    render(template, &entries(list), &numbers, pattern).unwrap()
}

fn file(template: &str, pattern: &str, list: &[&str]) -> String {
    file_of(template, pattern, &names(list))
}

/// One that `show servers state` could have, checked, in the section `servers`.
fn live(name: &str, admin: u32) -> String {
    format!("servers 1 {name} 10.0.0.5 2 {admin} 80 1 1 6 0\n")
}

fn states(rows: &str) -> Vec<Running> {
    let header = "1\n# be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_uweight srv_iweight \
        srv_check_state srv_agent_state\n";
    replies::servers_state(&format!("{header}{rows}")).unwrap()
}

/// `name state`: as `show servers state` has them.
fn running(servers: &[(&str, u32)]) -> Vec<Running> {
    states(
        &servers
            .iter()
            .map(|(name, admin)| live(name, *admin))
            .collect::<String>(),
    )
}

/// The only section's commands, or none.
fn only(commands: Vec<Commands>) -> Commands {
    assert!(commands.len() < 2, "{commands:?}");
    commands.into_iter().next().unwrap_or_default()
}

/// From the server `a` to `a` and `b`, and from those to `b`, on a HAProxy of `version`.
fn both_ways(template: &str, pattern: &str, version: (u32, u32)) -> Result<[Vec<Commands>; 2], String> {
    let text = |list: &[&str]| file(template, pattern, list);
    let (one, two, other) = (text(&["a"]), text(&["a", "b"]), text(&["b"]));
    // As the text has them: with a check or without, in each section.
    let check = if pattern.contains(" check") { 6 } else { 0 };
    let rows = |names: &[&str]| {
        let row = |section: &str, (at, name): (usize, &&str)| {
            format!("{section} {} {name} 10.0.0.5 2 0 80 1 1 {check} 0\n", at + 1)
        };
        let sections = text::managed(template);
        let all = sections
            .iter()
            .flat_map(|s| names.iter().enumerate().map(move |n| row(s, n)));
        states(&all.collect::<String>())
    };
    let added = change(template, &one, &two)?;
    let added = plan(&added, &rows(&["a"]), version, &BTreeSet::new())?;
    let removed = change(template, &two, &other)?;
    let removed = plan(&removed, &rows(&["a", "b"]), version, &BTreeSet::new())?;
    Ok([added, removed])
}

const VERSIONS: [(u32, u32); 8] = [(2, 4), (2, 5), (2, 6), (2, 8), (3, 0), (3, 2), (3, 4), (3, 5)];

/// What goes by commands, from which version on.
#[test]
fn each_kind_of_template_on_each_version() {
    let with = |from: &str, to: &str| (TEMPLATE.replace(from, to), PATTERN.to_string());
    let balance = |algorithm: &str| with("roundrobin", algorithm);
    let line = |words: &str| (TEMPLATE.to_string(), format!("{PATTERN} {words}"));
    let never = (9, 9);
    let table = [
        ("as it is", with("x", "x"), (2, 5)),
        ("leastconn", balance("leastconn"), (2, 5)),
        ("random", balance("random(2)"), (2, 5)),
        ("none given", with("    balance roundrobin\n", ""), (2, 5)),
        ("consistent hash", balance("uri\n hash-type consistent"), (2, 5)),
        ("map-based hash", balance("uri"), never),
        ("static-rr", balance("static-rr"), never),
        ("first", balance("first"), never),
        (
            "dynamic cookie",
            balance("roundrobin\n cookie S insert dynamic\n dynamic-cookie-key k"),
            (3, 0),
        ),
        (
            "external check",
            balance("roundrobin\n option external-check"),
            never,
        ),
        (
            "external check above",
            with("defaults\n", "defaults\n option external-check\n"),
            never,
        ),
        (
            "two sections",
            with("frontend web", "listen l\n    $SERVERS\nfrontend web"),
            (2, 5),
        ),
        ("cookie", line("cookie $NAME"), (3, 0)),
        ("id", line("id $ID"), (2, 5)),
        ("hash-key", line("hash-key addr-port"), (3, 0)),
        ("init-state", line("init-state fully-down"), (3, 1)),
        ("guid", line("guid g-$NAME"), (3, 0)),
        (
            "on-marked-up",
            line("on-marked-up shutdown-backup-sessions"),
            (2, 5),
        ),
        ("send-proxy-v2", line("send-proxy-v2"), (2, 5)),
        ("agent-check", line("agent-check agent-port 9"), (2, 5)),
        ("ssl", line("ssl verify none"), never),
        ("track", line("track x/y"), never),
        ("enabled", line("enabled"), never),
        ("disabled", line("disabled"), never),
        ("two commands", line("check; shutdown"), never),
        ("quotes", line("\"a b\""), never),
        ("a backslash", line("check\\ x"), never),
        ("no-check", line("no-check"), never),
        (
            "a name",
            (TEMPLATE.into(), "server $NAME host.$IP:80".into()),
            never,
        ),
    ];
    for (kind, (template, pattern), since) in table {
        for version in VERSIONS {
            let result = both_ways(&template, &pattern, version);
            assert_eq!(
                result.is_ok(),
                version >= since,
                "{kind} on {version:?}: {result:?}"
            );
        }
    }
    // To delete a server in its warm-up ends 3.5; to add one is well.
    for version in VERSIONS {
        let slow = both_ways(TEMPLATE, &format!("{PATTERN} slowstart 9s"), version);
        assert_eq!(
            slow.is_ok(),
            ((2, 5)..(3, 5)).contains(&version),
            "{version:?}: {slow:?}"
        );
    }
}

#[test]
fn below_3_0_those_that_are_added_get_numbers_of_their_own() {
    let add = |pattern: &str, version| {
        let [added, _] = both_ways(TEMPLATE, pattern, version).unwrap();
        only(added).add[0].add.clone()
    };
    let new = "add server servers/b 10.0.0.5:80 inter 200ms check";
    let pool = "pool-purge-delay 5s pool-max-conn -1";
    assert_eq!(add(PATTERN, (2, 8)), format!("{new} id 2 {pool}"));
    assert_eq!(add(PATTERN, (3, 0)), format!("{new} {pool}"));
    assert_eq!(
        add(&format!("{PATTERN} id $ID"), (2, 6)),
        format!("{new} id 98 {pool}")
    );
    // The place of a fresh start, or the next that is free.
    let taken = BTreeSet::from([1, 2, 4]);
    assert_eq!(
        [2, 3, 0, 9].map(|place| free_number(&taken, place)),
        [3, 5, 3, 10]
    );
}

#[test]
fn one_comes_and_one_goes() {
    let [added, removed] = both_ways(TEMPLATE, PATTERN, (2, 6)).unwrap();
    let (added, removed) = (only(added), only(removed));
    assert!(added.remove.is_empty() && removed.add.is_empty());
    assert_eq!(removed.remove[0].id(), "servers/a");
    assert!(added.add[0].start.starts_with("enable health servers/b; "));
    assert!(
        added.add[0]
            .start
            .ends_with("health down; set server servers/b weight 100%")
    );
    let named = TEMPLATE.replace("inter", "init-addr last,none resolvers r inter");
    assert_eq!(
        only(both_ways(&named, PATTERN, (2, 6)).unwrap()[0].clone()),
        added
    );
    let start = |pattern: &str| {
        only(both_ways(TEMPLATE, pattern, (2, 6)).unwrap()[0].clone()).add[0]
            .start
            .clone()
    };
    assert_eq!(
        start("server $NAME $IP:$PORT"),
        "set server servers/b state ready"
    );
    let agent = "enable agent servers/b; set server servers/b agent up; ";
    let checked = start("server $NAME $IP:$PORT check agent-check agent-port 9");
    assert!(checked.contains(&format!("state ready; {agent}set server servers/b health down")));
    let two = TEMPLATE.replace("frontend web", "listen l\n    $SERVERS\nfrontend web");
    let [added, _] = both_ways(&two, PATTERN, (2, 6)).unwrap();
    let sections: Vec<&str> = added.iter().map(|c| c.section.as_str()).collect();
    assert_eq!(sections, ["l", "servers"]);
}

#[test]
fn what_needs_a_reload_says_why() {
    let with = |from: &str, to: &str| both_ways(&TEMPLATE.replace(from, to), PATTERN, (2, 6)).unwrap_err();
    for (from, to, why) in [
        ("roundrobin", "static-rr", "`balance static-rr` takes no servers"),
        ("roundrobin", "source", "`balance source` takes no servers"),
        (
            "roundrobin",
            "roundrobin\n  use-server a if X",
            "speaks of server `a`",
        ),
        (
            "frontend web",
            "frontend web\n  acl x srv_is_up(servers/a)",
            "speaks of server `a`",
        ),
        (
            "roundrobin",
            "roundrobin\n  server-template x 3 1.2.3.4:80",
            "server-template",
        ),
        ("frontend web", "frontend web\n    $SERVERS", "not just once"),
        ("    $SERVERS", "    $SERVERS\n    $SERVERS", "not just once"),
        ("    $SERVERS", "    use-server $SERVERS", "not just once"),
        ("inter", "ssl inter", "`ssl`"),
        (
            "defaults\n    default-server inter 200ms\n",
            "",
            "`defaults` in another file",
        ),
    ] {
        // With nobody there to compare with, the last one.
        let reason = if to.is_empty() {
            let template = TEMPLATE.replace(from, to);
            let (none, one) = (file(&template, PATTERN, &[]), file(&template, PATTERN, &["a"]));
            let change = change(&template, &none, &one).unwrap();
            plan(&change, &[], (2, 6), &BTreeSet::new()).unwrap_err()
        } else {
            with(from, to)
        };
        assert!(reason.contains(why), "{to}: {reason}");
    }
}

#[test]
fn what_the_running_servers_show_goes_before_the_text() {
    let (old, new) = (
        file(TEMPLATE, PATTERN, &["a"]),
        file(TEMPLATE, PATTERN, &["a", "b"]),
    );
    let change = change(TEMPLATE, &old, &new).unwrap();
    let plan = |row: &str| plan(&change, &states(row), (2, 6), &BTreeSet::new());
    assert!(plan("servers 1 a 10.0.0.5 2 0 80 1 1 6 0\n").is_ok());
    // A weight of somebody's is one of a command, and no other text's.
    assert!(plan("servers 1 a 10.0.0.5 2 0 80 7 1 6 0\n").is_ok());
    for (row, why) in [
        ("servers 1 a 10.0.0.5 2 0 80 1 1 0 0\n", "another `check`"),
        ("servers 1 a 10.0.0.5 2 0 80 9 9 6 0\n", "another `weight`"),
    ] {
        assert!(plan(row).unwrap_err().contains(why));
    }
    let section = &change.new.sections[0];
    let rows = |line: &str| {
        let answer = format!("# pxname,svname,status,scur,bck,slim,lastchg,\n{line}");
        replies::stat(&answer).unwrap().remove(0)
    };
    assert_eq!(trust_row(section, &rows("servers,a,UP,0,0,,1,\n")), Ok(()));
    for other in ["servers,a,UP,0,0,5,1,\n", "servers,a,UP,0,1,,1,\n"] {
        assert!(trust_row(section, &rows(other)).is_err(), "{other}");
    }
}

#[test]
fn only_whole_server_lines_may_differ() {
    let old = file(TEMPLATE, PATTERN, &["a", "b"]);
    let changed = |new: &str| change(TEMPLATE, &old, new).unwrap_err();
    assert_eq!(
        changed(&old.replace("200ms", "300ms")),
        "more than the servers changed"
    );
    assert_eq!(
        changed(&file(TEMPLATE, "server $NAME $IP:$PORT", &["a", "b"])),
        "the line of server `a` changed"
    );
    // One that moved to another place has other defaults.
    let moved = old.replace("    balance roundrobin\n", "");
    assert!(change(TEMPLATE, &old, &(moved + "    balance roundrobin\n")).is_err());
}

#[test]
fn addresses_and_checks_are_brought_to_the_file_s() {
    let old = file(TEMPLATE, PATTERN, &["a", "b"]);
    let new = old.replacen("10.0.0.5:80", "10.0.0.6:81", 1);
    let moved = change(TEMPLATE, &old, &new).unwrap();
    let commands = only(plan(&moved, &running(&[("a", 0), ("b", 0)]), (2, 6), &names(&[])).unwrap());
    assert_eq!(
        commands.move_to,
        [("a".to_string(), "10.0.0.6:81".parse().unwrap())]
    );
    assert_eq!(
        move_to("servers/a", "[fd00::1]:81".parse().unwrap()),
        "set server servers/a addr fd00::1 port 81"
    );
    let same = change(TEMPLATE, &old, &old).unwrap();
    let unchecked = states(&(live("a", 0) + "servers 2 b 10.0.0.5 2 0 80 1 1 2 0\n"));
    let commands = only(plan(&same, &unchecked, (2, 6), &names(&[])).unwrap());
    assert_eq!(commands.check, ["b"]);
    assert_eq!(
        differences(&same.new, &unchecked, &names(&[])),
        ["does not check server `b`"]
    );
}

#[test]
fn what_an_earlier_call_left_is_finished() {
    let text = file(TEMPLATE, PATTERN, &["a", "b"]);
    let same = change(TEMPLATE, &text, &text).unwrap();
    let plan =
        |servers: &[(&str, u32)], aside| plan(&same, &running(servers), (2, 6), &names(aside)).map(only);
    // A drain or maintenance of somebody else's is theirs to end.
    assert!(plan(&[("a", 8), ("b", 1)], &[]).unwrap().is_empty());
    assert_eq!(plan(&[("a", 8), ("b", 0)], &["a"]).unwrap().ready, ["a"]);
    assert!(plan(&[("a", 1), ("b", 0)], &["a"]).is_err());
    assert_eq!(
        plan(&[("a", 0), ("b", 0), ("c", 1)], &["c"]).unwrap().remove,
        running(&[("c", 1)])
    );
    let old = file(TEMPLATE, PATTERN, &["a"]);
    let arrived = change(TEMPLATE, &old, &text).unwrap();
    assert!(super::plan(&arrived, &running(&[("a", 0), ("b", 1)]), (2, 6), &names(&[])).is_err());
}

#[test]
fn somebody_has_to_stay() {
    let leaves = |servers: &[(&str, u32)]| leaves_nobody(&running(servers), "servers", &names(&["a"]));
    assert!(leaves(&[("a", 0)]) && leaves(&[("a", 0), ("b", 8)]));
    assert!(!leaves(&[("a", 0), ("b", 0)]) && !leaves(&[("a", 1), ("b", 1)]));
    assert_eq!(
        drop_idle(&running(&[("a", 1)])[0]).unwrap(),
        "set server servers/a addr 10.0.0.5 port 1"
    );
}

#[test]
fn the_difference_is_named() {
    let text = file(TEMPLATE, PATTERN, &["a", "b"]);
    let wanted = text::read(&text, &["servers"]).unwrap();
    let difference = |servers: &[(&str, u32)]| differences(&wanted, &running(servers), &names(&["c"]));
    assert!(difference(&[("a", 0), ("b", 0), ("c", 1)]).is_empty());
    assert_eq!(difference(&[("a", 0)]), ["has no server `b`"]);
    assert_eq!(
        difference(&[("a", 0), ("b", 0), ("d", 0)]),
        ["still has server `d`"]
    );
    let moved = states("servers 1 a 10.0.0.5 2 0 81 1 1 6 0\n");
    let place = ("servers/a".to_string(), "10.0.0.5:80".parse().unwrap());
    assert_eq!(misplaced(&wanted, &moved), [place]);
}

#[test]
fn hashes_by_numbers_are_advised_against() {
    let advice = |pattern: &str, version| {
        let template = TEMPLATE.replace("roundrobin", "uri\n hash-type consistent");
        let text = file(&template, pattern, &["a"]);
        advice(&text::read(&text, &["servers"]).unwrap().sections[0], version)
    };
    assert!(advice(PATTERN, (2, 6)).is_some_and(|a| a.contains("`id $ID`") && !a.contains("hash-key")));
    assert!(advice(PATTERN, (3, 0)).is_some_and(|a| a.contains("hash-key addr-port")));
    assert_eq!(advice("server $NAME $IP:80 id $ID", (2, 6)), None);
    assert_eq!(advice("server $NAME $IP:80 hash-key addr-port", (3, 0)), None);
}

proptest! {
    #[test]
    fn the_commands_end_at_the_file(
        old in proptest::collection::btree_set("[a-e]", 0..5),
        new in proptest::collection::btree_set("[a-e]", 0..5),
        live in proptest::collection::btree_set("[a-e]", 0..5),
    ) {
        let text = |set: &BTreeSet<String>| file_of(TEMPLATE, PATTERN, set);
        let (old_text, new_text) = (text(&old), text(&new));
        let change = change(TEMPLATE, &old_text, &new_text).unwrap();
        let states: Vec<(&str, u32)> = live.iter().map(|n| (n.as_str(), 0)).collect();
        let Ok(commands) = plan(&change, &running(&states), (2, 6), &BTreeSet::new()) else {
            // The only reason that is left: a newcomer runs already.
            prop_assert!(new.difference(&old).any(|n| live.contains(n)));
            return Ok(());
        };
        let commands = only(commands);
        let mut after = live.clone();
        for addition in &commands.add {
            prop_assert!(after.insert(addition.name.clone()));
        }
        for server in &commands.remove {
            prop_assert!(after.remove(&server.name));
        }
        prop_assert_eq!(&after, &new);
        let states: Vec<(&str, u32)> = after.iter().map(|n| (n.as_str(), 0)).collect();
        prop_assert!(differences(&change.new, &running(&states), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn any_other_change_is_a_reload(at in 0..80_usize, letter in "[a-z#\"\\\\ ]") {
        let old = file(TEMPLATE, PATTERN, &["a", "b"]);
        let mut new = file(TEMPLATE, PATTERN, &["a", "b", "c"]);
        new.insert_str(at, &letter);
        prop_assert!(change(TEMPLATE, &old, &new).is_err());
    }
}
