//! What each reader of text from outside holds to, whatever bytes it is given: it does not panic,
//! what it prints it reads back as the same, and what is one line stays one. `tests/fuzz` runs these
//! under a fuzzer; the tests below try what is kept in `tests/corpus` and random changes of it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::aws_cli;
use crate::config::Config;
use crate::core::haproxy::entry::{Entry, is_instance_id};
use crate::core::haproxy::ids;
use crate::core::haproxy::listing::Listed;
use crate::core::haproxy::octets;
use crate::core::haproxy::runtime::{replies, text};
use crate::core::haproxy::state::STATES;
use crate::core::haproxy::template;
use crate::core::load::cpu::Counters;
use crate::core::master::Master;
use crate::core::master::lease::{Arbiter, Rules};
use crate::core::protocol::{FromMaster, FromNode, LONGEST_LINE};
use crate::core::text::ini;
use crate::core::text::words;
use crate::ec2::{response, xml};

/// Panics where a reader does not hold to what it should.
pub type Target = fn(&[u8]);

/// By the names of their directories in `tests/corpus`.
pub const TARGETS: [(&str, Target); 9] = [
    ("protocol", protocol),
    ("master", master),
    ("ini", settings),
    ("entry", entry),
    ("template", servers),
    ("procstat", procstat),
    ("xml", ec2_answer),
    ("command", command),
    ("haproxy", haproxy),
];

const SERVER_LINE: &str = "server $NAME $IP:$PORT check";

/// Tries one input.
pub fn run(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.expect("a target of this name").1(data);
}

fn is_line(text: &str) -> bool {
    text.len() < LONGEST_LINE && text.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// The lines of an input that the sockets would let through.
fn lines(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    text.lines()
        .filter(|line| is_line(line))
        .map(String::from)
        .collect()
}

fn protocol(data: &[u8]) {
    for line in lines(data) {
        match FromNode::parse(&line) {
            Ok(message) => {
                let printed = message.to_string();
                let again = FromNode::parse(&printed).expect("it reads what it prints");
                assert!(is_line(&printed) && again.to_string() == printed, "{printed:?}");
            }
            Err(text) => assert!(is_line(&format!("ERROR {text}")), "{text:?}"),
        }
        match FromMaster::parse(&line) {
            Ok(message) => {
                let printed = message.to_string();
                let again = FromMaster::parse(&printed).expect("it reads what it prints");
                assert!(is_line(&printed) && again.to_string() == printed, "{printed:?}");
            }
            Err(text) => assert!(is_line(&text), "{text:?}"),
        }
    }
}

/// Each line's first byte is who says the rest: one of three, a second later than the last.
fn master(data: &[u8]) {
    let second = Duration::from_secs(1);
    let rules = Rules {
        lease: 5 * second,
        cooldown: 3 * second,
        scale_down_cooldown: 4 * second,
        max_hosts: 10,
        max_launches_per_day: 0,
        min_hosts: 1,
        threshold: 50.0,
        max_step: 0,
        scale_down_window: 60 * second,
        boot_timeout: 60 * second,
    };
    let mut now = Instant::now();
    let mut master = Master::new("lb1".into(), Vec::new(), Arbiter::new(rules, None, now));
    let (mut epoch, mut lease) = (0, String::new());
    for (number, line) in lines(data).iter().enumerate() {
        now += second;
        let Some((who, text)) = line.split_at_checked(1) else {
            continue;
        };
        let peer = u64::from(who.as_bytes()[0] % 3);
        if text.is_empty() {
            master.closed(peer);
            master.opened(peer, now);
        }
        let nonce = format!("{number:032x}");
        // What HAProxy has follows from what is said as well.
        let state = STATES[text.len() % STATES.len()].1;
        let entries = [1, 2].map(|n| format!("app{n} 10.0.0.1 80 i-{n} {state} {number}"));
        let seen: Vec<Listed> = entries.iter().filter_map(|line| Listed::parse(line)).collect();
        for output in master.saw(&seen[..number % 3], now) {
            for (_, message) in master.spelt_out(output) {
                assert!(is_line(&message.to_string()), "{message}");
            }
        }
        master.requests(text.len().checked_mul(number).map(|n| n as u64), now);
        for output in master.line(peer, text, &nonce, now) {
            for (_, message) in master.spelt_out(output) {
                assert!(is_line(&message.to_string()), "{message}");
                if let FromMaster::Grant {
                    lease: id, epoch: e, ..
                } = message
                {
                    assert!(e > epoch || (e == epoch && id == lease), "{e} after {epoch}");
                    (epoch, lease) = (e, id);
                }
            }
        }
    }
}

fn settings(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = Config::parse(Path::new("autoscaler.ini"), &text) {
        assert!(error.to_string().starts_with("autoscaler.ini:"), "{error}");
    }
    let Ok(items) = ini::parse(&text) else { return };
    // A key without a name is refused later; written as here it would continue the value above.
    if items.iter().any(|item| item.key.is_empty()) {
        return;
    }
    let mut printed = String::new();
    let mut section = None;
    for item in &items {
        if section.replace(&item.section) != Some(&item.section) {
            printed += &format!("[{}]\n", item.section);
        }
        printed += &format!("{} = {}\n", item.key, item.value.replace('\n', "\n  "));
    }
    let plain = |items: Vec<ini::Item>| -> Vec<_> {
        let parts = items.into_iter().map(|item| (item.section, item.key, item.value));
        parts.collect()
    };
    let again = ini::parse(&printed).expect("it reads what is printed");
    assert_eq!(plain(again), plain(items));
}

/// The first line is the file's name.
fn entry(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (name, text) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(entry) = Entry::parse(name, text) else {
        return;
    };
    for line in [entry.listing(), entry.server_line(SERVER_LINE, 1)] {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    assert!(entry.server_line(SERVER_LINE, 1).starts_with("server "));
    assert_eq!(Entry::parse(name, &entry.text()).as_ref(), Ok(&entry));
}

/// The first byte says how many entries there are.
fn servers(data: &[u8]) {
    let Some((count, template)) = data.split_first() else {
        return;
    };
    let template = octets::widen(template);
    let name = |number| format!("app{number}");
    let entries: Vec<Entry> = (0..count % 8)
        .map(|number| Entry::parse(&name(number), "10.0.0.1 80 -").expect("an entry"))
        .collect();
    let Ok(rendered) = template::render(
        &template,
        &entries,
        &ids::assign(&[].into(), &entries),
        SERVER_LINE,
    ) else {
        return;
    };
    let _ = (
        text::read(&rendered, &text::managed(&template)),
        text::doubled(&rendered),
    );
    assert!(rendered.ends_with('\n'));
    let place = |line: &&str| line.contains("$SERVERS") && !line.trim_start().starts_with('#');
    let places = template.split_inclusive('\n').filter(place).count();
    let lines = template.split_inclusive('\n').count() - places + places * entries.len();
    assert_eq!(rendered.split_inclusive('\n').count(), lines.max(1));
}

/// Two readings with a zero byte between them.
fn procstat(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (earlier, later) = text.split_once('\0').unwrap_or((&text, &text));
    if let (Ok(earlier), Ok(later)) = (Counters::parse(earlier), Counters::parse(later))
        && let Some(busy) = later.busy_since(&earlier)
    {
        assert!((0.0..=100.0).contains(&busy), "{busy}");
    }
}

fn ec2_answer(data: &[u8]) {
    let Ok(root) = xml::parse(data) else { return };
    if let Some((code, message)) = response::error(&root) {
        assert!(!format!("{code}{message}").contains(char::is_control));
    }
    let described = response::described(&root).map(|(instances, _)| instances);
    for found in [response::launched(&root), described] {
        let instances = found.unwrap_or_else(|text| {
            assert!(!text.contains(char::is_control), "{text:?}");
            Vec::new()
        });
        for instance in instances {
            assert!(is_instance_id(&instance.id));
            let words = [instance.instance_type, instance.subnet, instance.zone];
            let reason = instance.state_reason.unwrap_or_default();
            assert!(!format!("{words:?}{reason}").contains(char::is_control));
        }
    }
}

fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(split) = aws_cli::split(&text) {
        let quoted = |word: &String| format!("'{}'", word.replace('\'', "'\\''"));
        let line = split.iter().map(quoted).collect::<Vec<_>>().join(" ");
        assert_eq!(aws_cli::split(&line).as_ref(), Ok(&split));
        assert_eq!(words::quoted(&line), Ok(split));
    }
    let _ = words::quoted(&text);
    let no_file = |_: &str| Err(ErrorKind::NotFound.into());
    aws_cli::kind(&text);
    let _ = aws_cli::parse(&text, &no_file);
    let _ = aws_cli::parse(
        &format!("aws ec2 run-instances --image-id ami-1 {text}"),
        &no_file,
    );
}

fn haproxy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = replies::info(&text) {
        assert!(!error.contains('\n'), "{error:?}");
    }
    if let Ok(servers) = replies::servers_state(&text) {
        assert!(servers.iter().all(|server| !server.name.contains(['\n', ' '])));
    }
    if let Ok(rows) = replies::stat(&text) {
        assert!(rows.iter().all(|row| !row.name.contains('\n')));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use std::fs;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(target);
        let mut files: Vec<_> = fs::read_dir(&directory)
            .expect("a corpus for each target")
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{}", directory.display());
        files.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    #[test]
    fn all_that_is_kept() {
        for (name, _) in TARGETS {
            corpus(name).iter().for_each(|data| run(name, data));
        }
    }

    #[derive(Debug, Clone)]
    enum Change {
        Insert(Index, Vec<u8>),
        Remove(Index, usize),
        Repeat(Index, usize, usize),
        /// The rest becomes that of another input.
        Splice(Index, Index, Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        let bytes = proptest::collection::vec(any::<u8>(), 1..4);
        prop_oneof![
            (any::<Index>(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            (any::<Index>(), "[\n\\[\\]{}'\"$ =,:;<>&#0-9A-Z-]{1,3}")
                .prop_map(|(at, text)| Change::Insert(at, text.into())),
            (any::<Index>(), 1usize..9).prop_map(|(at, length)| Change::Remove(at, length)),
            (any::<Index>(), 1usize..30, 1usize..60)
                .prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
            any::<(Index, Index, Index)>().prop_map(|(at, other, from)| Change::Splice(at, other, from)),
        ]
    }

    fn changed(inputs: &[Vec<u8>], first: Index, changes: &[Change]) -> Vec<u8> {
        let mut data = first.get(inputs).clone();
        for change in changes {
            let place = |at: &Index| at.index(data.len() + 1);
            match change {
                Change::Insert(at, bytes) => drop(data.splice(place(at)..place(at), bytes.iter().copied())),
                Change::Remove(at, length) => {
                    let at = place(at);
                    data.drain(at..data.len().min(at + length));
                }
                Change::Repeat(at, length, times) => {
                    let at = place(at);
                    let piece = data[at..data.len().min(at + length)].repeat(*times);
                    data.splice(at..at, piece);
                }
                Change::Splice(at, other, from) => {
                    data.truncate(place(at));
                    let other = other.get(inputs);
                    data.extend_from_slice(&other[from.index(other.len() + 1)..]);
                }
            }
        }
        data
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changes_of_what_is_kept(
            which in 0..TARGETS.len(),
            first in any::<Index>(),
            changes in proptest::collection::vec(change(), 0..6),
        ) {
            let (name, target) = TARGETS[which];
            target(&changed(&corpus(name), first, &changes));
        }
    }
}
