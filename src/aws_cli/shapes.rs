//! The parameters of the operations that autoscaler carries out, and their types.
//!
//! One table drives everything: option names (`ImageId` is `--image-id`), keys of shorthand and JSON,
//! types, and the names on the wire. Source: EC2 API Reference 2016-11-15, RunInstances and
//! TerminateInstances; Amazon EC2 Auto Scaling API Reference 2011-01-01.

use crate::ec2::Service;

/// One operation: how the AWS CLI calls it, and what it takes.
pub struct Operation {
    pub service: Service,
    /// `aws SERVICE_WORD COMMAND_WORD`.
    pub service_word: &'static str,
    pub command_word: &'static str,
    pub action: &'static str,
    pub members: &'static [Member],
}

/// One key of a structure.
#[derive(Clone, Copy)]
pub struct Member {
    pub name: &'static str,
    /// The name in a Query request. It differs for lists: `Tags` are `Tag.1`, `Tag.2`, …
    pub wire: &'static str,
    pub shape: Shape,
    pub required: bool,
}

#[derive(Clone, Copy)]
pub enum Shape {
    Text,
    Integer,
    Boolean,
    Time,
    Texts,
    Structure(&'static [Member]),
    Structures(&'static [Member]),
}

impl Shape {
    /// What a list is one of.
    pub fn item(self) -> Option<Shape> {
        match self {
            Shape::Texts => Some(Shape::Text),
            Shape::Structures(members) => Some(Shape::Structure(members)),
            _ => None,
        }
    }
}

impl Member {
    const fn required(self) -> Member {
        Member {
            required: true,
            ..self
        }
    }
}

const fn member(name: &'static str, wire: &'static str, shape: Shape) -> Member {
    Member {
        name,
        wire,
        shape,
        required: false,
    }
}

const fn text(name: &'static str) -> Member {
    member(name, name, Shape::Text)
}

const fn int(name: &'static str) -> Member {
    member(name, name, Shape::Integer)
}

const fn bool(name: &'static str) -> Member {
    member(name, name, Shape::Boolean)
}

const fn texts(name: &'static str, wire: &'static str) -> Member {
    member(name, wire, Shape::Texts)
}

const fn one(name: &'static str, members: &'static [Member]) -> Member {
    member(name, name, Shape::Structure(members))
}

const fn many(name: &'static str, wire: &'static str, members: &'static [Member]) -> Member {
    member(name, wire, Shape::Structures(members))
}

pub static OPERATIONS: [Operation; 4] = [
    Operation {
        service: Service::Ec2,
        service_word: "ec2",
        command_word: "run-instances",
        action: "RunInstances",
        members: RUN_INSTANCES,
    },
    Operation {
        service: Service::Ec2,
        service_word: "ec2",
        command_word: "terminate-instances",
        action: "TerminateInstances",
        members: &[
            texts("InstanceIds", "InstanceId").required(),
            bool("Force"),
            bool("SkipOsShutdown"),
            bool("DryRun"),
        ],
    },
    Operation {
        service: Service::Autoscaling,
        service_word: "autoscaling",
        command_word: "set-desired-capacity",
        action: "SetDesiredCapacity",
        members: &[
            text("AutoScalingGroupName").required(),
            int("DesiredCapacity").required(),
            bool("HonorCooldown"),
        ],
    },
    Operation {
        service: Service::Autoscaling,
        service_word: "autoscaling",
        command_word: "terminate-instance-in-auto-scaling-group",
        action: "TerminateInstanceInAutoScalingGroup",
        members: &[
            text("InstanceId"),
            texts("InstanceIds", "InstanceIds.member"),
            text("AutoScalingGroupName"),
            bool("ShouldDecrementDesiredCapacity").required(),
        ],
    },
];

const RUN_INSTANCES: &[Member] = &[
    many(
        "BlockDeviceMappings",
        "BlockDeviceMapping",
        &[
            text("DeviceName"),
            text("VirtualName"),
            text("NoDevice"),
            one("Ebs", EBS),
        ],
    ),
    text("ImageId"),
    text("InstanceType"),
    int("Ipv6AddressCount"),
    many("Ipv6Addresses", "Ipv6Address", IPV6_ADDRESS),
    text("KernelId"),
    text("KeyName"),
    int("MaxCount"),
    int("MinCount"),
    one(
        "Monitoring",
        &[
            bool("Enabled").required(),
            texts("MetricCategoryIds", "MetricCategoryId"),
        ],
    ),
    one(
        "Placement",
        &[
            text("AvailabilityZone"),
            text("AvailabilityZoneId"),
            text("Affinity"),
            text("GroupName"),
            text("GroupId"),
            int("PartitionNumber"),
            text("HostId"),
            text("HostResourceGroupArn"),
            text("Tenancy"),
            text("SpreadDomain"),
        ],
    ),
    text("RamdiskId"),
    texts("SecurityGroupIds", "SecurityGroupId"),
    texts("SecurityGroups", "SecurityGroup"),
    text("SubnetId"),
    text("UserData"),
    many(
        "ElasticGpuSpecification",
        "ElasticGpuSpecification",
        &[text("Type").required()],
    ),
    many(
        "ElasticInferenceAccelerators",
        "ElasticInferenceAccelerator",
        &[text("Type").required(), int("Count")],
    ),
    many(
        "TagSpecifications",
        "TagSpecification",
        &[
            text("ResourceType"),
            many("Tags", "Tag", &[text("Key"), text("Value")]),
        ],
    ),
    one(
        "LaunchTemplate",
        &[
            text("LaunchTemplateId"),
            text("LaunchTemplateName"),
            text("Version"),
        ],
    ),
    one(
        "InstanceMarketOptions",
        &[text("MarketType"), one("SpotOptions", SPOT_OPTIONS)],
    ),
    one("CreditSpecification", &[text("CpuCredits").required()]),
    one(
        "CpuOptions",
        &[
            int("CoreCount"),
            int("ThreadsPerCore"),
            text("AmdSevSnp"),
            text("NestedVirtualization"),
        ],
    ),
    one(
        "CapacityReservationSpecification",
        &[
            text("CapacityReservationPreference"),
            one(
                "CapacityReservationTarget",
                &[
                    text("CapacityReservationId"),
                    text("CapacityReservationResourceGroupArn"),
                ],
            ),
        ],
    ),
    one("HibernationOptions", &[bool("Configured")]),
    many(
        "LicenseSpecifications",
        "LicenseSpecification",
        &[text("LicenseConfigurationArn")],
    ),
    one(
        "MetadataOptions",
        &[
            text("HttpTokens"),
            int("HttpPutResponseHopLimit"),
            text("HttpEndpoint"),
            text("HttpProtocolIpv6"),
            text("InstanceMetadataTags"),
        ],
    ),
    one("EnclaveOptions", &[bool("Enabled")]),
    one(
        "PrivateDnsNameOptions",
        &[
            text("HostnameType"),
            bool("EnableResourceNameDnsARecord"),
            bool("EnableResourceNameDnsAAAARecord"),
        ],
    ),
    one("MaintenanceOptions", &[text("AutoRecovery")]),
    bool("DisableApiStop"),
    bool("EnablePrimaryIpv6"),
    one("NetworkPerformanceOptions", &[text("BandwidthWeighting")]),
    one("Operator", &[text("Principal")]),
    many("SecondaryInterfaces", "SecondaryInterface", SECONDARY_INTERFACE),
    bool("DryRun"),
    bool("DisableApiTermination"),
    text("InstanceInitiatedShutdownBehavior"),
    text("PrivateIpAddress"),
    text("ClientToken"),
    text("AdditionalInfo"),
    many("NetworkInterfaces", "NetworkInterface", NETWORK_INTERFACE),
    one("IamInstanceProfile", &[text("Arn"), text("Name")]),
    bool("EbsOptimized"),
];

const EBS: &[Member] = &[
    bool("DeleteOnTermination"),
    int("Iops"),
    text("SnapshotId"),
    int("VolumeSize"),
    text("VolumeType"),
    text("KmsKeyId"),
    int("Throughput"),
    text("OutpostArn"),
    text("AvailabilityZone"),
    text("AvailabilityZoneId"),
    bool("Encrypted"),
    int("VolumeInitializationRate"),
    int("EbsCardIndex"),
];

const IPV6_ADDRESS: &[Member] = &[text("Ipv6Address"), bool("IsPrimaryIpv6")];

const SPOT_OPTIONS: &[Member] = &[
    text("MaxPrice"),
    text("SpotInstanceType"),
    int("BlockDurationMinutes"),
    member("ValidUntil", "ValidUntil", Shape::Time),
    text("InstanceInterruptionBehavior"),
];

const SECONDARY_INTERFACE: &[Member] = &[
    bool("DeleteOnTermination"),
    int("DeviceIndex"),
    many(
        "PrivateIpAddresses",
        "PrivateIpAddress",
        &[text("PrivateIpAddress").required()],
    ),
    int("PrivateIpAddressCount"),
    text("SecondarySubnetId"),
    text("InterfaceType"),
    int("NetworkCardIndex"),
];

const NETWORK_INTERFACE: &[Member] = &[
    bool("AssociatePublicIpAddress"),
    bool("DeleteOnTermination"),
    text("Description"),
    int("DeviceIndex"),
    texts("Groups", "SecurityGroupId"),
    int("Ipv6AddressCount"),
    many("Ipv6Addresses", "Ipv6Addresses", IPV6_ADDRESS),
    text("NetworkInterfaceId"),
    text("PrivateIpAddress"),
    many(
        "PrivateIpAddresses",
        "PrivateIpAddresses",
        &[bool("Primary"), text("PrivateIpAddress")],
    ),
    int("SecondaryPrivateIpAddressCount"),
    text("SubnetId"),
    bool("AssociateCarrierIpAddress"),
    text("InterfaceType"),
    int("NetworkCardIndex"),
    many("Ipv4Prefixes", "Ipv4Prefix", &[text("Ipv4Prefix")]),
    int("Ipv4PrefixCount"),
    many("Ipv6Prefixes", "Ipv6Prefix", &[text("Ipv6Prefix")]),
    int("Ipv6PrefixCount"),
    bool("PrimaryIpv6"),
    one(
        "EnaSrdSpecification",
        &[
            bool("EnaSrdEnabled"),
            one("EnaSrdUdpSpecification", &[bool("EnaSrdUdpEnabled")]),
        ],
    ),
    one(
        "ConnectionTrackingSpecification",
        &[
            int("TcpEstablishedTimeout"),
            int("UdpStreamTimeout"),
            int("UdpTimeout"),
        ],
    ),
    int("EnaQueueCount"),
];
