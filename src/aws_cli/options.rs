//! Words → options of one operation with their values, as the AWS CLI takes them: `--opt value`,
//! `--opt=value`, unambiguous prefixes; the last of repeated options wins.

use super::shapes::{Member, Operation, Shape};
use crate::core::text::words::did_you_mean;

/// An option of one operation.
pub struct Opt {
    pub name: String,
    pub meaning: Meaning,
}

#[derive(Clone, Copy)]
pub enum Meaning {
    Set(&'static Member),
    Turn(&'static Member, bool),
    Count,
    PublicAddress(bool),
    SecondaryAddresses,
    SecondaryAddressCount,
    InputJson,
    /// Why it is refused.
    Refused(&'static str),
}

/// All options of an operation: one for each member, and those that the AWS CLI adds.
pub fn options(operation: &Operation) -> Vec<Opt> {
    let mut options = Vec::new();
    let mut add = |name: &str, meaning| {
        let name = format!("--{name}");
        options.push(Opt { name, meaning });
    };
    for member in operation.members {
        let name = kebab(member.name);
        match (member.name, member.shape) {
            ("MinCount" | "MaxCount", _) => {}
            ("ClientToken", _) => {
                let reason = "autoscaler makes its own, so that no two nodes launch two machines";
                add(&name, Meaning::Refused(reason));
            }
            ("DryRun", _) => {
                let reason = "would launch or end nothing; `autoscaler check` makes a dry run of the command";
                add(&name, Meaning::Refused(reason));
                add(&format!("no-{name}"), Meaning::Turn(member, false));
            }
            (_, Shape::Boolean) => {
                add(&name, Meaning::Turn(member, true));
                match name.strip_prefix("disable-api-termination") {
                    Some(_) => add("enable-api-termination", Meaning::Turn(member, false)),
                    None => add(&format!("no-{name}"), Meaning::Turn(member, false)),
                }
            }
            _ => add(&name, Meaning::Set(member)),
        }
    }
    if operation.action == "RunInstances" {
        add("count", Meaning::Count);
        add("associate-public-ip-address", Meaning::PublicAddress(true));
        add("no-associate-public-ip-address", Meaning::PublicAddress(false));
        add("secondary-private-ip-addresses", Meaning::SecondaryAddresses);
        add(
            "secondary-private-ip-address-count",
            Meaning::SecondaryAddressCount,
        );
    }
    add("cli-input-json", Meaning::InputJson);
    add("generate-cli-skeleton", Meaning::Refused("is not a request"));
    options
}

/// `ImageId` → `image-id`.
pub fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// An option as it was given: its place in the list of options, and its values.
pub struct Given {
    pub option: usize,
    pub values: Vec<String>,
}

/// Reads the words after the operation. Of two that set the same thing, the last stays.
pub fn collect(words: &[String], options: &[Opt]) -> Result<Vec<Given>, String> {
    let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).collect();
    let mut all: Vec<Given> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let (option, inline) = match read(word, &names)? {
            Reading::Known(index, inline) => (index, inline),
            Reading::Operand => {
                return Err(format!(
                    "{word:?} belongs to no option; a value with blanks needs quotes"
                ));
            }
            Reading::Unknown => {
                let name = word.split('=').next().unwrap_or(word);
                let hint = did_you_mean(name, names.iter().copied());
                return Err(format!("{name}: unknown option{hint}"));
            }
        };
        let Opt { name, meaning } = &options[option];
        let (least, most) = match meaning {
            Meaning::Refused(reason) => return Err(format!("{name}: {reason}")),
            Meaning::Turn(..) | Meaning::PublicAddress(_) => (0, 0),
            Meaning::SecondaryAddresses => (0, usize::MAX),
            Meaning::Set(member) if member.shape.item().is_some() => (0, usize::MAX),
            _ => (1, 1),
        };
        let mut values: Vec<String> = inline.map(str::to_string).into_iter().collect();
        while inline.is_none() && values.len() < most {
            let Some(next) = words.peek() else { break };
            match read(next, &names)? {
                Reading::Operand => values.extend(words.next().cloned()),
                _ => break,
            }
        }
        if values.len() < least || values.len() > most {
            return Err(arity(name, inline.is_some()));
        }
        all.retain(|given| !same_target(&options[given.option].meaning, meaning));
        all.push(Given { option, values });
    }
    Ok(all)
}

fn same_target(a: &Meaning, b: &Meaning) -> bool {
    match (a, b) {
        (Meaning::Set(a), Meaning::Set(b)) => a.name == b.name,
        (Meaning::Turn(a, _), Meaning::Turn(b, _)) => a.name == b.name,
        // To the AWS CLI these are two options: of both, the negative one counts, wherever it stands.
        (Meaning::PublicAddress(a), Meaning::PublicAddress(b)) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// The error of an option with too many or too few values.
pub fn arity(name: &str, has_value: bool) -> String {
    match has_value {
        true => format!("{name}: takes no value"),
        false => format!("{name}: needs a value"),
    }
}

/// What one word is.
pub enum Reading<'a> {
    /// Not an option: a value, or a name.
    Operand,
    Unknown,
    /// Which of the names, and the value after `=`.
    Known(usize, Option<&'a str>),
}

/// Reads one word where `names` are the options. Err: it could be several of them.
pub fn read<'a>(word: &'a str, names: &[&str]) -> Result<Reading<'a>, String> {
    if !word.starts_with('-') || word == "-" {
        return Ok(Reading::Operand);
    }
    if word == "--" {
        return Err("--: options end where the line does".to_string());
    }
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if let Some(index) = names.iter().position(|known| *known == name) {
        return Ok(Reading::Known(index, value));
    }
    let mut longer = names
        .iter()
        .enumerate()
        .filter(|(_, known)| known.starts_with(name));
    match (longer.next(), longer.next()) {
        (Some((_, a)), Some((_, b))) if name.starts_with("--") => Err(format!("{name}: could be {a} or {b}")),
        (Some((index, _)), None) if name.starts_with("--") => Ok(Reading::Known(index, value)),
        // A negative number, and a text with a blank in it, are values even with a dash in front.
        _ if is_number(&word[1..]) || word.contains(' ') => Ok(Reading::Operand),
        _ => Ok(Reading::Unknown),
    }
}

fn is_number(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().filter(|b| *b == b'.').count() < 2
}
