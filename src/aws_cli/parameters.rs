//! The options of one command → the parameters of its request, as the AWS CLI puts them together
//! (AWS CLI Command Reference, `run-instances`; AWS CLI User Guide, "Skeletons and input files").

use super::input::{Read, load, text, value};
use super::interface;
use super::options::{Given, Meaning, Opt, kebab};
use super::shapes::Operation;
use super::wire::{Params, user_data, write};
use crate::core::text::json;
use crate::core::text::value::{Map, Value, integer};
use crate::core::text::words::did_you_mean;
use crate::ec2::Service;

/// What the options say. The keys are names of members of the operation.
#[derive(Default)]
struct Input {
    parameters: Map,
    /// From `--cli-input-json`: what holds where no option says otherwise.
    json: Map,
    simple: interface::Simple,
}

/// The parameters that these options make, without Action, Version and ClientToken.
pub fn params(
    operation: &Operation,
    given: Vec<Given>,
    options: &[Opt],
    file: Read,
) -> Result<Params, String> {
    let mut input = Input::default();
    for Given { option, values } in given {
        let Opt { name, meaning } = &options[option];
        let taken = input.take(meaning, values, file);
        taken.map_err(|cause| format!("{name}: {cause}"))?;
    }
    let mut parameters = input.parameters;
    interface::make(input.simple, &mut parameters)?;
    let mut from_json = Vec::new();
    for (key, value) in input.json.0 {
        if parameters.get(&key).is_none() {
            parameters.set(&key, value);
            from_json.push(key);
        }
    }
    if operation.action == "RunInstances" {
        for name in ["MinCount", "MaxCount"] {
            if parameters.get(name).is_none() {
                parameters.set(name, Value::Number("1".to_string()));
            }
        }
        interface::fill(&mut parameters)?;
    }
    write_all(operation, &parameters, &from_json)
}

impl Input {
    /// Takes one option with its values, as many as the option may have.
    fn take(&mut self, meaning: &Meaning, values: Vec<String>, file: Read) -> Result<(), String> {
        match *meaning {
            Meaning::Set(member) if member.name == "UserData" => {
                let bytes = load(&values[0], file)?.unwrap_or(values[0].as_bytes().to_vec());
                let encoded = Value::Text(user_data(&bytes)?);
                self.parameters.set(member.name, encoded);
            }
            Meaning::Set(member) => {
                let value = value(&member.shape, &values, file)?;
                self.parameters.set(member.name, value);
            }
            Meaning::Turn(member, on) => self.parameters.set(member.name, Value::Bool(on)),
            Meaning::Count => {
                let text = text(&values[0], file)?;
                let (min, max) = text.split_once(':').unwrap_or((&text, &text));
                self.parameters.set("MinCount", Value::Number(integer(min)?));
                self.parameters.set("MaxCount", Value::Number(integer(max)?));
            }
            Meaning::PublicAddress(yes) => {
                let no = self.simple.public_address == Some(false);
                self.simple.public_address = Some(yes && !no);
            }
            Meaning::SecondaryAddresses => {
                if values.len() == 1 && load(&values[0], file)?.is_some() {
                    return Err("takes no file".to_string());
                }
                self.simple.secondary_addresses = values;
            }
            Meaning::SecondaryAddressCount => {
                self.simple.secondary_count = Some(integer(&values[0])?);
            }
            Meaning::InputJson => self.json = input_json(&text(&values[0], file)?)?,
            Meaning::Refused(reason) => return Err(reason.to_string()),
        }
        Ok(())
    }
}

/// Reads the document of `--cli-input-json`.
fn input_json(text: &str) -> Result<Map, String> {
    let Value::Map(mut map) = json::parse(text)? else {
        return Err("must be a structure: {…}".to_string());
    };
    if map.get("ClientToken").is_some() {
        return Err("ClientToken: autoscaler makes its own".to_string());
    }
    if map.get("DryRun") == Some(&Value::Bool(true)) {
        return Err("DryRun: would launch or end nothing; take it out".to_string());
    }
    if let Some(Value::Text(text)) = map.get("UserData") {
        let encoded = user_data(text.as_bytes()).map_err(|cause| format!("UserData: {cause}"))?;
        map.set("UserData", Value::Text(encoded));
    }
    Ok(map)
}

fn write_all(operation: &Operation, all: &Map, from_json: &[String]) -> Result<Params, String> {
    let mut params = Params::new();
    for (key, value) in &all.0 {
        let Some(member) = operation.members.iter().find(|member| member.name == key) else {
            let hint = did_you_mean(key, operation.members.iter().map(|member| member.name));
            return Err(format!("--cli-input-json: unknown key {key:?}{hint}"));
        };
        let path = match from_json.contains(key) {
            true => format!("--cli-input-json: {key}"),
            false => format!("--{}", kebab(key)),
        };
        write(&member.shape, value, member.wire, &path, &mut params)?;
        let empty = match value {
            Value::Text(text) => text.is_empty(),
            Value::List(list) => list.is_empty(),
            _ => false,
        };
        // The AWS CLI leaves this check to EC2, but not to Auto Scaling.
        if empty && (operation.service == Service::Autoscaling || member.required) {
            return Err(format!("{path}: must not be empty"));
        }
    }
    for member in operation.members {
        if member.required && all.get(member.name).is_none() {
            return Err(format!("--{}: is missing", kebab(member.name)));
        }
    }
    Ok(params)
}
