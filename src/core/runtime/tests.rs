use super::*;
use crate::core::entry::Entry;
use crate::core::template::render;
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

fn file(template: &str, pattern: &str, list: &[&str]) -> String {
    render(template, &entries(&names(list)), pattern).unwrap()
}

/// `name state`: as `show servers state` has them.
fn running(servers: &[(&str, u32)]) -> Vec<Running> {
    let mut answer = "1\n# srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n".to_string();
    for (name, admin) in servers {
        answer += &format!("1 {name} 10.0.0.5 2 {admin} 80\n");
    }
    replies::servers_state(&answer).unwrap()
}

fn from_a_to_b(template: &str, pattern: &str) -> Result<Commands, String> {
    let (old, new) = (file(template, pattern, &["a"]), file(template, pattern, &["b"]));
    let change = change(template, &old, &new, "servers")?;
    plan(&change, &running(&[("a", 0)]), (2, 6), &BTreeSet::new())
}

#[test]
fn one_comes_and_one_goes() {
    let commands = from_a_to_b(TEMPLATE, PATTERN).unwrap();
    assert_eq!(commands.remove, running(&[("a", 0)]));
    let [addition] = &commands.add[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(
        addition.add,
        "add server servers/b 10.0.0.5:80 inter 200ms check pool-purge-delay 5s pool-max-conn -1"
    );
    assert!(
        addition
            .start
            .ends_with("health down; set server servers/b weight 100%")
    );
    let named = TEMPLATE.replace("inter", "init-addr last,none resolvers r inter");
    assert_eq!(from_a_to_b(&named, PATTERN).unwrap(), commands);
    let unchecked = from_a_to_b(TEMPLATE, "server $NAME $IP:$PORT").unwrap();
    assert_eq!(unchecked.add[0].start, "set server servers/b state ready");
}

#[test]
fn what_needs_a_reload_says_why() {
    let with = |from: &str, to: &str| from_a_to_b(&TEMPLATE.replace(from, to), PATTERN).unwrap_err();
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
        ("backend servers", "backend web", "no backend `servers`"),
        (
            "frontend web",
            "listen l\n    $SERVERS\nfrontend web",
            "not just once",
        ),
        ("    $SERVERS", "backend other\n    $SERVERS", "not just once"),
        ("inter", "ssl inter", "`ssl`"),
    ] {
        let reason = with(from, to);
        assert!(reason.contains(why), "{to}: {reason}");
    }
    for words in [
        "cookie $NAME",
        "enabled",
        "disabled",
        "agent-check",
        "track x/y",
        "check; shutdown",
        "\"a b\"",
        "check\\ x",
        "no-check",
    ] {
        assert!(
            from_a_to_b(TEMPLATE, &format!("{PATTERN} {words}")).is_err(),
            "{words}"
        );
    }
    assert!(from_a_to_b(TEMPLATE, "server $NAME host.$IP:80").is_err());
    let source = TEMPLATE.replace("roundrobin", "source\n  hash-type consistent");
    assert!(from_a_to_b(&source, PATTERN).is_ok());
}

#[test]
fn only_whole_server_lines_may_differ() {
    let old = file(TEMPLATE, PATTERN, &["a", "b"]);
    let changed = |new: &str| change(TEMPLATE, &old, new, "servers").unwrap_err();
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
    assert!(change(TEMPLATE, &old, &(moved + "    balance roundrobin\n"), "servers").is_err());
}

#[test]
fn what_an_earlier_call_left_is_finished() {
    let text = file(TEMPLATE, PATTERN, &["a", "b"]);
    let same = change(TEMPLATE, &text, &text, "servers").unwrap();
    let plan = |servers: &[(&str, u32)], aside| plan(&same, &running(servers), (2, 6), &names(aside));
    // A drain or maintenance of somebody else's is theirs to end.
    assert!(plan(&[("a", 8), ("b", 1)], &[]).unwrap().is_empty());
    assert_eq!(plan(&[("a", 8), ("b", 0)], &["a"]).unwrap().ready, ["a"]);
    assert!(plan(&[("a", 1), ("b", 0)], &["a"]).is_err());
    assert_eq!(
        plan(&[("a", 0), ("b", 0), ("c", 1)], &["c"]).unwrap().remove,
        running(&[("c", 1)])
    );
    let arrived = change(TEMPLATE, &file(TEMPLATE, PATTERN, &["a"]), &text, "servers").unwrap();
    assert!(super::plan(&arrived, &running(&[("a", 0), ("b", 1)]), (2, 6), &names(&[])).is_err());
    assert!(super::plan(&arrived, &running(&[("a", 0)]), (2, 4), &names(&[])).is_err());
}

#[test]
fn somebody_has_to_stay() {
    let leaves = |servers: &[(&str, u32)]| leaves_nobody(&running(servers), &names(&["a"]));
    assert!(leaves(&[("a", 0)]) && leaves(&[("a", 0), ("b", 8)]));
    assert!(!leaves(&[("a", 0), ("b", 0)]) && !leaves(&[("a", 1), ("b", 1)]));
    assert_eq!(
        drop_idle("servers", &running(&[("a", 1)])[0]).unwrap(),
        "set server servers/a addr 10.0.0.5 port 1"
    );
}

#[test]
fn the_difference_is_named() {
    let text = file(TEMPLATE, PATTERN, &["a", "b"]);
    let backend = text::read(&text, "servers").unwrap();
    let difference = |servers: &[(&str, u32)]| difference(&backend, &running(servers), &names(&["c"]));
    assert_eq!(difference(&[("a", 0), ("b", 0), ("c", 1)]), None);
    assert_eq!(difference(&[("a", 0)]).unwrap(), "has no server `b`");
    assert_eq!(
        difference(&[("a", 0), ("b", 0), ("d", 0)]).unwrap(),
        "still has server `d`"
    );
}

proptest! {
    #[test]
    fn the_commands_end_at_the_file(
        old in proptest::collection::btree_set("[a-e]", 0..5),
        new in proptest::collection::btree_set("[a-e]", 0..5),
        live in proptest::collection::btree_set("[a-e]", 0..5),
    ) {
        let text = |set: &BTreeSet<String>| render(TEMPLATE, &entries(set), PATTERN).unwrap();
        let new_text = text(&new);
        let change = change(TEMPLATE, &text(&old), &new_text, "servers").unwrap();
        let states: Vec<(&str, u32)> = live.iter().map(|n| (n.as_str(), 0)).collect();
        let Ok(commands) = plan(&change, &running(&states), (2, 6), &BTreeSet::new()) else {
            // The only reason that is left: a newcomer runs already.
            prop_assert!(new.difference(&old).any(|n| live.contains(n)));
            return Ok(());
        };
        let mut after = live.clone();
        for addition in &commands.add {
            prop_assert!(after.insert(addition.name.clone()));
        }
        for server in &commands.remove {
            prop_assert!(after.remove(&server.name));
        }
        prop_assert_eq!(&after, &new);
        let states: Vec<(&str, u32)> = after.iter().map(|n| (n.as_str(), 0)).collect();
        prop_assert_eq!(difference(&change.backend, &running(&states), &BTreeSet::new()), None);
    }

    #[test]
    fn any_other_change_is_a_reload(at in 0..80_usize, letter in "[a-z#\"\\\\ ]") {
        let old = file(TEMPLATE, PATTERN, &["a", "b"]);
        let mut new = file(TEMPLATE, PATTERN, &["a", "b", "c"]);
        new.insert_str(at, &letter);
        prop_assert!(change(TEMPLATE, &old, &new, "servers").is_err());
    }
}
