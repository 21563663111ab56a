//! Every collector there is.

use std::sync::Arc;

use taffrail_kernfs::Roots;
use taffrail_record::{Ask, Family};

use crate::NodeMetricsConfig;
use crate::families::{Collect, asked};

/// A collector that can be switched on.
pub(crate) struct Entry {
    /// node_exporter's name for it.
    pub(crate) name: &'static str,
    /// Whether it is on by default.
    pub(crate) on: bool,
    /// What it may write.
    pub(crate) families: &'static [Family],
    /// Makes it.
    pub(crate) make: fn(&NodeMetricsConfig, &Roots) -> Arc<dyn Ask>,
}

/// A collector that is made from the configuration and the roots.
pub(crate) trait Make: Collect + Sized + 'static {
    fn make(config: &NodeMetricsConfig, roots: &Roots) -> Self;
}

const fn on<C: Make>() -> Entry {
    Entry {
        name: C::NAME,
        on: true,
        families: C::FAMILIES,
        make: |config, roots| asked(C::make(config, roots)),
    }
}

const fn off<C: Make>() -> Entry {
    Entry { on: false, ..on::<C>() }
}

/// In the order in which they are asked. Off is what node_exporter or kube-prometheus switches off.
pub(crate) static LIST: [Entry; 39] = [
    on::<crate::build_info::BuildInfo>(),
    on::<crate::cpu::Cpu>(),
    on::<crate::cpufreq::CpuFreq>(),
    on::<crate::loadavg::LoadAverage>(),
    on::<crate::stat::Stat>(),
    on::<crate::schedstat::SchedStat>(),
    on::<crate::pressure::Pressure>(),
    on::<crate::meminfo::MemInfo>(),
    on::<crate::vmstat::VmStat>(),
    on::<crate::diskstats::DiskStats>(),
    on::<crate::filesystem::Filesystem>(),
    on::<crate::filefd::FileDescriptors>(),
    on::<crate::netdev::NetDev>(),
    on::<crate::netclass::NetClass>(),
    on::<crate::arp::Arp>(),
    on::<crate::bonding::Bonding>(),
    on::<crate::conntrack::Conntrack>(),
    on::<crate::netstat::NetStat>(),
    on::<crate::sockstat::SockStat>(),
    on::<crate::softnet::SoftNet>(),
    on::<crate::udp_queues::UdpQueues>(),
    on::<crate::timex::Timex>(),
    on::<crate::time::Time>(),
    on::<crate::uname::Uname>(),
    on::<crate::os::Os>(),
    on::<crate::dmi::Dmi>(),
    on::<crate::entropy::Entropy>(),
    on::<crate::kernel_hung::KernelHung>(),
    on::<crate::mdadm::Mdadm>(),
    on::<crate::edac::Edac>(),
    on::<crate::thermal_zone::ThermalZone>(),
    on::<crate::powersupply::PowerSupply>(),
    on::<crate::textfile::Textfile>(),
    off::<crate::hwmon::Hwmon>(),
    off::<crate::interrupts::Interrupts>(),
    off::<crate::processes::Processes>(),
    off::<crate::softirqs::SoftIrqs>(),
    off::<crate::systemd::Systemd>(),
    off::<crate::tcpstat::TcpStat>(),
];
