//! What a HAProxy host says of its entries: the lines of `list-hosts`, with and without `--state`.

use super::entry::{self, Entry};
use super::state::{STATES, State};

/// One entry of a HAProxy host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub address: String,
    /// `None` in a line of 0.0.3 that has none.
    pub port: Option<u16>,
    pub instance: Option<String>,
    pub state: State,
    /// For how many seconds it has been in that state.
    pub since: Option<u64>,
}

impl Listed {
    /// An entry of this host, as its HAProxy has it.
    pub fn of(entry: &Entry, state: State, since: Option<u64>) -> Listed {
        Listed {
            name: entry.name.clone(),
            address: entry.address(),
            port: entry.port(),
            instance: entry.instance().map(String::from),
            state,
            since,
        }
    }

    /// Reads `<name> <address> <port> <instance or -> [<state> <seconds or ->]`; `None` for anything
    /// else, which the other end may have made up. Words after those are a later version's.
    pub fn parse(line: &str) -> Option<Listed> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, address, port, instance, state, since) = match words[..] {
            [name, address, port, instance] => (name, address, port, instance, "-", "-"),
            [name, address, port, instance, state, since, ..] => {
                (name, address, port, instance, state, since)
            }
            _ => return None,
        };
        entry::check_name(name).and(entry::check_host(address)).ok()?;
        Some(Listed {
            name: name.into(),
            address: address.into(),
            port: entry::parse_port(port).ok(),
            instance: match instance {
                "-" => None,
                id => Some(entry::check_instance(id).ok()?.into()),
            },
            state: STATES.iter().find(|(_, word)| *word == state)?.0,
            since: match since {
                "-" => None,
                seconds => Some(seconds.parse().ok()?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_words_or_six() {
        let plain = Listed::parse("a 10.0.0.1 80 -").unwrap();
        assert_eq!(
            (plain.state, plain.since, plain.port),
            (State::Unknown, None, Some(80))
        );
        let down = Listed::parse("a 10.0.0.1 - i-1 DOWN 61 later").unwrap();
        assert_eq!((down.state, down.since, down.port), (State::Down, Some(61), None));
        for wrong in [
            "",
            "a 10.0.0.1 80",
            "a 10.0.0.1 80 - UP",
            "a 10.0.0.1 80 - SIDEWAYS 3",
            "a 10.0.0.1 80 - UP x",
        ] {
            assert_eq!(Listed::parse(wrong), None, "{wrong}");
        }
    }
}
