//! The network interface behind `--associate-public-ip-address` and the secondary addresses
//! (AWS CLI Command Reference, `run-instances`). Once there is one, EC2 takes subnet, groups and addresses
//! within it only (EC2 API Reference, RunInstances, `NetworkInterface.N`).

use crate::core::text::value::{Map, Value};

const INTERFACES: &str = "NetworkInterfaces";

/// What the simple options say about the first interface.
#[derive(Default)]
pub struct Simple {
    pub public_address: Option<bool>,
    pub secondary_addresses: Vec<String>,
    pub secondary_count: Option<String>,
}

/// Makes the first interface from the simple options, if there are any.
pub fn make(simple: Simple, parameters: &mut Map) -> Result<(), String> {
    // Zero addresses and none are the same to the AWS CLI.
    let count = simple.secondary_count.filter(|count| count != "0");
    let secondary = simple.secondary_addresses;
    let adds = !secondary.is_empty() || count.is_some() || simple.public_address == Some(true);
    if !adds && simple.public_address.is_none() {
        return Ok(());
    }
    match parameters.get(INTERFACES) {
        None => {
            let mut interface = Map::default();
            interface.set("DeviceIndex", Value::Number("0".to_string()));
            parameters.set(INTERFACES, Value::List(vec![Value::Map(interface)]));
        }
        Some(_) if adds => {
            let others = "--associate-public-ip-address and --secondary-private-ip-…";
            return Err(format!("--network-interfaces: {others} belong inside it"));
        }
        Some(_) => {}
    }
    let interface = first(parameters)?;
    if let Some(yes) = simple.public_address {
        interface.set("AssociatePublicIpAddress", Value::Bool(yes));
    }
    if !secondary.is_empty() {
        let list = secondary.into_iter().map(|text| address(text, false));
        interface.set("PrivateIpAddresses", Value::List(list.collect()));
    }
    if let Some(count) = count {
        interface.set("SecondaryPrivateIpAddressCount", Value::Number(count));
    }
    Ok(())
}

/// Moves what EC2 then takes within the interface only. Any other interface is left as the user wrote it.
pub fn fill(parameters: &mut Map) -> Result<(), String> {
    if parameters.get(INTERFACES).is_none() {
        return Ok(());
    }
    let interface = first(parameters)?;
    let has = |key| interface.get(key).is_some();
    if !has("AssociatePublicIpAddress")
        && !has("PrivateIpAddresses")
        && !has("SecondaryPrivateIpAddressCount")
    {
        return Ok(());
    }
    for (from, to) in [
        ("SubnetId", "SubnetId"),
        ("SecurityGroupIds", "Groups"),
        ("PrivateIpAddress", "PrivateIpAddresses"),
        ("Ipv6AddressCount", "Ipv6AddressCount"),
        ("Ipv6Addresses", "Ipv6Addresses"),
        ("EnablePrimaryIpv6", "PrimaryIpv6"),
    ] {
        let value = match (from, parameters.remove(from)) {
            (_, None) => continue,
            // This takes the place of any secondary addresses: the AWS CLI sends it so.
            ("PrivateIpAddress", Some(Value::Text(text))) => Value::List(vec![address(text, true)]),
            (_, Some(value)) => value,
        };
        first(parameters)?.set(to, value);
    }
    Ok(())
}

fn first(parameters: &mut Map) -> Result<&mut Map, String> {
    let mut entries = parameters.0.iter_mut();
    if let Some((_, Value::List(list))) = entries.find(|(name, _)| name == INTERFACES)
        && let Some(Value::Map(interface)) = list.first_mut()
    {
        return Ok(interface);
    }
    Err("--network-interfaces: must be a list of structures".to_string())
}

fn address(text: String, primary: bool) -> Value {
    let mut address = Map::default();
    address.set("PrivateIpAddress", Value::Text(text));
    address.set("Primary", Value::Bool(primary));
    Value::Map(address)
}
