use tempfile::TempDir;

use super::*;

/// A made-up machine: paths and what they hold.
fn machine(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn cpuinfo(vendor: &str, flags: &str) -> String {
    format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\n\nprocessor\t: 1\n")
}

/// What is heard where nothing answers.
fn nothing() -> Heard {
    let [provider, tdx_guest] = ["no provider", "no service"].map(str::to_owned);
    Heard { provider: Err(provider), tdx_guest: Err(tdx_guest), qemu: None, conf_compute: None }
}

/// What is missing, by purpose and name.
fn missing(found: &[Finding], purpose: Purpose) -> Vec<&'static str> {
    let missing = found.iter().filter(|finding| finding.purpose == purpose && !finding.is_ok);
    missing.map(|finding| finding.name).collect()
}

#[test]
fn a_guest_under_tdx_has_all_that_it_takes() {
    let cpu = cpuinfo("GenuineIntel", "tdx_guest");
    let files = [
        ("/proc/cpuinfo", cpu.as_str()),
        ("/proc/sys/kernel/osrelease", "6.7.0-1-generic\n"),
        ("/sys/kernel/config/tsm/report/x/provider", "tdx_guest\n"),
        ("/dev/tdx_guest", ""),
    ];
    let heard = Heard { provider: Ok(Provider::Tdx), ..nothing() };
    let found = look(machine(&files).path(), &heard);
    assert_eq!(missing(&found, Purpose::Guest), [""; 0]);
    assert!(found.iter().all(|finding| finding.is_ok == finding.remedy.is_none()));
    assert!(found.iter().any(|finding| finding.found == "Intel, guest under TDX"));
    // Each of them is missed when it is not there.
    for (without, name) in [(0, "processor"), (1, "kernel"), (2, "configfs-tsm"), (3, "device")] {
        let rest: Vec<_> =
            files.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, file)| *file).collect();
        assert_eq!(missing(&look(machine(&rest).path(), &heard), Purpose::Guest), [name]);
    }
    let error = Heard { provider: Err("the kernel has none".to_owned()), ..nothing() };
    let found = look(machine(&files).path(), &error);
    assert_eq!(missing(&found, Purpose::Guest), ["provider of reports", "quote service of the host"]);
    assert!(found.iter().any(|finding| finding.found == "the kernel has none"));
    let old = [files[0], ("/proc/sys/kernel/osrelease", "6.6.99\n"), files[2], files[3]];
    assert_eq!(missing(&look(machine(&old).path(), &heard), Purpose::Guest), ["kernel"]);
}

#[test]
fn an_older_guest_under_tdx_has_a_device_and_a_service() {
    let cpu = cpuinfo("GenuineIntel", "tdx_guest");
    let files = [
        ("/proc/cpuinfo", cpu.as_str()),
        ("/proc/sys/kernel/osrelease", "6.5.0-1-generic\n"),
        ("/dev/tdx_guest", ""),
    ];
    let found = look(machine(&files).path(), &Heard { tdx_guest: Ok(()), ..nothing() });
    assert_eq!(missing(&found, Purpose::Guest), [""; 0]);
    assert!(
        found.iter().any(|finding| finding.found.ends_with("report; /dev/tdx_guest is enough")),
        "{found:?}"
    );
    let found = look(machine(&files).path(), &nothing());
    let all = ["kernel", "configfs-tsm", "provider of reports", "quote service of the host"];
    assert_eq!(missing(&found, Purpose::Guest), all);
    assert!(found.iter().any(|finding| finding.found == "no service"), "{found:?}");
    let found = look(machine(&files[..2]).path(), &nothing());
    assert!(found.iter().any(|finding| finding.found == "not asked without /dev/tdx_guest"), "{found:?}");
}

#[test]
fn a_guest_under_snp_has_all_that_it_takes() {
    let cpu = cpuinfo("AuthenticAMD", "");
    let files = [
        ("/proc/cpuinfo", cpu.as_str()),
        ("/proc/sys/kernel/osrelease", "6.11.0\n"),
        ("/sys/kernel/config/tsm/report/x/provider", "sev_guest\n"),
        ("/dev/sev-guest", ""),
    ];
    let heard = Heard { provider: Ok(Provider::Snp), ..nothing() };
    let found = look(machine(&files).path(), &heard);
    assert_eq!(missing(&found, Purpose::Guest), [""; 0]);
    assert!(found.iter().any(|finding| finding.found == "AMD, guest under SEV-SNP"));
}

#[test]
fn hosts_are_held_to_what_their_processor_has() {
    let host = |vendor, flag, kernel, module: &str, qemu: &str| {
        let cpu = cpuinfo(vendor, flag);
        let root = machine(&[
            ("/proc/cpuinfo", &cpu),
            ("/proc/sys/kernel/osrelease", kernel),
            ("/dev/kvm", ""),
            (module, "Y\n"),
        ]);
        let qemu = Some(format!("QEMU emulator version {qemu} (Debian)\nCopyright"));
        missing(&look(root.path(), &Heard { qemu, ..nothing() }), Purpose::Host)
    };
    let tdx = |kernel, qemu| {
        host("GenuineIntel", "tdx_host_platform", kernel, "/sys/module/kvm_intel/parameters/tdx", qemu)
    };
    let snp = |kernel, qemu| {
        host("AuthenticAMD", "sev_snp", kernel, "/sys/module/kvm_amd/parameters/sev_snp", qemu)
    };
    assert_eq!(tdx("6.16.0", "10.1.0"), [""; 0]);
    assert_eq!(tdx("6.15.9", "10.0.2"), ["kernel", "QEMU"]);
    assert_eq!(snp("6.11.0", "9.1.0"), [""; 0]);
    assert_eq!(snp("6.10.0", "9.0.0"), ["kernel", "QEMU"]);
    let plain = host("GenuineIntel", "vmx", "6.16.0", "/sys/module/kvm_intel/parameters/nested", "10.1.0");
    assert_eq!(plain, ["processor", "confidential guests in KVM"]);
}

#[test]
fn a_gpu_says_whether_it_is_confidential() {
    let root = machine(&[
        ("/dev/nvidia0", ""),
        (
            "/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1\nGCC version\n",
        ),
    ]);
    let with = |text: Option<&str>| {
        let found = look(root.path(), &Heard { conf_compute: text.map(str::to_owned), ..nothing() });
        missing(&found, Purpose::Gpu)
    };
    assert_eq!(with(Some("CC status: ON\n")), [""; 0]);
    assert_eq!(with(Some("CC status: OFF\n")), ["confidential mode"]);
    assert_eq!(with(None), ["confidential mode"]);
    let none = look(machine(&[]).path(), &nothing());
    assert_eq!(missing(&none, Purpose::Gpu), ["device", "driver", "confidential mode"]);
}

#[test]
fn an_empty_machine_misses_everything_and_says_how_to_get_it() {
    let found = look(machine(&[]).path(), &nothing());
    assert!(found.iter().all(|finding| !finding.is_ok && finding.remedy.is_some()), "{found:?}");
    // Whatever files hold, they are only looked at.
    let odd = machine(&[("/proc/cpuinfo", "::\nflags\nvendor_id"), ("/proc/sys/kernel/osrelease", "..6..7")]);
    assert!(look(odd.path(), &nothing()).iter().all(|finding| !finding.is_ok));
}

#[test]
fn releases_are_two_numbers() {
    for (text, expected) in
        [("6.8.0-51-generic", Some((6, 8))), ("10.1", Some((10, 1))), ("6", None), ("", None), ("v6.8", None)]
    {
        assert_eq!(release(text), expected, "{text}");
    }
}
