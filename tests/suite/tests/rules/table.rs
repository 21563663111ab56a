//! A case for each alert: the series of a node on which it fires, and of one on which it does not.

/// A series by its name and labels, and its values minute by minute, in promtool's notation: on the bad node, on the good.
type Pair = (&'static str, &'static str, &'static str);

/// An alert and what it looks at.
pub(crate) type Case = (&'static str, &'static [Pair]);

/// The minute, of the 240 that values reach, at which an alert is to fire on the bad node.
pub(crate) const LOOK: usize = 180;

const SIZE: &str = r#"node_filesystem_size_bytes{mountpoint="/a"}"#;
const AVAILABLE: &str = r#"node_filesystem_avail_bytes{mountpoint="/a"}"#;
const FILES: &str = r#"node_filesystem_files{mountpoint="/a"}"#;
const FILES_FREE: &str = r#"node_filesystem_files_free{mountpoint="/a"}"#;
const READ_ONLY: &str = r#"node_filesystem_readonly{mountpoint="/a"}"#;

/// Every alert but TaffrailAbsent, which is about a node that nobody knows of.
pub(crate) const CASES: &[Case] = &[
    (
        "NodeFilesystemSpaceFillingUp",
        // The good one is as full, and stays so.
        &[(SIZE, "1000x240", "1000x240"), (AVAILABLE, "480-1x240", "300x240"), (READ_ONLY, "0x240", "0x240")],
    ),
    (
        "NodeFilesystemAlmostOutOfSpace",
        &[(SIZE, "1000x240", "1000x240"), (AVAILABLE, "49x240", "51x240"), (READ_ONLY, "0x240", "0x240")],
    ),
    (
        "NodeFilesystemFilesFillingUp",
        &[
            (FILES, "1000x240", "1000x240"),
            (FILES_FREE, "480-1x240", "300x240"),
            (READ_ONLY, "0x240", "0x240"),
        ],
    ),
    (
        "NodeFilesystemAlmostOutOfFiles",
        &[(FILES, "1000x240", "1000x240"), (FILES_FREE, "49x240", "51x240"), (READ_ONLY, "0x240", "0x240")],
    ),
    // The good one was never anything else.
    ("NodeFilesystemReadOnly", &[(READ_ONLY, "0x150 1x90", "1x240")]),
    (
        "NodeFilesystemDeviceError",
        &[
            (
                r#"node_filesystem_device_error{mountpoint="/a",device_error="mountpoint timeout"}"#,
                "1x240",
                "0x240",
            ),
            (
                r#"node_filesystem_device_error{mountpoint="/b",device_error="permission denied"}"#,
                "0x240",
                "1x240",
            ),
        ],
    ),
    // The good one is as far off, and comes back.
    ("NodeClockSkewDetected", &[("node_timex_offset_seconds", "0.1+0.001x240", "1-0.001x240")]),
    (
        "NodeClockNotSynchronising",
        &[("node_timex_sync_status", "0x240", "1x240"), ("node_timex_maxerror_seconds", "16x240", "16x240")],
    ),
    (
        "NodeNetworkReceiveErrs",
        &[
            (r#"node_network_receive_errs_total{device="e"}"#, "0+2x240", "0+1x240"),
            (r#"node_network_receive_packets_total{device="e"}"#, "0+100x240", "0+200x240"),
        ],
    ),
    (
        "NodeNetworkTransmitErrs",
        &[
            (r#"node_network_transmit_errs_total{device="e"}"#, "0+2x240", "0+1x240"),
            (r#"node_network_transmit_packets_total{device="e"}"#, "0+100x240", "0+200x240"),
        ],
    ),
    (
        "NodeNetworkInterfaceFlapping",
        &[(r#"node_network_carrier_changes_total{device="e"}"#, "0+1x240", "7x240")],
    ),
    (
        "NodeBondingDegraded",
        &[
            (r#"node_bonding_slaves{master="b"}"#, "2x240", "2x240"),
            (r#"node_bonding_active{master="b"}"#, "1x240", "2x240"),
        ],
    ),
    (
        "NodeHighNumberConntrackEntriesUsed",
        &[
            ("node_nf_conntrack_entries", "76x240", "74x240"),
            ("node_nf_conntrack_entries_limit", "100x240", "100x240"),
        ],
    ),
    (
        "NodeCPUHighUsage",
        &[
            (r#"node_cpu_seconds_total{cpu="0",mode="idle"}"#, "0+3x240", "0+9x240"),
            (r#"node_cpu_seconds_total{cpu="0",mode="iowait"}"#, "0+1x240", "0+1x240"),
            (r#"node_cpu_seconds_total{cpu="0",mode="user"}"#, "0+56x240", "0+50x240"),
        ],
    ),
    (
        "NodeSystemSaturation",
        &[
            ("node_load1", "5x240", "3x240"),
            (r#"node_cpu_seconds_total{cpu="0",mode="idle"}"#, "0x240", "0x240"),
            (r#"node_cpu_seconds_total{cpu="1",mode="idle"}"#, "0x240", "0x240"),
        ],
    ),
    (
        "NodeMemoryHighUtilization",
        &[
            ("node_memory_MemAvailable_bytes", "9x240", "11x240"),
            ("node_memory_MemTotal_bytes", "100x240", "100x240"),
        ],
    ),
    ("NodeMemoryMajorPagesFaults", &[("node_vmstat_pgmajfault", "0+31000x240", "0+29000x240")]),
    ("NodeMemoryPressure", &[("node_pressure_memory_stalled_seconds_total", "0+7x240", "0+5x240")]),
    ("NodeIOPressure", &[("node_pressure_io_stalled_seconds_total", "0+31x240", "0+29x240")]),
    (
        "NodeDiskIOSaturation",
        &[(r#"node_disk_io_time_weighted_seconds_total{device="d"}"#, "0+660x240", "0+540x240")],
    ),
    ("NodeOOMKill", &[("node_vmstat_oom_kill", "3x175 4x65", "3x240")]),
    ("NodeHungTasks", &[("node_kernel_hung_tasks_total", "0x175 1x65", "1x240")]),
    (
        "NodeMemoryErrors",
        &[(r#"node_edac_uncorrectable_errors_total{controller="0"}"#, "0x175 1x65", "1x240")],
    ),
    (
        "NodeRAIDDegraded",
        &[
            (r#"node_md_disks_required{device="md0"}"#, "2x240", "2x240"),
            (r#"node_md_disks{device="md0",state="active"}"#, "1x240", "2x240"),
            (r#"node_md_disks{device="md0",state="spare"}"#, "1x240", "1x240"),
        ],
    ),
    ("NodeRAIDDiskFailure", &[(r#"node_md_disks{device="md0",state="failed"}"#, "1x240", "0x240")]),
    (
        "NodeFileDescriptorLimit",
        &[("node_filefd_allocated", "91x240", "89x240"), ("node_filefd_maximum", "100x240", "100x240")],
    ),
    (
        "NodeSystemdServiceFailed",
        &[
            (r#"node_systemd_unit_state{name="a.service",state="failed",type="simple"}"#, "1x240", "0x240"),
            (r#"node_systemd_unit_state{name="a.service",state="active",type="simple"}"#, "0x240", "1x240"),
        ],
    ),
    (
        "NodeSystemdServiceCrashlooping",
        &[(r#"node_systemd_service_restart_total{name="a.service"}"#, "0+1x240", "7x240")],
    ),
    ("NodeTextFileCollectorScrapeError", &[("node_textfile_scrape_error", "1x240", "0x240")]),
    ("NodeCollectorFailed", &[(r#"node_scrape_collector_success{collector="x"}"#, "0x240", "1x240")]),
    // Killed while it was watched; and one that nobody saw alive, so that its first sample has the kill.
    ("ContainerOOMKilled", &[(r#"container_oom_events_total{name="x",id="/a"}"#, "1x175 2x65", "1x240")]),
    (
        "ContainerOOMKilled",
        &[(r#"container_oom_events_total{name="x",id="/a"}"#, "_x174 1x66", "_x174 0x66")],
    ),
    (
        "CPUThrottlingHigh",
        &[
            (r#"container_cpu_cfs_throttled_periods_total{name="x",id="/a"}"#, "0+26x240", "0+24x240"),
            (r#"container_cpu_cfs_periods_total{name="x",id="/a"}"#, "0+100x240", "0+100x240"),
        ],
    ),
    (
        "ContainerMemoryNearLimit",
        // Without a limit nothing is near it.
        &[
            (r#"container_memory_working_set_bytes{name="x",id="/a"}"#, "91x240", "89x240"),
            (r#"container_spec_memory_limit_bytes{name="x",id="/a"}"#, "100x240", "100x240"),
            (r#"container_memory_working_set_bytes{name="y",id="/b"}"#, "91x240", "91x240"),
            (r#"container_spec_memory_limit_bytes{name="y",id="/b"}"#, "0x240", "0x240"),
        ],
    ),
    (
        "ContainerPidsNearLimit",
        &[
            (r#"container_threads{id="/a"}"#, "91x240", "89x240"),
            (r#"container_threads_max{id="/a"}"#, "100x240", "100x240"),
            (r#"container_threads{id="/b"}"#, "91x240", "91x240"),
            (r#"container_threads_max{id="/b"}"#, "0x240", "0x240"),
        ],
    ),
    (
        "ContainerMemoryPressure",
        &[(r#"container_pressure_memory_stalled_seconds_total{name="x",id="/a"}"#, "0+7x240", "0+5x240")],
    ),
    (
        "ContainerIOPressure",
        &[(r#"container_pressure_io_stalled_seconds_total{name="x",id="/a"}"#, "0+31x240", "0+29x240")],
    ),
    (
        "TaffrailDown",
        &[(r#"up{job="taffrail"}"#, "0x240", "1x240"), (r#"up{job="cadvisor"}"#, "1x240", "1x240")],
    ),
    (
        "TaffrailNotDelivering",
        // The good one has something under way, too, and gets on with it.
        &[
            ("taffrail_ledger_pending_records", "9x240", "9x240"),
            ("taffrail_ledger_confirmed_records_total", "5x240", "0+1x240"),
        ],
    ),
    ("TaffrailLosing", &[(r#"taffrail_ledger_lost_bytes_total{reason="quota"}"#, "0x175 10x65", "10x240")]),
    (
        "TaffrailEndsUnseen",
        &[
            ("taffrail_logs_vanished_total", "0x175 1x65", "1x240"),
            ("taffrail_logs_unseen_total", "0x240", "0x240"),
        ],
    ),
    (
        "TaffrailLogsUnreadable",
        &[(r#"taffrail_logs_containers_unreadable{driver="none"}"#, "1x240", "0x240")],
    ),
    ("TaffrailReadErrors", &[("taffrail_logs_read_errors_total", "0+1x240", "7x240")]),
    (
        "TaffrailReadErrors",
        // In the course of events.
        &[
            (r#"taffrail_logs_refused_files_total{reason="leads_out"}"#, "0+1x240", "7x240"),
            (r#"taffrail_logs_refused_files_total{reason="gone"}"#, "0+1x240", "0+1x240"),
        ],
    ),
    ("TaffrailLedgerDoesNotAddUp", &[("taffrail_ledger_difference_bytes", "1x240", "0x240")]),
    ("TaffrailBehind", &[(r#"taffrail_container_lag_seconds{container="c"}"#, "601x240", "599x240")]),
    (
        "TaffrailPipelineFull",
        &[
            ("taffrail_pipeline_memory_used_bytes", "96x240", "94x240"),
            ("taffrail_pipeline_memory_limit_bytes", "100x240", "100x240"),
        ],
    ),
    ("TaffrailCheckpointFailing", &[("taffrail_checkpoint_failures_total", "0+1x240", "7x240")]),
    (
        "TaffrailCheckpointDamaged",
        // The good one has run for three hours since.
        &[
            ("taffrail_checkpoint_damaged_files_total", "1x240", "1x240"),
            ("process_start_time_seconds", "9000x240", "0x240"),
        ],
    ),
    ("TaffrailComponentDown", &[(r#"taffrail_component_up{component="logs"}"#, "0x240", "1x240")]),
    (
        "TaffrailComponentRestarting",
        &[
            (
                r#"taffrail_component_restarts_total{component="logs",cause="panic"}"#,
                "0x160 2x80",
                "0x160 2x80",
            ),
            (r#"taffrail_component_restarts_total{component="logs",cause="error"}"#, "0x160 2x80", "0x240"),
        ],
    ),
    ("TaffrailReloadRefused", &[("taffrail_config_last_reload_successful", "0x240", "1x240")]),
    (
        "TaffrailScrapeIncomplete",
        &[(r#"taffrail_scrape_collector_success{job="cadvisor",collector="containers"}"#, "0x240", "1x240")],
    ),
    (
        "TaffrailContainersUnread",
        &[
            (r#"taffrail_containers_read_errors_total{reason="denied"}"#, "0+1x240", "7x240"),
            (r#"taffrail_containers_read_errors_total{reason="gone"}"#, "0+1x240", "0+1x240"),
        ],
    ),
    ("TaffrailContainersUnread", &[("taffrail_containers_left_out", "1x240", "0x240")]),
    ("TaffrailContainersUnread", &[("container_scrape_error", "1x240", "0x240")]),
    ("TaffrailRuntimeUnreachable", &[("taffrail_docker_connected", "0x240", "1x240")]),
    ("TaffrailRuntimeUnreachable", &[("taffrail_cri_connected", "0x240", "1x240")]),
    (
        "TaffrailFileDescriptors",
        &[("process_open_fds", "91x240", "89x240"), ("process_max_fds", "100x240", "100x240")],
    ),
    ("TaffrailPodsStale", &[("taffrail_pods_stale_seconds", "601x240", "599x240")]),
    ("TaffrailEventsBehind", &[("taffrail_events_lag_seconds", "601x240", "599x240")]),
    ("TaffrailAuditBlind", &[(r#"taffrail_audit_tier{tier="none"}"#, "1x240", "0x240")]),
    ("TaffrailAuditIncomplete", &[("taffrail_audit_sessions_with_gaps_total", "0x175 1x60", "7x240")]),
    (
        "TaffrailAuditOutOfBand",
        // The good one has sessions, too: those that the runtime let in.
        &[
            (r#"taffrail_audit_sessions_total{origin="out-of-band"}"#, "3x175 4x60", "3x240"),
            (r#"taffrail_audit_sessions_total{origin="exec"}"#, "0x240", "0+1x240"),
        ],
    ),
    (
        "TaffrailAuditCertificateEnds",
        &[("taffrail_audit_requests_certificate_end_timestamp_seconds", "2591000x240", "2700000x240")],
    ),
    ("TaffrailAuditBehind", &[("taffrail_audit_lag_seconds", "601x240", "599x240")]),
    ("TaffrailDeadLetters", &[("taffrail_elasticsearch_dead_letter_bytes", "1x240", "0x240")]),
];
