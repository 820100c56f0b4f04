//! What the app servers' key may do on a HAProxy host: the calls that their daemons make, word for
//! word as `worker/remote.rs` sends them, and nothing else; and how far it may go with them.
//!
//! ```text
//! order   = ["sudo "] program " " call
//! program = "autoscaler" | an absolute path that ends in "/autoscaler"
//! call    = "list-hosts" [" --state"]
//!         | "generate --check"
//!         | "add-host " host " " port [" --id " instance] [" --unless-removed"] " --apply"
//!         | "remove-host " server " --apply" [" --force"]
//! server  = name | host ":" port | "'[" IPv6 address "]:" port "'"
//! ```
//!
//! No shell reads the order, so quotes, `$` and `;` are characters that do not fit. What the first
//! words say is for a `remote_command` that suits machines without this gate: it is this very
//! program that carries out the call.

use std::net::{IpAddr, Ipv6Addr};

use super::entry::{Entry, check_host, check_instance, check_name, parse_port};

/// Who gives a command on a HAProxy host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A person, cron, or a daemon whose key may do all.
    Hand,
    /// A daemon through `ssh-gate`, from this address as far as it is known.
    Gate(Option<IpAddr>),
}

impl By {
    /// May it pass over what keeps `entry` in, by `remove-host --force`? A machine may force out itself
    /// alone.
    pub fn may_force(self, entry: &Entry) -> bool {
        match self {
            By::Hand | By::Gate(None) => true,
            By::Gate(Some(caller)) => entry.address().parse() == Ok(caller),
        }
    }

    /// The most entries that its `add-host` may make of them: through the gate, one more than
    /// `max_hosts`, while a machine is replaced.
    pub fn most_entries(self, max_hosts: usize) -> usize {
        match self {
            By::Hand => usize::MAX,
            By::Gate(_) => max_hosts.saturating_add(1),
        }
    }
}

/// The arguments of the call in `order`, such as sshd hands over in `SSH_ORIGINAL_COMMAND`; `None`
/// for all that the grammar does not hold.
pub fn arguments(order: &str) -> Option<Vec<&str>> {
    let mut words: Vec<&str> = order.split(' ').collect();
    if words[0] == "sudo" {
        words.remove(0);
    }
    let (program, call) = words.split_first()?;
    let permitted = is_program(program)
        && match call {
            ["list-hosts"] | ["list-hosts", "--state"] | ["generate", "--check"] => true,
            ["add-host", host, port, "--apply"] | ["add-host", host, port, "--unless-removed", "--apply"] => {
                is_place(host, port)
            }
            ["add-host", host, port, "--id", id, "--apply"]
            | ["add-host", host, port, "--id", id, "--unless-removed", "--apply"] => {
                is_place(host, port) && check_instance(id).is_ok()
            }
            ["remove-host", server, "--apply"] | ["remove-host", server, "--apply", "--force"] => {
                check_name(server).is_ok() || is_ipv6_server(server)
            }
            _ => false,
        };
    // The quotes are for the shell of machines without this gate.
    permitted.then(|| call.iter().map(|word| word.trim_matches('\'')).collect())
}

fn is_program(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    word == "autoscaler"
        || (word.starts_with('/') && word.ends_with("/autoscaler") && word.bytes().all(plain))
}

fn is_place(host: &str, port: &str) -> bool {
    host.len() <= 253 && check_host(host).is_ok() && parse_port(port).is_ok()
}

/// Is it `'[<IPv6 address>]:<port>'`?
fn is_ipv6_server(word: &str) -> bool {
    let inside = word.strip_prefix("'[").and_then(|w| w.strip_suffix('\''));
    inside
        .and_then(|w| w.split_once("]:"))
        .is_some_and(|(address, port)| address.parse::<Ipv6Addr>().is_ok() && parse_port(port).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_calls_of_a_daemon() {
        for (order, call) in [
            ("autoscaler list-hosts", "list-hosts"),
            ("sudo autoscaler list-hosts", "list-hosts"),
            ("/usr/local/bin/autoscaler list-hosts", "list-hosts"),
            ("autoscaler list-hosts --state", "list-hosts --state"),
            ("sudo autoscaler generate --check", "generate --check"),
            (
                "autoscaler add-host 10.0.0.5 80 --id i-0ab --apply",
                "add-host 10.0.0.5 80 --id i-0ab --apply",
            ),
            (
                "autoscaler add-host app.internal 8080 --apply",
                "add-host app.internal 8080 --apply",
            ),
            (
                "autoscaler add-host fd77::9 80 --apply",
                "add-host fd77::9 80 --apply",
            ),
            (
                "autoscaler remove-host i-0ab --apply",
                "remove-host i-0ab --apply",
            ),
            (
                "autoscaler remove-host app1 --apply --force",
                "remove-host app1 --apply --force",
            ),
            (
                "autoscaler remove-host 10.0.0.5:80 --apply",
                "remove-host 10.0.0.5:80 --apply",
            ),
            (
                "autoscaler remove-host '[fd77::9]:80' --apply",
                "remove-host [fd77::9]:80 --apply",
            ),
        ] {
            assert_eq!(
                arguments(order).map(|a| a.join(" ")).as_deref(),
                Some(call),
                "{order}"
            );
        }
    }

    #[test]
    fn a_machine_forces_out_itself_alone_and_bounds_hold_through_the_gate() {
        let entry = Entry::parse("app1", "10.0.0.5 80 -").unwrap();
        let gate = |ip: &str| By::Gate(Some(ip.parse().unwrap()));
        assert!(By::Hand.may_force(&entry) && By::Gate(None).may_force(&entry));
        assert!(gate("10.0.0.5").may_force(&entry) && !gate("10.0.0.6").may_force(&entry));
        assert_eq!(
            [By::Hand, By::Gate(None)].map(|by| by.most_entries(4)),
            [usize::MAX, 5]
        );
    }

    proptest! {
        /// Whatever gets through begins with one of four words, is made of characters that mean
        /// nothing to a shell, and holds no option but those of the grammar.
        #[test]
        fn nothing_else(order in "(sudo )?(/x/)?autoscaler (list-hosts|add-host|remove-host|generate)( [-a-z0-9.:'\\[\\]$;\n]{0,12}){0,6}( --apply)?") {
            if let Some(call) = arguments(&order) {
                prop_assert!(["list-hosts", "add-host", "remove-host", "generate"].contains(&call[0]));
                let options = ["--id", "--apply", "--state", "--check", "--force"];
                for word in &call[1..] {
                    prop_assert!(!word.starts_with('-') || options.contains(word), "{}", word);
                    prop_assert!(word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:[]".contains(&b)), "{}", word);
                }
            }
        }
    }
}
